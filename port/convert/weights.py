"""Weights of a converted net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..graph.build import build_graph
from ..graph.graph import Graph
from ..graph.state import NetState
from ..weights.load import LoadReport, load_arrays, shared_slots
from ..weights.save import write_weights
from .net import Conversion


def convert_weights(
    conversion: Conversion,
    caffemodel: Any,
    output: str | Path,
    *,
    phase: str = "TEST",
    input_shapes: dict[str, tuple[int, ...]] | None = None,
) -> LoadReport:
    """Write the weights of the converted net from those of the original; returns what became of them.

    `caffemodel` is what load_net takes; `output` is HDF5 if it ends in .h5. The file holds the layers that
    exist in `phase`; `input_shapes` gives the shapes of data layers' tops. Raises WeightsError, NetError.
    """
    state = NetState(phase)
    graph = build_graph(conversion.source, state, input_shapes=input_shapes)
    arrays, report = load_arrays(graph, caffemodel)
    blobs = conversion.blobs(blobs_of(graph, arrays))
    target = build_graph(conversion.parsed, state, input_shapes=input_shapes)
    names = {node.name for node in target.nodes if node.specs}
    # Statistics divided by their weight are rounded here, as Caffe rounds them in each forward pass.
    single = {name: [np.asarray(b, np.float32) for b in held] for name, held in blobs.items() if name in names}
    write_weights(output, target, single)
    return report


def blobs_of(graph: Graph, arrays: dict[tuple[int, int], Any]) -> dict[str, list[np.ndarray]]:
    """Layer -> its blobs in Caffe's order, from arrays that may be those of the layer it shares them with."""
    owners = shared_slots(graph)
    return {
        node.name: [
            np.asarray(arrays[owners.get((i, j), (i, j))]).reshape(spec.shape) for j, spec in enumerate(node.specs)
        ]
        for i, node in enumerate(graph.nodes)
        if node.specs
    }
