"""python -m verify net: every blob of a net in every runtime."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from port.commands.options import add_dialect
from prototxt_gen.base import command
from prototxt_gen.base.columns import terminal_width
from prototxt_gen.base.door import add_layers
from prototxt_gen.base.errors import UsageError
from prototxt_gen.base.files import write_text

EXAMPLES = """  python -m verify net --prototxt net.prototxt --caffemodel net.caffemodel --image cat.jpg
  python -m verify net --prototxt net.prototxt --caffemodel net.caffemodel --batch 3 --failures-only"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser(
        "net",
        help="compare every blob of a net in every runtime",
        description="Compute a net in float64 NumPy by Caffe's rules, in PyTorch, in ONNX Runtime and, for what it can "
        "read, in OpenCV, and compare every blob. Exit status 1 when one differs.",
    )
    parser.add_argument("--prototxt", required=True, type=Path, metavar="FILE")
    parser.add_argument("--caffemodel", required=True, type=Path, metavar="FILE", help="weights, binary or HDF5")
    parser.add_argument(
        "--image", action="append", type=Path, default=[], metavar="FILE", help="a photograph; may be repeated"
    )
    parser.add_argument("--batch", type=int, metavar="N", help="batch size (default: as many as there are photographs)")
    add_dialect(parser)
    parser.add_argument(
        "--tolerance", type=float, metavar="X", help="relative to a blob's largest value (default: 1e-5)"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where ONNX Runtime runs")
    parser.add_argument("--failures-only", action="store_true", help="print failing blobs only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON as well")
    add_layers(parser)
    parser.set_defaults(run=run, quiet=True)


def run(args: argparse.Namespace) -> int:
    """Compare a net in every runtime."""
    from ..parity.net import TOLERANCE, verify_net
    from ..parity.text import net_json, net_table

    if args.batch is not None and args.batch < 1:
        raise UsageError(f"--batch {args.batch}; expected 1 or more")
    if args.tolerance is not None and not args.tolerance > 0:
        raise UsageError(f"--tolerance {args.tolerance}; expected a number above 0")
    report = verify_net(
        args.prototxt,
        args.caffemodel,
        images=args.image,
        batch=args.batch or max(1, len(args.image)),
        dialect=args.dialect,
        tolerance=args.tolerance or TOLERANCE,
        device=args.device,
        progress=lambda name: print(f"running: {name}", file=sys.stderr),
    )
    print(net_table(report, every=not args.failures_only, width=terminal_width()))
    if args.json:
        write_text(args.json, json.dumps(net_json(report), indent=1) + "\n")
    return command.OK if report else command.CHECK_FAILED
