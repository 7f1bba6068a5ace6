"""Losses over distances: EuclideanLoss, HingeLoss, ContrastiveLoss, SmoothL1Loss."""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from .base import Misfit, per_item, register, show
from .losses import Loss, over_items
from .memory import Reads
from .values import check_finite, check_places


@register
class EuclideanLoss(Loss):
    """Sum of squared differences over twice the batch; semantics 1.33 (euclidean_loss_layer)."""

    type = "EuclideanLoss"
    four_axes = (0,)
    no_gradient = ()

    def top_shapes(self, a, b):
        if prod(a[1:]) != prod(b[1:]):
            raise Misfit(f"{show(a)} and {show(b)}", "equal counts", "bottom")
        return super().top_shapes(a, b)

    def reference(self, blobs, a, b):
        return (over_items(((a - b.reshape(a.shape)) ** 2).sum(), 2 * a.shape[0]),)

    def forward(self, module, a, b):
        return ((a - b.reshape(a.shape)).square().sum() / (2 * a.shape[0]),)

    def onnx(self, graph, a, b):
        square = graph.reduce("ReduceSumSquare", graph.op("Sub", a, graph.like(b, a)))
        return (graph.op("Div", square, graph.op("Mul", graph.count(a, 1), graph.constant(2.0))),)

    def reads(self):
        return Reads()


@register
class HingeLoss(Loss):
    """One against all, L1 or squared, mean over the batch; semantics 1.34 (hinge_loss_layer)."""

    type = "HingeLoss"
    four_axes = (0,)
    param = ("hinge_loss_param",)
    leaves_scratch = True

    norm: str = "L1"

    def top_shapes(self, x, label):
        shapes = super().top_shapes(x, label)
        self.one_label_an_item(x, label)
        return shapes

    def reference(self, blobs, x, label):
        check_places(label, prod(x.shape[1:]), "label")
        rows = per_item(x)
        sign = np.ones(rows.shape)
        sign[np.arange(len(x)), label.reshape(-1).astype(int)] = -1
        margin = np.maximum(0, 1 + sign * rows)
        return (over_items((margin if self.norm == "L1" else margin**2).sum(), len(x)),)

    def forward(self, module, x, label):
        check_places(label, prod(x.shape[1:]), "label")
        rows = per_item(x)
        sign = torch.ones_like(rows).scatter_(1, label.detach().reshape(-1, 1).long(), -1.0)
        margin = torch.relu(1 + sign * rows)
        return ((margin if self.norm == "L1" else margin.square()).sum() / len(x),)

    def onnx(self, graph, x, label):
        classes = prod(graph.shape(x)[1:])
        rows = graph.op("Flatten", x, axis=1)
        flat = graph.op("Cast", graph.reshape(label, (-1,)), to=7)
        sign = graph.op("OneHot", flat, graph.constant([classes], np.int64), graph.constant([1.0, -1.0]))
        margin = graph.op("Relu", graph.op("Add", graph.op("Mul", sign, rows), graph.constant(1.0)))
        total = graph.reduce("ReduceSum" if self.norm == "L1" else "ReduceSumSquare", margin)
        return (graph.op("Div", total, graph.count(x, 1)),)

    def scratch(self, x, label):
        rows = per_item(x.detach())
        sign = torch.ones_like(rows).scatter_(1, label.detach().reshape(-1, 1).long(), -1.0)
        return torch.relu(1 + sign * rows).reshape(x.shape)


class _Contrastive(torch.autograd.Function):
    """ContrastiveLoss with Caffe's gradient, which divides by d + 1e-4."""

    @staticmethod
    def forward(ctx, a, b, similar, margin, legacy):
        difference = a - b
        square = difference.square().sum(1)
        distance = square.sqrt()
        gap = margin - (square if legacy else distance)
        ctx.save_for_backward(difference, similar, distance, gap)
        ctx.legacy = legacy
        apart = gap.clamp(min=0) if legacy else gap.clamp(min=0).square()
        return torch.where(similar, square, apart).sum() / (2 * len(a))

    @staticmethod
    def backward(ctx, grad):
        difference, similar, distance, gap = ctx.saved_tensors
        push = torch.ones_like(gap) if ctx.legacy else gap / (distance + 1e-4)
        factor = torch.where(similar, torch.ones_like(gap), torch.where(gap > 0, -push, torch.zeros_like(gap)))
        result = grad * factor[:, None] * difference / len(difference)
        return result, -result, None, None, None


