"""python -m port convert: a net and its weights in the other dialect."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from prototxt_gen.base import command
from prototxt_gen.base.door import add_layers
from prototxt_gen.base.errors import UsageError
from prototxt_gen.base.files import write_text
from prototxt_gen.schema.messages import DIALECTS

from .options import add_dialect, add_input_shape

EXAMPLES = """  python -m port convert --prototxt srn.prototxt --caffemodel srn.caffemodel --to bvlc \\
      --output-prototxt bvlc.prototxt --output-caffemodel bvlc.caffemodel"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser(
        "convert",
        help="turn a net of one dialect, and its weights, into the other",
        description="Convert between the authors' fork (srn) and BVLC's Caffe: BN <-> BatchNorm + Scale, input "
        "fields <-> Input layer, and every field that the two declare differently. The new net computes the "
        "same in phase TEST; what the other dialect cannot express is an error that lists all of it.",
    )
    parser.add_argument("--prototxt", required=True, type=Path, metavar="FILE")
    parser.add_argument("--caffemodel", metavar="A,B", help="weights, binary or HDF5; several as a comma list")
    parser.add_argument("--to", required=True, choices=DIALECTS, help="the dialect to write")
    parser.add_argument("--output-prototxt", required=True, type=Path, metavar="FILE")
    parser.add_argument("--output-caffemodel", type=Path, metavar="FILE", help="HDF5 if it ends in .h5")
    add_dialect(parser, "of the given net; ")
    parser.add_argument(
        "--phase",
        choices=["TRAIN", "TEST"],
        default="TEST",
        help="whose layers the weights are for (default: %(default)s)",
    )
    add_input_shape(parser)
    add_layers(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert a net, and its weights if they are given."""
    from ..convert import convert_net, convert_weights

    if (args.caffemodel is None) != (args.output_caffemodel is None):
        raise UsageError("--caffemodel and --output-caffemodel go together: give both, or neither")
    shapes = dict(args.input_shape)
    conversion = convert_net(args.prototxt, args.to, dialect=args.dialect, input_shapes=shapes)
    source = conversion.source
    print(f"{args.prototxt}: dialect {source.dialect} ({source.reason})")
    print("\n".join(f"  {note}" for note in conversion.notes))
    if args.caffemodel is not None:
        output = args.output_caffemodel
        report = convert_weights(conversion, args.caffemodel, output, phase=args.phase, input_shapes=shapes)
        print(report)
        print(f"wrote {output}: {output.stat().st_size:,} bytes")
    write_text(args.output_prototxt, conversion.text())
    print(f"wrote {args.output_prototxt}: {len(conversion.parsed.message.layer)} layers, dialect {args.to}")
    return command.OK
