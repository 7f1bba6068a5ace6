"""Axes turned round: Reverse, Flip."""

from __future__ import annotations

import numpy as np

from ..base import Layer, Misfit, canonical_axis, register

_INT_MIN = np.iinfo(np.int64).min


class _Turning(Layer):
    """Some axes read from their end to their start."""

    family = "reshaping"

    def axes(self, rank: int) -> tuple[int, ...]:
        """The axes that are turned round."""
        raise NotImplementedError

    def top_shapes(self, x):
        self.axes(len(x))
        return (x,)

    def reference(self, blobs, x):
        return (np.flip(x, self.axes(x.ndim)).copy(),)

    def forward(self, module, x):
        return (x.flip(self.axes(x.dim())),)

    def onnx(self, graph, x):
        axes = self.axes(len(graph.shape(x)))
        if not axes:
            return (x,)
        count = len(axes)
        return (graph.slice(x, [-1] * count, [_INT_MIN] * count, axes, [-1] * count),)


@register
class Reverse(_Turning):
    """The axes of `reverse_param` turned round; none: nothing is; the forks' reverse_layer."""

    type = "Reverse"
    pack = "synopsys"
    param = ("reverse_param",)

    axis: tuple[int, ...] = ()

    def axes(self, rank):
        found = tuple(canonical_axis(axis, rank) for axis in self.axis)
        if len(set(found)) < len(found):
            raise Misfit(f"axes {', '.join(map(str, self.axis))}", "every axis once", "axis")
        return found


@register
class Flip(_Turning):
    """N x C x H x W mirrored left to right, upside down, or both; the forks' flip_layer."""

    type = "Flip"
    pack = "face"
    param = ("flip_param",)

    flip_width: bool = True
    flip_height: bool = False

    def axes(self, rank):
        if rank > 4:
            raise Misfit(f"an input with {rank} axes", "at most 4: N, C, H, W", "bottom")
        turned = ((2, self.flip_height), (3, self.flip_width))  # a blob with fewer axes has a height or width of 1
        return tuple(axis for axis, turns in turned if turns and axis < rank)
