"""Permute: axes in another order."""

from __future__ import annotations

import numpy as np

from ..base import Layer, Misfit, register


@register
class Permute(Layer):
    """The axes named by `order` first, the rest behind them in ascending order (the forks' permute_layer)."""

    type = "Permute"
    known_to_opencv = True
    pack = "ssd"
    family = "reshaping"
    param = ("permute_param",)
    never_in_place = True

    order: tuple[int, ...] = ()

    def axes(self, x) -> tuple[int, ...]:
        """Which axis of the bottom every axis of the top is; raises Misfit for an axis too many or named twice."""
        if any(axis >= len(x) for axis in self.order):
            raise Misfit(f"axis {max(self.order)} of a blob with {len(x)} axes", f"below {len(x)}", "order")
        if len(set(self.order)) < len(self.order):
            raise Misfit(f"order {self.order}", "every axis once at most", "order")
        return (*self.order, *(axis for axis in range(len(x)) if axis not in self.order))

    def top_shapes(self, x):
        return (tuple(x[axis] for axis in self.axes(x)),)

    def reference(self, blobs, x):
        return (np.ascontiguousarray(x.transpose(self.axes(x.shape))),)

    def forward(self, module, x):
        return (x.permute(self.axes(tuple(x.shape))).contiguous(),)

    def onnx(self, graph, x):
        return (graph.op("Transpose", x, perm=self.axes(graph.shape(x))),)

    def shares(self, top):
        return 0 if self.order == tuple(range(len(self.order))) else None
