"""Layers that pick, repeat or drop: Tile, Crop, Filter, BatchReindex, Embed, ArgMax, Silence, Parameter."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .base import BlobSpec, Layer, Misfit, as_shape, at_least, at_most_4, canonical_axis, per_item, register, show
from .values import check_places


@register
class Tile(Layer):
    """Repeat whole blocks along an axis: A B -> A B A B; semantics 1.16 (tile_layer)."""

    type = "Tile"
    family = "reshaping"
    param = ("tile_param",)

    axis: int = 1
    tiles: int | None = None

    def top_shapes(self, x):
        if self.tiles is None or self.tiles < 1:
            raise Misfit(f"tiles {self.tiles}", "1 or more", "tiles")
        axis = canonical_axis(self.axis, len(x))
        return ((*x[:axis], x[axis] * self.tiles, *x[axis + 1 :]),)

    def repeats(self, rank: int) -> tuple[int, ...]:
        axis = canonical_axis(self.axis, rank)
        return tuple(self.tiles or 1 if i == axis else 1 for i in range(rank))

    def reference(self, blobs, x):
        return (np.tile(x, self.repeats(x.ndim)),)

    def forward(self, module, x):
        return (x.repeat(self.repeats(x.dim())),)

    def onnx(self, graph, x):
        return (graph.op("Tile", x, graph.constant(self.repeats(len(graph.shape(x))), np.int64)),)


@register
class Crop(Layer):
    """Cut the first bottom to the extents of the second from `axis` on; semantics 1.16 (crop_layer)."""

    type = "Crop"
    family = "joining"
    param = ("crop_param",)
    bottom_count = (2, 2)
    no_gradient = (1,)

    axis: int = 2
    offset: tuple[int, ...] = ()

    def window(self, x, like) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        """First axis, starts and ends; raises Misfit when the cut leaves the bottom."""
        axis = canonical_axis(self.axis, len(x))
        if len(like) < len(x):
            raise Misfit(f"bottoms of {len(x)} and {len(like)} axes", "as many axes in the second", "bottom")
        count = len(x) - axis
        if len(self.offset) not in (0, 1, count):
            raise Misfit(f"{len(self.offset)} offsets", f"none, 1 or {count}", "offset")
        starts = (self.offset or (0,)) * (count if len(self.offset) < 2 else 1)
        ends = tuple(s + n for s, n in zip(starts, like[axis : len(x)], strict=True))
        if any(e > n for e, n in zip(ends, x[axis:], strict=True)):
            raise Misfit(f"{show(like)} at offset {starts} of {show(x)}", "a cut inside the first bottom", "offset")
        return axis, starts, ends

    def top_shapes(self, x, like):
        axis, starts, ends = self.window(x, like)
        return ((*x[:axis], *(e - s for s, e in zip(starts, ends, strict=True))),)

    def index(self, x, like):
        axis, starts, ends = self.window(x, like)
        return (*[slice(None)] * axis, *map(slice, starts, ends))

    def reference(self, blobs, x, like):
        return (x[self.index(x.shape, like.shape)],)

    def forward(self, module, x, like):
        return (x[self.index(tuple(x.shape), tuple(like.shape))],)

    def onnx(self, graph, x, like):
        axis, starts, ends = self.window(graph.shape(x), graph.shape(like))
        axes = range(axis, axis + len(starts))
        if any(graph.follows_batch(like, a) for a in axes):  # then the ends are known only when it runs
            end = graph.op("Add", graph.extents(like, *axes), graph.constant(starts, np.int64))
        else:
            end = graph.constant(ends, np.int64)
        return (graph.op("Slice", x, graph.constant(starts, np.int64), end, graph.constant(list(axes), np.int64)),)


@register
class Filter(Layer):
    """Keep the items whose selector (the last bottom) is not 0; semantics 1.16 (filter_layer)."""

    type = "Filter"
    family = "joining"
    selects = True
    bottom_count = (2, None)
    top_count = (1, None)

    def top_shapes(self, *bottoms):
        *data, selector = bottoms
        if self.at.tops != len(data):
            raise Misfit(f"{len(data)} blobs to filter and {self.at.tops} tops", "one top for each", "top")
        for bottom in bottoms:
            at_least(1, bottom)
        if prod(selector) != selector[0] or any(x[0] != selector[0] for x in data):
            raise Misfit(", ".join(map(show, bottoms)), "a selector with one value an item, as many items", "bottom")
        return tuple(data)  # how many survive is known only when it runs

    def reference(self, blobs, *bottoms):
        *data, selector = bottoms
        return tuple(x[selector.reshape(-1) != 0] for x in data)

    def forward(self, module, *bottoms):
        *data, selector = bottoms
        chosen = selector.detach().reshape(-1).nonzero()[:, 0]
        return tuple(x.index_select(0, chosen) for x in data)

    def onnx(self, graph, *bottoms):
        *data, selector = bottoms
        flat = graph.reshape(selector, (-1,))
        chosen = graph.op("Not", graph.op("Equal", flat, graph.constant(0.0)))
        return tuple(graph.op("Compress", x, chosen, axis=0) for x in data)


@register
class BatchReindex(Layer):
    """Items of the first bottom in the order the second gives; semantics 1.16 (batch_reindex_layer)."""

    type = "BatchReindex"
    family = "joining"
    bottom_count = (2, 2)
    no_gradient = (1,)

    def top_shapes(self, x, index):
        at_least(1, x)
        if len(index) != 1:
            raise Misfit(f"an index of {len(index)} axes", "1", "bottom")
        return ((*index, *x[1:]),)

    def reference(self, blobs, x, index):
        check_places(index, len(x), "index", whole=True)
        return (x[index.astype(int)],)

    def forward(self, module, x, index):
        check_places(index, len(x), "index", whole=True)
        return (x.index_select(0, index.detach().long()),)

    def onnx(self, graph, x, index):
        return (graph.op("Gather", x, graph.op("Cast", index, to=7), axis=0),)


@register
class Embed(Layer):
    """Rows of a learned table by index, plus a bias; semantics 1.16 (embed_layer)."""

    type = "Embed"
    family = "weights"
    param = ("embed_param",)
    no_gradient = (0,)

    num_output: int | None = None
    input_dim: int | None = None
    bias_term: bool = True
    weight_filler: Any = 0.0
    bias_filler: Any = 0.0

    def top_shapes(self, x):
        if not self.num_output or not self.input_dim:
            raise Misfit(f"num_output {self.num_output}, input_dim {self.input_dim}", "both above 0", "embed_param")
        return ((*x, self.num_output),)

    def blobs(self, x):
        weight = BlobSpec("weight", (self.input_dim or 0, self.num_output or 0), self.weight_filler)
        return [weight, BlobSpec("bias", (self.num_output or 0,), self.bias_filler)][: 1 + self.bias_term]

    def reference(self, blobs, x):
        check_places(x, len(blobs[0]), "index", bottom=0)
        rows = blobs[0][x.astype(int)]
        return (rows + blobs[1] if self.bias_term else rows,)

    def forward(self, module, x):
        check_places(x, len(module.blobs[0]), "index", bottom=0)
        rows = F.embedding(x.detach().long(), module.blobs[0])
        return (rows + module.blobs[1] if self.bias_term else rows,)

    def onnx(self, graph, x):
        rows = graph.op("Gather", graph.blob(0), graph.op("Cast", x, to=7), axis=0)
        return (graph.op("Add", rows, graph.blob(1)) if self.bias_term else rows,)


@register
class ArgMax(Layer):
    """Indices (and values) of the largest entries; of equal ones the larger index first; semantics 1.14."""

    type = "ArgMax"
    family = "pooling"
    param = ("argmax_param",)
    kind = "metric"
    no_gradient = (0,)

    out_max_val: bool = False
    top_k: int = 1
    axis: int | None = None

    def top_shapes(self, x):
        at_least(1, x)
        if self.at.habits.legacy_argmax:
            at_most_4(x)
        count = x[canonical_axis(self.axis, len(x))] if self.axis is not None else prod(x[1:])
        if not 1 <= self.top_k <= count:
            raise Misfit(f"top_k {self.top_k} of {count} values", f"1 to {count}", "top_k")
        if self.axis is not None:
            axis = canonical_axis(self.axis, len(x))
            return ((*x[:axis], self.top_k, *x[axis + 1 :]),)
        rank = 4 if self.at.habits.legacy_argmax else max(3, len(x))
        return ((x[0], 1 + self.out_max_val, self.top_k, *[1] * (rank - 3)),)

    def reference(self, blobs, x):
        shape = self.top_shapes(x.shape)[0]
        rows = x if self.axis is not None else per_item(x)
        axis = self.axis if self.axis is not None else 1
        last = rows.shape[axis] - 1
        # stable on the reversed values: the larger of two equal indices comes first
        order = last - np.argsort(-np.flip(rows, axis), axis=axis, kind="stable")
        index = np.take(order, range(self.top_k), axis)
        values = np.take_along_axis(rows, index, axis)
        if self.axis is not None:
            return (values if self.out_max_val else index.astype(np.float64),)
        parts = [index.astype(np.float64), values][: 1 + self.out_max_val]
        return (np.stack(parts, 1).reshape(shape),)

    def forward(self, module, x):
        x = x.detach()
        rows = x if self.axis is not None else per_item(x)
        axis = self.axis if self.axis is not None else 1
        order = torch.flip(rows, (axis,)).sort(dim=axis, descending=True, stable=True).indices
        index = rows.shape[axis] - 1 - order.narrow(axis, 0, self.top_k)
        values = rows.gather(axis, index)
        if self.axis is not None:
            return (values if self.out_max_val else index.to(x.dtype),)
        parts = [index.to(x.dtype), values][: 1 + self.out_max_val]
        return (torch.stack(parts, 1).reshape(self.top_shapes(tuple(x.shape))[0]),)

    def onnx(self, graph, x):
        shape = graph.shape(x)
        rows = x if self.axis is not None else graph.op("Flatten", x, axis=1)
        axis = canonical_axis(self.axis, len(shape)) if self.axis is not None else 1
        # ONNX prefers the lower index of two equal values, so the axis is reversed first
        turned = graph.slice(rows, [-1], [np.iinfo(np.int64).min], [axis], [-1])
        values, order = graph.op("TopK", turned, graph.constant([self.top_k], np.int64), axis=axis, outputs=2)
        last = graph.op("Sub", graph.extents(rows, axis), graph.constant([1], np.int64))
        index = graph.op("Cast", graph.op("Sub", last, order), to=1)
        if self.axis is not None:
            return (values if self.out_max_val else index,)
        parts = [graph.like_top(index, 0)] if not self.out_max_val else []
        if not parts:
            middle = graph.constant([1], np.int64)
            both = [graph.op("Unsqueeze", part, middle) for part in (index, values)]
            parts = [graph.like_top(graph.op("Concat", *both, axis=1), 0)]
        return tuple(parts)


@register
class Silence(Layer):
    """Takes bottoms that nobody wants, so that they are no outputs; semantics 1.16 (silence_layer)."""

    type = "Silence"
    family = "reshaping"
    bottom_count = (1, None)
    top_count = (0, 0)

    def top_shapes(self, *bottoms):
        return ()

    def reference(self, blobs, *bottoms):
        return ()

    def forward(self, module, *bottoms):
        return ()

    def onnx(self, graph, *bottoms):
        return ()


@register
class Parameter(Layer):
    """A learned blob as a top; starts at zero, or as a fork's `blob_filler` says; semantics 1.16 (parameter_layer)."""

    type = "Parameter"
    family = "input"
    param = ("parameter_param",)
    bottom_count = (0, 0)

    shape: Any = None
    blob_filler: Any = 0.0

    def top_shapes(self):
        return (() if self.shape is None else as_shape(self.shape),)  # without a shape: a scalar

    def blobs(self):
        return [BlobSpec("weight", self.top_shapes()[0], self.blob_filler)]

    def reference(self, blobs):
        return (blobs[0].copy(),)

    def forward(self, module):
        return (module.blobs[0],)

    def onnx(self, graph):
        return (graph.blob(0),)
