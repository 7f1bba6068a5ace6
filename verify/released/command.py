"""`--released DIR` of the table commands."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from typing import Any

from reference_weights import manifest

from ..tables.published import ROW, PublishedTable
from .options import check


def run(table: PublishedTable, options: Namespace) -> int:
    """Prove the release under `options.released`; the exit status. Raises CaffeError."""
    style = options.format or "text"
    if options.dry_run:
        from .dry import take_stock

        stock = take_stock(options.released, table, options.image_root)
        print(json.dumps(stock.data(), indent=2) if style == "json" else stock.render(style))
        return stock.status
    check(options)
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
