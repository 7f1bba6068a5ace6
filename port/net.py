"""The API that others build on: load a net, run it, reach its parameters, save it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx

from prototxt_gen.base.errors import NetError, Problems, closest
from prototxt_gen.schema.packs import joined
from prototxt_gen.schema.text import Parsed

from .graph.build import load_graph
from .graph.notes import warn_of_sharing
from .graph.sizes import parameter_bytes, pass_values, require_memory
from .layers import show
from .module import CaffeNet, LayerModule, build_module
from .weights.load import LoadReport, load_arrays, stored_weights
from .weights.save import write_weights
from .weights.sources import sources


def load_net(
    prototxt: str | Path | Parsed,
    caffemodel: Any = None,
    *,
    phase: str = "TEST",
    stages: tuple[str, ...] = (),
    level: int = 0,
    dialect: str | None = None,
    strict: bool = True,
    seed: int = 0,
    faithful_bugs: bool = False,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    packs: Iterable[str] = (),
) -> CaffeNet:
    """A Caffe net as a torch.fx.GraphModule; raises ParseError, NetError or WeightsError with all problems.

    `caffemodel` is a path, a comma list or a sequence of paths (later ones over earlier ones); without it
    the net's fillers make the weights from `seed`. `strict` refuses a net layer that no file has. `dialect`
    None detects it; `input_shapes` gives the shapes of data layers' tops, or replaces those of inputs, by
    blob; `faithful_bugs` computes the documented defects of Caffe (docs/layers.md); without it a
    SharedMemoryWarning names the layers where Caffe's memory made the difference. `net.caffe` is the graph
    (with the dialect, the packs of forks, and the reasons), `net.report` says what was loaded. `packs` declares packs
    beside those that are recognised; `dialect` may do so too (`bvlc+ssd`).
    """
    texts = [] if isinstance(prototxt, Parsed) else sources("prototxt", [prototxt])
    graph = load_graph(
        prototxt,
        phase=phase,
        stages=stages,
        level=level,
        dialect=joined(dialect, packs),
        faithful_bugs=faithful_bugs,
        input_shapes=input_shapes,
        stored=None if caffemodel is None else partial(stored_weights, caffemodel),
    )
    arrays, report = ({}, LoadReport()) if caffemodel is None else load_arrays(graph, caffemodel, strict)
    require_memory(graph, parameter_bytes(graph, arrays), "the net's parameters")
    net = build_module(graph, arrays, seed)
    report.sources[:0] = texts
    net.report = report
    warn_of_sharing(graph)
    return net


def load_weights(net: CaffeNet, caffemodel: Any, strict: bool = True) -> LoadReport:
    """Copy weights files into a net that exists, by the rules of `load_net`; raises WeightsError."""
    arrays, report = load_arrays(net.caffe, caffemodel, strict)
    with torch.no_grad():
        for (i, j), array in arrays.items():
            blob = net.layer(net.caffe.nodes[i].name).blobs[j]
            blob.copy_(torch.tensor(array, dtype=torch.float32).reshape(blob.shape))
    if (held := net.__dict__.get("report")) is not None:
        held.sources += report.sources
    return report


class _Recorder(fx.Interpreter):
    """Runs a net node by node and keeps every value."""

    def __init__(self, net: CaffeNet):
        super().__init__(net, garbage_collect_values=True)
        self.extra_traceback = False  # our errors say where they happened; fx would append its own notes
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
    return [_tensor(inputs[v.blob]) for v in graph.inputs]


def _tensor(values: Any) -> torch.Tensor:
    if isinstance(values, torch.Tensor):
        return values.to(torch.float32)
    # a copy: torch takes no negative strides (an image turned to BGR) and warns of read-only arrays
    return torch.from_numpy(np.array(values, np.float32, order="C"))


def run_values(net: CaffeNet, inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Every value of one forward pass as tensors that autograd can go back through, by value name."""
    recorder = _Recorder(net)
    recorder.run(*checked_inputs(net, inputs))
    return recorder.values


def run_blobs(net: CaffeNet, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """One forward pass: every blob (of an in-place chain the last version) -> float32 array, Caffe's names."""
    require_memory(net.caffe, 4 * pass_values(net.caffe, inputs), "the blobs of a pass")
    with torch.no_grad():
        values = run_values(net, inputs)
    return {blob: _array(values[v.name]) for blob, v in net.caffe.blobs().items() if v.name in values}


def _array(value: torch.Tensor) -> np.ndarray:
    """A value as an array, which is never the memory of a parameter."""
    return value.detach().clone().numpy() if isinstance(value, torch.nn.Parameter) else value.numpy()


def params(net: CaffeNet) -> dict[str, list[torch.Tensor]]:
    """Layer -> its live parameters and statistics in Caffe's order and shapes (layers that have some); raises NetError
    where their module was exchanged."""
    require_layers(net, having_blobs=True)
    return {node.name: net.layer(node.name).blobs for node in net.caffe.nodes if node.specs}


def require_layers(net: CaffeNet, having_blobs: bool = False) -> None:
    """Raise NetError naming every layer (of those with blobs alone) whose module somebody has exchanged."""
    with Problems(NetError, net.caffe.file) as problems:
        for node in net.caffe.nodes:
            if node.layer.kind == "data" or (having_blobs and not node.specs):
                continue
            module = net.layer(node.name)
            if not isinstance(module, LayerModule):
                found = f"its module was exchanged for {type(module).__name__}, which is no layer of Caffe"
                problems.add(found, layer=node.name, line=node.line, fix=_CHANGE)


_CHANGE = "change the layer in the prototxt (docs/training.md), or keep the net's state_dict"


def param_arrays(net: CaffeNet) -> dict[str, list[np.ndarray]]:
    """Layer -> copies of its blobs as float32 arrays; raises NetError for a net that is no longer the file's."""
    require_layers(net)
    return {name: [blob.detach().cpu().numpy().copy() for blob in blobs] for name, blobs in params(net).items()}


def save_caffemodel(net: CaffeNet, path: str | Path) -> None:
    """Write the net's weights as Caffe would: the instantiated net, Split layers included, all blobs in order.

    A path that ends in .h5 is written as HDF5. Raises WeightsError for what the format cannot hold.
    """
    held = {layer: [blob.detach().cpu().numpy() for blob in blobs] for layer, blobs in params(net).items()}
    write_weights(path, net.caffe, held)
