"""One picture that shows what the relations are: for each, both labels and the same things without either."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from prototxt_gen.base.files import atomic_write

from .classes import RELATIONS
from .drawing import render
from .scenes import Scene, scene

_MARGIN, _CAPTION = 3, 32  # pixels
_MOST = 5  # things in a scene that is to explain something


def examples(seed: int = 0) -> list[list[Scene]]:
    """A row of scenes for each pair of labels: the first of the seed that show one, the other, neither."""
    pairs = {(r.glyph, r.anchor): r.labels for r in RELATIONS if len(r.labels) == 2}
    pairs["frame", "ring"] = ("coin", "window")
    shown: list[Scene] = []
    for glyphs, labels in pairs.items():
        for rule in _rules(glyphs, labels):
            found = (scene(seed, index) for index in count())
            shown.append(next(s for s in found if _simple(s) and s not in shown and rule(s)))
    return [shown[i : i + 3] for i in range(0, len(shown), 3)]


def _simple(scene: Scene) -> bool:
    return 3 <= len(scene.objects) <= _MOST and len(scene.labels) >= 2


def _rules(glyphs: tuple[str, str], labels: tuple[str, ...]) -> list[Callable[[Scene], bool]]:
    def only(label: str) -> Callable[[Scene], bool]:
        return lambda scene: set(labels) & set(scene.labels) == {label}

    def neither(scene: Scene) -> bool:
        there = {thing.glyph for thing in scene.objects}
        wanted = {glyphs[0]} if "water" in glyphs else set(glyphs)  # beside water it is always one of the two
        return wanted <= there and not set(labels) & set(scene.labels)

    return [only(labels[0]), only(labels[1]), neither]


def sheet(rows: list[list[Scene]], size: int = 200) -> np.ndarray:
    """Scenes in rows with their labels beneath, uint8 (height, width, 3) in BGR."""
    return np.vstack([np.hstack([_tile(each, size) for each in row]) for row in rows])


def _tile(shown: Scene, size: int) -> np.ndarray:
    caption = np.full((_CAPTION, size, 3), 255, np.uint8)
    for line, words in enumerate((shown.labels[:3], shown.labels[3:])):
        cv2.putText(
            caption,
            " ".join(words),
            (1, 11 + 13 * line),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.42,
            (0, 0, 0),
            1,
            cv2.LINE_AA,
        )
    tile = np.vstack([render(shown, size), caption])
    return cv2.copyMakeBorder(tile, 0, 0, _MARGIN, _MARGIN, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def write_sheet(path: str | Path, seed: int = 0, colors: int = 128) -> None:
    """Write the examples as a PNG of a few colours; raises CaffeError when the disk refuses."""
    from PIL import Image

    picture = Image.fromarray(sheet(examples(seed))[:, :, ::-1]).quantize(colors, dither=Image.Dither.NONE)
    with atomic_write(path) as file:
        picture.save(file, "PNG", optimize=True)
