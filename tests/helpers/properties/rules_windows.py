"""Layers with windows, one output cell at a time (semantics 1.1 to 1.3, 1.19 to 1.21)."""

from __future__ import annotations

import math

import numpy as np

from .rules import FLT_MAX, FLT_MIN, Setting, axis_of, check, clear, count, places, rule


def truncated(a: int, b: int) -> int:
    """C's integer division."""
    return math.trunc(a / b)


def one_form(p, name: str, axes: int, srn: bool) -> list[int]:
    """kernel_size, pad or stride of a convolution, one for each spatial axis; which forms may stand together."""
    # kernel_size, but kernel_h and kernel_w
    h, w = (name.replace("_size", "") + side for side in ("_h", "_w"))
    default = {"kernel_size": None, "pad": 0, "stride": 1}[name]
    plain = p.many(name)
    if p.has(h) or p.has(w):
        check(not plain, "both forms")
        check(srn or axes == 2)
        if name == "pad" and not srn:
            return [p.get(h, 0), p.get(w, 0)]
        if name == "stride" and not srn:
            clear(p.has(h) and p.has(w), "the missing one is 0, which nothing checks")
        check(p.has(h) and p.has(w), "one alone")
        return [p.get(h), p.get(w)]
    if not plain and default is None:
        check(axes == 0)
    check(len(plain) in (0, 1, axes))
    return plain * (axes if len(plain) == 1 else 1) if plain else [default] * axes


def convolving(s: Setting, bottoms):
    """Channel axis, and kernel, stride, pad, dilation."""
    p = s.given("convolution_param")
    check(len({b.shape for b in bottoms}) == 1)
    rank = bottoms[0].ndim
    check(not s.srn or rank == 4)
    axis = axis_of(p.get("axis", 1), rank)
    axes = rank - axis - 1
    clear(axes <= 3, "more spatial axes than PyTorch has")
    kernel = one_form(p, "kernel_size", axes, s.srn)
    pad, stride = one_form(p, "pad", axes, s.srn), one_form(p, "stride", axes, s.srn)
    dilation = p.many("dilation")
    check(len(dilation) in (0, 1, axes))
    dilation = dilation * (axes if len(dilation) == 1 else 1) if dilation else [1] * axes
    check(all(k > 0 for k in kernel))
    clear(all(v > 0 for v in (*stride, *dilation)))
    return axis, kernel, stride, pad, dilation


def groups(s: Setting, channels: int) -> tuple[int, int]:
    """num_output and group."""
    p = s.given("convolution_param")
    outputs, group = p.get("num_output", 0), p.get("group", 1)
    check(outputs > 0)
    clear(group > 0)
    check(channels % group == 0 and outputs % group == 0)
    return outputs, group


def extents(lengths, kernel, stride, pad, dilation) -> list[int]:
    out = [
        truncated(n + 2 * p - (d * (k - 1) + 1), s) + 1
        for n, k, s, p, d in zip(lengths, kernel, stride, pad, dilation, strict=True)
    ]
    check(all(o >= 0 for o in out))
    clear(all(out), "an empty top")
    return out


def cell(x: np.ndarray, at) -> np.ndarray:
    """x[:, :, at], zeros outside."""
    if all(0 <= a < n for a, n in zip(at, x.shape[2:], strict=True)):
        return x[(slice(None), slice(None), *at)]
    return np.zeros(x.shape[:2])


