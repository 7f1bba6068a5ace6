"""Interp: DeepLab's and PSPNet's bilinear resizing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.nn.functional as F

from ..base import Layer, Misfit, register, show
from .sampling import Pairs, sampled, sampled_onnx


@register
class Interp(Layer):
    """N x C x H x W resized, corner samples on the corner cells; pads below 0 crop first (the forks' interp_layer).

    The size comes from shrink_factor, zoom_factor, height and width, the two factors together, full_zoom_factor (the
    first of these that is there), or, with none of them, from a second bottom (the older PSPNet's).
    """

    type = "Interp"
    known_to_opencv = True
    pack = "deeplab"
    family = "reshaping"
    param = ("interp_param",)
    bottom_count = (1, 2)
    no_gradient = (1,)

    height: int | None = None
    width: int | None = None
    zoom_factor: int | None = None
    shrink_factor: int | None = None
    full_zoom_factor: int | None = None
    pad_beg: int = 0
    pad_end: int = 0

    def opencv_agrees(self):
        """Both factors at once and crops it takes otherwise."""
        return not (self.pad_beg or self.pad_end or self.full_zoom_factor or (self.zoom_factor and self.shrink_factor))

    def factor(self, name: str) -> int:
        value = getattr(self, name)
        if value < 1:
            raise Misfit(f"{name} {value}", "1 or more", name)
        return value

    def extent(self, length: int, side: int | None) -> int:
        """The resized extent of a cropped axis; `side`: its height or width, where that is given."""
        shrink, zoom = self.shrink_factor is not None, self.zoom_factor is not None
        if side is not None and shrink == zoom:
            return side
        if shrink:
            length = (length - 1) // self.factor("shrink_factor") + 1
        if zoom:
            return length + (length - 1) * (self.factor("zoom_factor") - 1)
        return length if shrink else length * self.factor("full_zoom_factor")

    def sides(self, like) -> tuple[int | None, int | None]:
        """Height and width where fields or a second bottom give both; raises Misfit where nothing gives a size."""
        both = self.height is not None and self.width is not None
        factors = (self.shrink_factor, self.zoom_factor, self.full_zoom_factor)
        if like and (both or any(f is not None for f in factors)):
            raise Misfit("a second bottom beside a size in interp_param", "one of the two", "interp_param")
        if like:
            if len(like[0]) != 4:
                raise Misfit(f"a second bottom of {len(like[0])} axes", "4 axes: N, C, H, W", "bottom")
            return like[0][2], like[0][3]
        if not both and all(f is None for f in factors):
            raise Misfit("no size", "zoom_factor, shrink_factor, or height and width", "interp_param")
        return (self.height, self.width) if both else (None, None)

    def top_shapes(self, x, *like):
        if len(x) != 4:
            raise Misfit(f"an input with {len(x)} axes", "4 axes: N, C, H, W", "bottom")
        if self.pad_beg > 0 or self.pad_end > 0:
            raise Misfit(f"pads {self.pad_beg} and {self.pad_end}", "0, or less to crop", "pad_beg")
        cropped = tuple(n + self.pad_beg + self.pad_end for n in x[2:])
        if min(cropped) < 1:
            raise Misfit(f"{show(x)} cropped by {-self.pad_beg} and {-self.pad_end}", "a cell or more left", "pad_beg")
        out = tuple(map(self.extent, cropped, self.sides(like)))
        if min(out) < 1:
            raise Misfit(f"height {out[0]}, width {out[1]}", "both above 0", "interp_param")
        return ((*x[:2], *out),)

    def kept(self, x) -> tuple[slice, slice]:
        """The rows and columns that the pads leave."""
        return slice(-self.pad_beg, x[2] + self.pad_end), slice(-self.pad_beg, x[3] + self.pad_end)

    def pairs(self, x, *like) -> list[Pairs]:
        """The neighbours of each sample along both axes."""
        out = self.top_shapes(x, *like)[0][2:]
        lengths = (cells.stop - cells.start for cells in self.kept(x))
        return [self._pairs(*sizes) for sizes in zip(lengths, out, strict=True)]

    @staticmethod
    def _pairs(length: int, out: int) -> Pairs:
        step = np.float32(length - 1) / np.float32(out - 1) if out > 1 else np.float32(0)
        return Pairs.at(step * np.arange(out, dtype=np.float32), length)

    def reference(self, blobs, x, *like):
        y = x[(..., *self.kept(x.shape))]
        for axis, pairs in enumerate(self.pairs(x.shape, *(b.shape for b in like)), 2):
            y = sampled(y, axis, pairs)
        return (y,)

    def forward(self, module, x, *like):
        size = self.top_shapes(tuple(x.shape), *(tuple(b.shape) for b in like))[0][2:]
        y = x[(..., *self.kept(tuple(x.shape)))]
        return (F.interpolate(y, size, mode="bilinear", align_corners=True),)

    def onnx(self, graph, x, *like):
        shape: Any = graph.shape(x)
        rows, columns = self.kept(shape)
        y = x
        if self.pad_beg or self.pad_end:
            y = graph.slice(x, [rows.start, columns.start], [rows.stop, columns.stop], [2, 3])
        pairs = self.pairs(shape, *map(graph.shape, like))
        lengths = (rows.stop - rows.start, columns.stop - columns.start)
        for axis, (each, length) in enumerate(zip(pairs, lengths, strict=True), 2):
            if not (each.whole and len(each.low) == length):
                y = sampled_onnx(graph, y, axis, each)
        return (y,)
