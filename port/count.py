"""Sizes of a net, layer by layer: learned parameters, statistics, multiply-adds of one forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

from prototxt_gen.measure import Measured, Request, Size
from prototxt_gen.schema.text import parse_prototxt

from .graph import Graph, build_graph
from .netstate import NetState

__all__ = ["Size", "layer_sizes", "measure", "part_sizes", "total"]


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


def measure(request: Request) -> Measured:
    """Shapes and sizes of a net given as text; raises ParseError or NetError with everything that is wrong."""
    parsed = parse_prototxt(request.text, dialect=request.dialect, file=request.file)
    graph = build_graph(parsed, NetState(request.phase), input_shapes=request.input_shapes)
    shapes = {blob: value.shape or () for blob, value in graph.blobs().items()}
    tops = {node.name: [value.shape or () for value in node.tops] for node in graph.nodes}
    return Measured(shapes, tops, layer_sizes(graph))
