"""Weights files of a graph as Caffe saves them: the instantiated net, Split layers and all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prototxt_gen.schema.habits import Habits

from ..caffemodel import write_net
from ..graph.graph import Graph, Node
from ..graph.splits import insert_splits


def write_weights(path: str | Path, graph: Graph, blobs: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Write the blobs (layer -> float32 arrays in Caffe's order) as HDF5 if the path ends in .h5, else binary.

    Raises WeightsError for what the format cannot hold.
    """
    net = saved_net(graph)
    arrays = [blobs.get(layer.name, []) for layer in net.layer]
    if Path(path).suffix == ".h5":
        from .hdf5 import write_hdf5  # takes a moment to import

        write_hdf5(path, net, arrays)
    else:
        write_net(path, net, arrays)


def saved_net(graph: Graph) -> Any:
    """The NetParameter that Caffe saves for a graph (Net::ToProto), without blobs."""
    message = insert_splits(graph.net)
    net = type(message)(name=graph.name)
    net.input.extend(message.input)
    nodes = {node.name: node for node in graph.nodes}
    for layer in message.layer:
        copy = net.layer.add()
        copy.CopyFrom(layer)
        del copy.blobs[:]
        if not copy.HasField("phase"):
            phases = copy.DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_name
            copy.phase = phases[graph.state.phase].number
        if layer.name in nodes:
            _set_up(copy, nodes[layer.name], graph.habits)
    return net


def _set_up(message: Any, node: Node, habits: Habits) -> None:
    """What Caffe's layers add to their own definition: a loss its weight 1, statistics a learning rate of 0."""
    if not message.loss_weight and node.tops and node.tops[0].loss_weight:
        message.loss_weight.append(node.tops[0].loss_weight)
    node.layer.complete(message)
    fixed = [spec.statistic or node.layer.holds_still() for spec in node.specs]
    if any(fixed):
        while len(message.param) < len(fixed):
            message.param.add()
        for entry in (entry for entry, still in zip(message.param, fixed, strict=False) if still):
            entry.lr_mult = 0
            if habits.layers_stop_decay:
                entry.decay_mult = 0
