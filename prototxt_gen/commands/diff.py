"""python -m prototxt_gen diff: how two nets or two solvers differ in structure."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..base.command import CHECK_FAILED, OK
from ..base.door import add_layers
from ..base.errors import CaffeError, ParseError, Problem, Problems, UsageError
from ..diff import compare
from ..schema.judge import NET
from ..schema.text import read_any
from ..schema.upgrade import upgrade_parsed

EXAMPLES = """\
  python -m prototxt_gen diff step_3_resnet101_srn_trainval.prototxt step_4_resnet101_srn_finetune_trainval.prototxt
  python -m prototxt_gen diff --by-position mine.prototxt released.prototxt"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser(
        "diff", help="how two prototxts differ: which layers, which fields", description=run.__doc__
    )
    add_layers(parser)
    parser.set_defaults(run=run)
    parser.add_argument("a", type=Path, metavar="A")
    parser.add_argument("b", type=Path, metavar="B")
    parser.add_argument(
        "--by-position", action="store_true", help="match layers by order, type and settings instead of by name"
    )
    parser.add_argument("--full", action="store_true", help="name every layer that changed, not the first few")


def run(arguments: argparse.Namespace) -> int:
    """Print which layers and fields of two nets or two solvers differ; exit status 1 when any does."""
    (kind, a), (other, b) = _read(arguments.a, arguments.b)
    if kind != other:
        names = {True: "a net", False: "a solver"}
        found = f"{a.file} is {names[kind == NET]}, {b.file} {names[other == NET]}"
        raise UsageError(Problem(found, "two nets or two solvers"))
    if kind == NET:
        (a, _), (b, _) = upgrade_parsed(a), upgrade_parsed(b)
    difference = compare(a.message, b.message, by_position=arguments.by_position)
    for letter, parsed in (("A", a), ("B", b)):
        print(f"{letter}: {parsed.file}, dialect {parsed.dialect} ({parsed.reason})")
    print(difference.text(names=10**6 if arguments.full else 3))
    return CHECK_FAILED if difference else OK


def _read(*paths: Path) -> list[tuple[str, Any]]:
    """The kind and content of each file; what is wrong with any of them is raised together."""
    read = []
    with Problems(ParseError) as problems:
        for path in paths:
            try:
                read.append(read_any(path))
            except CaffeError as error:
                problems.found += error.problems
    return read
