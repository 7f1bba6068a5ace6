"""PSROIPooling: R-FCN's position-sensitive mean over the bins of regions."""

from __future__ import annotations

from math import isfinite, prod

import numpy as np
import torch

from ..base import Layer, Misfit, register, show
from ..values import check_regions

_LEAST = np.float32(0.1)  # what the forks make of regions without a size


@register
class PSROIPooling(Layer):
    """Bin i, j of each region [item, x1, y1, x2, y2], the mean over that bin's own channels (psroi_pooling_layer).

    N x (D * G * G) x H x W and R x 5 give R x D x G x G; bin i, j of channel d reads channel (d * G + i) * G + j.
    """

    type = "PSROIPooling"
    pack = "rfcn"
    family = "pooling"
    param = ("psroi_pooling_param",)
    bottom_count = (2, 2)
    no_gradient = (1,)

    spatial_scale: float | None = None
    output_dim: int | None = None
    group_size: int | None = None

    @property
    def group(self) -> int:
        return self.group_size or 0

    def top_shapes(self, x, rois):
        if (self.output_dim or 0) < 1 or self.group < 1 or self.spatial_scale is None:
            found = f"spatial_scale {self.spatial_scale}, output_dim {self.output_dim}, group_size {self.group_size}"
            raise Misfit(found, "all of them, above 0", "psroi_pooling_param")
        if not isfinite(self.spatial_scale):
            raise Misfit(f"spatial_scale {self.spatial_scale:g}", "a finite number", "spatial_scale")
        if len(x) != 4 or prod(rois[1:]) != 5:
            raise Misfit(f"{show(x)} and {show(rois)}", "N x C x H x W, and 5 numbers a region", "bottom")
        channels = (self.output_dim or 0) * self.group**2
        if x[1] != channels:
            raise Misfit(f"{x[1]} channels", f"output_dim * group_size^2, which is {channels}", "bottom")
        return ((rois[0], self.output_dim or 0, self.group, self.group),)

    def edges(self, rois: np.ndarray, side: int, extent: int) -> tuple[np.ndarray, np.ndarray]:
        """First cell and the one past the last of every bin along an axis, R x G, in float32 as the forks have it."""
        corner = np.copysign(np.floor(np.abs(rois) + np.float32(0.5)), rois)  # halves away from 0
        scale = np.float32(self.spatial_scale or 0)
        start, end = corner[:, [side]] * scale, (corner[:, [side + 2]] + np.float32(1)) * scale
        size = np.maximum(end - start, _LEAST) / np.float32(self.group)
        places = np.arange(self.group + 1, dtype=np.float32) * size + start
        return np.clip(np.floor(places[:, :-1]), 0, extent), np.clip(np.ceil(places[:, 1:]), 0, extent)

    def portions(self, rois: np.ndarray, side: int, extent: int) -> np.ndarray:
        """What each cell counts in each bin along an axis: R x G x cells; 0 in an empty bin."""
        low, high = self.edges(rois, side, extent)
        cells = np.arange(extent)
        inside = (low[..., None] <= cells) & (cells < high[..., None])
        return inside / np.maximum(high - low, 1).astype(np.float64)[..., None]

    def reference(self, blobs, x, rois):
        check_regions(rois, len(x), self.spatial_scale or 0)
        regions = rois.reshape(-1, 5).astype(np.float32)
        y = np.zeros(self.top_shapes(x.shape, rois.shape)[0])
        rows, columns = (np.stack(self.edges(regions, side, x.shape[axis]), -1) for side, axis in ((2, 2), (1, 3)))
        own = x.reshape(len(x), self.output_dim or 0, self.group, self.group, *x.shape[2:])
        for n, i, j in np.ndindex(len(regions), self.group, self.group):
            part = own[int(regions[n, 0]), :, i, j, slice(*rows[n, i].astype(int)), slice(*columns[n, j].astype(int))]
            if part[0].size:
                y[n, :, i, j] = part.mean((1, 2))
        return (y,)

    def forward(self, module, x, rois):
        check_regions(rois, len(x), self.spatial_scale or 0)
        regions = rois.detach().reshape(-1, 5).cpu().numpy().astype(np.float32)
        rows, columns = (self.portions(regions, side, x.shape[axis]) for side, axis in ((2, 2), (1, 3)))
        own = x.reshape(len(x), self.output_dim or 0, self.group, self.group, *x.shape[2:])
        y = x.new_zeros(self.top_shapes(tuple(x.shape), tuple(rois.shape))[0])
        for item in np.unique(regions[:, 0].astype(int)):
            here = np.flatnonzero(regions[:, 0].astype(int) == item)
            tall, wide = (torch.from_numpy(part[here]).to(x) for part in (rows, columns))
            means = torch.einsum("dijhw,rih->rdijw", own[int(item)], tall)
            means = torch.einsum("rdijw,rjw->rdij", means, wide)
            y = y.index_put((torch.from_numpy(here).to(x.device),), means)
        return (y,)

    def onnx(self, graph, x, rois):
        """Rows of all items side by side, so that one product per bin takes each region's own."""
        _, _, high, wide = graph.shape(x)
        g, d = self.group, self.output_dim or 0
        rois = graph.reshape(rois, (-1, 5))
        rows, columns = self._onnx_shares(graph, rois, 2, high), self._onnx_shares(graph, rois, 1, wide)
        items = graph.op("Squeeze", graph.extents(x, 0), graph.constant([0], np.int64))
        items = graph.op("Range", graph.constant(0, np.int64), items, graph.constant(1, np.int64))
        own = graph.op("Cast", graph.slice(rois, [0], [1], [1]), to=7)
        own = graph.op("Cast", graph.op("Equal", own, items), to=1)
        own = graph.op("Unsqueeze", own, graph.constant([1, 3], np.int64))
        rows = graph.op("Mul", graph.op("Unsqueeze", rows, graph.constant([2], np.int64)), own)
        rows = graph.op("Transpose", graph.reshape(rows, (0, 0, -1)), perm=(1, 0, 2))
        rows = graph.op("Unsqueeze", rows, graph.constant([1], np.int64))
        cells = graph.op("Transpose", graph.reshape(x, (-1, d, g, g, high, wide)), perm=(2, 3, 0, 4, 1, 5))
        sums = graph.op("MatMul", rows, graph.reshape(cells, (g, g, -1, d * wide)))
        sums = graph.reshape(sums, (g, g, -1, d, wide))
        columns = graph.op("Transpose", columns, perm=(1, 0, 2))
        sums = graph.op("Mul", sums, graph.op("Unsqueeze", columns, graph.constant([0, 3], np.int64)))
        return (graph.op("Transpose", graph.reduce("ReduceSum", sums, (4,)), perm=(2, 3, 0, 1)),)

    def _onnx_shares(self, graph, rois, side: int, extent: int) -> str:
        """What `shares` gives."""
        half, one, zero = (graph.constant(value) for value in (0.5, 1.0, 0.0))
        scale = graph.constant(self.spatial_scale)
        start, end = (graph.slice(rois, [side + i], [side + i + 1], [1]) for i in (0, 2))
        start, end = (
            graph.op("Mul", graph.op("Sign", v), graph.op("Floor", graph.op("Add", graph.op("Abs", v), half)))
            for v in (start, end)
        )
        start, end = graph.op("Mul", start, scale), graph.op("Mul", graph.op("Add", end, one), scale)
        size = graph.op("Max", graph.op("Sub", end, start), graph.constant(_LEAST))
        size = graph.op("Div", size, graph.constant(float(self.group)))
        edges = []
        for first, kind in ((0, "Floor"), (1, "Ceil")):
            numbers = np.arange(first, first + self.group, dtype=np.float32)[None]
            edge = graph.op("Add", graph.op("Mul", graph.constant(numbers, name="bins"), size), start)
            edges.append(graph.op("Clip", graph.op(kind, edge), zero, graph.constant(float(extent))))
        count = graph.op("Max", graph.op("Sub", edges[1], edges[0]), one)
        low, high, count = (graph.op("Unsqueeze", v, graph.constant([2], np.int64)) for v in (*edges, count))
        cells = graph.constant(np.arange(extent, dtype=np.float32), name="cells")
        inside = graph.op("And", graph.op("LessOrEqual", low, cells), graph.op("Less", cells, high))
        return graph.op("Div", graph.op("Cast", inside, to=1), count)
