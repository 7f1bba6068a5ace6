"""The float64 reference: a graph run by its layers' NumPy rules, the oracle of every comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from prototxt_gen.base.errors import NetError, Problem

from ..layers import Misfit
from .graph import Graph, Node
from .sizes import pass_values, require_memory

Blobs = Mapping[str, list[np.ndarray]]


def run_reference(graph: Graph, params: Blobs, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every value of the graph in float64, by value name; `params` (layer -> blobs) is left as it was."""
    require_memory(graph, 8 * pass_values(graph, inputs), "the blobs in double precision")
    return dict(reference_values(graph, params, inputs, {}))


def reference_values(
    graph: Graph, params: Blobs, inputs: Mapping[str, np.ndarray], after: dict[str, list[np.ndarray]]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (value name, array) in topological order; `after` receives each layer's blobs after forward."""
    values = {v.name: np.asarray(inputs[v.blob], np.float64) for v in graph.inputs}
    yield from values.items()
    for node in graph.nodes:
        if node.layer.kind == "data":
            continue
        blobs = [np.array(blob, np.float64) for blob in params.get(node.name, [])]
        try:
            bottoms = [values[v.name] for v in node.bottoms]
            tops = _of_nothing(node, bottoms) or node.layer.reference(blobs, *bottoms)
        except Misfit as misfit:
            raise NetError(Problem(file=graph.file, line=node.line, layer=node.name, **misfit.parts)) from None
        after[node.name] = blobs
        for value, top in zip(node.tops, tops, strict=True):
            values[value.name] = top
            yield value.name, top


def _of_nothing(node: Node, bottoms: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The tops of a layer whose tops hold no values because a bottom holds none; else ()."""
    if node.layer.selects or all(bottom.size for bottom in bottoms):
        return ()
    shapes = node.layer.top_shapes(*(bottom.shape for bottom in bottoms))
    return tuple(map(np.zeros, shapes)) if all(0 in shape for shape in shapes) else ()
