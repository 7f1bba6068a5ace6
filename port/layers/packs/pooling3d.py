"""Pooling over time, height and width: Pooling3D as synopsys and C3D mean it."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..base import FLT_MAX, Layer, Misfit, register
from ..pooling import average_onnx, divisors, pool_extent
from ..spatial import end_pad, offsets, padded, per_axis, require, require_reach, window

_ONES = (1, 1, 1)


class _Volumes(Layer):
    """MAX or average over the windows of an N x C x L x H x W blob."""

    type = "Pooling3D"
    family = "pooling"

    pool: str = "MAX"

    def sizes(self, x) -> tuple[tuple[int, ...], ...]:
        """kernel, stride, pads before and pads after, 3 numbers each."""
        raise NotImplementedError

    def extents(self, x, kernel, stride, pad, tail) -> tuple[int, ...]:
        """How many windows there are along every axis."""
        raise NotImplementedError

    def windows(self, x):
        """kernel, stride, pad before, pad after and output extents; raises Misfit for what makes no window."""
        if len(x) != 5:
            raise Misfit(f"an input with {len(x)} axes", "5 axes: N, C, time, H, W", "bottom")
        kernel, stride, pad, tail = self.sizes(x)
        require("kernel_size", kernel, 1)
        require("stride", stride, 1)
        for each in (pad, tail):
            require("pad", each, 0)
            require_reach(x[2:], kernel, each, _ONES)
        out = self.extents(x[2:], kernel, stride, pad, tail)
        if any(o < 1 for o in out):
            raise Misfit(f"an input of {x[2]}x{x[3]}x{x[4]}, smaller than the window", "a larger input", "kernel_size")
        # no window ends farther than the padding, and one that starts beyond it is empty wherever it does
        wide = tuple(n + p + t for n, p, t in zip(x[2:], pad, tail, strict=True))
        kernel = tuple(min(k, max(w, 1)) for k, w in zip(kernel, wide, strict=True))
        return kernel, tuple(min(s, w + 1) for s, w in zip(stride, wide, strict=True)), pad, tail, out

    def buffers(self, x):
        """A padded copy."""
        _, _, pad, _, _ = self.windows(x)
        wide = (n + p + e for n, p, e in zip(x[2:], pad, self.ends(x), strict=True))
        return 2 * prod(x[:2]) * prod(wide)

    def top_shapes(self, x):
        return ((*x[:2], *self.windows(x)[-1]),)

    def ends(self, x) -> tuple[int, ...]:
        """Cells that the last windows need beyond the end of the input."""
        kernel, stride, pad, _, out = self.windows(x)
        return tuple(map(end_pad, x[2:], out, kernel, stride, pad))

    def divisor(self, x) -> np.ndarray:
        """Divisor of every average window, L' x H' x W'."""
        kernel, stride, pad, tail, out = self.windows(x)
        inside = (self.pool == "AVE_EXC_PAD",) * 3
        first, second, third = map(divisors, x[2:], out, kernel, stride, pad, tail, inside)
        return np.einsum("i,j,k->ijk", first, second, third).astype(np.float64)

    def reference(self, blobs, x):
        kernel, stride, pad, _, out = self.windows(x.shape)
        cells = padded(x, pad, self.ends(x.shape), -FLT_MAX if self.pool == "MAX" else 0.0)
        seen = (cells[(..., *window(at, out, stride, _ONES))] for at in offsets(kernel))
        if self.pool != "MAX":
            with np.errstate(invalid="ignore", divide="ignore"):
                return (sum(seen) / self.divisor(x.shape),)
        best = np.full((*x.shape[:2], *out), -FLT_MAX)
        for each in seen:
            best = np.where(each > best, each, best)
        return (best,)

    def laid_out(self, x: torch.Tensor, value: float) -> torch.Tensor:
        """The cells that windows look at, padding included."""
        _, _, pad, _, _ = self.windows(tuple(x.shape))
        ends = self.ends(tuple(x.shape))
        return F.pad(x, [n for p, e in zip(pad[::-1], ends[::-1], strict=True) for n in (p, e)], value=value)

    def highest(self, cells: torch.Tensor, kernel, stride) -> torch.Tensor:
        """The maximum of every window; the first of equal values gets the gradient."""
        return F.max_pool3d(cells, kernel, stride)

    def forward(self, module, x):
        kernel, stride, *_ = self.windows(tuple(x.shape))
        if self.pool != "MAX":
            total = F.avg_pool3d(self.laid_out(x, 0.0), kernel, stride, divisor_override=1)
            return (total / torch.from_numpy(self.divisor(tuple(x.shape))).to(total),)
        # NaN and -inf never win against the -FLT_MAX that Caffe starts from
        cells = torch.nan_to_num(x, nan=-FLT_MAX, posinf=float("inf"), neginf=-FLT_MAX)
        return (self.highest(self.laid_out(cells, -FLT_MAX), kernel, stride),)

    def onnx(self, graph, x):
        kernel, stride, pad, *_ = self.windows(graph.shape(x))
        if self.pool != "MAX":
            return (average_onnx(graph, x, kernel, stride, pad, self.divisor(graph.shape(x))),)
        cells = graph.pad(x, (0, 0, *pad), (0, 0, *self.ends(graph.shape(x))), -FLT_MAX)
        return (graph.op("MaxPool", cells, kernel_shape=kernel, strides=stride),)

    def window(self, bottom):
        kernel, stride, *_ = self.windows(bottom)
        return kernel[0], stride[0]


