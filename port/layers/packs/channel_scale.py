"""ChannelScale: features times the norms that Normalize took off, or times one number for all."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch

from ..base import BlobSpec, Layer, Misfit, register, show

KEPT = 0.99  # of the stored scale, at every training pass


class _Scaled(torch.autograd.Function):
    """A given result, with the gradients that the fork's fields ask for."""

    @staticmethod
    def forward(ctx, x, scale, y, of_feature, of_scale):
        ctx.of_feature, ctx.of_scale = of_feature, of_scale
        ctx.save_for_backward(x, scale)
        return y.clone()

    @staticmethod
    def backward(ctx, grad):
        x, scale = ctx.saved_tensors
        to_scale = (grad * x).sum(1, keepdim=True) if ctx.of_scale else torch.zeros_like(scale)
        return grad * scale if ctx.of_feature else grad, to_scale, None, None, None


@register
class ChannelScale(Layer):
    """N x C x H x W times N x 1 x H x W, or as it is without `do_forward` (happynear's channel_scale_layer).

    `global_scale`: times the blob instead, within its bounds, which training moves by a hundredth to the mean size of
    the second bottom (as the fork's GPU does), and which is a second top. The gradients are those of the plain product
    all the same; each of them can be left out.
    """

    type = "ChannelScale"
    pack = "face"
    family = "normalisation"
    param = ("channel_scale_param",)
    bottom_count = (2, 2)
    top_count = (1, 2)

    do_forward: bool = True
    do_backward_feature: bool = True
    do_backward_scale: bool = True
    global_scale: bool = False
    max_global_scale: float = 1000.0
    min_global_scale: float = 0.0

    def top_shapes(self, x, scale):
        if not 2 <= len(x) <= 4 or x[:1] != scale[:1] or prod(x[2:]) * x[0] != prod(scale):
            raise Misfit(f"{show(x)} and {show(scale)}", "N x C x H x W and N x 1 x H x W", "bottom")
        if self.at.tops == 2 and not self.global_scale:
            raise Misfit("a second top", "one without global_scale", "top")
        return (x, (1,))[: self.at.tops]

    def blobs(self, x, scale):
        return [BlobSpec("scale", (1,), -1.0, statistic=True)] if self.global_scale else []

    def bounded(self, value: float) -> float:
        """A scale within its bounds."""
        return max(min(value, self.max_global_scale), self.min_global_scale)

    def moved(self, blob: Any, size: float) -> float:
        """The scale of this pass, from the blob and the mean size of the second bottom."""
        stored = float(blob.reshape(-1)[0])
        if self.train and self.do_forward:
            stored = size if stored < 0 else KEPT * stored + (1 - KEPT) * size
            blob[...] = self.bounded(stored)
        return self.bounded(stored)

    def places(self, x) -> tuple[int, ...]:
        """The second bottom's shape beside the first's."""
        return (x[0], 1, *x[2:])

    def reference(self, blobs, x, scale):
        wide, one = scale.reshape(self.places(x.shape)), 0.0
        if self.global_scale:
            one = self.moved(blobs[0], float(np.abs(scale).mean()))
            wide = np.array(one)
        return (x * wide if self.do_forward else x, np.array([one]))[: self.at.tops]

    def forward(self, module, x, scale):
        wide, one = scale.reshape(self.places(x.shape)), 0.0
        factor = wide.detach()
        if self.global_scale:
            one = self.moved(module.blobs[0], float(scale.detach().abs().mean()))
            factor = x.new_tensor(one)
        y = x.detach() * factor if self.do_forward else x.detach()
        y = _Scaled.apply(x, wide, y, self.do_backward_feature, self.do_backward_scale)
        return (y, x.new_tensor([one]))[: self.at.tops]

    def onnx(self, graph, x, scale):
        if self.global_scale and self.train:
            raise Misfit("a scale that every pass moves", "TEST phase", "global_scale")
        one = graph.constant([self.bounded(float(graph.blob_value(0)[0]))]) if self.global_scale else ""
        y = x
        if self.do_forward:
            shape = graph.shape(x)
            wide = one or graph.reshape(scale, (-1, 1, *shape[2:]))
            y = graph.op("Mul", x, wide)
        return (y, one)[: self.at.tops]
