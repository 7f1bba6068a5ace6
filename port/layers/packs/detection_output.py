"""DetectionOutput: from predictions and prior boxes to detections, one a row."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch

from ..base import FLT_MAX, Array, Layer, Misfit, Shape, at_least, float32, register, show
from .boxes import (
    decoded,
    decoded_tensor,
    left_over,
    overlaps,
    prior_count,
    require_channels,
    require_extents,
    require_hard,
)
from .detection_onnx import opencv_detections, write_detections


@register
class DetectionOutput(Layer):
    """1 x 1 x R x 7: item, label, score, box (the forks' detection_output_layer), by item, label and falling score.

    For each label the `top_k` best scores above `confidence_threshold`, without those that overlap a better one, then
    of an item the `keep_top_k` best; equal scores in the order of labels and prior boxes. Nothing found in the whole
    batch: a row of item, -1, ... for each item. A fourth and fifth bottom are RefineDet's first scores and boxes; a
    fourth of another shape is the image that the forks can show. Nothing is shown or saved here.
    """

    type = "DetectionOutput"
    known_to_opencv = True
    pack = "ssd"
    family = "joining"
    selects = True
    selected_axis = 2
    detects = True
    param = ("detection_output_param",)
    bottom_count = (3, 5)
    no_gradient = (0, 1, 2, 3, 4)

    num_classes: int | None = None
    share_location: bool = True
    background_label_id: int = 0
    nms_param: Any = None
    code_type: str = "CORNER"
    variance_encoded_in_target: bool = False
    keep_top_k: int = -1
    confidence_threshold: float | None = None
    objectness_score: float = float32(0.01)

    # -- what the fields say ------------------------------------------------------------------------------
    @property
    def labels(self) -> list[int]:
        """The labels that are looked for."""
        return [label for label in range(self.num_classes or 0) if label != self.background_label_id]

    @property
    def row_labels(self) -> tuple[int, int]:
        """How many labels there are, the background's included, and the first that rows have."""
        return self.num_classes or 0, int(self.background_label_id == 0)

    @property
    def threshold(self) -> float:
        """The score that a detection must exceed."""
        return -FLT_MAX if self.confidence_threshold is None else self.confidence_threshold

    @property
    def nms(self) -> tuple[float, int | None, float]:
        """The overlap allowed, the number of candidates (None: all), and the factor of the overlap (1: it stays)."""
        if self.nms_param is None:
            return float32(0.3), None, 1.0
        limited = self.nms_param.HasField("top_k") and self.nms_param.top_k >= 0
        return self.nms_param.nms_threshold, self.nms_param.top_k if limited else None, self.nms_param.eta

    def spread(self, prior: Any) -> Any:
        """The variances of prior boxes 2 x K x 4, None where the predictions hold them."""
        return None if self.variance_encoded_in_target else prior[1]

    def scored(self, bottoms: tuple[Shape, ...]) -> bool:
        """Whether the fourth bottom is RefineDet's scores."""
        return len(bottoms) > 3 and prod(bottoms[3][1:]) == 2 * prior_count(bottoms[2])

    def top_shapes(self, *bottoms):
        loc, conf, prior = bottoms[:3]
        threshold, _, eta = self.nms
        require_hard(self.nms_param)
        if self.num_classes is None:
            raise Misfit("no num_classes", "the number of labels, the background's included", "num_classes")
        if not threshold >= 0 or not 0 < eta <= 1:
            raise Misfit(f"nms_threshold {threshold:g}, eta {eta:g}", "at least 0; above 0 and at most 1", "nms_param")
        if self.share_location and self.background_label_id == -1:
            found = "background_label_id -1 with share_location, which the forks take for no box at all"
            raise Misfit(found, "another number, such as num_classes, where no label is background")
        for each in bottoms:
            at_least(1, each)
        if loc[0] != conf[0]:
            raise Misfit(f"{show(loc)} and {show(conf)}", "as many items", "bottom")
        count = prior_count(prior)
        require_channels("predictions of boxes", loc, count * 4 * (1 if self.share_location else self.num_classes))
        require_channels("scores", conf, count * self.num_classes)
        if len(bottoms) == 5:
            if not self.share_location or not self.scored(bottoms):
                raise Misfit("five bottoms", "share_location, and two scores a prior box in the fourth", "bottom")
            require_channels("first predictions of boxes", bottoms[4], count * 4)
        return ((1, 1, 1, 7),)  # the forks' own word before the first pass: how many rows there are nobody knows

    def buffers(self, *bottoms):
        return 4 * prod(bottoms[0]) + 4 * prod(bottoms[1])

    # -- the reference ------------------------------------------------------------------------------------
    def reference(self, blobs, loc, conf, prior, *more):
        shapes = tuple(b.shape for b in (loc, conf, prior, *more))
        count, classes = prior_count(shapes[2]), self.num_classes or 0
        scores = conf.reshape(len(conf), count, classes)
        if self.scored(shapes):
            weak = more[0].reshape(len(conf), count, 2)[..., 1:] < np.float32(self.objectness_score)
            scores = np.where(weak, np.arange(classes) == 0, scores)
        rows = []
        for item in range(len(loc)):
            args = (loc[item].reshape(count, -1, 4), prior[0].reshape(2, count, 4), *(m[item] for m in more[1:]))
            boxes, rough = self._boxes(*args), self._boxes(*(a.astype(np.float32) for a in args))
            rows += self._of_item(item, boxes, rough, scores[item])
        if not rows:
            rows = [np.array([item, *[-1.0] * 6]) for item in range(len(loc))]
        return (np.array(rows).reshape(1, 1, len(rows), 7),)

    def _boxes(self, loc: Array, prior: Array, arm: Array | None = None) -> Array:
        """The boxes of an item, K x (labels or 1) x 4."""
        anchors = prior[0]
        require_extents(self.code_type, anchors)
        if arm is not None:
            anchors = decoded(self.code_type, anchors, self.spread(prior), arm.reshape(-1, 4))
            require_extents(self.code_type, anchors)
        spread = self.spread(prior)
        return decoded(self.code_type, anchors[:, None], None if spread is None else spread[:, None], loc)

    def _of_item(self, item: int, boxes: Array, rough: Array, scores: Array) -> list[Array]:
        """The rows of an item; `rough`: its boxes in float32, by which the forks decide."""
        found = []
        for label in self.labels:
            place = 0 if self.share_location else label
            for index in self._picked(rough[:, place], scores[:, label].astype(np.float32)):
                found.append(np.array([item, label, scores[index, label], *boxes[index, place]]))
        if -1 < self.keep_top_k < len(found):
            best = sorted(range(len(found)), key=lambda i: -np.float32(found[i][2]))[: self.keep_top_k]
            found = [found[i] for i in sorted(best)]
        return found

    def _picked(self, boxes: Array, scores: Array) -> list[int]:
        """The prior boxes that are left of a label, best first."""
        limit, top, eta = self.nms
        with np.errstate(invalid="ignore"):
            order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > np.float32(self.threshold)][:top]
        kept: list[int] = []
        for index in order:
            if (overlaps(boxes[index], boxes[kept]) <= np.float32(limit)).all():
                kept.append(int(index))
                if limit > 0.5:
                    limit = float(np.float32(limit) * np.float32(eta))
        return kept

    # -- torch --------------------------------------------------------------------------------------------
    def forward(self, module, loc, conf, prior, *more):
        shapes = tuple(tuple(b.shape) for b in (loc, conf, prior, *more))
        items, count = len(loc), prior_count(shapes[2])
        scores = conf.reshape(items, count, self.num_classes)
        if self.scored(shapes):
            background = torch.zeros(self.num_classes).to(scores)
            background[0] = 1
            weak = more[0].reshape(items, count, 2)[..., 1:] < self.objectness_score
            scores = torch.where(weak, background, scores)
        scores = scores[..., self.labels].transpose(1, 2).reshape(items * len(self.labels), count)
        places = 1 if self.share_location else self.num_classes
        arm = [m.reshape(items, count, 4) for m in more[1:]]
        parts = (loc.reshape(items, count, places, 4), prior[0].reshape(2, count, 4), *arm)
        boxes = rough = self._tensor(*parts)
        if loc.dtype != torch.float32:
            rough = self._tensor(*(p.float() for p in parts))
        pair, place = self._chosen(rough, scores.float())
        labels, width = torch.tensor(self.labels).to(pair), max(len(self.labels), 1)
        item, label = pair // width, labels[pair % width]
        found = torch.stack([item.to(loc), label.to(loc), scores[pair, place].to(loc)], 1)
        rows = torch.cat([found, boxes[pair if len(boxes) == len(scores) else item, place]], 1)
        if self.keep_top_k > -1:
            rows = rows[_best(item, rows[:, 2].float(), self.keep_top_k)]
        if not len(rows):
            rows = torch.full((items, 7), -1.0).to(loc)
            rows[:, 0] = torch.arange(items).to(loc)
        return (rows.reshape(1, 1, -1, 7),)

    def _tensor(self, loc, prior, arm=None):
        """The boxes of each item or, where labels have their own, of each item's labels: M x K x 4."""
        anchors, spread = prior[0], self.spread(prior)
        require_extents(self.code_type, anchors)
        if arm is not None:
            anchors = decoded_tensor(self.code_type, anchors, spread, arm)
            require_extents(self.code_type, anchors)
        if self.share_location:
            return decoded_tensor(self.code_type, anchors, spread, loc[:, :, 0])
        loc = loc[:, :, self.labels].transpose(1, 2)
        return decoded_tensor(self.code_type, anchors, spread, loc).flatten(0, 1)

    def _chosen(self, boxes, scores):
        """Which row of `scores` and which prior box every detection is of: by rows, then by falling score."""
        allowed, top, eta = self.nms
        scores = torch.where(scores > self.threshold, scores, -torch.inf)
        longest = int((scores > -torch.inf).sum(1).max()) if scores.numel() else 0
        order = scores.sort(dim=1, descending=True, stable=True).indices[
            :, : longest if top is None else min(top, longest)
        ]
        ranked = scores.gather(1, order)
        which = torch.arange(len(scores), device=scores.device) // max(len(scores) // max(len(boxes), 1), 1)
        kept = left_over(boxes[which[:, None], order], ranked > -torch.inf, allowed, eta)
        pair, rank = kept.nonzero(as_tuple=True)
        return pair, order[pair, rank]

    def onnx(self, graph, *bottoms):
        if graph.target == "opencv":
            return (opencv_detections(self, graph, bottoms),)
        return (write_detections(self, graph, bottoms),)


def _best(item, scores, count: int):
    """The places of each item's best rows, in their own order; of equal scores the first ones."""
    order = scores.sort(descending=True, stable=True).indices
    order = order[item[order].sort(stable=True).indices]
    starts = torch.searchsorted(item[order], item[order])
    rank = torch.arange(len(order), device=order.device) - starts
    return order[rank < count].sort().values
