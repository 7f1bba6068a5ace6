"""Positions for a drawing of a graph from top to bottom: ranks, order within a rank, and x, in three steps.

Edges run between neighbouring ranks only; a longer one passes through a waypoint in every rank between,
which has a place of its own, so that no line crosses a box.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_SWEEPS = 12
_MAIN, _LONG, _SHORT = 8.0, 2.0, 1.0  # how much an edge wants to be vertical: on a longest way, between waypoints, else
_FIRM, _FIRMEST = 1e4, 1e8  # how much harder a box is to move than a waypoint; one on a longest way of all


@dataclass(eq=False)
class Place:
    """A box, or a waypoint (box -1): its rank, its x, and the places it is joined to above and below."""

    box: int
    rank: int
    width: float
    height: int = 0  # the longest way down
    firmness: float = 1.0
    x: float = 0.0
    above: list[Place] = field(default_factory=list)
    below: list[Place] = field(default_factory=list)

    @property
    def is_waypoint(self) -> bool:
        return self.box < 0


@dataclass
class Layout:
    """The places of all boxes, and the way of each edge (source, target) from place to place."""

    boxes: list[Place]
    ways: dict[tuple[int, int], dict[int, list[Place]]]  # (source, bundle) -> target -> places
    ranks: list[list[Place]]


def lay_out(widths: Sequence[float], bundles: Sequence[tuple[int, Sequence[int]]], gap: float) -> Layout:
    """Place boxes of the given widths; a bundle is a source and the targets that one line from it forks to.

    Boxes are numbered so that every edge leads to a higher number.
    """
    ranks_of = _ranks(len(widths), bundles)
    boxes = [Place(i, rank, width) for i, (rank, width) in enumerate(zip(ranks_of, widths, strict=True))]
    ranks: list[list[Place]] = [[] for _ in range(max(ranks_of, default=-1) + 1)]
    for box in boxes:
        ranks[box.rank].append(box)
    ways = {(source, i): _way(boxes, ranks, source, targets) for i, (source, targets) in enumerate(bundles)}
    fed = _fed(len(boxes), bundles)
    for box in reversed(boxes):
        box.height = max((boxes[target].height + 1 for target in fed[box.box]), default=0)
    for box in boxes:
        box.firmness = _FIRMEST if box.rank + box.height == len(ranks) - 1 else _FIRM
    _order(ranks)
    _straighten(ranks, gap)
    return Layout(boxes, ways, ranks)


def _ranks(count: int, bundles: Iterable[tuple[int, Sequence[int]]]) -> list[int]:
    """The longest way from a source; a box without anything above stands just over the first one it feeds."""
    ranks, fed = [0] * count, _fed(count, bundles)
    for i in range(count):
        for target in fed[i]:
            ranks[target] = max(ranks[target], ranks[i] + 1)
    inner = {target for targets in fed for target in targets}
    for i in range(count):
        if i not in inner and fed[i]:
            ranks[i] = min(ranks[target] for target in fed[i]) - 1
    return ranks


def _fed(count: int, bundles: Iterable[tuple[int, Sequence[int]]]) -> list[list[int]]:
    """For each box the boxes that it feeds."""
    fed: list[list[int]] = [[] for _ in range(count)]
    for source, targets in bundles:
        fed[source] += targets
    return fed


def _way(boxes: list[Place], ranks: list[list[Place]], source: int, targets: Sequence[int]) -> dict[int, list[Place]]:
    """Join a source to its targets, through waypoints that all of them share."""
    start = boxes[source]
    last = max((boxes[target].rank for target in targets), default=start.rank)
    line = [start]
    for rank in range(start.rank + 1, last):
        line.append(Place(-1, rank, 0.0))
        ranks[rank].append(line[-1])
        _join(line[-2], line[-1])
    ways = {}
    for target in dict.fromkeys(targets):
        way = line[: boxes[target].rank - start.rank]
        _join(way[-1], boxes[target])
        ways[target] = [*way, boxes[target]]
    return ways


def _join(upper: Place, lower: Place) -> None:
    upper.below.append(lower)
    lower.above.append(upper)


def _order(ranks: list[list[Place]]) -> None:
    """Order each rank by the mean position of its neighbours, again and again; keep the fewest crossings."""
    best, fewest = [list(rank) for rank in ranks], _crossings(ranks)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for rank in ranks if down else reversed(ranks):
            position = {id(p): i for other in _beside(ranks, rank, down) for i, p in enumerate(other)}
            own = {id(place): float(i) for i, place in enumerate(rank)}
            for place in rank:
                near = [position[id(p)] for p in (place.above if down else place.below)]
                if near:
                    own[id(place)] = sum(near) / len(near)
            rank.sort(key=lambda place: (own[id(place)], place.is_waypoint))
        crossings = _crossings(ranks)
        if crossings < fewest:
            best, fewest = [list(rank) for rank in ranks], crossings
    for rank, order in zip(ranks, best, strict=True):
        rank[:] = order


def _beside(ranks: list[list[Place]], rank: list[Place], down: bool) -> list[list[Place]]:
    at = rank[0].rank + (-1 if down else 1)
    return [ranks[at]] if 0 <= at < len(ranks) else []


def _crossings(ranks: list[list[Place]]) -> int:
    """How many pairs of edges between neighbouring ranks cross."""
    count = 0
    for rank in ranks[1:]:
        upper = {id(p): i for i, p in enumerate(ranks[rank[0].rank - 1])}
        edges = [(upper[id(p)], i) for i, place in enumerate(rank) for p in place.above]
        count += sum(a > c and b < d for k, (a, b) in enumerate(edges) for c, d in edges[k + 1 :])
    return count


def _straighten(ranks: list[list[Place]], gap: float) -> None:
    """Move every place under and over its neighbours, as far as its own rank leaves room."""
    for rank in ranks:
        _spread(rank, [0.0] * len(rank), gap)
    for sweep in range(2 * _SWEEPS):
        down = sweep % 2 == 0
        for rank in ranks if down else reversed(ranks):
            _spread(rank, [_wanted(place, down) for place in rank], gap)


def _wanted(place: Place, down: bool) -> float:
    """The weighted median x of the neighbours on one side, or where it is."""
    near = place.above if down else place.below
    if not near:
        return place.x
    sides = sorted((other.x, _weight(place, other)) for other in near)
    half, passed = sum(weight for _, weight in sides) / 2, 0.0
    for i, (x, weight) in enumerate(sides):
        passed += weight
        if passed == half:
            return (x + sides[i + 1][0]) / 2
        if passed > half:
            return x
    return place.x


def _weight(place: Place, other: Place) -> float:
    if place.is_waypoint or other.is_waypoint:
        return _LONG if place.is_waypoint and other.is_waypoint else _SHORT
    return _MAIN if abs(place.height - other.height) == 1 else _SHORT


def _spread(rank: list[Place], wanted: list[float], gap: float) -> None:
    """The x nearest to the wanted ones (least squares) that keep the order and the gaps; boxes count most."""
    offsets, edge = [], 0.0
    for before, place in zip([None, *rank], rank, strict=False):
        edge += (before.width + place.width) / 2 + gap if before else 0.0
        offsets.append(edge)
    groups: list[tuple[float, float, int]] = []  # (mean, weight, count) of places that touch
    for place, x, offset in zip(rank, wanted, offsets, strict=True):
        mean, weight, count = x - offset, place.firmness, 1
        while groups and groups[-1][0] > mean:
            other, more, size = groups.pop()
            mean = (mean * weight + other * more) / (weight + more)
            weight, count = weight + more, count + size
        groups.append((mean, weight, count))
    shifts = [mean for mean, _, count in groups for _ in range(count)]
    for place, shift, offset in zip(rank, shifts, offsets, strict=True):
        place.x = shift + offset
