"""EvalDetection: what YOLO version 2 found, counted right or wrong against labelled boxes."""

from __future__ import annotations

import numpy as np
import torch

from ..base import Layer, Misfit, register, show
from .yolo_output import iou, kept_boxes, sigmoid

LEAST = 0.005  # scores below are left out
BOXES = 5  # of a cell, whatever num_object says


@register
class EvalDetection(Layer):
    """Of a map N x (5 * (5 + classes)) x S x S and SSD's rows of labels: N x (classes + S * S * 5 * 4) (Intel's layer).

    First the number of labelled boxes of every class, then class, score, 1 if right, 1 if wrong of every box that NMS
    over all classes kept, class by class, best first; the rest is 0. A box is right that overlaps the labelled one of
    its class nearest to it by `threshold`, if none before it did; one that overlaps none is neither right nor wrong,
    unless its class is not there at all. Without NMS (nms below 0) the layer finds nothing. `sqrt` and `constriant` are
    not read.
    """

    type = "EvalDetection"
    pack = "yolo"
    kind = "metric"
    param = ("eval_detection_param",)
    bottom_count = (2, 2)
    no_gradient = (0, 1)

    side: int = 7
    num_class: int = 20
    num_object: int = 2
    threshold: float = 0.5
    sqrt: bool = True
    constriant: bool = True
    score_type: str = "MULTIPLY"
    nms: float = -1.0
    biases: tuple[float, ...] = ()

    def top_shapes(self, x, label):
        if self.num_object != BOXES:
            raise Misfit(f"num_object {self.num_object}", f"{BOXES}, which is what the fork reads", "num_object")
        if len(self.biases) < 2 * BOXES:
            raise Misfit(f"{len(self.biases)} biases", f"{2 * BOXES} or more", "biases")
        wanted = (BOXES * (5 + self.num_class), self.side, self.side)
        if x[1:] != wanted:
            raise Misfit(f"a map of {show(x[1:])}", show(wanted), "bottom")
        if len(label) != 4 or label[:2] != (1, 1) or label[3] != 8:
            raise Misfit(f"{show(label)} labels", "1 x 1 x K x 8", "bottom")
        return ((x[0], self.num_class + self.side * self.side * BOXES * 4),)

    def reference(self, blobs, x, label):
        top = np.zeros(self.top_shapes(x.shape, label.shape)[0])
        truths = self._truths(label.reshape(-1, 8), len(x))
        for cells, boxes, row in zip(x, truths, top, strict=True):
            np.add.at(row, boxes[:, 0].astype(int), 1)
            lines = self._lines(*self._found(cells), boxes)
            row[self.num_class : self.num_class + lines.size] = lines.reshape(-1)
        return (top,)

    def _truths(self, rows: np.ndarray, items: int) -> list[np.ndarray]:
        """Class, x, y, w, h of every item's labelled boxes."""
        rows = rows[np.trunc(rows[:, 0]) != -1]
        wrong = ~((rows[:, 0] > -1) & (rows[:, 0] < items) & (rows[:, 1] > 0) & (rows[:, 1] < self.num_class + 1))
        if wrong.any():
            found = f"item {rows[wrong][0, 0]:g}, label {rows[wrong][0, 1]:g} of a box"
            raise Misfit(found, f"items -1 to {items - 1}, labels 1 to {self.num_class}", "bottom")
        low, high = rows[:, 3:5], rows[:, 5:7]
        boxes = np.concatenate([np.trunc(rows[:, 1:2] - 1), (low + high) / 2, high - low], 1)
        return [boxes[rows[:, 0].astype(int) == item] for item in range(items)]

    def _found(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, classes and scores of one item that NMS keeps, best first."""
        if self.nms < 0:
            return np.zeros((0, 4)), np.zeros(0, int), np.zeros(0)
        side = self.side
        values = (
            cells.reshape(BOXES, 5 + self.num_class, side * side).transpose(2, 0, 1).reshape(-1, 5 + self.num_class)
        )
        at, anchor = np.divmod(np.arange(len(values)), BOXES)
        corner = np.stack([at % side, at // side], 1)
        size = np.exp(values[:, 2:4]) * np.reshape(self.biases[: 2 * BOXES], (-1, 2))[anchor]
        boxes = np.concatenate([sigmoid(values[:, :2]) + corner, size], 1) / side
        power = np.exp(values[:, 5:] - values[:, 5:].max(1, keepdims=True))
        share, trust = power.max(1) / power.sum(1), sigmoid(values[:, 4])
        scores = {"OBJ": trust, "PROB": share}.get(self.score_type, share * trust)
        order = np.argsort(-scores, kind="stable")
        order = order[kept_boxes(boxes[order], self.nms)]
        order = order[scores[order] >= LEAST]
        return boxes[order], power.argmax(1)[order], scores[order]

    def _lines(self, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray, truths: np.ndarray) -> np.ndarray:
        """Class, score, right and wrong of every box, class by class."""
        lines = np.stack([labels, scores, np.zeros(len(labels)), np.zeros(len(labels))], 1)
        for label in np.unique(labels):
            mine = truths[truths[:, 0] == label, 1:]
            taken = set()
            for i in np.nonzero(labels == label)[0]:
                shared = iou(boxes[i], mine)
                if not len(mine):
                    lines[i, 3] = 1
                elif shared.max() >= self.threshold:
                    best = int(shared.argmax())
                    lines[i, 3 if best in taken else 2] = 1
                    taken.add(best)
        return lines[np.argsort(labels, kind="stable")]

    def forward(self, module, x, label):
        (top,) = self.reference([], x.detach().double().cpu().numpy(), label.detach().double().cpu().numpy())
        return (torch.as_tensor(top, dtype=x.dtype, device=x.device),)

    def onnx(self, graph, x, label):
        raise Misfit("boxes that are counted one after the other", "a net without this measure", "type")
