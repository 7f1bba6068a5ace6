"""Pictures of the figures of each class: sorted bars, and the paper's figure 7."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from prototxt_gen.base.files import atomic_write

from .per_class import ClassFigures

SCALE = 2  # pixels per unit of length below
INK, GREY, PALE, WHITE = (34, 34, 34), (120, 120, 120), (225, 225, 225), (255, 255, 255)
BLUE, RED, SAND = (62, 108, 160), (190, 74, 60), (196, 160, 92)
LONGEST = 26  # characters of a name
MARGIN = 16


@dataclass
class Canvas:
    """A white picture, measured in units of SCALE pixels."""

    width: float
    height: float

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (round(self.width * SCALE), round(self.height * SCALE)), WHITE)
        self.draw = ImageDraw.Draw(self.image)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Any) -> None:
        """A filled rectangle; at least a hair thick."""
        corners = [round(v * SCALE) for v in (min(left, right), min(top, bottom), max(left, right), max(top, bottom))]
        self.draw.rectangle(
            (corners[0], corners[1], max(corners[0], corners[2] - 1), max(corners[1], corners[3] - 1)), fill=fill
        )

    def line(self, x0: float, y0: float, x1: float, y1: float, fill: Any) -> None:
        self.draw.line([round(v * SCALE) for v in (x0, y0, x1, y1)], fill=fill, width=SCALE // 2 or 1)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 12,
        fill: Any = INK,
        anchor: str = "lm",
        plate: bool = False,
    ) -> None:
        """Text whose anchor (PIL's two letters) is at (x, y); a plate hides what lies under it."""
        place, text = (x * SCALE, y * SCALE), written(text)
        if plate:
            left, top, right, bottom = self.draw.textbbox(place, text, font=font(size), anchor=anchor)
            self.draw.rectangle((left - 2 * SCALE, top, right + 2 * SCALE, bottom), fill=WHITE)
        self.draw.text(place, text, font=font(size), fill=fill, anchor=anchor)

    def upright(self, x: float, y: float, text: str, size: float = 12, fill: Any = INK, end: bool = True) -> None:
        """Text read from below, its middle at x; it ends at y (its top), or is centred on it."""
        text = written(text)
        length, high = text_width(text, size), 2 * size
        part = Image.new("L", (max(1, math.ceil(length * SCALE)), round(high * SCALE)), 0)
        ImageDraw.Draw(part).text((0, high * SCALE / 2), text, font=font(size), fill=255, anchor="lm")
        part = part.rotate(90, expand=True)
        place = (round(x * SCALE - part.width / 2), round(y * SCALE - (0 if end else part.height / 2)))
        self.image.paste(Image.new("RGB", part.size, fill), place, part)

    def save(self, path: str | Path) -> None:
        """Write a PNG at once or not at all; raises CaffeError when the disk refuses."""
        with atomic_write(path) as file:
            self.image.save(file, "PNG", optimize=True)


@cache
def font(size: float) -> Any:
    """The typeface that Pillow brings along."""
    return ImageFont.load_default(size * SCALE)


def text_width(text: str, size: float) -> float:
    return float(font(size).getlength(written(text))) / SCALE


def written(text: str) -> str:
    """A text as the typeface can show it: accents are dropped, and what it lacks altogether becomes "?"."""
    return "".join(map(_written, text))


@cache
def _written(character: str) -> str:
    base = unicodedata.normalize("NFKD", character)[0]
    return next((c for c in (character, base) if bytes(font(12).getmask(c)) != _no_glyph()), "?")


@cache
def _no_glyph() -> bytes:
    return bytes(font(12).getmask("\U0010ffff"))


def short(name: str) -> str:
    """A name cut to what a label has room for."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."


def ap_picture(classes: Sequence[ClassFigures], title: str, subtitle: str = "") -> Canvas:
    """The average precision of every class as bars, the highest first; classes without a positive come last."""
    ordered = sorted(classes, key=lambda each: (math.isnan(each.AP), -each.AP if each.AP == each.AP else 0))
    pitch, size = (24.0, 13) if len(ordered) <= 24 else (17.0, 12)
    left = MARGIN + max(text_width(short(each.name), size) for each in ordered) + 8
    top, room = _head_room(subtitle), 560.0
    bottom = top + 20 + pitch * len(ordered)
    canvas = Canvas(max(left + room + 64, _title_width(title, subtitle)), bottom + 16 + MARGIN)
    _head(canvas, title, subtitle)
    for percent in range(0, 101, 20):
        x = left + room * percent / 100
        canvas.line(x, top + 16, x, bottom, PALE)
        canvas.text(x, top + 6, str(percent), 11, GREY, "mm")
    mean = sum(each.AP for each in classes) / len(classes)
    if not math.isnan(mean):
        canvas.line(left + room * mean, top + 14, left + room * mean, bottom, RED)
        canvas.text(left + room * mean, bottom + 9, f"mAP {100 * mean:.1f}", 11, RED, "mm")
    for row, each in enumerate(ordered):
        y = top + 20 + pitch * (row + 0.5)
        canvas.text(left - 8, y, short(each.name), size, anchor="rm")
        if math.isnan(each.AP):
            canvas.text(left + 6, y, "no positive image", size, GREY, plate=True)
            continue
        canvas.box(left, y - 0.36 * pitch, left + room * each.AP, y + 0.36 * pitch, BLUE)
        canvas.text(left + room * each.AP + 6, y, f"{100 * each.AP:.1f}", size, plate=True)
    return canvas


def improvement_picture(classes: Sequence[ClassFigures], title: str, subtitle: str = "") -> Canvas:
    """The paper's figure 7: the improvement in AP, sorted, above the mean number of labels that occur together.

    Classes without a positive have no improvement and are left out, which the subtitle says.
    """
    ordered = sorted((c for c in classes if not math.isnan(c.improvement)), key=lambda each: -each.improvement)
    if left_out := len(classes) - len(ordered):
        subtitle = f"{subtitle}\nwithout a positive image, left out: {left_out}".lstrip()
    names = [short(each.name) for each in ordered]
    pitch, size = (34.0, 13) if len(ordered) <= 24 else (17.0, 12)
    left, top, high = MARGIN + 62.0, _head_room(subtitle), 230.0
    below = max((text_width(name, size) for name in names), default=0.0)
    width = max(left + pitch * len(ordered) + MARGIN, _title_width(title, subtitle))
    canvas = Canvas(width, top + 2 * high + 40 + below + 8 + MARGIN)
    _head(canvas, title, subtitle)
    right = left + pitch * max(1, len(ordered))
    points = [100 * each.improvement for each in ordered]
    together = [each.together for each in ordered]
    _panel(canvas, (left, top, right, top + high), points, "improvement in AP, points", pitch)
    low = top + high + 40
    _panel(canvas, (left, low, right, low + high), together, "other labels per image", pitch, SAND)
    for column, name in enumerate(names):
        canvas.upright(left + pitch * (column + 0.5), low + high + 8, name, size)
    if not ordered:
        canvas.text(left, top + high / 2, "no class has a positive image", 13, GREY)
    return canvas


def _panel(
    canvas: Canvas,
    frame: tuple[float, float, float, float],
    values: Sequence[float],
    title: str,
    pitch: float,
    colour: Any = BLUE,
) -> None:
    """Upright bars between the top and bottom of a frame, with a scale on the left; bars below 0 are red."""
    left, top, right, bottom = frame
    ticks = scale_ticks(min(0.0, *values, 0.0), max(0.0, *values, 0.0))
    unit = (bottom - top) / (ticks[-1] - ticks[0])
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    for tick in ticks:
        y = bottom - (tick - ticks[0]) * unit
        canvas.line(left, y, right, y, PALE)
        canvas.text(left - 6, y, f"{tick:.{decimals}f}", 11, GREY, "rm")
    zero = bottom + ticks[0] * unit
    for column, value in enumerate(values):
        x = left + pitch * (column + 0.5)
        canvas.box(x - 0.36 * pitch, zero - value * unit, x + 0.36 * pitch, zero, RED if value < 0 else colour)
    canvas.line(left, zero, right, zero, INK)
    canvas.upright(MARGIN + 8, (top + bottom) / 2, title, 12, end=False)


def scale_ticks(low: float, high: float) -> list[float]:
    """Three to eight round numbers, evenly apart, that span low to high."""
    span = high - low or 1.0
    unit = 10.0 ** math.floor(math.log10(span / 4))
    step = next(unit * m for m in (1, 2, 5, 10) if span / (unit * m) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * k for k in range(first, max(last, first + 2) + 1)]


def _head(canvas: Canvas, title: str, subtitle: str) -> None:
    canvas.text(MARGIN, MARGIN + 8, title, 17)
    for row, line in enumerate(subtitle.splitlines()):
        canvas.text(MARGIN, MARGIN + 32 + 17 * row, line, 12, GREY)


def _head_room(subtitle: str) -> float:
    return MARGIN + 36 + 17 * len(subtitle.splitlines())


def _title_width(title: str, subtitle: str) -> float:
    lines = [text_width(title, 17), *(text_width(line, 12) for line in subtitle.splitlines())]
    return max(lines) + 2 * MARGIN
