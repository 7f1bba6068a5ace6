"""The part of a net that some of its blobs need, on a device, for images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from prototxt_gen.base.errors import NetError, Problem, Problems, UsageError, closest

Floats = NDArray[np.float32]


def part_of(net: Any, blobs: Sequence[str]) -> fx.GraphModule:
    """The layers that some blobs need, as a module with the net's inputs that returns a dict of those blobs.

    It shares the net's parameters. Raises UsageError naming every blob that the net does not compute.
    """
    known = net.caffe.blobs()
    places = {node.meta["value"]: node for node in net.graph.nodes if "value" in node.meta}
    with Problems(UsageError, net.caffe.file) as problems:
        for blob in blobs:
            if blob not in known or known[blob].name not in places:
                problems.add(f"the net has no blob '{blob}'", fix=closest(blob, known))
    copied: dict[fx.Node, fx.Node] = {}
    graph = fx.Graph()
    graph.graph_copy(net.graph, copied)
    graph.output({blob: copied[places[known[blob].name]] for blob in blobs})
    part = fx.GraphModule(net, graph)
    part.graph.eliminate_dead_code()  # what comes after, or beside
    part.recompile()
    return part.eval()


def only_input(net: Any) -> tuple[str, tuple[int, ...]]:
    """The image blob of a net and its shape N x C x H x W; raises NetError unless it is the only input."""
    inputs = {value.blob: value.shape for value in net.caffe.inputs}
    if len(inputs) == 1:
        blob, shape = next(iter(inputs.items()))
        if shape is not None and len(shape) == 4 and shape[1] in (1, 3):
            return blob, shape
    found = ", ".join(f"'{blob}' {shape}" for blob, shape in inputs.items()) or "none"
    expected = "one, of shape N x 3 x height x width (or 1 channel)"
    raise NetError(Problem(f"the inputs of the net are {found}", expected, file=net.caffe.file))


def require_images_alone(net: Any) -> None:
    """Raise NetError for a net that computes an image with what it keeps of those before."""
    recurrent = [node.name for node in net.caffe.nodes if node.layer.carries_state]
    if recurrent:
        found = f"the layer '{recurrent[0]}' carries states from one batch to the next"
        raise NetError(Problem(found, "a net that computes each image by itself", file=net.caffe.file))


class Runner:
    """Computes blobs of a net for blocks of prepared images; raises NetError, UsageError."""

    def __init__(self, net: Any, blobs: Sequence[str], device: str = "cpu"):
        from ..onnx.export import free_axes

        self.input, shape = only_input(net)
        require_images_alone(net)
        self.channels, self.height, self.width = shape[1:]
        self.batch = None if free_axes(net.caffe) else shape[0]  # what the net fixes the batch size to
        self.device = torch.device(device)
        self.name = net.input_names[self.input]
        self.part = part_of(net, blobs).to(self.device)

    def run(self, block: Floats) -> dict[str, Floats]:
        """Images N x C x H x W -> blob -> values, as the net gives them."""
        cudnn = torch.backends.cudnn
        exact = cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False)
        with torch.inference_mode(), exact:
            given = {self.name: torch.from_numpy(np.ascontiguousarray(block)).to(self.device)}
            return {blob: value.cpu().numpy() for blob, value in self.part(**given).items()}

    def rows(self, block: Floats, blob: str) -> Floats:
        """The same of one blob, a row an image; a block of another size than the net's is cut and filled up."""
        size = self.batch or len(block)
        rows = []
        for start in range(0, len(block), size):
            piece = block[start : start + size]
            whole = np.concatenate([piece, np.zeros((size - len(piece), *piece.shape[1:]), np.float32)])
            values = self.run(whole)[blob]
            if len(values) != size:
                raise NetError(f"the blob '{blob}' has {len(values)} rows for {size} images; expected one for each")
            rows.append(values.reshape(size, -1)[: len(piece)])
        return np.concatenate(rows)
