"""Pooling over regions and pyramids: ROIPooling, SPP, BatchReduction."""

from __future__ import annotations

from itertools import product
from math import ceil, floor
from typing import Any

import numpy as np
import torch

from .base import Layer, Misfit, Shape, canonical_axis, per_item, register, show
from .pooling import Pooling
from .values import check_regions


def round_away(x: Any) -> int:
    """Round as C does, halves away from zero; held within 32 bits."""
    x = float(np.clip(np.nan_to_num(x), -(2.0**31), 2.0**31 - 1))
    return int(np.copysign(floor(abs(x) + 0.5), x))


def _spans(start: int, end: int, count: int, extent: int) -> tuple[list[slice], np.ndarray]:
    """The spans of bins along an axis, each once (an empty bin's is empty), and which one every bin has."""
    size = np.float32(max(end - start + 1, 1)) / np.float32(count)
    edges = np.arange(count + 1).astype(np.float32) * size
    low = np.clip(np.floor(edges[:-1]).astype(np.int64) + start, 0, extent)
    top = np.clip(np.ceil(edges[1:]).astype(np.int64) + start, 0, extent)
    pairs, which = np.unique(np.stack([low, top], 1), axis=0, return_inverse=True)
    return [slice(*pair) for pair in pairs.tolist()], which.reshape(-1)


def regions_shape(layer: Any, x: Shape, rois: Shape) -> Shape:
    """R x C x PH x PW of R regions of five numbers on maps N x C x H x W; raises Misfit for other bottoms."""
    if layer.pooled_h < 1 or layer.pooled_w < 1:
        raise Misfit(f"pooled_h {layer.pooled_h}, pooled_w {layer.pooled_w}", "both above 0", layer.param[0])
    if len(x) != 4 or len(rois) > 4 or np.prod(rois[1:]) != 5:
        raise Misfit(f"{show(x)} and {show(rois)}", "N x C x H x W, and 5 numbers a region", "bottom")
    return (rois[0], x[1], layer.pooled_h, layer.pooled_w)


@register
class ROIPooling(Layer):
    """The maximum of each bin of each region [batch, x1, y1, x2, y2]; semantics 1.19 (roi_pooling_layer)."""

    type = "ROIPooling"
    known_to_opencv = True
    family = "pooling"
    param = ("roi_pooling_param",)
    bottom_count = (2, 2)
    no_gradient = (1,)

    pooled_h: int = 0
    pooled_w: int = 0
    spatial_scale: float = 1.0

    def top_shapes(self, x, rois):
        return (regions_shape(self, x, rois),)

    def bins(self, roi, high: int, wide: int):
        """Item of a region, the rows and columns that its bins span, each once, and which of them every bin has."""
        x1, y1, x2, y2 = (round_away(np.float32(v) * np.float32(self.spatial_scale)) for v in roi[1:])
        rows, row_of = _spans(y1, y2, self.pooled_h, high)
        columns, column_of = _spans(x1, x2, self.pooled_w, wide)
        return int(roi[0]), list(product(rows, columns)), np.add.outer(row_of * len(columns), column_of)

    def reference(self, blobs, x, rois):
        check_regions(rois, len(x), self.spatial_scale)
        y = np.zeros((rois.shape[0], x.shape[1], self.pooled_h, self.pooled_w))
        for n, roi in enumerate(rois.reshape(-1, 5)):
            item, bins, places = self.bins(roi, *x.shape[2:])
            cells = [x[item, :, rows, columns].reshape(x.shape[1], -1) for rows, columns in bins]
            y[n] = np.stack([c.max(1) if c.size else np.zeros(len(c)) for c in cells], 1)[:, places]
        return (y,)

    def forward(self, module, x, rois):
        check_regions(rois, len(x), self.spatial_scale)
        tops = []
        for roi in rois.detach().reshape(-1, 5).cpu().numpy():
            item, bins, places = self.bins(roi, *x.shape[2:])
            cells = [x[item, :, rows, columns].flatten(1) for rows, columns in bins]
            # argmax takes the first of equal values, as Caffe's gradient does
            values = [
                c.gather(1, c.argmax(1, keepdim=True)) if c.shape[1] else c.new_zeros(c.shape[0], 1) for c in cells
            ]
            tops.append(torch.cat(values, 1)[:, torch.from_numpy(places).to(x.device)])
        return (torch.stack(tops) if tops else x.new_zeros(self.top_shapes(x.shape, rois.shape)[0]),)

    def onnx(self, graph, x, rois):
        if graph.target == "opencv":  # which has no MaxRoiPool, and this layer of Caffe's
            fields = {"pooled_w": self.pooled_w, "pooled_h": self.pooled_h, "spatial_scale": self.spatial_scale}
            return (graph.op("ROIPooling", x, graph.reshape(rois, (-1, 5)), **fields),)
        if graph.opset > 21:
            wanted = "opset 21 or lower: ONNX Runtime has no newer MaxRoiPool"
            raise Misfit(f"ROIPooling in opset {graph.opset}", wanted, "type")
        if not self.spatial_scale > 0:
            raise Misfit(f"spatial_scale {self.spatial_scale:g}", "a number above 0 in ONNX Runtime", "spatial_scale")
        rows = graph.reshape(rois, (-1, 5))
        size = (self.pooled_h, self.pooled_w)
        return (graph.op("MaxRoiPool", x, rows, pooled_shape=size, spatial_scale=self.spatial_scale),)


