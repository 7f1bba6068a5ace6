"""Scenes drawn by lot: which things, where, in which colours, on which background."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prototxt_gen.base.errors import UsageError

from .classes import APPEARANCES, PIXEL, SIDE, Thing, labels_of, relation, unclear
from .groups import EDGE, GROUPS, Group, Kit
from .lot import Color, Lot
from .textures import TEXTURES

Point = tuple[int, int]

# How many groups a scene is to have: weights of 1, 2, ...
GROUP_COUNTS = (17, 24, 21, 15, 10, 7, 4, 2)
SCALES = 100, (130, 175), 8  # percent of the glyphs' sizes: the least; drawn between; less for each group
TRIES = 24  # for a group, before it is left out
COVERED = 10  # percent of the smaller of two things' rectangles that may overlap

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


def scene(seed: int, index: int) -> Scene:
    """The scene `index` of a seed, each 0 to 2^32 - 1; the same on every machine. Raises UsageError."""
    if not (0 <= seed <= LARGEST_SEED and 0 <= index <= LARGEST_SEED):
        raise UsageError(f"seed {seed}, scene {index}; expected whole numbers from 0 to {LARGEST_SEED}")
    lot = Lot(seed, index)
    backdrop, level = _backdrop(lot)
    count = 1 + lot.weighted(GROUP_COUNTS)
    least, drawn, less = SCALES
    kit = Kit(lot, max(least, lot.between(*drawn) - less * count), level)
    things: list[Thing] = []
    for group in _choose(lot, count):
        things += _place(kit, group, things)
    # Nothing hides behind the water.
    order = sorted(things, key=lambda thing: (thing.glyph != "water", lot.below(1 << 20)))
    painted = tuple(kit.painted(thing) for thing in order)
    behind = tuple(_clutter(lot, lot.between(6, 18)))
    before = tuple(_lines(lot, lot.below(3)))
    return Scene(painted, labels_of(painted), backdrop, behind, before)


def _choose(lot: Lot, count: int) -> list[Group]:
    """Different groups by weight, in the order of GROUPS."""
    weights = [group.weight for group in GROUPS]
    for _ in range(count):
        weights[lot.weighted(weights)] = 0
    return [group for group, weight in zip(GROUPS, weights, strict=True) if not weight]


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
    return EDGE + reach_x <= thing.x <= SIDE - EDGE - reach_x and EDGE + reach_y <= thing.y <= SIDE - EDGE - reach_y


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
    touching = {thing.glyph, other.glyph} in ({"ring", "frame"}, {"saucer", "person"})
    return touching and bool(relation(thing, other) or relation(other, thing))


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
    spread = lot.between(10, 34)
    dark, middle, bright = (lot.faded(lot.color(level + step)) for step in (-spread, 0, spread))
    return Backdrop(TEXTURES[lot.below(len(TEXTURES))], (dark, middle, bright), lot.below(1 << 32)), level


def _clutter(lot: Lot, count: int) -> Iterator[Stroke]:
    """Clutter behind the things: bent lines, splinters, dots; none is as large as a thing or crosses the picture."""
    for _ in range(count):
        x, y = lot.below(SIDE), lot.below(SIDE)
        paint = lot.color(lot.between(20, 235))
        if lot.percent(55):
            step = lot.between(8, 28) * PIXEL
            points = [(x, y)]
            for _ in range(lot.between(1, 3)):
                points.append((points[-1][0] + lot.between(-step, step), points[-1][1] + lot.between(-step, step)))
            yield Stroke(tuple(points), paint, lot.between(24, 110))
        else:
            step = lot.between(3, 9) * PIXEL
            corners = [(x + lot.between(-step, step), y + lot.between(-step, step)) for _ in range(lot.between(3, 4))]
            yield Stroke(tuple(corners), paint, 0)


def _lines(lot: Lot, count: int) -> Iterator[Stroke]:
    """Thin lines across everything."""
    for _ in range(count):
        points = tuple((lot.below(SIDE), lot.below(SIDE)) for _ in range(2))
        yield Stroke(points, lot.color(lot.between(20, 235)), lot.between(20, 48))
