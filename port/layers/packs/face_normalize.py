"""The face nets' Normalize: each place's channels over their L1 or L2 norm, which is a second top."""

from __future__ import annotations

import numpy as np
import torch

from ..base import Layer, Misfit, register
from ..memory import Reads

EPS = 1e-6  # what the fork's CPU adds before the root; its GPU adds 1e-12 for L2


class _Fixed(torch.autograd.Function):
    """y = x / norm with a gradient that is not divided by the norm; `side`: y, or the signs of x for L1."""

    @staticmethod
    def forward(ctx, x, norm, of_signs):
        y = x / norm
        ctx.save_for_backward(y, torch.sign(x) if of_signs else y)
        return y

    @staticmethod
    def backward(ctx, grad):
        y, side = ctx.saved_tensors
        return grad - side * (y * grad).sum(1, keepdim=True), None, None


@register
class FaceNormalize(Layer):
    """N x C x H x W over the norm of each place's channels, and the norms N x 1 x H x W (happynear's normalize_layer).

    Tops have four axes whatever the bottom has. The norm hands a gradient down with `bp_norm` alone; with
    `fix_gradient`, which only the fork's GPU knows, the gradient is not divided by the norm.
    """

    type = "Normalize"
    pack = "face"
    family = "normalisation"
    param = ("normalize_param",)
    top_count = (1, 2)
    hangs = True

    normalize_type: str = "L2"
    fix_gradient: bool = False
    bp_norm: bool = False

    @classmethod
    def claims(cls, message, context):
        """By its own fields, or by the pack where SSD's and a stored scale do not speak for another."""
        if message.HasField("norm_param") or context.stored:
            return False
        return message.HasField("normalize_param") or "face" in context.packs

    def places(self, x) -> tuple[int, ...]:
        """The bottom's shape as four axes."""
        return (*x, *[1] * (4 - len(x)))

    def top_shapes(self, x):
        if not 1 <= len(x) <= 4:
            raise Misfit(f"an input with {len(x)} axes", "1 to 4: N, C, H, W", "bottom")
        if self.normalize_type not in ("L1", "L2"):
            raise Misfit(f"normalize_type {self.normalize_type}", "L1 or L2", "normalize_type")
        wide = self.places(x)
        return (wide, (wide[0], 1, *wide[2:]))[: self.at.tops]

    def reference(self, blobs, x):
        x = x.reshape(self.places(x.shape))
        sizes = np.abs(x) if self.normalize_type == "L1" else x * x
        norm = sizes.sum(1, keepdims=True) + EPS
        norm = norm if self.normalize_type == "L1" else np.sqrt(norm)
        return (x / norm, norm)[: self.at.tops]

    def forward(self, module, x):
        x = x.reshape(self.places(x.shape))
        if self.normalize_type == "L1":
            norm = x.abs().sum(1, keepdim=True) + EPS
        else:
            norm = (x.square().sum(1, keepdim=True) + EPS).sqrt()
        y = _Fixed.apply(x, norm.detach(), self.normalize_type == "L1") if self.fix_gradient else x / norm
        return (y, norm if self.bp_norm else norm.detach())[: self.at.tops]

    def onnx(self, graph, x):
        if len(graph.shape(x)) < 4:
            x = graph.reshape(x, (*[0] * len(graph.shape(x)), *[1] * (4 - len(graph.shape(x)))))
        sizes = graph.op("Abs", x) if self.normalize_type == "L1" else graph.op("Mul", x, x)
        norm = graph.op("Add", graph.reduce("ReduceSum", sizes, (1,), keep=True), graph.constant(EPS))
        norm = norm if self.normalize_type == "L1" else graph.op("Sqrt", norm)
        return (graph.op("Div", x, norm), norm)[: self.at.tops]

    def reads(self):
        return Reads((0,), tops=(0,))
