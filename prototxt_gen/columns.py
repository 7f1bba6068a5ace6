"""Tables for a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

GAP = 2  # blanks between columns
FIRST, OTHERS = 4, 2  # by how much the lines of a folded cell are indented, in the first column and in others


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Rows of cells as aligned lines; the columns in `right` are flushed right."""
    widths = _widths(rows)
    return [(" " * GAP).join(_pad(row, widths, right)).rstrip() for row in rows]


def folded(rows: Sequence[Sequence[str]], right: Sequence[int], width: int | None) -> list[str]:
    """The same in `width` characters (None: any number): columns not in `right` are folded where it takes that.

    The wider of them gives way first, and none to less than its longest word.
    """
    widths = _widths(rows)
    indents = {index: OTHERS if index else FIRST for index in range(len(widths)) if index not in right}
    least = {
        i: indent + max(len(word) for row in rows for word in [*row[i].split(), ""]) for i, indent in indents.items()
    }
    while width and sum(widths) + GAP * (len(widths) - 1) > width:
        widest = max((i for i in indents if widths[i] > least[i]), key=lambda i: widths[i], default=None)
        if widest is None:
            break
        widths[widest] -= 1
    lines = []
    for row in rows:
        cells = [fold(cell, widths[i], indents[i]) if i in indents else [cell] for i, cell in enumerate(row)]
        high = max(map(len, cells))
        lines += [[cell[line] if line < len(cell) else "" for cell in cells] for line in range(high)]
    return columns(lines, right)


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
