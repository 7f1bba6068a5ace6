"""Window arithmetic that convolution, pooling and im2col share: fields per axis and output extents."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from .base import Misfit

INT_MAX = 2**31 - 1


def _many(value: Any) -> tuple[int, ...]:
    """A field as a tuple, whether its dialect has it once (fork) or repeated (BVLC)."""
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)


def per_axis(
    name: str, value: Any, h: int | None, w: int | None, axes: int, default: int | None, alone: bool = False
) -> tuple[int, ...]:
    """One number per spatial axis from `name` or `name_h` and `name_w` (Caffe: base_conv_layer, LayerSetUp).

    `alone`: one of the two may be missing, which makes it 0.
    """
    values = _many(value)
    if h is not None or w is not None:
        if values:
            raise Misfit(f"both {name} and a per-axis form", f"{name}, or _h and _w", name)
        if axes != 2:
            raise Misfit(f"a form for height and width on {axes} spatial axes", f"{name}", name)
        if h is None or w is None:
            if not alone:
                raise Misfit(f"only one of the height and width forms of {name}", "both", name)
            h, w = h or 0, w or 0
        return (h, w)
    if not values:
        if default is None:
            raise Misfit(f"no {name}", "a size above 0", name)
        return (default,) * axes
    if len(values) == 1:
        return values * axes
    if len(values) != axes:
        raise Misfit(f"{len(values)} values of {name}", f"1 or {axes}, one per spatial axis", name)
    return values


def require(name: str, values: tuple[int, ...], least: int) -> None:
    """Raise Misfit for a value below `least`, or one that Caffe's int does not hold."""
    if min(values, default=least) < least:
        raise Misfit(f"{name} {', '.join(map(str, values))}", f"{least} or more", name)
    if max(values, default=0) > INT_MAX:
        raise Misfit(f"{name} {', '.join(map(str, values))}", f"{INT_MAX} at most", name)


def require_reach(
    lengths: tuple[int, ...], kernel: tuple[int, ...], pad: tuple[int, ...], dilation: tuple[int, ...]
) -> None:
    """Raise Misfit where a padded input, or a dilated kernel, has more cells along an axis than Caffe's int holds."""
    if not kernel or (max(lengths) + 2 * max(pad) <= INT_MAX and max(dilation) * max(kernel) < INT_MAX):
        return  # as always
    for n, k, p, d in zip(lengths, kernel, pad, dilation, strict=True):
        if n + 2 * p > INT_MAX:
            raise Misfit(f"pad {p}, which makes an extent of {n + 2 * p}", f"{INT_MAX} at most", "pad")
        if d * (k - 1) >= INT_MAX:
            raise Misfit(f"dilation {d} of a kernel of {k}: {d * (k - 1) + 1} cells", f"{INT_MAX} at most", "dilation")


def telling(
    most: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Stride, `most` where it is more and so never taken, and dilation, 1 where a kernel of 1 has none: small numbers
    that mean the same."""
    if 1 in kernel:
        dilation = tuple(1 if k == 1 else d for k, d in zip(kernel, dilation, strict=True))
    return tuple(map(min, stride, most)), dilation


def trunc_div(a: int, b: int) -> int:
    """Integer division as C does it, toward zero."""
    return abs(a) // b * (1 if a >= 0 else -1)


def conv_extent(length: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """Output extent of a convolution along one axis (C division: a kernel slightly too large still fits once)."""
    return trunc_div(length + 2 * pad - (dilation * (kernel - 1) + 1), stride) + 1


def end_pad(length: int, out: int, kernel: int, stride: int, pad: int, dilation: int = 1) -> int:
    """Cells that the last window needs beyond the end of the input (never negative)."""
    return max(0, (out - 1) * stride + dilation * (kernel - 1) + 1 - length - pad)


def same_pads(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pads before and after an axis with which there are ceil(length / stride) windows, the odd cell after."""
    pad = max(kernel - (length % stride or stride), 0)
    return pad // 2, pad - pad // 2


def offsets(kernel: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """All positions inside a window, in row-major order."""
    return product(*(range(k) for k in kernel))


def window(
    position: tuple[int, ...], out: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple:
    """Index of the cells that all windows see at one position inside them."""
    return tuple(
        slice(p * d, p * d + (o - 1) * s + 1, s) for p, o, s, d in zip(position, out, stride, dilation, strict=True)
    )


def padded(x: np.ndarray, before: tuple[int, ...], after: tuple[int, ...], value: float = 0.0) -> np.ndarray:
    """A copy of x with its last axes padded."""
    spec = [(0, 0)] * (x.ndim - len(before)) + list(zip(before, after, strict=True))
    return np.pad(x, spec, constant_values=value)
