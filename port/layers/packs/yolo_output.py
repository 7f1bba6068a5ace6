"""Boxes out of YOLO's maps: what both versions do with those that they found; one NMS over all."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from ..base import Layer, Misfit, float32, show


class Found(NamedTuple):
    """Detections in the order in which they were found: x, y, w, h (count x 4), class and score (count each)."""

    boxes: Any
    labels: Any
    scores: Any


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), for any size of x."""
    return np.where(x >= 0, 1, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x)))


def kept_boxes(boxes: np.ndarray, threshold: float) -> list[int]:
    """Which of falling boxes (count x 4: x, y, w, h) stay when each removes those that it covers by the threshold."""
    left, kept = np.arange(len(boxes)), []
    while len(left):
        first, left = left[0], left[1:]
        kept.append(int(first))
        with np.errstate(invalid="ignore", divide="ignore"):
            left = left[~(iou(boxes[first], boxes[left]) >= threshold)]
    return kept


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Overlap of one box with many over their union."""
    shared = np.minimum(a[:2] + a[2:] / 2, b[:, :2] + b[:, 2:] / 2) - np.maximum(
        a[:2] - a[2:] / 2, b[:, :2] - b[:, 2:] / 2
    )
    inside = np.where((shared < 0).any(1), 0, shared.prod(1))
    return inside / (a[2] * a[3] + b[:, 2] * b[:, 3] - inside)


def kept_tensors(boxes: torch.Tensor, threshold: float) -> torch.Tensor:
    """The same in torch, as indices: whether a box stays depends on those before it that stayed."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    area = boxes[:, 2] * boxes[:, 3]
    alive = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    for i in range(len(boxes)):
        if alive[i]:
            shared = torch.minimum(high[i], high[i + 1 :]) - torch.maximum(low[i], low[i + 1 :])
            inside = torch.where((shared < 0).any(1), 0, shared.prod(1))
            alive[i + 1 :] &= ~(inside / (area[i] + area[i + 1 :] - inside) >= threshold)
    return alive.nonzero()[:, 0]


