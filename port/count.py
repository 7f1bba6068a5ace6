"""Sizes of a net, layer by layer: learned parameters, statistics, multiply-adds of one forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from .graph import Graph


@dataclass(frozen=True)
class Size:
    """Learned parameters, statistics (moved by forward, not by the solver) and multiply-adds."""

    parameters: int = 0
    statistics: int = 0
    multiply_adds: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(
            self.parameters + other.parameters,
            self.statistics + other.statistics,
            self.multiply_adds + other.multiply_adds,
        )


def layer_sizes(graph: Graph) -> dict[str, Size]:
    """Layer -> its size, multiply-adds at the batch size the net file gives."""
    sizes: dict[str, Size] = {}
    for node in graph.nodes:
        learned = sum(prod(s.shape) for s in node.specs if not s.statistic)
        kept = sum(prod(s.shape) for s in node.specs if s.statistic)
        work = node.layer.multiply_adds([v.shape or () for v in node.bottoms], [v.shape or () for v in node.tops])
        sizes[node.name] = sizes.get(node.name, Size()) + Size(learned, kept, work)
    return sizes


def total(sizes: Iterable[Size]) -> Size:
    """The sum of some sizes."""
    return sum(sizes, Size())


def part_sizes(graph: Graph, parts: Mapping[str, str]) -> dict[str, Size]:
    """Part -> size, for layers named in `parts` (layer -> part), in the order of the net."""
    result: dict[str, Size] = {}
    for layer, size in layer_sizes(graph).items():
        part = parts.get(layer, "")
        result[part] = result.get(part, Size()) + size
    return result
