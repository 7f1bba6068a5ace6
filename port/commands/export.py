"""python -m port export: a net as ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from prototxt_gen.base import command
from prototxt_gen.base.door import add_layers

from .options import add_dialect

EXAMPLES = "  python -m port export --prototxt net.prototxt --caffemodel net.caffemodel --output net.onnx"


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser(
        "export",
        help="write a net as ONNX",
        description="Write an ONNX file whose values bear the blobs' names and whose batch size is free.",
    )
    parser.add_argument("--prototxt", required=True, type=Path, metavar="FILE")
    parser.add_argument(
        "--caffemodel", required=True, metavar="A,B", help="weights, binary or HDF5; several as a comma list"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.onnx")
    parser.add_argument("--phase", choices=["TRAIN", "TEST"], default="TEST", help="default: TEST")
    add_dialect(parser)
    parser.add_argument("--opset", type=int, help="13 to 26 (default: 17)")
    parser.add_argument("--all-blobs", action="store_true", help="make every blob an output, for checking")
    add_layers(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write an ONNX file."""
    from ..net import load_net
    from ..onnx.export import DEFAULT_OPSET, export_onnx

    net = load_net(args.prototxt, args.caffemodel, phase=args.phase, dialect=args.dialect)
    print(f"dialect {net.caffe.dialect} ({net.caffe.reason})")
    print(net.report)
    opset = DEFAULT_OPSET if args.opset is None else args.opset
    export_onnx(net, args.output, opset=opset, blobs="all" if args.all_blobs else "outputs")
    print(f"{args.output}: opset {opset}, {args.output.stat().st_size:,} bytes")
    return command.OK
