"""Which part of an image a training crop may be: the fork's lists of sizes and offsets, and how one is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

Pair = tuple[int, int]

RATIOS = (1.0, 0.875, 0.75, 0.66)  # the fork's README says .65, its code .66
SNAP = 3  # a crop size that differs from crop_size by less than this becomes crop_size

# original_image: shares of the area, aspect ratios (width / height), attempts to draw a window that fits.
AREA, ASPECT, ATTEMPTS = (0.08, 1.0), (0.75, 1.33), 10
_STEPS = 64  # midpoints per pixel when the probability of a window's size is integrated


class Window(NamedTuple):
    """A part of an image, in pixels: its first row and column, its height and width."""

    row: int
    column: int
    height: int
    width: int


def crop_sizes(height: int, width: int, crop: int, ratios: Sequence[float] = (), max_distort: int = 1) -> list[Pair]:
    """The (height, width) of `multi_scale` crops in Caffe's order, duplicates kept; semantics 5.8.

    `max_distort` is a distance between places in the list of ratios, not between ratios.
    """
    base = np.float32(min(height, width))
    sizes = [int(base * np.float32(ratio)) for ratio in (ratios or RATIOS)]
    sizes = [crop if abs(size - crop) < SNAP else size for size in sizes]
    places = range(len(sizes))
    return [(sizes[i], sizes[j]) for i in places for j in places if abs(i - j) <= max_distort]


def fixed_offsets(height: int, width: int, size: Pair, more: bool = False) -> list[Pair]:
    """The (row, column) of `fix_crop`: 5, or 13 with `more_fix_crop`, in Caffe's order; semantics 5.8."""
    a, b = (height - size[0]) // 4, (width - size[1]) // 4
    corners = [(0, 0), (0, 4 * b), (4 * a, 0), (4 * a, 4 * b), (2 * a, 2 * b)]
    edges = [(0, 2 * b), (4 * a, 2 * b), (2 * a, 0), (2 * a, 4 * b)]
    quarters = [(a, b), (a, 3 * b), (3 * a, b), (3 * a, 3 * b)]
    return corners + edges + quarters if more else corners


def all_offsets(height: int, width: int, size: Pair) -> list[Pair]:
    """Every (row, column) at which a crop lies inside the image, row by row."""
    return [(r, c) for r in range(height - size[0] + 1) for c in range(width - size[1] + 1)]


def centre(height: int, width: int, crop: int) -> Window:
    """The crop of the TEST phase."""
    return Window((height - crop) // 2, (width - crop) // 2, crop, crop)


def original_centre(height: int, width: int) -> Window:
    """The window of `original_image` in TEST phase, a little off the centre; semantics 5.8."""
    return Window(height // 14, width // 14, *_fallback(height, width))


def draw_original(height: int, width: int, rng: np.random.Generator) -> Window:
    """A training window of `original_image`: a random area and aspect ratio, uniform in both; semantics 5.8."""
    for _ in range(ATTEMPTS):
        area, aspect = rng.uniform(*AREA) * height * width, rng.uniform(*ASPECT)
        size = int(np.sqrt(area / aspect)), int(np.sqrt(area * aspect))
        if size[0] <= height and size[1] <= width:
            break
    else:
        size = _fallback(height, width)
    row = int(rng.integers(height - size[0])) if size[0] < height else 0
    column = int(rng.integers(width - size[1])) if size[1] < width else 0
    return Window(row, column, *size)


def original_windows(height: int, width: int) -> Iterator[tuple[Window, float]]:
    """Every training window of `original_image`, each with its probability."""
    fits = _size_probabilities(height, width)
    miss = 1 - fits.sum()
    chances = fits * sum(miss**i for i in range(ATTEMPTS))
    chances[_fallback(height, width)] += miss**ATTEMPTS
    for h, w in np.argwhere(chances > 0).tolist():
        rows, columns = max(height - h, 1), max(width - w, 1)  # the last position is never used
        for row in range(rows):
            for column in range(columns):
                yield Window(row, column, h, w), float(chances[h, w]) / (rows * columns)


def _fallback(height: int, width: int) -> Pair:
    return height // 8 * 7, width // 8 * 7


def _size_probabilities(height: int, width: int) -> np.ndarray:
    """The probability that one attempt gives h x w, (height + 1, width + 1); sizes that do not fit left out.

    In terms of the exact extents a = sqrt(area / aspect) and b = sqrt(area * aspect) the density is
    2b / (a * height * width), within the limits of area and aspect: integrated over a in closed form and over
    b by midpoints.
    """
    total = height * width
    h = np.arange(height + 1, dtype=np.float64)[:, None, None]
    b = (np.arange(width + 1)[:, None] + (np.arange(_STEPS) + 0.5) / _STEPS)[None]
    low = np.maximum(np.maximum(h, b / ASPECT[1]), AREA[0] * total / b)
    high = np.minimum(np.minimum(h + 1, b / ASPECT[0]), AREA[1] * total / b)
    inside = np.where(high > low, np.log(np.maximum(high, low) / low), 0)
    spread = (AREA[1] - AREA[0]) * (ASPECT[1] - ASPECT[0])
    return (2 * b * inside / total).mean(axis=2) / spread
