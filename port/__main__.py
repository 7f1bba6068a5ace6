"""python -m port: inspect | export."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from prototxt_gen import command

EXAMPLES = """  python -m port inspect net.prototxt
  python -m port inspect net.caffemodel
  python -m port export --prototxt net.prototxt --caffemodel net.caffemodel --output net.onnx"""


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = command.parser("python -m port", "Bring a Caffe net to PyTorch and ONNX.", EXAMPLES)
    verbs = parser.add_subparsers(dest="verb", required=True)
    inspect = verbs.add_parser("inspect", help="show a net file or a weights file")
    inspect.add_argument("file", type=Path, metavar="FILE")
    inspect.add_argument("--phase", choices=["TRAIN", "TEST"], default="TEST")
    inspect.add_argument("--dialect", choices=["bvlc", "srn"], help="default: detected")
    export = verbs.add_parser("export", help="write a net as ONNX")
    export.add_argument("--prototxt", required=True, type=Path)
    export.add_argument("--caffemodel", required=True, help="weights; several as a comma list")
    export.add_argument("--output", required=True, type=Path, metavar="FILE.onnx")
    export.add_argument("--phase", choices=["TRAIN", "TEST"], default="TEST")
    export.add_argument("--dialect", choices=["bvlc", "srn"], help="default: detected")
    export.add_argument("--opset", type=int, help="13 to 26 (default: 17)")
    export.add_argument("--all-blobs", action="store_true", help="make every blob an output, for checking")
    return parser


def run_inspect(args: argparse.Namespace) -> int:
    """Show a file."""
    from .inspect import describe

    print(describe(args.file, args.phase, args.dialect))
    return command.OK


def run_export(args: argparse.Namespace) -> int:
    """Write an ONNX file."""
    from .net import load_net
    from .onnx_export import DEFAULT_OPSET, export_onnx

    net = load_net(args.prototxt, args.caffemodel, phase=args.phase, dialect=args.dialect)
    print(f"dialect {net.caffe.dialect} ({net.caffe.reason})")
    print(net.report)
    opset = DEFAULT_OPSET if args.opset is None else args.opset
    export_onnx(net, args.output, opset=opset, blobs="all" if args.all_blobs else "outputs")
    print(f"{args.output}: opset {opset}, {args.output.stat().st_size:,} bytes")
    return command.OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = arguments().parse_args(argv)
    return {"inspect": run_inspect, "export": run_export}[args.verb](args)


if __name__ == "__main__":
    sys.exit(command.run(main))
