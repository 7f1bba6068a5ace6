"""What other papers and libraries would report for the same scores: the same names, other definitions.

`metrics.evaluate` is the authors' program; nothing here takes part in reproducing the paper's tables. Figures of
later papers are often by one of these definitions, so they are worth a look before two figures are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import metrics
from ..metrics import THRESHOLD, checked, counted, each_class, named, sigmoid, top_labels
from .ranking import Bools, Floats, stable_descending

ASL_THRESHOLD = 0.8  # of the probability; the default of the option --thre in ASL's scripts and their descendants
VOC2007_POINTS, COCO_POINTS = 10, 100  # recall steps: 0, 0.1, ... and 0, 0.01, ...


@dataclass(frozen=True)
class Definition:
    """One way to compute some figures: who uses it, and what it gives (column -> fraction); `key` is stable."""

    key: str
    text: str
    used_by: str
    figures: dict[str, float]
    authors: bool = False  # whether the paper's table is computed so


def by_definition(
    logits: ArrayLike, labels: ArrayLike, protocol: str = "srn", *, top3_threshold: bool = True
) -> list[Definition]:
    """Every definition's figures for logits and labels, both (images, classes); raises as `metrics.evaluate`.

    `top3_threshold` says which of the two top-3 rules is the authors' on this data set.
    """
    scores, truth = checked(logits, labels, protocol)
    confidence = sigmoid(scores)
    top3 = top_labels(confidence, 3)
    positive = truth == 1
    left_out = (truth == 0).T if protocol == "wider" else None
    by_class = (np.ascontiguousarray(confidence.T), np.ascontiguousarray(positive.T), left_out)
    return [
        *_average_precisions(np.array(each_class(average_precisions, *by_class))),
        *_thresholds(confidence, positive),
        *_top3(top3, confidence > THRESHOLD, positive, top3_threshold),
        _per_image(confidence > THRESHOLD, positive),
    ]


# -- average precision --------------------------------------------------------------------------------------
TIES_TOGETHER = "ap.ties_together"
_AP = (
    ("ap.voc2012", "area under the interpolated curve", "the authors; VOC 2010 to 2012; mmpretrain"),
    ("ap.not_interpolated", "mean of the precision at each positive", "TREC; ML-GCN and most of its successors"),
    (
        TIES_TOGETHER,
        "the same, equal scores as one step; a class without a positive counts 0",
        "scikit-learn; torchmetrics",
    ),
    ("ap.coco_101", "interpolated precision at recall 0, 0.01, ... 1", "MS-COCO's detection metric"),
    ("ap.voc2007_11", "interpolated precision at recall 0, 0.1, ... 1", "VOC 2007"),
)


def average_precisions(confidence: Floats, positive: Bools) -> tuple[float, ...]:
    """One class by every definition of `_AP`, in its order; arguments (images,); NaN without a positive.

    Whether a recall k / positives reaches a step of 1 / 10 or 1 / 100 is decided in whole numbers; pycocotools
    compares rounded floats, which can take the next positive at a step.
    """
    order = stable_descending(confidence)
    place = np.flatnonzero(positive[order])
    if not place.size:
        return (float("nan"),) * len(_AP)
    precision = metrics.precision_at(place)
    highest = metrics.interpolated(precision)
    ordered = -confidence[order]
    # Down to the last of the images that are tied with each positive, itself included.
    end = np.searchsorted(ordered, ordered[place], side="right")
    tied = np.searchsorted(place, end, side="left") / end
    at_steps = [highest[_first_at_recall(steps, place.size)].mean() for steps in (COCO_POINTS, VOC2007_POINTS)]
    return tuple(float(value) for value in (highest.mean(), precision.mean(), tied.mean(), *at_steps))


def _first_at_recall(steps: int, positives: int) -> Any:
    """For recall 0, 1 / steps, ... 1: which positive (from 0) is the first to reach it."""
    needed = -(-np.arange(steps + 1) * positives // steps)  # rounded up
    return np.maximum(needed, 1) - 1


def _average_precisions(values: Floats) -> list[Definition]:
    """The mean over classes of (classes, definitions) values, and what becomes of classes without positives."""
    rows = [
        Definition(key, text, by, {"mAP": _mean(key, column)}, authors=key == "ap.voc2012")
        for (key, text, by), column in zip(_AP, values.T, strict=True)
    ]
    authors = values[:, 0]
    empty = np.isnan(authors)
    some = float(authors[~empty].mean()) if not empty.all() else float("nan")
    about = f"; {empty.sum()} such classes here"
    rows.append(
        Definition(
            "ap.voc2012.empty_left_out",
            f"as the authors, classes without a positive left out{about}",
            "a variant; no library prints it",
            {"mAP": some},
        )
    )
    zero = float(np.where(empty, 0, authors).mean())
    text = f"as the authors, classes without a positive count 0{about}"
    return [*rows, Definition("ap.voc2012.empty_zero", text, "a variant; no library prints it", {"mAP": zero})]


def _mean(key: str, column: Floats) -> float:
    """The mean over classes as those who use a definition take it: libraries count a class without a positive as 0."""
    return float((np.nan_to_num(column) if key == TIES_TOGETHER else column).mean())


# -- precision, recall, F1 ----------------------------------------------------------------------------------
def _thresholds(confidence: Floats, positive: Bools) -> list[Definition]:
    """Precision, recall and F1 of all labels above a threshold; both arguments (images, classes)."""
    counts = _counts(confidence > THRESHOLD, positive)
    authors = _by_the_authors(confidence > THRESHOLD, positive)
    harmonic = authors | {"F1-C": _harmonic(authors["P-C"], authors["R-C"])}
    never = f"{(counts[1] == 0).sum()} such classes here"
    return [
        Definition(
            "all.authors",
            "p > 0.5; F1-C the mean over classes; P = 1 for a class never predicted",
            "the authors",
            authors,
            authors=True,
        ),
        Definition("all.harmonic", "as the authors, F1-C from P-C and R-C", "WARP and CNN-RNN as quoted", harmonic),
        Definition(
            "all.never_zero",
            f"P = 0 for a class never predicted; F1-C the mean over classes; {never}",
            "scikit-learn, zero_division=0",
            _plain(*counts, never=0.0, harmonic=False),
        ),
        Definition(
            "all.never_left_out",
            f"a class never predicted left out of P-C; F1-C from P-C and R-C; {never}",
            "a variant of the next",
            _plain(*counts, never=float("nan"), harmonic=True),
        ),
        Definition(
            "all.ml_gcn",
            "p >= 0.5; P = 0 for a class never predicted; F1-C from P-C and R-C",
            "ML-GCN and most of its successors",
            _plain(*_counts(confidence >= THRESHOLD, positive), never=0.0, harmonic=True),
        ),
        Definition(
            "all.above_0.8",
            f"as the authors, but p > {ASL_THRESHOLD}",
            "ASL's scripts and their descendants (--thre)",
            _by_the_authors(confidence > ASL_THRESHOLD, positive),
        ),
    ]


def _top3(top3: Bools, predicted: Bools, positive: Bools, threshold: bool) -> list[Definition]:
    above, without = _by_the_authors(top3 & predicted, positive, "@3"), _by_the_authors(top3, positive, "@3")
    return [
        Definition("top3.above_0.5", "those of the top 3 with p > 0.5", "the authors on MS-COCO", above, threshold),
        Definition("top3.all", "all of the top 3", "the authors on NUS-WIDE; WARP, CNN-RNN", without, not threshold),
    ]


def _per_image(predicted: Bools, positive: Bools) -> Definition:
    """Precision, recall and F1 of each image, then their mean: what a port gets that sums the wrong axis."""
    found, chosen, wanted = _counts(predicted.T, positive.T)
    ratios = {
        "F1": _ratio(2 * found, chosen + wanted, 0.0),
        "P": _ratio(found, chosen, 0.0),
        "R": _ratio(found, wanted, 0.0),
    }
    means = {f"{name} per image": float(value.mean()) for name, value in ratios.items()}
    used_by = "scikit-learn's 'samples'; a port that sums along the other axis"
    return Definition("image.mean", "p > 0.5; per image, then the mean", used_by, means)


def _counts(predicted: Bools, positive: Bools) -> tuple[Any, Any, Any]:
    """Per class: true positives, predicted, positives; both arguments (images, classes)."""
    return tuple(np.count_nonzero(a, axis=0) for a in (predicted & positive, predicted, positive))  # type: ignore


def _by_the_authors(predicted: Bools, positive: Bools, suffix: str = "") -> dict[str, float]:
    return named(*counted(predicted.T, positive.T), suffix)


def _plain(found: Any, predicted: Any, positives: Any, *, never: float, harmonic: bool) -> dict[str, float]:
    """The six figures without small constants; `never` is the precision of a class that is never predicted."""
    precision, recall = _ratio(found, predicted, never), _ratio(found, positives, 0.0)
    mean_precision = float(np.nanmean(precision)) if not np.isnan(precision).all() else float("nan")
    mean_recall = float(recall.mean())
    f1 = float(_ratio(2 * found, predicted + positives, 0.0).mean())
    overall = [float(_ratio(a.sum(), b.sum(), 0.0)) for a, b in ((found, predicted), (found, positives))]
    return {
        "F1-C": _harmonic(mean_precision, mean_recall) if harmonic else f1,
        "P-C": mean_precision,
        "R-C": mean_recall,
        "F1-O": _harmonic(*overall),
        "P-O": overall[0],
        "R-O": overall[1],
    }


def _ratio(part: Any, whole: Any, empty: float) -> Any:
    """part / whole, and `empty` where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), empty)


def _harmonic(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second else 0.0


def grouped(definitions: Sequence[Definition]) -> list[list[Definition]]:
    """Definitions that give the same columns, together, in order."""
    groups: dict[tuple[str, ...], list[Definition]] = {}
    for each in definitions:
        groups.setdefault(tuple(each.figures), []).append(each)
    return list(groups.values())
