"""python -m port inspect: what a Caffe file holds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from prototxt_gen import command

EXAMPLES = """  python -m port inspect net.prototxt
  python -m port inspect net.caffemodel"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser("inspect", help="show a net file or a weights file")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--phase", choices=["TRAIN", "TEST"], default="TEST")
    parser.add_argument("--dialect", choices=["bvlc", "srn"], help="default: detected")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show a file."""
    from ..inspect import describe

    print(describe(args.file, args.phase, args.dialect))
    return command.OK
