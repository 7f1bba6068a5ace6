"""python -m port export: a net as ONNX or plain PyTorch, or the weights alone as arrays."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from prototxt_gen.base import command
from prototxt_gen.base.door import add_layers
from prototxt_gen.base.errors import Problem, UsageError

from .options import add_dialect

FORMATS = ("npz", "safetensors")
PROGRAMS = ("pytorch", "pt2")
SUFFIXES = tuple(f".{form}" for form in FORMATS)

EXAMPLES = """  python -m port export --prototxt net.prototxt --caffemodel net.caffemodel --output net.onnx
  python -m port export --prototxt net.prototxt --caffemodel net.caffemodel --output features.onnx --outputs pool5
  python -m port export --prototxt net.prototxt --caffemodel net.caffemodel --output model.py --format pytorch
  python -m port export --caffemodel net.caffemodel --output net.safetensors"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser(
        "export",
        help="write a net as ONNX or plain PyTorch, or weights as arrays",
        description="Write an ONNX file whose values bear the blobs' names and whose batch size is free; or a Python "
        "file of plain torch modules with its weights, which needs nothing of this project; or the blobs "
        "of a weights file of any fork as arrays named layer/index, without its net.",
    )
    parser.add_argument("--prototxt", type=Path, metavar="FILE", help="the net; not needed for the weights alone")
    parser.add_argument(
        "--caffemodel", required=True, metavar="A,B", help="weights, binary or HDF5; several as a comma list"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    parser.add_argument(
        "--format",
        choices=("onnx", *PROGRAMS, *FORMATS),
        help="default: as the output's name ends; onnx where a net is given. pytorch: a .py file of plain modules "
        "with its .safetensors; pt2: a program of torch.export",
    )
    parser.add_argument("--phase", choices=["TRAIN", "TEST"], default="TEST", help="default: TEST")
    add_dialect(parser)
    parser.add_argument("--opset", type=int, help="11 to 26 (default: 17)")
    parser.add_argument("--all-blobs", action="store_true", help="make every blob an output, for checking")
    parser.add_argument(
        "--raw-heads",
        action="store_true",
        help="leave out layers that make detections (DetectionOutput): boxes, scores and prior boxes become outputs",
    )
    parser.add_argument(
        "--outputs", metavar="A,B", help="the blobs that become outputs; what they do not need is left out"
    )
    parser.add_argument("--cut", metavar="A,B", help="the blobs at which the net ends; what reads them is left out")
    add_layers(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write an ONNX file, a program for PyTorch, or arrays."""
    if args.prototxt is None or args.format in FORMATS or (not args.format and args.output.suffix in SUFFIXES):
        return _weights(args)
    from ..net import load_net

    form = args.format or {".py": "pytorch", ".pt2": "pt2"}.get(args.output.suffix, "onnx")
    only = {"--opset": args.opset, "--outputs": args.outputs, "--cut": args.cut}
    only |= {"--all-blobs": args.all_blobs, "--raw-heads": args.raw_heads}
    if form in PROGRAMS and (given := [name for name, value in only.items() if value]):
        raise UsageError(Problem(f"{', '.join(given)} with format {form}", "ONNX for these", file=args.output))
    net = load_net(args.prototxt, args.caffemodel, phase=args.phase, dialect=args.dialect)
    print(f"dialect {net.caffe.dialect} ({net.caffe.reason})")
    print(net.report)
    return _program(net, args.output, form) if form in PROGRAMS else _onnx(net, args)


def _program(net: Any, output: Path, form: str) -> int:
    """Write a net for PyTorch alone."""
    from ..pytorch.export import write_program, write_source

    if form == "pt2":
        write_program(net, output)
        print(f"{output}: {output.stat().st_size:,} bytes")
        return command.OK
    lines = write_source(net, output)
    weights = output.with_suffix(".safetensors")
    print(f"{output}: {lines} lines\n{weights}: {weights.stat().st_size:,} bytes, which belong to it")
    return command.OK


def _onnx(net: Any, args: argparse.Namespace) -> int:
    """Write an ONNX file."""
    from ..onnx.export import DEFAULT_OPSET, export_onnx

    opset = DEFAULT_OPSET if args.opset is None else args.opset
    blobs = "all" if args.all_blobs else "outputs"
    part = {"outputs": _names(args.outputs), "cut": _names(args.cut)}
    export_onnx(net, args.output, opset=opset, blobs=blobs, raw_heads=args.raw_heads, **part)
    beside = args.output.with_name(f"{args.output.name}.data")
    print(f"{args.output}: opset {opset}, {args.output.stat().st_size:,} bytes")
    if beside.is_file() and beside.name.encode() in args.output.read_bytes():
        print(f"{beside}: {beside.stat().st_size:,} bytes, which belong to it")
    return command.OK


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _weights(args: argparse.Namespace) -> int:
    """Write the weights alone."""
    from ..weights.arrays import arrays_format, origin, save_arrays, weight_arrays

    if args.format == "onnx" or args.output.suffix == ".onnx":
        raise UsageError(Problem("no net is given", "--prototxt, which ONNX needs", file=args.output))
    form = arrays_format(args.output, args.format)
    arrays = weight_arrays(args.caffemodel)
    save_arrays(arrays, args.output, form, origin(args.caffemodel))
    values = sum(array.size for array in arrays.values())
    print(f"{args.output}: {len(arrays)} arrays, {values:,} values, {args.output.stat().st_size:,} bytes")
    return command.OK
