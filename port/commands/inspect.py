"""python -m port inspect: what a Caffe file holds."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from prototxt_gen.base import command
from prototxt_gen.base.columns import terminal_width
from prototxt_gen.base.door import add_layers

from .options import add_dialect, add_input_shape

EXAMPLES = """  python -m port inspect net.prototxt
  python -m port inspect net.prototxt --phase TRAIN --svg net.svg
  python -m port inspect net.prototxt --input-shape data=24x3x224x224 --input-shape label=24x80x1x1 --dot net.dot
  python -m port inspect net.caffemodel
  python -m port inspect net.onnx"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser(
        "inspect",
        help="show what a Caffe file holds, and draw a net",
        description="Show a net, a solver, a .caffemodel (binary or HDF5), a mean file, a solver state or an ONNX "
        "model, told by its content. What is unknown in a net, or does not fit, is shown and listed, not refused.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--phase", choices=["TRAIN", "TEST"], default="TEST", help="of a net (default: %(default)s)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw the net, as an SVG picture")
    parser.add_argument("--dot", type=Path, metavar="FILE", help="also draw the net, for Graphviz")
    add_dialect(parser)
    add_input_shape(parser)
    add_layers(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show a file."""
    from ..show.inspect import describe, draw
    from ..show.lanes import ASCII

    what = (args.phase, args.dialect, dict(args.input_shape))
    text = describe(args.file, *what, width=terminal_width())
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:  # a terminal that has no lines to draw with
        text = text.translate(ASCII)
    print(text)
    for form in ("svg", "dot"):
        if output := getattr(args, form):
            draw(args.file, output, *what, form=form)
            print(f"wrote {output}: {output.stat().st_size:,} bytes")
    return command.OK
