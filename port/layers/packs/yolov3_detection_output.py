"""Yolov3DetectionOutput: what version 3's maps of several scales found."""

from __future__ import annotations

import numpy as np
import torch

from ..base import Misfit, register
from .yolo_output import Found, YoloOutput, sigmoid


@register
class Yolov3DetectionOutput(YoloOutput):
    """The boxes of maps N x (num_box * (5 + classes)) x H x W, once for every class (the fork's layer of this name).

    A box is x, y (with a sigmoid, from its cell's corner), w, h (with an exponential, times an anchor over the map's
    extents times its `anchors_scale`), objectness, classes; objectness times class is the score. Box n of map t has the
    anchor mask[t * (masks / maps) + n].
    """

    type = "Yolov3DetectionOutput"
    param = ("yolov3_detection_output_param",)
    bottom_count = (1, None)

    num_box: int = 3
    anchors_scale: tuple[int, ...] = ()
    mask_group_num: int = 2
    mask: tuple[int, ...] = ()
    gaussian_box: bool = False

    @property
    def length(self) -> int:
        """Values of one box."""
        return 5 + (self.num_classes or 0)

    def anchors(self, t: int) -> np.ndarray:
        """Widths and heights of a map's anchors, num_box x 2."""
        first = t * (len(self.mask) // self.mask_group_num)
        pairs = np.reshape(self.biases[: len(self.biases) // 2 * 2], (-1, 2))
        return pairs[list(self.mask[first : first + self.num_box])]

    def check(self, *bottoms):
        maps = len(bottoms)
        if self.gaussian_box:
            raise Misfit("gaussian_box", "false: the fork's own code reads what it never wrote", "gaussian_box")
        if maps != self.mask_group_num:
            raise Misfit(f"{maps} bottoms, mask_group_num {self.mask_group_num}", "equal numbers", "mask_group_num")
        if len(self.anchors_scale) < maps or 0 in self.anchors_scale[:maps]:
            raise Misfit(f"anchors_scale {self.anchors_scale}", f"{maps} above 0, one a bottom", "anchors_scale")
        wanted = (maps - 1) * (len(self.mask) // maps) + self.num_box
        if len(self.mask) < wanted:
            raise Misfit(f"{len(self.mask)} masks for {maps} bottoms of {self.num_box} boxes", f"{wanted}", "mask")
        self.require_anchors(max(self.mask[:wanted], default=0))
        for bottom in bottoms:
            if bottom[1] < self.num_box * self.length:
                found = f"{bottom[1]} channels for {self.num_box} boxes of {self.length} values"
                raise Misfit(found, f"{self.num_box * self.length} or more", "bottom")

    def decoded(self, bottoms):
        boxes, labels, scores = [], [], []
        for t, x in enumerate(bottoms):
            n, _, high, wide = x.shape
            cells = x[:, : self.num_box * self.length].reshape(n, self.num_box, self.length, high * wide)
            cells = cells.transpose(0, 3, 1, 2)  # the order in which boxes are found
            corner = np.stack([np.arange(high * wide) % wide, np.arange(high * wide) // wide], 1)[:, None]
            centre = (sigmoid(cells[..., :2]) + corner) / np.array([wide, high])
            size = np.exp(cells[..., 2:4]) * self.anchors(t) / (np.array([wide, high]) * self.anchors_scale[t])
            score = sigmoid(cells[..., 5:]) * sigmoid(cells[..., 4:5])
            *where, label = np.nonzero(self.above(score))
            boxes.append(np.concatenate([centre, size], -1)[tuple(where)])
            labels.append(label)
            scores.append(score[(*where, label)])
        return Found(*map(np.concatenate, (boxes, labels, scores)))

    def decoded_tensors(self, bottoms):
        boxes, labels, scores = [], [], []
        for t, x in enumerate(bottoms):
            _, _, high, wide = x.shape
            cells = x[:, : self.num_box * self.length].unflatten(1, (self.num_box, self.length))
            cells = cells.permute(0, 3, 4, 1, 2)
            column, row = torch.arange(wide).to(x).reshape(1, -1, 1), torch.arange(high).to(x).reshape(-1, 1, 1)
            anchor = torch.from_numpy(self.anchors(t)).to(x)
            scale = self.anchors_scale[t]
            place = [(cells[..., 0].sigmoid() + column) / wide, (cells[..., 1].sigmoid() + row) / high]
            size = [
                cells[..., 2].exp() * anchor[:, 0] / (wide * scale),
                cells[..., 3].exp() * anchor[:, 1] / (high * scale),
            ]
            score = (cells[..., 5:].sigmoid() * cells[..., 4:5].sigmoid()).flatten(0, 3)
            where, label = self.above(score).nonzero(as_tuple=True)
            boxes.append(torch.stack([*place, *size], -1).flatten(0, 3)[where])
            labels.append(label)
            scores.append(score[where, label])
        return Found(*map(torch.cat, (boxes, labels, scores)))

    def decoded_onnx(self, graph, bottoms):
        boxes, labels, scores = [], [], []
        classes = self.num_classes or 0
        for t, x in enumerate(bottoms):
            _, channels, high, wide = graph.shape(x)
            used = self.num_box * self.length
            x = x if channels == used else graph.slice(x, [0], [used], [1])
            cells = graph.reshape(x, (0, self.num_box, self.length, high * wide))
            cells = graph.op("Transpose", cells, perm=(0, 3, 1, 2))
            place, size, trust, share = (
                graph.slice(cells, [i], [j], [3]) for i, j in ((0, 2), (2, 4), (4, 5), (5, self.length))
            )
            at = np.arange(high * wide)
            corner = graph.constant(np.stack([at % wide, at // wide], 1)[:, None])
            extent = np.array([wide, high])
            place = graph.op("Div", graph.op("Add", graph.op("Sigmoid", place), corner), graph.constant(extent))
            factor = graph.constant(self.anchors(t) / (extent * self.anchors_scale[t]))
            box = graph.op("Concat", place, graph.op("Mul", graph.op("Exp", size), factor), axis=3)
            score = graph.op("Mul", graph.op("Sigmoid", share), graph.op("Sigmoid", trust))
            # every class of a box is a detection of its own
            box = graph.op("Expand", graph.reshape(box, (-1, 1, 4)), graph.constant([1, classes, 1], np.int64))
            boxes.append(graph.reshape(box, (-1, 4)))
            scores.append(graph.reshape(score, (-1,)))
            zero = graph.op("Mul", graph.reshape(score, (-1, classes)), graph.constant(0.0))
            labels.append(graph.reshape(graph.op("Add", zero, graph.constant(np.arange(classes))), (-1,)))
        return Found(*(graph.op("Concat", *parts, axis=0) for parts in (boxes, labels, scores)))
