"""ROIAlign as Synopsys' fork has it: the largest of four samples of each bin of each region."""

from __future__ import annotations

from math import isfinite, prod
from typing import Any

import numpy as np
import torch

from ..base import Layer, Misfit, register
from ..regions import regions_shape
from ..values import check_regions

# The quarter points of a region, along y and x, in the fork's order.
_SAMPLES = np.array([(-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)], np.float32)
_POINTS = 4  # cells of a bin that a sample looks at, at most

Bins = dict[str, np.ndarray]


@register
class ROIAlign(Layer):
    """The largest of four samples of each bin of each region [item, x1, y1, x2, y2] (Synopsys' roi_align_layer).

    A sample weighs the bin's first four cells by their nearness to a quarter point of the region. Cells past the end of
    a row, map or blob are those that follow in memory, as in the fork (`_gap`). Mask R-CNN's mean over a bin is another
    layer that no fork here has under this name.
    """

    type = "ROIAlign"
    pack = "faster_rcnn"
    family = "pooling"
    param = ("roi_align_param",)
    bottom_count = (2, 2)
    no_gradient = (1,)

    pooled_h: int = 0
    pooled_w: int = 0
    spatial_scale: float = 1.0

    def top_shapes(self, x, rois):
        if not isfinite(self.spatial_scale):
            raise Misfit(f"spatial_scale {self.spatial_scale:g}", "a finite number", "spatial_scale")
        return (regions_shape(self, x, rois),)

    def _spans(self, rois: np.ndarray, side: int, bins: int, extent: int) -> Bins:
        """Along an axis, of each region: start and length, and of each bin first cell, number of cells, emptiness."""
        start, end = (rois[:, [side + i]] * np.float32(self.spatial_scale) for i in (0, 2))
        size = np.maximum(end - start + np.float32(1), np.float32(1)) / np.float32(bins)
        edges = np.arange(bins + 1, dtype=np.float32) * size + start
        low, high = (np.clip(e, 0, np.float32(extent)) for e in (edges[:, :-1], edges[:, 1:]))
        first = np.ceil(low).astype(np.int64)
        count = np.maximum(np.floor(high).astype(np.int64) - first + 1, 0)
        return {"start": start, "length": end - start, "first": first, "count": count, "empty": high <= low}

    @staticmethod
    def _nearness(cells: np.ndarray, span: Bins, samples: np.ndarray, kind: Any) -> np.ndarray:
        """Along an axis: R x bins x ... x points to ... x samples, 1 on a sample's point and 0 beyond half a region."""
        shape = (-1, *[1] * (cells.ndim - 1))
        start, length = (span[name].reshape(shape).astype(kind) for name in ("start", "length"))
        with np.errstate(invalid="ignore", divide="ignore"):
            place = kind(2) * (cells.astype(kind) - start) / length - kind(1)
        place = np.clip(np.where(length == 0, kind(0), place), kind(-1), kind(1))
        return np.maximum(kind(0), kind(1) - np.abs(samples.astype(kind) - place[..., None]))

    def points(self, x, rois: np.ndarray, kind: Any = np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places in the whole blob for channel 0, R x PH x PW x points; weights with samples behind; empty bins.

        Bins are laid out in float32, as in the fork; weights are computed in `kind`.
        """
        rois = rois.reshape(-1, 5).astype(np.float32)
        _, channels, high, wide = x
        rows = self._spans(rois, 2, self.pooled_h, high)
        columns = self._spans(rois, 1, self.pooled_w, wide)
        across = np.maximum(columns["count"], 1)[:, None, :, None]
        number = np.arange(_POINTS)
        row = rows["first"][:, :, None, None] + number // across
        column = columns["first"][:, None, :, None] + number % across
        there = number < (rows["count"][:, :, None] * columns["count"][:, None, :])[..., None]
        weights = self._nearness(row, rows, _SAMPLES[:, 0], kind) * self._nearness(
            column, columns, _SAMPLES[:, 1], kind
        )
        place = rois[:, 0].astype(np.int64)[:, None, None, None] * (channels * high * wide) + row * wide + column
        return place, weights * there[..., None], rows["empty"][:, :, None] | columns["empty"][:, None, :]

    def reference(self, blobs, x, rois):
        check_regions(rois, len(x), self.spatial_scale)
        place, weights, empty = self.points(x.shape, rois, np.float64)
        flat = x.reshape(-1)
        memory = np.concatenate([flat, np.zeros(_gap(flat.size)), flat[: x.shape[3] + 1], [0]])
        sums = np.empty((len(rois), x.shape[1], self.pooled_h, self.pooled_w))
        for channel in range(x.shape[1]):
            values = memory[np.minimum(place + channel * prod(x.shape[2:]), memory.size - 1)]
            sums[:, channel] = (values[..., None] * weights).sum(-2).max(-1)
        return (np.where(empty[:, None], np.maximum(sums, 0), sums),)

    def forward(self, module, x, rois):
        check_regions(rois, len(x), self.spatial_scale)
        parts = self.points(tuple(x.shape), rois.detach().cpu().numpy())
        place, weights, empty = (torch.from_numpy(part).to(x.device) for part in parts)
        channel = torch.arange(x.shape[1], device=x.device).reshape(1, -1, 1, 1, 1) * prod(x.shape[2:])
        place = place[:, None] + channel
        flat = x.reshape(-1)
        copy = flat[: x.shape[3] + 1].detach()
        flat = torch.cat([flat, x.new_zeros(_gap(x.numel())), copy, x.new_zeros(1)])
        values = flat[place.clamp(max=len(flat) - 1)]
        sums = (values[..., None] * weights[:, None].to(x)).sum(-2)
        best = sums.gather(-1, sums.argmax(-1, keepdim=True))[..., 0]  # the first of equal ones
        return (torch.where(empty[:, None] & (best <= 0), 0, best),)

    def onnx(self, graph, x, rois):
        _, channels, high, wide = graph.shape(x)
        rois = graph.reshape(rois, (-1, 5))
        rows = self._onnx_spans(graph, rois, 2, self.pooled_h, high, (-1, self.pooled_h, 1, 1))
        columns = self._onnx_spans(graph, rois, 1, self.pooled_w, wide, (-1, 1, self.pooled_w, 1))
        number = graph.constant(np.arange(_POINTS, dtype=np.float32), name="number")
        across = graph.op("Max", columns["count"], graph.constant(1.0))
        down = graph.op("Floor", graph.op("Div", number, across))
        row = graph.op("Add", rows["first"], down)
        column = graph.op("Add", columns["first"], graph.op("Sub", number, graph.op("Mul", down, across)))
        there = graph.op("Less", number, graph.op("Mul", rows["count"], columns["count"]))
        near = (self._onnx_nearness(graph, *part) for part in ((row, rows, 0), (column, columns, 1)))
        weights = graph.op("Mul", *near)
        unit = graph.constant([-1], np.int64)
        weights = graph.op("Mul", weights, graph.op("Unsqueeze", graph.op("Cast", there, to=1), unit))
        # places as integers: float32 does not hold those of a large blob
        item = graph.reshape(graph.slice(rois, [0], [1], [1]), (-1, 1, 1, 1, 1))
        parts = [(item, channels * high * wide), (self._behind(graph, row), wide), (self._behind(graph, column), 1)]
        place = graph.constant(np.arange(channels).reshape(1, -1, 1, 1, 1) * high * wide, np.int64)
        for value, step in parts:
            step = graph.constant(step, np.int64)
            place = graph.op("Add", place, graph.op("Mul", graph.op("Cast", value, to=7), step))
        flat = graph.reshape(x, (-1,))
        copy = graph.slice(flat, [0], [wide + 1], [0])
        flat = graph.op("Concat", flat, self._onnx_gap(graph, flat), copy, graph.constant([0.0]), axis=0)
        last = graph.op("Sub", graph.extents(flat, 0), graph.constant([1], np.int64))
        values = graph.op("Unsqueeze", graph.op("Gather", flat, graph.op("Min", place, last)), unit)
        one = graph.constant([1], np.int64)
        sums = graph.op("Mul", values, graph.op("Unsqueeze", weights, one))
        sums = graph.reduce("ReduceMax", graph.reduce("ReduceSum", sums, (4,)), (4,))
        empty = graph.reshape(graph.op("Or", rows["empty"], columns["empty"]), (-1, 1, self.pooled_h, self.pooled_w))
        return (graph.op("Where", empty, graph.op("Max", sums, graph.constant(0.0)), sums),)

    @staticmethod
    def _onnx_gap(graph, flat):
        """As many zeros as `_gap` says."""
        four, sixteen = (graph.constant([n], np.int64) for n in (4, 16))
        size = graph.op("Mul", graph.op("Shape", flat), four)
        whole = graph.op("Div", graph.op("Add", size, graph.constant([23], np.int64)), sixteen)
        bytes_left = graph.op("Sub", graph.op("Mul", whole, sixteen), size)
        return graph.op("ConstantOfShape", graph.op("Div", bytes_left, four))

    @staticmethod
    def _behind(graph, value):
        """R x PH x PW x points with an axis for the channels."""
        return graph.op("Unsqueeze", value, graph.constant([1], np.int64))

    def _onnx_spans(self, graph, rois, side: int, bins: int, extent: int, shape) -> dict[str, str]:
        """What `_spans` gives, as values that broadcast over R x PH x PW x points."""
        scale, one = graph.constant(self.spatial_scale), graph.constant(1.0)
        start, end = (graph.op("Mul", graph.slice(rois, [side + i], [side + i + 1], [1]), scale) for i in (0, 2))
        size = graph.op("Max", graph.op("Add", graph.op("Sub", end, start), one), one)
        size = graph.op("Div", size, graph.constant(float(bins)))
        edges = []
        for first in (0, 1):
            numbers = graph.constant(np.arange(first, first + bins, dtype=np.float32)[None], name="bins")
            edge = graph.op("Add", graph.op("Mul", numbers, size), start)
            edges.append(graph.op("Clip", edge, graph.constant(0.0), graph.constant(float(extent))))
        low, high = edges
        first = graph.op("Ceil", low)
        count = graph.op("Add", graph.op("Sub", graph.op("Floor", high), first), one)
        made = {"first": first, "count": graph.op("Max", count, graph.constant(0.0))}
        made["empty"] = graph.op("Not", graph.op("Less", low, high))
        spans = {name: graph.reshape(value, shape) for name, value in made.items()}
        region = {"start": start, "length": graph.op("Sub", end, start)}
        return spans | {name: graph.reshape(value, (-1, 1, 1, 1)) for name, value in region.items()}

    @staticmethod
    def _onnx_nearness(graph, cells, span, axis: int):
        """What `_nearness` gives."""
        one, zero = graph.constant(1.0), graph.constant(0.0)
        flat = graph.op("Equal", span["length"], zero)
        length = graph.op("Where", flat, one, span["length"])
        place = graph.op("Mul", graph.constant(2.0), graph.op("Sub", cells, span["start"]))
        place = graph.op("Sub", graph.op("Div", place, length), one)
        place = graph.op("Clip", graph.op("Where", flat, zero, place), graph.constant(-1.0), one)
        place = graph.op("Unsqueeze", place, graph.constant([-1], np.int64))
        away = graph.op("Abs", graph.op("Sub", graph.constant(_SAMPLES[:, axis], name="samples"), place))
        return graph.op("Max", graph.op("Sub", one, away), zero)


def _gap(values: int) -> int:
    """Values between the end of a blob in memory and the copy of it that the recorded runs found behind it.

    No rule gives what lies there: it is where the C library's allocator puts the next piece of memory (16 bytes at a
    time, 8 of them its own), and that held the bottom's copy.
    """
    return ((4 * values + 23) // 16 * 16 - 4 * values) // 4
