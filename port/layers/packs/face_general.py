"""The face nets' losses over distances of items to all classes: GeneralTripletLoss and GeneralContrastiveLoss."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch

from ..base import Misfit, at_least, float32, per_item, register, show
from ..losses import Loss, over_items
from ..values import check_places


class _General(Loss):
    """Distances of N items to all classes, and a label an item; a second top has two mean distances."""

    pack = "face"
    bottom_count = (2, 3)
    top_count = (1, 2)
    no_gradient = (1, 2)
    onnx_note = "no: a loss for training"

    positive_weight: float = 1.0
    negative_weight: float = 1.0
    positive_first: bool = False
    positive_upper_bound: float = 1.0

    def top_shapes(self, x, label, *weight):
        at_least(2, x)
        self.one_label_an_item(x, label)
        if self.negative_weight < 0:
            raise Misfit(f"negative_weight {self.negative_weight:g}", "0 or more", "negative_weight")
        if prod(x[1:]) < 2:
            raise Misfit(f"{prod(x[1:])} classes", "2 or more", "bottom")
        if weight and prod(weight[0]) != self.weights(x):
            raise Misfit(f"a third bottom of {show(weight[0])} for {show(x)}", f"{self.weights(x)} values", "bottom")
        return ((), (2,))[: self.at.tops]

    def weights(self, x: tuple[int, ...]) -> int:
        """How many values a third bottom has."""
        raise NotImplementedError

    def own(self, x: Any, label: Any) -> tuple[Any, Any, Any]:
        """Rows, whether each place is the label's, and the distances to the labels as a column; NumPy or torch."""
        rows = per_item(x)
        check_places(label, rows.shape[1], "label")
        if isinstance(rows, torch.Tensor):
            places = label.detach().reshape(-1, 1).long()
            mine = torch.arange(rows.shape[1], device=rows.device) == places
            return rows, mine, rows.gather(1, places)
        places = label.reshape(-1, 1).astype(int)
        return rows, np.arange(rows.shape[1]) == places, np.take_along_axis(rows, places, 1)

    def onnx(self, graph, *bottoms):
        raise Misfit(f"{self.type}, whose places follow the largest distances", "no ONNX: a loss for training", "type")


@register
class GeneralTripletLoss(_General):
    """How much nearer than `margin` beyond the label's each other class is, times negative_weight, over the items.

    `hardest_only`: of the nearest one alone, the first of equal ones. `positive_first`: of none while the label's
    distance is above positive_upper_bound. The gradient is none of this: -negative_weight for each class that counts,
    positive_weight for the label's where one does, or always with add_center_loss or such a distance; a third bottom
    weighs items in it (general_triplet_loss_layer).
    """

    type = "GeneralTripletLoss"
    param = ("general_triplet_loss_param",)

    margin: float = float32(0.2)
    add_center_loss: bool = True
    hardest_only: bool = False

    def weights(self, x):
        return x[0]

    def reference(self, blobs, x, label, *weight):
        rows, mine, near = self.own(x, label)
        close = np.where(mine, 0.0, np.maximum(near + self.margin - rows, 0.0))
        if self.hardest_only and len(rows):
            most = close.argmax(1)[:, None] == np.arange(rows.shape[1])
            close = np.where(most, close, 0.0)
        if self.positive_first:
            close = np.where(near > self.positive_upper_bound, 0.0, close)
        total = np.abs(close * self.negative_weight).sum()
        others = rows[~mine].sum() / (rows.shape[1] - 1)
        means = np.array([over_items(near.sum(), len(rows)), over_items(others, len(rows))])
        return (over_items(total, len(rows)), means)[: self.at.tops]

    def forward(self, module, x, label, *weight):
        rows, mine, near = self.own(x, label)
        close = (near + self.margin - rows).detach().clamp(min=0).masked_fill(mine, 0)
        counts = close > 0
        if self.hardest_only and len(rows):
            most = close.argmax(1, keepdim=True) == torch.arange(rows.shape[1], device=x.device)
            close, counts = close * most, counts & most
        if self.positive_first:
            far = near.detach() > self.positive_upper_bound
            close, counts = close.masked_fill(far, 0), counts & ~far
        total = (close * abs(self.negative_weight)).sum() / len(rows)
        slopes = -self.negative_weight * counts.to(rows.dtype)
        pulled = counts.any(1, keepdim=True) | self.add_center_loss
        if self.positive_first:
            pulled = pulled | far
        slopes = torch.where(mine, self.positive_weight * pulled.to(rows.dtype), slopes)
        if weight:
            slopes = slopes * weight[0].detach().reshape(-1, 1)
        loss = _Sloped.apply(rows, total, slopes / len(rows))
        others = (rows.detach().sum() - near.detach().sum()) / (rows.shape[1] - 1)
        means = torch.stack([near.detach().sum(), others]) / len(rows)
        return (loss, means)[: self.at.tops]


