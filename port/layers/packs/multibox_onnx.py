"""MultiBoxLoss as ONNX operators: the losses of what is matched, and of the hardest of the rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base import FLT_MAX, FLT_MIN
from .boxes import CENTER_SIZE, CORNER_SIZE
from .detection_onnx import decode, only_best
from .loops import FLOAT, INT
from .multibox_mining import SMALL
from .multibox_pairs import Matching


class _Losses(Matching):
    """The losses of each prior box, N x K."""

    def given(self) -> None:
        """`has`: N x K, whether a prior box has ground truth; and `label`: its label."""
        self.some = self.op("Max", self.index, self.whole(0))
        self.has = self.op("Greater", self.index, self.whole(-1))
        self.label = self.op("Gather", self.kind, self.some, axis=0)
        if not self.layer.share_location:
            self.has = self.op("And", self.has, self.op("Not", self.op("Equal", self.label, self.back)))

    def of_boxes(self, key: int | None) -> str:
        """The loss of each prior box's prediction, 0 of those without ground truth; N x K."""
        layer, graph = self.layer, self.graph
        boxes = self.op("Gather", graph.slice(self.truth, [3], [7], [1]), self.some, axis=0)
        if layer.share_location or key is not None:
            preds = self.predicted(key or 0)
        else:
            place = self.op("Where", self.has, self.label, self.whole(0))
            place = graph.op("Unsqueeze", place, self.whole(2, 3))
            shape = self.op("Concat", self.items, self.whole(self.boxes, 1, 4), axis=0)
            preds = self.op("GatherElements", self.preds, self.op("Expand", place, shape), axis=2)
            preds = self.op("Squeeze", preds, self.whole(2))
        away = self.op("Sub", preds, self._encoded(boxes))
        if layer.encode_variance_in_target:
            away = self.op("Div", away, self.spread)
        if layer.bp_inside:
            box = (
                self.held
                if layer.use_prior_for_matching
                else decode(graph, layer.code_type, self.held, self.used, preds)
            )
            out = self.op("Or", self.op("Less", box, self.number(0)), self.op("Greater", box, self.number(1)))
            away = self.op("Where", out, self.number(0), away)
        away = self.op("Where", self.op("Unsqueeze", self.has, self.whole(2)), away, self.number(0))
        size = self.op("Abs", away)
        loss = self.op("Mul", self.op("Mul", size, size), self.number(0.5))
        if layer.loc_loss_type == "SMOOTH_L1":
            near = self.op("Less", size, self.number(1))
            loss = self.op("Where", near, loss, self.op("Sub", size, self.number(0.5)))
        return self.along("ReduceSum", loss)

    def _encoded(self, boxes: str) -> str:
        """Ground truth as predictions would say it."""
        parts = [[self.graph.slice(x, [i], [i + 2], [-1]) for i in (0, 2)] for x in (self.held, boxes)]
        (low, high), (start, end) = parts
        size = self.op("Sub", high, low)
        if self.layer.code_type == CENTER_SIZE:
            move = self.op("Sub", self.op("Add", start, end), self.op("Add", low, high))
            move = self.op("Div", self.op("Mul", move, self.number(0.5)), size)
            grow = self.op("Log", self.op("Div", self.op("Sub", end, start), size))
            code = self.op("Concat", move, grow, axis=-1)
        else:
            code = self.op("Sub", boxes, self.held)
            if self.layer.code_type == CORNER_SIZE:
                code = self.op("Div", code, self.op("Concat", size, size, axis=-1))
        return code if self.used is None else self.op("Div", code, self.used)

    def ones(self, label: str) -> str:
        """N x K x C: where the label stands."""
        return self.op("Equal", self.op("Unsqueeze", label, self.whole(2)), self.whole(*range(self.labels)))

    def of_scores(self, ones: str, fill: int) -> str:
        """The loss of each prior box's scores, N x K; targets are 1 at the ones, `fill` elsewhere."""
        if self.layer.conf_loss_type == "SOFTMAX":
            share = self.op("Softmax", self.logits, axis=2)
            own = self.along("ReduceSum", self.op("Where", ones, share, self.number(0)))
            return self.op("Neg", self.op("Log", self.op("Max", own, self.number(FLT_MIN))))
        target = self.op("Where", ones, self.number(1), self.number(fill))
        soft = self.op("Exp", self.op("Neg", self.op("Abs", self.logits)))
        soft = self.op("Log", self.op("Add", soft, self.number(1)))
        plain = self.op("Sub", self.op("Relu", self.logits), self.op("Mul", self.logits, target))
        return self.along("ReduceSum", self.op("Add", plain, soft))

    def mine(self, of_boxes: str) -> None:
        """`has`: the prior boxes with ground truth that count; `others`: those without that do."""
        layer, hard = self.layer, self.layer.mining_type == "HARD_EXAMPLE"
        free = self.op("Equal", self.index, self.whole(-1))
        loss = self.of_scores(self.ones(self.op("Where", self.has, self.label, self.back)), 0)
        loss = self.op("Add", loss, of_boxes) if hard else loss
        item = self.op("Greater", self.along("ReduceMax", self.cast(self.own, FLOAT), keep=True), self.number(0))
        able = self.op("Expand", item, self.op("Shape", free))
        if not hard:
            able = self.every(able, free, self.op("Less", self.most, self.number(layer.neg_overlap)))
        able = able if self.sure is None else self.op("And", able, self.sure)
        limit = self.whole(layer.sample_size)
        if not hard:
            count = self.along("ReduceSum", self.cast(self.has, FLOAT), keep=True)
            limit = self.cast(self.op("Mul", count, self.number(layer.neg_pos_ratio)), INT)
        ranked = self.op("Where", able, loss, self.number(-np.inf))
        if layer.suppression is not None:
            able = self.op("And", able, self._apart(ranked))
            ranked = self.op("Where", able, loss, self.number(-np.inf))
        _, order = self.op("TopK", ranked, self.whole(self.boxes), axis=1, outputs=2)
        shape = self.op("Shape", order)
        numbers = self.op("Expand", self.whole(*range(self.boxes)), shape)
        rank = self.op("ScatterElements", self.op("Expand", self.whole(0), shape), order, numbers, axis=1)
        chosen = self.op("And", able, self.op("Less", rank, limit))
        self.has = self.op("And", self.has, chosen) if hard else self.has
        self.others = self.op("And", free, chosen)

    def _apart(self, ranked: str) -> str:
        """Which prior boxes are left when those that overlap a harder one, and small ones, are taken away; N x K."""
        layer, graph = self.layer, self.graph
        (allowed, top), boxes = layer.suppression, self.anchors
        if not layer.use_prior_for_nms:
            boxes = decode(graph, layer.code_type, self.anchors, self.used, self.predicted(0))
        boxes = self.op("Expand", boxes, self.op("Concat", self.items, self.whole(self.boxes, 4), axis=0))
        scores = self.op("Unsqueeze", ranked, self.whole(1))
        if -1 < top < self.boxes:
            scores = only_best(graph, scores, top)
        small = self.op("Less", self.area(boxes), self.number(SMALL))
        scores = self.op("Where", self.op("Unsqueeze", small, self.whole(1)), self.number(-np.inf), scores)
        limits = (graph.constant([min(allowed, 1.0)]), graph.constant([-FLT_MAX]))
        picked = self.op("NonMaxSuppression", boxes, scores, self.whole(self.boxes), *limits)
        flat = self.op("Expand", self.number(0), self.op("Shape", scores))
        one = self.op("Expand", self.number(1), graph.extents(picked, 0))
        flat = self.op("Squeeze", self.op("ScatterND", flat, picked, one), self.whole(1))
        return self.op("Greater", flat, self.number(0.5))

    def all_ones(self, label: str) -> str:
        """Where the forks write the ones of LOGISTIC targets when nothing is mined, N x K x C."""
        spare = self.boxes * self.labels  # the forks go on by a prior box, not by its labels, from item to item
        size = self.op("Mul", self.items, self.whole(spare))
        start = self.op("Range", self.zero(), self.op("Squeeze", self.items, self.whole(0)), self.one())
        start = self.op("Mul", self.op("Unsqueeze", start, self.whole(1)), self.whole(self.boxes))
        place = self.op("Add", start, self.whole(*(i * self.labels for i in range(self.boxes))))
        place = self.op("Where", self.has, self.op("Add", place, label), size)
        place = self.graph.reshape(place, (-1,))
        flat = self.op("Expand", self.number(0), self.op("Add", size, self.whole(1)))
        one = self.op("Expand", self.number(1), self.op("Shape", place))
        flat = self.op("ScatterElements", flat, place, one, axis=0)
        flat = self.op("Slice", flat, self.whole(0), size, self.whole(0))
        return self.op("Greater", self.graph.reshape(flat, (-1, self.boxes, self.labels)), self.number(0.5))


