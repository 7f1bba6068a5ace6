"""Loss layers: scalars that training adds up, weighted by loss_weight."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

import numpy as np
import torch

from .base import Layer, Misfit, at_least, at_most_4, register, show
from .memory import Reads


def over_items(total: Any, count: int) -> np.ndarray:
    """A total over a number of items; NaN, as Caffe gives it, where there are none."""
    return np.asarray(total / count if count else np.nan)


class Loss(Layer):
    """What losses share: scores and targets agree on axis 0, the top is a scalar."""

    kind = "loss"
    bottom_count = (2, 2)
    no_gradient: ClassVar[tuple[int, ...]] = (1,)
    four_axes: ClassVar[tuple[int, ...]] = ()  # bottoms that every Caffe asks for N, C, H, W; one asks all losses'

    def top_shapes(self, *bottoms):
        for bottom in bottoms[:2]:
            at_least(1, bottom)
        legacy = () if "c3d" in self.at.packs else self.four_axes  # whose blobs have a length besides
        at_most_4(*(bottoms[:2] if self.at.habits.legacy_losses else ()), *(bottoms[i] for i in legacy))
        if bottoms[0][0] != bottoms[1][0]:
            raise Misfit(f"{show(bottoms[0])} and {show(bottoms[1])}", "equal extents of axis 0", "bottom")
        return ((),) * self.at.tops

    def one_label_an_item(self, x, label):
        """Raise Misfit unless there are as many labels as items."""
        if prod(label) != x[0]:
            raise Misfit(f"{show(label)} labels for {show(x)}", f"{x[0]}, one an item", "bottom")

    def reads(self):
        return Reads((1,))  # the labels; of the scores most keep what they need


class NormalizedLoss(Loss):
    """Losses whose divisor `loss_param` chooses; semantics 1.31 and 1.32."""

    param: ClassVar[tuple[str, ...]] = ("loss_param",)

    ignore_label: int | None = None
    normalization: str | None = None
    normalize: bool | None = None
    default_mode: ClassVar[str] = "VALID"

    @property
    def mode(self) -> str:
        """FULL, VALID, BATCH_SIZE or NONE, as BVLC resolves new and old fields."""
        if self.normalization is not None:
            return self.normalization
        if self.normalize is not None:
            return "VALID" if self.normalize else "BATCH_SIZE"
        return self.default_mode

    def divisor(self, full: int, valid, batch: int):
        """The divisor by `mode`, never below 1 (BVLC: GetNormalizer); `valid`: the number of terms that count."""
        sizes = {"FULL": full, "BATCH_SIZE": batch, "NONE": 1}
        return max(sizes[self.mode], 1) if self.mode in sizes else valid

    def onnx_divisor(self, graph, full, kept, batch):
        """The divisor as an ONNX value; `kept`: 1 where a term counts, None when all do."""
        if self.mode == "NONE":
            return graph.constant(1.0)
        count = batch if self.mode == "BATCH_SIZE" else full
        if self.mode == "VALID" and kept is not None:
            count = graph.reduce("ReduceSum", kept)
        return graph.op("Max", count, graph.constant(1.0))


@register
class SigmoidCrossEntropyLoss(NormalizedLoss):
    """Cross entropy of sigmoid(x) against targets in [0, 1], summed over all but the batch; semantics 1.31."""

    type = "SigmoidCrossEntropyLoss"
    default_mode = "BATCH_SIZE"

    def top_shapes(self, x, target):
        if prod(x) != prod(target):
            raise Misfit(f"{show(x)} scores and {show(target)} targets", "equal counts", "bottom")
        return super().top_shapes(x, target)

    @property
    def ignored(self) -> int | None:
        """The label that does not count, where its Caffe reads that here."""
        return None if self.at.habits.sigmoid_loss_is_by_item else self.ignore_label

    def _divide(self, total, count: int, valid, batch: int, maximum):
        if self.at.habits.sigmoid_loss_is_by_item:
            return total / batch if isinstance(total, torch.Tensor) else over_items(total, batch)
        return total / self.divisor(count, maximum(valid), batch)

    def reference(self, blobs, x, target):
        target = target.reshape(x.shape)
        terms = np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x)))
        kept = np.ones(x.shape, bool) if self.ignored is None else np.trunc(target) != self.ignored
        total = (terms * kept).sum()
        return (np.asarray(self._divide(total, x.size, kept.sum(), x.shape[0], lambda v: max(v, 1))),)

    def forward(self, module, x, target):
        target = target.detach().reshape(x.shape)
        terms = torch.nn.functional.binary_cross_entropy_with_logits(x, target, reduction="none")
        if self.ignored is None:
            return (self._divide(terms.sum(), x.numel(), x.numel(), x.shape[0], lambda v: max(v, 1)),)
        kept = target.trunc() != self.ignored
        total = torch.where(kept, terms, 0).sum()
        return (self._divide(total, x.numel(), kept.sum(), x.shape[0], lambda v: v.clamp(min=1)),)

    def onnx(self, graph, x, target):
        target = graph.like(target, x)
        soft = graph.op(
            "Log", graph.op("Add", graph.op("Exp", graph.op("Neg", graph.op("Abs", x))), graph.constant(1.0))
        )
        terms = graph.op("Add", graph.op("Sub", graph.op("Relu", x), graph.op("Mul", x, target)), soft)
        kept = None
        if self.ignored is not None:
            same = graph.op("Equal", graph.op("Cast", target, to=6), graph.constant(self.ignored, np.int32))
            kept = graph.op("Cast", graph.op("Not", same), to=1)
            terms = graph.op("Where", same, graph.constant(0.0), terms)
        batch = graph.count(x, 1)
        by_item = self.at.habits.sigmoid_loss_is_by_item
        divisor = batch if by_item else self.onnx_divisor(graph, graph.count(x), kept, batch)
        return (graph.op("Div", graph.reduce("ReduceSum", terms), divisor),)
