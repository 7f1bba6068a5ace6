"""How far the figures depend on which images were drawn: 95 % bootstrap intervals over the test images.

Each resample draws as many images as there are, with replacement, and is evaluated as `metrics.evaluate` would.
An image drawn twice is two equal images side by side, so nothing is sorted again: it only weighs twice on the
sorted list. The figures are exactly those of `evaluate` on the drawn rows in their original order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from prototxt_gen.base.errors import UsageError

from ..metrics import THRESHOLD, checked, each_class, interpolated, named, precision_recall_f1, sigmoid, top_labels
from .ranking import Bools, Floats, stable_descending

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0
_CHUNK = 32  # resamples counted by one matrix product


@dataclass(frozen=True)
class Intervals:
    """Percentile intervals (column -> low, high; fractions), and how they were drawn."""

    figures: dict[str, tuple[float, float]]
    resamples: int
    seed: int
    images: int
    incomplete: int  # resamples in which a class that has positives drew none

    def __str__(self) -> str:
        drawn = f"{self.resamples:,} resamples of {self.images:,} images, seed {self.seed}"
        note = f"{LEVEL:.0%} percentile intervals of {drawn}".replace("%", " %")
        if self.incomplete:
            note += f"; in {self.incomplete:,} a class drew no positive and is left out of the mAP"
        return note


@dataclass(frozen=True)
class _Sorted:
    """One class: its images by descending confidence down to the last positive, and where the positives are."""

    order: NDArray[np.intp]
    place: NDArray[np.intp]

    @cached_property
    def after(self) -> NDArray[np.intp]:
        """Where the images begin that each positive ends: after the positive before it."""
        return np.concatenate(([0], self.place[:-1] + 1))


def bootstrap(
    logits: ArrayLike,
    labels: ArrayLike,
    protocol: str = "srn",
    *,
    top3_threshold: bool = True,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Intervals:
    """Intervals of every figure of the tables for logits and labels, both (images, classes).

    The mAP is NaN where the authors' is, for a class without a positive; a class that only loses its positives
    in a resample is left out of that mean, and counted. Shows progress on a terminal. Raises DataError as
    `evaluate` does, UsageError for less than 2 resamples or a negative seed.
    """
    check_drawing(resamples, seed)
    scores, truth = checked(logits, labels, protocol)
    confidence, positive = sigmoid(scores), truth == 1
    classes = _sort(confidence, positive, truth == 0 if protocol == "wider" else None)
    predicted, top3 = confidence > THRESHOLD, top_labels(confidence, 3)
    if top3_threshold:
        top3 &= predicted
    counter = _Counter(predicted, top3, positive)
    random = np.random.default_rng(seed)
    images = len(scores)
    drawn: list[dict[str, float]] = []
    incomplete = 0
    with tqdm(total=resamples, unit="resample", disable=None) as progress:
        while len(drawn) < resamples:
            chunk = min(_CHUNK, resamples - len(drawn))
            weights = np.stack([_draw(random, images) for _ in range(chunk)])
            for weight, figures in zip(weights, counter.figures(weights), strict=True):
                found = np.array([_average_precision(each, weight) for each in classes])
                missing = np.isnan(found)
                lost = missing & np.array([each.place.size > 0 for each in classes])
                incomplete += bool(lost.any())
                drawn.append(figures | {"mAP": float(found[~lost].mean()) if not lost.all() else float("nan")})
            progress.update(chunk)
    return Intervals(_percentiles(drawn), resamples, seed, images, incomplete)


def check_drawing(resamples: int, seed: int) -> None:
    """Raises UsageError for less than 2 resamples or a negative seed."""
    if resamples < 2 or seed < 0:
        raise UsageError(f"{resamples} resamples, seed {seed}; expected 2 or more, and a seed of 0 or more")


def _draw(random: np.random.Generator, images: int) -> NDArray[Any]:
    """How often each image is drawn."""
    return np.bincount(random.integers(0, images, images), minlength=images)


def _sort(confidence: Floats, positive: Bools, left_out: Bools | None) -> list[_Sorted]:
    def one(column: Floats, truth: Bools) -> tuple[Any, Any]:
        order = stable_descending(column)
        place = np.flatnonzero(truth[order])
        return order[: place[-1] + 1 if place.size else 0], place

    found = each_class(one, confidence.T.copy(), positive.T.copy(), None if left_out is None else left_out.T)
    if left_out is None:
        return [_Sorted(*each) for each in found]
    kept = [np.flatnonzero(~column) for column in left_out.T]
    return [_Sorted(rows[order], place) for rows, (order, place) in zip(kept, found, strict=True)]


def _average_precision(one: _Sorted, weight: NDArray[Any]) -> float:
    """Average precision of a class when each image counts `weight` times (VOC 2012, as the authors).

    Among the copies of a positive the last has the highest precision, so the interpolated curve is level over
    all of them.
    """
    along = weight.take(one.order)
    copies = along[one.place]
    found = np.cumsum(copies)
    if not found.size or not found[-1]:
        return float("nan")
    down_to = np.cumsum(np.add.reduceat(along, one.after))  # images down to each positive
    precision = found / np.maximum(down_to, 1)
    return float((interpolated(precision) * copies).sum() / found[-1])


class _Counter:
    """Counts of true positives, predictions and positives of many resamples, by matrix products."""

    def __init__(self, predicted: Bools, top3: Bools, positive: Bools):
        # Sums are at most the number of images: below 2**24, float32 counts exactly.
        self.type: type[np.floating[Any]] = np.float32 if len(predicted) < 2**24 else np.float64
        parts = (positive, predicted, predicted & positive, top3, top3 & positive)
        self.marks = np.concatenate(parts, axis=1).astype(self.type)

    def figures(self, weights: NDArray[Any]) -> list[dict[str, float]]:
        """The columns but the mAP, for each row of (resamples, images) weights."""
        counts = np.matmul(weights.astype(self.type), self.marks).astype(np.float64)
        return [self._figures(*np.split(row, 5)) for row in counts]

    @staticmethod
    def _figures(positives: Floats, predicted: Floats, found: Floats, top3: Floats, found3: Floats) -> dict[str, float]:
        figures: dict[str, float] = {}
        for suffix, counts in (("", (found, predicted, positives)), ("@3", (found3, top3, positives))):
            overall = precision_recall_f1(*(count.sum() for count in counts))
            figures |= named(precision_recall_f1(*counts), overall, suffix)
        return figures


def _percentiles(drawn: Sequence[dict[str, float]]) -> dict[str, tuple[float, float]]:
    tail = 100 * (1 - LEVEL) / 2
    bounds = {}
    for column in drawn[0]:
        low, high = np.percentile([figures[column] for figures in drawn], (tail, 100 - tail))
        bounds[column] = (float(low), float(high))
    return bounds
