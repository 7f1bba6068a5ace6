"""Whether scores are those of other lines or other columns of the authors' file: matching on a sample."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .faults import some

NEARLY = 0.9  # the last lines of a shifted file may have gone to its top
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Order:
    """Where the scores of some images stand in the authors' file.

    `lines` are the images' lines in the list, `found` those in the file, both from 0; -1 where none is equal.
    """

    lines: Rows
    found: Rows

    @property
    def moved(self) -> int:
        """Images whose scores stand in another line."""
        return int(((self.found >= 0) & (self.found != self.lines)).sum())

    @property
    def shift(self) -> int:
        """By how many lines nearly all of them are moved; 0 when that is not the same for them."""
        moves = Counter((self.found - self.lines)[self.found >= 0].tolist())
        (most, count), *_ = moves.most_common(1) or [(0, 0)]
        return most if count > 1 and count >= NEARLY * moves.total() else 0

    def evidence(self, names: list[str]) -> list[str]:
        """Pairs of lines, and what the order may be."""
        pairs = [(a, b) for a, b in zip(self.lines, self.found, strict=True) if b >= 0 and a != b]
        lines = [f"line {a + 1} of the list ({names[a]}) has the scores of row {b + 1}" for a, b in pairs]
        said = some(lines)
        if self.shift:
            said.append(f"they stand {shifted(self.shift)}")
        rank = {int(line): place for place, line in enumerate(np.argsort(names, kind="stable"))}
        if len(pairs) > 1 and all(rank[int(a)] == b for a, b in pairs):
            said.append("the list sorted by name is in the order of the predictions")
        return said


def shifted(lines: int) -> str:
    """A shift by so many lines, in words."""
    return f"{abs(lines)} line{'s' * (abs(lines) > 1)} further {'down' if lines > 0 else 'up'}"


def match_rows(ours: NDArray[Any], theirs: NDArray[Any], lines: Rows, tolerance: float) -> Order:
    """The line of `theirs` (all of them, (lines, classes)) that each of our rows equals; its own one if that does."""
    found = np.full(len(lines), -1, np.intp)
    for i, (row, own) in enumerate(zip(ours, lines, strict=True)):
        # most lines differ already in their first columns
        near = np.flatnonzero((np.abs(theirs[:, :4] - row[:4]) <= tolerance).all(axis=1))
        far = np.abs(theirs[near] - row).max(axis=1, initial=0)
        equal = near[far <= tolerance]
        if own in equal:
            found[i] = own
        elif equal.size:
            found[i] = near[far.argmin()]
    return Order(lines, found)


def match_columns(ours: NDArray[Any], theirs: NDArray[Any], tolerance: float) -> Rows | None:
    """For each of our columns the column of theirs that it equals; None unless that is another order of all."""
    order = [int(np.abs(theirs - column[:, None]).max(axis=0).argmin()) for column in ours.T]
    if order == list(range(ours.shape[1])) or len(set(order)) < len(order):
        return None
    equal = np.abs(theirs[:, order] - ours) <= tolerance
    return np.array(order, np.intp) if equal.all() else None


def say_columns(order: Rows, ours: str, theirs: str) -> list[str]:
    """The columns that stand elsewhere, from 1."""
    return some([f"column {i + 1} of {ours} is column {j + 1} of {theirs}" for i, j in enumerate(order) if i != j])
