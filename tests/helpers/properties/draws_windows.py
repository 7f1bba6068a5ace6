"""Drawing layers with windows: pads up to the kernel, strides beyond it, groups, dilation, every form of the fields."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from .draws import Draw, drawn, extents, maybe, seed, seldom, shape_of
from .nets import Bottom, Case, Word


def _form(draw: Draw, name: str, values: list[int], dialect: str) -> dict[str, Any]:
    """kernel_size, pad or stride in one of the ways in which they may be written; seldom in two at once."""
    h, w = (name.replace("_size", "") + side for side in ("_h", "_w"))
    if len(values) == 2 and draw(st.booleans()):
        form: dict[str, Any] = {h: values[0], w: values[1]}
        if seldom(draw):
            del form[draw(st.sampled_from([h, w]))]
        if seldom(draw):
            form[name] = values[0]
        return form
    if not values:
        return {}
    if dialect == "srn" or draw(st.booleans()):
        return {name: values[0]}
    return {name: [*values, *([1] if seldom(draw) else [])]}


def _sizes(draw: Draw, axes: int, dialect: str) -> dict[str, Any]:
    """The fields of the window of a convolution."""
    kernel = [draw(st.integers(1, 3)) for _ in range(axes)]
    block = _form(draw, "kernel_size", kernel, dialect)
    if draw(st.booleans()):
        block |= _form(draw, "stride", [draw(st.integers(1, 4)) for _ in range(axes)], dialect)
    if draw(st.booleans()):
        block |= _form(draw, "pad", [draw(st.integers(0, 3)) for _ in range(axes)], dialect)
    if dialect == "bvlc" and axes and draw(st.booleans()):
        block["dilation"] = [draw(st.integers(1, 3)) for _ in range(draw(st.sampled_from([1, axes])))]
    if seldom(draw):
        block[draw(st.sampled_from(["kernel_size", "stride"]))] = 0
    return block


def _image(draw: Draw, dialect: str, channels: int) -> tuple[tuple[int, ...], int, int, dict[str, Any]]:
    """Shape, channel axis, number of spatial axes, and the field `axis`."""
    if dialect == "srn":
        return (draw(st.integers(1, 3)), channels, *extents(draw, 2, 1, 7)), 1, 2, {}
    axis, axes = draw(st.sampled_from([1, 1, 1, 0, 2])), draw(st.sampled_from([2, 2, 1, 3, 0]))
    shape = (*extents(draw, axis, 1, 3), channels, *extents(draw, axes, 1, 7 if axes < 3 else 4))
    written = axis - len(shape) if draw(st.booleans()) else axis
    return shape, axis, axes, {} if axis == 1 and draw(st.booleans()) else {"axis": written}


@drawn("Convolution", "Deconvolution")
def convolution(draw: Draw, dialect: str, type: str) -> Case:
    group = draw(st.sampled_from([1, 1, 2, 3]))
    channels, outputs = group * draw(st.integers(1, 3)), group * draw(st.integers(1, 3))
    shape, _, axes, block = _image(draw, dialect, channels)
    block |= {"num_output": outputs + seldom(draw), **_sizes(draw, axes, dialect)}
    block |= {"group": group + seldom(draw)} if group > 1 or draw(st.booleans()) else {}
    block |= maybe(draw, "bias_term", st.booleans())
    if dialect == "bvlc":
        block |= maybe(draw, "force_nd_im2col", st.booleans())
    number = draw(st.sampled_from([1, 1, 2, 3]))
    bottoms = [Bottom(shape)] * number
    if seldom(draw):
        bottoms[-1] = Bottom((*shape[:-1], shape[-1] + 1))
    if seldom(draw) and dialect == "srn":
        bottoms = [Bottom(shape[:3])]
    if seldom(draw):
        block.pop("num_output")
    tops = number + (1 if seldom(draw) else 0)
    return Case(type, dialect, tuple(bottoms), {"convolution_param": block}, tops=tops, seed=seed(draw))


@drawn("Im2col")
def im2col(draw: Draw, dialect: str) -> Case:
    shape, _, axes, block = _image(draw, dialect, draw(st.integers(1, 3)))
    block |= _sizes(draw, axes, dialect)
    return Case("Im2col", dialect, (Bottom(shape),), {"convolution_param": block}, seed=seed(draw))


_POOLS = ["MAX", "AVE", "STOCHASTIC"]


def _pooling_form(draw: Draw, name: str, values: tuple[int, int]) -> dict[str, Any]:
    h, w = (name.replace("_size", "") + side for side in ("_h", "_w"))
    block = {h: values[0], w: values[1]} if draw(st.booleans()) else {name: values[0]}
    if seldom(draw):
        block[draw(st.sampled_from([name, h, w]))] = values[1]
    return block


@drawn("Pooling")
def pooling(draw: Draw, dialect: str) -> Case:
    pool = draw(st.sampled_from(_POOLS))
    block: dict[str, Any] = {"pool": Word(pool)} if pool != "MAX" or draw(st.booleans()) else {}
    everywhere = draw(st.integers(0, 6)) == 6
    kernel = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    if everywhere:
        block["global_pooling"] = True
    if not everywhere or seldom(draw):
        block |= _pooling_form(draw, "kernel_size", kernel)
    if draw(st.booleans()) and (not everywhere or seldom(draw)):
        block |= _pooling_form(draw, "stride", (draw(st.integers(1, 6)), draw(st.integers(1, 6))))
    if (pool != "STOCHASTIC" and draw(st.booleans()) and not everywhere) or seldom(draw):
        over = seldom(draw)
        pads = tuple(draw(st.integers(0, k - 1 + over)) for k in kernel)
        block |= _pooling_form(draw, "pad", pads if draw(st.booleans()) else (min(pads), min(pads)))
    if dialect == "bvlc":
        block |= maybe(draw, "round_mode", [Word("CEIL"), Word("FLOOR")])
    tops = 2 if (pool == "MAX" and draw(st.booleans())) or seldom(draw) else 1
    kind = "positive" if pool == "STOCHASTIC" else draw(st.sampled_from(["normal", "quantised", "spread", "infinite"]))
    if kind == "infinite" and pool != "MAX":
        kind = "quantised"
    shape = shape_of(draw, (3, 5)) if seldom(draw) else (*extents(draw, 2, 1, 3), *extents(draw, 2, 1, 9))
    return Case("Pooling", dialect, (Bottom(shape, kind),), {"pooling_param": block}, tops=tops, seed=seed(draw))


@drawn("SPP")
def spp(draw: Draw, dialect: str) -> Case:
    block: dict[str, Any] = maybe(draw, "pool", [Word("MAX"), Word("AVE")])
    if not seldom(draw):
        block["pyramid_height"] = draw(st.sampled_from([2, 3, 1, 4, 0]))
    shape = shape_of(draw, (3, 5)) if seldom(draw) else (*extents(draw, 2, 1, 3), *extents(draw, 2, 2, 12))
    kind = draw(st.sampled_from(["normal", "quantised"]))
    return Case("SPP", dialect, (Bottom(shape, kind),), {"spp_param": block}, seed=seed(draw))


@drawn("ROIPooling")
def roi_pooling(draw: Draw, dialect: str) -> Case:
    sizes = {"pooled_h": draw(st.integers(1, 4)), "pooled_w": draw(st.integers(1, 4))}
    if seldom(draw):
        sizes.popitem()
    shape = (*extents(draw, 2, 1, 3), *extents(draw, 2, 1, 9))
    regions = draw(st.integers(4, 7))
    rows = (regions, 5, *draw(st.sampled_from([(), (1, 1)])))
    block = {**sizes, **maybe(draw, "spatial_scale", [0.5, 0.25, 1.0, 1.5])}
    bottoms = (
        Bottom(shape, draw(st.sampled_from(["normal", "quantised"]))),
        Bottom(rows, "regions", shape[0]),
    )
    return Case("ROIPooling", dialect, bottoms, {"roi_pooling_param": block}, seed=seed(draw))
