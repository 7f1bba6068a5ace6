"""python -m verify solver: recorded training runs of real Caffe, replayed."""

from __future__ import annotations

import argparse
from typing import Any

from . import recorded

EXAMPLES = "  python -m verify solver tests/golden/solver"


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = recorded.add(
        verbs,
        "solver",
        "replay recorded training runs of real Caffe",
        "Train as each recorded run did and compare losses and weights at every recorded iteration.",
        "runs",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replay recorded training runs."""
    from ..parity.solver import find_runs, report, run_recorded

    results = recorded.replay(find_runs(args.folders), run_recorded, "run")
    return recorded.told("compared with recorded training runs of real Caffe", report(results), results)
