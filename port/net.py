"""The API that others build on: load a net, run it, reach its parameters, save it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx

from prototxt_gen.errors import NetError, Problems, closest

from .caffemodel import write_net
from .graph import Node, load_graph
from .layers import show
from .module import CaffeNet, build_module
from .splits import insert_splits
from .weights import LoadReport, load_arrays


def load_net(
    prototxt: str | Path,
    caffemodel: Any = None,
    *,
    phase: str = "TEST",
    stages: tuple[str, ...] = (),
    level: int = 0,
    dialect: str | None = None,
    strict: bool = True,
    seed: int = 0,
    faithful_bugs: bool = False,
) -> CaffeNet:
    """A Caffe net as a torch.fx.GraphModule; raises ParseError, NetError or WeightsError with all problems.

    `caffemodel` is a path, a comma list or a sequence of paths (later ones over earlier ones); without it
    the net's fillers make the weights from `seed`. `strict` refuses a net layer that no file has. `dialect`
    None detects it; `net.caffe` is the graph (with the dialect and the reason), `net.report` what was loaded.
    """
    graph = load_graph(prototxt, phase=phase, stages=stages, level=level, dialect=dialect, faithful_bugs=faithful_bugs)
    arrays, report = ({}, LoadReport()) if caffemodel is None else load_arrays(graph, caffemodel, strict)
    net = build_module(graph, arrays, seed)
    net.report = report
    return net


class _Recorder(fx.Interpreter):
    """Runs a net node by node and keeps every value."""

    def __init__(self, net: CaffeNet):
        super().__init__(net, garbage_collect_values=True)
        self.values: dict[str, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if "value" in n.meta:
            self.values[n.meta["value"]] = result
        return result


def checked_inputs(net: CaffeNet, inputs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The inputs in the net's order as float32 tensors; raises NetError naming all that are wrong."""
    graph = net.caffe
    with Problems(NetError, graph.file) as problems:
        for name in inputs:
            if name not in net.input_names:
                problems.add(f"the net has no input '{name}'", fix=closest(name, net.input_names))
        for value in graph.inputs:
            if value.blob not in inputs:
                problems.add(f"the input '{value.blob}' is missing", expected=show(value.shape or ()))
            elif value.shape is not None and np.ndim(inputs[value.blob]) != len(value.shape):
                found = f"the input '{value.blob}' has shape {show(tuple(np.shape(inputs[value.blob])))}"
                problems.add(found, expected=f"{len(value.shape)} axes, as in {show(value.shape)}")
    return [torch.as_tensor(inputs[v.blob], dtype=torch.float32) for v in graph.inputs]


def run_values(net: CaffeNet, inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Every value of one forward pass as tensors that autograd can go back through, by value name."""
    recorder = _Recorder(net)
    recorder.run(*checked_inputs(net, inputs))
    return recorder.values


def run_blobs(net: CaffeNet, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """One forward pass: every blob (of an in-place chain the last version) -> float32 array, Caffe's names."""
    with torch.no_grad():
        values = run_values(net, inputs)
    return {blob: values[v.name].numpy() for blob, v in net.caffe.blobs().items() if v.name in values}


def params(net: CaffeNet) -> dict[str, list[torch.Tensor]]:
    """Layer -> its live parameters and statistics in Caffe's order and shapes (layers that have some)."""
    return {node.name: net.layer(node.name).blobs for node in net.caffe.nodes if node.specs}


def param_arrays(net: CaffeNet) -> dict[str, list[np.ndarray]]:
    """Layer -> copies of its blobs as float32 arrays."""
    return {name: [blob.detach().cpu().numpy().copy() for blob in blobs] for name, blobs in params(net).items()}


def save_caffemodel(net: CaffeNet, path: str | Path) -> None:
    """Write the net's weights as Caffe would: the instantiated net, Split layers included, all blobs in order."""
    graph = net.caffe
    message = insert_splits(graph.net)
    state = graph.state.phase
    result = type(message)(name=graph.name)
    result.input.extend(message.input)
    held = params(net)
    blobs = []
    nodes = {node.name: node for node in graph.nodes}
    for layer in message.layer:
        copy = result.layer.add()
        copy.CopyFrom(layer)
        del copy.blobs[:]
        if not copy.HasField("phase"):
            copy.phase = copy.DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_name[state].number
        if layer.name in nodes:
            _set_up(copy, nodes[layer.name], graph.dialect)
        blobs.append([blob.detach().cpu().numpy() for blob in held.get(layer.name, [])])
    write_net(path, result, blobs)


def _set_up(message: Any, node: Node, dialect: str) -> None:
    """What Caffe's layers add to their own definition: a loss its weight 1, statistics a learning rate of 0."""
    if not message.loss_weight and node.tops and node.tops[0].loss_weight:
        message.loss_weight.append(node.tops[0].loss_weight)
    fixed = [spec.statistic or getattr(node.layer, "frozen", False) for spec in node.specs]
    if any(fixed):
        while len(message.param) < len(fixed):
            message.param.add()
        for entry in (entry for entry, still in zip(message.param, fixed, strict=False) if still):
            entry.lr_mult = 0
            if dialect == "srn":
                entry.decay_mult = 0
