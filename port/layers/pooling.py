"""Pooling: maximum, average or random choice over windows; the number of windows rounds up."""

from __future__ import annotations

from math import ceil, prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .base import FLT_MAX, FLT_MIN, Layer, Misfit, register
from .spatial import end_pad, offsets, padded, per_axis, require, require_reach, same_pads, window

Sides = tuple[int, ...]


def pool_extent(
    length: int, kernel: int, stride: int, pad: int, clip: bool, floor: bool, tail: int | None = None
) -> int:
    """Number of windows along one axis; `clip`: some axis is padded, so no window may start in the end pad.

    `tail`: the end pad where it is not `pad`.
    """
    ratio = float(np.float32(length + pad + (pad if tail is None else tail) - kernel) / np.float32(stride))
    out = int(np.floor(ratio) if floor else ceil(ratio)) + 1
    return out - 1 if clip and (out - 1) * stride >= length + pad else out


def divisors(length: int, out: int, kernel: int, stride: int, pad: int, tail: int, inside: bool) -> np.ndarray:
    """Cells that each average window counts: those up to the padded border, or only those inside the map."""
    start = np.arange(out) * stride - pad
    if inside:
        return np.minimum(start + kernel, length) - np.maximum(start, 0)
    return np.minimum(start + kernel, length + tail) - start


