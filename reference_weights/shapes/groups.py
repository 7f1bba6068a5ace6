"""Groups of things that are placed together: a person, perhaps with a saucer; the water, perhaps with a spindle.

What state a group is in, related one way, the other way or not at all, is drawn without regard to anything
else, so that the things alone do not tell the label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .classes import CLEARANCE, PIXEL, SIDE, Thing
from .glyphs import GLYPHS
from .lot import Lot, brightness
from .textures import PATTERNS

WATER_WIDTH = SIDE * 53 // 100  # half of it; its ends stay outside when it is tilted
EDGE = 2 * PIXEL  # no thing is nearer to the picture's edge
CONTRAST = 75  # grey levels between a thing and its background
DARKEST, BRIGHTEST = 15, 245


class Kit:
    """Makes the things of one scene: at a common scale, in colours that stand out from the background."""

    def __init__(self, lot: Lot, scale: int, brightness: int):
        self.lot = lot
        self.scale = scale  # percent of the glyphs' sizes
        self.brightness = brightness  # of the background, 0 to 255

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
        reach_x, reach_y = thing.reach
        if glyph != "water":
            thing = replace(thing, x=lot.between(EDGE + reach_x, SIDE - EDGE - reach_x))
        return replace(thing, y=lot.between(EDGE + reach_y, SIDE - EDGE - reach_y))

    def painted(self, thing: Thing) -> Thing:
        """The thing in colours of its own."""
        lot = self.lot
        fill = lot.color(self._level())
        away = lot.between(45, 75) * (1 if brightness(fill) < 128 else -1)
        accent = lot.color(brightness(fill) + away)
        rim = lot.color(DARKEST if brightness(fill) > 120 else BRIGHTEST)
        width = lot.between(20, 44) if lot.percent(60) else 0
        return replace(thing, colors=(fill, accent, rim), rim=width, pattern=PATTERNS[lot.below(len(PATTERNS))])

    def _level(self) -> int:
        """A brightness well above or below the background's."""
        below = max(0, self.brightness - CONTRAST - DARKEST)
        above = max(0, BRIGHTEST - self.brightness - CONTRAST)
        draw = self.lot.below(below + above)
        return DARKEST + draw if draw < below else self.brightness + CONTRAST + draw - below


def _person(kit: Kit, state: str) -> list[Thing]:
    lot, person, saucer = kit.lot, kit.thing("person"), kit.thing("saucer")
    unit = person.height
    if state == "alone":
        return [person]
    if state == "apart":
        return [person, saucer]
    if state == "beside":
        away = person.reach[0] + saucer.reach[0] + unit * lot.between(10, 60) // 100
        y = person.y + unit * lot.between(-50, 60) // 100
        return [person, replace(saucer, x=person.x + lot.sign() * away, y=y)]
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
    # The water may be low or high in the picture and the spindle is rather near, so that its own place tells little.
    water, spindle = kit.thing("water"), kit.thing("spindle")
    if state == "alone":
        return [water]
    away = water.reach[1] + CLEARANCE + spindle.reach[1] + kit.lot.below(1 + kit.lot.below(SIDE * 45 // 100))
    return [water, replace(spindle, y=water.y - away if state == "bird" else water.y + away)]


def _house(kit: Kit, state: str) -> list[Thing]:
    house, burst = kit.thing("house"), kit.thing("burst")
    if state == "alone":
        return [house]
    if state == "level":
        y = kit.lot.between(house.top + burst.height // 3, house.bottom - burst.height // 3)
        return [house, replace(burst, y=y)]
    # Two heights are drawn, then put in order, so that neither the burst nor the house is always high up.
    over, under = (burst, house) if state == "sun" else (house, burst)
    room = SIDE - 2 * EDGE - 2 * over.reach[1] - 2 * under.reach[1]
    first, second = sorted(kit.lot.between(0, room) for _ in range(2))
    top = EDGE + over.reach[1]
    return [replace(over, y=top + first), replace(under, y=top + second + over.reach[1] + under.reach[1])]


def _frames(kit: Kit, state: str) -> list[Thing]:
    lot, coin = kit.lot, kit.lot.percent(55)
    outer = kit.thing("ring" if coin else "frame")
    part = lot.between(36, 42) if coin else lot.between(46, 56)
    inner = kit.thing("frame" if coin else "ring", outer.height * part // 100)
    if state == "inside":
        slack = outer.height * 4 // 100
        x, y = (at + lot.between(-slack, slack) for at in (outer.x, outer.y))
        return [outer, replace(inner, x=x, y=y)]
    return {"apart": [outer, inner], "outer": [outer], "inner": [inner]}[state]


def _muncher(kit: Kit, state: str) -> list[Thing]:
    lot, muncher, ball = kit.lot, kit.thing("muncher"), kit.thing("ball")
    if state in ("muncher", "ball"):
        return [muncher if state == "muncher" else ball]
    if state == "off":
        return [muncher, ball]
    away = muncher.width + ball.width + 2 * PIXEL + lot.below(SIDE * 45 // 100)
    ahead = (-1 if muncher.mirrored else 1) * (1 if state == "eating" else -1)
    y = muncher.y + muncher.height * lot.between(-40, 40) // 100
    return [muncher, replace(ball, x=muncher.x + ahead * away, y=y)]


def _only(glyph: str, twice: int = 0) -> Callable[[Kit, str], list[Thing]]:
    """One thing of a glyph, or two so often in a hundred."""

    def make(kit: Kit, state: str) -> list[Thing]:
        return [kit.thing(glyph) for _ in range(2 if kit.lot.percent(twice) else 1)]

    return make


@dataclass(frozen=True)
class Group:
    """Things that are placed together; `weight`: how often; `states`: name -> percent."""

    weight: int
    make: Callable[[Kit, str], list[Thing]]
    states: dict[str, int]


ALWAYS = {"": 100}
# In the order in which they are placed: first what can stand in few places, or needs much room.
GROUPS = (
    Group(64, _water, {"alone": 40, "bird": 34, "fish": 26}),
    Group(100, _person, {"alone": 46, "hat": 20, "plate": 14, "beside": 10, "apart": 10}),
    Group(12, _only("person", 30), ALWAYS),
    Group(66, _house, {"alone": 38, "sun": 26, "flower": 19, "level": 17}),
    Group(43, _frames, {"inside": 50, "apart": 38, "outer": 6, "inner": 6}),
    Group(43, _muncher, {"eating": 36, "fleeing": 28, "off": 24, "muncher": 6, "ball": 6}),
    Group(60, _only("tree", 30), ALWAYS),
    Group(30, _only("star", 25), ALWAYS),
    Group(24, _only("heart", 20), ALWAYS),
    Group(20, _only("moon"), ALWAYS),
    Group(18, _only("ladder"), ALWAYS),
    Group(17, _only("bolt", 15), ALWAYS),
    Group(13, _only("cross", 20), ALWAYS),
    # Unlabelled on their own.
    Group(8, _only("saucer", 20), ALWAYS),
    Group(10, _only("spindle"), ALWAYS),
    Group(10, _only("burst"), ALWAYS),
)
