"""Scenes drawn by lot: which things, where, in which colours, on which background.

A scene is made of groups (a person, perhaps with a saucer; the water, perhaps with a spindle; ...). What state
a group is in, related one way, the other way or not at all, is drawn without regard to anything else, so that
the things alone do not tell the label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from prototxt_gen.errors import UsageError

from .classes import APPEARANCES, CLEARANCE, PIXEL, SIDE, Thing, labels_of, unclear
from .glyphs import GLYPHS
from .textures import TEXTURES

Color = tuple[int, int, int]
Point = tuple[int, int]

WATER_WIDTH = SIDE * 53 // 100  # half of it; its ends stay outside when it is tilted
EDGE = 2 * PIXEL  # no thing is nearer to the picture's edge
SMALLEST_SCALE = 78  # percent of the glyphs' sizes
TRIES = 24  # for a group, before it is left out
COVERED = 10  # percent of the smaller of two things' rectangles that may overlap
CONTRAST = 62  # grey levels between a thing and its background
PATTERNS = ("plain", "plain", "stripes", "speckles", "shade")

LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Backdrop:
    """The background: a texture between two colours (BGR); `seed` draws the texture itself."""

    texture: str
    colors: tuple[Color, Color, Color]
    seed: int


@dataclass(frozen=True)
class Stroke:
    """A distractor: an open or filled polygon that is no glyph. Lengths in units."""

    points: tuple[Point, ...]
    color: Color
    width: int  # 0: filled


@dataclass(frozen=True)
class Scene:
    """What a picture shows: its things from back to front, their labels, and the clutter around them."""

    objects: tuple[Thing, ...]
    labels: tuple[str, ...]
    backdrop: Backdrop
    behind: tuple[Stroke, ...]
    before: tuple[Stroke, ...]


class Lot:
    """Draws integers; NumPy keeps the stream of RandomState for ever, and only exact operations follow it."""

    def __init__(self, *key: int):
        self._draw = np.random.RandomState(list(key)).random_sample

    def below(self, count: int) -> int:
        return int(self._draw() * count)

    def between(self, low: int, high: int) -> int:
        """An integer from low to high, both included; low if there is none."""
        return low + int(self._draw() * (high - low + 1)) if high > low else low

    def percent(self, chance: int) -> bool:
        return self._draw() * 100 < chance

    def sign(self) -> int:
        return 1 if self._draw() < 0.5 else -1

    def weighted(self, weights: Sequence[int]) -> int:
        """An index, drawn by weight."""
        left = self._draw() * sum(weights)
        for index, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return index
        return len(weights) - 1


class Kit:
    """Makes things of one scene: a common scale, colours that stand out from the backdrop."""

    def __init__(self, lot: Lot, scale: int, brightness: int):
        self.lot = lot
        self.scale = scale  # percent
        self.brightness = brightness  # of the backdrop, 0 to 255

    def thing(self, glyph: str, height: int = 0) -> Thing:
        """A thing of the glyph somewhere in the picture; `height` overrides the drawn size."""
        lot, kind = self.lot, GLYPHS[glyph]
        height = height or lot.between(kind.height[0] * PIXEL, kind.height[1] * PIXEL) * self.scale // 100
        stretch = 100 if kind.round else lot.between(90, 111)
        thing = Thing(
            glyph,
            x=SIDE // 2,
            y=SIDE // 2,
            width=WATER_WIDTH if glyph == "water" else height * kind.width * stretch // 10000,
            height=height,
            angle=lot.between(-kind.turn, kind.turn),
            mirrored=lot.percent(50),
            variant=lot.below(len(kind.variants)),
        )
        return thing if glyph == "water" else self.anywhere(thing)

    def anywhere(self, thing: Thing, top: int = 0, bottom: int = SIDE) -> Thing:
        """The thing at a place of the picture, between two heights."""
        reach_x, reach_y = thing.reach
        x = self.lot.between(EDGE + reach_x, SIDE - EDGE - reach_x)
        return replace(
            thing, x=x, y=self.lot.between(max(top, EDGE) + reach_y, min(bottom, SIDE - EDGE) - reach_y)
        )

    def painted(self, thing: Thing) -> Thing:
        """The thing in colours of its own."""
        lot = self.lot
        fill = color(lot, self._level())
        away = 45 if brightness(fill) < 128 else -45
        accent = color(lot, brightness(fill) + away + away * lot.below(3) // 3)
        rim = color(lot, 15 if brightness(fill) > 120 else 240)
        width = lot.between(20, 44) if lot.percent(60) else 0
        return replace(thing, colors=(fill, accent, rim), rim=width, pattern=lot.below(len(PATTERNS)))

    def _level(self) -> int:
        """A brightness well above or below the backdrop's."""
        low, high = self.brightness - CONTRAST, self.brightness + CONTRAST
        room = max(0, low - 15), max(0, 245 - high)
        draw = self.lot.below(max(1, sum(room)))
        return 15 + draw if draw < room[0] else high + draw - room[0]


