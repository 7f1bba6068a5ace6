"""Softmax along one axis, every other position on its own."""

from __future__ import annotations

import numpy as np
import torch

from .base import Layer, canonical_axis, register
from .memory import Reads


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """Softmax of a float64 array, shifted by the maximum as Caffe does."""
    e = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
    return e / e.sum(axis, keepdims=True)


@register
class Softmax(Layer):
    """Softmax along `axis` (1 by default, never the last by default); semantics 1.13 (softmax_layer)."""

    type = "Softmax"
    family = "activation"
    param = ("softmax_param",)

    engine: str = "DEFAULT"
    axis: int = 1

    def top_shapes(self, x):
        canonical_axis(self.axis, len(x))
        return (x,)

    def reference(self, blobs, x):
        return (softmax(x, self.axis),)

    def forward(self, module, x):
        return (torch.softmax(x, self.axis),)

    def onnx(self, graph, x):
        return (graph.op("Softmax", x, axis=self.axis),)

    def reads(self):
        return Reads(tops=(0,))

    def spoiled_gradient(self, grads, held):
        (y,) = held.tops
        return ((grads[0] - (grads[0] * y).sum(self.axis, keepdim=True)) * y,)
