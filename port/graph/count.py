"""Sizes of a net, layer by layer: learned parameters, statistics, multiply-adds of one forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from prototxt_gen.schema.text import parse_prototxt

from ..layers import Shape
from .build import build_graph
from .graph import Graph, Node
from .state import NetState


@dataclass(frozen=True)
class Size:
    """Learned values, statistics that only forward moves, multiply-adds of one forward pass."""

    parameters: int = 0
    statistics: int = 0
    multiply_adds: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(
            self.parameters + other.parameters,
            self.statistics + other.statistics,
            self.multiply_adds + other.multiply_adds,
        )


def node_size(node: Node) -> Size:
    """The size of one layer, multiply-adds at the batch size the net file gives."""
    learned = sum(prod(s.shape) for s in node.specs if not s.statistic)
    kept = sum(prod(s.shape) for s in node.specs if s.statistic)
    work = node.layer.multiply_adds([v.shape or () for v in node.bottoms], [v.shape or () for v in node.tops])
    return Size(learned, kept, work)


def layer_sizes(graph: Graph) -> dict[str, Size]:
    """Layer -> its size."""
    sizes: dict[str, Size] = {}
    for node in graph.nodes:
        sizes[node.name] = sizes.get(node.name, Size()) + node_size(node)
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


@dataclass(frozen=True)
class Measured:
    """A net in one state: blob -> shape of its last version, layer -> its size."""

    graph: Graph
    shapes: dict[str, Shape]
    sizes: dict[str, Size]

    def size(self, parts: Mapping[str, str] | None = None, *wanted: str) -> Size:
        """The size of the whole net, or with `parts` (layer -> part) of the wanted parts."""
        return total(size for layer, size in self.sizes.items() if parts is None or parts.get(layer) in wanted)


def measure(
    text: str, dialect: str, phase: str = "TEST", input_shapes: Mapping[str, Shape] | None = None, file: str = ""
) -> Measured:
    """Shapes and sizes of a net given as text; raises ParseError or NetError with everything that is wrong."""
    graph = build_graph(parse_prototxt(text, dialect=dialect, file=file), NetState(phase), input_shapes=input_shapes)
    return Measured(graph, {blob: value.shape or () for blob, value in graph.blobs().items()}, layer_sizes(graph))
