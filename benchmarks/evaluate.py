"""The benchmark of the evaluation: as many scores as the paper's test set of MS-COCO has."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from verify.metrics import evaluate

from .rows import Nets, Row

IMAGES, CLASSES = 40_504, 80
POSITIVE = 0.036  # of the labels: 2.9 an image, as in MS-COCO
TARGET = 100.0  # ms


def evaluating(nets: Nets, repeats: int) -> Iterator[Row]:
    """All figures of one scores file that is in memory: scores that all differ, and rounded ones with many ties."""
    rng = np.random.default_rng(7)
    labels = (rng.random((IMAGES, CLASSES)) < POSITIVE).astype(np.int8)
    distinct = rng.normal(-3.0, 2.0, labels.shape) + 3.0 * labels
    for what, logits in (("logits that differ", distinct), ("logits of two decimals", np.round(distinct, 2))):
        evaluate(logits, labels)  # imports, and the first threads
        samples = []
        for _ in range(4 * repeats):
            start = time.perf_counter()
            evaluate(logits, labels)
            samples.append(1e3 * (time.perf_counter() - start))
        yield Row(f"evaluate 40,504 x 80, {what}", "", "ms", samples, TARGET)
