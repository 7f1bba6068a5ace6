"""Our scores against the authors' own, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metrics import THRESHOLD, sigmoid

# Logits of about 10, written with 6 decimals; float32 sums of a net 101 layers deep in another order differ by
# about 1e-5 of that (verify.parity.net), a GPU's by somewhat more. A wrong channel order moves logits by whole units.
TOLERANCE = 1e-3
WORST = 10  # images listed


@dataclass(frozen=True)
class Agreement:
    """How far the scores of some images are from the authors'; true when every image is within the tolerance.

    One entry per image in `rows` (lines of the list, from 0), `largest` and `mean` (absolute difference of
    logits) and `changed` (labels that are on one side of p = 0.5 for us and on the other for them).
    """

    rows: NDArray[np.intp]
    largest: NDArray[np.float64]
    mean: NDArray[np.float64]
    changed: NDArray[np.int64]
    classes: int
    tolerance: float
    of: int  # images that are evaluated; more than there are rows here when this is a sample

    def __bool__(self) -> bool:
        return len(self.rows) > 0 and not self.differing.any()

    @property
    def differing(self) -> NDArray[np.bool_]:
        """Which images are off by more than the tolerance; NaN is."""
        return ~(self.largest <= self.tolerance)

    @property
    def is_sample(self) -> bool:
        return len(self.rows) < self.of

    def worst(self, count: int = WORST) -> NDArray[np.intp]:
        """Entries of the worst images, the worst first; NaN is the worst of all."""
        return np.argsort(-np.nan_to_num(self.largest, nan=np.inf), kind="stable")[:count]

    def lines(self) -> list[str]:
        """For people: what was compared, and how far apart it is."""
        images, off = len(self.rows), int(self.differing.sum())
        sample = f" (a sample of the {self.of:,})" if self.is_sample else ""
        labels = f"{int(self.changed.sum()):,} of {images * self.classes:,} labels change (p > {THRESHOLD})"
        return [
            f"{images - off:,} of {images:,} images{sample} are within {self.tolerance:g} of the authors' logits",
            f"largest difference {self.largest.max():.1e}, mean {self.mean.mean():.1e}; {labels}",
        ]

    def data(self, names: list[str] | None) -> dict[str, Any]:
        """For JSON; lines are counted from 1, a NaN is null."""
        return {
            "images": len(self.rows),
            "of": self.of,
            "sample": self.is_sample,
            "tolerance": self.tolerance,
            "differing": int(self.differing.sum()),
            "largest": finite(self.largest.max()),
            "mean": finite(self.mean.mean()),
            "labels": len(self.rows) * self.classes,
            "labels_changed": int(self.changed.sum()),
            "agrees": bool(self),
            "worst": [
                {
                    "line": int(self.rows[i]) + 1,
                    "image": names[self.rows[i]] if names else None,
                    "largest": finite(self.largest[i]),
                    "labels_changed": int(self.changed[i]),
                }
                for i in self.worst()
            ],
        }


def agree(ours: NDArray[Any], theirs: NDArray[Any], rows: NDArray[np.intp], tolerance: float, of: int) -> Agreement:
    """Compare logits, both (images, classes), of the images in `rows`; `of` images are evaluated in all."""
    difference = np.abs(np.asarray(ours, np.float64) - theirs)
    changed = (sigmoid(np.asarray(ours, np.float64)) > THRESHOLD) != (sigmoid(theirs) > THRESHOLD)
    return Agreement(
        rows, difference.max(axis=1), difference.mean(axis=1), changed.sum(axis=1), ours.shape[1], tolerance, of
    )


def six_decimals(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Scores as they stand in the authors' files: the figures are those that written scores give."""
    return np.asarray(scores, np.float64).round(6)


def finite(value: float) -> float | None:
    """A figure for JSON, which knows neither NaN nor infinity."""
    return float(value) if np.isfinite(value) else None
