"""DetectionOutput as ONNX operators: boxes, the best of each label, NonMaxSuppression, the best of each item."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base import Misfit
from .boxes import CORNER, CORNER_SIZE, prior_count
from .detection_loop import left_over


def _int(graph: Any, *values: int) -> str:
    return graph.constant(values, np.int64)


def decode(graph: Any, code: str, prior: str, spread: str | None, loc: str) -> str:
    """Boxes (last axis: 4) from predictions that broadcast against them."""
    scaled = loc if spread is None else graph.op("Mul", spread, loc)
    if code == CORNER:
        return graph.op("Add", prior, scaled)
    low, high = (graph.slice(prior, [start], [start + 2], [-1]) for start in (0, 2))
    size = graph.op("Sub", high, low)
    if code == CORNER_SIZE:
        return graph.op("Add", prior, graph.op("Mul", scaled, graph.op("Concat", size, size, axis=-1)))
    move, grow = (graph.slice(scaled, [start], [start + 2], [-1]) for start in (0, 2))
    half = graph.constant(0.5)
    middle = graph.op("Mul", graph.op("Add", low, high), half)
    centre = graph.op("Add", graph.op("Mul", move, size), middle)
    reach = graph.op("Mul", graph.op("Mul", graph.op("Exp", grow), size), half)
    return graph.op("Concat", graph.op("Sub", centre, reach), graph.op("Add", centre, reach), axis=-1)


def upright(graph: Any, boxes: str) -> str:
    """Boxes with those that are turned inside out made empty: ONNX would turn them round, the forks do not."""
    low, high = (graph.slice(boxes, [start], [start + 2], [-1]) for start in (0, 2))
    turned = graph.op("Cast", graph.op("Less", high, low), to=1)
    count = graph.reduce("ReduceSum", turned, (-1,), keep=True)
    return graph.op("Where", graph.op("Greater", count, graph.constant(0.0)), graph.constant(0.0), boxes)


def opencv_detections(layer: Any, graph: Any, bottoms: tuple[str, ...]) -> str:
    """OpenCV's own DetectionOutput, by the names that its dnn module gives the fields; the name of its top.

    Its rows are not Caffe's: each item's by falling score, and zeros up to keep_top_k. The boxes are decoded before it:
    that of 5.0 turns CENTER_SIZE into other boxes than that of 4.x and Caffe.
    """
    allowed, top, eta = layer.nms
    if eta < 1 or layer.scored(tuple(map(graph.shape, bottoms))):
        found = f"eta {eta:g}" if eta < 1 else "RefineDet's first scores as the fourth bottom"
        raise Misfit(found, "eta 1 and three bottoms in OpenCV's DetectionOutput", "detection_output_param")
    count, items = prior_count(graph.shape(bottoms[2])), graph.shape(bottoms[0])[0]
    first = graph.reshape(graph.slice(bottoms[2], [0], [1], [0]), (2, count, 1, 4))
    prior = graph.slice(first, [0], [1], [0])
    spread = None if layer.variance_encoded_in_target else graph.slice(first, [1], [2], [0])
    boxes = decode(graph, layer.code_type, prior, spread, graph.reshape(bottoms[0], (items, count, -1, 4)))
    return graph.op(
        "DetectionOutput",
        graph.reshape(boxes, (items, -1)),
        bottoms[1],
        graph.constant(np.zeros((1, 1, 4 * count))),
        num_classes=layer.num_classes,
        share_location=int(layer.share_location),
        background_label_id=layer.background_label_id,
        code_type=CORNER,
        variance_encoded_in_target=1,
        nms_threshold=float(allowed),
        top_k=-1 if top is None else top,
        # all: OpenCV crashes on -1
        keep_top_k=layer.keep_top_k if layer.keep_top_k > -1 else count * len(layer.labels),
        confidence_threshold=float(layer.threshold),
    )


def write_detections(layer: Any, graph: Any, bottoms: tuple[str, ...]) -> str:
    """The nodes of a DetectionOutput; the name of its top."""
    allowed, top, eta = layer.nms
    count, labels = prior_count(graph.shape(bottoms[2])), layer.labels
    if not labels or not count or top == 0 or layer.keep_top_k == 0:
        return _four_axes(graph, _nothing(graph, bottoms[0], None))
    boxes, scores = _boxes(layer, graph, bottoms, count), _scores(layer, graph, bottoms, count)
    if eta < 1:
        picked = left_over(graph, boxes, scores, (1 if not layer.share_location else len(labels), count), layer.nms)
    else:
        if top is not None and top < count:
            scores = only_best(graph, scores, top)
        shown = boxes if layer.code_type not in (CORNER, CORNER_SIZE) else upright(graph, boxes)
        limits = (graph.constant([min(allowed, 1.0)]), graph.constant([layer.threshold]))
        picked = graph.op("NonMaxSuppression", shown, scores, _int(graph, count), *limits)
    row, middle, place = graph.op("Split", picked, _int(graph, 1, 1, 1), axis=1, outputs=3)
    found = graph.op("GatherND", boxes, graph.op("Concat", row, place, axis=1))
    score = graph.op("Unsqueeze", graph.op("GatherND", scores, picked), _int(graph, 1))
    if layer.share_location:
        item, label = row, middle
    else:  # every label of every item is a batch of its own
        item, label = graph.op("Div", row, _int(graph, len(labels))), graph.op("Mod", row, _int(graph, len(labels)))
    label = graph.op("Gather", graph.constant(labels), label, axis=0)
    rows = graph.op("Concat", graph.op("Cast", item, to=1), label, score, found, axis=1)
    if 0 < layer.keep_top_k < count * len(labels):
        rows = _best_of_items(graph, rows, scores, picked, score, (layer.keep_top_k, len(labels) * count))
    return _four_axes(graph, graph.op("Concat", rows, _nothing(graph, bottoms[0], rows), axis=0))


def _boxes(layer: Any, graph: Any, bottoms: tuple[str, ...], count: int) -> str:
    """N x K x 4, or (N labels) x K x 4 where labels have their own."""
    first = graph.reshape(graph.slice(bottoms[2], [0], [1], [0]), (2, count, 4))
    prior = graph.slice(first, [0], [1], [0])
    spread = None if layer.variance_encoded_in_target else graph.slice(first, [1], [2], [0])
    if len(bottoms) == 5:
        arm = graph.reshape(bottoms[4], (-1, count, 4))
        prior = decode(graph, layer.code_type, prior, spread, arm)
    if layer.share_location:
        return decode(graph, layer.code_type, prior, spread, graph.reshape(bottoms[0], (-1, count, 4)))
    loc = graph.reshape(bottoms[0], (-1, count, layer.num_classes, 4))
    loc = graph.op("Gather", graph.op("Transpose", loc, perm=[0, 2, 1, 3]), _int(graph, *layer.labels), axis=1)
    return decode(graph, layer.code_type, prior, spread, graph.reshape(loc, (-1, count, 4)))


def _scores(layer: Any, graph: Any, bottoms: tuple[str, ...], count: int) -> str:
    """All labels' scores but the background's, -inf where too low; N x labels x K, or (N labels) x 1 x K."""
    scores = graph.reshape(bottoms[1], (-1, count, layer.num_classes))
    if layer.scored(tuple(map(graph.shape, bottoms))):
        sure = graph.slice(graph.reshape(bottoms[3], (-1, count, 2)), [1], [2], [2])
        weak = graph.op("Less", sure, graph.constant(layer.objectness_score))
        scores = graph.op("Where", weak, graph.constant(np.arange(layer.num_classes) == 0), scores)
    scores = graph.op("Transpose", scores, perm=[0, 2, 1])
    scores = graph.op("Gather", scores, _int(graph, *layer.labels), axis=1)
    high = graph.op("Greater", scores, graph.constant(layer.threshold))
    scores = graph.op("Where", high, scores, graph.constant(-np.inf))
    return scores if layer.share_location else graph.reshape(scores, (-1, 1, count))


def only_best(graph: Any, scores: str, top: int) -> str:
    """The best scores of each label at their places, -inf at all others; of equal ones the first."""
    best, places = graph.op("TopK", scores, _int(graph, top), axis=-1, outputs=2)
    none = graph.op("Expand", graph.constant(-np.inf), graph.op("Shape", scores))
    return graph.op("ScatterElements", none, places, best, axis=2)


def _best_of_items(graph: Any, rows: str, scores: str, picked: str, score: str, numbers: tuple[int, int]) -> str:
    """The rows that are among the best of their item; of equal scores the first in the order of labels and boxes."""
    keep, width = numbers
    shape = graph.op("Shape", scores)
    none = graph.op("Expand", graph.constant(-np.inf), shape)
    found = graph.op("ScatterND", none, picked, graph.op("Squeeze", score, _int(graph, 1)))
    found = graph.reshape(found, (-1, width))
    best, places = graph.op("TopK", found, _int(graph, keep), axis=1, outputs=2)
    chosen = graph.op("Expand", graph.constant(0.0), graph.op("Shape", found))
    ones = graph.op("Expand", graph.constant(1.0), graph.op("Shape", best))
    chosen = graph.op("Reshape", graph.op("ScatterElements", chosen, places, ones, axis=1), shape)
    kept = graph.op("Greater", graph.op("GatherND", chosen, picked), graph.constant(0.5))
    return graph.op("Compress", rows, kept, axis=0)


def _nothing(graph: Any, loc: str, rows: str | None) -> str:
    """A row of item, -1, ... for each item where there are no rows; none where there are."""
    items = graph.op("Squeeze", graph.extents(loc, 0), _int(graph, 0))
    zero, one = graph.constant(0, np.int64), graph.constant(1, np.int64)
    item = graph.op("Unsqueeze", graph.op("Cast", graph.op("Range", zero, items, one), to=1), _int(graph, 1))
    blank = graph.op("Pad", item, _int(graph, 0, 0, 0, 6), graph.constant(-1.0))
    if rows is None:
        return blank
    none = graph.op("Equal", graph.extents(rows, 0), _int(graph, 0))
    return graph.op("Compress", blank, graph.op("Expand", none, graph.extents(loc, 0)), axis=0)


def _four_axes(graph: Any, rows: str) -> str:
    return graph.reshape(rows, (1, 1, -1, 7))