class _Sloped(torch.autograd.Function):
    """A number with a gradient of its own."""

    @staticmethod
    def forward(ctx, rows, total, slopes):
        ctx.save_for_backward(slopes)
        return total.clone()

    @staticmethod
    def backward(ctx, grad):
        (slopes,) = ctx.saved_tensors
        return grad * slopes, None, None


@register
class GeneralContrastiveLoss(_General):
    """How far the label's distance is above positive_margin and others are below negative_margin, weighted, per item.

    The first is at most positive_outlier_thresh. `exp_negative_weight`: exp(-distance) in place of the second.
    `max_negative_only`: of others the largest alone, where label 0 stands among them with its own term. With
    `positive_first` no others count while the label's distance is above positive_upper_bound. A third bottom stands in
    for the first, which gets the gradient: the weights of the terms that count, the label's below the threshold or
    above the bound; `normalize_negative` divides the others' by their sum per item over itself where that is above
    positive_weight (general_contrastive_loss_layer).
    """

    type = "GeneralContrastiveLoss"
    param = ("general_contrastive_loss_param",)

    positive_margin: float = 0.0
    negative_margin: float = 1.0
    normalize_negative: float | None = None
    positive_outlier_thresh: float = 4.0
    max_negative_only: bool = False
    exp_negative_weight: bool = False

    def weights(self, x):
        return prod(x)

    def reference(self, blobs, x, label, *given):
        rows, mine, near = self.own(given[0].reshape(x.shape) if given else x, label)
        pulls = np.minimum(self.positive_outlier_thresh, np.maximum(near - self.positive_margin, 0.0))
        inside = ~mine & (rows < self.negative_margin)
        gaps = np.where(inside, self.negative_margin - rows, 0.0)
        terms = np.where(inside, np.exp(-rows), 0.0) if self.exp_negative_weight else gaps
        terms = terms * self.negative_weight
        if self.max_negative_only and len(rows):
            seen = np.where(mine, -np.inf, terms)
            seen[:, 0] = np.where(mine[:, 0], pulls[:, 0] * self.positive_weight, terms[:, 0])
            terms = np.where(seen.argmax(1)[:, None] == np.arange(rows.shape[1]), terms, 0.0)
        if self.positive_first:
            terms = np.where(near > self.positive_upper_bound, 0.0, terms)
        total = np.abs(pulls * self.positive_weight).sum() + np.abs(terms).sum()
        means = [over_items(pulls.sum(), len(rows)), over_items(gaps.sum() / (rows.shape[1] - 1), len(rows))]
        return (over_items(total, len(rows)), np.array(means))[: self.at.tops]

    def forward(self, module, x, label, *given):
        rows, mine, near = self.own((given[0].reshape(x.shape) if given else x).detach(), label)
        pulls = (near - self.positive_margin).clamp(min=0).clamp(max=self.positive_outlier_thresh)
        counts = ~mine & (rows < self.negative_margin)
        gaps = torch.where(counts, self.negative_margin - rows, torch.zeros_like(rows))
        weights = torch.exp(-rows) * self.negative_weight if self.exp_negative_weight else None
        terms = gaps * self.negative_weight if weights is None else torch.where(counts, weights, torch.zeros_like(rows))
        if self.max_negative_only and len(rows):
            seen = terms.masked_fill(mine, -torch.inf)
            seen[:, 0] = torch.where(mine[:, 0], pulls[:, 0] * self.positive_weight, terms[:, 0])
            counts = counts & (seen.argmax(1, keepdim=True) == torch.arange(rows.shape[1], device=x.device))
        far = near > self.positive_upper_bound if self.positive_first else torch.zeros_like(near, dtype=torch.bool)
        counts = counts & ~far
        total = (abs(self.positive_weight) * pulls.sum() + (terms * counts).abs().sum()) / len(rows)
        pushed = counts * (self.negative_weight if weights is None else weights)
        pushed = pushed / self.excess(pushed)
        pulled = far | ((near > self.positive_margin) & (near < self.positive_outlier_thresh))
        slopes = torch.where(mine, self.positive_weight * pulled.to(rows.dtype), -pushed)
        loss = _Sloped.apply(per_item(x), total, slopes / len(rows))
        means = torch.stack([pulls.sum(), gaps.sum() / (rows.shape[1] - 1)]) / len(rows)
        return (loss, means)[: self.at.tops]

    def excess(self, pushed: torch.Tensor) -> Any:
        """What the weights of others are divided by."""
        if self.normalize_negative is None:
            return 1.0
        mean = pushed.sum().abs() / self.normalize_negative / len(pushed)
        return torch.where(mean > self.positive_weight, mean, torch.ones_like(mean))
