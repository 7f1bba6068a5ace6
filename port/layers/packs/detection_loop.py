"""Non-maximum suppression with an overlap that shrinks (`eta`), as an ONNX Loop: NonMaxSuppression has none."""

from __future__ import annotations

from typing import Any

import numpy as np

from .loops import BOOL, FLOAT, Body

SIDES = ("xmin", "ymin", "xmax", "ymax")


def left_over(
    graph: Any, boxes: str, scores: str, extents: tuple[int, int], nms: tuple[float, int | None, float]
) -> str:
    """What NonMaxSuppression would give: batch, label and place of every box that is left, R x 3.

    `boxes`: N x K x 4; `scores`: N x labels x K, -inf where too low; `extents`: labels, K.
    """
    op, (labels, count), (allowed, top, eta) = graph.op, extents, nms

    def whole(*values: int) -> str:
        return graph.constant(values, np.int64)

    rows = graph.reshape(scores, (-1, count))
    best, order = op("TopK", rows, whole(count if top is None else min(top, count)), axis=1, outputs=2)
    shape = op("Concat", graph.extents(boxes, 0), whole(labels, count), axis=0)
    body = Body(graph, "left")
    for i, side in enumerate(SIDES):
        column = op("Squeeze", graph.slice(boxes, [i], [i + 1], [2]), whole(2))
        column = graph.reshape(op("Expand", op("Unsqueeze", column, whole(1)), shape), (-1, count))
        body.outside(side, op("GatherElements", column, order, axis=1))
    low, high = ([body.name(side) for side in pair] for pair in (SIDES[:2], SIDES[2:]))
    sides = [op("Relu", op("Sub", end, start)) for start, end in zip(low, high, strict=True)]
    body.outside("area", op("Mul", *sides))
    ahead = op("Greater", best, graph.constant(-np.inf))
    nothing = op("Expand", graph.constant(0.0), op("Shape", best))
    limit = op("Expand", graph.constant([[allowed]]), op("Concat", graph.extents(best, 0), whole(1), axis=0))
    start = (ahead, op("Greater", nothing, graph.constant(0.0)), nothing, limit)
    most = op("Squeeze", graph.extents(best, 1), whole(0))
    always = graph.constant(True, np.bool_)
    _, kept, *_ = op("Loop", most, always, *start, outputs=4, body=_round(body, eta))
    row, rank = op("Split", op("Transpose", op("NonZero", kept), perm=[1, 0]), whole(1, 1), axis=1, outputs=2)
    place = op("Unsqueeze", op("GatherND", order, op("Concat", row, rank, axis=1)), whole(1))
    return op("Concat", op("Div", row, whole(labels)), op("Mod", row, whole(labels)), place, axis=1)


def _round(body: Body, eta: float) -> Any:
    """One round: every row keeps its next box, and drops those that overlap what is kept more than is allowed now."""
    add = body.add
    body.fixed("none", 0.0, np.float32)
    body.fixed("half", 0.5, np.float32)
    body.fixed("eta", eta, np.float32)
    body.fixed("zero", 0)
    body.fixed("one", 1)
    add("open", "Cast", "ahead", to=FLOAT)
    add("first", "ArgMax", "open", axis=1, keepdims=1)
    add("found", "GatherElements", "open", "first", axis=1)
    add("has", "Greater", "found", "none")
    add("shape", "Shape", "open")
    add("width", "Gather", "shape", "one", axis=0)
    add("places", "Range", "zero", "width", "one")
    add("at_first", "Equal", "places", "first")
    add("now", "And", "at_first", "has")
    add("next_kept", "Or", "kept", "now")
    for side in (*SIDES, "area"):
        add(f"own_{side}", "GatherElements", side, "first", axis=1)
    for axis in "xy":
        add(f"end_{axis}", "Min", f"{axis}max", f"own_{axis}max")
        add(f"start_{axis}", "Max", f"{axis}min", f"own_{axis}min")
        add(f"length_{axis}", "Sub", f"end_{axis}", f"start_{axis}")
        add(f"side_{axis}", "Relu", f"length_{axis}")
    add("common", "Mul", "side_x", "side_y")
    add("areas", "Add", "area", "own_area")
    add("union", "Sub", "areas", "common")
    add("ratio", "Div", "common", "union")
    add("some", "Greater", "common", "none")
    add("counts", "And", "some", "has")
    add("overlap", "Where", "counts", "ratio", "none")
    add("next_worst", "Max", "worst", "overlap")
    add("wide", "Greater", "limit", "half")
    add("shrinks", "And", "wide", "has")
    add("less", "Mul", "limit", "eta")
    add("next_limit", "Where", "shrinks", "less", "limit")
    add("fits", "LessOrEqual", "next_worst", "next_limit")
    add("not_now", "Not", "now")
    add("still", "And", "ahead", "not_now")
    add("next_ahead", "And", "still", "fits")
    add("left_open", "Cast", "next_ahead", to=FLOAT)
    add("any_open", "ReduceMax", "left_open", keepdims=0)
    add("on", "Greater", "any_open", "none")
    values = {"ahead": BOOL, "kept": BOOL, "worst": FLOAT, "limit": FLOAT}
    return body.made(values, {"on": BOOL, **{f"next_{part}": kind for part, kind in values.items()}})
