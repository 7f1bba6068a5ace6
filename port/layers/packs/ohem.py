"""Online hard example mining of R-FCN: losses that also say what each region loses, and the choice of regions."""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from ..base import FLT_MIN, Layer, Misfit, canonical_axis, register, show
from ..classification import SoftmaxWithLoss, last_axis
from ..losses import NormalizedLoss
from ..softmax import softmax
from ..values import check_places
from .smooth_l1 import smooth, smooth_onnx


class _Prefixed(NormalizedLoss):
    """Losses with the divisor PRE_FIXED beside BVLC's: a number, or 1 where that is less."""

    pre_fixed_normalizer: float = 1.0

    def divisor(self, full, valid, batch):
        if self.mode == "PRE_FIXED":
            return max(self.pre_fixed_normalizer, 1.0)
        return super().divisor(full, valid, batch)

    def onnx_divisor(self, graph, full, kept, batch):
        if self.mode == "PRE_FIXED":
            return graph.constant(max(self.pre_fixed_normalizer, 1.0))
        return super().onnx_divisor(graph, full, kept, batch)


class _Clipped(torch.autograd.Function):
    """Smooth L1 of weight * (a - b), summed; in the forks' gradient the weight does not appear a second time."""

    @staticmethod
    def forward(ctx, a, b, weight):
        u = weight * (a - b)
        ctx.save_for_backward(u)
        return torch.where(u.abs() < 1, 0.5 * u * u, u.abs() - 0.5)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        result = grad * u.clamp(-1, 1)
        return result, -result, None


@register
class SmoothL1LossOHEM(_Prefixed):
    """Smooth L1 of w * (a - b), and as second top its sum over the channels, N x 1 x H x W (smooth_L1_loss_ohem_layer).

    The forks read no ignore_label here. No gradient comes from the second top.
    """

    type = "SmoothL1LossOHEM"
    pack = "rfcn"
    bottom_count = (2, 3)
    top_count = (1, 2)
    no_gradient = (2,)

    def top_shapes(self, a, b, *weight):
        if len(a) < 2 or a[1:] != b[1:] or any(w != a for w in weight):
            raise Misfit(", ".join(map(show, (a, b, *weight))), "equal shapes of two axes or more", "bottom")
        super().top_shapes(a, b)
        wide = (*a, 1, 1)[: max(4, len(a))]
        return ((), (a[0], 1, *wide[2:]))[: self.at.tops]

    def _divisor(self, x) -> float:
        places = x[0] * prod(x[2:])
        return self.divisor(places, max(places, 1), x[0])

    def reference(self, blobs, a, b, *weight):
        terms = smooth((weight[0] if weight else 1.0) * (a - b), 1.0)
        each = terms.sum(1).reshape(self.top_shapes(a.shape, b.shape)[-1]) if self.at.tops == 2 else None
        return (np.asarray(terms.sum() / self._divisor(a.shape)), each)[: self.at.tops]

    def forward(self, module, a, b, *weight):
        terms = _Clipped.apply(a, b, weight[0].detach() if weight else a.new_ones(()))
        loss = terms.sum() / self._divisor(tuple(a.shape))
        if self.at.tops == 1:
            return (loss,)
        return loss, terms.detach().sum(1).reshape(self.top_shapes(tuple(a.shape), tuple(b.shape))[1])

    def onnx(self, graph, a, b, *weight):
        u = graph.op("Sub", a, b)
        terms = smooth_onnx(graph, graph.op("Mul", weight[0], u) if weight else u, 1.0)
        channels = graph.constant(float(graph.shape(a)[1]))
        divisor = self.onnx_divisor(graph, graph.op("Div", graph.count(a), channels), None, graph.count(a, 1))
        loss = graph.op("Div", graph.reduce("ReduceSum", terms), divisor)
        if self.at.tops == 1:
            return (loss,)
        return loss, graph.like_top(graph.reduce("ReduceSum", terms, (1,), keep=True), 1)


@register
class SoftmaxWithLossOHEM(_Prefixed, SoftmaxWithLoss):
    """SoftmaxWithLoss, and as third top what each label loses, shaped as the labels (softmax_loss_ohem_layer).

    The second top holds the probabilities. No gradient comes from either.
    """

    type = "SoftmaxWithLossOHEM"
    pack = "rfcn"
    param = ("softmax_param", "loss_param")
    top_count = (1, 3)

    def top_shapes(self, x, label):
        return (*super().top_shapes(x, label), label)[: self.at.tops]

    def divide(self, total, full, valid, batch, at_least_one):
        return total / self.divisor(full, at_least_one(valid), batch)

    def onnx_loss(self, graph, terms, kept, x, axis):
        if kept is not None:
            terms = graph.op("Mul", terms, kept)
        full, batch = graph.count(graph.current.bottoms[1].name), graph.count(x, axis)
        total = graph.op("Neg", graph.reduce("ReduceSum", terms))
        return graph.op("Div", total, self.onnx_divisor(graph, full, kept, batch))

    def reference(self, blobs, x, label):
        tops = super().reference(blobs, x, label)
        axis, flat = canonical_axis(self.axis, x.ndim), label.reshape(-1).astype(int)
        kept = self.kept(flat)
        picked = last_axis(softmax(x, axis), axis)[np.arange(len(flat)), np.where(kept, flat, 0)]
        each = np.where(kept, -np.log(np.maximum(picked, FLT_MIN)), 0)
        return (*tops, each.reshape(label.shape))[: self.at.tops]

    def forward(self, module, x, label):
        tops = super().forward(module, x, label)
        if self.at.tops == 1:
            return tops
        axis, flat = canonical_axis(self.axis, x.dim()), label.detach().reshape(-1).long()
        kept, p = self.kept(flat), torch.softmax(x.detach(), axis)
        picked = last_axis(p, axis).gather(1, torch.where(kept, flat, 0)[:, None])[:, 0]
        each = torch.where(kept, -picked.clamp(min=FLT_MIN).log(), 0)
        return (tops[0], p, each.reshape(label.shape))[: self.at.tops]

    def onnx(self, graph, x, label):
        tops = super().onnx(graph, x, label)
        if self.at.tops < 3:
            return tops
        axis = canonical_axis(self.axis, len(graph.shape(x)))
        flat, kept = self.onnx_labels(graph, label)
        column = graph.op("Unsqueeze", flat, graph.constant([1], np.int64))
        picked = graph.op("GatherElements", self.onnx_rows(graph, tops[1], axis), column, axis=1)
        each = graph.op("Neg", graph.op("Log", graph.op("Max", graph.reshape(picked, (-1,)), graph.constant(FLT_MIN))))
        each = each if kept is None else graph.op("Mul", each, kept)
        return (*tops, graph.like_top(each, 2))


