"""The float64 reference: a graph run by its layers' NumPy rules, the oracle of every comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from prototxt_gen.base.errors import NetError, Problem

from ..layers import Misfit
from .graph import Graph

Blobs = Mapping[str, list[np.ndarray]]


def run_reference(graph: Graph, params: Blobs, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every value of the graph in float64, by value name; `params` (layer -> blobs) is left as it was."""
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
            tops = node.layer.reference(blobs, *(values[v.name] for v in node.bottoms))
        except Misfit as misfit:
            raise NetError(Problem(file=graph.file, line=node.line, layer=node.name, **misfit.parts)) from None
        after[node.name] = blobs
        for value, top in zip(node.tops, tops, strict=True):
            values[value.name] = top
            yield value.name, top
