"""Resample and Downsample: FlowNet's resizing, without a gradient."""

from __future__ import annotations

import numpy as np
import torch

from ..base import Layer, Misfit, register, show
from .sampling import Weights, require_cells


def _linear(distance: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(distance))


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Catmull and Rom's cubic."""
    d = np.abs(distance)
    near, far = d * d * (1.5 * d - 2.5) + 1, d * (d * (-0.5 * d + 2.5) - 4) + 2
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


class _Resizing(Layer):
    """What both share: the size from fields or from a second bottom, no gradient."""

    family = "reshaping"
    bottom_count = (1, 2)
    no_gradient = (0, 1)

    def sized(self, sides: dict[str, int], x, *like) -> tuple[int, ...]:
        """The top's shape by fields (name -> extent) or the second bottom."""
        if any(len(b) != 4 for b in (x, *like)):
            raise Misfit(", ".join(map(show, (x, *like))), "4 axes: N, C, H, W", "bottom")
        out = like[0][2:] if like else tuple(sides.values())
        if min(out) < 1:
            raise Misfit(f"{' x '.join(sides)} {show(out)}", "both above 0, or a second bottom", next(iter(sides)))
        return (*x[:2], *out)


@register
class Resample(_Resizing):
    """N x C x H x W resized by nearest cells, or by linear or cubic weights over their sum (flownet2's resample_layer).

    The forks add half a cell along x by the step along y, and along y by that along x. With antialias the weights are
    as wide as the step along both axes wherever one of them shrinks.
    """

    type = "Resample"
    pack = "flow"
    param = ("resample_param",)

    width: int | None = None
    height: int | None = None
    type_: str = "LINEAR"
    antialias: bool = True
    factor: float = 1.0

    @classmethod
    def read(cls, message):
        """The fields; `type` is the class's own name for what it is."""
        values = super().read(message)
        return {"type_" if name == "type" else name: value for name, value in values.items()}

    def top_shapes(self, x, *like):
        if self.type_ not in ("NEAREST", "LINEAR", "CUBIC"):
            raise Misfit(f"type {self.type_}", "NEAREST, LINEAR or CUBIC (the forks refuse others)", "type")
        if self.factor != 1:
            raise Misfit(f"factor {self.factor:g}", "height and width: the forks read no factor", "factor")
        top = self.sized({"height": self.height or 0, "width": self.width or 0}, x, *like)
        require_cells(x)
        if self.type_ == "NEAREST" and any(c >= n for c, n in zip(self.last_cells(x, top), x[2:], strict=True)):
            raise Misfit(f"{show(x)} to {show(top)}: cells outside the map", "steps below twice each other's", "height")
        return (top,)

    def places(self, x, top, from_end: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Steps along y and x, and each row's and column's place in the bottom, in float32; of the last ones only."""
        steps = np.array(x[2:], np.float32) / np.array(top[2:], np.float32)
        first = [0 if from_end is None else max(n - from_end, 0) for n in top[2:]]
        rows, columns = (np.arange(k, n).astype(np.float32) for k, n in zip(first, top[2:], strict=True))
        half = np.float32(0.5)
        return steps, rows * steps[0] + steps[1] * half - half, columns * steps[1] + steps[0] * half - half

    def last_cells(self, x, top) -> list[int]:
        """The cells of the last row and column, which are the furthest ones."""
        return [int(cells[-1]) for cells in self.cells(x, top, 1)]

    def cells(self, x, top, from_end: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The nearest cells: halves away from 0."""
        _, rows, columns = self.places(x, top, from_end)
        rounded = (np.copysign(np.floor(np.abs(p) + np.float32(0.5)), p).astype(np.int64) for p in (rows, columns))
        return tuple(rounded)  # type: ignore[return-value]

    def weights(self, x, top) -> Weights:
        """What each sample takes of each row and column."""
        steps, *places = self.places(x, top)
        wide = self.antialias and (steps > 1).any()
        return Weights(*(self._matrix(p, n, s if wide else 1) for p, n, s in zip(places, x[2:], steps, strict=True)))

    def _matrix(self, places, length: int, step) -> np.ndarray:
        distance = (places[:, None] - np.arange(length, dtype=np.float32)).astype(np.float64) / step
        taken = (_cubic if self.type_ == "CUBIC" else _linear)(distance)
        total = taken.sum(1, keepdims=True)
        return np.divide(taken, total, out=np.zeros_like(taken), where=total != 0)

    def reference(self, blobs, x, *like):
        top = self.top_shapes(x.shape, *(b.shape for b in like))[0]
        if self.type_ == "NEAREST":
            rows, columns = self.cells(x.shape, top)
            return (x[:, :, rows[:, None], columns],)
        return (self.weights(x.shape, top).numpy(x),)

    def forward(self, module, x, *like):
        shape = tuple(x.shape)
        top = self.top_shapes(shape, *(tuple(b.shape) for b in like))[0]
        if self.type_ == "NEAREST":
            rows, columns = (torch.from_numpy(cells).to(x.device) for cells in self.cells(shape, top))
            return (x.index_select(2, rows).index_select(3, columns),)
        return (self.weights(shape, top).torch(x),)

    def onnx(self, graph, x, *like):
        shape = graph.shape(x)
        top = self.top_shapes(shape, *map(graph.shape, like))[0]
        if self.type_ != "NEAREST":
            return (self.weights(shape, top).onnx(graph, x),)
        for axis, cells in enumerate(self.cells(shape, top), 2):
            x = graph.op("Gather", x, graph.constant(cells, np.int64, "cells"), axis=axis)
        return (x,)


@register
class Downsample(_Resizing):
    """N x C x H x W resized by triangles as wide as the step, NaN left out (flownet2's downsample_layer).

    Corners on corners; where the cells that are NaN weigh more than half of the others, so is the sample.
    """

    type = "Downsample"
    pack = "flow"
    param = ("downsample_param",)

    top_height: int = 0
    top_width: int = 0

    def top_shapes(self, x, *like):
        top = self.sized({"top_height": self.top_height, "top_width": self.top_width}, x, *like)
        if top != x and min(*x[2:], *top[2:]) < 2:
            raise Misfit(f"{show(x)} to {show(top)}", "extents of 2 or more: the fork divides by one less", "bottom")
        return (top,)

    def weights(self, x, top) -> Weights:
        """What each sample takes of each row and column, not over its sum."""
        return Weights(*(self._matrix(n, out) for n, out in zip(x[2:], top[2:], strict=True)))

    @staticmethod
    def _matrix(length: int, out: int) -> np.ndarray:
        last, end = np.float32(length - 1), np.float32(out - 1)
        places = np.arange(out, dtype=np.float32) / end * last
        distance = np.abs(np.arange(length, dtype=np.float32) - places[:, None])
        return np.maximum(0, np.float32(1) - distance / (last / end)).astype(np.float64)

    def reference(self, blobs, x, *like):
        top = self.top_shapes(x.shape, *(b.shape for b in like))[0]
        if top == x.shape:
            return (x.copy(),)
        weights, missing = self.weights(x.shape, top), np.isnan(x)
        total, weight, lost = map(weights.numpy, (np.where(missing, 0, x), ~missing * 1.0, missing * 1.0))
        with np.errstate(invalid="ignore", divide="ignore"):
            return (np.where(lost / weight > 0.5, np.nan, total / weight),)

    def forward(self, module, x, *like):
        shape = tuple(x.shape)
        top = self.top_shapes(shape, *(tuple(b.shape) for b in like))[0]
        if top == shape:
            return (x,)
        weights, missing = self.weights(shape, top), x.isnan()
        total, weight, lost = map(weights.torch, (torch.where(missing, 0, x), (~missing).to(x), missing.to(x)))
        return (torch.where(lost / weight > 0.5, torch.nan, total / weight),)

    def onnx(self, graph, x, *like):
        shape = graph.shape(x)
        top = self.top_shapes(shape, *map(graph.shape, like))[0]
        if top == shape:
            return (x,)
        weights, missing = self.weights(shape, top), graph.op("IsNaN", x)
        kept, lost = graph.op("Cast", graph.op("Not", missing), to=1), graph.op("Cast", missing, to=1)
        sums = (weights.onnx(graph, v) for v in (graph.op("Where", missing, graph.constant(0.0), x), kept, lost))
        total, weight, lost = sums
        mostly = graph.op("Greater", graph.op("Div", lost, weight), graph.constant(0.5))
        return (graph.op("Where", mostly, graph.constant(np.nan), graph.op("Div", total, weight)),)
