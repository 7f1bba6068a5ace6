"""The metric over class labels: Accuracy."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from .base import Layer, Misfit, canonical_axis, register
from .classification import last_axis, one_label_a_location
from .values import check_places


@register
class Accuracy(Layer):
    """Share of locations whose label is among the top_k scores; ties differ by dialect; semantics 1.39."""

    type = "Accuracy"
    param = ("accuracy_param",)
    kind = "metric"
    bottom_count = (2, 2)
    top_count = (1, 2)
    no_gradient: ClassVar[tuple[int, ...]] = (0, 1)

    top_k: int = 1
    axis: int = 1
    ignore_label: int | None = None

    def top_shapes(self, x, label):
        axis = canonical_axis(self.axis, len(x))
        one_label_a_location(x, label, axis)
        if not 1 <= self.top_k <= x[axis]:
            raise Misfit(f"top_k {self.top_k} of {x[axis]} classes", f"1 to {x[axis]}", "top_k")
        if self.at.tops == 2 and not self.at.habits.accuracy_of_each_class:
            raise Misfit("a second top", "one in the fork", "top")
        return ((), (x[axis],))[: self.at.tops]

    def reference(self, blobs, x, label):
        rows = last_axis(x, canonical_axis(self.axis, x.ndim))
        check_places(label, rows.shape[1], "label", ignored=self.ignore_label)
        flat = label.reshape(-1).astype(int)
        kept = flat == flat if self.ignore_label is None else flat != self.ignore_label
        rows, flat = rows[kept], flat[kept]
        score = rows[np.arange(len(flat)), flat][:, None]
        if self.at.habits.ties_favour_larger_index:  # sorted by score, then index
            ahead = (rows > score) | ((rows == score) & (np.arange(rows.shape[1]) > flat[:, None]))
            hit = ahead.sum(1) < self.top_k
        else:  # a tie counts against the label
            hit = (rows >= score).sum(1) - 1 < self.top_k
        nothing = np.nan if self.at.habits.accuracy_of_nothing_is_nan else 0.0
        counts = np.bincount(flat, minlength=rows.shape[1])
        per_class = np.bincount(flat, hit, rows.shape[1]) / np.maximum(counts, 1)
        return (np.asarray(hit.mean() if len(hit) else nothing), per_class)[: self.at.tops]

    def forward(self, module, x, label):
        tops = self.reference([], x.detach().cpu().numpy(), label.detach().cpu().numpy())
        return tuple(torch.as_tensor(top, dtype=x.dtype, device=x.device) for top in tops)

    def onnx(self, graph, x, label, *weight):
        shape = graph.shape(x)
        axis = canonical_axis(self.axis, len(shape))
        order = [i for i in range(len(shape)) if i != axis] + [axis]
        turned = x if order == sorted(order) else graph.op("Transpose", x, perm=order)
        rows = graph.reshape(turned, (-1, shape[axis]))
        flat = graph.op("Cast", graph.reshape(label, (-1,)), to=7)
        kept, flat = self._kept(graph, flat, *weight)
        hit = graph.op("Mul", self._hits(graph, rows, flat, shape[axis]), kept)
        accuracy = graph.op("Div", graph.reduce("ReduceSum", hit), self._divisor(graph, kept))
        if self.at.tops == 1:
            return (accuracy,)
        depth = graph.constant([shape[axis]], np.int64)
        member = graph.op("OneHot", flat, depth, graph.constant([0.0, 1.0]), axis=0)  # classes x locations
        counts = graph.reduce("ReduceSum", graph.op("Mul", member, kept), (1,))
        hits = graph.reduce("ReduceSum", graph.op("Mul", member, hit), (1,))
        return accuracy, graph.op("Div", hits, graph.op("Max", counts, graph.constant(1.0)))

    def _kept(self, graph, flat: str, *weight: str) -> tuple[str, str]:
        """1 for each location that counts, else 0; and the labels, with an existing one where they are ignored."""
        kept = graph.op("Cast", graph.op("Equal", flat, flat), to=1)
        if self.ignore_label is None:
            return kept, flat
        same = graph.op("Equal", flat, graph.constant(self.ignore_label, np.int64))
        kept = graph.op("Cast", graph.op("Not", same), to=1)
        return kept, graph.op("Where", same, graph.constant(0, np.int64), flat)

    def _divisor(self, graph, kept: str) -> str:
        total = graph.reduce("ReduceSum", kept)
        return total if self.at.habits.accuracy_of_nothing_is_nan else graph.op("Max", total, graph.constant(1.0))

    def _hits(self, graph, rows, flat, classes: int) -> str:
        column = graph.op("Unsqueeze", flat, graph.constant([1], np.int64))
        score = graph.op("GatherElements", rows, column, axis=1)
        greater = graph.op("Greater", rows, score)
        equal = graph.op("Equal", rows, score)
        if self.at.habits.ties_favour_larger_index:
            later = graph.op("Greater", graph.constant(np.arange(classes), np.int64), column)
            equal = graph.op("And", equal, later)
        ahead = graph.reduce("ReduceSum", graph.op("Cast", graph.op("Or", greater, equal), to=1), (1,))
        allowed = self.top_k if self.at.habits.ties_favour_larger_index else self.top_k + 1
        return graph.op("Cast", graph.op("Less", ahead, graph.constant(float(allowed))), to=1)
