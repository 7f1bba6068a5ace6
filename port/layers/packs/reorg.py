"""Reorg: YOLO's way from a fine map to a coarse one with more channels, and back."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch

from ..base import Layer, Misfit, register, show


@register
class Reorg(Layer):
    """The values of an N x C x H x W map in Darknet's order; the forks' reorg_layer.

    Not a plain space-to-depth: the values are read as a map of C / stride^2 channels, `stride` times as high and wide;
    its cells at (i, j) of every stride x stride square make C channels of H x W; and those values, in their order, are
    the top. `reverse` goes the way back.
    """

    type = "Reorg"
    pack = "yolo"
    family = "reshaping"
    param = ("reorg_param",)
    never_in_place = True

    stride: int | None = None
    reverse: bool = False

    def top_shapes(self, x):
        stride = self._checked(x)
        if self.reverse:
            return ((x[0], x[1] // stride**2, x[2] * stride, x[3] * stride),)
        if x[2] % stride or x[3] % stride:
            raise Misfit(f"stride {stride} on {x[2]}x{x[3]}", "a stride that divides height and width", "stride")
        return ((x[0], x[1] * stride**2, x[2] // stride, x[3] // stride),)

    def _checked(self, x) -> int:
        if not self.stride:
            raise Misfit("no stride, or 0", "1 or more", "stride")
        if len(x) != 4 or x[1] % self.stride**2:
            wanted = f"N x C x H x W, C a multiple of {self.stride**2}"
            raise Misfit(f"an input of {show(x)}", wanted, "bottom")
        return self.stride

    def seen(self, x) -> tuple[int, int]:
        """Height and width of the map as the order takes them."""
        return x[2], x[3]

    def orders(self, x) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """How all values but the batch are seen, and the order in which these axes are read."""
        stride, (high, wide) = self._checked(x), self.seen(x)
        fine, coarse = x[1] // stride**2, (stride, stride)
        if self.reverse:
            return (*coarse, fine, high, wide), (3, 4, 1, 5, 2)
        return (fine, high, stride, wide, stride), (3, 5, 1, 2, 4)

    def reference(self, blobs, x):
        seen, order = self.orders(x.shape)
        moved = x.reshape(-1, *seen).transpose(0, *order) if x.size else x
        return (self.placed(moved.reshape(-1), x.shape),)

    def forward(self, module, x):
        seen, order = self.orders(tuple(x.shape))
        moved = x.reshape(-1, *seen).permute(0, *order) if x.numel() else x
        return (self.placed(moved.reshape(-1), tuple(x.shape)),)

    def placed(self, values: Any, x) -> Any:
        """All values, in their order, as the top."""
        return values.reshape(self.top_shapes(x)[0])

    def onnx(self, graph, x):
        seen, order = self.orders(graph.shape(x))
        moved = graph.op("Transpose", graph.reshape(x, (-1, *seen)), perm=(0, *order))
        return (self.onnx_placed(graph, moved, x),)

    def onnx_placed(self, graph: Any, moved: str, x: str) -> str:
        """The same as an ONNX value."""
        return graph.like_top(moved, 0)


@register
class SynopsysReorg(Reorg):
    """Reorg of a fork that takes height for width, and halves both whatever the stride and direction.

    What the top has no room for is cut off at the end of the whole batch; what room is left is zero.
    """

    pack = "synopsys"

    @classmethod
    def claims(cls, message, context):
        return "synopsys" in context.packs

    def top_shapes(self, x):
        stride = self._checked(x)
        channels = x[1] // stride**2 if self.reverse else x[1] * stride**2
        return ((x[0], channels, x[2] // 2, x[3] // 2),)

    def seen(self, x):
        return x[3], x[2]

    def placed(self, values, x):
        (top,) = self.top_shapes(x)
        count = prod(top)
        if isinstance(values, np.ndarray):
            return np.concatenate([values[:count], np.zeros(max(count - values.size, 0))]).reshape(top)
        return torch.cat([values[:count], values.new_zeros(max(count - values.numel(), 0))]).reshape(top)

    def onnx_placed(self, graph, moved, x):
        shape = graph.shape(x)
        held, room = prod(shape[1:]), prod(self.top_shapes(shape)[0][1:])
        if held != room:
            flat, items = graph.reshape(moved, (-1,)), graph.extents(x, 0)
            each = room - held if room > held else room
            count = graph.op("Mul", items, graph.constant([each], np.int64))
            if room > held:
                moved = graph.op("Concat", flat, graph.op("ConstantOfShape", count), axis=0)
            else:
                moved = graph.op("Slice", flat, graph.constant([0], np.int64), count)
        return graph.like_top(moved, 0)
