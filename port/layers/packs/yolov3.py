"""Yolov3: the loss of one map of version 3."""

from __future__ import annotations

import numpy as np
import torch

from ..base import Misfit, float32, register
from .yolo_loss import Truth, YoloLoss, best_shape, cell_of, check_lines, overlap, overlap_tensors
from .yolo_output import sigmoid

NEAR = 1e-15  # is added to a probability before its logarithm


@register
class Yolov3(YoloLoss):
    """Squares of how far boxes, objectness and classes are off, over the items (MobileNet-YOLO's yolov3_layer).

    Labels are N x 1 x 300 x 5: class, x, y, w, h, up to the first without a width. A box's cell is responsible with the
    anchor (of all) nearest in shape, if `mask` names it, and with those of `mask` that overlap it above `iou_thresh`;
    other cells learn that there is nothing, unless what they say overlaps a box above `thresh`. The rule is that of the
    fork's last version; earlier ones had neither `iou_thresh` nor `label_smooth_eps`. There `side` and `noobject_scale`
    change nothing, nor do the fields of losses by overlap as long as `iou_loss` is MSE.
    """

    type = "Yolov3"
    param = ("yolov3_param",)

    side: int = 13
    num: int = 5
    object_scale: float = 1.0
    class_scale: float = 1.0
    noobject_scale: float = 0.5
    coord_scale: float = 5.0
    thresh: float = float32(0.2)
    anchors_scale: int = 32
    mask: tuple[int, ...] = ()
    use_logic_gradient: bool = False
    use_focal_loss: bool = False
    iou_loss: str = "MSE"
    iou_normalizer: float = 0.25
    iou_thresh: float = 0.5
    max_delta: float = 10.0
    accumulate: bool = True
    label_smooth_eps: float = float32(0.1)

    @property
    def count(self):
        return self.num

    def check(self, x, label):
        check_lines(x, label)
        if self.iou_loss != "MSE":
            found = f"iou_loss {self.iou_loss}, whose rule changed from version to version of the fork"
            raise Misfit(found, "MSE", "iou_loss")
        if len(self.mask) < self.num:
            raise Misfit(f"{len(self.mask)} masks for {self.num} boxes", f"{self.num}", "mask")
        if len(self.biases) < 2 * max(self.mask[: self.num], default=0) + 2:
            raise Misfit(f"{len(self.biases)} biases, masks {self.mask}", "two for every mask", "biases")
        if not self.anchors_scale:
            raise Misfit("anchors_scale 0", "1 or more", "anchors_scale")

    def shapes(self, extent: tuple[int, ...]) -> np.ndarray:
        """Widths and heights of all anchors, as shares of the image."""
        pairs = np.reshape(self.biases[: len(self.biases) // 2 * 2], (-1, 2))
        return pairs / (np.array(extent[::-1]) * self.anchors_scale)

    def responsible(self, truth: Truth, shapes: np.ndarray) -> list[int]:
        """The boxes of a cell that answer for a labelled one, in the order in which the fork writes them."""
        used = self.mask[: self.num]
        best = best_shape(shapes, truth)
        found = [used.index(best)] if best in used else []
        if self.iou_thresh >= 1:
            return found
        # the fork then compares anchors with the place in `mask`, so that one may be written twice
        passed = found[0] if found else best
        near = overlap(np.concatenate([np.zeros(shapes.shape), shapes], 1), (0, 0, truth.w, truth.h)) > self.iou_thresh
        return found + [used.index(n) for n in range(len(shapes)) if n in used and n != passed and near[n]]

    def targets(self, truth: Truth, shape: np.ndarray, extent: tuple[int, ...]) -> tuple[list[float], float, int]:
        """What a box should say (x, y within its cell; logarithms of w, h over its anchor), its weight and its cell."""
        column, row, place = cell_of(truth, extent)
        aims = [truth.x * extent[1] - column, truth.y * extent[0] - row]
        aims += np.log([truth.w / shape[0], truth.h / shape[1]]).tolist()
        return aims, self.coord_scale * (2 - truth.w * truth.h), place

    def deltas(self, cells, truths, extent, rows):
        active = sigmoid(cells)
        active[:, 2:4] = cells[:, 2:4]
        place, shapes = np.arange(cells.shape[2]), self.shapes(extent)
        anchors = shapes[list(self.mask[: self.num])]
        boxes = np.stack(
            [
                (active[:, 0] + place % extent[1]) / extent[1],
                (active[:, 1] + place // extent[1]) / extent[0],
                np.exp(active[:, 2]) * anchors[:, :1],
                np.exp(active[:, 3]) * anchors[:, 1:],
            ],
            -1,
        )
        delta = np.zeros(cells.shape)
        best = np.max([overlap(boxes, t[1:]) for t in truths], 0) if truths else np.zeros(boxes.shape[:2])
        delta[:, 4] = np.where(best > self.thresh, 0, active[:, 4])
        for truth in truths:
            for n in self.responsible(truth, shapes):
                aims, weight, at = self.targets(truth, anchors[n], extent)
                mine, said = delta[n, :, at], active[n, :, at]
                mine[:4] = -weight * (np.array(aims) - said[:4])
                mine[4] = -(1 - said[4]) * (self.object_scale if self.use_logic_gradient else 1)
                self._classes(mine[5:], said[5:], truth.label)
        slope = np.where(np.isin(np.arange(cells.shape[1]), [2, 3])[:, None], 1, active * (1 - active))
        return delta, delta * slope if self.use_logic_gradient else delta

    def _classes(self, mine: np.ndarray, said: np.ndarray, label: int) -> None:
        """Write the deltas of a box's classes; one that is there already stays but for the label's own."""
        wanted = np.arange(len(said)) == label
        smooth = wanted * (1 - self.label_smooth_eps) + 0.5 * self.label_smooth_eps
        if mine[label] != 0:
            mine[label] = -self.class_scale * (smooth[label] - said[label])
        elif self.use_focal_loss:
            p = said[label] + NEAR
            factor = 0.5 * -(1 - p) * (2 * p * np.log(p) + p - 1)
            mine[:] = -self.class_scale * (wanted - said) * factor
        else:
            mine[:] = -self.class_scale * (smooth - said)

    def delta_tensors(self, cells, truths, extent, rows):
        active = cells.sigmoid()
        active[:, 2:4] = cells[:, 2:4]
        shapes = self.shapes(extent)
        wide = torch.tensor(shapes[list(self.mask[: self.num])]).to(cells)
        column = torch.arange(extent[1]).to(cells).repeat(extent[0])
        row = torch.arange(extent[0]).to(cells).repeat_interleave(extent[1])
        size = [active[:, i].exp() * wide[:, i - 2 : i - 1] for i in (2, 3)]
        boxes = [(active[:, 0] + column) / extent[1], (active[:, 1] + row) / extent[0], *size]
        delta = torch.zeros_like(cells)
        delta[:, 4] = active[:, 4]
        if truths:
            delta[:, 4][overlap_tensors(boxes, truths).amax(-1) > self.thresh] = 0
        for truth in truths:
            for n in self.responsible(truth, shapes):
                aims, weight, at = self.targets(truth, shapes[self.mask[n]], extent)
                delta[n, :4, at] = weight * (active[n, :4, at] - cells.new_tensor(aims))
                delta[n, 4, at] = (active[n, 4, at] - 1) * (self.object_scale if self.use_logic_gradient else 1)
                self._class_tensors(delta[n, 5:, at], active[n, 5:, at], truth.label)
        if not self.use_logic_gradient:
            return delta, delta
        slope = active * (1 - active)
        slope[:, 2:4] = 1
        return delta, delta * slope

    def _class_tensors(self, mine: torch.Tensor, said: torch.Tensor, label: int) -> None:
        """The same in torch."""
        wanted = torch.zeros_like(said)
        wanted[label] = 1
        off = said - wanted.lerp(torch.full_like(said, 0.5), self.label_smooth_eps)
        if mine[label] != 0:
            mine[label] = self.class_scale * off[label]
        elif self.use_focal_loss:
            p = said[label] + NEAR
            mine.copy_(self.class_scale * (said - wanted) * (1 - p) * (1 - p - 2 * p * p.log()) / 2)
        else:
            mine.copy_(self.class_scale * off)