def average_onnx(graph: Any, x: str, kernel: Sides, stride: Sides, pad: Sides, divisor: np.ndarray) -> str:
    """ONNX's average of windows over the last axes, each sum divided by its own divisor."""
    lengths = graph.shape(x)[2:]
    if any(p >= k for p, k in zip(pad, kernel, strict=True)):
        found = f"pads of {', '.join(map(str, pad))} before a map with kernel {', '.join(map(str, kernel))}"
        raise Misfit(found, "a pad below the kernel: ONNX Runtime takes no other", "pad")
    # windows beyond the map have no cell, and come as 0, or 0 / 0
    seen = tuple(min(o, -(-(n + p) // s)) for o, n, p, s in zip(divisor.shape, lengths, pad, stride, strict=True))
    ends = map(end_pad, lengths, seen, kernel, stride, pad)
    y = graph.op("AveragePool", graph.pad(x, (0, 0, *pad), (0, 0, *ends), 0.0), kernel_shape=kernel, strides=stride)
    beyond = (o - s for o, s in zip(divisor.shape, seen, strict=True))
    y = graph.pad(y, (0,) * (2 + len(kernel)), (0, 0, *beyond), 0.0)
    with np.errstate(divide="ignore"):
        factor = prod(kernel) / divisor
    if not np.isfinite(factor).all():
        y = graph.op("Add", y, graph.constant(np.where(np.isfinite(factor), 0, np.nan)))
    factor = np.where(np.isfinite(factor), factor, 1)
    return y if (factor == 1).all() else graph.op("Mul", y, graph.constant(factor))


_AVERAGES = ("AVE", "AVE_EXC_PAD", "AVE_TF")  # the last two are one value's two names: the padding does not count


@register
class Pooling(Layer):
    """MAX, AVE or STOCHASTIC pooling of an N x C x H x W blob; semantics 1.3 (pooling_layer).

    Forks round down by `ceil_mode: false` or `torch_pooling: true`, pad the four sides on their own (`pad_t`, ...) or
    by `pad_type: 1` as "same", and leave the padding out of an average: AVE_EXC_PAD, AVE_TF, `avg_include_pad: false`.
    """

    type = "Pooling"
    family = "pooling"
    param = ("pooling_param",)
    top_count = (1, 2)

    pool: str = "MAX"
    pad: int | None = None
    pad_h: int | None = None
    pad_w: int | None = None
    kernel_size: int | None = None
    kernel_h: int | None = None
    kernel_w: int | None = None
    stride: int | None = None
    stride_h: int | None = None
    stride_w: int | None = None
    engine: str = "DEFAULT"
    global_pooling: bool = False
    round_mode: str = "CEIL"
    ceil_mode: bool | None = None
    torch_pooling: bool = False
    avg_include_pad: bool = True
    pad_type: int | None = None
    pad_t: int = 0
    pad_b: int = 0
    pad_l: int = 0
    pad_r: int = 0

    @property
    def average(self) -> bool:
        """Whether a window gives the average of its cells."""
        return self.pool in _AVERAGES

    @property
    def floor(self) -> bool:
        """Whether the number of windows rounds down."""
        down = self.round_mode == "FLOOR" or self.torch_pooling
        if self.ceil_mode and down:
            raise Misfit("ceil_mode true beside a field that rounds down", "one of them", "ceil_mode")
        return down or self.ceil_mode is False

    def sizes(self, x):
        """kernel, stride and the pads before and after, as the fields say; raises Misfit as Caffe's CHECKs do."""
        stride = per_axis("stride", self.stride, self.stride_h, self.stride_w, 2, 1)
        require("stride", stride, 1)
        given = self.kernel_size is not None or self.kernel_h is not None or self.kernel_w is not None
        if self.global_pooling:
            if given or any(map(any, self.pads(x, (1, 1), stride))) or self.pad_type or stride != (1, 1):
                raise Misfit("global_pooling with a kernel, a pad or a stride", "none of them", "global_pooling")
            kernel = tuple(x[2:])
        else:
            sides = (self.kernel_h, self.kernel_w)
            if self.kernel_size is not None and None in sides:
                sides = (None, None)  # beside kernel_size Caffe ignores one of the two, and refuses both
            kernel = per_axis("kernel_size", self.kernel_size, *sides, 2, None)
        require("kernel_size", kernel, 1)
        pad, tail = self.pads(x, kernel, stride)
        for each in (pad, tail):
            require("pad", each, 0)
            require_reach(x[2:], kernel, each, (1, 1))
        if any(pad + tail) and self.pool == "STOCHASTIC":
            raise Misfit("a pad with STOCHASTIC pooling", "no pad", "pad")
        return kernel, stride, pad, tail

    def pads(self, x, kernel, stride):
        """The pads before and after the map's rows and columns."""
        pad = per_axis("pad", self.pad, self.pad_h, self.pad_w, 2, 0)
        before, after = (self.pad_t, self.pad_l), (self.pad_b, self.pad_r)
        plain = any(p is not None for p in (self.pad, self.pad_h, self.pad_w))
        if plain + any(before + after) + (self.pad_type is not None) > 1:
            raise Misfit("two of pad, pad_t to pad_r and pad_type", "one of them", "pad")
        if self.pad_type not in (None, 0, 1):
            raise Misfit(f"pad_type {self.pad_type}", "0 (none), or 1 (as many windows as strides)", "pad_type")
        if self.pad_type:
            first, second = map(same_pads, x[2:], kernel, stride)
            return (first[0], second[0]), (first[1], second[1])
        if any(p >= k for p, k in zip(pad, kernel, strict=True)) and any(pad):
            found = f"pad {pad[0]}, {pad[1]} with kernel {kernel[0]}, {kernel[1]}"
            raise Misfit(found, "a pad below the kernel", "pad")
        return (before, after) if any(before + after) else (pad, pad)

    def windows(self, x):
        """kernel, stride, pad before, pad after and output extents for an input shape; raises Misfit as Caffe does."""
        if len(x) != 4:
            raise Misfit(f"an input with {len(x)} axes", "4 axes: N, C, H, W", "bottom")
        if self.pool not in ("MAX", "STOCHASTIC") and not self.average:
            raise Misfit(f"pool {self.pool}", f"MAX, STOCHASTIC, {', '.join(_AVERAGES)}", "pool")
        if self.at.tops == 2 and self.pool != "MAX":
            raise Misfit(f"a second top with {self.pool} pooling", "one top (the mask is MAX pooling's)", "top")
        kernel, stride, pad, tail = self.sizes(x)
        clip, floor = any(pad + tail) and not self.pad_type, self.floor
        if self.pad_type:
            out = tuple(-(-n // s) for n, s in zip(x[2:], stride, strict=True))
        else:
            axes = zip(x[2:], kernel, stride, pad, tail, strict=True)
            out = tuple(pool_extent(n, k, s, p, clip, floor, t) for n, k, s, p, t in axes)
        if any(o < 1 for o in out):
            raise Misfit(f"an input of {x[2]}x{x[3]}, smaller than the window", "a larger input", "kernel_size")
        # a window that starts beyond the map is empty wherever it starts: no need to pad as far as that
        stride = tuple(min(s, n + p + 1) for s, n, p in zip(stride, x[2:], pad, strict=True))
        # nor does a window end anywhere that is farther than the padding
        if kernel[0] > x[2] or kernel[1] > x[3]:
            kernel = tuple(min(k, max(n + p + t, 1)) for k, n, p, t in zip(kernel, x[2:], pad, tail, strict=True))
        return kernel, stride, pad, tail, out

    def buffers(self, x):
        """A padded copy; of a random choice all windows."""
        kernel, _, pad, _, out = self.windows(x)
        wide = [n + p + e for n, p, e in zip(x[2:], pad, self.ends(x), strict=True)]
        seen = prod(kernel) * prod(out) if self.pool == "STOCHASTIC" else 0
        return prod(x[:2]) * (2 * prod(wide) + 2 * seen)

    def top_shapes(self, x):
        *_, out = self.windows(x)
        return ((*x[:2], *out),) * self.at.tops

    def ends(self, x):
        kernel, stride, pad, _, out = self.windows(x)
        return tuple(map(end_pad, x[2:], out, kernel, stride, pad))

    def divisor(self, x) -> np.ndarray:
        """Divisor of every average window, H' x W'."""
        kernel, stride, pad, tail, out = self.windows(x)
        inside = (self.pool != "AVE" or not self.avg_include_pad,) * 2
        high, wide = map(divisors, x[2:], out, kernel, stride, pad, tail, inside)
        return np.outer(high, wide).astype(np.float64)

    def reference(self, blobs, x):
        kernel, stride, pad, _, out = self.windows(x.shape)
        if self.pool == "STOCHASTIC":
            return (self._stochastic_reference(x, kernel, stride, out),)
        cells = padded(x, pad, self.ends(x.shape), 0.0 if self.average else -FLT_MAX)
        if self.average:
            total = sum(cells[(..., *window(at, out, stride, (1, 1)))] for at in offsets(kernel))
            with np.errstate(invalid="ignore", divide="ignore"):
                return (total / self.divisor(x.shape),)
        best = np.full((*x.shape[:2], *out), -FLT_MAX)
        where = np.full(best.shape, -1.0)
        index = padded(np.arange(float(prod(x.shape[2:]))).reshape(x.shape[2:]), pad, self.ends(x.shape), -1.0)
        for at in offsets(kernel):
            seen = window(at, out, stride, (1, 1))
            higher = cells[(..., *seen)] > best
            best = np.where(higher, cells[(..., *seen)], best)
            where = np.where(higher, index[seen], where)
        return (best, where)[: self.at.tops]

    def _stochastic_reference(self, x, kernel, stride, out):
        if self.train:
            raise Misfit("STOCHASTIC pooling in TRAIN phase", "a draw that no reference can repeat", "pool")
        cells = padded(x, (0, 0), self.ends(x.shape))
        seen = [cells[(..., *window(at, out, stride, (1, 1)))] for at in offsets(kernel)]
        return sum(c * c for c in seen) / (sum(seen) + FLT_MIN)

    def forward(self, module, x):
        kernel, stride, pad, *_ = self.windows(tuple(x.shape))
        if self.pool == "STOCHASTIC":
            return (self._stochastic(x, kernel, stride),)
        ends = self.ends(tuple(x.shape))
        sides = [pad[1], ends[1], pad[0], ends[0]]
        if self.average:
            if kernel == tuple(x.shape[2:]) and not any(sides):
                return (x.mean((2, 3), keepdim=True),)
            y = F.avg_pool2d(F.pad(x, sides) if any(sides) else x, kernel, stride, divisor_override=1)
            return (y / torch.from_numpy(self.divisor(tuple(x.shape))).to(y),)
        # Caffe starts from -FLT_MAX and takes only what is greater: NaN and -inf never win
        cells = torch.nan_to_num(x, nan=-FLT_MAX, posinf=float("inf"), neginf=-FLT_MAX)
        cells = F.pad(cells, sides, value=-FLT_MAX) if any(sides) else cells
        if self.at.tops == 1:
            return (F.max_pool2d(cells, kernel, stride),)
        y, index = F.max_pool2d(cells, kernel, stride, return_indices=True)
        width = cells.shape[3]
        row, column = index // width - pad[0], index % width - pad[1]
        # -1 where nothing won: no cell of the map, or nothing but NaN and -inf
        return y, torch.where(y > -FLT_MAX, row * x.shape[3] + column, -1).to(x.dtype)

    def _stochastic(self, x, kernel, stride):
        ends = self.ends(tuple(x.shape))
        x = F.pad(x, [0, ends[1], 0, ends[0]])
        windows = x.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1]).flatten(-2)
        if not self.train:
            return windows.square().sum(-1) / (windows.sum(-1) + FLT_MIN)
        running = windows.detach().cumsum(-1)
        draw = torch.rand_like(running[..., :1]) * running[..., -1:]
        chosen = (running >= draw).to(torch.uint8).argmax(-1, keepdim=True)
        return windows.gather(-1, chosen)[..., 0]

    def onnx(self, graph, x):
        shape = graph.shape(x)
        kernel, stride, pad, *_ = self.windows(shape)
        ends = self.ends(shape)
        if self.pool == "STOCHASTIC":
            return (self._stochastic_onnx(graph, x, kernel, stride, ends),)
        if self.average:
            if kernel == shape[2:] and not any((*pad, *ends)):
                return (graph.op("GlobalAveragePool", x),)
            return (average_onnx(graph, x, kernel, stride, pad, self.divisor(shape)),)
        native = self.at.tops == 1 and all(p < k and e < k for p, e, k in zip(pad, ends, kernel, strict=True))
        if not native:  # a window with no cell of the image, or a mask counted in image coordinates
            return self._max_onnx(graph, x, kernel, stride, pad, ends)
        return (graph.op("MaxPool", x, kernel_shape=kernel, strides=stride, pads=(*pad, *ends)),)

    def _max_onnx(self, graph, x, kernel, stride, pad, ends):
        cells = graph.pad(x, (0, 0, *pad), (0, 0, *ends), -FLT_MAX)
        if self.at.tops == 1:
            return (graph.op("MaxPool", cells, kernel_shape=kernel, strides=stride),)
        y, flat = graph.op("MaxPool", cells, kernel_shape=kernel, strides=stride, outputs=2)
        _, _, high, wide = graph.shape(x)
        width = wide + pad[1] + ends[1]
        plane = (high + pad[0] + ends[0]) * width
        # where a cell of the padded plane stands in the map: -1 in the padding, as for a window without cells
        place = np.full((plane // width, width), -1.0)
        place[pad[0] : pad[0] + high, pad[1] : pad[1] + wide] = np.arange(high * wide).reshape(high, wide)
        cell = graph.op("Mod", flat, graph.constant(plane, np.int64))  # ONNX counts through all planes
        return y, graph.op("Gather", graph.constant(place.reshape(-1)), cell, axis=0)

    def _stochastic_onnx(self, graph, x, kernel, stride, ends):
        if self.train:
            raise Misfit("STOCHASTIC pooling in TRAIN phase", "TEST phase: ONNX draws nothing", "pool")
        x = graph.pad(x, (0, 0, 0, 0), (0, 0, *ends), 0.0)
        total = graph.op("AveragePool", x, kernel_shape=kernel, strides=stride)
        squares = graph.op("AveragePool", graph.op("Mul", x, x), kernel_shape=kernel, strides=stride)
        return graph.op("Div", squares, graph.op("Add", total, graph.constant(FLT_MIN / prod(kernel))))

    def window(self, bottom):
        kernel, stride, *_ = self.windows(bottom)
        return kernel[0], stride[0]
