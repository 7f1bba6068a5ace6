"""LogSoftmax along one axis."""

from __future__ import annotations

from math import log

import numpy as np
import torch

from ..base import Layer, canonical_axis, float32, register

LEAST = log(float32(1e-20))  # the fork takes the logarithm of no share below this


@register
class LogSoftmax(Layer):
    """The logarithm of the softmax along `axis`, never below log(1e-20); the forks' log_softmax_layer."""

    type = "LogSoftmax"
    pack = "synopsys"
    family = "activation"
    param = ("log_softmax_param",)

    axis: int = 1

    def top_shapes(self, x):
        canonical_axis(self.axis, len(x))
        return (x,)

    def reference(self, blobs, x):
        shifted = x - x.max(self.axis, keepdims=True, initial=-np.inf)
        return (np.maximum(shifted - np.log(np.exp(shifted).sum(self.axis, keepdims=True)), LEAST),)

    def forward(self, module, x):
        return (torch.log_softmax(x, self.axis).clamp(min=LEAST),)

    def onnx(self, graph, x):
        y = graph.op("LogSoftmax", x, axis=canonical_axis(self.axis, len(graph.shape(x))))
        return (graph.op("Max", y, graph.constant(LEAST)),)
