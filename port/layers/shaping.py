"""Layers that only rearrange: Reshape, Flatten, Concat, Slice, Split."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any, ClassVar

import numpy as np
import torch

from .base import Layer, Misfit, as_shape, canonical_axis, register, show


@register
class Reshape(Layer):
    """Replace some axes: 0 keeps an axis, one -1 takes what is left; semantics 1.11 (reshape_layer)."""

    type = "Reshape"
    family = "reshaping"
    param = ("reshape_param",)

    shape: Any = None
    axis: int = 0
    num_axes: int = -1

    @classmethod
    def refuses_in_place(cls, context):
        return context.habits.views_refuse_in_place

    def top_shapes(self, x):
        start = self.axis if self.axis >= 0 else len(x) + self.axis + 1
        end = len(x) if self.num_axes == -1 else start + self.num_axes
        if not 0 <= start <= len(x) or self.num_axes < -1 or end > len(x):
            raise Misfit(f"axis {self.axis}, num_axes {self.num_axes} on {show(x)}", "axes that exist", "axis")
        dims = list(as_shape(self.shape)) if self.shape is not None else []
        if dims.count(-1) > 1 or any(d < -1 for d in dims):
            raise Misfit(f"dimensions {dims}", "numbers of 0 or more, at most one of them -1", "shape")
        for i, dim in enumerate(dims):
            if dim == 0:
                if start + i >= len(x):
                    raise Misfit(f"dim 0 copies axis {start + i} of {show(x)}", "an axis that exists", "shape")
                dims[i] = x[start + i]
        if -1 in dims:
            known = prod(x[:start]) * prod(x[end:]) * prod(d for d in dims if d != -1)
            if not known or prod(x) % known:
                raise Misfit(f"{prod(x)} values do not divide by the {known} given", "a multiple", "shape")
            dims[dims.index(-1)] = prod(x) // known
        top = (*x[:start], *dims, *x[end:])
        if prod(top) != prod(x):
            raise Misfit(f"{show(x)} with {prod(x)} values as {show(top)} with {prod(top)}", "equal counts", "shape")
        return (top,)

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

    def binds_gradient(self):
        return True


@register
class Flatten(Layer):
    """Join the axes from `axis` to `end_axis` into one; semantics 1.12 (flatten_layer)."""

    type = "Flatten"
    family = "reshaping"
    param = ("flatten_param",)
    rebinds_gradient = True

    axis: int = 1
    end_axis: int = -1

    @classmethod
    def refuses_in_place(cls, context):
        return context.habits.views_refuse_in_place

    def top_shapes(self, x):
        start, end = canonical_axis(self.axis, len(x)), canonical_axis(self.end_axis, len(x), "end_axis")
        if start > end:
            raise Misfit(f"axis {start} after end_axis {end}", "axis before end_axis", "axis")
        return ((*x[:start], prod(x[start : end + 1]), *x[end + 1 :]),)

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


class _Joining(Layer):
    """What Concat and Slice share: `axis`, or its deprecated unsigned twin."""

    axis: int | None = None
    legacy: ClassVar[str] = ""  # name of the deprecated field

    def along(self, rank: int) -> int:
        old = getattr(self, self.legacy)
        if old is not None and self.axis is not None:
            raise Misfit(f"both axis and {self.legacy}", "one of them", "axis")
        if old is not None:
            return canonical_axis(old, rank, self.legacy)
        return canonical_axis(1 if self.axis is None else self.axis, rank)


class _SkippingConcat(torch.autograd.Function):
    """Concat with the fork's defect: a bottom without a gradient does not move the place that is read."""

    @staticmethod
    def forward(ctx, axis, *bottoms):
        ctx.axis, ctx.sizes = axis, [b.shape[axis] for b in bottoms]
        return torch.cat(bottoms, axis)

    @staticmethod
    def backward(ctx, grad):
        offset, grads = 0, []
        for needed, size in zip(ctx.needs_input_grad[1:], ctx.sizes, strict=True):
            grads.append(grad.narrow(ctx.axis, offset, size) if needed else None)
            offset += size if needed else 0
        return None, *grads


