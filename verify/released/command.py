"""`--released DIR` of the table commands."""

from __future__ import annotations

import json
import math
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prototxt_gen.errors import Problems, UsageError
from prototxt_gen.files import unwritable
from reference_weights import manifest

from ..tables.published import ROW, PublishedTable

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


def run(table: PublishedTable, options: Namespace) -> int:
    """Prove the release under `options.released`; the exit status. Raises CaffeError."""
    style = options.format or "text"
    if options.dry_run:
        from .dry import take_stock

        stock = take_stock(options.released, table, options.image_root)
        print(json.dumps(stock.data(), indent=2) if style == "json" else stock.render(style))
        return stock.status
    _check(options)
    from ..tables import extras
    from ..tables.options import check_outputs
    from .beside import beside
    from .run import check_release

    check_outputs(options, manifest.paths(options.released, table.key).values())
    wanted = extras.read_extras(options)
    net = _net(options) if options.image_root else None
    report = check_release(options.released, table, net, row=ROW if options.row is None else options.row)
    beside(report, wanted)
    print(report.render(style, options.row, options.later))
    if report.predictions is not None:
        for note in extras.write(wanted, report.beside, table, report.predictions.source):
            print(f"note: {note}", file=sys.stderr)
    return report.status


def _net(options: Namespace) -> Any:
    from .agreement import TOLERANCE
    from .net import SAMPLE, NetOptions

    return NetOptions(
        image_root=options.image_root,
        device=options.device,
        sample=options.sample or SAMPLE,
        tolerance=options.tolerance or TOLERANCE,
        keep_going=options.keep_going,
        scores_out=options.scores_out,
    )


def _check(options: Namespace) -> None:
    with Problems(UsageError) as problems:
        if options.sample is not None and options.sample < 2:
            problems.add(f"--sample {options.sample}", expected="2 or more images")
        if options.tolerance is not None and not 0 < options.tolerance < math.inf:
            problems.add(f"--tolerance {options.tolerance}", expected="a number above 0")
        if options.image_root is not None and not options.image_root.is_dir():
            problems.add("is not a folder", expected="the folder of the test images", file=options.image_root)
        if options.scores_out is not None:
            problems.found += unwritable(options.scores_out)