def brightness(color: Color) -> int:
    """0 to 255; colours are BGR."""
    return (29 * color[0] + 150 * color[1] + 77 * color[2]) >> 8


def color(lot: Lot, level: int) -> Color:
    """Any colour of about this brightness."""
    raw = lot.below(256), lot.below(256), lot.below(256)
    shift = level - brightness(raw)
    blue, green, red = (min(255, max(0, c + shift)) for c in raw)
    return blue, green, red


def _person(kit: Kit, state: str) -> list[Thing]:
    lot, person, saucer = kit.lot, kit.thing("person"), kit.thing("saucer")
    unit = person.height
    if state == "alone":
        return [person]
    if state == "beside":
        x = person.x + lot.sign() * (person.reach[0] + saucer.reach[0] + unit * lot.between(10, 60) // 100)
        return [person, replace(saucer, x=x, y=person.y + unit * lot.between(-50, 60) // 100)]
    if state == "apart":
        return [person, saucer]
    x = person.x + unit * lot.between(-15, 15) // 100
    if state == "hat":
        return [
            person,
            replace(saucer, x=x, y=person.top - saucer.reach[1] - unit * lot.between(-6, 8) // 100),
        ]
    return [
        person,
        replace(saucer, x=x, y=person.bottom + saucer.reach[1] + unit * lot.between(-2, 12) // 100),
    ]


def _water(kit: Kit, state: str) -> list[Thing]:
    water = kit.thing("water")
    water = replace(water, y=kit.lot.between(SIDE * 26 // 100, SIDE * 74 // 100))
    things = [water]
    if state in ("bird", "both"):
        things.append(kit.anywhere(kit.thing("spindle"), bottom=water.top - CLEARANCE))
    if state in ("fish", "both"):
        things.append(kit.anywhere(kit.thing("spindle"), top=water.bottom + CLEARANCE))
    return things


def _house(kit: Kit, state: str) -> list[Thing]:
    house, burst = kit.thing("house"), kit.thing("burst")
    if state == "alone":
        return [house]
    if state == "level":
        y = kit.lot.between(house.top + burst.height // 3, house.bottom - burst.height // 3)
        return [house, replace(burst, y=y)]
    # Both heights are drawn, then put in order, so that neither the sun nor the house is always high up.
    over, under = (burst, house) if state == "sun" else (house, burst)
    total = over.reach[1] * 2 + under.reach[1] * 2
    cuts = sorted(kit.lot.between(0, SIDE - 2 * EDGE - total) for _ in range(2))
    y = EDGE + over.reach[1] + cuts[0]
    below = EDGE + 2 * over.reach[1] + under.reach[1] + cuts[1]
    return [replace(over, y=y), replace(under, y=below)]


def _frames(kit: Kit, state: str) -> list[Thing]:
    lot, outer_is_ring = kit.lot, kit.lot.percent(55)
    names = ("ring", "frame") if outer_is_ring else ("frame", "ring")
    outer = kit.thing(names[0])
    part = lot.between(36, 42) if outer_is_ring else lot.between(46, 56)
    inner = kit.thing(names[1], outer.height * part // 100)
    if state == "inside":
        slack = outer.height * 4 // 100
        return [
            outer,
            replace(inner, x=outer.x + lot.between(-slack, slack), y=outer.y + lot.between(-slack, slack)),
        ]
    return {"apart": [outer, inner], "outer": [outer], "inner": [inner]}[state]


def _muncher(kit: Kit, state: str) -> list[Thing]:
    lot, muncher, ball = kit.lot, kit.thing("muncher"), kit.thing("ball")
    if state in ("muncher", "ball"):
        return [muncher if state == "muncher" else ball]
    if state == "off":
        return [muncher, ball]
    ahead = -1 if muncher.mirrored else 1
    near = muncher.width + ball.width + 2 * PIXEL
    x = muncher.x + ahead * (1 if state == "eating" else -1) * (near + lot.below(SIDE * 45 // 100))
    return [muncher, replace(ball, x=x, y=muncher.y + muncher.height * lot.between(-40, 40) // 100)]


@dataclass(frozen=True)
class Group:
    """Things that are placed together; `weight`: how often; `states`: name -> percent."""

    weight: int
    make: Callable[[Kit, str], list[Thing]]
    states: dict[str, int]


def _alone(glyph: str, twice: int = 0) -> Callable[[Kit, str], list[Thing]]:
    def make(kit: Kit, state: str) -> list[Thing]:
        return [kit.thing(glyph) for _ in range(2 if kit.lot.percent(twice) else 1)]

    return make


GROUPS = (
    Group(100, _person, {"alone": 46, "hat": 20, "plate": 14, "beside": 10, "apart": 10}),
    Group(12, _alone("person", 30), {"": 100}),
    Group(64, _water, {"alone": 40, "bird": 31, "fish": 23, "both": 6}),
    Group(66, _house, {"alone": 38, "sun": 26, "flower": 19, "level": 17}),
    Group(36, _frames, {"inside": 56, "apart": 26, "outer": 9, "inner": 9}),
    Group(38, _muncher, {"eating": 36, "fleeing": 28, "off": 24, "muncher": 6, "ball": 6}),
    Group(60, _alone("tree", 30), {"": 100}),
    Group(30, _alone("star", 25), {"": 100}),
    Group(24, _alone("heart", 20), {"": 100}),
    Group(20, _alone("moon"), {"": 100}),
    Group(15, _alone("ladder"), {"": 100}),
    Group(12, _alone("bolt", 15), {"": 100}),
    Group(9, _alone("cross", 20), {"": 100}),
    # Unlabelled on their own, so that they say little.
    Group(8, _alone("saucer", 20), {"": 100}),
    Group(10, _alone("spindle", 20), {"": 100}),
    Group(10, _alone("burst", 20), {"": 100}),
)
# How many groups a scene is to have: 1, 2, ...
GROUP_COUNTS = (17, 24, 21, 15, 10, 7, 4, 2)


def scene(seed: int, index: int) -> Scene:
    """The scene `index` of a seed, each 0 to 2^32 - 1; the same on every machine. Raises UsageError."""
    if not (0 <= seed <= LARGEST_SEED and 0 <= index <= LARGEST_SEED):
        raise UsageError(f"seed {seed}, scene {index}; expected whole numbers from 0 to {LARGEST_SEED}")
    lot = Lot(seed, index)
    backdrop, level = _backdrop(lot)
    count = 1 + lot.weighted(GROUP_COUNTS)
    kit = Kit(lot, max(SMALLEST_SCALE, lot.between(95, 145) - 7 * count), level)
    things: list[Thing] = []
    for group in _choose(lot, count):
        things += _place(kit, group, things)
    # Nothing hides the water's course, and what it is compared with may stand before it.
    order = sorted(things, key=lambda thing: (thing.glyph != "water", lot.below(1 << 20)))
    painted = tuple(kit.painted(thing) for thing in order)
    behind = tuple(_strokes(kit, lot.between(8, 28)))
    before = tuple(_lines(kit, lot.below(3)))
    return Scene(painted, labels_of(painted), backdrop, behind, before)


def _choose(lot: Lot, count: int) -> Iterator[Group]:
    """Different groups by weight; what takes the most room comes first."""
    weights = [group.weight for group in GROUPS]
    chosen = []
    for _ in range(count):
        chosen.append(lot.weighted(weights))
        weights[chosen[-1]] = 0
    chosen.sort(key=lambda index: (GROUPS[index].make is not _water, index))
    return (GROUPS[index] for index in chosen)


def _place(kit: Kit, group: Group, things: list[Thing]) -> list[Thing]:
    """The things of a group where there is room for them; nothing when there is none."""
    names = list(group.states)
    state = names[kit.lot.weighted(list(group.states.values()))]
    for _ in range(TRIES):
        new = group.make(kit, state)
        if all(_inside(thing) for thing in new) and _fits(new, things):
            return new
    return []


def _inside(thing: Thing) -> bool:
    if thing.glyph == "water":
        return thing.top >= EDGE and thing.bottom <= SIDE - EDGE
    reach_x, reach_y = thing.reach
    return (
        EDGE + reach_x <= thing.x <= SIDE - EDGE - reach_x
        and EDGE + reach_y <= thing.y <= SIDE - EDGE - reach_y
    )


def _fits(new: list[Thing], things: list[Thing]) -> bool:
    """Whether no thing hides another, and no relation is unclear."""
    for i, thing in enumerate(new):
        for other in things:
            if _overlap(thing, other) or unclear(thing, other):
                return False
        for other in new[:i]:
            if unclear(thing, other) or (_overlap(thing, other) and not _belong(thing, other)):
                return False
    return True


def _belong(thing: Thing, other: Thing) -> bool:
    """Whether the two may touch: a frame within a ring, a saucer on a head."""
    return {thing.glyph, other.glyph} in ({"ring", "frame"}, {"saucer", "person"})


def _overlap(thing: Thing, other: Thing) -> bool:
    (ax, ay), (bx, by) = thing.reach, other.reach
    dx, dy = abs(thing.x - other.x), abs(thing.y - other.y)
    wide, high = min(ax + bx - dx, 2 * ax, 2 * bx), min(ay + by - dy, 2 * ay, 2 * by)
    if wide <= 0 or high <= 0:
        return False
    if thing.glyph not in APPEARANCES or other.glyph not in APPEARANCES:
        return True
    if "water" in (thing.glyph, other.glyph):
        return False
    return wide * high * 100 > COVERED * 4 * min(ax * ay, bx * by)


def _backdrop(lot: Lot) -> tuple[Backdrop, int]:
    """A background, and its mean brightness."""
    level = lot.between(35, 220)
    spread = lot.between(12, 48)
    dark, middle, bright = (
        _faded(lot, color(lot, shade)) for shade in (level - spread, level, level + spread)
    )
    return Backdrop(TEXTURES[lot.below(len(TEXTURES))], (dark, middle, bright), lot.below(1 << 32)), level


def _faded(lot: Lot, color: Color) -> Color:
    """A colour with some of its hue taken away."""
    grey, part = brightness(color), lot.between(20, 100)
    blue, green, red = (grey + (c - grey) * part // 100 for c in color)
    return blue, green, red


def _strokes(kit: Kit, count: int) -> Iterator[Stroke]:
    """Clutter behind the things: bent lines, splinters, dots; none is as large as a thing or crosses the picture."""
    lot = kit.lot
    for _ in range(count):
        x, y = lot.below(SIDE), lot.below(SIDE)
        paint = color(lot, lot.between(20, 235))
        if lot.percent(55):
            step = lot.between(8, 28) * PIXEL
            points = [(x, y)]
            for _ in range(lot.between(1, 3)):
                points.append(
                    (points[-1][0] + lot.between(-step, step), points[-1][1] + lot.between(-step, step))
                )
            yield Stroke(tuple(points), paint, lot.between(24, 110))
        else:
            step = lot.between(3, 9) * PIXEL
            corners = [
                (x + lot.between(-step, step), y + lot.between(-step, step)) for _ in range(lot.between(3, 4))
            ]
            yield Stroke(tuple(corners), paint, 0)


def _lines(kit: Kit, count: int) -> Iterator[Stroke]:
    """Thin lines across everything."""
    lot = kit.lot
    for _ in range(count):
        points = tuple((lot.below(SIDE), lot.below(SIDE)) for _ in range(2))
        yield Stroke(points, color(lot, lot.between(20, 235)), lot.between(20, 48))