@register
class Concat(_Joining):
    """Join blobs along an axis; semantics 1.10 (concat_layer).

    In the fork's backward a bottom that needs no gradient shifts what the later ones get; `faithful_bugs`
    does the same.
    """

    type = "Concat"
    family = "joining"
    in_bfloat16 = True
    param = ("concat_param",)
    bottom_count = (1, None)
    legacy = "concat_dim"

    concat_dim: int | None = None

    def top_shapes(self, *bottoms):
        if len(bottoms) < 2 and not self.at.habits.joins_one:
            raise Misfit("1 bottom", "2 or more in the fork", "bottom")
        axis = self.along(len(bottoms[0]))
        rest = {(*b[:axis], *b[axis + 1 :]) for b in bottoms}
        if len(rest) > 1 or len({len(b) for b in bottoms}) > 1:
            raise Misfit(", ".join(map(show, bottoms)), f"equal extents of all axes but {axis}", "bottom")
        return ((*bottoms[0][:axis], sum(b[axis] for b in bottoms), *bottoms[0][axis + 1 :]),)

    def reference(self, blobs, *bottoms):
        return (np.concatenate(bottoms, self.along(bottoms[0].ndim)),)

    def forward(self, module, *bottoms):
        axis = self.along(bottoms[0].dim())
        if self.at.faithful_bugs and self.at.habits.concat_gradient_sticks:
            return (_SkippingConcat.apply(axis, *bottoms),)
        return (torch.cat(bottoms, axis),)

    def onnx(self, graph, *bottoms):
        return (graph.op("Concat", *bottoms, axis=self.along(len(graph.shape(bottoms[0])))),)

    def spares_top(self):
        return True

    def shares(self, top):
        return 0 if self.at.bottoms == 1 else None

    def binds_gradient(self):
        return self.at.bottoms == 1


@register
class Slice(_Joining):
    """Cut a blob along an axis at `slice_point`, or in equal parts; semantics 1.10 (slice_layer)."""

    type = "Slice"
    family = "joining"
    param = ("slice_param",)
    top_count = (1, None)
    legacy = "slice_dim"

    slice_point: tuple[int, ...] = ()
    slice_dim: int | None = None

    def parts(self, x) -> tuple[int, tuple[int, ...]]:
        """Axis and extent of every top along it."""
        if self.at.tops < 2 and not self.at.habits.joins_one:
            raise Misfit("1 top", "2 or more in the fork", "top")
        axis, tops = self.along(len(x)), self.at.tops
        if not self.slice_point:
            if x[axis] % tops:
                raise Misfit(f"an extent of {x[axis]} in {tops} equal parts", "a multiple", "slice_point")
            return axis, (x[axis] // tops,) * tops
        if len(self.slice_point) != tops - 1:
            raise Misfit(f"{len(self.slice_point)} slice points for {tops} tops", str(tops - 1), "slice_point")
        edges = (0, *self.slice_point, x[axis])
        sizes = tuple(b - a for a, b in pairwise(edges))
        # the last top may be empty, with no more tops than entries, where the Caffe's blobs stand it
        least = 0 if self.at.habits.last_slice_may_be_empty and tops <= x[axis] else 1
        if any(s <= 0 for s in sizes[:-1]) or sizes[-1] < least:
            raise Misfit(f"slice points {self.slice_point} of an extent of {x[axis]}", "rising, inside", "slice_point")
        return axis, sizes

    def top_shapes(self, x):
        axis, sizes = self.parts(x)
        return tuple((*x[:axis], size, *x[axis + 1 :]) for size in sizes)

    def reference(self, blobs, x):
        axis, sizes = self.parts(x.shape)
        return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))

    def forward(self, module, x):
        axis, sizes = self.parts(tuple(x.shape))
        return tuple(torch.split(x, list(sizes), axis))

    def onnx(self, graph, x):
        axis, sizes = self.parts(graph.shape(x))
        if len(sizes) == 1:
            return (x,)
        if graph.follows_batch(x, axis):  # equal parts of whatever extent there is
            count = {"num_outputs": len(sizes)} if graph.opset >= 18 else {}
            return graph.op("Split", x, axis=axis, outputs=len(sizes), **count)
        return graph.op("Split", x, graph.constant(sizes, np.int64), axis=axis, outputs=len(sizes))

    def shares(self, top):
        return 0 if self.at.tops == 1 else None

    def binds_gradient(self):
        return self.at.tops == 1


@register
class Split(Layer):
    """Copies of one blob; their gradients add up; semantics 1.16 (split_layer)."""

    type = "Split"
    family = "joining"
    never_in_place = True
    top_count = (1, None)

    def top_shapes(self, x):
        return (x,) * self.at.tops

    def reference(self, blobs, x):
        return (x,) * self.at.tops

    def forward(self, module, x):
        return (x,) * self.at.tops

    def onnx(self, graph, x):
        return (x,) * self.at.tops

    def shares(self, top):
        return 0
