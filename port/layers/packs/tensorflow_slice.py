"""TensorFlow's StridedSlice, which is ONNX's Slice as well, and its Slice under the name Piece, in synopsys-caffe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..base import Layer, Misfit, canonical_axis, register, show

FAR = 2**62  # beyond every extent


@dataclass(frozen=True)
class Cut:
    """What is taken of one axis: from `begin` to before `end`, in steps."""

    begin: int = 0
    end: int = FAR  # -1, of steps back: past the first cell
    step: int = 1

    def places(self, extent: int) -> range:
        """The cells."""
        return range(self.begin, min(self.end, extent), self.step)

    @property
    def whole(self) -> bool:
        """Whether it takes the axis as it is, whatever its extent."""
        return self == Cut()


class _Slicing(Layer):
    """Some cells along every axis."""

    pack = "synopsys"
    family = "reshaping"

    def cuts(self, x: tuple[int, ...]) -> list[Cut]:
        """What is taken of each axis of `widened`; raises Misfit."""
        raise NotImplementedError

    def widened(self, x: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that is cut."""
        return x

    def dropped(self, x: tuple[int, ...]) -> list[int]:
        """The axes that go away behind the cut."""
        return []

    def cut_shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        """The shape behind the cut; raises Misfit where nothing is left of an axis."""
        wide = self.widened(x)
        counts = [len(cut.places(n)) for cut, n in zip(self.cuts(x), wide, strict=True)]
        if 0 in counts:
            axis = counts.index(0)
            raise Misfit(f"no cell of axis {axis} of {show(wide)}", "one or more", "begin")
        return tuple(counts)

    def top_shapes(self, x):
        gone = self.dropped(x)
        return (tuple(n for i, n in enumerate(self.cut_shape(x)) if i not in gone),)

    def reference(self, blobs, x):
        (top,) = self.top_shapes(x.shape)
        y = x.reshape(self.widened(x.shape))
        for axis, cut in enumerate(self.cuts(x.shape)):
            y = np.take(y, list(cut.places(y.shape[axis])), axis)
        return (y.reshape(top),)

    def forward(self, module, x):
        shape = tuple(x.shape)
        y = x.reshape(self.widened(shape))
        for axis, cut in enumerate(self.cuts(shape)):
            if not cut.whole:
                places = torch.tensor(list(cut.places(y.shape[axis])), device=x.device)
                y = y.index_select(axis, places)
        return (y.reshape(self.top_shapes(shape)[0]),)

    def onnx(self, graph, x):
        shape = graph.shape(x)
        wide, gone = self.widened(shape), self.dropped(shape)
        if graph.follows_batch(x, 0) and self.cuts((2 * shape[0], *shape[1:])) != self.cuts(shape):
            raise Misfit("a number that counts from the end of the batch", "one that does not", "begin")
        if wide != shape:
            new = self.new_axes(shape)
            x = graph.op("Unsqueeze", x, graph.constant(new, np.int64))
        found = [(axis, cut) for axis, cut in enumerate(self.cuts(shape)) if not cut.whole]
        if found:
            ends = [cut.end if cut.end >= 0 else -FAR for _, cut in found]
            axes, begins, steps = [a for a, _ in found], [c.begin for _, c in found], [c.step for _, c in found]
            x = graph.slice(x, begins, ends, axes, steps)
        return (graph.op("Squeeze", x, graph.constant(gone, np.int64)) if gone else graph.op("Identity", x),)

    def new_axes(self, x: tuple[int, ...]) -> list[int]:
        """The axes of `widened` that the bottom does not have."""
        return []


@register
class Piece(_Slicing):
    """`size` cells from `begin` on along every axis, all that are left where the size is -1 (piece_layer)."""

    type = "Piece"
    param = ("piece_param",)

    begin: tuple[int, ...] = ()
    size: tuple[int, ...] = ()

    def cuts(self, x):
        if not len(self.begin) == len(self.size) == len(x):
            found = f"{len(self.begin)} begin, {len(self.size)} size for {len(x)} axes"
            raise Misfit(found, "one of each for every axis", "begin")
        for begin, size, extent in zip(self.begin, self.size, x, strict=True):
            if begin < 0 or (size < 1 and size != -1) or begin + max(size, 1) > extent:
                raise Misfit(f"{size} cells from {begin} on of {extent}", "cells that exist, or size -1", "size")
        return [Cut(b, FAR if s == -1 else b + s) for b, s in zip(self.begin, self.size, strict=True)]


