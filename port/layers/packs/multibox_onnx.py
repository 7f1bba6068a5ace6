"""MultiBoxLoss as ONNX operators; the best pairs of prior boxes and ground truth are found one by one, in a Loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import FLT_MIN, Misfit
from .boxes import CENTER_SIZE, CORNER_SIZE, prior_count
from .detection_onnx import decode
from .multibox_mining import LEAST

FLOAT, INT, BOOL = 1, 7, 9  # ONNX's numbers of types


class _Writer:
    """What the parts of one loss share: N items, K prior boxes, G rows of ground truth, C labels."""

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
    def match(self) -> None:
        """`index`: N x K rows of ground truth, -1 or -2; `most`: the largest overlap; `own`: N x G, an item's rows."""
        layer, graph = self.layer, self.graph
        self.kind = self.cast(self.column(1), INT)
        if layer.classes == 2:
            self.kind = self.op("Min", self.kind, self.whole(1))
        item, difficult = self.cast(self.column(0), INT), self.op("Equal", self.column(7), self.number(0))
        counter = self.op("Range", self.zero(), self.op("Squeeze", self.items, self.whole(0)), self.one())
        own = self.op("Equal", self.op("Unsqueeze", counter, self.whole(1)), item)
        self.own = own if layer.use_difficult_gt else self.op("And", own, difficult)
        boxes = self.held
        if not layer.use_prior_for_matching:
            preds = self.op("Squeeze", self.preds, self.whole(2))
            boxes = decode(graph, layer.code_type, self.anchors, self.used, preds)
        self.matching = boxes
        shared = self._overlaps(boxes)
        counts = self.op(
            "And", self.op("Unsqueeze", self.own, self.whole(1)), self.op("Greater", shared, self.number(LEAST))
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
            sides = self.op("Relu", self.op("Sub", high[-1], low[-1]))
            sizes.append(self._product(sides))
        sides = self.op("Sub", self.op("Min", *high), self.op("Max", *low))
        common = self._product(self.op("Relu", sides))
        union = self.op("Sub", self.op("Add", *sizes), common)
        some = self.op("Greater", common, self.number(0))
        return self.op("Where", some, self.op("Div", common, union), self.number(0))

    def _product(self, sides: str) -> str:
        """Width times height, the last axis gone."""
        wide, high = (self.graph.slice(sides, [i], [i + 1], [-1]) for i in (0, 1))
        return self.op("Squeeze", self.op("Mul", wide, high), self.whole(-1))

    def _pairs(self, shared: str, free: str) -> str:
        """The rows of ground truth that the best pairs give, in as many rounds as there are rows."""
        left = self.graph.reshape(shared, (-1, self.boxes * self.rows))
        body = _round(lambda part: self.graph.fresh(f"{self.graph.current.name}/pairs_{part}"), self.boxes, self.rows)
        count, always = self.graph.constant(self.rows, np.int64), self.graph.constant(True, np.bool_)
        return self.op("Loop", count, always, left, free, outputs=2, body=body)[1]

    # -- losses -------------------------------------------------------------------------------------------
    def given(self) -> None:
        """`has`: N x K, whether a prior box has ground truth; `label`: its label; `back`: the background's."""
        self.some = self.op("Max", self.index, self.whole(0))
        self.has = self.op("Greater", self.index, self.whole(-1))
        self.label = self.op("Gather", self.kind, self.some, axis=0)
        self.back = self.whole(self.layer.background_label_id)
        if not self.layer.share_location:
            self.has = self.op("And", self.has, self.op("Not", self.op("Equal", self.label, self.back)))

    def of_boxes(self) -> str:
        """The loss of each prior box's prediction, 0 of those without ground truth; N x K."""
        layer, graph = self.layer, self.graph
        boxes = self.op("Gather", graph.slice(self.truth, [3], [7], [1]), self.some, axis=0)
        if layer.share_location:
            preds = self.op("Squeeze", self.preds, self.whole(2))
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
        _, order = self.op("TopK", ranked, self.whole(self.boxes), axis=1, outputs=2)
        shape = self.op("Shape", order)
        numbers = self.op("Expand", self.whole(*range(self.boxes)), shape)
        rank = self.op("ScatterElements", self.op("Expand", self.whole(0), shape), order, numbers, axis=1)
        chosen = self.op("And", able, self.op("Less", rank, limit))
        self.has = self.op("And", self.has, chosen) if hard else self.has
        self.others = self.op("And", free, chosen)

    def all_ones(self, label: str) -> str:
        """Where the forks write ones when nothing is mined, N x K x C."""
        if self.layer.conf_loss_type == "SOFTMAX":
            return self.ones(self.op("Where", self.has, label, self.back))
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


def _round(named: Callable[[str], str], boxes: int, rows: int) -> Any:
    """One round of the search for pairs: the largest overlap that is left gives a prior box its ground truth."""
    from onnx import helper, numpy_helper

    names: dict[str, str] = {}
    nodes: list[Any] = []

    def at(part: str) -> str:
        return names.setdefault(part, named(part))

    def add(result: str, kind: str, *inputs: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(kind, [at(part) for part in inputs], [at(result)], **attributes))

    def info(part: str, kind: int, shape: Any = None) -> Any:
        return helper.make_tensor_value_info(at(part), kind, shape)

    places = np.arange(boxes * rows)
    fixed = {
        "width": np.array([rows]),
        "none": np.zeros(1, np.float32),
        "at_box": places // rows,
        "at_row": places % rows,
    }
    for part, array in fixed.items():
        add(part, "Constant", value=numpy_helper.from_array(array))
    add("best", "ArgMax", "left", axis=1, keepdims=1)
    add("most", "GatherElements", "left", "best", axis=1)
    add("ok", "Greater", "most", "none")
    add("box", "Div", "best", "width")
    add("row", "Mod", "best", "width")
    add("was", "GatherElements", "index", "box", axis=1)
    add("new", "Where", "ok", "row", "was")
    add("next_index", "ScatterElements", "index", "box", "new", axis=1)
    add("same_box", "Equal", "at_box", "box")
    add("same_row", "Equal", "at_row", "row")
    add("same", "Or", "same_box", "same_row")
    add("taken", "And", "same", "ok")
    add("next_left", "Where", "taken", "none", "left")
    add("on", "Identity", "go")
    given = [info("step", INT, []), info("go", BOOL, []), info("left", FLOAT), info("index", INT)]
    return helper.make_graph(
        nodes, "pairs", given, [info("on", BOOL, []), info("next_left", FLOAT), info("next_index", INT)]
    )


def write_loss(layer: Any, graph: Any, bottoms: tuple[str, ...]) -> str:
    """The nodes of a MultiBoxLoss; the name of its top."""
    if layer.mines and layer.suppression is not None:
        raise Misfit("hard examples that are compared to each other", "no nms_param, in ONNX", "nms_param")
    if layer.ignore_difficult_gt:
        raise Misfit("ground truth that waits for a prior box", "false, in ONNX", "ignore_difficult_gt")
    if not layer.share_location and not layer.use_prior_for_matching:
        raise Misfit("boxes of each label matched by themselves", "true, in ONNX", "use_prior_for_matching")
    parts = _Writer(layer, graph, bottoms)
    parts.match()
    parts.given()
    of_boxes = parts.of_boxes()
    if layer.mines:
        parts.mine(of_boxes)
    label = parts.whole(layer.background_label_id + 1) if layer.map_object_to_agnostic else parts.label
    if layer.mines:
        loss = parts.of_scores(parts.ones(parts.op("Where", parts.has, label, parts.back)), layer.background_label_id)
        loss = parts.op("Where", parts.op("Or", parts.has, parts.others), loss, parts.number(0))
    else:
        loss = parts.of_scores(parts.all_ones(label), layer.background_label_id)
    count = parts.total(parts.cast(parts.has, FLOAT))
    of_boxes = parts.op("Where", parts.has, of_boxes, parts.number(0))
    total = parts.op("Mul", parts.total(of_boxes), parts.number(layer.loc_weight * layer.counted[0]))
    total = parts.op("Add", total, parts.op("Mul", parts.total(loss), parts.number(layer.counted[1])))
    items = parts.cast(parts.op("Squeeze", parts.items, parts.whole(0)), FLOAT)
    full = parts.op("Mul", items, parts.number(parts.boxes))
    divisor = {"FULL": full, "BATCH_SIZE": items, "VALID": count}.get(layer.mode)
    return total if divisor is None else parts.op("Div", total, parts.op("Max", divisor, parts.number(1)))
