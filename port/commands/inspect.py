"""python -m port inspect: what a Caffe file holds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from prototxt_gen import command

from .options import add_dialect, add_input_shape

EXAMPLES = """  python -m port inspect net.prototxt
  python -m port inspect net.prototxt --phase TRAIN --svg net.svg
  python -m port inspect net.caffemodel"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser(
        "inspect",
        help="show what a Caffe file holds, and draw a net",
        description="Show a net, a solver, a .caffemodel (binary or HDF5), a mean file or a solver state, told by "
        "its content. What is unknown in a net, or does not fit, is shown and listed, not refused.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--phase", choices=["TRAIN", "TEST"], default="TEST", help="of a net (default: %(default)s)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw the net, as an SVG picture")
    add_dialect(parser)
    add_input_shape(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show a file."""
    from ..inspect import describe, draw

    shapes = dict(args.input_shape)
    print(describe(args.file, args.phase, args.dialect, shapes))
    if args.svg:
        draw(args.file, args.svg, args.phase, args.dialect, shapes)
        print(f"wrote {args.svg}: {args.svg.stat().st_size:,} bytes")
    return command.OK
