"""The SSD forks' Normalize: an L2 norm with a learned scale, beside the SRN authors' layer of the same name."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from prototxt_gen.schema.dialect import LAYER_TYPES

from ..base import BlobSpec, Layer, Misfit, float32, register
from ..memory import Reads


class _Scaled(torch.autograd.Function):
    """x / norm * scale, where the scale multiplies the gradient of x / norm instead of what that is the gradient of."""

    @staticmethod
    def forward(ctx, x, norm, scale, axes):
        ctx.axes = axes
        ctx.save_for_backward(x, norm, scale)
        return x / norm * scale

    @staticmethod
    def backward(ctx, g):
        x, norm, scale = ctx.saved_tensors
        unit = x / norm
        inner = g - unit * (unit * g).sum(ctx.axes, keepdim=True)
        spread = [axis for axis, extent in enumerate(scale.shape) if extent == 1]
        return inner / norm * scale, None, (unit * g).sum(spread, keepdim=True), None


@register
class ScaledNormalize(Layer):
    """Each position's channels (or each whole item) over their L2 norm, times a scale (the forks' normalize_layer).

    `eps` is added to the sum of squares; across the map, with `add_eps_before_sqrt` false, to the norm. A scale of each
    channel is left out of the sum in the gradient, on the forks' CPU and GPU alike and in their recorded gradients.
    """

    type = "Normalize"
    known_to_opencv = True
    pack = "ssd"
    family = "normalisation"
    param = ("norm_param",)
    hangs = True

    across_spatial: bool = True
    scale_filler: Any = 1.0
    channel_shared: bool = True
    eps: float = float32(1e-10)
    add_eps_before_sqrt: bool = True

    @classmethod
    def claims(cls, message, context):
        """By its own fields; else by pack, by its one blob, or because the Caffe has no other Normalize."""
        if message.HasField("norm_param") or context.stored == 1:
            return True
        if message.HasField("normalize_param"):
            return False
        if context.packs & {"ssd", "synopsys"}:
            return True
        return cls.type not in LAYER_TYPES[context.dialect] and context.stored is None and "face" not in context.packs

    def top_shapes(self, x):
        if not 2 <= len(x) <= 4:
            raise Misfit(f"an input with {len(x)} axes", "2 to 4: N, C, H, W", "bottom")
        return (x,)

    def blobs(self, x):
        return [BlobSpec("scale", () if self.channel_shared else (x[1],), self.scale_filler)]

    def axes(self, rank: int) -> tuple[int, ...]:
        """The axes that one norm is taken over."""
        return tuple(range(1, rank)) if self.across_spatial else (1,)

    @property
    def outside(self) -> bool:
        """Whether `eps` is added to the norm and not to the sum below its root."""
        return self.across_spatial and not self.add_eps_before_sqrt

    def wide(self, x) -> tuple[int, ...]:
        """The shape in which the scale broadcasts."""
        return (1,) * len(x) if self.channel_shared else (1, x[1], *[1] * (len(x) - 2))

    def reference(self, blobs, x):
        total = (x * x).sum(self.axes(x.ndim), keepdims=True)
        norm = np.sqrt(total) + self.eps if self.outside else np.sqrt(total + self.eps)
        return (x / norm * blobs[0].reshape(self.wide(x.shape)),)

    def forward(self, module, x):
        axes, scale = self.axes(x.dim()), module.blobs[0].reshape(self.wide(x.shape))
        total = x.detach().square().sum(axes, keepdim=True)
        norm = total.sqrt() + self.eps if self.outside else (total + self.eps).sqrt()
        return (_Scaled.apply(x, norm, scale, axes),)

    def onnx(self, graph, x):
        shape, eps = graph.shape(x), graph.constant(self.eps)
        total = graph.reduce("ReduceSum", graph.op("Mul", x, x), self.axes(len(shape)), keep=True)
        if self.outside:
            norm = graph.op("Add", graph.op("Sqrt", total), eps)
        else:
            norm = graph.op("Sqrt", graph.op("Add", total, eps))
        return (graph.op("Mul", graph.op("Div", x, norm), graph.blob(0, self.wide(shape))),)

    def reads(self):
        return Reads((0,), tops=(0,))
