"""Forward passes of a net on a batch: its weighted loss and its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..module import CaffeNet
from ..net import run_values
from .overwriting import overwriting, overwriting_layers

Batch = Mapping[str, Any]
Outputs = dict[str, torch.Tensor]
Call = Callable[[dict[str, torch.Tensor]], Outputs]


class Passes:
    """Runs a net on batches; `call` may be replaced by another way to run it."""

    def __init__(self, net: CaffeNet):
        self.net = net
        self.weighted = [v for node in net.caffe.nodes for v in node.tops if v.loss_weight]
        self.overwriting = [] if net.caffe.faithful_bugs else overwriting_layers(net)  # backward may read them later
        self.call: Call = self._call

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, Outputs]:
        """The loss (every top with a loss weight, weighted and summed; semantics 1.30) and all outputs, by blob.

        `batch` maps inputs to arrays or tensors, which go to the device of the net.
        """
        device = next((p.device for p in self.net.parameters()), torch.device("cpu"))
        inputs = {k: torch.as_tensor(v, dtype=torch.float32, device=device) for k, v in batch.items()}
        blobs = {v.name: v.blob for v in self.net.caffe.outputs}
        if all(v.name in blobs for v in self.weighted):
            found = self.call(inputs)
            values = {name: found[blob] for name, blob in blobs.items()}
        else:
            values = run_values(self.net, inputs)
            found = {blob: values[name] for name, blob in blobs.items()}
        terms = [values[v.name].sum() * v.loss_weight for v in self.weighted]
        loss = terms[0] if len(terms) == 1 else torch.stack(terms).sum() if terms else torch.zeros(())
        return loss, found

    def _call(self, inputs: dict[str, torch.Tensor]) -> Outputs:
        with overwriting(self.overwriting):
            return self.net(**inputs)
