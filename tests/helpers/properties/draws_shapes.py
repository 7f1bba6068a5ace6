"""Drawing layers that rearrange, pick or add up, and the recurrent ones."""

from __future__ import annotations

from math import prod
from typing import Any

from hypothesis import strategies as st

from .draws import NUMBERS, Draw, drawn, extents, maybe, seed, seldom, shape_of
from .nets import Bottom, Case, Word


def axis_field(draw: Draw, rank: int, name: str = "axis") -> dict[str, int]:
    """An axis from either end, seldom one that does not exist."""
    over = int(seldom(draw))
    return maybe(draw, name, st.integers(-rank - over, max(rank - 1 + over, 0)))


@drawn("InnerProduct")
def inner_product(draw: Draw, dialect: str) -> Case:
    shape = shape_of(draw, (1, 2, 3, 4, 5), (0,))
    shape = tuple(min(extent, 4) for extent in shape) if len(shape) > 3 else shape
    block = {**axis_field(draw, len(shape)), **maybe(draw, "bias_term", st.booleans())}
    if dialect == "bvlc":
        block |= maybe(draw, "transpose", st.booleans())
    if not seldom(draw):
        block["num_output"] = draw(st.integers(1, 7))
    return Case("InnerProduct", dialect, (Bottom(shape),), {"inner_product_param": block}, seed=seed(draw))


def _joining(draw: Draw, rank: int, old: str) -> tuple[int, dict[str, int]]:
    """An axis and how it is written."""
    axis = draw(st.integers(0, max(rank - 1, 0)))
    forms = [{"axis": axis}, {"axis": axis - rank}, {old: axis}] + ([{}] if axis == 1 else [])
    block = draw(st.sampled_from(forms))
    if seldom(draw):
        block = {**block, draw(st.sampled_from(["axis", old])): draw(st.sampled_from([1, axis, rank]))}
    return axis, block


@drawn("Concat")
def concat(draw: Draw, dialect: str) -> Case:
    shape = shape_of(draw, (1, 2, 3, 4, 5), (0,))
    axis, block = _joining(draw, len(shape), "concat_dim")
    number = 1 if seldom(draw) else draw(st.integers(2, 4))
    shapes = [(*shape[:axis], draw(st.integers(1, 5)), *shape[axis + 1 :]) if shape else shape for _ in range(number)]
    if seldom(draw):
        shapes[-1] = (*shapes[-1], 1) if draw(st.booleans()) else tuple(e + 1 for e in shapes[-1])
    param = {"concat_param": block} if block else {}
    return Case("Concat", dialect, tuple(map(Bottom, shapes)), param, seed=seed(draw))


@drawn("Slice")
def slices(draw: Draw, dialect: str) -> Case:
    shape = list(shape_of(draw, (1, 2, 3, 4, 5), (0,)))
    axis, block = _joining(draw, len(shape), "slice_dim")
    tops: int = 1 if seldom(draw) else draw(st.integers(2, 4))
    written: dict[str, Any] = dict(block)
    if draw(st.booleans()) and shape:
        shape[axis] = tops * draw(st.integers(1, 2)) + seldom(draw)
    elif shape:
        shape[axis] = draw(st.integers(tops, 8))
        points = sorted(draw(st.permutations(range(1, shape[axis])))[: tops - 1])
        if seldom(draw):
            points = [*points, draw(st.integers(0, 9))]
        written |= {"slice_point": points} if points else {}
    return Case(
        "Slice",
        dialect,
        (Bottom(tuple(shape)),),
        {"slice_param": written} if written else {},
        tops=tops,
        seed=seed(draw),
    )


@drawn("Reshape")
def reshape(draw: Draw, dialect: str) -> Case:
    shape = shape_of(draw, (1, 2, 3, 4, 5), (0,))
    rank = len(shape)
    start = draw(st.integers(0, rank))
    number = draw(st.integers(0, rank - start))
    block: dict[str, Any] = {} if start == 0 and draw(st.booleans()) else {"axis": start}
    if draw(st.booleans()):
        block["axis"] = start - rank - 1
    if start + number < rank or draw(st.booleans()):
        block["num_axes"] = number if draw(st.booleans()) or start + number < rank else -1
    middle = list(shape[start : start + number])
    form = draw(st.integers(0, 4))
    if form == 0:  # factors of the count, in another order
        middle = list(draw(st.permutations([*middle, 1])))
    elif form == 1:
        middle = [prod(middle)]
    elif form == 2 and middle:  # as they are, one worked out
        middle = [0] * len(middle)
        middle[draw(st.integers(0, len(middle) - 1))] = -1
    elif form == 3:
        middle = [-1, *middle[:1]]
    else:
        middle = [draw(st.sampled_from([0, -1, 1, 2, 3])) for _ in range(draw(st.integers(0, 3)))]
    block["shape"] = {"dim": middle}
    if seldom(draw):
        block.pop("shape")
    if seldom(draw):
        block["num_axes"] = draw(st.integers(-2, rank + 1))
    return Case("Reshape", dialect, (Bottom(shape),), {"reshape_param": block}, in_place=seldom(draw), seed=seed(draw))


