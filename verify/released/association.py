"""Whether labels go with scores: by line, and by column. No scores are recomputed here.

True labels go with a net's scores far better than the same labels in another order do; how much better than
chance is measured by putting them in random orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ORDERS = 40  # random orders that stand for chance
CLEAR, NONE = 8.0, 4.0  # deviations above chance: surely together, surely not
SHIFTS = (-3, -2, -1, 1, 2, 3)
OWN = 2.0  # of 1 / sqrt(images), a correlation by chance: what the own column of a moved one may have


@dataclass(frozen=True)
class Association:
    """How labels go with scores; `deviations` above chance, line by line as the files stand."""

    deviations: float
    shift: int  # lines by which the labels must be moved up to go with the scores; 0: none helps
    columns: tuple[tuple[int, int], ...]  # (column of the labels, column of the scores that it goes with), from 0

    @property
    def clear(self) -> bool:
        return self.deviations >= CLEAR

    @property
    def opposite(self) -> bool:
        """Whether they go against each other: what is 1 in the labels has low scores."""
        return self.deviations <= -CLEAR

    @property
    def absent(self) -> bool:
        return self.deviations < NONE


def associate(scores: NDArray[Any], labels: NDArray[Any]) -> Association | None:
    """How labels go with scores, both (images, classes); None when there are too few images to tell."""
    if len(scores) < 10:
        return None
    s, y = _standard(scores), _standard(labels == 1)
    random = np.random.RandomState(0)
    by_chance = np.array([(s * y[random.permutation(len(y))]).sum() for _ in range(ORDERS)])
    middle, deviation = by_chance.mean(), by_chance.std() or 1.0

    def above(shift: int) -> float:
        return float(((s * np.roll(y, -shift, axis=0)).sum() - middle) / deviation)

    own = above(0)
    best = max(SHIFTS, key=above) if own < NONE else 0
    columns = () if own <= -CLEAR else _moved(s, y, random)
    return Association(own, best if best and above(best) >= CLEAR else 0, columns)


def _standard(values: NDArray[Any]) -> Floats:
    """Columns with mean 0 and deviation 1; a constant one is 0."""
    values = values - values.mean(axis=0, dtype=np.float64)
    deviation = values.std(axis=0)
    return values / np.where(deviation == 0, 1, deviation)


def _moved(scores: Floats, labels: Floats, random: np.random.RandomState) -> tuple[tuple[int, int], ...]:
    """Columns of the labels that do not go with their own column of the scores but with another one.

    Better than any of these columns does by chance: the most that the labels reach in random orders.
    """
    from scipy.optimize import linear_sum_assignment

    count = len(scores)
    correlation = labels.T @ scores / count
    poor = np.flatnonzero(np.diag(correlation) < OWN / np.sqrt(count))
    if len(poor) < 2:
        return ()
    orders = (random.permutation(count) for _ in range(ORDERS))
    chance = max(float((labels[order][:, poor].T @ scores[:, poor]).max()) for order in orders) / count
    among = correlation[np.ix_(poor, poor)]
    pairs = zip(*linear_sum_assignment(-among), strict=True)
    moved = [(int(poor[i]), int(poor[j])) for i, j in pairs if i != j and among[i, j] > chance]
    return tuple(moved) if len(moved) > 1 else ()
