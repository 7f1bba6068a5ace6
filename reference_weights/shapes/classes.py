"""The twenty labels: ten by what a thing looks like, ten by where it stands relative to another thing.

The labels of a scene follow from its things by the rules here and nothing else. A rule also says when a
relation is unclear; scenes with such a pair are not drawn. No rule tells left from right, since training
mirrors its images, and none depends on the size of the picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .glyphs import GLYPHS, ONE, cos, sin

SIDE = 7168  # units of a picture's side: 32 to a pixel of 224, 28 to a pixel of 256
PIXEL = SIDE // 224
UNCLEAR = "?"
CLEARANCE = 3 * PIXEL  # between a thing and the water it is beside


@dataclass(frozen=True)
class Thing:
    """One thing of a scene. Lengths in units (`SIDE` to the picture's side), angles in 1/1024 turns, colours BGR."""

    glyph: str
    x: int  # of the centre
    y: int
    width: int  # half of it, before turning
    height: int
    angle: int = 0
    mirrored: bool = False
    variant: int = 0
    colors: tuple[tuple[int, int, int], ...] = ((0, 0, 0), (0, 0, 0), (0, 0, 0))  # fill, accent, rim
    rim: int = 0  # its width
    pattern: str = "plain"

    @property
    def reach(self) -> tuple[int, int]:
        """Half the width and height of the upright rectangle around it."""
        if GLYPHS[self.glyph].round:
            return self.width, self.height
        c, s = abs(cos(self.angle)), abs(sin(self.angle))
        return (c * self.width + s * self.height) // ONE, (s * self.width + c * self.height) // ONE

    @property
    def left(self) -> int:
        return self.x - self.reach[0]

    @property
    def right(self) -> int:
        return self.x + self.reach[0]

    @property
    def top(self) -> int:
        return self.y - self.reach[1]

    @property
    def bottom(self) -> int:
        return self.y + self.reach[1]


def worn(saucer: Thing, person: Thing) -> str:
    """A saucer on a person's head is a hat, one at the feet a plate; further away or beside them it is nothing."""
    aside, unit = abs(saucer.x - person.x), person.height
    for name, gap in (("hat", person.top - saucer.bottom), ("plate", saucer.top - person.bottom)):
        if aside * 10 <= 3 * unit and -2 * unit <= gap * 10 <= 3 * unit:
            return name
        if aside * 10 <= 9 * unit and -5 * unit < gap * 10 < 8 * unit:
            return UNCLEAR
    return ""


def side_of_water(spindle: Thing, water: Thing) -> str:
    """A spindle above the water is a bird, one below it a fish, however far away."""
    if spindle.bottom + CLEARANCE <= water.top:
        return "bird"
    return "fish" if spindle.top - CLEARANCE >= water.bottom else UNCLEAR


def height_by_house(burst: Thing, house: Thing) -> str:
    """A burst higher than a house's roof is the sun, one lower than its floor a flower, however far away."""
    step = burst.height * 3 // 10
    if burst.y + step <= house.top:
        return "sun"
    if burst.y - step >= house.bottom:
        return "flower"
    return "" if house.top + step <= burst.y <= house.bottom - step else UNCLEAR


def contained(inner: Thing, outer: Thing) -> str:
    """A frame within a ring is a coin, a ring within a frame a window; side by side they are nothing."""
    dx, dy = abs(inner.x - outer.x), abs(inner.y - outer.y)
    apart = max(dx - inner.reach[0] - outer.reach[0], dy - inner.reach[1] - outer.reach[1])
    if apart >= 0:
        return ""
    room = outer.width * 13 // 20
    if outer.glyph == "ring":
        # the frame's farthest corner
        inside = (dx + inner.reach[0]) ** 2 + (dy + inner.reach[1]) ** 2 <= room**2
    else:
        inside = max(dx, dy) + inner.width <= room - outer.reach[0] + outer.width
    around = max(dx, dy) + outer.width < inner.width  # then the other order decides
    return ("coin" if outer.glyph == "ring" else "window") if inside else "" if around else UNCLEAR


def faced(ball: Thing, muncher: Thing) -> str:
    """A muncher whose mouth is towards a ball at its height is eating; with its back to it, fleeing."""
    off = abs(ball.y - muncher.y)
    if off * 10 >= 13 * muncher.height:
        return ""
    ahead = (ball.x - muncher.x) * (-1 if muncher.mirrored else 1)
    if off * 10 > 5 * muncher.height or abs(ahead) < muncher.width:
        return UNCLEAR
    return "eating" if ahead > 0 else "fleeing"


@dataclass(frozen=True)
class Relation:
    """Two glyphs, and the rule that says which of its labels a pair of them gives, or none."""

    glyph: str
    anchor: str
    labels: tuple[str, ...]
    rule: Callable[[Thing, Thing], str]


RELATIONS = (
    Relation("saucer", "person", ("hat", "plate"), worn),
    Relation("spindle", "water", ("bird", "fish"), side_of_water),
    Relation("burst", "house", ("sun", "flower"), height_by_house),
    Relation("frame", "ring", ("coin",), contained),
    Relation("ring", "frame", ("window",), contained),
    Relation("ball", "muncher", ("eating", "fleeing"), faced),
)
_RULES = {(relation.glyph, relation.anchor): relation.rule for relation in RELATIONS}


@dataclass(frozen=True)
class Class:
    """One label: its name, how it is defined, and the relation it is defined by, if it is."""

    name: str
    definition: str
    relation: Relation | None = None


CLASSES = (
    Class("person", "a head, a body, arms up or down"),
    Class("tree", "a trunk under a crown or three layers of needles"),
    Class("house", "walls, a door, a window, and a pointed or flat roof"),
    Class("water", "a band that waves from the left to the right edge"),
    Class("star", "five points, turned anyhow"),
    Class("moon", "a crescent"),
    Class("heart", "a heart, nearly upright"),
    Class("ladder", "two rails and four rungs"),
    Class("bolt", "a stroke of lightning"),
    Class("cross", "two bars of equal length, turned anyhow"),
    Class("hat", "a saucer on the head of a person", RELATIONS[0]),
    Class("plate", "a saucer at the feet of a person", RELATIONS[0]),
    Class("bird", "a spindle above the water, however far", RELATIONS[1]),
    Class("fish", "a spindle below the water, however far", RELATIONS[1]),
    Class("sun", "a burst higher than the roof of a house, anywhere", RELATIONS[2]),
    Class("flower", "a burst lower than the floor of a house, anywhere", RELATIONS[2]),
    Class("coin", "a frame within a ring", RELATIONS[3]),
    Class("window", "a ring within a frame", RELATIONS[4]),
    Class("eating", "a muncher whose mouth is towards a ball at its height, however far", RELATIONS[5]),
    Class("fleeing", "a muncher whose back is towards a ball at its height, however far", RELATIONS[5]),
)
NAMES = tuple(each.name for each in CLASSES)
APPEARANCES = frozenset(each.name for each in CLASSES if each.relation is None)


def relation(thing: Thing, other: Thing) -> str:
    """The label that a pair of things gives in this order: a name, "" for none, or UNCLEAR."""
    rule = _RULES.get((thing.glyph, other.glyph))
    return rule(thing, other) if rule else ""


def unclear(thing: Thing, other: Thing) -> bool:
    """Whether the two stand so that a person might argue about the label."""
    return UNCLEAR in (relation(thing, other), relation(other, thing))


def labels_of(things: Iterable[Thing]) -> tuple[str, ...]:
    """The labels of a scene, in the order of CLASSES."""
    things = tuple(things)
    found = Counter(thing.glyph for thing in things if thing.glyph in APPEARANCES)
    found.update(relation(a, b) for a in things for b in things)
    return tuple(name for name in NAMES if found[name])
