"""Backgrounds and patterns: drawn by lot, in integers, the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]

PATTERNS = ("plain", "plain", "stripes", "speckles", "shade")  # one of them is drawn

_STEPS = np.arange(128)[:, None]
GRAIN = 40  # cells along the side of the fine noise that every background has


def background(
    texture: str, colors: Sequence[Sequence[int]], random: np.random.RandomState, size: int
) -> NDArray[np.uint8]:
    """A texture between three colours, uint8 (size, size, 3)."""
    grain = _noise(random, GRAIN, size)
    tones = cv2.addWeighted(_TEXTURES[texture](random, size), 0.75, grain, 0.25, 0)
    return colored(tones, palette(colors))


def colored(tones: Grey, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tones, (height, width), looked up in a palette: (height, width, 3)."""
    return cv2.LUT(cv2.merge([tones, tones, tones]), table)


def palette(colors: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """256 colours, (1, 256, 3), from the first of three to the last."""
    first, middle, last = np.array(colors, np.int64)
    halves = [(a * (127 - _STEPS) + b * _STEPS) // 127 for a, b in ((first, middle), (middle, last))]
    return np.concatenate(halves)[None].astype(np.uint8)


@cache
def pattern(name: str, size: int) -> Grey:
    """What fills things, over a whole picture, (size, size)."""
    y, x = np.mgrid[:size, :size] * 1024 // size
    if name == "stripes":
        return ((x + y) // 18 % 2 * 255).astype(np.uint8)
    if name == "speckles":
        return np.random.RandomState(1).randint(0, 256, (128, 128)).astype(np.uint8)[y // 8, x // 8]
    return (np.minimum(y % 256, 255 - y % 256) * 2).astype(np.uint8)


def _noise(random: np.random.RandomState, cells: int, size: int) -> Grey:
    """Smooth noise with so many cells along the side."""
    grid = np.frombuffer(random.bytes(cells * cells), np.uint8).reshape(cells, cells)
    return cv2.resize(grid, (size, size), interpolation=cv2.INTER_LINEAR_EXACT)


def _clouds(random: np.random.RandomState, size: int) -> Grey:
    coarse, fine = _noise(random, 4, size), _noise(random, 11, size)
    return cv2.addWeighted(coarse, 0.625, fine, 0.375, 0)


def _waves(random: np.random.RandomState, size: int) -> Grey:
    """Stripes in any direction, bent by coarse noise."""
    across, down = (int(v) for v in random.randint(-9, 10, 2))
    place = np.arange(size, dtype=np.int32) * 256 // size
    phase = (place * across)[None] + (place * (down or 5))[:, None] + _noise(random, 4, size)
    return np.minimum(phase & 255, 255 - (phase & 255)).astype(np.uint8) * np.uint8(2)


def _tiles(random: np.random.RandomState, size: int) -> Grey:
    rows, columns = (int(v) for v in random.randint(3, 15, 2))
    grid = np.frombuffer(random.bytes(rows * columns), np.uint8).reshape(rows, columns)
    return cv2.resize(grid, (size, size), interpolation=cv2.INTER_NEAREST)


def _weave(random: np.random.RandomState, size: int) -> Grey:
    return cv2.addWeighted(_waves(random, size), 0.5, _waves(random, size), 0.5, 0)


def _shards(random: np.random.RandomState, size: int) -> Grey:
    """Large triangles over one another."""
    tones = np.full((size, size), 128, np.uint8)
    corners = random.randint(-size // 4, size + size // 4, (16, 3, 2)).astype(np.int32)
    for triangle, tone in zip(corners, random.randint(0, 256, 16), strict=True):
        cv2.fillConvexPoly(tones, triangle, int(tone), cv2.LINE_8)
    return tones


def _slope(random: np.random.RandomState, size: int) -> Grey:
    """Slowly from one corner's tone to another's."""
    return _noise(random, 2, size)


_TEXTURES = {
    "clouds": _clouds,
    "waves": _waves,
    "tiles": _tiles,
    "weave": _weave,
    "shards": _shards,
    "slope": _slope,
}
TEXTURES = tuple(_TEXTURES)
