"""python -m verify onnx: an ONNX file of anybody's against the Caffe net it should be."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from port.commands.options import add_dialect
from prototxt_gen.base import command
from prototxt_gen.base.columns import terminal_width
from prototxt_gen.base.door import add_layers
from prototxt_gen.base.errors import DataError, Problem, UsageError
from prototxt_gen.base.files import os_problem, write_text

EXAMPLES = """  python -m verify onnx net.onnx --prototxt net.prototxt --caffemodel net.caffemodel
  python -m verify onnx theirs.onnx --prototxt net.prototxt --caffemodel net.caffemodel --image cat.jpg"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser(
        "onnx",
        help="hold an ONNX file against its Caffe net",
        description="Run an ONNX file, also one that another tool made, in ONNX Runtime with all its values, and the "
        "Caffe net in float64 NumPy on the same input. Values are matched by name, else by shape and numbers. Exit "
        "status 1 when an output has no match, or what bears a blob's name differs.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the ONNX file")
    parser.add_argument("--prototxt", required=True, type=Path, metavar="FILE")
    parser.add_argument("--caffemodel", required=True, metavar="A,B", help="weights, binary or HDF5")
    parser.add_argument("--phase", choices=["TRAIN", "TEST"], default="TEST", help="default: TEST")
    add_dialect(parser)
    parser.add_argument(
        "--image", action="append", type=Path, default=[], metavar="FILE", help="a photograph; may be repeated"
    )
    parser.add_argument("--inputs", type=Path, metavar="FILE.npz", help="arrays by blob instead, for all inputs")
    parser.add_argument("--batch", type=int, metavar="N", help="batch size (default: the file's own, or 1)")
    parser.add_argument(
        "--tolerance", type=float, metavar="X", help="relative to a blob's largest value (default: 1e-5)"
    )
    parser.add_argument(
        "--every-blob", action="store_true", help="fail for inner blobs, too, that the file does not have"
    )
    parser.add_argument("--failures-only", action="store_true", help="print blobs without a match only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON as well")
    add_layers(parser)
    parser.set_defaults(run=run, quiet=True)


def run(args: argparse.Namespace) -> int:
    """Compare a file with a net."""
    from port.net import load_net

    from ..parity.net import TOLERANCE
    from ..parity.onnx_file import verify_onnx
    from ..parity.onnx_text import onnx_json, onnx_table

    if args.batch is not None and args.batch < 1:
        raise UsageError(f"--batch {args.batch}; expected 1 or more")
    if args.tolerance is not None and not args.tolerance > 0:
        raise UsageError(f"--tolerance {args.tolerance}; expected a number above 0")
    if args.inputs and (args.image or args.batch):
        raise UsageError("--inputs gives all inputs; leave --image and --batch out")
    arrays = _arrays(args.inputs) if args.inputs else None
    report = verify_onnx(
        args.file,
        load_net(args.prototxt, args.caffemodel, phase=args.phase, dialect=args.dialect),
        images=args.image,
        arrays=arrays,
        batch=args.batch or len(args.image) or None,
        tolerance=args.tolerance or TOLERANCE,
        every=args.every_blob,
    )
    print(onnx_table(report, every=not args.failures_only, width=terminal_width()))
    if args.json:
        write_text(args.json, json.dumps(onnx_json(report), indent=1) + "\n")
    return command.OK if report else command.CHECK_FAILED


def _arrays(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file; raises DataError."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as cause:
        raise DataError(os_problem(path, cause, "read")) from None
    except Exception:  # NumPy and zipfile raise several kinds for what is damaged
        raise DataError(Problem("is no archive of arrays, or a damaged one", "an .npz file", file=path)) from None
