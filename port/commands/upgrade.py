"""python -m port upgrade: an old net, solver or weights file in today's format, as Caffe upgrades it."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from prototxt_gen.base import command
from prototxt_gen.base.door import add_layers
from prototxt_gen.base.errors import NetError, Problem, UsageError
from prototxt_gen.base.files import write_text
from prototxt_gen.schema.community import FORKS

from .options import add_dialect

EXAMPLES = """  python -m port upgrade old.prototxt --output new.prototxt
  python -m port upgrade old.caffemodel --output new.caffemodel"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser(
        "upgrade",
        help="bring an old net, solver or weights file to today's format",
        description="Upgrade a net (V0, V1, input fields, deprecated data fields), a solver or a binary "
        ".caffemodel as Caffe does on reading it. Weights are kept byte for byte; comments are lost.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default for text: the standard output")
    add_dialect(parser, "as which Caffe does; ")
    parser.add_argument("--fork", choices=FORKS, help="whose field numbers a binary file has; default: told by them")
    add_layers(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Upgrade a file and say what was done."""
    from ..weights.kinds import file_kind

    kind = file_kind(args.file)
    if kind == "prototxt":
        notes = upgrade_text(args.file, args.output, args.dialect)
    elif kind == "caffemodel":
        notes = upgrade_binary(args.file, args.output, args.dialect, args.fork)
    else:
        what = {"hdf5": "an HDF5 file", "blob": "a single blob", "solverstate": "a solver state"}[kind]
        raise UsageError(Problem(f"this is {what}", "a net, a solver or a .caffemodel", file=args.file))
    # The upgraded text is alone on the standard output.
    print("\n".join(notes), file=sys.stdout if args.output else sys.stderr)
    return command.OK


def upgrade_text(path: Path, output: Path | None, dialect: str | None) -> list[str]:
    """Upgrade a net or a solver to `output`, or to the standard output; returns what was done, in lines."""
    from prototxt_gen.schema import to_text, upgrade_net, upgrade_solver
    from prototxt_gen.schema.judge import SOLVER
    from prototxt_gen.schema.text import read_any

    kind, parsed = read_any(path, dialect)
    if kind == SOLVER:
        message, notes = upgrade_solver(parsed.message, parsed.dialect, path)
    else:
        message, notes = upgrade_net(parsed.message, parsed.dialect, parsed.file, parsed.lines)
    text = to_text(message)
    if output:
        write_text(output, text)
    else:
        sys.stdout.write(text)
    what = "solver" if kind == SOLVER else "net"
    return _account(f"{path}: {what}, dialect {parsed.dialect} ({parsed.reason})", notes, output)


def upgrade_binary(path: Path, output: Path | None, dialect: str | None, fork: str | None = None) -> list[str]:
    """Upgrade a .caffemodel to `output`, its blobs as they are; returns what was done, in lines."""
    from prototxt_gen.schema import Parsed, upgrade_parsed

    from ..caffemodel import read_caffemodel, write_net
    from ..caffemodel.forks import net_message

    if output is None:
        raise UsageError(Problem("a binary file is not written to the terminal", fix="give --output", file=path))
    with read_caffemodel(path) as model:
        message, dialect, reason = net_message(model, dialect, fork)
        numbers = list(range(1, len(model.layers) + 1))
        try:
            upgraded, notes = upgrade_parsed(Parsed(message, dialect, reason, str(path), numbers))
        except NetError as error:  # a layer's number is no line of the file
            raise NetError([replace(problem, line=0) for problem in error.problems]) from None
        blobs = [model.layers[number - 1].blobs if number else [] for number in upgraded.lines]
        write_net(output, upgraded.message, blobs)
    count = sum(map(len, blobs))
    return _account(f"{path}: weights, dialect {dialect} ({reason}), {count} blobs kept", notes, output)


def _account(head: str, notes: list[str], output: Path | None) -> list[str]:
    done = [f"  {note}" for note in notes] or ["  nothing to upgrade"]
    return [head, *done, *([f"wrote {output}: {output.stat().st_size:,} bytes"] if output else [])]
