"""The authors' evaluation program: average precision, precision, recall and F1 of multi-label scores.

Paper section 4.1, with the numerical details of the program the authors published (VOC 2012's area under
the interpolated curve; a small constant in every ratio), so that figures agree to the last decimals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prototxt_gen.base.errors import DataError, Problems, UsageError, closest
from prototxt_gen.base.machine import cores

from .evaluation.ranking import Bools, Floats, places_of_positives

EPS = 2.220446049250313e-16  # MATLAB's eps, which the program adds to every count and to recall
THRESHOLD = 0.5
MAX_LISTED = 10
IMAGES = 2048  # in a part: what fits in a core's cache
WORTH_THREADS = 100_000  # scores; starting threads for fewer takes longer than the work

# The values a label may have; 0 is "negative" in the first and "unspecified" in the second.
PROTOCOLS: dict[str, tuple[int, ...]] = {"srn": (0, 1), "wider": (-1, 0, 1)}


def evaluate(
    logits: ArrayLike, labels: ArrayLike, protocol: str = "srn", *, top3_threshold: bool = True
) -> dict[str, Any]:
    """The figures of the paper's tables, as fractions, from logits and labels, both (images, classes).

    Protocol "srn" (NUS-WIDE, MS-COCO) takes labels 0 and 1; "wider" (WIDER-Attribute) takes 1, -1 and
    0 = unspecified, which average precision leaves out and the other figures count as negative.

    Returns per-class float64 arrays "AP", "P_class", "R_class", "F1_class", and floats "mAP", "F1-C",
    "P-C", "R-C", "F1-O", "P-O", "R-O" and the same six with "@3" for each image's three most confident
    labels. With `top3_threshold` those of the three that are not above 0.5 are dropped, as the paper does
    on MS-COCO; pass False for NUS-WIDE, where all three count.

    A class without positives has AP NaN, and so has the mAP, as in the authors' program. Raises DataError
    (shapes, NaN or infinite logits, other label values) and UsageError (unknown protocol).
    """
    scores, truth = checked(logits, labels, protocol)
    confidence, top3, positive = _by_class(scores, truth)
    unspecified = (truth == 0).T if protocol == "wider" else None
    figures: dict[str, Any] = {"AP": _average_precisions(confidence, positive, unspecified)}
    predicted = confidence > THRESHOLD
    per_class, overall = counted(predicted, positive)
    figures.update(zip(("P_class", "R_class", "F1_class"), per_class, strict=True))
    figures["mAP"] = float(figures["AP"].mean())
    figures.update(named(per_class, overall, ""))
    if top3_threshold:
        top3 &= predicted
    figures.update(named(*counted(top3, positive), "@3"))
    return figures


def _by_class(scores: Floats, truth: NDArray[Any]) -> tuple[Floats, Bools, Bools]:
    """Confidences, the three most confident labels and the positives: each (classes, images).

    One class per contiguous row: sorting and counting along it is several times faster.
    """
    confidence, top3, positive = (np.empty(scores.shape[::-1], dtype=kind) for kind in (np.float64, bool, bool))

    def part(first: int) -> None:
        images = slice(first, first + IMAGES)
        found = sigmoid(scores[images])
        confidence[:, images], top3[:, images] = found.T, top_labels(found, 3).T
        positive[:, images] = (truth[images] == 1).T

    in_threads(part, range(0, len(scores), IMAGES), scores.size)
    return confidence, top3, positive


def in_threads(function: Callable[..., Any], items: Iterable[Any], scores: int) -> list[Any]:
    """What a function gives for each item, in order; with as many threads as cores if there are many scores."""
    if scores < WORTH_THREADS:
        return list(map(function, items))
    # Most of the work is done without holding the interpreter's lock; more threads than cores wait for it.
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(function, items))


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + exp(-logit)) in float64; saturates at 0 and 1 without a warning."""
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-logits))


def average_precision(confidence: Floats, positive: Bools) -> float:
    """VOC 2012's average precision of one class; both arguments are (images,); NaN without a positive.

    Equal confidences keep the order of the images.
    """
    place = places_of_positives(confidence, positive)
    # Recall moves at positives only, by 1 / positives, and precision never rises between two of them:
    # the area under the curve made non-increasing from the right is a mean over the positives.
    return float(interpolated(precision_at(place)).mean()) if place.size else float("nan")


def precision_at(place: NDArray[np.intp]) -> Floats:
    """Precision down to each positive, from the places (from 0) of the positives in the sorted list."""
    return np.arange(1, place.size + 1) / (place + 1)