@register
class StridedSlice(_Slicing):
    """Cells from `begin` to before `end` in `strides`, of the axes in turn or of `axes` (strided_slice_layer).

    Bits of the masks speak of places in those lists: begin_mask and end_mask ignore a number; ellipsis_mask is a place
    for all axes that no other one is for; new_axis_mask is a new axis; shrink_axis_mask takes one cell, whose axis goes
    away. Numbers below 0 count from the end, those beyond it are drawn in.
    """

    type = "StridedSlice"
    param = ("strided_slice_param",)

    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    axes: tuple[int, ...] = ()
    begin_mask: int = 0
    end_mask: int = 0
    ellipsis_mask: int = 0
    new_axis_mask: int = 0
    shrink_axis_mask: int = 0

    def check(self, rank: int) -> None:
        """Raise Misfit for lists of different lengths, steps of 0, and more than one ellipsis."""
        count = len(self.begin)
        if len(self.end) != count or len(self.strides or self.begin) != count or 0 in self.strides:
            found = f"{count} begin, {len(self.end)} end, {len(self.strides)} strides"
            raise Misfit(found, "as many of each, and no stride 0", "begin")
        if self.axes and len(self.axes) != count:
            raise Misfit(f"{len(self.axes)} axes for {count} begin", f"{count}", "axes")
        if self.ellipsis_mask & (self.ellipsis_mask - 1):
            raise Misfit(f"ellipsis_mask {self.ellipsis_mask}", "one bit at most", "ellipsis_mask")
        masks = (self.begin_mask, self.end_mask, self.ellipsis_mask, self.new_axis_mask, self.shrink_axis_mask)
        if self.axes and any(masks):
            raise Misfit("a mask beside axes, which the fork does not read", "one of them", "axes")

    def targets(self, rank: int) -> tuple[list[int | None], list[int], int]:
        """For every place in the lists its axis behind the new ones, None for an ellipsis; the new axes; the rank."""
        self.check(rank)
        count = len(self.begin)
        if self.axes:
            return [canonical_axis(a, rank, "axes") for a in self.axes], [], rank
        gap = self.ellipsis_mask.bit_length() - 1
        gap = gap if 0 <= gap < count else -1
        new = [i for i in range(count) if self.new_axis_mask >> i & 1 and i != gap]
        wide = rank + len(new)
        taken = count - (gap >= 0)
        if taken > wide:
            raise Misfit(f"{taken} begin for {wide} axes", f"at most {wide}", "begin")
        shift = wide - count
        places: list[int | None] = [None if i == gap else i + shift * (0 <= gap < i) for i in range(count)]
        return places, [axis for i in new if (axis := places[i]) is not None], wide

    def new_axes(self, x):
        return self.targets(len(x))[1]

    def widened(self, x):
        wide = list(x)
        for axis in sorted(self.new_axes(x)):
            wide.insert(axis, 1)
        return tuple(wide)

    def dropped(self, x):
        places, new, _ = self.targets(len(x))
        shrunk = (axis for i, axis in enumerate(places) if self.shrink_axis_mask >> i & 1)
        return [axis for axis in shrunk if axis is not None and axis not in new]

    def cuts(self, x):
        places, new, rank = self.targets(len(x))
        wide = self.widened(x)
        cuts = [Cut() for _ in range(rank)]
        for i, axis in enumerate(places):
            if axis is not None and axis not in new:
                cuts[axis] = self.cut(i, x, axis, wide[axis])
        return cuts

    def cut(self, i: int, x: tuple[int, ...], axis: int, extent: int) -> Cut:
        """What the numbers at a place say of their axis."""
        begin, end = self.begin[i], self.end[i]
        step = self.strides[i] if self.strides else 1
        if begin < 0:
            if i >= len(x) or x[i] != extent:
                found = f"begin {begin} of axis {axis}, which the fork counts from the end of axis {i}"
                raise Misfit(found, "0 or more", "begin")
            begin = max(begin + extent, 0)
        if self.shrink_axis_mask >> i & 1:
            return Cut(min(begin, extent - 1), min(begin, extent - 1) + 1)
        begin = min(begin, extent - 1)
        end = end if end >= 0 else max(end + extent, -1)
        if self.begin_mask >> i & 1:
            begin = 0 if step > 0 else extent - 1
        if self.end_mask >> i & 1:
            end = FAR if step > 0 else -1
        return Cut(begin, end, step)
