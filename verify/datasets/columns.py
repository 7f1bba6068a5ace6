"""Whether the label columns of two matrices are the same ones in another order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Order:
    """Their column j is our column `ours[j]`; `exact`: every value agrees then; `unique`: in no other order."""

    ours: tuple[int, ...]
    exact: bool
    unique: bool

    @property
    def identity(self) -> bool:
        return self.ours == tuple(range(len(self.ours)))


def column_order(ours: NDArray[Any], theirs: NDArray[Any]) -> Order:
    """How columns of `theirs` stand to those of `ours`, both (images, classes) with the same rows.

    Where the columns as they stand differ and no order makes them equal, the order with the fewest differing values
    is given, but only when it halves the differing values of the columns that it moves: rows of other images fit some
    order a little better than their own by chance.
    """
    count = ours.shape[1]
    unchanged = tuple(range(count))
    places: dict[bytes, list[int]] = defaultdict(list)
    for column in range(count):
        places[np.ascontiguousarray(ours[:, column]).tobytes()].append(column)
    unique = all(len(same) == 1 for same in places.values())
    if np.array_equal(ours, theirs):
        return Order(unchanged, True, unique)
    found: list[int] = []
    for column in range(count):
        same = places.get(np.ascontiguousarray(theirs[:, column]).tobytes())
        if not same:
            break
        found.append(column if column in same else same[0])
        same.remove(found[-1])
    if len(found) == count:
        return Order(tuple(found), True, unique)
    return Order(_nearest(ours, theirs), False, True)


def _nearest(ours: NDArray[Any], theirs: NDArray[Any]) -> tuple[int, ...]:
    """The order of columns with the fewest differing values; as they stand when that is not far worse."""
    from scipy.optimize import linear_sum_assignment

    rows = len(ours)
    equal = np.zeros((ours.shape[1], ours.shape[1]))
    for value in np.unique(np.concatenate([np.unique(ours), np.unique(theirs)])):
        equal += (theirs == value).T.astype(np.float32) @ (ours == value).astype(np.float32)
    different = rows - equal  # their column x our column
    _, best = linear_sum_assignment(different)
    unchanged = np.arange(len(best))
    moved = best != unchanged
    better = 2 * different[unchanged, best][moved].sum() < different[unchanged, unchanged][moved].sum()
    return tuple((best if better else unchanged).tolist())