def interpolated(precision: Floats) -> Floats:
    """Each precision raised to the highest one at the same or a higher recall."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def _average_precisions(confidence: Floats, positive: Bools, left_out: Bools | None) -> Floats:
    """The average precision of every class; all arguments are (classes, images)."""
    return np.array(each_class(average_precision, confidence, positive, left_out))


def each_class(
    measure: Callable[[Floats, Bools], Any], confidence: Floats, positive: Bools, left_out: Bools | None
) -> list[Any]:
    """A measure of every class, without the images that are left out of it; all arrays are (classes, images)."""
    classes: Iterable[tuple[Floats, Bools]] = zip(confidence, positive, strict=True)
    if left_out is not None:
        classes = ((c[~out], p[~out]) for (c, p), out in zip(classes, left_out, strict=True))
    return in_threads(lambda one: measure(*one), classes, confidence.size)


def top_labels(confidence: Floats, count: int) -> Bools:
    """Which `count` classes of each image are the most confident; (images, classes) in and out.

    Of equally confident classes the first ones are taken; with fewer classes all are.
    """
    left = confidence.copy()
    chosen = np.zeros(left.shape, dtype=bool)
    image = np.arange(left.shape[0])
    for _ in range(min(count, left.shape[1])):
        best = left.argmax(axis=1)
        chosen[image, best] = True
        left[image, best] = -np.inf
    return chosen


def counted(predicted: Bools, positive: Bools) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
    """Precision, recall and F1 per class and over all image-label pairs; both arguments (classes, images)."""
    # Row by row: with an axis, NumPy first makes integers of all.
    counts = [np.array([np.count_nonzero(row) for row in a]) for a in (predicted & positive, predicted, positive)]
    return precision_recall_f1(*counts), precision_recall_f1(*(count.sum() for count in counts))


def precision_recall_f1(true_positives, predicted, positives) -> tuple[Floats, ...]:
    """Precision, recall and F1 from counts of any shape, with the authors' small constants."""
    found = true_positives + EPS
    precision = found / (predicted + EPS)
    recall = found / (positives + EPS) + EPS
    return precision, recall, 2 * precision * recall / (precision + recall)


def named(per_class: tuple[Floats, ...], overall: tuple[Floats, ...], suffix: str) -> dict[str, float]:
    """Class means ("-C") and overall figures ("-O") under the column names of the paper's tables."""
    named: dict[str, float] = {}
    for kind, values in (("C", per_class), ("O", overall)):
        precision, recall, f1 = (float(np.mean(value)) for value in values)
        named |= {f"F1-{kind}{suffix}": f1, f"P-{kind}{suffix}": precision, f"R-{kind}{suffix}": recall}
    return named


def allowed_labels(protocol: str) -> tuple[int, ...]:
    """The values a label may have in a protocol, "srn" or "wider"; raises UsageError for another."""
    if protocol not in PROTOCOLS:
        raise UsageError(f"there is no evaluation protocol '{protocol}'; {closest(protocol, PROTOCOLS)}")
    return PROTOCOLS[protocol]


def checked(logits: ArrayLike, labels: ArrayLike, protocol: str) -> tuple[Floats, NDArray[Any]]:
    """Logits as float64 and labels, both (images, classes); raises DataError and UsageError as `evaluate` does."""
    allowed = allowed_labels(protocol)
    try:
        scores, truth = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    except (TypeError, ValueError) as cause:
        raise DataError(f"logits and labels must be arrays of numbers: {cause}") from None
    with Problems(DataError) as problems:
        for name, array in (("logits", scores), ("labels", truth)):
            if array.ndim != 2 or not array.size:
                problems.add(f"{name} have the shape {array.shape}", expected="(images, classes), neither 0")
        if not problems.found and scores.shape != truth.shape:
            problems.add(
                f"logits have the shape {scores.shape}, labels {truth.shape}",
                expected="the same images and classes in both",
            )
    with Problems(DataError) as problems:
        _list_cells(problems, "logit", scores, np.isfinite(scores), "a finite number")
        expected = " or ".join(map(str, allowed)) + f" in protocol '{protocol}'"
        good = truth == allowed[0]
        for value in allowed[1:]:
            good |= truth == value
        _list_cells(problems, "label", truth, good, expected)
    return scores, truth


def _list_cells(problems: Problems, name: str, array: NDArray[Any], good: Bools, expected: str) -> None:
    if good.all():
        return
    bad = np.argwhere(~good)
    for row, column in bad[:MAX_LISTED]:
        problems.add(f"{name} {array[row, column]} in row {row + 1}, column {column + 1}", expected=expected)
    if len(bad) > MAX_LISTED:
        problems.add(f"{len(bad) - MAX_LISTED} more such {name}s")
