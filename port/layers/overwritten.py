"""What a blob holds after a layer has worked in place on another blob in the same memory."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from .base import Layer


class _Overwritten(torch.autograd.Function):
    """The new values under the old blob's shape; the gradient is the old blob's own."""

    @staticmethod
    def forward(ctx: Any, old: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        return written.reshape(old.shape).clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        return grad, None


class Overwritten(Layer):
    """A blob and what was written into its memory -> the blob as it is now; no layer of any file, so not registered."""

    type = "Overwritten"
    family = "reshaping"
    only_memory: ClassVar[bool] = True
    bottom_count = (2, 2)
    no_gradient = (1,)

    def top_shapes(self, old, written):
        return (old,)

    def reference(self, blobs, old, written):
        return (written.reshape(old.shape),)

    def forward(self, module, old, written):
        return (_Overwritten.apply(old, written),)

    def onnx(self, graph, old, written):
        return (graph.like(written, old),)

    def shares(self, top):
        return 0