@register
class Pooling3D(_Volumes):
    """MAX, AVE or AVE_EXC_PAD pooling with a pad for each of the six sides; synopsys's pooling3d_layer."""

    pack = "synopsys"
    param = ("pooling3d_param",)

    kernel_size: int | None = None
    kernel_d: int | None = None
    kernel_h: int | None = None
    kernel_w: int | None = None
    stride: int | None = None
    stride_d: int | None = None
    stride_h: int | None = None
    stride_w: int | None = None
    pad: int | None = None
    pad_d0: int = 0
    pad_d1: int = 0
    pad_h0: int = 0
    pad_h1: int = 0
    pad_w0: int = 0
    pad_w1: int = 0
    global_pooling: bool = False
    ceil_mode: bool = False

    def sizes(self, x):
        if self.pool not in ("MAX", "AVE", "AVE_EXC_PAD"):
            raise Misfit(f"pool {self.pool}", "MAX, AVE or AVE_EXC_PAD", "pool")
        before, after = (self.pad_d0, self.pad_h0, self.pad_w0), (self.pad_d1, self.pad_h1, self.pad_w1)
        if self.pad is not None:
            if any(before + after):
                raise Misfit("both pad and pads of single sides", "one of them", "pad")
            before = after = (self.pad,) * 3
        sides = (self.kernel_d, self.kernel_h, self.kernel_w)
        if self.global_pooling and (self.kernel_size is not None or any(side is not None for side in sides)):
            raise Misfit("global_pooling with a kernel", "none", "global_pooling")
        kernel = tuple(x[2:]) if self.global_pooling else _three("kernel_size", self.kernel_size, sides, None)
        return kernel, _three("stride", self.stride, (self.stride_d, self.stride_h, self.stride_w), 1), before, after

    def extents(self, x, kernel, stride, pad, tail):
        clip, floor = any(pad + tail), not self.ceil_mode
        axes = zip(x, kernel, stride, pad, tail, strict=True)
        return tuple(pool_extent(n, k, s, p, clip, floor, t) for n, k, s, p, t in axes)


def _three(name: str, one: int | None, each: tuple[int | None, ...], default: int | None) -> tuple[int, ...]:
    """A size for depth, height and width: one for all, or three; raises Misfit for anything between."""
    given = tuple(value for value in each if value is not None)
    if one is not None and given:
        raise Misfit(f"both {name} and a per-axis form", f"{name}, or all of _d, _h and _w", name)
    if given and len(given) < 3:
        raise Misfit(f"{len(given)} of the three per-axis forms of {name}", "all of _d, _h and _w", name)
    return given or per_axis(name, one, None, None, 3, default)


class _Shared(torch.autograd.Function):
    """The maximum of every window; every cell that equals it gets the whole gradient, as C3D's backward gives it."""

    @staticmethod
    def forward(ctx, cells, kernel, stride):
        top = F.max_pool3d(cells, kernel, stride)
        ctx.windows = kernel, stride
        ctx.save_for_backward(cells, top)
        return top

    @staticmethod
    def backward(ctx, grad):
        (cells, top), (kernel, stride) = ctx.saved_tensors, ctx.windows
        found = torch.zeros_like(cells)
        for at in offsets(kernel):
            seen: Any = (..., *window(at, tuple(top.shape[2:]), stride, _ONES))
            found[seen] += grad * (cells[seen] == top)
        return found, None, None


@register
class C3DPooling3D(_Volumes):
    """MAX or AVE pooling with one size for time and one for height and width; C3D's pool3d_layer.

    The number of windows rounds up, and a last one may lie in the padding. The fields stand in `pooling3d_param`, in
    C3D's first version in `pooling_param`.
    """

    pack = "c3d"
    param = ("pooling3d_param", "pooling_param")

    kernel_size: int | None = None
    kernel_depth: int | None = None
    stride: int = 1
    temporal_stride: int = 1
    pad: int = 0

    @classmethod
    def claims(cls, message, context):
        own = message.pooling3d_param
        return message.HasField("pooling_param") or own.HasField("kernel_depth") or own.HasField("temporal_stride")

    def sizes(self, x):
        if self.pool not in ("MAX", "AVE"):
            raise Misfit(f"pool {self.pool}", "MAX or AVE", "pool")
        if self.kernel_size is None or self.kernel_depth is None:
            raise Misfit("no kernel_size or no kernel_depth", "both", "kernel_size")
        if self.pad and self.pool != "AVE":
            raise Misfit("a pad with MAX pooling", "no pad: C3D has it for AVE only", "pad")
        kernel = (self.kernel_depth, self.kernel_size, self.kernel_size)
        pad = (0, self.pad, self.pad)
        return kernel, (self.temporal_stride, self.stride, self.stride), pad, pad

    def extents(self, x, kernel, stride, pad, tail):
        axes = zip(x, kernel, stride, pad, strict=True)
        return tuple(pool_extent(n, k, s, p, clip=False, floor=False) for n, k, s, p in axes)

    def highest(self, cells, kernel, stride):
        return _Shared.apply(cells, kernel, stride)
