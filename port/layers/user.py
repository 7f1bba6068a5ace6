"""Layer types of one's own: a class with the rules, and the fields of its message."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from .base import Layer, Misfit


class UserLayer(Layer):
    """Base of a layer type outside this project: `top_shapes` and `forward` are enough.

    The reference is then the torch rule in float64, which proves the conversion, not the rule itself; ONNX
    export asks for an `onnx` rule.
    """

    def reference(self, blobs, *bottoms):
        module = SimpleNamespace(blobs=[torch.from_numpy(b) for b in blobs], state={})
        with torch.no_grad():
            tops = self.forward(module, *(torch.from_numpy(b) for b in bottoms))
        return tuple(top.numpy() for top in tops)

    def onnx(self, graph, *bottoms):
        raise Misfit(f"{self.type} has no ONNX form", "an `onnx(self, graph, *bottoms)` rule", "type")
