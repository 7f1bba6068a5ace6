"""Our figures beside a row of the paper's, and whether they are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .published import Figures, PublishedTable

REPRODUCED, DIFFERENT, QUOTED = "reproduced", "NOT reproduced", "not claimed"


@dataclass(frozen=True)
class Figure:
    """One figure in percent: the paper's, with one decimal, and ours; `interval` is ours at 95 %, if known."""

    column: str
    paper: float
    ours: float
    interval: tuple[float, float] | None = None

    @property
    def difference(self) -> float:
        return self.ours - self.paper

    @property
    def reproduced(self) -> bool:
        """Whether ours, rounded to one decimal, is the paper's figure; NaN never is."""
        return f"{self.ours:.1f}" == f"{self.paper:.1f}"


@dataclass(frozen=True)
class RowComparison:
    """One row of a table and our figures; true when every one of them is reproduced.

    A row that the paper quotes from elsewhere is never true: its figures are shown, but not claimed.
    """

    table: PublishedTable
    row: str
    images: int
    classes: int
    figures: tuple[Figure, ...]
    source: str = ""  # where our scores come from
    remarks: tuple[str, ...] = field(default=())  # on our data

    def __bool__(self) -> bool:
        return bool(self.figures) and not self.quoted and all(figure.reproduced for figure in self.figures)

    def ranged(self, intervals: Mapping[str, tuple[float, float]]) -> RowComparison:
        """The same with intervals (column -> fractions)."""
        return replace(
            self, figures=tuple(replace(f, interval=_percent(intervals.get(f.column))) for f in self.figures)
        )

    @property
    def quoted(self) -> bool:
        return self.table.quoted(self.row)

    @property
    def heading(self) -> str:
        heading = f"Table {self.table.number}, {self.table.dataset}, {self.row}"
        return f"{heading}: {self.images:,} images, {self.classes} classes"

    @property
    def verdict(self) -> str:
        if self.quoted:
            return f"{self.row}: quoted by the paper from elsewhere; not claimed"
        missed = [figure.column for figure in self.figures if not figure.reproduced]
        count = f"{len(self.figures) - len(missed)} of {len(self.figures)} figures"
        verdict = f"{count} reproduced (equal after rounding to one decimal)"
        return verdict + (f"; {DIFFERENT}: {', '.join(missed)}" if missed else "")

    @property
    def notes(self) -> list[str]:
        """The verdict, and where our images or classes are not the paper's."""
        notes = [f"ours: {self.source}"] if self.source else []
        notes += [self.verdict, *self.remarks]
        if (self.images, self.classes) != (self.table.images, self.table.classes):
            theirs = f"{self.table.images:,} images, {self.table.classes} classes"
            notes.append(f"not the test data of {self.table.dataset}, which has {theirs}")
        return notes

    def mark(self, figure: Figure) -> str:
        """What is said of one figure."""
        if self.quoted:
            return QUOTED
        return REPRODUCED if figure.reproduced else DIFFERENT


def compare_row(
    figures: Figures,
    table: PublishedTable,
    row: str,
    images: int,
    classes: int,
    source: str = "",
    *,
    remarks: tuple[str, ...] = (),
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> RowComparison:
    """Our figures (fractions, from `metrics.evaluate`) beside a row of a table; raises UsageError.

    Columns that the paper leaves empty in that row are not compared. `intervals` are fractions too.
    """
    published = table.row(row)
    compared = tuple(
        Figure(name, paper, 100 * figures[name], _percent((intervals or {}).get(name)))
        for name, paper in published.items()
    )
    return RowComparison(table, row, images, classes, compared, source, remarks)


def _percent(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])
