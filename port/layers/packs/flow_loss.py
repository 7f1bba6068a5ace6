"""L1Loss: FlowNet's end-point error, which leaves NaN out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..base import Misfit, float32, register, same_shape
from ..losses import Loss, over_items
from ..memory import Reads


class _Absolute(torch.autograd.Function):
    """|u| where `kept`, else 0; the fork's gradient at 0 is -1."""

    @staticmethod
    def forward(ctx, u, kept):
        ctx.save_for_backward(u, kept)
        return torch.where(kept, u.abs(), 0)

    @staticmethod
    def backward(ctx, grad):
        u, kept = ctx.saved_tensors
        return torch.where(kept, torch.where(u > 0, grad, -grad), 0), None


@register
class L1Loss(Loss):
    """|a - b|, or |a|, over items or over places that are not NaN, which count as 0 (flownet2's l1loss_layer).

    With l2_per_location the terms are roots of epsilon + the squares' sum over the channels of N x C x H x W (their
    mean with l2_prescale_by_channels). Differences below the plateau count as 0 too.
    """

    type = "L1Loss"
    pack = "flow"
    param = ("l1_loss_param",)
    bottom_count = (1, 2)
    no_gradient = ()

    l2_per_location: bool = False
    l2_prescale_by_channels: bool = False
    normalize_by_num_entries: bool = False
    epsilon: float = float32(0.01)
    plateau: float = 0.0

    def top_shapes(self, *bottoms):
        same_shape(bottoms)
        shape = bottoms[0]
        if not 2 <= len(shape) <= 4 or (self.l2_per_location and len(shape) != 4):
            wanted = "4: N, C, H, W" if self.l2_per_location else "2 to 4"
            raise Misfit(f"an input with {len(shape)} axes", wanted, "bottom")
        return ((),)

    def entries(self, known: Any, x: Any) -> Any:
        """The divisor; `known`: where the difference is no NaN."""
        return known.sum() / x.shape[1] if self.normalize_by_num_entries else len(x)

    def reference(self, blobs, *bottoms):
        u = bottoms[0] - bottoms[1] if len(bottoms) == 2 else bottoms[0]
        known = ~np.isnan(u)
        count, u = self.entries(known, u), np.where(known, u, 0)
        if self.l2_per_location:
            total = (u**2).sum(1) / (u.shape[1] if self.l2_prescale_by_channels else 1)
            if self.plateau > 0:
                total = np.where(total < self.plateau**2, 0, total)
            terms = np.sqrt(total + self.epsilon)
        else:
            terms = np.where((np.abs(u) < self.plateau) & (self.plateau > 0), 0, np.abs(u))
        return (over_items(terms.sum(), count),)

    def forward(self, module, *bottoms):
        u = bottoms[0] - bottoms[1] if len(bottoms) == 2 else bottoms[0]
        known = ~u.detach().isnan()
        count = self.entries(known, u)
        if not self.l2_per_location:
            kept = known & (u.detach().abs() >= self.plateau) if self.plateau > 0 else known
            return (_Absolute.apply(u, kept).sum() / count,)
        total = torch.where(known, u, 0).square().sum(1)
        if self.l2_prescale_by_channels:
            total = total / u.shape[1]
        if self.plateau > 0:
            total = torch.where(total < self.plateau**2, 0, total)
        return ((total + self.epsilon).sqrt().sum() / count,)

    def onnx(self, graph, *bottoms):
        u = graph.op("Sub", *bottoms) if len(bottoms) == 2 else bottoms[0]
        missing, zero = graph.op("IsNaN", u), graph.constant(0.0)
        channels = graph.constant(float(graph.shape(bottoms[0])[1]))
        count = graph.count(bottoms[0], 1)
        if self.normalize_by_num_entries:
            known = graph.op("Cast", graph.op("Not", missing), to=1)
            count = graph.op("Div", graph.reduce("ReduceSum", known), channels)
        u = graph.op("Where", missing, zero, u)
        terms = graph.op("Abs", u)
        if self.l2_per_location:
            terms = graph.reduce("ReduceSum", graph.op("Mul", u, u), (1,))
            if self.l2_prescale_by_channels:
                terms = graph.op("Div", terms, channels)
        if self.plateau > 0:
            least = graph.constant(self.plateau ** (2 if self.l2_per_location else 1))
            terms = graph.op("Where", graph.op("Less", terms, least), zero, terms)
        if self.l2_per_location:
            terms = graph.op("Sqrt", graph.op("Add", terms, graph.constant(self.epsilon)))
        return (graph.op("Div", graph.reduce("ReduceSum", terms), count),)

    def reads(self):
        return Reads()
