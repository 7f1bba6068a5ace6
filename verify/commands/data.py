"""python -m verify data: recorded data layers of real Caffe, replayed."""

from __future__ import annotations

import argparse
from typing import Any

from . import recorded

EXAMPLES = "  python -m verify data tests/golden/data"


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = recorded.add(
        verbs,
        "data",
        "replay recorded data layers of real Caffe",
        "Load every recorded batch and compare value by value; find every recorded random crop among "
        "those that the rules allow, and test by chi-squared how often Caffe drew each and how often we do.",
        "cases",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replay recorded data layers."""
    from ..parity.data import DRAWS, find_data_cases, report, run_data_case

    results = recorded.replay(find_data_cases(args.folders), run_data_case, "case")
    title = f"compared with recorded data layers of real Caffe; {DRAWS:,} draws of our own"
    return recorded.told(title, report(results), results)
