"""Scenes as pixels. Integer arithmetic only: OpenCV fills polygons and draws lines in fixed point without
anti-aliasing at twice the size, and 2x2 pixels are averaged afterwards."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from prototxt_gen.base.errors import UsageError

from .classes import SIDE, Thing
from .glyphs import GLYPHS, ONE, cos, sin
from .scenes import Scene, Stroke
from .textures import background, colored, palette, pattern

Image = NDArray[np.uint8]

SMALLEST, LARGEST = 32, 1024  # sides of a picture in pixels
_FRACTION = 4  # bits of a coordinate below the pixel
SHADE = 28  # grey levels of a pattern around a thing's colour
_NOISE = 3  # bits of the sensor's noise


def render(scene: Scene, size: int = 224) -> Image:
    """The picture of a scene, uint8 (size, size, 3) in BGR; raises UsageError for a size it cannot have."""
    if not SMALLEST <= size <= LARGEST:
        raise UsageError(f"pictures of {size} pixels; expected {SMALLEST} to {LARGEST}")
    random = np.random.RandomState(scene.backdrop.seed)
    small = background(scene.backdrop.texture, scene.backdrop.colors, random, size)
    canvas = cv2.resize(small, (2 * size, 2 * size), interpolation=cv2.INTER_NEAREST)
    for stroke in scene.behind:
        _draw_stroke(canvas, stroke)
    for thing in scene.objects:
        _draw_thing(canvas, thing)
    for stroke in scene.before:
        _draw_stroke(canvas, stroke)
    picture = _halve(canvas)
    grain = np.frombuffer(random.bytes(picture.size), np.uint8).reshape(picture.shape) >> (8 - _NOISE)
    return cv2.subtract(cv2.add(picture, grain), (1 << (_NOISE - 1),) * 4)


def mask(thing: Thing, size: int = 224) -> NDArray[np.bool_]:
    """The pixels that a thing covers when nothing hides it, (size, size)."""
    canvas = np.zeros((size, size), np.uint8)
    for _, corners in _outlines(thing, size):
        cv2.fillPoly(canvas, corners, 1, cv2.LINE_8, _FRACTION)
    return canvas > 0


def _halve(canvas: Image) -> Image:
    """The mean of each 2x2 pixels."""
    return cv2.resize(canvas, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _outlines(thing: Thing, size: int):
    """Each part of a thing with its contours in OpenCV's fixed-point pixels."""
    a = (cos(thing.angle) * thing.width, -sin(thing.angle) * thing.height)
    b = (sin(thing.angle) * thing.width, cos(thing.angle) * thing.height)
    side = -1 if thing.mirrored else 1
    for part in GLYPHS[thing.glyph].variants[thing.variant]:
        corners = []
        for contour in part.contours:
            x, y = contour[:, 0] * side, contour[:, 1]
            points = np.stack([(a[0] * x + a[1] * y), (b[0] * x + b[1] * y)], 1) // (ONE * 1000)
            corners.append(_pixels(points + np.array([thing.x, thing.y]), size))
        yield part, corners


def _pixels(points: np.ndarray, size: int) -> np.ndarray:
    return (points * (size << _FRACTION) // SIDE).astype(np.int32)


def _draw_stroke(canvas: Image, stroke: Stroke) -> None:
    points = [_pixels(np.array(stroke.points, np.int64), len(canvas))]
    if stroke.width:
        width = max(1, stroke.width * len(canvas) // SIDE)
        cv2.polylines(canvas, points, False, stroke.color, width, cv2.LINE_8, _FRACTION)
    else:
        cv2.fillPoly(canvas, points, stroke.color, cv2.LINE_8, _FRACTION)


def _draw_thing(canvas: Image, thing: Thing) -> None:
    parts = list(_outlines(thing, len(canvas)))
    fill, accent, rim = thing.colors
    if thing.rim:
        width = max(1, 2 * thing.rim * len(canvas) // SIDE)  # the inner half is painted over
        for _, corners in parts:
            cv2.polylines(canvas, corners, True, rim, width, cv2.LINE_8, _FRACTION)
    name = thing.pattern
    for part, corners in parts:
        if part.accent or name == "plain":
            cv2.fillPoly(canvas, corners, accent if part.accent else fill, cv2.LINE_8, _FRACTION)
        else:
            _fill_pattern(canvas, corners, thing, name)


def _fill_pattern(canvas: Image, corners: list[np.ndarray], thing: Thing, name: str) -> None:
    """Fill contours with a pattern around a colour."""
    every = np.concatenate(corners)
    left, top = np.maximum(every.min(0) >> _FRACTION, 0)
    right, bottom = np.minimum((every.max(0) >> _FRACTION) + 2, len(canvas))
    if right <= left or bottom <= top:
        return
    area = np.s_[top:bottom, left:right]
    stencil = np.zeros(canvas[area].shape[:2], np.uint8)
    origin = np.array([left, top], np.int32) << _FRACTION
    cv2.fillPoly(stencil, [contour - origin for contour in corners], 255, cv2.LINE_8, _FRACTION)
    shades = [[min(255, max(0, c + d)) for c in thing.colors[0]] for d in (-SHADE, 0, SHADE)]
    cv2.copyTo(colored(pattern(name, len(canvas))[area], palette(shades)), stencil, canvas[area])
