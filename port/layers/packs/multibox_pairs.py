"""The matches of a MultiBoxLoss as ONNX operators; the best pairs are found one by one, in a Loop."""

from __future__ import annotations

from typing import Any

import numpy as np

from .boxes import prior_count
from .detection_onnx import decode
from .loops import BOOL, FLOAT, INT, Body
from .multibox_mining import LEAST


class Matching:
    """The bottoms of one loss, and what is matched: N items, K prior boxes, G rows of ground truth, C labels."""

    def __init__(self, layer: Any, graph: Any, bottoms: tuple[str, ...]):
        self.layer, self.graph, self.op = layer, graph, graph.op
        loc, conf, prior, label, *arm = bottoms
        self.boxes, self.labels = prior_count(graph.shape(prior)), layer.classes
        self.rows = graph.shape(label)[2]
        places = 1 if layer.share_location else layer.classes
        self.items = graph.extents(loc, 0)
        self.preds = graph.reshape(loc, (-1, self.boxes, places, 4))
        self.logits = graph.reshape(conf, (-1, self.boxes, layer.classes))
        both = graph.reshape(graph.slice(prior, [0], [1], [0]), (2, self.boxes, 4))
        self.anchors, self.spread = graph.slice(both, [0], [1], [0]), graph.slice(both, [1], [2], [0])
        self.used = None if layer.encode_variance_in_target else self.spread
        self.sure = None
        if arm:
            sure = graph.slice(graph.reshape(arm[0], (-1, self.boxes, 2)), [1], [2], [2])
            sure = self.op("Squeeze", sure, self.whole(2))
            self.sure = self.op("Not", self.op("Less", sure, self.number(layer.objectness_score)))
        self.held = self.anchors
        if len(arm) == 2:
            moved = graph.reshape(arm[1], (-1, self.boxes, 4))
            self.held = decode(graph, layer.code_type, self.anchors, self.used, moved)
        self.truth = graph.reshape(graph.slice(label, [0], [1], [0]), (self.rows, 8))
        self.back = self.whole(layer.background_label_id)

    # -- small things -------------------------------------------------------------------------------------
    def number(self, value: float) -> str:
        return self.graph.constant(float(value))

    def whole(self, *values: int) -> str:
        return self.graph.constant(values, np.int64)

    def cast(self, x: str, to: int) -> str:
        return self.op("Cast", x, to=to)

    def every(self, *parts: str) -> str:
        """And of several."""
        result = parts[0]
        for part in parts[1:]:
            result = self.op("And", result, part)
        return result

    def column(self, index: int) -> str:
        """A column of the ground truth, G."""
        return self.op("Squeeze", self.graph.slice(self.truth, [index], [index + 1], [1]), self.whole(1))

    def total(self, x: str) -> str:
        return self.graph.reduce("ReduceSum", x)

    def along(self, kind: str, x: str, axis: int = -1, keep: bool = False) -> str:
        return self.graph.reduce(kind, x, (axis,), keep=keep)

    # -- matches ------------------------------------------------------------------------------------------
    def sort_out(self) -> None:
        """`kind`: the label of each row of ground truth; `own`: N x G, the rows of an item; `easy`: G."""
        layer = self.layer
        self.kind = self.cast(self.column(1), INT)
        if layer.classes == 2:
            self.kind = self.op("Min", self.kind, self.whole(1))
        counter = self.op("Range", self.zero(), self.op("Squeeze", self.items, self.whole(0)), self.one())
        item, self.easy = self.cast(self.column(0), INT), self.op("Equal", self.column(7), self.number(0))
        own = self.op("Equal", self.op("Unsqueeze", counter, self.whole(1)), item)
        self.own = own if layer.use_difficult_gt else self.op("And", own, self.easy)

    def predicted(self, key: int) -> str:
        """The predictions of a label's boxes (0: of those that all share), N x K x 4."""
        return self.op("Squeeze", self.graph.slice(self.preds, [key], [key + 1], [2]), self.whole(2))

    def match(self, key: int | None) -> None:
        """`index`: N x K rows of ground truth (of a label, if given), -1 or -2; `most`: the largest overlap."""
        layer, graph, own = self.layer, self.graph, self.own
        boxes = self.held
        if not layer.use_prior_for_matching:
            boxes = decode(graph, layer.code_type, self.anchors, self.used, self.predicted(key or 0))
        if key is not None:
            own = self.op("And", own, self.op("Equal", self.kind, self.whole(key)))
        shared = self._overlaps(boxes)
        counts = self.op(
            "And", self.op("Unsqueeze", own, self.whole(1)), self.op("Greater", shared, self.number(LEAST))
        )
        free = graph.op("Expand", self.whole(-1), self.op("Concat", self.items, self.whole(self.boxes), axis=0))
        if layer.ignore_cross_boundary_bbox:
            across = self.op("Or", self.op("Less", boxes, self.number(0)), self.op("Greater", boxes, self.number(1)))
            across = self.op("Greater", self.along("ReduceMax", self.cast(across, FLOAT)), self.number(0))
            counts = self.op("And", counts, self.op("Not", self.op("Unsqueeze", across, self.whole(2))))
            free = self.op("Where", across, self.whole(-2), free)
        shared = self.op("Where", counts, shared, self.number(0))
        index = self._pairs(shared, free)
        self.most = self.along("ReduceMax", shared)
        if layer.match_type == "PER_PREDICTION":
            good = self.op("GreaterOrEqual", self.most, self.number(layer.overlap_threshold))
            good = self.every(
                good, self.op("Greater", self.most, self.number(0)), self.op("Equal", index, self.whole(-1))
            )
            index = self.op("Where", good, self.op("ArgMax", shared, axis=2, keepdims=0), index)
        self.index = index

    def zero(self) -> str:
        return self.graph.constant(0, np.int64)

    def one(self) -> str:
        return self.graph.constant(1, np.int64)

    def _overlaps(self, boxes: str) -> str:
        """Intersection over union with all ground truth, N (or 1) x K x G."""
        truth = self.graph.slice(self.truth, [3], [7], [1])
        low, high, sizes = [], [], []
        for name, axis in ((boxes, 2), (truth, 0)):
            low.append(self.op("Unsqueeze", self.graph.slice(name, [0], [2], [-1]), self.whole(axis)))
            high.append(self.op("Unsqueeze", self.graph.slice(name, [2], [4], [-1]), self.whole(axis)))
            sizes.append(self._product(self.op("Relu", self.op("Sub", high[-1], low[-1]))))
        sides = self.op("Sub", self.op("Min", *high), self.op("Max", *low))
        common = self._product(self.op("Relu", sides))
        union = self.op("Sub", self.op("Add", *sizes), common)
        some = self.op("Greater", common, self.number(0))
        return self.op("Where", some, self.op("Div", common, union), self.number(0))

    def area(self, boxes: str) -> str:
        """Width times height, 0 of boxes that are turned inside out."""
        low, high = (self.graph.slice(boxes, [i], [i + 2], [-1]) for i in (0, 2))
        return self._product(self.op("Relu", self.op("Sub", high, low)))

    def _product(self, sides: str) -> str:
        """Width times height, the last axis gone."""
        wide, high = (self.graph.slice(sides, [i], [i + 1], [-1]) for i in (0, 1))
        return self.op("Squeeze", self.op("Mul", wide, high), self.whole(-1))

    def _pairs(self, shared: str, free: str) -> str:
        """The rows of ground truth that the best pairs give, in as many rounds as there are rows."""
        body, places = Body(self.graph, "pairs"), np.arange(self.boxes * self.rows)
        body.fixed("width", [self.rows])
        body.fixed("none", [0.0], np.float32)
        body.fixed("at_box", places // self.rows)
        body.fixed("at_row", places % self.rows)
        body.fixed("aside", -2)
        body.outside("easy", self.easy)
        body.add("best", "ArgMax", "left", axis=1, keepdims=1)
        body.add("most", "GatherElements", "left", "best", axis=1)
        body.add("ok", "Greater", "most", "none")
        body.add("box", "Div", "best", "width")
        body.add("row", "Mod", "best", "width")
        body.add("was", "GatherElements", "index", "box", axis=1)
        waits, rounds = self.layer.ignore_difficult_gt, self.rows
        if waits:  # the prior box does not count, and the ground truth waits for the next one
            body.add("plain", "Gather", "easy", "row", axis=0)
            body.add("given", "Where", "plain", "row", "aside")
            rounds += self.boxes
        body.add("new", "Where", "ok", "given" if waits else "row", "was")
        body.add("next_index", "ScatterElements", "index", "box", "new", axis=1)
        body.add("same_box", "Equal", "at_box", "box")
        body.add("same_row", "Equal", "at_row", "row")
        if waits:
            body.add("gone_row", "And", "same_row", "plain")
        body.add("same", "Or", "same_box", "gone_row" if waits else "same_row")
        body.add("taken", "And", "same", "ok")
        body.add("next_left", "Where", "taken", "none", "left")
        body.add("on", "Identity", "go")
        made = body.made({"left": FLOAT, "index": INT}, {"on": BOOL, "next_left": FLOAT, "next_index": INT})
        left = self.graph.reshape(shared, (-1, self.boxes * self.rows))
        count, always = self.graph.constant(rounds, np.int64), self.graph.constant(True, np.bool_)
        return self.op("Loop", count, always, left, free, outputs=2, body=made)[1]
