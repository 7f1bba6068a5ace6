"""The glyphs of the scenes as polygons: integer coordinates from -1000 to 1000, x to the right, y downwards.

Everything is integer arithmetic, so that a glyph has the same corners on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TURN = 1024  # units of angle in a full turn
ONE = 1 << 14  # the value 1.0 of SIN
# Rounded so coarsely that no mathematics library rounds another way.
SIN = tuple(round(math.sin(2 * math.pi * i / TURN) * ONE) for i in range(TURN))


def sin(angle: int) -> int:
    """ONE times the sine of an angle in units of 1/TURN."""
    return SIN[angle % TURN]


def cos(angle: int) -> int:
    """ONE times the cosine of an angle in units of 1/TURN."""
    return SIN[(angle + TURN // 4) % TURN]


@dataclass(frozen=True)
class Part:
    """An area within one or more closed contours, (corners, 2) each; a contour within another is a hole."""

    contours: tuple[np.ndarray, ...]
    accent: bool = False  # drawn in the thing's second colour


@dataclass(frozen=True)
class Glyph:
    """What a thing looks like, and how it varies besides the scale of its scene.

    `height`: the smallest and largest half height, in 1/224 of the picture's side. `width`: the half width in
    percent of it. `turn`: the largest turn from upright, in 1/1024. `round`: as wide however it is turned.
    """

    variants: tuple[tuple[Part, ...], ...]
    height: tuple[int, int]
    width: int = 100
    turn: int = 0
    round: bool = False


def _part(*contours: Sequence[tuple[int, int]], accent: bool = False) -> Part:
    return Part(tuple(np.array(contour, np.int64) for contour in contours), accent)


def _box(left: int, top: int, right: int, bottom: int) -> list[tuple[int, int]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _arc(x: int, y: int, width: int, height: int, start: int = 0, turn: int = TURN, corners: int = 32):
    """Corners on an ellipse with half axes `width` and `height`, from an angle on, clockwise."""
    angles = [start + turn * i // corners for i in range(corners + (turn < TURN))]
    return [(x + width * cos(a) // ONE, y + height * sin(a) // ONE) for a in angles]


def _rays(count: int, inner: int, outer: int = 1000) -> list[tuple[int, int]]:
    """A star with `count` points, one of them upwards."""
    angles = [i * TURN // (2 * count) - TURN // 4 for i in range(2 * count)]
    radii = [inner if i % 2 else outer for i in range(2 * count)]
    return [(r * cos(a) // ONE, r * sin(a) // ONE) for r, a in zip(radii, angles, strict=True)]


def _person(arms: Sequence[Sequence[tuple[int, int]]], legs: int) -> tuple[Part, ...]:
    body = [(-520, -380), (520, -380), (380, 330), (-380, 330)]
    feet = [[(s * 20, 250), (s * 380, 250), (s * legs, 1000), (s * (legs - 300), 1000)] for s in (-1, 1)]
    return (
        *(_part(limb) for limb in (*arms, *feet)),
        _part(body, accent=True),
        _part(_arc(0, -680, 560, 320)),
    )


def _arms(hands: int) -> list[list[tuple[int, int]]]:
    """Both arms, from the shoulders to hands at the height `hands`."""
    return [[(s * 400, -380), (s * 560, -200), (s * 1000, hands + 120), (s * 900, hands - 60)] for s in (-1, 1)]


_LAYERS = [[(0, -1000), (560, -330), (-560, -330)], [(0, -640), (780, 160), (-780, 160)]]
_TREES = (
    (
        _part(_box(-170, 560, 170, 1000), accent=True),
        *(_part(layer) for layer in [[(0, -200), (1000, 640), (-1000, 640)], *_LAYERS[::-1]]),
    ),
    (_part(_box(-170, 100, 170, 1000), accent=True), _part(_arc(0, -350, 1000, 650))),
    (
        _part(_box(-150, 0, 150, 1000), accent=True),
        *(_part(_arc(x, y, 560, 460)) for x, y in ((-440, -60), (440, -60), (0, -540))),
    ),
)
_HOUSES = tuple(
    (
        _part(_box(-800, -150, 800, 1000)),
        _part(roof, accent=True),
        _part(_box(door, 300, door + 400, 1000), accent=True),
        _part(_box(window, 150, window + 340, 480), accent=True),
    )
    for roof, door, window in (
        ([(-1000, -100), (0, -1000), (1000, -100)], -560, 260),
        ([(-1000, -100), (-620, -1000), (620, -1000), (1000, -100)], -200, 330),
    )
)
# Two circles that meet at the angles 146 of the outer and 220 of the inner one.
_MOON = [*_arc(0, 0, 1000, 1000, 146, TURN - 292), *_arc(450, 0, 800, 800, -220, 440 - TURN)]
_HEART = [
    (0, 950),
    (-700, 230),
    (-980, -180),
    (-970, -560),
    (-720, -860),
    (-380, -880),
    (-120, -700),
    (0, -450),
]
_BOLT = [(150, -1000), (-700, 130), (-120, 130), (-420, 1000), (700, -270), (80, -270), (560, -1000)]
_QUARTER = [(-300, -300), (-300, -1000), (300, -1000)]
_CROSS = [
    *_QUARTER,
    *((-y, x) for x, y in _QUARTER),
    *((-x, -y) for x, y in _QUARTER),
    *((y, -x) for x, y in _QUARTER),
]
_RUNGS = (-700, -250, 200, 650)
_WAVE_STEPS = 64


def _waves(count: int) -> tuple[Part, ...]:
    """A band as wide as the picture that waves `count` times."""
    steps = [(-1000 + 2000 * i // _WAVE_STEPS, sin(count * TURN * i // _WAVE_STEPS)) for i in range(_WAVE_STEPS + 1)]
    upper, lower = ([(x, 500 * s // ONE + edge) for x, s in steps] for edge in (-500, 500))
    crest = [(x, 500 * s // ONE - 160) for x, s in steps] + [(x, 500 * s // ONE + 60) for x, s in steps[::-1]]
    return _part(upper + lower[::-1]), _part(crest, accent=True)


GLYPHS: dict[str, Glyph] = {
    # Each has a label of its own.
    "person": Glyph(tuple(_person(_arms(h), w) for h, w in ((150, 420), (-700, 480), (-260, 600))), (26, 35), 52, 8),
    "water": Glyph(tuple(_waves(count) for count in (3, 4, 5)), (8, 11), turn=6),
    "house": Glyph(_HOUSES, (20, 30), 105, 10),
    "tree": Glyph(_TREES, (24, 34), 68, 12),
    "star": Glyph(((_part(_rays(5, 420)),),), (17, 24), turn=TURN // 2, round=True),
    "moon": Glyph(((_part(_MOON),),), (17, 24), turn=90, round=True),
    "heart": Glyph(((_part([*_HEART, *((-x, y) for x, y in _HEART[-2:0:-1])]),),), (16, 24), turn=60),
    "ladder": Glyph(
        ((*(_part(_box(x, -1000, x + 300, 1000)) for x in (-1000, 700)),
          *(_part(_box(-1000, y, 1000, y + 170), accent=True) for y in _RUNGS)),),
        (26, 36), 42, 70,
    ),
    "bolt": Glyph(((_part(_BOLT),),), (22, 30), 75, 50),
    "cross": Glyph(((_part(_CROSS),),), (16, 22), turn=TURN // 2, round=True),
    # These have none: what they are called depends on where they stand.
    "saucer": Glyph(((_part(_arc(0, 0, 1000, 560)), _part(_arc(0, 0, 500, 1000), accent=True)),), (7, 10), 215, 14),
    "spindle": Glyph(
        ((_part([(400, 0), (1000, -900), (880, 0), (1000, 900)]), _part(_arc(-150, 0, 850, 800)),
          _part(_arc(-600, -150, 130, 200), accent=True)),),
        (9, 14), 190, 20,
    ),
    "burst": Glyph(((_part(_rays(9, 620)), _part(_arc(0, 0, 380, 380), accent=True)),), (16, 22), turn=60, round=True),
    "ring": Glyph(((_part(_arc(0, 0, 1000, 1000), _arc(0, 0, 700, 700)),),), (23, 28), turn=0, round=True),
    "frame": Glyph(((_part(_box(-1000, -1000, 1000, 1000), _box(-680, -680, 680, 680)),),), (21, 26), turn=20),
    "muncher": Glyph(
        ((_part([(-150, 0), *_arc(0, 0, 1000, 1000, 100, TURN - 200)]), _part(_arc(60, -520, 150, 150), accent=True)),),
        (16, 21), turn=25, round=True,
    ),
    "ball": Glyph(
        ((_part(_arc(0, 0, 1000, 1000)), _part([(-960, -250), (960, -250), (960, 250), (-960, 250)], accent=True)),),
        (9, 13), turn=TURN // 2, round=True,
    ),
}  # fmt: skip