@drawn("Flatten")
def flatten(draw: Draw, dialect: str) -> Case:
    shape = shape_of(draw, (1, 2, 3, 4, 5), (0,))
    block = {**axis_field(draw, len(shape)), **axis_field(draw, len(shape), "end_axis")}
    return Case(
        "Flatten",
        dialect,
        (Bottom(shape),),
        {"flatten_param": block} if block else {},
        in_place=seldom(draw),
        seed=seed(draw),
    )


@drawn("ArgMax")
def argmax(draw: Draw, dialect: str) -> Case:
    shape = shape_of(draw, (1, 2, 3, 4, 5) if dialect == "bvlc" else (1, 2, 3, 4), (0,))
    block = {**maybe(draw, "out_max_val", st.booleans()), **maybe(draw, "top_k", st.integers(1, 4))}
    if dialect == "bvlc":
        block |= axis_field(draw, len(shape))
    kind = draw(st.sampled_from(["normal", "quantised"]))
    return Case("ArgMax", dialect, (Bottom(shape, kind),), {"argmax_param": block} if block else {}, seed=seed(draw))


@drawn("Reduction")
def reduction(draw: Draw, dialect: str) -> Case:
    shape = shape_of(draw, (1, 2, 3, 4, 5), (0,))
    operations = ["SUM", "ASUM", "SUMSQ", "MEAN"] + (["TOPK"] if dialect == "srn" and seldom(draw) else [])
    block = {**maybe(draw, "operation", list(map(Word, operations))), **axis_field(draw, len(shape))}
    block |= maybe(draw, "coeff", NUMBERS)
    return Case("Reduction", dialect, (Bottom(shape),), {"reduction_param": block} if block else {}, seed=seed(draw))


@drawn("BatchReduction")
def batch_reduction(draw: Draw, dialect: str) -> Case:
    shape = list(shape_of(draw, (1, 2, 3, 4), (0, 5)))
    operation = draw(st.sampled_from(["SUM", "MEAN", "TOPK"] + (["ASUM", "SUMSQ"] if seldom(draw) else [])))
    inner: dict[str, Any] = {"operation": Word(operation)} if operation != "SUM" or draw(st.booleans()) else {}
    inner |= axis_field(draw, len(shape))
    inner |= maybe(draw, "coeff", NUMBERS)
    block: dict[str, Any] = {}
    levels = draw(st.sampled_from([[], [1], [2], [3], [1, 2], [2, 1], [1, 1], [1, 2, 2]]))
    if levels:
        block["level"] = levels
    axis = inner.get("axis", 0)
    if shape and levels and levels != [1] and operation != "TOPK" and -len(shape) <= axis < len(shape):
        shape[axis] = sum(level * level for level in levels) + seldom(draw)
    if operation == "TOPK":
        inner |= maybe(draw, "k", st.integers(1, 3))
    block |= {"reduction_param": inner} if inner else {}
    return Case(
        "BatchReduction",
        dialect,
        (Bottom(tuple(shape), "spread"),),
        {"batch_reduction_param": block} if block else {},
        seed=seed(draw),
    )


@drawn("Tile")
def tile(draw: Draw, dialect: str) -> Case:
    shape = shape_of(draw, (1, 2, 3, 4), (0, 5))
    block = axis_field(draw, len(shape))
    if not seldom(draw):
        block["tiles"] = draw(st.integers(-1, 0)) if seldom(draw) else draw(st.integers(1, 4))
    return Case("Tile", dialect, (Bottom(shape),), {"tile_param": block}, seed=seed(draw))


