"""Crop of the first fully convolutional nets: the offset follows from the net."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..base import Layer, Misfit, register
from ..selecting import Crop

Line = tuple[float, float]  # an axis's coordinates before a layer by those behind it: slope, intercept

# Layers behind which a place is where it was; the first fork has them as neurons, Python's coord_map as a list.
_STILL = (
    *("AbsVal", "BatchNorm", "Bias", "BN", "BNLL", "Dropout", "Eltwise", "ELU", "Exp", "Log", "LRN", "MVN", "Power"),
    *("PReLU", "ReLU", "Scale", "Sigmoid", "Split", "Swish", "TanH", "Threshold"),
)


def _after(first: Line, second: Line) -> Line:
    return first[0] * second[0], first[0] * second[1] + first[1]


def _inverse(line: Line) -> Line:
    return 1 / line[0], -line[1] / line[0]


@register
class FcnCrop(Crop):
    """The first bottom cut to the second's height and width, where both see the same (FCN's and HED's crop_layer).

    The offset comes from the strides and pads on both ways back to the nearest common blob. BVLC's Crop without fields
    cuts at offset 0; this one is meant in nets of the packs hed or lrcn, where no crop_param stands.
    """

    pack = "hed"

    @classmethod
    def claims(cls, message, context):
        return not message.HasField("crop_param") and bool(context.packs & {"hed", "lrcn"})

    def in_net(self, bottoms, nodes):
        if len(bottoms) < 2 or any(v.shape is None for v in bottoms):  # which is complained about already
            return self
        if any(len(v.shape) != 4 for v in bottoms):
            raise Misfit("bottoms without height and width", "4 axes: N, C, H, W", "bottom")
        makers = {id(top): node for node in nodes for top in node.tops}
        here, there = (list(_way(bottom, makers)) for bottom in bottoms)
        seen = {id(value): lines for value, lines in here}
        common = next((pair for pair in there if id(pair[0]) in seen), None)
        if common is None:
            raise Misfit("bottoms that do not come from one blob", "a common ancestor, by first bottoms", "bottom")
        offset = []
        for mine, other in zip(seen[id(common[0])], common[1], strict=True):
            slope, shift = _after(other, _inverse(mine))
            if abs(slope - 1) > 1e-9 or abs(shift - round(shift)) > 1e-9 or shift > 1e-9:
                found = f"coordinates {slope:g} * x + {shift:g}"
                raise Misfit(found, "1 * x - an offset: both bottoms at one scale, the first the larger", "bottom")
            offset.append(-round(shift))
        return replace(self, offset=tuple(offset))


def _way(value: Any, makers: Mapping[int, Any]) -> Iterator[tuple[Any, Sequence[Line]]]:
    """A blob and those it comes from by first bottoms, each with its coordinates by those of the first, in y and x."""
    lines: list[Line] = [(1.0, 0.0), (1.0, 0.0)]
    while True:
        maker = makers.get(id(value))
        while maker is not None and maker.bottoms and maker.bottoms[0].blob == value.blob:  # in place: the same blob
            value = maker.bottoms[0]
            maker = makers.get(id(value))
        yield value, tuple(lines)
        if maker is None or not maker.bottoms:
            return
        lines = [_after(line, step) for line, step in zip(lines, _step(maker), strict=True)]
        value = maker.bottoms[0]


def _step(node: Any) -> list[Line]:
    """What a layer does to coordinates in y and x."""
    layer: Layer = node.layer
    if layer.type in ("Convolution", "Deconvolution", "Pooling"):
        if layer.type == "Pooling":
            if layer.global_pooling:  # type: ignore[attr-defined]
                raise Misfit(f"global pooling in '{node.name}' on the way", "windows of a size", "bottom")
            kernel, stride, pad = layer.windows(node.bottoms[0].shape)[:3]  # type: ignore[attr-defined]
            holes = (1, 1)
        else:
            kernel, stride, pad, holes = layer.sizes(2)  # type: ignore[attr-defined]
        lines = [(float(s), d * (k - 1) / 2 - p) for k, s, p, d in zip(kernel, stride, pad, holes, strict=True)]
        return lines if layer.type == "Deconvolution" else [_inverse(line) for line in lines]
    if isinstance(layer, Crop):
        return [(1.0, -float(shift)) for shift in (layer.offset or (0,)) * (1 if len(layer.offset) == 2 else 2)][:2]
    if layer.type not in _STILL:
        raise Misfit(f"the layer type {layer.type} ('{node.name}') on the way", "one that keeps coordinates", "bottom")
    return [(1.0, 0.0), (1.0, 0.0)]
