"""python -m verify golden: recorded layers and nets of real Caffe, replayed."""

from __future__ import annotations

import argparse
from typing import Any

from . import recorded

EXAMPLES = """  python -m verify golden tests/golden/layers tests/golden/edges
  python -m verify golden --faithful-bugs tests/golden/defects"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = recorded.add(
        verbs,
        "golden",
        "replay recorded cases of real Caffe",
        "Compute every recorded layer case (a .prototxt, and an .npz of what real Caffe computed, forward "
        "and backward) and compare.",
        "cases",
    )
    parser.add_argument("--faithful-bugs", action="store_true", help="compute the documented defects as Caffe does")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replay recorded cases."""
    from ..parity.golden import find_cases, report, run_case

    cases = find_cases(args.folders)
    results = recorded.replay(cases, lambda case: run_case(case, faithful_bugs=args.faithful_bugs), "case")
    return recorded.told("compared with recorded outputs of real Caffe", report(results), results)
