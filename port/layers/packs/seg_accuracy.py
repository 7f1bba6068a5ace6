"""SegAccuracy: DeepLab's measures of a segmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..base import Layer, Misfit, register, show
from ..values import check_places


@register
class SegAccuracy(Layer):
    """Pixel accuracy, mean recall and mean overlap of N x C x H x W scores, as 1 x 1 x 1 x 3 (seg_accuracy_layer).

    Of equal scores the higher class is predicted; a class that neither occurs nor is predicted overlaps fully. All
    three are given whatever `metric` says. With reset false the counts go on from one forward to the next.
    """

    type = "SegAccuracy"
    pack = "deeplab"
    kind = "metric"
    param = ("seg_accuracy_param",)
    bottom_count = (2, 2)
    no_gradient = (0, 1)
    onnx_note = "reset: true only: an ONNX graph keeps no counts"

    metric: str = "PixelAccuracy"
    ignore_label: tuple[int, ...] = ()
    reset: bool = True

    def top_shapes(self, x, label):
        if len(x) != 4 or not x[1] or (*label, 1, 1, 1)[:4] != (x[0], 1, *x[2:]) or len(label) > 4:
            raise Misfit(f"{show(x)} scores and {show(label)} labels", "N x C x H x W and N x 1 x H x W", "bottom")
        return ((1, 1, 1, 3),)

    def counts(self, x: np.ndarray, label: np.ndarray) -> np.ndarray:
        """C x C: how often a label met a prediction."""
        classes, flat = x.shape[1], np.trunc(label).reshape(-1)
        kept = ~np.isin(flat, self.ignore_label)
        check_places(flat[kept], classes, "label")
        guess = classes - 1 - np.argmax(x[:, ::-1], 1).reshape(-1)
        found = np.bincount(flat[kept].astype(int) * classes + guess[kept], minlength=classes * classes)
        return found.reshape(classes, classes)

    @staticmethod
    def measures(counts: np.ndarray) -> np.ndarray:
        """The three numbers of a table of counts."""
        hits, rows, columns = np.diag(counts), counts.sum(1), counts.sum(0)
        present, union = rows > 0, rows + columns - hits
        recall = (hits[present] / rows[present]).mean() if present.any() else 0.0
        overlap = np.where(hits == union, 1.0, hits / np.maximum(union, 1)).mean()
        return np.array([hits.sum() / max(counts.sum(), 1), recall, overlap], np.float64).reshape(1, 1, 1, 3)

    def reference(self, blobs, x, label):
        return (self.measures(self.counts(x, label)),)

    def forward(self, module, x, label):
        counts = self.counts(x.detach().cpu().numpy(), label.detach().cpu().numpy())
        if not self.reset:
            counts = counts + module.state.get("counts", 0)
            module.state["counts"] = counts
        return (torch.from_numpy(self.measures(counts)).to(x),)

    def onnx(self, graph, x, label):
        if not self.reset:
            raise Misfit("reset: false", "true: an ONNX graph keeps no counts", "reset")
        classes = graph.shape(x)[1]
        turned = graph.slice(x, [-1], [np.iinfo(np.int64).min], [1], [-1])  # of equal ones ONNX takes the first
        last = graph.constant(classes - 1, np.int64)
        guess = graph.op("Sub", last, graph.reshape(graph.op("ArgMax", turned, axis=1, keepdims=0), (-1,)))
        flat = graph.op("Cast", graph.reshape(label, (-1,)), to=7)
        every = np.arange(classes)
        guess = self._members(graph, guess, every)
        flat = self._members(graph, flat, np.where(np.isin(every, self.ignore_label), -1, every))
        counts = graph.op("MatMul", graph.op("Transpose", flat, perm=(1, 0)), guess)  # labels x predictions
        return (self._onnx_measures(graph, counts, classes),)

    @staticmethod
    def _members(graph: Any, places: str, names: np.ndarray) -> str:
        """1 where a location has a class's name: locations x classes."""
        column = graph.op("Unsqueeze", places, graph.constant([1], np.int64))
        return graph.op("Cast", graph.op("Equal", column, graph.constant(names, np.int64)), to=1)

    @staticmethod
    def _onnx_measures(graph: Any, counts: str, classes: int) -> str:
        """What `measures` gives."""
        one, zero = graph.constant(1.0), graph.constant(0.0)
        unit = graph.constant(np.eye(classes), name="unit")
        hits = graph.reduce("ReduceSum", graph.op("Mul", counts, unit), (1,))
        rows, columns = (graph.reduce("ReduceSum", counts, (axis,)) for axis in (1, 0))
        total = graph.op("Max", graph.reduce("ReduceSum", counts), one)
        present = graph.op("Cast", graph.op("Greater", rows, zero), to=1)
        recall = graph.reduce("ReduceSum", graph.op("Div", hits, graph.op("Max", rows, one)))
        recall = graph.op("Div", recall, graph.op("Max", graph.reduce("ReduceSum", present), one))
        union = graph.op("Sub", graph.op("Add", rows, columns), hits)
        overlap = graph.op("Div", hits, graph.op("Max", union, one))
        overlap = graph.op("Where", graph.op("Equal", hits, union), one, overlap)
        accuracy = graph.op("Div", graph.reduce("ReduceSum", hits), total)
        parts = (accuracy, recall, graph.reduce("ReduceMean", overlap))
        return graph.op("Concat", *(graph.reshape(part, (1, 1, 1, 1)) for part in parts), axis=3)
