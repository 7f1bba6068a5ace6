"""python -m prototxt_gen describe: a net as a table beside its drawing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..command import OK
from ..drawing import ASCII, dot
from ..errors import UsageError
from ..files import write_text
from ..schema.text import read_prototxt
from ..schema.upgrade import upgrade_parsed

EXAMPLES = """\
  python -m prototxt_gen describe coco_resnet101_srn_test.prototxt
  python -m prototxt_gen describe --phase TRAIN --input-shape data=24x3x224x224 --input-shape label=24x80x1x1 \\
      --dot net.dot step_4_resnet101_srn_finetune_trainval.prototxt"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser("describe", help="a net as a table and a drawing", description=run.__doc__)
    parser.set_defaults(run=run)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--phase", choices=["TRAIN", "TEST"], default="TEST", help="default: %(default)s")
    parser.add_argument("--dialect", choices=["bvlc", "srn"], help="default: detected")
    parser.add_argument(
        "--input-shape",
        action="append",
        default=[],
        type=_shape,
        metavar="BLOB=1x3x224x224",
        help="the shape of a data layer's top, where only the data tells it; several times for several",
    )
    parser.add_argument("--dot", type=Path, metavar="FILE", help="also write the drawing for Graphviz")


def run(arguments: argparse.Namespace) -> int:
    """Print the layers of a net with their settings, shapes and sizes, and beside them what connects them."""
    from ..describe import describe
    from ..measure import find_measure

    try:
        measure, note = find_measure(), ""
    except UsageError as missing:
        measure, note = None, f"no shapes: {missing}"
    parsed, _ = upgrade_parsed(read_prototxt(arguments.file, dialect=arguments.dialect))
    text, drawing = describe(parsed, arguments.phase, measure, dict(arguments.input_shape))
    _print("\n".join(filter(None, [text, note])))
    if arguments.dot:
        write_text(arguments.dot, dot(parsed.message, drawing))
        print(f"wrote {arguments.dot}")
    return OK


def _print(text: str) -> None:
    """Print, with plain characters where the terminal has no others."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = text.translate(ASCII)
    print(text)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    blob, _, shape = text.rpartition("=")
    sizes = shape.split("x")
    if not blob or not all(size.isdecimal() for size in sizes):
        raise argparse.ArgumentTypeError(f"'{text}': expected a blob and its shape, as in data=1x3x224x224")
    return blob, tuple(map(int, sizes))