@register
class SPP(Layer):
    """Pooling to 1, 2x2, 4x4, ... bins, side by side; semantics 1.20 (spp_layer)."""

    type = "SPP"
    family = "pooling"
    param = ("spp_param",)

    pyramid_height: int | None = None
    pool: str = "MAX"
    engine: str = "DEFAULT"

    def levels(self, x) -> list[Pooling]:
        """The pooling of every level."""
        if not self.pyramid_height:
            raise Misfit(f"pyramid_height {self.pyramid_height}", "1 or more", "pyramid_height")
        if self.pyramid_height == 1 and not self.at.habits.pools_one_level:
            raise Misfit("pyramid_height 1", "2 or more in the fork", "pyramid_height")
        if len(x) != 4:
            raise Misfit(f"an input with {len(x)} axes", "4 axes: N, C, H, W", "bottom")
        if 2 ** min(self.pyramid_height - 1, 32) > 2 * max(x[2:]):  # no level as fine has a pad below its kernel
            raise Misfit(f"pyramid_height {self.pyramid_height} on {show(x)}", "fewer levels", "pyramid_height")
        return [self._level(2**level, *x[2:]) for level in range(self.pyramid_height)]

    def _level(self, bins: int, high: int, wide: int) -> Pooling:
        (kernel_h, pad_h), (kernel_w, pad_w) = (
            (ceil(n / bins), (ceil(n / bins) * bins - n + 1) // 2) for n in (high, wide)
        )
        return Pooling(
            at=self.at,
            pool=self.pool,
            kernel_h=kernel_h,
            kernel_w=kernel_w,
            pad_h=pad_h,
            pad_w=pad_w,
            stride_h=kernel_h,
            stride_w=kernel_w,
        )

    def top_shapes(self, x):
        tops = [level.top_shapes(x)[0] for level in self.levels(x)]
        if len(tops) == 1:
            return (tops[0],)
        return ((x[0], sum(int(np.prod(top[1:])) for top in tops)),)

    def reference(self, blobs, x):
        tops = [level.reference([], x)[0] for level in self.levels(x.shape)]
        return (tops[0] if len(tops) == 1 else np.concatenate([per_item(t) for t in tops], 1),)

    def forward(self, module, x):
        tops = [level.forward(None, x)[0] for level in self.levels(tuple(x.shape))]
        return (tops[0] if len(tops) == 1 else torch.cat([t.flatten(1) for t in tops], 1),)

    def onnx(self, graph, x):
        tops = [level.onnx(graph, x)[0] for level in self.levels(graph.shape(x))]
        if len(tops) == 1:
            return (tops[0],)
        return (graph.op("Concat", *(graph.op("Flatten", t, axis=1) for t in tops), axis=1),)


@register
class BatchReduction(Layer):
    """One axis reduced, whole or in pieces of level x level entries; semantics 1.15 (batch_reduction_layer)."""

    type = "BatchReduction"
    family = "pooling"
    param = ("batch_reduction_param",)

    level: tuple[int, ...] = (1,)
    reduction_param: Any = None

    @property
    def operation(self) -> str:
        if self.reduction_param is None:
            return "SUM"
        names = self.reduction_param.DESCRIPTOR.fields_by_name["operation"].enum_type.values_by_number
        return names[self.reduction_param.operation].name

    def plan(self, x) -> tuple[int, tuple[int, ...] | None]:
        """Axis, and the lengths of its pieces (None: all of it, and the axis goes away)."""
        if self.operation not in ("SUM", "MEAN", "TOPK"):
            raise Misfit(f"operation {self.operation}", "SUM, MEAN or TOPK (the fork aborts on others)", "operation")
        axis = canonical_axis(self.reduction_param.axis if self.reduction_param is not None else 0, len(x))
        levels = self.level or (1,)
        if self.operation == "TOPK":
            if len(levels) > 1:
                raise Misfit(f"{len(levels)} levels with TOPK", "one", "level")
            if not 1 <= self.reduction_param.k <= x[axis]:
                raise Misfit(f"k {self.reduction_param.k} of {x[axis]} entries", f"1 to {x[axis]}", "k")
            return axis, None if levels == (1,) else (x[axis],)
        if levels == (1,):
            return axis, None
        pieces = tuple(level * level for level in levels)
        if sum(pieces) != x[axis]:
            raise Misfit(f"levels {levels}, {sum(pieces)} entries, on an extent of {x[axis]}", "equal numbers", "level")
        return axis, pieces

    def top_shapes(self, x):
        axis, pieces = self.plan(x)
        return ((*x[:axis], *(() if pieces is None else (len(pieces),)), *x[axis + 1 :]),)

    def reference(self, blobs, x):
        axis, pieces = self.plan(x.shape)
        parts = [x] if pieces is None else np.split(x, np.cumsum(pieces)[:-1], axis)
        tops = [self._reduced(part, axis) for part in parts]
        return (tops[0] if pieces is None else np.stack(tops, axis),)

    def _reduced(self, part, axis):
        if self.operation == "TOPK":
            return np.take(-np.sort(-part, axis), range(self.reduction_param.k), axis).mean(axis)
        return part.sum(axis) if self.operation == "SUM" else part.mean(axis)

    def forward(self, module, x):
        axis, pieces = self.plan(tuple(x.shape))
        tops = []
        for part in [x] if pieces is None else torch.split(x, list(pieces), axis):
            if self.operation == "TOPK":
                part = part.topk(self.reduction_param.k, axis).values
            tops.append(part.sum(axis) if self.operation == "SUM" else part.mean(axis))
        return (tops[0] if pieces is None else torch.stack(tops, axis),)

    def onnx(self, graph, x):
        axis, pieces = self.plan(graph.shape(x))
        parts = (x,)
        if pieces is not None and len(pieces) > 1:
            parts = graph.op("Split", x, graph.constant(pieces, np.int64), axis=axis, outputs=len(pieces))
        tops = []
        for part in parts:
            if self.operation == "TOPK":
                part, _ = graph.op(
                    "TopK", part, graph.constant([self.reduction_param.k], np.int64), axis=axis, outputs=2
                )
            kind = "ReduceSum" if self.operation == "SUM" else "ReduceMean"
            tops.append(graph.reduce(kind, part, (axis,), keep=pieces is not None))
        return (tops[0] if len(tops) == 1 else graph.op("Concat", *tops, axis=axis),)

    def complete(self, message):
        if not message.batch_reduction_param.level:
            message.batch_reduction_param.level.append(1)
