"""TensorFlow's resizing in synopsys-caffe: ResizeBilinear, ResizeNearestNeighbor."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from ..base import Layer, Misfit, register
from .sampling import Pairs, sampled, sampled_onnx, sampled_torch

_PLANES = {"NHWC": (1, 2), "NCHW": (2, 3)}


class _Resizing(Layer):
    """A map of four axes sampled along its height and width.

    The size is output_height and output_width, or else the map's times scale_height and scale_width, rounded down.
    """

    pack = "synopsys"
    family = "reshaping"

    align_corners: bool = False
    half_pixel_centers: bool = False
    data_format: str = "NHWC"
    output_height: int | None = None
    output_width: int | None = None
    scale_height: float = 1.0
    scale_width: float = 1.0

    modes: ClassVar[tuple[str, ...]] = ("align_corners", "half_pixel_centers")

    @property
    def axes(self) -> tuple[int, int]:
        """Where height and width stand."""
        return _PLANES[self.data_format]

    def top_shapes(self, x):
        if self.data_format not in _PLANES:
            raise Misfit(f"data_format {self.data_format}", ", ".join(_PLANES), "data_format")
        chosen = [mode for mode in self.modes if getattr(self, mode)]
        if len(chosen) > 1:
            raise Misfit(" and ".join(chosen), "one of them", chosen[1])
        if len(x) != 4:
            raise Misfit(f"an input with {len(x)} axes", "4 axes", "bottom")
        top = list(x)
        sides = ((self.output_height, self.scale_height), (self.output_width, self.scale_width))
        for axis, (size, scale) in zip(self.axes, sides, strict=True):
            top[axis] = int(np.floor(np.float32(x[axis]) * np.float32(scale))) if size is None else size
        if min(top[axis] for axis in self.axes) < 1 or not all(x):
            raise Misfit(f"height {top[self.axes[0]]}, width {top[self.axes[1]]}", "both above 0", self.param[0])
        return (tuple(top),)

    def step(self, length: int, out: int) -> np.float32:
        """From one sample to the next, in cells."""
        if self.align_corners and out > 1:
            return np.float32(length - 1) / np.float32(out - 1)
        return np.float32(length) / np.float32(out)

    def pairs(self, length: int, out: int) -> Pairs:
        """The neighbours of each sample along an axis."""
        raise NotImplementedError

    def all_pairs(self, x):
        top = self.top_shapes(x)[0]
        return [(axis, self.pairs(x[axis], top[axis])) for axis in self.axes]

    def reference(self, blobs, x):
        for axis, pairs in self.all_pairs(x.shape):
            x = sampled(x, axis, pairs)
        return (x,)

    def forward(self, module, x):
        for axis, pairs in self.all_pairs(tuple(x.shape)):
            if pairs.whole:
                x = x.index_select(axis, torch.from_numpy(pairs.low).to(x.device))
            else:
                x = sampled_torch(x, axis, pairs)
        return (x,)

    def onnx(self, graph, x):
        for axis, pairs in self.all_pairs(graph.shape(x)):
            x = sampled_onnx(graph, x, axis, pairs)
        return (x,)


@register
class ResizeBilinear(_Resizing):
    """The mean of four cells by their distance; pytorch_half_pixel is half_pixel_centers of more than one sample."""

    type = "ResizeBilinear"
    param = ("resize_bilinear_param",)
    modes = ("align_corners", "half_pixel_centers", "pytorch_half_pixel")

    pytorch_half_pixel: bool = False

    def pairs(self, length, out):
        steps = np.arange(out, dtype=np.float32)
        places = steps * self.step(length, out)
        if self.half_pixel_centers or self.pytorch_half_pixel:
            places = (steps + np.float32(0.5)) * self.step(length, out) - np.float32(0.5)
        if self.pytorch_half_pixel and out == 1:
            places = np.full(1, -0.5, np.float32)
        low = np.floor(places)
        high = np.minimum(np.ceil(places).astype(np.int64), length - 1)
        return Pairs(np.maximum(low.astype(np.int64), 0), high, places - low)


@register
class ResizeNearestNeighbor(_Resizing):
    """The cell that a sample falls into; with align_corners the nearest one, halves up."""

    type = "ResizeNearestNeighbor"
    param = ("resize_nearest_neighbor_param",)

    def pairs(self, length, out):
        steps = np.arange(out, dtype=np.float32)
        if self.half_pixel_centers:
            places = (steps + np.float32(0.5)) * self.step(length, out)
        else:
            places = steps * self.step(length, out)
        half = 0.5 if self.align_corners else 0.0
        cells = np.minimum(np.floor(places.astype(np.float64) + half).astype(np.int64), length - 1)
        return Pairs(cells, cells, np.zeros(out, np.float32))
