"""Losses of face nets: CenterLoss, FocalLoss and TripletLoss."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch

from ..base import FLT_MIN, BlobSpec, Misfit, canonical_axis, per_item, register, same_shape, show
from ..classification import last_axis, one_label_a_location, softmax
from ..losses import Loss, NormalizedLoss, over_items
from ..memory import Reads
from ..values import check_places


class _Centre(torch.autograd.Function):
    """The loss of items and their centres; a centre moves to its items' mean, whatever the loss weighs."""

    @staticmethod
    def forward(ctx, x, centres, labels, absolute):
        apart = x - centres[labels]
        ctx.absolute = absolute
        ctx.save_for_backward(apart, centres, labels)
        return (apart.abs().sum() if absolute else apart.square().sum() / 2) / len(x)

    @staticmethod
    def backward(ctx, grad):
        apart, centres, labels = ctx.saved_tensors
        apart = apart.sign() if ctx.absolute else apart
        count = torch.bincount(labels, minlength=len(centres)).to(apart.dtype)[:, None]
        pull = torch.zeros_like(centres).index_add(0, labels, apart) / (count + 1)
        return grad * apart / len(apart), -pull, None, None


@register
class CenterLoss(Loss):
    """Half the squared (L2) or the absolute (L1) distance of items to their labels' centres, over the items.

    A centre's gradient is the sum of its items' differences over 1 + their number: neither a derivative nor scaled by
    the loss's weight (caffe-face's center_loss_layer; happynear's CPU repeats it for every item).
    """

    type = "CenterLoss"
    pack = "face"
    param = ("center_loss_param",)
    family = "weights"

    num_output: int | None = None
    center_filler: Any = 0.0
    axis: int = 1
    distance_type: str = "L2"

    def top_shapes(self, x, label):
        if not self.num_output:
            raise Misfit("no num_output, or 0", "1 or more", "num_output")
        if self.distance_type not in ("L1", "L2"):
            raise Misfit(f"distance_type {self.distance_type}", "L1 or L2", "distance_type")
        if canonical_axis(self.axis, len(x)) != 1:
            raise Misfit(f"axis {self.axis}", "1: the fork takes one item a label", "axis")
        self.one_label_an_item(x, label)
        return super().top_shapes(x, label)

    def blobs(self, x, label):
        return [BlobSpec("centre", (self.num_output or 0, prod(x[1:])), self.center_filler)]

    def reference(self, blobs, x, label):
        check_places(label, len(blobs[0]), "label")
        apart = x.reshape(len(x), -1) - blobs[0][label.reshape(-1).astype(int)] if len(x) else np.zeros(0)
        total = np.abs(apart).sum() if self.distance_type == "L1" else (apart**2).sum() / 2
        return (over_items(total, len(x)),)

    def forward(self, module, x, label):
        centres = module.blobs[0]
        check_places(label, len(centres), "label")
        labels = label.detach().reshape(-1).long()
        return (_Centre.apply(per_item(x), centres, labels, self.distance_type == "L1"),)

    def onnx(self, graph, x, label):
        flat = graph.op("Cast", graph.reshape(label, (-1,)), to=7)
        apart = graph.op("Sub", graph.op("Flatten", x, axis=1), graph.op("Gather", graph.blob(0), flat, axis=0))
        if self.distance_type == "L1":
            total = graph.reduce("ReduceL1", apart)
        else:
            total = graph.op("Mul", graph.reduce("ReduceSumSquare", apart), graph.constant(0.5))
        return (graph.op("Div", total, graph.count(x, 1)),)


