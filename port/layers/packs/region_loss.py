"""RegionLoss: the loss of version 2's map, MobileNet-YOLO's and Intel's, which their labels tell apart."""

from __future__ import annotations

import numpy as np
import torch

from ..base import Misfit, float32, register, show
from .yolo_loss import Truth, YoloLoss, best_shape, cell_of, check_lines, overlap, overlap_tensors, truth_of
from .yolo_output import sigmoid


@register
class RegionLoss(YoloLoss):
    """Squares of how far boxes, objectness and classes of a map N x (num * (5 + classes)) x S x S are off.

    MobileNet-YOLO has labels N x 1 x 300 x 5 (class, x, y, w, h), and divides by the items; with `rescore` objectness
    should be the overlap, else it should be 1 and a small box weighs more. Intel has SSD's labels, 1 x 1 x K x 8 (item,
    class + 1, instance, xmin, ymin, xmax, ymax, difficult), holds a box's errors within -1 and 1, drives objectness by
    the cube of what is missing, divides the gradient alone, and reads `side`. Earlier versions of MobileNet-YOLO drew
    all boxes to their anchors for the first 12800 images; this is its last. Fields that a fork does not read change
    nothing (both forks' region_loss_layer).
    """

    type = "RegionLoss"
    param = ("region_loss_param",)

    side: int = 13
    bias_match: int = 1
    coords: int = 4
    num: int = 5
    softmax: int = 1
    jitter: float = float32(0.2)
    rescore: int = 1
    object_scale: float = 1.0
    class_scale: float = 1.0
    noobject_scale: float = 0.5
    coord_scale: float = 5.0
    absolute: int = 1
    thresh: float = float32(0.2)
    random: int = 1
    softmax_tree: str = ""
    class_map: str = ""

    @property
    def count(self):
        return self.num

    def check(self, x, label):
        rows = label[-1:] == (8,)
        if x[2] != x[3] or (rows and x[2] != self.side):
            raise Misfit(f"a map of {x[2]}x{x[3]}", f"{self.side}x{self.side}" if rows else "a square one", "bottom")
        if self.coords != 4:
            raise Misfit(f"coords {self.coords}", "4", "coords")
        least = 2 * self.num if rows else max(10, 2 * self.num)  # with fewer than 10 MobileNet-YOLO takes none at all
        if len(self.biases) < least:
            raise Misfit(f"{len(self.biases)} biases for {self.num} boxes", f"{least} or more", "biases")
        if rows:
            for field in ("softmax_tree", "class_map"):
                if getattr(self, field):
                    raise Misfit(f"{field} '{getattr(self, field)}'", "none: the file it names is not read", field)
            if label[:2] != (1, 1) or len(label) != 4:
                raise Misfit(f"{show(label)} labels", "1 x 1 x K x 8", "bottom")
        else:
            check_lines(x, label)

    def of_rows(self, label) -> bool:
        """Whether labels are SSD's rows, Intel's form."""
        return label.shape[-1] == 8

    def truths(self, label, items):
        if not self.of_rows(label):
            return super().truths(label, items)
        found: list[list[Truth]] = [[] for _ in range(items)]
        for item, kind, _, x1, y1, x2, y2, _ in label.reshape(-1, 8):
            if int(item) == -1:
                continue
            if not -1 < item < items:
                raise Misfit(f"item {item:g} of a box", f"-1 to {items - 1}", "bottom")
            line = np.array([kind - 1, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
            found[int(item)].append(truth_of(line, self.num_class))
        return found

    def deltas(self, cells, truths, extent, rows):
        side = extent[0]
        place, anchors = np.arange(cells.shape[2]), self.anchors / side
        corner = np.stack([place % side, place // side], -1)
        inner, trust = sigmoid(cells[:, :2]).transpose(0, 2, 1), sigmoid(cells[:, 4])
        size = np.exp(cells[:, 2:4]).transpose(0, 2, 1) * anchors[:, None]
        boxes = np.concatenate([(inner + corner) / side, size], -1)
        power = np.exp(cells[:, 5:] - cells[:, 5:].max(1, keepdims=True))
        share = power / power.sum(1, keepdims=True)
        delta = np.zeros(cells.shape)
        best = np.max([overlap(boxes, t[1:]) for t in truths], 0) if truths else np.zeros(trust.shape)
        delta[:, 4] = np.where(best > self.thresh, 0, self.noobject_scale * trust * trust * (1 - trust))
        for truth in truths:
            column, row, at = cell_of(truth, extent)
            n = best_shape(anchors if self.bias_match else size[:, at], truth)
            off = [truth.x * side - column - inner[n, at, 0], truth.y * side - row - inner[n, at, 1]]
            off += (np.log(np.array([truth.w, truth.h]) / anchors[n]) - cells[n, 2:4, at]).tolist()
            slope = np.append(inner[n, at] * (1 - inner[n, at]), [1, 1])
            delta[n, :4, at] = -self.weight(truth, rows) * (np.clip(off, -1, 1) if rows else np.array(off)) * slope
            p = trust[n, at]
            aim = overlap(boxes[n, at], truth[1:]) if self.rescore else 1
            delta[n, 4, at] = -self.object_scale * (2 * (1 - p) ** 3 if rows else aim - p) * p * (1 - p)
            delta[n, 5:, at] = -self.class_scale * ((np.arange(self.num_class) == truth.label) - share[n, :, at])
        return delta, delta

    @property
    def anchors(self) -> np.ndarray:
        """Widths and heights of the anchors in cells, num x 2."""
        return np.reshape(self.biases[: 2 * self.num], (-1, 2))

    def weight(self, truth: Truth, rows: bool) -> float:
        """How much a box's place and extents count."""
        return self.coord_scale * (1 if rows or self.rescore else 2 - truth.w * truth.h)

    def delta_tensors(self, cells, truths, extent, rows):
        side, anchor = extent[0], torch.from_numpy(self.anchors).to(cells)
        column, row = torch.arange(side).to(cells).repeat(side), torch.arange(side).to(cells).repeat_interleave(side)
        inner, trust, share = cells[:, :2].sigmoid(), cells[:, 4].sigmoid(), cells[:, 5:].softmax(1)
        size = [cells[:, i].exp() * anchor[:, i - 2 : i - 1] / side for i in (2, 3)]
        boxes = [(inner[:, 0] + column) / side, (inner[:, 1] + row) / side, *size]
        delta = torch.zeros_like(cells)
        delta[:, 4] = self.noobject_scale * trust.square() * (1 - trust)
        shared = overlap_tensors(boxes, truths) if truths else trust[..., None]
        if truths:
            delta[:, 4][shared.amax(-1) > self.thresh] = 0
        for i, truth in enumerate(truths):
            x, y, at = cell_of(truth, extent)
            shapes = torch.stack(size, -1)[:, at].double().cpu().numpy()
            n = best_shape(self.anchors / side if self.bias_match else shapes, truth)
            wide, high = (truth.w, truth.h) / (self.anchors[n] / side)
            off = cells.new_tensor([truth.x * side - x, truth.y * side - y, np.log(wide), np.log(high)])
            off -= torch.cat([inner[n, :, at], cells[n, 2:4, at]])
            off = off.clamp(-1, 1) if rows else off
            off[:2] *= inner[n, :, at] * (1 - inner[n, :, at])
            delta[n, :4, at] = -self.weight(truth, rows) * off
            p = trust[n, at]
            lack = 2 * (1 - p) ** 3 if rows else (shared[n, at, i] if self.rescore else 1) - p
            delta[n, 4, at] = -self.object_scale * lack * p * (1 - p)
            delta[n, 5:, at] = self.class_scale * share[n, :, at]
            delta[n, 5 + truth.label, at] -= self.class_scale
        return delta, delta