@drawn("Crop")
def crop(draw: Draw, dialect: str) -> Case:
    shape = shape_of(draw, (1, 2, 3, 4, 5), (0,))
    rank = len(shape)
    axis = draw(st.integers(0, max(rank - 1, 0)))
    like = [draw(st.integers(1, e)) if i >= axis else draw(st.integers(1, 6)) for i, e in enumerate(shape)]
    room = [e - n for e, n in zip(shape[axis:], like[axis:], strict=True)]
    block: dict[str, Any] = {"axis": axis if draw(st.booleans()) else axis - rank}
    if axis == 2 and draw(st.booleans()):
        block = {}
    form = draw(st.integers(0, 2))
    if form == 1:
        block["offset"] = [draw(st.integers(0, min(room, default=0) + seldom(draw)))]
    elif form == 2:
        block["offset"] = [draw(st.integers(0, r)) for r in room] + ([0] if seldom(draw) else [])
    if seldom(draw):
        like = [*like, 1]
    bottoms = (Bottom(shape), Bottom(tuple(like)))
    return Case("Crop", dialect, bottoms, {"crop_param": block} if block else {}, seed=seed(draw))


@drawn("Embed")
def embed(draw: Draw, dialect: str) -> Case:
    rows = draw(st.integers(1, 6))
    block = {
        "input_dim": rows,
        "num_output": draw(st.integers(1, 5)),
        **maybe(draw, "bias_term", st.booleans()),
    }
    if seldom(draw):
        block.pop(draw(st.sampled_from(["input_dim", "num_output"])))
    bottom = Bottom(shape_of(draw, (1, 2, 3), (0, 4)), "labels", rows)
    return Case("Embed", dialect, (bottom,), {"embed_param": block}, seed=seed(draw))


@drawn("Filter")
def filters(draw: Draw, dialect: str) -> Case:
    items, number = draw(st.integers(2, 7)), draw(st.integers(1, 3))
    bottoms = [Bottom((items, *shape_of(draw, (1, 2, 3), (0,)))) for _ in range(number)]
    if seldom(draw):
        bottoms[-1] = Bottom((items + 1, 3))
    kind = "none" if seldom(draw) else "flags"
    selector = Bottom(draw(st.sampled_from([(items,), (items, 1), (items, 1, 1, 1)])), kind)
    if seldom(draw):
        selector = Bottom(draw(st.sampled_from([(items, 2), (), (1, items)])), kind)
    return Case("Filter", dialect, (*bottoms, selector), tops=number + seldom(draw), seed=seed(draw))


@drawn("BatchReindex")
def batch_reindex(draw: Draw, dialect: str) -> Case:
    shape = shape_of(draw, (1, 2, 3, 4), (0,))
    index = (draw(st.integers(1, 8)), *([1] if seldom(draw) else []))
    bottoms = (Bottom(shape), Bottom(index, "labels", shape[0] if shape else 1))
    return Case("BatchReindex", dialect, bottoms, seed=seed(draw))


@drawn("LSTM", "RNN")
def recurrent(draw: Draw, dialect: str, type: str) -> Case:
    steps, streams, inputs, hidden, extra = extents(draw, 5, 1, 6)
    exposed = draw(st.booleans())
    states = (2 if type == "LSTM" else 1) if exposed else 0
    x = (steps, streams, *([inputs] if draw(st.booleans()) else [inputs, 2]))
    if seldom(draw):
        x = (steps, streams)
    bottoms = [Bottom(x), Bottom((steps, streams + seldom(draw)), "starts")]
    if draw(st.booleans()):
        bottoms.append(Bottom((streams, extra) if not seldom(draw) else (streams, extra, 2)))
    bottoms += [Bottom((1, streams, hidden, *([2] if seldom(draw) else []))) for _ in range(states)]
    block = {"num_output": hidden} | ({"expose_hidden": exposed} if exposed or draw(st.booleans()) else {})
    if seldom(draw):
        block.pop("num_output")
    tops = 1 + states + (1 if seldom(draw) else 0)
    return Case(
        type,
        dialect,
        tuple(bottoms),
        {"recurrent_param": block},
        tops=tops,
        phase=draw(st.sampled_from(["TEST", "TRAIN"])),
        seed=seed(draw),
    )


@drawn("LSTMUnit")
def lstm_unit(draw: Draw, dialect: str) -> Case:
    streams, hidden = extents(draw, 2, 1, 5)
    gates = Bottom((1, streams, 4 * hidden + seldom(draw)))
    bottoms = (Bottom((1, streams, hidden)), gates, Bottom((1, streams), "starts"))
    return Case("LSTMUnit", dialect, bottoms, tops=2, seed=seed(draw))
