"""Tables as text for a terminal, as Markdown and as data for JSON; figures in percent.

One list of lines (a label and a cell per column) serves terminal and Markdown, so that both say the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prototxt_gen.base.columns import columns as aligned
from prototxt_gen.base.columns import fold, terminal_width

from .comparison import DIFFERENT, QUOTED, Figure, RowComparison
from .published import TOP3, Figures, PublishedTable

STYLES = ("text", "markdown", "json")
MARK = " (quoted)"  # after the name of a row that is not the paper's own
LEGEND = "(quoted): by the paper from elsewhere; not claimed here"
LATER = "after the paper, as a later paper lists them ('The Proposed' is its own); not claimed here"

Line = tuple[str, Sequence[str]]


def side_by_side(
    rows: Mapping[str, Figures], table: PublishedTable, *, heading: str = "", later: bool = False, style: str = "text"
) -> str:
    """Figures of several nets (name -> column -> fraction, from `metrics.evaluate`) in the form of a table of the
    paper, and that table below it; a column that a net lacks is "-"."""
    ours = [(name, [_cell(figures.get(c), 100) for c in table.columns]) for name, figures in rows.items()]
    theirs = f"Table {table.number} of the paper, {table.dataset}: {table.images:,} images, {table.classes} classes"
    blocks = [[heading]] if heading else []
    blocks += [
        _grid(ours, table.columns, style),
        [theirs],
        _grid(published_lines(table), table.columns, style),
        [LEGEND],
    ]
    return _page(blocks + (_later(table, style) if later else []))


def table_page(comparison: RowComparison, style: str, later: bool = False) -> str:
    """The whole table, ours inserted below the row that it is compared with.

    On a terminal too narrow for it, the columns of the top 3 come below the others.
    """
    table, width = comparison.table, terminal_width()
    lines: list[Line] = []
    for line, name in zip(published_lines(table), table.rows, strict=True):
        lines.append(line)
        if name == comparison.row:
            lines += _ours(comparison, table.columns, style)
    blocks = [_heading(comparison, style), _grid(lines, table.columns, style, width), [LEGEND]]
    return _page([*blocks, *(_later(table, style, width) if later else []), _notes(comparison, style, width)])


def row_page(comparison: RowComparison, style: str) -> str:
    """One row alone, a figure per line."""
    titles = ["", "paper", "ours", "difference"]
    ranged = any(figure.interval for figure in comparison.figures)
    body = [titles + ["95 %"] * ranged + [""]]
    for figure in comparison.figures:
        cells = [figure.column, f"{figure.paper:.1f}", f"{figure.ours:.2f}", _signed(figure.difference)]
        body.append(cells + [_range(figure)] * ranged + [comparison.mark(figure)])
    block = markdown_table(body) if style == "markdown" else aligned(body, right=range(1, len(titles) + ranged))
    return _page([_heading(comparison, style), block, _notes(comparison, style, terminal_width())])


def data(comparison: RowComparison, later: bool = False) -> dict[str, Any]:
    """For JSON: percent, a NaN as null; the keys are stable."""
    table = comparison.table
    found = {
        "table": table.number,
        "dataset": table.dataset,
        "row": comparison.row,
        "quoted": comparison.quoted,
        "source": comparison.source,
        "images": comparison.images,
        "classes": comparison.classes,
        "reproduced": bool(comparison),
        "figures": {figure.column: _figure_data(figure, comparison.quoted) for figure in comparison.figures},
        "notes": comparison.notes,
        "published": {n: {"quoted": table.quoted(n), "figures": dict(row)} for n, row in table.rows.items()},
    }
    return found | ({"later": {name: dict(row) for name, row in table.later.items()}} if later else {})


def published_lines(table: PublishedTable) -> list[Line]:
    """Every row as the paper prints it; quoted ones are marked."""
    return [
        (name + MARK * table.quoted(name), [_cell(row.get(c)) for c in table.columns])
        for name, row in table.rows.items()
    ]


def number(value: float) -> float | None:
    """A figure for JSON, which knows no NaN."""
    return None if math.isnan(value) else value


def _figure_data(figure: Figure, quoted: bool) -> dict[str, Any]:
    found = {
        "paper": figure.paper,
        "ours": number(figure.ours),
        "difference": number(figure.difference),
        "reproduced": figure.reproduced and not quoted,
    }
    return found | ({"interval": [number(v) for v in figure.interval]} if figure.interval else {})


def _ours(comparison: RowComparison, names: Sequence[str], style: str) -> list[Line]:
    """Ours, the difference, the interval and the verdict, under the row that they belong to."""
    figures = {figure.column: figure for figure in comparison.figures}
    marks = {QUOTED: "-", DIFFERENT: "**no**" if style == "markdown" else "NO"}

    def line(name: str, text: Any) -> Line:
        return f"  {name}", [text(figures[c]) if c in figures else "-" for c in names]

    lines = [line("ours", lambda f: f"{f.ours:.2f}"), line("difference", lambda f: _signed(f.difference))]
    if any(figure.interval for figure in comparison.figures):
        for end, name in enumerate(("95 % from", "95 % to")):
            lines.append(line(name, lambda f, end=end: f"{f.interval[end]:.2f}" if f.interval else "-"))
    return [*lines, line("reproduced", lambda f: marks.get(comparison.mark(f), "yes"))]


def _later(table: PublishedTable, style: str, width: int | None = None) -> list[list[str]]:
    if not table.later:
        return [[f"no figures of later methods are known for {table.dataset}"]]
    names = [c for c in table.columns if any(c in row for row in table.later.values())]
    lines = [(name, [_cell(row.get(c)) for c in names]) for name, row in table.later.items()]
    return [[LATER] if style == "markdown" else fold(LATER, width), _grid(lines, names, style, width)]


def _grid(lines: Sequence[Line], names: Sequence[str], style: str, width: int | None = None) -> list[str]:
    if style == "markdown":
        return markdown_table([["", *names], *([label, *cells] for label, cells in lines)])
    split = next((i for i, name in enumerate(names) if name.endswith(TOP3)), len(names))
    groups = {"All": slice(0, split), "top 3": slice(split, None)} if split < len(names) else {"": slice(None)}
    whole = _aligned(lines, names, groups)
    if len(groups) == 1 or not width or max(map(len, whole)) <= width:
        return whole
    parts = [
        _aligned([(label, cells[part]) for label, cells in lines], names[part], {title: slice(None)})
        for title, part in groups.items()
    ]
    return [*parts[0], "", *parts[1]]


def _aligned(lines: Sequence[Line], names: Sequence[str], groups: Mapping[str, slice]) -> list[str]:
    """Lines under their columns' names, and those under the titles of their groups."""
    above = [""]
    for title, part in groups.items():
        above += [title, *[""] * (len(names[part]) - 1)]
    heads = [above, ["", *(name.removesuffix(TOP3) for name in names)]]
    return aligned([*heads[not any(above) :], *([label, *cells] for label, cells in lines)], range(1, len(names) + 1))


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells, the first of them the head; all columns but the first flushed right."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, f"|---|{'---:|' * (len(rows[0]) - 1)}")
    return lines


def _page(blocks: Sequence[Sequence[str]]) -> str:
    return "\n\n".join("\n".join(block) for block in blocks)


def _heading(comparison: RowComparison, style: str) -> list[str]:
    return [f"**{comparison.heading}**" if style == "markdown" else comparison.heading]


def _notes(comparison: RowComparison, style: str, width: int | None = None) -> list[str]:
    if style == "markdown":
        return [f"- {note}" for note in comparison.notes]
    return [line for note in comparison.notes for line in fold(note, width)]


def _cell(value: float | None, scale: float = 1) -> str:
    return "-" if value is None else f"{scale * value:.1f}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("+nan", "nan")


def _range(figure: Figure) -> str:
    return f"{figure.interval[0]:.2f} to {figure.interval[1]:.2f}" if figure.interval else "-"
