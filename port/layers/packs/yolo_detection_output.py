"""YoloDetectionOutput: what version 2's map, or two of them, found."""

from __future__ import annotations

import numpy as np
import torch

from ..base import Misfit, register
from .yolo_output import Found, YoloOutput, sigmoid


@register
class YoloDetectionOutput(YoloOutput):
    """The boxes of one or two maps N x (num_box * (5 + classes)) x S x S, each with its best class (the fork's layer).

    As in version 3, but classes go through a softmax, anchors are in cells, and all maps have the first `num_box`
    anchors. The fork takes `side` from the map, and reads neither `coords` nor, for what it computes, `label_map_file`.
    """

    type = "YoloDetectionOutput"
    param = ("yolo_detection_output_param",)
    bottom_count = (1, 2)
    no_gradient = (0, 1)
    at_least = True

    side: int = 13
    num_box: int = 5
    coords: int = 4
    label_map_file: str = ""

    def check(self, *bottoms):
        self.require_anchors(self.num_box - 1)
        for bottom in bottoms:
            if bottom[2] != bottom[3]:
                raise Misfit(f"a map of {bottom[2]}x{bottom[3]}", "a square one", "bottom")
            least = self.num_box * (5 + (self.num_classes or 0))
            if self.num_box < 1 or bottom[1] % self.num_box or bottom[1] < least:
                found = f"{bottom[1]} channels for {self.num_box} boxes of {5 + (self.num_classes or 0)} values"
                raise Misfit(found, f"{least}, or another multiple of {self.num_box} above", "bottom")

    @property
    def anchors(self) -> np.ndarray:
        """Widths and heights of the anchors, num_box x 2."""
        return np.reshape(self.biases[: 2 * self.num_box], (-1, 2))

    def decoded(self, bottoms):
        boxes, labels, scores = [], [], []
        for x in bottoms:
            n, channels, side, _ = x.shape
            cells = x.transpose(0, 2, 3, 1).reshape(n * side * side, self.num_box, channels // self.num_box)
            at = np.arange(n * side * side) % (side * side)
            corner = np.stack([at % side, at // side], 1)[:, None]
            centre = (sigmoid(cells[..., :2]) + corner) / side
            size = np.exp(cells[..., 2:4]) * self.anchors / side
            power = np.exp(
                cells[..., 5 : 5 + (self.num_classes or 0)]
                - cells[..., 5 : 5 + (self.num_classes or 0)].max(-1, keepdims=True)
            )
            share = power / power.sum(-1, keepdims=True)
            label = share.argmax(-1)
            score = sigmoid(cells[..., 4]) * share.max(-1)
            where = np.nonzero(self.above(score))
            boxes.append(np.concatenate([centre, size], -1)[where])
            labels.append(label[where])
            scores.append(score[where])
        return Found(*map(np.concatenate, (boxes, labels, scores)))

    def decoded_tensors(self, bottoms):
        boxes, labels, scores = [], [], []
        for x in bottoms:
            side = x.shape[2]
            cells = x.unflatten(1, (self.num_box, -1)).permute(0, 3, 4, 1, 2)
            grid, anchor = torch.arange(side).to(x), torch.from_numpy(self.anchors).to(x)
            place = [cells[..., 0].sigmoid() + grid.reshape(1, -1, 1), cells[..., 1].sigmoid() + grid.reshape(-1, 1, 1)]
            size = [cells[..., i].exp() * anchor[:, i - 2] for i in (2, 3)]
            share, label = torch.softmax(cells[..., 5 : 5 + (self.num_classes or 0)], -1).max(-1)
            score = (share * cells[..., 4].sigmoid()).flatten()
            where = self.above(score)
            boxes.append((torch.stack([*place, *size], -1) / side).flatten(0, 3)[where])
            labels.append(label.flatten()[where])
            scores.append(score[where])
        return Found(*map(torch.cat, (boxes, labels, scores)))

    def decoded_onnx(self, graph, bottoms):
        boxes, labels, scores = [], [], []
        for x in bottoms:
            _, channels, side, _ = graph.shape(x)
            cells = graph.reshape(x, (0, self.num_box, channels // self.num_box, side * side))
            cells = graph.op("Transpose", cells, perm=(0, 3, 1, 2))
            ends = ((0, 2), (2, 4), (4, 5), (5, 5 + (self.num_classes or 0)))
            place, size, trust, share = (graph.slice(cells, [i], [j], [3]) for i, j in ends)
            at = np.arange(side * side)
            corner = graph.constant(np.stack([at % side, at // side], 1)[:, None])
            place = graph.op("Div", graph.op("Add", graph.op("Sigmoid", place), corner), graph.constant(float(side)))
            size = graph.op("Mul", graph.op("Exp", size), graph.constant(self.anchors / side))
            boxes.append(graph.reshape(graph.op("Concat", place, size, axis=3), (-1, 4)))
            share = graph.op("Softmax", share, axis=3)
            best = graph.reduce("ReduceMax", share, (3,), keep=True)
            scores.append(graph.reshape(graph.op("Mul", best, graph.op("Sigmoid", trust)), (-1,)))
            labels.append(graph.reshape(graph.op("ArgMax", share, axis=3, keepdims=0), (-1,)))
        return Found(*(graph.op("Concat", *parts, axis=0) for parts in (boxes, labels, scores)))
