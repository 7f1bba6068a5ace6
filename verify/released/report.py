"""What was found of a release: for a terminal, as Markdown and as data for JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from prototxt_gen.base.columns import columns
from prototxt_gen.base.command import BAD_INPUT, CHECK_FAILED, OK

from ..tables import RowComparison
from ..tables.extras import Found
from ..tables.layout import data as row_data
from ..tables.layout import row_page, table_page
from ..tables.sources import Predictions
from .agreement import Agreement
from .diagnosis import Diagnosis
from .faults import Fault
from .files import Release


@dataclass
class Report:
    """The parts that could be run; a part that could not is None. `wanted` says whether the net was to run."""

    release: Release
    wanted: bool = False
    evaluation: RowComparison | None = None  # the authors' scores against the paper
    about: str = ""  # the net
    agreement: Agreement | None = None
    diagnosis: Diagnosis | None = None
    figures: RowComparison | None = None  # our scores against the paper
    predictions: Predictions | None = None  # our scores, or else the authors', with their labels
    beside: Found = field(default_factory=Found)  # what was asked for of those
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def same_figures(self) -> list[str] | None:
        """The columns in which our scores and the authors' give the same figure, with two decimals."""
        if self.evaluation is None or self.figures is None:
            return None
        pairs = zip(self.evaluation.figures, self.figures.figures, strict=True)
        return [theirs.column for theirs, ours in pairs if f"{theirs.ours:.2f}" == f"{ours.ours:.2f}"]

    @property
    def status(self) -> int:
        """The exit status: 0 all reproduced, 1 something is not, 2 a file is missing or cannot be used."""
        if any(fault.unusable for fault in self.faults):
            return BAD_INPUT
        tables = [part for part in (self.evaluation, self.figures) if part is not None]
        agrees = self.agreement is None or bool(self.agreement)
        complete = self.figures is not None if self.wanted else True
        return OK if tables and all(tables) and agrees and complete and not self.faults else CHECK_FAILED

    def verdicts(self) -> Iterator[str]:
        """One sentence per question: the evaluation, the net, the figures."""
        if self.evaluation is not None:
            yield f"the authors' scores give the paper's figures: {_of(self.evaluation)}"
        if self.agreement is not None:
            verdict = "yes" if self.agreement else "NO"
            yield f"the net computes the authors' scores: {verdict}, {self.agreement.lines()[0]}"
        if self.figures is not None:
            yield f"our scores give the paper's figures: {_of(self.figures)}"
        same = self.same_figures
        if same is not None and self.figures is not None:
            yield f"our scores give the figures of the authors' scores: {len(same)} of {len(self.figures.figures)}"
        if self.wanted and self.figures is None:
            yield "the net was not run on all images"
        if self.agreement and self.figures is not None and self.evaluation is not None and not self.evaluation:
            fewer = len(self.release.rows) != self.release.table.images
            where = "the number of images, the labels or the evaluation" if fewer else "the labels or the evaluation"
            yield f"so what differs from the paper is in {where}, not in the net"
        yield f"faults found: {len(self.faults) or 'none'}"

    def render(self, style: str, row: str | None = None, later: bool = False) -> str:
        """As "text", "markdown" or "json"; `row` and `later` as the table commands have them."""
        if style == "json":
            return json.dumps(self.data(later), indent=2, allow_nan=False)
        pages = [self._heading(style)]
        titles = ("1. The authors' scores against the paper", "3. Our scores against the paper")
        parts = [self._table(title, part, style, row, later) for title, part in zip(titles, self._tables, strict=True)]
        pages += [*parts[0], *self._net(style), *parts[1]]
        if self.predictions is not None and (page := self.beside.page(style)):
            pages.append(_titled(f"Also asked for, of {self.predictions.source}", page, style))
        if self.diagnosis is not None:
            pages.append(_titled("Diagnosis", _listed(self.diagnosis.lines(), style), style))
        if self.faults:
            pages.append(_titled("Faults", _listed([n for f in self.faults for n in f.lines()], style), style))
        pages.append(_titled("Verdict", _bullets(list(self.verdicts()) + self.notes, style), style))
        return "\n\n".join(pages)

    @property
    def _tables(self) -> tuple[RowComparison | None, RowComparison | None]:
        return self.evaluation, self.figures

    def _heading(self, style: str) -> str:
        table = self.release.table
        text = f"Released files of {table.dataset} under {self.release.root}"
        head = f"## {text}" if style == "markdown" else text
        return "\n".join([head, _bullets(list(self.release.remarks), style)]).rstrip()

    def _table(self, title: str, part: RowComparison | None, style: str, row: str | None, later: bool) -> list[str]:
        if part is None:
            return []
        page = row_page(part, style) if row else table_page(part, style, later)
        return [_titled(title, page, style)]

    def _net(self, style: str) -> list[str]:
        if self.agreement is None:
            return []
        said = [self.about, *self.agreement.lines()]
        body = [_bullets(said, style)] if style == "markdown" else ["\n".join(said)]
        if not self.agreement:
            body.append(_worst(self.agreement, self.release.names, style))
        return [_titled("2. The net against the authors' scores, image by image", "\n\n".join(body), style)]

    def data(self, later: bool = False) -> dict[str, Any]:
        """For JSON."""
        tables = [None if part is None else row_data(part, later) for part in self._tables]
        table = self.release.table
        beside = self.beside.data()
        if beside and self.predictions is not None:
            beside = {"beside": {"source": self.predictions.source} | beside}
        return {
            "table": table.number,
            "dataset": table.dataset,
            "root": str(self.release.root),
            "remarks": list(self.release.remarks),
            "evaluation": tables[0],
            "net": None if self.agreement is None else {"about": self.about} | self.agreement.data(self.release.names),
            "figures": tables[1],
            "same_figures": self.same_figures,
            "diagnosis": None if self.diagnosis is None else self.diagnosis.data(),
            "faults": [fault.data() for fault in self.faults],
            "notes": list(self.notes),
            "verdicts": list(self.verdicts()),
            "status": self.status,
        } | beside


def _of(part: RowComparison) -> str:
    count = sum(figure.reproduced for figure in part.figures)
    return f"{'yes' if part else 'NO'}, {count} of {len(part.figures)}"


def _worst(agreement: Agreement, names: list[str] | None, style: str) -> str:
    """The images that differ most."""
    rows = [["line", "image", "largest difference", "labels that change"]]
    for i in agreement.worst(min(10, int(agreement.differing.sum()))):
        line = int(agreement.rows[i])
        name = names[line] if names else ""
        rows.append([str(line + 1), name, f"{agreement.largest[i]:.1e}", str(agreement.changed[i])])
    if style == "markdown":
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([lines[0], "|---:|---|---:|---:|", *lines[1:]])
    return "\n".join(["the worst images:", *columns(rows, right=(0, 2, 3))])


def _titled(title: str, body: str, style: str) -> str:
    return f"### {title}\n\n{body}" if style == "markdown" else f"{title}\n{'-' * len(title)}\n{body}"


def _bullets(lines: list[str], style: str) -> str:
    return "\n".join(f"- {line}" if style == "markdown" else f"  {line}" for line in lines)


def _listed(lines: list[str], style: str) -> str:
    """Lines of which the indented ones belong to the one above."""
    if style != "markdown":
        return "\n".join(lines)
    return "\n".join(f"  - {line.strip()}" if line.startswith(" ") else f"- {line}" for line in lines)
