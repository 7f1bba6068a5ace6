"""DomainTransform: scores smoothed along rows and columns, less across edges."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import torch

from ..base import Layer, Misfit, register, show

PASSES = ((3, False), (3, True), (2, False), (2, True))  # axis, and whether it runs back


def mixed(values: list[Any], shares: list[Any], back: bool) -> list[Any]:
    """Every slice moved towards its neighbour's new value by the share between them, from one end to the other."""
    out = list(values)
    places = range(len(values) - 2, -1, -1) if back else range(1, len(values))
    for i in places:
        before, share = (out[i + 1], shares[i + 1]) if back else (out[i - 1], shares[i])
        out[i] = out[i] + share * (before - out[i])
    return out


@register
class DomainTransform(Layer):
    """N x C x H x W filtered num_iter times along rows and columns, there and back; PSPNet's domain_transform_layer.

    Bottom 1, N x 1 x H x W, says how much of an edge there is: a cell's share of its neighbour is exp(-sqrt(2) / sigma
    * (1 + edge * spatial_sigma / range_sigma)), min_weight at least and 1 at most. Bottom 2 has height and width of
    every item, beyond which nothing is changed. The gradient is the derivative, that of the bounds left out, as the
    fork's.
    """

    type = "DomainTransform"
    onnx_note = "no: its sizes differ from item to item"
    pack = "deeplab"
    family = "other"
    param = ("domain_transform_param",)
    bottom_count = (3, 3)
    no_gradient = (2,)
    never_in_place = True

    num_iter: int = 3
    spatial_sigma: float = 50.0
    range_sigma: float = 5.0
    min_weight: float = 0.0

    def top_shapes(self, x, edge, size):
        if len(x) != 4 or edge != (x[0], 1, *x[2:]):
            raise Misfit(f"{show(x)} and edges of {show(edge)}", "N x C x H x W and N x 1 x H x W", "bottom")
        if not size or size[0] != x[0] or int(np.prod(size[1:])) < 2:
            raise Misfit(f"sizes of {show(size)}", f"{x[0]} x 2: height and width of every item", "bottom")
        if self.num_iter < 1 or min(self.spatial_sigma, self.range_sigma) <= 0 or self.min_weight < 0:
            raise Misfit("a number that is not positive", "positive numbers", "domain_transform_param")
        return (x,)

    def sigma(self, i: int) -> float:
        """The width of a round's filter."""
        return self.spatial_sigma * sqrt(3) * 2 ** (self.num_iter - i - 1) / sqrt(4**self.num_iter - 1)

    def sizes(self, size: Any, x: Any) -> list[tuple[int, int]]:
        """Height and width of every item; raises Misfit for one beyond its map."""
        found = [(int(item.flat[0]), int(item.flat[1])) for item in np.asarray(size, np.float64)]
        for high, wide in found:
            if not (0 <= high <= x.shape[2] and 0 <= wide <= x.shape[3]):
                raise Misfit(f"an item of {high}x{wide}", f"at most {x.shape[2]}x{x.shape[3]}", "bottom")
        return found

    def reference(self, blobs, x, edge, size):
        y = x.copy()
        for n, (high, wide) in enumerate(self.sizes(size, x)):
            for i in range(self.num_iter):
                power = -sqrt(2) / self.sigma(i) * (1 + edge[n] * self.spatial_sigma / self.range_sigma)
                share = np.minimum(np.maximum(np.exp(power), self.min_weight), 1.0)
                for axis, back in PASSES:
                    lines = range(wide if axis == 3 else high)
                    part = [np.take(y[n, :, :high, :wide], k, axis - 1) for k in lines]
                    shares = [np.take(share[:, :high, :wide], k, axis - 1) for k in lines]
                    for k, value in enumerate(mixed(part, shares, back)):
                        if axis == 3:
                            y[n, :, :high, k] = value
                        else:
                            y[n, :, k, :wide] = value
        return (y,)

    def forward(self, module, x, edge, size):
        items = []
        for n, (high, wide) in enumerate(self.sizes(size.detach().cpu().numpy(), x)):
            y = x[n, :, :high, :wide]
            for i in range(self.num_iter) if high and wide else ():
                scale = self.spatial_sigma / self.range_sigma
                power = torch.exp(-sqrt(2) / self.sigma(i) * (1 + edge[n, :, :high, :wide] * scale))
                share = _Bounded.apply(power, self.min_weight)
                for axis, back in PASSES:
                    y = torch.stack(mixed(list(y.unbind(axis - 1)), list(share.unbind(axis - 1)), back), axis - 1)
            rows = torch.cat([y, x[n, :, :high, wide:]], 2)
            items.append(torch.cat([rows, x[n, :, high:]], 1))
        return (torch.stack(items) if items else x.clone(),)

    def onnx(self, graph, x, edge, size):
        raise Misfit("sizes that differ from item to item, and a filter that runs along all cells", "no ONNX", "type")


class _Bounded(torch.autograd.Function):
    """Shares within bounds; the fork's gradient is the held share's times what the exponent's is."""

    @staticmethod
    def forward(ctx, power, least):
        held = power.clamp(min=least).clamp(max=1.0)
        ctx.save_for_backward(power, held)
        return held

    @staticmethod
    def backward(ctx, grad):
        power, held = ctx.saved_tensors
        return grad * held / power, None
