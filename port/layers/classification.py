"""Losses over class labels: SoftmaxWithLoss, InfogainLoss."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .base import FLT_MIN, Misfit, canonical_axis, per_item, register, show
from .losses import NormalizedLoss, over_items
from .memory import Reads
from .softmax import softmax
from .values import check_places

LOG_THRESHOLD = 1e-20  # Caffe's kLOG_THRESHOLD


def one_label_a_location(x, label, axis: int) -> None:
    """Raise Misfit unless there are as many labels as locations outside the class axis."""
    locations = prod(x[:axis]) * prod(x[axis + 1 :])
    if prod(label) != locations:
        raise Misfit(f"{show(label)} labels for {show(x)}", f"{locations}, one a location", "bottom")


def last_axis(x: Any, axis: int) -> Any:
    """An array or tensor as locations x classes, `axis` being the classes."""
    moved = np.moveaxis(x, axis, -1) if isinstance(x, np.ndarray) else x.movedim(axis, -1)
    return moved.reshape(prod(moved.shape[:-1]), x.shape[axis])


class _ClassLoss(torch.autograd.Function):
    """-sum of target * log(max(softmax(x), floor)) over locations x classes; the floor leaves the gradient alone."""

    @staticmethod
    def forward(ctx, rows, target, floor):
        p = torch.softmax(rows, 1)
        ctx.save_for_backward(p, target)
        return -(target * p.clamp(min=floor).log()).sum()

    @staticmethod
    def backward(ctx, grad):
        p, target = ctx.saved_tensors
        return grad * (p * target.sum(1, keepdim=True) - target), None, None


class ProbabilityLoss(torch.autograd.Function):
    """-sum of target * log(max(p, 1e-20)); gradient -target / max(p, 1e-20) below the floor too."""

    @staticmethod
    def forward(ctx, p, target):
        held = p.clamp(min=LOG_THRESHOLD)
        ctx.save_for_backward(held, target)
        return -(target * held.log()).sum()

    @staticmethod
    def backward(ctx, grad):
        held, target = ctx.saved_tensors
        return -grad * target / held, None


class _SoftmaxLoss(NormalizedLoss):
    """What the losses with a softmax inside share: locations, labels, ignored ones, the divisor."""

    def axis_of(self, rank: int) -> int:
        raise NotImplementedError

    def class_axis(self, x, label) -> int:
        """The axis of the classes; raises Misfit unless there is one label a location."""
        axis = self.axis_of(len(x))
        one_label_a_location(x, label, axis)
        return axis

    def divide(self, total, full, valid, batch, at_least_one):
        """The loss over its divisor, by modes with a floor, or by `normalize` alone."""
        if not self.at.habits.softmax_loss_has_modes:
            return total / (valid if self.normalize in (None, True) else batch)
        return total / self.divisor(full, at_least_one(valid), batch)

    def kept(self, label):
        """1 where a label counts (NumPy and torch)."""
        return label == label if self.ignore_label is None else label != self.ignore_label

    def weighted(self, rows, label, target, x, axis):
        """The loss in torch, for target rows by label."""
        kept = self.kept(label)
        total = _ClassLoss.apply(rows, target * kept[:, None], self.floor)
        batch = prod(x.shape[:axis])
        return self.divide(total, len(label), kept.sum().to(x.dtype), batch, lambda v: v.clamp(min=1))

    floor = LOG_THRESHOLD

    @property
    def ignores_nothing(self) -> bool:
        """Whether ignore_label has no effect."""
        return False

    def onnx_labels(self, graph, label):
        """Flat labels as int64 (ignored ones made 0) and a float 1 where they count (None: all count)."""
        flat = graph.op("Cast", graph.reshape(label, (-1,)), to=7)
        if self.ignore_label is None or self.ignores_nothing:
            return flat, None
        same = graph.op("Equal", flat, graph.constant(self.ignore_label, np.int64))
        flat = graph.op("Where", same, graph.constant(0, np.int64), flat)
        return flat, graph.op("Cast", graph.op("Not", same), to=1)

    def onnx_rows(self, graph, x, axis: int) -> str:
        """A bottom as locations x classes."""
        rank = len(graph.current.bottoms[0].shape)
        order = [i for i in range(rank) if i != axis] + [axis]
        if order != list(range(rank)):
            x = graph.op("Transpose", x, perm=order)
        return graph.reshape(x, (-1, graph.current.bottoms[0].shape[axis]))

    def onnx_loss(self, graph, terms, kept, x, axis):
        """Terms per location summed over the divisor."""
        if kept is not None:
            terms = graph.op("Mul", terms, kept)
        full, batch = graph.count(graph.current.bottoms[1].name), graph.count(x, axis)
        if not self.at.habits.softmax_loss_has_modes:
            valid = full if kept is None else graph.reduce("ReduceSum", kept)
            divisor = valid if self.normalize in (None, True) else batch
        else:
            divisor = self.onnx_divisor(graph, full, kept, batch)
        return graph.op("Div", graph.op("Neg", graph.reduce("ReduceSum", terms)), divisor)


@register
class SoftmaxWithLoss(_SoftmaxLoss):
    """Softmax along `axis` and -log of the label's share; semantics 1.32 (softmax_loss_layer).

    A second top, the probabilities, is an extension: neither Caffe can build it. SegNet's and ENet's forks weight the
    terms, and not the divisor, by the label: `class_weighting`, where `weight_by_label_freqs` is set.
    """

    type = "SoftmaxWithLoss"
    param = ("softmax_param", "loss_param")
    top_count = (1, 2)
    floor = FLT_MIN

    engine: str = "DEFAULT"
    axis: int = 1
    weight_by_label_freqs: bool = False
    class_weighting: tuple[float, ...] = ()

    def axis_of(self, rank):
        return canonical_axis(self.axis, rank)

    def top_shapes(self, x, label):
        axis = self.class_axis(x, label)
        if self.weight_by_label_freqs and len(self.class_weighting) != x[axis]:
            raise Misfit(f"{len(self.class_weighting)} weights", f"{x[axis]}, one a class", "class_weighting")
        super().top_shapes(x, label)
        return ((), x)[: self.at.tops]

    def reference(self, blobs, x, label):
        axis = self.class_axis(x.shape, label.shape)
        check_places(label, x.shape[axis], "label", ignored=self.ignore_label)
        p, flat = softmax(x, axis), label.reshape(-1).astype(int)
        kept = self.kept(flat)
        picked = last_axis(p, axis)[np.arange(len(flat)), np.where(kept, flat, 0)]
        terms = np.log(np.maximum(picked, FLT_MIN)) * kept
        if self.weight_by_label_freqs:
            terms = terms * np.array(self.class_weighting)[np.where(kept, flat, 0)]
        with np.errstate(invalid="ignore"):
            loss = self.divide(
                -terms.sum(), len(flat), np.float64(kept.sum()), prod(x.shape[:axis]), lambda v: max(v, 1)
            )
        return (np.asarray(loss), p)[: self.at.tops]

    def forward(self, module, x, label):
        axis = self.class_axis(tuple(x.shape), tuple(label.shape))
        check_places(label, x.shape[axis], "label", ignored=self.ignore_label)
        flat = label.detach().reshape(-1).long()
        rows = last_axis(x, axis)
        target = torch.zeros_like(rows).scatter_(1, torch.where(self.kept(flat), flat, 0)[:, None], 1.0)
        if self.weight_by_label_freqs:
            target = target * target.new_tensor(self.class_weighting)
        loss = self.weighted(rows, flat, target, x, axis)
        return (loss,) if self.at.tops == 1 else (loss, torch.softmax(x, axis))

    def onnx(self, graph, x, label):
        axis = self.class_axis(graph.shape(x), graph.shape(label))
        p = graph.op("Softmax", x, axis=axis)
        flat, kept = self.onnx_labels(graph, label)
        column = graph.op("Unsqueeze", flat, graph.constant([1], np.int64))
        picked = graph.op("GatherElements", self.onnx_rows(graph, p, axis), column, axis=1)
        picked = graph.reshape(graph.op("Max", picked, graph.constant(FLT_MIN)), (-1,))
        terms = graph.op("Log", picked)
        if self.weight_by_label_freqs:
            terms = graph.op("Mul", terms, graph.op("Gather", graph.constant(self.class_weighting), flat))
        return (self.onnx_loss(graph, terms, kept, x, axis), p)[: self.at.tops]


@register
class InfogainLoss(_SoftmaxLoss):
    """-sum of H[label, k] * log p_k, H from a third bottom or a file; semantics 1.35 (infogain_loss_layer).

    BVLC takes logits and applies a softmax; the fork takes probabilities and divides by the batch.
    """

    type = "InfogainLoss"
    param = ("infogain_loss_param", "loss_param")
    bottom_count = (2, 3)
    top_count = (1, 2)
    no_gradient = (1, 2)

    source: str = ""
    axis: int = 1

    @property
    def ignores_nothing(self) -> bool:
        """Whether its Caffe reads no ignore_label here."""
        return self.of_probabilities

    @property
    def of_probabilities(self) -> bool:
        """Whether its bottom holds an item's probabilities; else scores, and a softmax is inside."""
        return self.at.habits.infogain_takes_probabilities

    def axis_of(self, rank):
        return canonical_axis(self.axis, rank)

    def top_shapes(self, x, label, *matrix):
        super().top_shapes(x, label)
        if self.of_probabilities:
            self.one_label_an_item(x, label)
            if self.at.tops == 2:
                raise Misfit("a second top", "one in the fork", "top")
        elif self.normalize is not None:
            raise Misfit("the field", "normalization", "normalize")
        classes = prod(x[1:]) if self.of_probabilities else x[self.class_axis(x, label)]
        if matrix and prod(matrix[0]) != classes * classes:
            raise Misfit(f"a matrix of {show(matrix[0])}", f"{classes} x {classes}", "bottom")
        if not matrix:
            self.matrix_file(classes)
        return ((), x)[: self.at.tops]

    def matrix_file(self, classes: int) -> np.ndarray:
        """H from the file that `source` names."""
        from prototxt_gen.base.errors import CaffeError

        from ..caffemodel import read_blob

        if not self.source:
            raise Misfit("no infogain matrix", "a third bottom, or a file", "source")
        try:
            values = np.array(read_blob(Path(self.source)).data, np.float32)
        except CaffeError as error:
            raise Misfit(f"the infogain matrix cannot be read: {error}", "a BlobProto file", "source") from None
        if values.size != classes * classes:
            raise Misfit(f"an infogain matrix of {values.size} values", f"{classes} x {classes}", "source")
        return values.reshape(classes, classes)

    def parts(self, x, matrix):
        """Class axis (None of probabilities: all values of a sample) and H."""
        if self.of_probabilities:
            axis, classes = None, prod(x.shape[1:])
        else:
            axis = self.axis_of(len(x.shape))
            classes = x.shape[axis]
        h = matrix[0].reshape(classes, classes) if matrix else self.matrix_file(classes)
        return axis, h

    def reference(self, blobs, x, label, *matrix):
        axis, h = self.parts(x, matrix)
        check_places(label, len(h), "label", ignored=None if self.ignores_nothing else self.ignore_label)
        flat = label.reshape(-1).astype(int)
        if axis is None:
            p = np.maximum(per_item(x), LOG_THRESHOLD)
            return (over_items(-(h[flat] * np.log(p)).sum(), len(x)),)
        p, kept = softmax(x, axis), self.kept(flat)
        rows = np.log(np.maximum(last_axis(p, axis), LOG_THRESHOLD))
        total = -(h[np.where(kept, flat, 0)] * rows * kept[:, None]).sum()
        loss = self.divide(total, len(flat), kept.sum(), prod(x.shape[:axis]), lambda v: max(v, 1))
        return (np.asarray(loss), p)[: self.at.tops]

    def forward(self, module, x, label, *matrix):
        axis, h = self.parts(x, [m.detach() for m in matrix])
        check_places(label, len(h), "label", ignored=None if self.ignores_nothing else self.ignore_label)
        h = torch.as_tensor(h).to(x)
        flat = label.detach().reshape(-1).long()
        if axis is None:
            return (ProbabilityLoss.apply(per_item(x), h[flat]) / len(x),)
        target = h[torch.where(self.kept(flat), flat, 0)]
        loss = self.weighted(last_axis(x, axis), flat, target, x, axis)
        return (loss,) if self.at.tops == 1 else (loss, torch.softmax(x, axis))

    def onnx(self, graph, x, label, *matrix):
        shape, whole = graph.shape(x), self.of_probabilities
        axis = 1 if whole else self.axis_of(len(shape))
        classes = prod(shape[1:]) if whole else shape[axis]
        h = graph.reshape(matrix[0], (classes, classes)) if matrix else graph.constant(self.matrix_file(classes))
        flat, kept = self.onnx_labels(graph, label)
        p = x if whole else graph.op("Softmax", x, axis=axis)
        rows = graph.op("Flatten", p, axis=1) if whole else self.onnx_rows(graph, p, axis)
        logs = graph.op("Log", graph.op("Max", rows, graph.constant(LOG_THRESHOLD)))
        terms = graph.reduce("ReduceSum", graph.op("Mul", graph.op("Gather", h, flat, axis=0), logs), (1,))
        if whole:
            return (graph.op("Neg", graph.op("Div", graph.reduce("ReduceSum", terms), graph.count(x, 1))),)
        return (self.onnx_loss(graph, terms, kept, x, axis), p)[: self.at.tops]

    def reads(self):
        return Reads(tuple(range(0 if self.of_probabilities else 1, self.at.bottoms)))
