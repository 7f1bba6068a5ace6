"""What the table commands show beside the table, of a release: other definitions, intervals, figures of each class."""

from __future__ import annotations

from ..tables.extras import Extras, compute
from .report import Report


def beside(report: Report, wanted: Extras) -> None:
    """Compute what was asked for of the report's predictions; a note where there are none to compute it of.

    Raises DataError for class names or baseline scores that do not fit.
    """
    if report.predictions is None:
        if wanted.flags:
            report.notes.append(f"{', '.join(wanted.flags)}: there are no usable scores with their labels")
        return
    report.beside = compute(wanted, report.release.table, report.predictions)
    intervals = report.beside.intervals
    if intervals is None:
        return
    if report.figures is not None:  # the predictions are ours
        report.figures = report.figures.ranged(intervals.figures)
    elif report.evaluation is not None:
        report.evaluation = report.evaluation.ranged(intervals.figures)
