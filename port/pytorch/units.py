"""Runs of layers that come again in a net, so that they are written once: found by what they compute, not by names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ..graph.graph import Node, Value
from ..layers.plain_torch import Piece

LONGEST = 40  # layers of a unit
LEAST = 4
GAIN = 8  # layers that must be saved, for a class takes lines of its own


@dataclass
class Unit:
    """A run of `length` layers and where it begins, each time; inputs and outputs by their places in the run."""

    length: int
    starts: list[int]


@dataclass
class Ends:
    """What one occurrence of a run reads from outside, and which of its values others read."""

    reads: list[Value]
    gives: list[Value]


Layers = list[tuple[Node, Piece]]


def find_units(layers: Layers) -> list[Unit]:
    """Units that do not overlap, the most saving first."""
    taken = [False] * len(layers)
    units: list[Unit] = []
    while (best := _best(layers, taken)) is not None:
        units.append(best)
        for start in best.starts:
            taken[start : start + best.length] = [True] * best.length
    return units


def _best(layers: Layers, taken: list[bool]) -> Unit | None:
    best, most = None, (GAIN, 0)
    kinds = [(piece.call, piece.make) for _, piece in layers]
    numbers = {kind: i for i, kind in enumerate(dict.fromkeys(kinds))}
    signs = [numbers[kind] for kind in kinds]
    for length in range(LEAST, min(LONGEST, len(layers) // 2) + 1):
        places: dict[object, list[int]] = {}
        free = [at for at in range(len(layers) - length + 1) if not any(taken[at : at + length])]
        alike = Counter(tuple(signs[at : at + length]) for at in free)
        for start in free:
            if alike[tuple(signs[start : start + length])] < 2:
                continue  # quicker than to look at what it reads
            found = places.setdefault(_form(layers, start, length), [])
            if not found or found[-1] + length <= start:
                found.append(start)
        for starts in places.values():
            # lines: each time needs two of its own; of runs that save as much, the one with the fewest ends
            ends = ends_of(layers, starts[0], length)
            gain = ((len(starts) - 1) * length - 2 * len(starts) - length // 2, -len(ends.reads) - len(ends.gives))
            if len(starts) > 1 and gain > most:
                best, most = Unit(length, starts), gain
    return best


def _form(layers: Layers, start: int, length: int) -> object:
    """What a run computes, whatever its names and sizes: equal runs can be one class."""
    ends = ends_of(layers, start, length)
    inside: dict[Value, object] = {value: ("in", i) for i, value in enumerate(ends.reads)}
    form: list[object] = []
    for i, (node, piece) in enumerate(layers[start : start + length]):
        form.append((piece.call, piece.make, tuple(inside[value] for value in node.bottoms)))
        inside |= {value: (i, j) for j, value in enumerate(node.tops)}
    return tuple(form), tuple(inside[value] for value in ends.gives)


def ends_of(layers: Layers, start: int, length: int) -> Ends:
    """What a run reads and gives, in the order in which it does."""
    run = [node for node, _ in layers[start : start + length]]
    made = [value for node in run for value in node.tops]
    inside = set(made)
    reads = list(dict.fromkeys(value for node in run for value in node.bottoms if value not in inside))
    used: dict[Value, int] = {}
    for node in run:
        for value in node.bottoms:
            used[value] = used.get(value, 0) + 1
    return Ends(reads, [value for value in made if not value.consumers or value.consumers > used.get(value, 0)])


def common(names: list[str]) -> tuple[str, list[str]]:
    """What names have in common, and the middle in which each differs: res2b_x, res12_x -> res_x, [2b, 12]."""
    shortest = min(names, key=len)
    head = next((i for i in range(len(shortest)) if len({name[i] for name in names}) > 1), len(shortest))
    rest = [name[head:] for name in names]
    least = min(map(len, rest))
    tail = next((i for i in range(least) if len({name[-1 - i] for name in rest}) > 1), least)
    return shortest[:head] + (rest[0][len(rest[0]) - tail :]), [each[: len(each) - tail] for each in rest]
