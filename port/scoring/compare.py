"""How much another way to resize changes: grey levels and scores of a few images, beside the authors' way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prototxt_gen.base.errors import DataError

from ..images import AUTHORS
from .compute import loader
from .engines import Engine

SAMPLE = 8


def difference(engine: Engine, images: Sequence[Path], resize: str, mean: Sequence[float]) -> str:
    """One sentence: the largest and mean differences of a sample of the images, spread over the list."""
    blocks: dict[str, list[np.ndarray]] = {AUTHORS: [], resize: []}
    places = np.unique(np.linspace(0, len(images) - 1, min(SAMPLE, len(images), engine.batch or SAMPLE)).astype(int))
    for place in places:
        try:
            loaded = {way: loader(engine, mean, way)(images[place]) for way in blocks}
        except DataError:
            continue  # said at the end
        for way, image in loaded.items():
            blocks[way].append(image)
    count = len(blocks[resize])
    if not count:
        return f"--resize {resize}: none of {len(places)} sample images can be read"
    rows = engine.batch or count
    filled = {way: np.zeros((rows, *block[0].shape), np.float32) for way, block in blocks.items()}
    with engine.using():
        scores = {}
        for way, block in filled.items():
            block[:count] = blocks[way]
            scores[way] = engine.run(block)[:count].copy()
    grey, logit = (np.abs(pair[AUTHORS] - pair[resize]) for pair in (filled, scores))
    return (
        f"--resize {resize} differs from the authors' way, on {count} images: by up to {grey.max():.1f} grey levels "
        f"(mean {grey[:count].mean():.2f}) and up to {logit.max():.4f} in a score (mean {logit.mean():.4f})"
    )
