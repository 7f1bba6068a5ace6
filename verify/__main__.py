"""python -m verify: golden | data | solver | net | dataset."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from prototxt_gen import command
from prototxt_gen.errors import UsageError
from prototxt_gen.files import write_text

from .datasets import command as dataset_command

EXAMPLES = f"""  python -m verify golden tests/golden/layers tests/golden/edges
  python -m verify golden --faithful-bugs tests/golden/defects
  python -m verify data tests/golden/data
  python -m verify solver tests/golden/solver
  python -m verify net --prototxt net.prototxt --caffemodel net.caffemodel --image cat.jpg
  python -m verify net --prototxt net.prototxt --caffemodel net.caffemodel --batch 3 --failures-only
{dataset_command.EXAMPLES}"""


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = command.parser("python -m verify", "Prove that a net computes what Caffe computes.", EXAMPLES)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    golden = verbs.add_parser(
        "golden",
        help="replay recorded cases of real Caffe",
        description="Compute every recorded layer case (a .prototxt, and an .npz of what real Caffe computed, forward "
        "and backward) and compare.",
    )
    golden.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders with recorded cases")
    golden.add_argument("--faithful-bugs", action="store_true", help="compute the documented defects as Caffe does")
    data = verbs.add_parser(
        "data",
        help="replay recorded data layers of real Caffe",
        description="Load every recorded batch and compare value by value; find every recorded random crop among "
        "those that the rules allow, and test by chi-squared how often Caffe drew each and how often we do.",
    )
    data.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders with recorded cases")
    solver = verbs.add_parser(
        "solver",
        help="replay recorded training runs of real Caffe",
        description="Train as each recorded run did and compare losses and weights at every recorded iteration.",
    )
    solver.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders with recorded runs")
    net = verbs.add_parser(
        "net",
        help="compare every blob of a net in every runtime",
        description="Compute a net in float64 NumPy by Caffe's rules, in PyTorch, in ONNX Runtime and, for what it can "
        "read, in OpenCV, and compare every blob. Exit status 1 when one differs.",
    )
    net.add_argument("--prototxt", required=True, type=Path, metavar="FILE")
    net.add_argument("--caffemodel", required=True, type=Path, metavar="FILE", help="weights, binary or HDF5")
    net.add_argument(
        "--image", action="append", type=Path, default=[], metavar="FILE", help="a photograph; may be repeated"
    )
    net.add_argument("--batch", type=int, metavar="N", help="batch size (default: as many as there are photographs)")
    net.add_argument("--dialect", choices=["bvlc", "srn"], help="default: detected")
    net.add_argument("--tolerance", type=float, metavar="X", help="relative to a blob's largest value (default: 1e-5)")
    net.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where ONNX Runtime runs")
    net.add_argument("--failures-only", action="store_true", help="print failing blobs only")
    net.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON as well")
    dataset_command.add(verbs)
    return command.share_examples(parser)


def run_golden(args: argparse.Namespace) -> int:
    """Replay recorded cases."""
    from tqdm import tqdm

    from .golden import find_cases, report, run_case

    cases = find_cases(args.folders)
    bar = tqdm(cases, unit="case", disable=not sys.stderr.isatty())
    results = [run_case(case, faithful_bugs=args.faithful_bugs) for case in bar]
    print("compared with recorded outputs of real Caffe")
    print(report(results))
    return command.OK if all(results) else command.CHECK_FAILED


def run_data(args: argparse.Namespace) -> int:
    """Replay recorded data layers."""
    from tqdm import tqdm

    from .data import DRAWS, find_data_cases, report, run_data_case

    cases = find_data_cases(args.folders)
    results = [run_data_case(case) for case in tqdm(cases, unit="case", disable=not sys.stderr.isatty())]
    print(f"compared with recorded data layers of real Caffe; {DRAWS:,} draws of our own")
    print(report(results))
    return command.OK if all(results) else command.CHECK_FAILED


def run_solver(args: argparse.Namespace) -> int:
    """Replay recorded training runs."""
    from tqdm import tqdm

    from .solver import find_runs, report, run_recorded

    runs = find_runs(args.folders)
    results = [run_recorded(run) for run in tqdm(runs, unit="run", disable=not sys.stderr.isatty())]
    print("compared with recorded training runs of real Caffe")
    print(report(results))
    return command.OK if all(results) else command.CHECK_FAILED


def run_net(args: argparse.Namespace) -> int:
    """Compare a net in every runtime."""
    from .net import TOLERANCE, verify_net
    from .text import net_json, net_table

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
    print(net_table(report, every=not args.failures_only))
    if args.json:
        write_text(args.json, json.dumps(net_json(report), indent=1) + "\n")
    return command.OK if report else command.CHECK_FAILED


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = arguments().parse_args(argv)
    runs = {
        "golden": run_golden,
        "data": run_data,
        "net": run_net,
        "solver": run_solver,
        "dataset": dataset_command.run,
    }
    return runs[args.verb](args)


if __name__ == "__main__":
    sys.exit(command.run(main))
