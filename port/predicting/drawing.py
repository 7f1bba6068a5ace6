"""Boxes drawn on images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prototxt_gen.base.errors import Problem, Problems, UsageError
from prototxt_gen.base.files import atomic_write, same_file, unwritable

from ..images.resize import unit_values
from .detector import Found

_COLOURS = 12  # that labels share


def picture_paths(images: Sequence[Path], folder: Path) -> list[Path]:
    """Where the pictures of images go, photo.jpg as photo.png; raises UsageError for two of one name, and for those
    that would replace an image."""
    paths = [folder / f"{image.stem}.png" for image in images]
    with Problems(UsageError) as problems:
        for i, path in enumerate(paths):
            if path in paths[:i]:
                problems.add(f"two images would be {path.name} in it", file=folder, fix="draw them in two folders")
            if any(same_file(path, image) for image in images):
                problems.add("is one of the images, and would be lost", file=path, fix="choose another folder")
        problems.found += unwritable(folder / "x.png", "choose another folder")
    return paths


def write_picture(path: Path, pixels: Any, found: Sequence[Found], names: Mapping[int, str]) -> None:
    """Write an image with its boxes as PNG, a colour for each label, with name and score; raises CaffeError."""
    import cv2

    image = _bgr(pixels)
    thick = max(1, round(min(image.shape[:2]) / 200))
    for each in reversed(found):  # the best on top
        hue = np.array([[[180 * (each.label % _COLOURS) // _COLOURS, 255, 230]]], np.uint8)
        colour = tuple(map(int, cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0]))
        left, top, right, bottom = (int(np.clip(round(place), -(2**14), 2**14)) for place in each.box)
        cv2.rectangle(image, (left, top), (right, bottom), colour, thick)
        text = f"{names.get(each.label, each.label)} {each.score:.2f}"
        (_, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * thick, thick)
        where = (max(left, 0), max(top - thick, 0) if top > 2 * high else max(top, 0) + 2 * high)
        cv2.putText(image, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * thick, colour, thick, cv2.LINE_AA)
    done, data = cv2.imencode(".png", image)
    if not done:
        raise UsageError(Problem("OpenCV cannot encode the picture", file=path))
    with atomic_write(path) as file:
        file.write(data.tobytes())


def _bgr(pixels: Any) -> Any:
    """Pixels of a file in 8 bits, blue first, to be drawn on."""
    grey = np.clip(np.rint(unit_values(pixels) * 255), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2) if grey.ndim == 2 else grey[:, :, ::-1])