@register
class FocalLoss(NormalizedLoss):
    """-(alpha - p)^gamma log p of the label's softmax share p; ONEADDP: alpha + p (happynear's focal_loss_layer).

    LINEAR is computed as ORIGIN there, and `beta` is not read. The gradient is the derivative, as the fork's is where
    alpha is 1.
    """

    type = "FocalLoss"
    pack = "face"
    param = ("focal_loss_param", "softmax_param", "loss_param")
    top_count = (1, 2)

    engine: str = "DEFAULT"
    axis: int = 1
    form: str = "ORIGIN"  # the message's `type`
    gamma: float = 2.0
    alpha: float = 1.0
    beta: float = 1.0

    @classmethod
    def read(cls, message):
        return {"form" if name == "type" else name: value for name, value in super().read(message).items()}

    def top_shapes(self, x, label):
        one_label_a_location(x, label, canonical_axis(self.axis, len(x)))
        if self.gamma < 0 or self.alpha <= 0:
            raise Misfit(f"gamma {self.gamma:g}, alpha {self.alpha:g}", "0 or more, and above 0", "focal_loss_param")
        super().top_shapes(x, label)
        return ((), x)[: self.at.tops]

    def kept(self, label: Any) -> Any:
        """Where a label counts (NumPy and torch)."""
        return label == label if self.ignore_label is None else label != self.ignore_label

    @property
    def sign(self) -> int:
        return 1 if self.form == "ONEADDP" else -1

    def reference(self, blobs, x, label):
        axis = canonical_axis(self.axis, x.ndim)
        check_places(label, x.shape[axis], "label", ignored=self.ignore_label)
        p, flat = softmax(x, axis), label.reshape(-1).astype(int)
        kept = self.kept(flat)
        own = last_axis(p, axis)[np.arange(len(flat)), np.where(kept, flat, 0)]
        with np.errstate(invalid="ignore"):
            terms = -((self.alpha + self.sign * own) ** self.gamma) * np.log(np.maximum(own, FLT_MIN))
        divisor = self.divisor(len(flat), max(kept.sum(), 1), prod(x.shape[:axis]))
        return (np.asarray(np.where(kept, terms, 0).sum() / divisor), p)[: self.at.tops]

    def forward(self, module, x, label):
        axis = canonical_axis(self.axis, x.dim())
        check_places(label, x.shape[axis], "label", ignored=self.ignore_label)
        flat = label.detach().reshape(-1).long()
        kept = self.kept(flat)
        logs = last_axis(torch.log_softmax(x, axis), axis).gather(1, torch.where(kept, flat, 0)[:, None])[:, 0]
        logs = logs.clamp(min=float(np.log(FLT_MIN)))
        terms = -((self.alpha + self.sign * logs.exp()) ** self.gamma) * logs
        divisor = self.divisor(len(flat), kept.sum().clamp(min=1), prod(x.shape[:axis]))
        loss = torch.where(kept, terms, 0).sum() / divisor
        return (loss,) if self.at.tops == 1 else (loss, torch.softmax(x, axis))

    def onnx(self, graph, x, label):
        shape = graph.shape(x)
        axis = canonical_axis(self.axis, len(shape))
        p = graph.op("Softmax", x, axis=axis)
        order = [i for i in range(len(shape)) if i != axis] + [axis]
        turned = p if order == sorted(order) else graph.op("Transpose", p, perm=order)
        flat, kept = graph.op("Cast", graph.reshape(label, (-1, 1)), to=7), None
        if self.ignore_label is not None:
            same = graph.op("Equal", flat, graph.constant(self.ignore_label, np.int64))
            flat = graph.op("Where", same, graph.constant(0, np.int64), flat)
            kept = graph.op("Cast", graph.op("Not", same), to=1)
        own = graph.op("GatherElements", graph.reshape(turned, (-1, shape[axis])), flat, axis=1)
        rest = graph.op("Add" if self.sign > 0 else "Sub", graph.constant(self.alpha), own)
        terms = graph.op("Pow", rest, graph.constant(self.gamma))
        terms = graph.op("Mul", terms, graph.op("Log", graph.op("Max", own, graph.constant(FLT_MIN))))
        terms = terms if kept is None else graph.op("Mul", terms, kept)
        total = graph.op("Neg", graph.reduce("ReduceSum", terms))
        full = graph.count(graph.current.bottoms[1].name)
        return (graph.op("Div", total, self.onnx_divisor(graph, full, kept, graph.count(x, axis))), p)[: self.at.tops]


@register
class TripletLoss(Loss):
    """max(0, margin + |a - p|^2 - |a - n|^2) of bottoms a, p, n over twice the items (happynear's layer)."""

    type = "TripletLoss"
    pack = "face"
    param = ("triplet_loss_param",)
    bottom_count = (3, 3)
    no_gradient = ()

    margin: float = 1.0

    def top_shapes(self, a, p, n):
        same_shape((a, p, n))
        if len(a) < 2 or prod(a[2:]) != 1:
            raise Misfit(show(a), "N x C three times", "bottom")
        return super().top_shapes(a, p)

    def reference(self, blobs, a, p, n):
        near, far = (((a - other) ** 2).reshape(len(a), -1).sum(1) if len(a) else np.zeros(0) for other in (p, n))
        return (over_items(np.maximum(self.margin + near - far, 0).sum(), 2 * len(a)),)

    def forward(self, module, a, p, n):
        near, far = ((a - other).square().reshape(len(a), a.shape[1]).sum(1) for other in (p, n))
        return (torch.relu(self.margin + near - far).sum() / (2 * len(a)),)

    def onnx(self, graph, a, p, n):
        near, far = (
            graph.reduce("ReduceSumSquare", graph.op("Flatten", graph.op("Sub", a, other), axis=1), (1,))
            for other in (p, n)
        )
        gap = graph.op("Relu", graph.op("Add", graph.op("Sub", near, far), graph.constant(self.margin)))
        return (
            graph.op("Div", graph.reduce("ReduceSum", gap), graph.op("Mul", graph.count(a, 1), graph.constant(2.0))),
        )

    def reads(self):
        return Reads()
