"""Axpy and BroadcastMul: the end of a squeeze-and-excitation block."""

from __future__ import annotations

from math import prod
from typing import Any

from ..base import Layer, Misfit, register, show
from ..memory import Reads


@register
class Axpy(Layer):
    """a * x + y with one number a for each channel of each item, N x C or N x C x 1 x 1; the forks' axpy_layer."""

    type = "Axpy"
    pack = "mobile"
    family = "joining"
    bottom_count = (3, 3)

    def top_shapes(self, a, x, y):
        spread = len(a) == 4 and a[2:] != (1, 1)
        if len(a) < 2 or len(x) < 2 or a[:2] != x[:2] or len(a) not in (2, 4) or spread:
            raise Misfit(f"a scale of {show(a)} for {show(x)}", "N x C, or N x C x 1 x 1", "bottom")
        if x != y:
            raise Misfit(f"{show(x)} and {show(y)} to add", "equal shapes", "bottom")
        return (x,)

    def _wide(self, a: Any, x: Any) -> Any:
        return a.reshape(*a.shape[:2], *[1] * (len(x.shape) - 2))

    def reference(self, blobs, a, x, y):
        return (self._wide(a, x) * x + y,)

    def forward(self, module, a, x, y):
        return (self._wide(a, x) * x + y,)

    def onnx(self, graph, a, x, y):
        rank = len(graph.shape(x))
        if len(graph.shape(a)) != rank:
            a = graph.reshape(a, (0, 0, *[1] * (rank - 2)))
        return (graph.op("Add", graph.op("Mul", x, a), y),)

    def spares_top(self):
        return True

    def reads(self):
        return Reads((0, 1))


@register
class BroadcastMul(Layer):
    """The larger bottom times the other's number for each channel of each item (EfficientNet's broadcast_mul_layer).

    The gradient is the derivative; the layer's CPU code writes it over the bottoms' values.
    """

    type = "BroadcastMul"
    pack = "mobile"
    family = "joining"
    bottom_count = (2, 2)

    def _swapped(self, a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        """Whether the second bottom is the larger one."""
        return prod(b) > prod(a)

    def top_shapes(self, a, b):
        x, scale = (b, a) if self._swapped(a, b) else (a, b)
        if len(x) < 2 or len(x) > 4 or scale[:2] != x[:2] or prod(scale[2:]) != 1:
            raise Misfit(f"{show(a)} and {show(b)}", "N x C x H x W, and N x C x 1 x 1", "bottom")
        return (x,)

    def reference(self, blobs, a, b):
        x, scale = (b, a) if self._swapped(a.shape, b.shape) else (a, b)
        return (x * scale.reshape(*x.shape[:2], *[1] * (x.ndim - 2)),)

    def forward(self, module, a, b):
        x, scale = (b, a) if self._swapped(tuple(a.shape), tuple(b.shape)) else (a, b)
        return (x * scale.reshape(*x.shape[:2], *[1] * (x.dim() - 2)),)

    def onnx(self, graph, a, b):
        x, scale = (b, a) if self._swapped(graph.shape(a), graph.shape(b)) else (a, b)
        rank = len(graph.shape(x))
        if len(graph.shape(scale)) != rank:
            scale = graph.reshape(scale, (0, 0, *[1] * (rank - 2)))
        return (graph.op("Mul", x, scale),)

    def spares_top(self):
        return True

    def reads(self):
        return Reads((0, 1))