@register
class BoxAnnotatorOHEM(Layer):
    """Labels and box weights of each item's roi_per_img regions that lose most, no others (box_annotator_ohem_layer).

    Bottoms: regions N x 5, and N x 1 losses, N x 1 labels, N x K weights, all with the same further axes. Of the others
    the label is ignore_label, the weights are 0. Of equal losses the earlier region's goes first; the forks do not say.
    """

    type = "BoxAnnotatorOHEM"
    pack = "rfcn"
    family = "other"
    param = ("box_annotator_ohem_param",)
    bottom_count = (4, 4)
    top_count = (2, 2)
    no_gradient = (0, 1, 2, 3)

    roi_per_img: int | None = None
    ignore_label: int = -1

    def top_shapes(self, *bottoms):
        if not self.roi_per_img:
            raise Misfit(f"roi_per_img {self.roi_per_img}", "1 or more", "roi_per_img")
        if any(not 1 <= len(b) <= 4 for b in bottoms):
            raise Misfit(", ".join(map(show, bottoms)), "1 to 4 axes", "bottom")
        rois, loss, labels, weights = ((*b, 1, 1, 1)[:4] for b in bottoms)
        places = (rois[0], *rois[2:])
        fits = all((b[0], *b[2:]) == places for b in (loss, labels, weights))
        if not fits or rois[1] != 5 or loss[1] != 1 or labels[1] != 1:
            wanted = "N x 5, N x 1, N x 1 and N x K, and the same axes behind"
            raise Misfit(", ".join(map(show, bottoms)), wanted, "bottom")
        return labels, weights

    def reference(self, blobs, rois, loss, labels, weights):
        tops = self.top_shapes(rois.shape, loss.shape, labels.shape, weights.shape)
        items = np.moveaxis(rois.reshape(len(rois), 5, -1), 1, 2)[..., 0].reshape(-1)
        check_places(items, 2**31, "region's item", bottom=0)
        left: dict[int, int] = {}
        chosen = np.zeros(items.shape, bool)
        for place in np.argsort(-loss.reshape(-1), kind="stable"):
            item = int(items[place])
            left[item] = left.get(item, self.roi_per_img or 0) - 1
            chosen[place] = left[item] >= 0
        chosen = chosen.reshape(tops[0])
        return np.where(chosen, labels.reshape(tops[0]), self.ignore_label), chosen * weights.reshape(tops[1])

    def forward(self, module, rois, loss, labels, weights):
        shapes = self.top_shapes(*(tuple(b.shape) for b in (rois, loss, labels, weights)))
        items = rois.reshape(len(rois), 5, -1)[:, 0].reshape(-1)
        check_places(items, 2**31, "region's item", bottom=0)
        order = loss.reshape(-1).argsort(descending=True, stable=True)
        # sorted by item, ranks within an item are distances from where the item starts
        order = order[items.long()[order].argsort(stable=True)]
        sizes = items.long()[order].unique_consecutive(return_counts=True)[1]
        starts = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device) - starts)
        chosen = (rank < (self.roi_per_img or 0)).reshape(shapes[0])
        kept = torch.where(chosen, labels.reshape(shapes[0]), self.ignore_label)
        return kept, torch.where(chosen, weights.reshape(shapes[1]), 0)

    def onnx(self, graph, rois, loss, labels, weights):
        """A region is left out when as many of its item lose more: every one against every other."""
        wide = (*graph.shape(rois), 1, 1)[2:4]
        items = graph.reshape(graph.slice(rois, [0], [1], [1]), (-1,))
        items, loss = graph.op("Cast", items, to=7), graph.reshape(loss, (-1,))
        count = graph.op("Squeeze", graph.extents(items, 0), graph.constant([0], np.int64))
        number = graph.op("Range", graph.constant(0, np.int64), count, graph.constant(1, np.int64))
        one = graph.constant([1], np.int64)
        own, mine, me = (graph.op("Unsqueeze", v, one) for v in (items, loss, number))
        ahead = graph.op("And", graph.op("Equal", loss, mine), graph.op("Less", number, me))
        ahead = graph.op("Or", graph.op("Greater", loss, mine), ahead)
        ahead = graph.op("And", ahead, graph.op("Equal", items, own))
        rank = graph.reduce("ReduceSum", graph.op("Cast", ahead, to=1), (1,))
        chosen = graph.op("Less", rank, graph.constant(float(self.roi_per_img or 0)))
        chosen = graph.reshape(chosen, (-1, 1, *wide))
        labels, weights = graph.like_top(labels, 0), graph.like_top(weights, 1)
        kept = graph.op("Where", chosen, labels, graph.constant(float(self.ignore_label)))
        return kept, graph.op("Where", chosen, weights, graph.constant(0.0))
