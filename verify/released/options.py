"""The options of `--released DIR`, and what they may be."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prototxt_gen.base.errors import Problems, UsageError
from prototxt_gen.base.files import unwritable

# Options of the table commands that only a release takes, and of them those that only its net takes.
LOOKING = ("dry_run",)
PROVING = ("sample", "tolerance", "keep_going")


def add_options(add: Callable[..., Any]) -> None:
    """Add the options of a release to a table command."""
    add("--released", "--root", type=Path, metavar="DIR", help="folder with the authors' models/, datasets/, results/")
    add("--dry-run", action="store_true", help="of --released: what is there, what is missing, what could be run")
    add("--sample", type=int, metavar="N", help="images compared first, and tried hypotheses on (default 24)")
    add("--tolerance", type=float, metavar="X", help="allowed difference from the authors' logits (default 0.001)")
    add("--keep-going", action="store_true", help="run all images even when the sample does not agree")


def check(options: Namespace) -> None:
    """Raise UsageError with all options of a release whose values are impossible."""
    with Problems(UsageError) as problems:
        if options.sample is not None and options.sample < 2:
            problems.add(f"--sample {options.sample}", expected="2 or more images")
        if options.tolerance is not None and not 0 < options.tolerance < math.inf:
            problems.add(f"--tolerance {options.tolerance}", expected="a number above 0")
        if options.image_root is not None and not options.image_root.is_dir():
            problems.add("is not a folder", expected="the folder of the test images", file=options.image_root)
        if options.scores_out is not None:
            problems.found += unwritable(options.scores_out)