@rule("Convolution")
def convolution(s: Setting, *bottoms):
    check(len(bottoms) == s.tops)
    axis, kernel, stride, pad, dilation = convolving(s, bottoms)
    lead, channels, lengths = bottoms[0].shape[:axis], bottoms[0].shape[axis], bottoms[0].shape[axis + 1 :]
    outputs, group = groups(s, channels)
    out = extents(lengths, kernel, stride, pad, dilation)
    weight = s.blob(outputs, channels // group, *kernel)
    bias = s.blob(outputs) if s.given("convolution_param").get("bias_term", True) else np.zeros(outputs)
    tops = []
    for bottom in bottoms:
        x = bottom.reshape(count(lead), channels, *lengths)
        y = np.zeros((count(lead), outputs, *out))
        for at in places(out):
            for k in places(kernel):
                source = [a * s_ - p + i * d for a, s_, p, i, d in zip(at, stride, pad, k, dilation, strict=True)]
                seen = cell(x, source)
                for o in range(outputs):
                    g = o // (outputs // group)
                    part = seen[:, g * (channels // group) : (g + 1) * (channels // group)]
                    y[(slice(None), o, *at)] += part @ weight[(o, slice(None), *k)]
        y += bias.reshape(-1, *[1] * len(out))
        tops.append(y.reshape(*lead, outputs, *out))
    return tops


@rule("Deconvolution")
def deconvolution(s: Setting, *bottoms):
    check(len(bottoms) == s.tops)
    axis, kernel, stride, pad, dilation = convolving(s, bottoms)
    lead, channels, lengths = bottoms[0].shape[:axis], bottoms[0].shape[axis], bottoms[0].shape[axis + 1 :]
    outputs, group = groups(s, channels)
    out = [
        s_ * (n - 1) + d * (k - 1) + 1 - 2 * p
        for n, k, s_, p, d in zip(lengths, kernel, stride, pad, dilation, strict=True)
    ]
    check(all(o >= 0 for o in out))
    clear(all(out))
    weight = s.blob(channels, outputs // group, *kernel)
    bias = s.blob(outputs) if s.given("convolution_param").get("bias_term", True) else np.zeros(outputs)
    tops = []
    for bottom in bottoms:
        x = bottom.reshape(count(lead), channels, *lengths)
        y = np.zeros((count(lead), outputs, *out))
        for at in places(lengths):
            for k in places(kernel):
                target = [a * s_ - p + i * d for a, s_, p, i, d in zip(at, stride, pad, k, dilation, strict=True)]
                if not all(0 <= t < o for t, o in zip(target, out, strict=True)):
                    continue
                for c in range(channels):
                    first = c // (channels // group) * (outputs // group)
                    rows = slice(first, first + outputs // group)
                    y[(slice(None), rows, *target)] += np.outer(x[(slice(None), c, *at)], weight[(c, slice(None), *k)])
        y += bias.reshape(-1, *[1] * len(out))
        tops.append(y.reshape(*lead, outputs, *out))
    return tops


@rule("Im2col")
def im2col(s: Setting, *bottoms):
    clear(len(bottoms) == 1 and s.tops == 1)
    axis, kernel, stride, pad, dilation = convolving(s, bottoms)
    lead, channels, lengths = bottoms[0].shape[:axis], bottoms[0].shape[axis], bottoms[0].shape[axis + 1 :]
    out = extents(lengths, kernel, stride, pad, dilation)
    x = bottoms[0].reshape(count(lead), channels, *lengths)
    y = np.zeros((count(lead), channels, count(kernel), *out))
    for at in places(out):
        for number, k in enumerate(places(kernel)):
            source = [a * s_ - p + i * d for a, s_, p, i, d in zip(at, stride, pad, k, dilation, strict=True)]
            y[(slice(None), slice(None), number, *at)] = cell(x, source)
    return [y.reshape(*lead, channels * count(kernel), *out)]


def pooling_sizes(s: Setting, p, high: int, wide: int):
    """kernel, stride and pad of a Pooling layer."""
    if p.get("global_pooling", False):
        check(not any(map(p.has, ("kernel_size", "kernel_h", "kernel_w"))))
        kernel = [high, wide]
    else:
        check(p.has("kernel_size") != (p.has("kernel_h") and p.has("kernel_w")))
        kernel = [p.get("kernel_size")] * 2 if p.has("kernel_size") else [p.get("kernel_h"), p.get("kernel_w")]
    sizes = []
    for name, default in (("stride", 1), ("pad", 0)):
        h, w = name + "_h", name + "_w"
        check((not p.has(name) and p.has(h) and p.has(w)) or (not p.has(h) and not p.has(w)))
        sizes.append([p.get(h), p.get(w)] if p.has(h) else [p.get(name, default)] * 2)
    stride, pad = sizes
    check(not p.get("global_pooling", False) or (stride == [1, 1] and pad == [0, 0]))
    clear(all(k > 0 for k in (*kernel, *stride)))
    if any(pad):
        check(p.get("pool", "MAX") in ("MAX", "AVE"))
        check(all(q < k for q, k in zip(pad, kernel, strict=True)))
    return kernel, stride, pad


def pooled(x: np.ndarray, method: str, kernel, stride, pad, rounding: str = "CEIL"):
    """The pooled map and, for MAX, where each maximum stands."""
    out = []
    for n, k, s, p in zip(x.shape[2:], kernel, stride, pad, strict=True):
        windows = (n + 2 * p - k) / s
        out.append(int(math.ceil(windows) if rounding == "CEIL" else math.floor(windows)) + 1)
    if any(pad):
        for i in range(2):
            if (out[i] - 1) * stride[i] >= x.shape[2 + i] + pad[i]:
                out[i] -= 1
    check(all(o >= 0 for o in out))
    clear(all(out), "an empty top")
    top, mask = np.zeros((*x.shape[:2], *out)), np.zeros((*x.shape[:2], *out))
    high, wide = x.shape[2:]
    for n, c, i, j in places(top.shape):
        h0, w0 = i * stride[0] - pad[0], j * stride[1] - pad[1]
        h1, w1 = min(h0 + kernel[0], high + pad[0]), min(w0 + kernel[1], wide + pad[1])
        size = (h1 - h0) * (w1 - w0)
        cells = [
            (float(x[n, c, h, w]), h * wide + w)
            for h in range(max(h0, 0), min(h1, high))
            for w in range(max(w0, 0), min(w1, wide))
        ]
        if method == "MAX":
            best, where = -FLT_MAX, -1
            for value, index in cells:
                if value > best:
                    best, where = value, index
            top[n, c, i, j], mask[n, c, i, j] = best, where
        elif method == "AVE":
            top[n, c, i, j] = sum(v for v, _ in cells) / size if size else np.nan
        else:
            top[n, c, i, j] = sum(v * v for v, _ in cells) / (sum(v for v, _ in cells) + FLT_MIN)
    return top, mask


@rule("Pooling")
def pooling(s: Setting, x):
    p = s.given("pooling_param")
    check(x.ndim == 4)
    method = p.get("pool", "MAX")
    check(s.tops == 1 or method == "MAX")
    sizes = pooling_sizes(s, p, *x.shape[2:])
    return list(pooled(x, method, *sizes, p.get("round_mode", "CEIL")))[: s.tops]


@rule("SPP")
def spp(s: Setting, x):
    p = s.given("spp_param")
    height = p.get("pyramid_height", 0)
    check(x.ndim == 4)
    clear(height > 0)
    check(not s.srn or height > 1)
    tops = []
    for level in range(height):
        bins = 2**level
        kernel = [math.ceil(n / bins) for n in x.shape[2:]]
        pad = [math.floor((k * bins - n + 1) / 2) for k, n in zip(kernel, x.shape[2:], strict=True)]
        if any(pad):
            check(all(q < k for q, k in zip(pad, kernel, strict=True)))
        tops.append(pooled(x, p.get("pool", "MAX"), kernel, kernel, pad)[0])
    return tops if height == 1 else [np.concatenate([t.reshape(len(t), -1) for t in tops], 1)]


@rule("ROIPooling")
def roi_pooling(s: Setting, x, rois):
    p = s.given("roi_pooling_param")
    size, scale = [p.get("pooled_h", 0), p.get("pooled_w", 0)], np.float32(p.get("spatial_scale", 1.0))
    check(all(size))
    clear(x.ndim == 4 and count(rois.shape[1:]) == 5)
    clear(all(row[0] < len(x) for row in rois.reshape(len(rois), 5)))
    top = np.zeros((len(rois), x.shape[1], *size))

    def rounded(v) -> int:  # halves away from zero
        scaled = float(np.float32(v) * scale)
        return math.floor(abs(scaled) + 0.5) * (1 if scaled >= 0 else -1)

    for r, row in enumerate(rois.reshape(len(rois), 5)):
        x1, y1, x2, y2 = map(rounded, row[1:])
        starts, lengths = (y1, x1), (max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1))
        for c, i, j in places(top.shape[1:]):
            low, high = [], []
            for at, axis in ((i, 0), (j, 1)):
                b = np.float32(lengths[axis]) / np.float32(size[axis])
                extent = x.shape[2 + axis]
                low.append(min(max(math.floor(np.float32(at) * b) + starts[axis], 0), extent))
                high.append(min(max(math.ceil(np.float32(at + 1) * b) + starts[axis], 0), extent))
            cells = x[int(row[0]), c, low[0] : high[0], low[1] : high[1]]
            top[r, c, i, j] = cells.max() if low[0] < high[0] and low[1] < high[1] else 0
    return [top]
