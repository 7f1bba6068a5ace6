"""What scores may have become on their way into a file: probabilities, rounded, times a number, single ones changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metrics import sigmoid

Scores = NDArray[Any]
DECIMALS = 6  # of the authors' files
FEW = 0.05  # of all values, or of the columns: single ones
APART = 10.0  # times the differences of all others that a single value must have


def _softmax(scores: Scores) -> Scores:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


FORMS: tuple[tuple[str, Callable[[Scores], Scores]], ...] = (
    ("as probabilities, not logits", sigmoid),
    ("as probabilities in percent", lambda s: 100 * sigmoid(s)),
    ("as a softmax over the classes", _softmax),
    ("doubled: the sum of two branches, not their mean", lambda s: 2 * s),
    ("halved: the mean of two branches, not their sum", lambda s: s / 2),
    ("with the opposite sign", lambda s: -s),
)


def fitted(ours: Scores, theirs: Scores) -> Iterator[tuple[str, Scores]]:
    """Forms found from the authors' scores, both (images, classes): fewer decimals, times one number plus another."""
    decimals = next(n for n in range(DECIMALS + 1) if n == DECIMALS or np.array_equal(theirs, theirs.round(n)))
    if decimals < DECIMALS:
        yield f"rounded to {decimals} decimals", ours.round(decimals)
    if ours.std() > 0:
        slope, offset = np.polyfit(ours.ravel(), theirs.ravel(), 1)
        sign = "minus" if offset < 0 else "plus"
        yield f"times {slope:.4f}, {sign} {abs(offset):.4f}", slope * ours + offset


@dataclass(frozen=True)
class Single:
    """A few values that differ where all others agree: places (image, class) from 0, and whether whole columns do."""

    places: NDArray[np.intp]  # (values, 2)
    columns: tuple[int, ...]  # all places are in these, and they differ in nearly every image; else empty


def single_values(ours: Scores, theirs: Scores, tolerance: float) -> Single | None:
    """The values that differ when they are few and stand out; None when the differences are in all of them."""
    difference = np.abs(ours - theirs)
    far = difference > tolerance
    columns = np.flatnonzero(far.any(axis=0))
    whole = len(ours) > 1 and len(columns) <= max(1, FEW * ours.shape[1])
    whole = bool(whole and (far[:, columns].mean(axis=0) > 0.5).all())
    if not far.any() or far.all() or not (whole or far.sum() <= max(1, FEW * far.size)):
        return None
    if difference[far].min() < APART * difference[~far].max():
        return None
    return Single(np.argwhere(far), tuple(columns.tolist()) if whole else ())