class YoloOutput(Layer):
    """What both versions share: rows 1 x 1 x count x 7 of item, class + 1, score, xmin, ymin, xmax, ymax.

    The forks put the boxes of all items and classes into one NMS and call every row's item 0; with nothing found there
    is one row an item, its number and six times -1. Equal scores stay in the order in which they were found.
    """

    pack = "yolo"
    kind = "metric"
    family = "other"
    selects = True
    selected_axis = 2
    detects = True
    at_least: ClassVar[bool] = False  # whether a score on the threshold counts

    num_classes: int | None = None
    confidence_threshold: float = float32(0.01)
    nms_threshold: float = float32(0.45)
    biases: tuple[float, ...] = ()

    @property
    def row_labels(self) -> tuple[int, int]:
        """How many labels there are, the background's (0) included, and the first that rows have."""
        return (self.num_classes or 0) + 1, 1

    def top_shapes(self, *bottoms):
        if not self.num_classes:
            raise Misfit(f"num_classes {self.num_classes}", "1 or more", "num_classes")
        for bottom in bottoms:
            if len(bottom) != 4 or bottom[0] != bottoms[0][0]:
                found = ", ".join(map(show, bottoms))
                raise Misfit(found, "maps N x C x H x W of as many items", "bottom")
        self.check(*bottoms)
        return ((1, 1, 1, 7),)  # how many rows there are is known only when it runs

    def check(self, *bottoms):
        """Raise Misfit for what the fork would read beside its arrays."""
        raise NotImplementedError

    def require_anchors(self, most: int) -> None:
        """Raise Misfit unless there are widths and heights up to an anchor."""
        if len(self.biases) < 2 * most + 2:
            raise Misfit(f"{len(self.biases)} biases for anchor {most}", f"{2 * most + 2} or more", "biases")

    def decoded(self, bottoms: tuple[np.ndarray, ...]) -> Found:
        raise NotImplementedError

    def decoded_tensors(self, bottoms: tuple[torch.Tensor, ...]) -> Found:
        raise NotImplementedError

    def decoded_onnx(self, graph, bottoms: tuple[str, ...]) -> Found:
        """Of every box: x, y, w, h (rows x 4), its class and its score; those below the threshold included."""
        raise NotImplementedError

    def above(self, scores):
        """Where scores reach the threshold."""
        return scores >= self.confidence_threshold if self.at_least else scores > self.confidence_threshold

    def reference(self, blobs, *bottoms):
        boxes, labels, scores = self.decoded(bottoms)
        order = np.argsort(-scores, kind="stable")
        order = order[kept_boxes(boxes[order], self.nms_threshold)]
        if not len(order):
            rows = np.full((len(bottoms[0]), 7), -1.0)
            rows[:, 0] = np.arange(len(rows))
            return (rows[None, None],)
        centre, half = boxes[order, :2], boxes[order, 2:] / 2
        lead = np.stack([np.zeros(len(order)), labels[order] + 1, scores[order]], 1)
        return (np.concatenate([lead, centre - half, centre + half], 1)[None, None],)

    def forward(self, module, *bottoms):
        boxes, labels, scores = self.decoded_tensors(tuple(x.detach() for x in bottoms))
        order = torch.argsort(scores, descending=True, stable=True)
        order = order[kept_tensors(boxes[order], self.nms_threshold)]
        if not len(order):
            rows = boxes.new_full((len(bottoms[0]), 7), -1.0)
            rows[:, 0] = torch.arange(len(rows))
            return (rows[None, None],)
        boxes, labels, scores = boxes[order], labels[order].to(boxes), scores[order]
        lead = torch.stack([torch.zeros_like(scores), labels + 1, scores], 1)
        half = boxes[:, 2:] / 2
        return (torch.cat([lead, boxes[:, :2] - half, boxes[:, :2] + half], 1)[None, None],)

    def onnx(self, graph, *bottoms):
        boxes, labels, scores = self.chosen_onnx(graph, *self.decoded_onnx(graph, bottoms))
        shared = float(np.float32(self.nms_threshold))
        if shared <= 0:
            raise Misfit(f"nms_threshold {shared:g}", "above 0 in ONNX", "nms_threshold")
        kept = graph.op(
            "NonMaxSuppression",
            graph.op("Unsqueeze", boxes, graph.constant([0], np.int64)),
            graph.reshape(scores, (1, 1, -1)),
            graph.constant(2**31 - 1, np.int64),
            graph.constant(min(np.nextafter(np.float32(shared), np.float32(0)), 1.0)),  # ONNX keeps what is on it
            graph.constant(np.finfo(np.float32).min),
            center_point_box=1,
        )
        kept = graph.reshape(graph.slice(kept, [2], [3], [1]), (-1,))
        boxes, labels, scores = (graph.op("Gather", part, kept, axis=0) for part in (boxes, labels, scores))
        column = graph.reshape(scores, (-1, 1))
        label = graph.op("Add", graph.reshape(graph.op("Cast", labels, to=1), (-1, 1)), graph.constant(1.0))
        centre, half = (graph.slice(boxes, [i], [i + 2], [1]) for i in (0, 2))
        half = graph.op("Mul", half, graph.constant(0.5))
        ends = (graph.op(kind, centre, half) for kind in ("Sub", "Add"))
        zero = graph.op("Mul", label, graph.constant(0.0))
        rows = graph.op("Concat", zero, label, column, *ends, axis=1)
        return (graph.reshape(self._or_nothing(graph, rows, bottoms[0]), (1, 1, -1, 7)),)

    def chosen_onnx(self, graph, boxes, labels, scores):
        """Those boxes alone whose score reaches the threshold."""
        limit = np.float32(self.confidence_threshold)
        limit = np.nextafter(limit, np.float32(-np.inf)) if self.at_least else limit
        where = graph.op("NonZero", graph.op("Greater", scores, graph.constant(limit)))
        where = graph.reshape(where, (-1,))
        return (graph.op("Gather", part, where, axis=0) for part in (boxes, labels, scores))

    def _or_nothing(self, graph, rows: str, x: str) -> str:
        """The rows, or where there are none one an item."""
        found, items = graph.extents(rows, 0), graph.extents(x, 0)
        none = graph.op("Equal", found, graph.constant([0], np.int64))
        count = graph.op("Where", none, items, found)
        zero, one = graph.constant(0, np.int64), graph.constant(1, np.int64)
        numbers = graph.op("Range", zero, graph.op("Squeeze", items, graph.constant([0], np.int64)), one)
        column = graph.reshape(graph.op("Cast", numbers, to=1), (-1, 1))
        both = graph.op("Concat", rows, graph.pad(column, (0, 0), (0, 6), -1.0), axis=0)
        first = graph.constant([0], np.int64)
        return graph.op("Slice", both, first, count, first)
