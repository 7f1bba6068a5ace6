"""The paper's tables and our figures beside them: terminal, Markdown and JSON.

The paper's figures are in percent with one decimal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prototxt_gen.errors import UsageError, closest
from prototxt_gen.tables import read_table


@dataclass(frozen=True)
class PublishedTable:
    """One table of the paper: method -> column -> percent."""

    number: int
    dataset: str
    images: int  # test images behind the figures
    classes: int
    rows: dict[str, dict[str, float]]

    def row(self, name: str) -> dict[str, float]:
        """The published figures of a method; raises UsageError naming the closest one."""
        if name not in self.rows:
            raise UsageError(f"Table {self.number} has no row '{name}'; {closest(name, self.rows)}")
        return self.rows[name]


# Paper section 4.1; for NUS-WIDE the images of the release, which are fewer than the paper's.
_TABLES = {
    1: ("NUS-WIDE", 80_283, 81),
    2: ("MS-COCO", 40_504, 80),
    3: ("WIDER-Attribute", 29_177, 14),
}


def load_table(number: int) -> PublishedTable:
    """Table 1 (NUS-WIDE), 2 (MS-COCO) or 3 (WIDER-Attribute) of the paper; raises UsageError for another."""
    if number not in _TABLES:
        raise UsageError(f"there is no Table {number}; choose one of: {', '.join(map(str, _TABLES))}")
    dataset, images, classes = _TABLES[number]
    return PublishedTable(number, dataset, images, classes, read_table(number))


@dataclass(frozen=True)
class Figure:
    """One figure in percent: the paper's, with one decimal, and ours."""

    column: str
    paper: float
    ours: float

    @property
    def difference(self) -> float:
        return self.ours - self.paper

    @property
    def reproduced(self) -> bool:
        """Whether ours, rounded to one decimal, is the paper's figure; NaN never is."""
        return f"{self.ours:.1f}" == f"{self.paper:.1f}"


@dataclass(frozen=True)
class RowComparison:
    """One row of a table and our figures; true when every one of them is reproduced."""

    table: PublishedTable
    row: str
    images: int
    classes: int
    figures: tuple[Figure, ...]
    source: str = ""  # where our scores come from

    def __bool__(self) -> bool:
        return bool(self.figures) and all(figure.reproduced for figure in self.figures)

    @property
    def heading(self) -> str:
        heading = f"Table {self.table.number}, {self.table.dataset}, {self.row}"
        return f"{heading}: {self.images:,} images, {self.classes} classes"

    @property
    def notes(self) -> list[str]:
        """The verdict, and where our images or classes are not the paper's."""
        count = sum(figure.reproduced for figure in self.figures)
        notes = [f"ours: {self.source}"] if self.source else []
        notes += [f"{count} of {len(self.figures)} figures reproduced (equal after rounding to one decimal)"]
        if (self.images, self.classes) != (self.table.images, self.table.classes):
            theirs = f"{self.table.images:,} images, {self.table.classes} classes"
            notes.append(f"not the test data of {self.table.dataset}, which has {theirs}")
        return notes

    def text(self) -> str:
        """For a terminal: one figure per line, in percent."""
        lines = [self.heading, "", f"{'':8}{'paper':>7}{'ours':>9}{'difference':>12}"]
        for figure in self.figures:
            mark = "reproduced" if figure.reproduced else "NOT reproduced"
            values = f"{figure.paper:7.1f}{figure.ours:9.2f}{figure.difference:+12.2f}"
            lines.append(f"{figure.column:8}{values}  {mark}")
        return "\n".join([*lines, "", *self.notes])

    def markdown(self) -> str:
        """A Markdown table in the paper's layout, in percent."""
        cells = {
            "": [figure.column for figure in self.figures],
            "paper": [f"{figure.paper:.1f}" for figure in self.figures],
            "ours": [f"{figure.ours:.1f}" for figure in self.figures],
            "difference": [f"{figure.difference:+.2f}" for figure in self.figures],
            "reproduced": ["yes" if figure.reproduced else "**no**" for figure in self.figures],
        }
        rows = [f"| {' | '.join([name, *values])} |" for name, values in cells.items()]
        rule = f"|---|{'---:|' * len(self.figures)}"
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"**{self.heading}**", "", rows[0], rule, *rows[1:], "", *notes])

    def data(self) -> dict[str, Any]:
        """For JSON: figures in percent, a NaN as null."""
        figures = {
            figure.column: {
                "paper": figure.paper,
                "ours": _number(figure.ours),
                "difference": _number(figure.difference),
                "reproduced": figure.reproduced,
            }
            for figure in self.figures
        }
        return {
            "table": self.table.number,
            "dataset": self.table.dataset,
            "row": self.row,
            "source": self.source,
            "images": self.images,
            "classes": self.classes,
            "reproduced": bool(self),
            "figures": figures,
        }

    def json(self) -> str:
        """One JSON object, as `data` has it."""
        return json.dumps(self.data(), indent=2, allow_nan=False)

    def render(self, style: str) -> str:
        """As "text", "markdown" or "json"."""
        return {"text": self.text, "markdown": self.markdown, "json": self.json}[style]()


def compare_row(
    figures: Mapping[str, float], table: PublishedTable, row: str, images: int, classes: int, source: str = ""
) -> RowComparison:
    """Our figures (fractions, from `metrics.evaluate`) beside a row of a table; raises UsageError.

    Columns that the paper leaves empty in that row are not compared.
    """
    published = table.row(row)
    compared = tuple(Figure(name, paper, 100 * figures[name]) for name, paper in published.items())
    return RowComparison(table, row, images, classes, compared, source)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
