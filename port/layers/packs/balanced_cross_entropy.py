"""HED's SigmoidCrossEntropyLoss, in which the edges of an image weigh as much as all the rest of it."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
import torch.nn.functional as F

from ..base import Misfit, per_item, register, show
from ..losses import Loss, over_items


class _Balanced(torch.autograd.Function):
    """Terms times weights; gradient (sigmoid(x) - target) * weight, of full weight where the target is not 0 or 1."""

    @staticmethod
    def forward(ctx, x, target, weight, whole):
        ctx.save_for_backward(x, target, weight, whole)
        return (F.binary_cross_entropy_with_logits(x, target, reduction="none") * weight).sum() / len(x)

    @staticmethod
    def backward(ctx, grad):
        x, target, weight, whole = ctx.saved_tensors
        slope = (torch.sigmoid(x) - target) * torch.where(whole, weight, 1)
        return grad * slope / len(x), None, None, None


@register
class BalancedCrossEntropy(Loss):
    """Cross entropy of sigmoid(x), each item's terms of 1 times its share of 0, and the reverse; over the items.

    A target that is neither 1 nor 0 is in no term, but has a gradient, as in the fork (HED's
    sigmoid_cross_entropy_loss_layer).
    """

    type = "SigmoidCrossEntropyLoss"
    pack = "hed"

    @classmethod
    def claims(cls, message, context):
        """Where the net is one of HED's: its layers have no field of their own."""
        return "hed" in context.packs

    def top_shapes(self, x, target):
        if prod(x) != prod(target):
            raise Misfit(f"{show(x)} scores and {show(target)} targets", "equal counts", "bottom")
        return super().top_shapes(x, target)

    def reference(self, blobs, x, target):
        x, target = per_item(x), target.reshape(len(x), prod(x.shape[1:]))
        terms = np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x)))
        edge, rest = target == 1, target == 0
        some, others = edge.sum(1, keepdims=True), rest.sum(1, keepdims=True)
        with np.errstate(invalid="ignore"):
            total = (terms * (edge * others + rest * some)).sum(1, keepdims=True) / (some + others)
        return (over_items(total.sum(), len(x)),)

    def forward(self, module, x, target):
        rows, target = per_item(x), target.detach().reshape(len(x), prod(x.shape[1:]))
        edge, rest = (target == 1).to(x.dtype), (target == 0).to(x.dtype)
        some, others = edge.sum(1, keepdim=True), rest.sum(1, keepdim=True)
        weight = (edge * others + rest * some) / (some + others)  # NaN, as in the fork, where there is no 0 and no 1
        return (_Balanced.apply(rows, target, weight, (edge + rest) > 0),)

    def onnx(self, graph, x, target):
        items, target = graph.count(x, 1), graph.like(target, x)
        x, target = graph.reshape(x, (0, -1)), graph.reshape(target, (0, -1))
        soft = graph.op("Exp", graph.op("Neg", graph.op("Abs", x)))
        terms = graph.op("Sub", graph.op("Relu", x), graph.op("Mul", x, target))
        terms = graph.op("Add", terms, graph.op("Log", graph.op("Add", soft, graph.constant(1.0))))
        edge, rest = (graph.op("Cast", graph.op("Equal", target, graph.constant(v)), to=1) for v in (1.0, 0.0))
        some, others = (graph.reduce("ReduceSum", mask, (1,), keep=True) for mask in (edge, rest))
        weight = graph.op("Add", graph.op("Mul", edge, others), graph.op("Mul", rest, some))
        weight = graph.op("Div", weight, graph.op("Add", some, others))
        total = graph.reduce("ReduceSum", graph.op("Mul", terms, weight))
        return (graph.op("Div", total, items),)
