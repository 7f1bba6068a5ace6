"""TensorFlow's operators on axes in synopsys-caffe: Stack, Unstack, Squeeze, ExpandDimsND, TileND, BroadcastTo."""

from __future__ import annotations

import numpy as np
import torch

from ..base import Layer, Misfit, canonical_axis, register, same_shape, show


@register
class Stack(Layer):
    """Bottoms of one shape along a new axis; the forks' stack_layer."""

    type = "Stack"
    pack = "synopsys"
    family = "joining"
    param = ("stack_param",)
    bottom_count = (1, None)

    axis: int = 0

    def top_shapes(self, *bottoms):
        same_shape(bottoms)
        axis = canonical_axis(self.axis, len(bottoms[0]) + 1)
        return ((*bottoms[0][:axis], len(bottoms), *bottoms[0][axis:]),)

    def reference(self, blobs, *bottoms):
        return (np.stack(bottoms, self.axis),)

    def forward(self, module, *bottoms):
        return (torch.stack(bottoms, self.axis),)

    def onnx(self, graph, *bottoms):
        axis = canonical_axis(self.axis, len(graph.shape(bottoms[0])) + 1)
        parts = [graph.op("Unsqueeze", x, graph.constant([axis], np.int64)) for x in bottoms]
        return (graph.op("Concat", *parts, axis=axis),)


@register
class Unstack(Layer):
    """The slices along an axis, one a top, without that axis; the forks' unstack_layer."""

    type = "Unstack"
    pack = "synopsys"
    family = "reshaping"
    param = ("unstack_param",)
    top_count = (1, None)

    num: int = 0
    axis: int = 0

    def top_shapes(self, x):
        axis = canonical_axis(self.axis, len(x))
        if self.num not in (0, x[axis]):
            raise Misfit(f"num {self.num} for {x[axis]} slices", "as many, or 0", "num")
        if self.at.tops > x[axis]:
            raise Misfit(f"{self.at.tops} tops for {x[axis]} slices", f"at most {x[axis]}", "top")
        return ((*x[:axis], *x[axis + 1 :]),) * self.at.tops

    def reference(self, blobs, x):
        return tuple(np.take(x, i, self.axis) for i in range(self.at.tops))

    def forward(self, module, x):
        return tuple(x.select(self.axis, i).clone() for i in range(self.at.tops))

    def onnx(self, graph, x):
        axis = canonical_axis(self.axis, len(graph.shape(x)))
        places = [graph.constant(i, np.int64) for i in range(self.at.tops)]
        return tuple(graph.op("Gather", x, place, axis=axis) for place in places)


class _View(Layer):
    """The values in their order under another shape, in the bottom's memory."""

    pack = "synopsys"
    family = "reshaping"
    never_in_place = True
    rebinds_gradient = True

    axis: tuple[int, ...] = ()

    def reference(self, blobs, x):
        return (x.reshape(self.top_shapes(x.shape)[0]),)

    def forward(self, module, x):
        return (x.reshape(self.top_shapes(tuple(x.shape))[0]),)

    def onnx(self, graph, x):
        return (graph.like_top(x, 0),)

    def keeps(self):
        return "all"

    def shares(self, top):
        return 0


@register
class Squeeze(_View):
    """Without the axes that `axis` names (none: without all) of extent 1; the forks' squeeze_layer."""

    type = "Squeeze"
    param = ("squeeze_param",)

    def top_shapes(self, x):
        named = {canonical_axis(a, len(x)) for a in self.axis}
        for axis in named:
            if x[axis] != 1:
                raise Misfit(f"axis {axis} of {show(x)} has extent {x[axis]}", "1", "axis")
        gone = named or {i for i, n in enumerate(x) if n == 1}
        return (tuple(n for i, n in enumerate(x) if i not in gone),)


@register
class ExpandDimsND(_View):
    """With new axes of extent 1 at the places of `axis` in the bottom, in that order; the forks' expand_dims_nd_layer.

    A negative place counts from behind the last axis.
    """

    type = "ExpandDimsND"
    param = ("expand_dims_nd_param",)

    def top_shapes(self, x):
        top = list(x)
        for i, axis in enumerate(self.axis):
            place = axis if axis >= 0 else axis + len(x) + 1
            if not (0 <= place <= len(x) and place + i <= len(top)):
                raise Misfit(f"axis {axis} of an input with {len(x)} axes", f"{-len(x)} to {len(x)}", "axis")
            top.insert(place + i, 1)
        return (tuple(top),)


@register
class TileND(Layer):
    """The bottom repeated along its first axes, `multiples` times each; the forks' tile_nd_layer."""

    type = "TileND"
    pack = "synopsys"
    family = "reshaping"
    param = ("tile_nd_param",)
    never_in_place = True

    multiples: tuple[int, ...] = ()

    def times(self, rank: int) -> list[int]:
        """How often each axis is repeated; raises Misfit for other numbers than the fork takes."""
        if not self.multiples or min(self.multiples) < 1 or len(self.multiples) > rank:
            found = f"multiples {', '.join(map(str, self.multiples)) or 'none'} for {rank} axes"
            raise Misfit(found, f"1 to {rank} numbers above 0", "multiples")
        return [*self.multiples, *[1] * (rank - len(self.multiples))]

    def top_shapes(self, x):
        return (tuple(n * t for n, t in zip(x, self.times(len(x)), strict=True)),)

    def reference(self, blobs, x):
        return (np.tile(x, self.times(x.ndim)),)

    def forward(self, module, x):
        return (x.repeat(self.times(x.dim())),)

    def onnx(self, graph, x):
        return (graph.op("Tile", x, graph.constant(self.times(len(graph.shape(x))), np.int64)),)


@register
class BroadcastTo(Layer):
    """The bottom repeated along axes of extent 1, and along new ones in front, to `shape`; broadcast_to_layer."""

    type = "BroadcastTo"
    pack = "synopsys"
    family = "reshaping"
    param = ("broadcast_to_param",)
    never_in_place = True

    shape: tuple[int, ...] = ()

    def top_shapes(self, x):
        behind = self.shape[len(self.shape) - len(x) :] if len(x) <= len(self.shape) else ()
        fits = len(behind) == len(x) and all(n in (1, t) for n, t in zip(x, behind, strict=True))
        if not fits or min(self.shape, default=1) < 1:
            found = f"{show(x)} as {show(self.shape)}"
            raise Misfit(found, "its extents, or any where it has 1, from the last axis on", "shape")
        return (self.shape,)

    def reference(self, blobs, x):
        return (np.broadcast_to(x, self.shape).copy(),)

    def forward(self, module, x):
        return (x.expand(self.shape).clone(),)

    def onnx(self, graph, x):
        return (graph.op("Expand", x, graph.constant(self.shape, np.int64)),)
