"""Tables for a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence

GAP = 2  # blanks between columns
NARROWEST = 10  # characters that a column of words keeps
FIRST, OTHERS = 4, 2  # by how much the lines of a folded cell are indented, in the first column and in others


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Rows of cells as aligned lines; the columns in `right` are flushed right."""
    widths = _widths(rows)
    return [(" " * GAP).join(_pad(row, widths, right)).rstrip() for row in rows]


def folded(rows: Sequence[Sequence[str]], right: Sequence[int], width: int | None) -> list[str]:
    """The same in `width` characters (None: any number): columns not in `right` are folded where it takes that.

    The wider of them gives way first, and none to less than its longest word.
    """
    indents = {index: OTHERS if index else FIRST for index in range(len(rows[0])) if index not in right}
    least = {
        i: indent + max(len(word) for row in rows for word in [*row[i].split(), ""]) for i, indent in indents.items()
    }
    return _fold(rows, right, _narrowed(rows, least, width), indents)


def fitted(
    rows: Sequence[Sequence[str]], right: Sequence[int], width: int | None, kept: Sequence[int] = ()
) -> list[str]:
    """The same, broken inside words where it takes that; columns in `right` and `kept` stay whole."""
    return [line for block in fitted_rows(rows, right, width, kept) for line in block]


def fitted_rows(
    rows: Sequence[Sequence[str]], right: Sequence[int], width: int | None, kept: Sequence[int] = ()
) -> list[list[str]]:
    """The lines of each row by themselves, for what comes between them.

    No column is made narrower than `NARROWEST` or its title: a smaller terminal gets longer lines.
    """
    indents = {index: OTHERS for index in range(len(rows[0])) if index not in (*right, *kept)}
    least = {i: max(NARROWEST, len(rows[0][i])) for i in indents}
    return _folded_rows(rows, right, _narrowed(rows, least, width), indents)


def _narrowed(rows: Sequence[Sequence[str]], least: Mapping[int, int], width: int | None) -> list[int]:
    """The widths of columns that together keep to a width, as far as those with a least width allow."""
    widths = _widths(rows)
    while width and sum(widths) + GAP * (len(widths) - 1) > width:
        widest = max((i for i in least if widths[i] > least[i]), key=lambda i: widths[i], default=None)
        if widest is None:
            break
        widths[widest] -= 1
    return widths


def _fold(
    rows: Sequence[Sequence[str]], right: Sequence[int], widths: Sequence[int], indents: Mapping[int, int]
) -> list[str]:
    return [line for block in _folded_rows(rows, right, widths, indents) for line in block]


def _folded_rows(
    rows: Sequence[Sequence[str]], right: Sequence[int], widths: Sequence[int], indents: Mapping[int, int]
) -> list[list[str]]:
    """Aligned lines, row by row, the cells of the columns in `indents` folded to their widths."""
    parts: list[list[list[str]]] = []
    for row in rows:
        cells = [fold(cell, widths[i], indents[i]) if i in indents else [cell] for i, cell in enumerate(row)]
        high = max(map(len, cells))
        parts.append([[cell[line] if line < len(cell) else "" for cell in cells] for line in range(high)])
    lines = iter(columns([line for part in parts for line in part], right))
    return [[next(lines) for _ in part] for part in parts]


def terminal_width() -> int | None:
    """Characters in a line of the terminal that is printed to, or as COLUMNS says; None where there is none."""
    return shutil.get_terminal_size((0, 0)).columns or None


def fold(text: str, width: int | None, indent: int = 0) -> list[str]:
    """A text in lines of `width` characters (None: any number), later ones indented; names with - stay whole."""
    if width is None:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=" " * indent, break_on_hyphens=False) or [""]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]


def _pad(row: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if index in right else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