def write_loss(layer: Any, graph: Any, bottoms: tuple[str, ...]) -> str:
    """The nodes of a MultiBoxLoss; the name of its top."""
    parts = _Losses(layer, graph, bottoms)
    parts.sort_out()
    total, count, target, ones = parts.number(0), parts.number(0), parts.back, None
    agnostic = parts.whole(layer.background_label_id + 1) if layer.map_object_to_agnostic else None
    # labels whose boxes are matched by themselves come one after the other, the last one's ground truth counts
    for key in [None] if layer.share_location or layer.use_prior_for_matching else layer.keys:
        parts.match(key)
        parts.given()
        of_boxes = parts.of_boxes(key)
        if layer.mines:
            parts.mine(of_boxes)
        total = parts.op("Add", total, parts.total(parts.op("Where", parts.has, of_boxes, parts.number(0))))
        count = parts.op("Add", count, parts.total(parts.cast(parts.has, FLOAT)))
        label = agnostic or parts.label
        target = parts.op("Where", parts.has, label, target)
        if not layer.mines and layer.conf_loss_type == "LOGISTIC":
            here = parts.all_ones(label)
            ones = here if ones is None else parts.op("Or", ones, here)
    loss = parts.of_scores(ones or parts.ones(target), layer.background_label_id)
    if layer.mines:
        loss = parts.op("Where", parts.op("Or", parts.has, parts.others), loss, parts.number(0))
    total = parts.op("Mul", total, parts.number(layer.loc_weight * layer.counted[0]))
    total = parts.op("Add", total, parts.op("Mul", parts.total(loss), parts.number(layer.counted[1])))
    items = parts.cast(parts.op("Squeeze", parts.items, parts.whole(0)), FLOAT)
    full = parts.op("Mul", items, parts.number(parts.boxes))
    divisor = {"FULL": full, "BATCH_SIZE": items, "VALID": count}.get(layer.mode)
    return total if divisor is None else parts.op("Div", total, parts.op("Max", divisor, parts.number(1)))