@register
class ContrastiveLoss(Loss):
    """Similar pairs pulled together, others pushed beyond the margin; semantics 1.37 (contrastive_loss_layer)."""

    type = "ContrastiveLoss"
    four_axes = (0, 1, 2)
    param = ("contrastive_loss_param",)
    bottom_count = (3, 3)
    no_gradient = (2,)

    margin: float = 1.0
    legacy_version: bool = False

    def top_shapes(self, a, b, similar):
        shapes = super().top_shapes(a, b, similar)
        if prod(a) != prod(b) or prod(similar) != a[0] or prod(a[2:]) != 1:
            raise Misfit(", ".join(map(show, (a, b, similar))), "N x C twice, and N labels", "bottom")
        return shapes

    def reference(self, blobs, a, b, similar):
        check_finite(similar, "label", 2)
        square = ((per_item(a) - per_item(b)) ** 2).sum(1)
        far = (
            np.maximum(self.margin - square, 0)
            if self.legacy_version
            else np.maximum(self.margin - square**0.5, 0) ** 2
        )
        same = np.trunc(similar.reshape(-1)) != 0  # Caffe cuts to an integer
        return (over_items(np.where(same, square, far).sum(), 2 * len(a)),)

    def forward(self, module, a, b, similar):
        check_finite(similar, "label", 2)
        same = similar.detach().reshape(-1).trunc() != 0
        return (_Contrastive.apply(per_item(a), per_item(b), same, self.margin, self.legacy_version),)

    def onnx(self, graph, a, b, similar):
        difference = graph.op("Sub", *(graph.op("Flatten", side, axis=1) for side in (a, b)))
        square = graph.reduce("ReduceSumSquare", difference, (1,))
        reached = square if self.legacy_version else graph.op("Sqrt", square)
        far = graph.op("Relu", graph.op("Sub", graph.constant(self.margin), reached))
        far = far if self.legacy_version else graph.op("Mul", far, far)
        whole = graph.op("Cast", graph.reshape(similar, (-1,)), to=7)
        other = graph.op("Equal", whole, graph.constant(0, np.int64))
        total = graph.reduce("ReduceSum", graph.op("Where", other, far, square))
        return (graph.op("Div", total, graph.op("Mul", graph.count(a, 1), graph.constant(2.0))),)

    def reads(self):
        return Reads((2,))


class _SmoothL1(torch.autograd.Function):
    """SmoothL1 with the fork's gradient, in which the weights do not appear a second time."""

    @staticmethod
    def forward(ctx, a, b, weight):
        u = weight * (a - b)
        ctx.save_for_backward(u)
        return torch.where(u.abs() < 1, 0.5 * u * u, u.abs() - 0.5).sum() / a.shape[0]

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        result = grad * u.clamp(-1, 1) / u.shape[0]
        return result, -result, None


@register
class SmoothL1Loss(Loss):
    """Quadratic near 0, linear beyond 1, weights as an optional third bottom; semantics 1.38 (the fork's).

    Without an explicit loss_weight it adds nothing to the net's loss.
    """

    type = "SmoothL1Loss"
    default_weight = 0.0
    bottom_count = (2, 3)
    no_gradient = (2,)

    def top_shapes(self, a, b, *weight):
        if a[1:] != b[1:] or any(w != b for w in weight):
            raise Misfit(", ".join(map(show, (a, b, *weight))), "equal shapes", "bottom")
        return super().top_shapes(a, b)

    def reference(self, blobs, a, b, *weight):
        u = (weight[0] if weight else 1.0) * (a - b)
        return (over_items(np.where(np.abs(u) < 1, 0.5 * u * u, np.abs(u) - 0.5).sum(), a.shape[0]),)

    def forward(self, module, a, b, *weight):
        return (_SmoothL1.apply(a, b, weight[0].detach() if weight else a.new_ones(())),)

    def onnx(self, graph, a, b, *weight):
        u = graph.op("Sub", a, b)
        size = graph.op("Abs", graph.op("Mul", u, weight[0]) if weight else u)
        square = graph.op("Mul", graph.op("Mul", size, size), graph.constant(0.5))
        near = graph.op("Less", size, graph.constant(1.0))
        terms = graph.op("Where", near, square, graph.op("Sub", size, graph.constant(0.5)))
        return (graph.op("Div", graph.reduce("ReduceSum", terms), graph.count(a, 1)),)

    def reads(self):
        return Reads()
