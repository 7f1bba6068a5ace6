"""OpenPose: ImResize enlarges its maps, Nms finds their peaks."""

from __future__ import annotations

from math import isfinite

import numpy as np
import torch

from ..base import Layer, Misfit, float32, register, show
from .sampling import Weights


def _shares(distance: np.ndarray) -> list[np.ndarray]:
    """Catmull and Rom's weights of the four cells around a place, by its distance from the second."""
    d = distance
    return [
        ((-0.5 * d + 1) * d - 0.5) * d,
        (1.5 * d - 2.5) * d * d + 1,
        ((-1.5 * d + 2) * d + 0.5) * d,
        (0.5 * d - 0.5) * d * d,
    ]


@register
class ImResize(Layer):
    """N x C x H x W to 1 x C x H' x W': each item cut to its scale and enlarged, and their mean (imresize_layer).

    Cubic, by the rule of its GPU, on which OpenPose runs; its CPU has OpenCV's. Item n is what remains of the map after
    half of 1 - start_scale + n * scale_gap is cut off each end.
    """

    type = "ImResize"
    pack = "openpose"
    family = "reshaping"
    param = ("imresize_param",)
    no_gradient = (0,)
    fixed_batch = True

    target_spatial_width: int = 368
    target_spatial_height: int = 368
    factor: float = 0.0
    start_scale: float = 1.0
    scale_gap: float = float32(0.1)

    def cut(self, length: int, item: int) -> int:
        """Cells that an item leaves out at either end of an axis."""
        gap = np.float32(1) - np.float32(self.start_scale) + np.float32(item) * np.float32(self.scale_gap)
        with np.errstate(over="ignore"):
            return int(np.clip(np.floor(np.float32(length // 2) * gap), -1, length))

    def top_shapes(self, x):
        if len(x) != 4:
            raise Misfit(f"an input with {len(x)} axes", "4 axes: N, C, H, W", "bottom")
        if not x[0]:
            raise Misfit(f"an input of {show(x)}", "an item or more, whose mean is taken", "bottom")
        if not all(map(isfinite, (self.factor, self.start_scale, self.scale_gap))):
            found = f"factor {self.factor:g}, start_scale {self.start_scale:g}, scale_gap {self.scale_gap:g}"
            raise Misfit(found, "finite numbers", "imresize_param")
        out = (self.target_spatial_height, self.target_spatial_width)
        if self.factor:
            high, wide = (int(np.float32(n) * np.float32(self.factor)) for n in x[2:])
            out = (high, wide)
        if min(out) < 1:
            raise Misfit(f"a size of {show(out)}", "both above 0", "imresize_param")
        cuts = [self.cut(n, item) for n in x[2:] for item in (0, max(x[0] - 1, 0))]
        if min(cuts) < 0 or any(2 * max(cuts[i : i + 2]) >= n for i, n in ((0, x[2]), (2, x[3]))):
            raise Misfit(f"{x[0]} scales of {show(x[2:])}", "scales that leave a cell or more", "scale_gap")
        return ((1, x[1], *out),)

    def weights(self, x, item: int) -> Weights:
        """What an item's cells count in each sample."""
        out = self.top_shapes(x)[0][2:]
        return Weights(*(self._matrix(n, o, self.cut(n, item)) for n, o in zip(x[2:], out, strict=True)))

    @staticmethod
    def _matrix(length: int, out: int, cut: int) -> np.ndarray:
        inner, size = length - 2 * cut, np.float32(out)
        offset = np.float32(size / np.float32(inner) / 2 - 0.5)
        places = (np.arange(out, dtype=np.float32) - offset) * (np.float32(inner) / size)
        second = np.maximum(np.trunc(places.astype(np.float64) + 1e-5).astype(int), 0)
        third = np.minimum(second + 1, inner - 1)
        cells = [np.maximum(second - 1, 0), second, third, np.minimum(third + 1, inner - 1)]
        matrix = np.zeros((out, length))
        distance = (places - second.astype(np.float32)).astype(np.float64)
        for column, share in zip(cells, _shares(distance), strict=True):
            np.add.at(matrix, (np.arange(out), cut + column), share)
        return matrix

    def reference(self, blobs, x):
        return (sum(self.weights(x.shape, n).numpy(x[n : n + 1]) for n in range(len(x))) / len(x),)

    def forward(self, module, x):
        shape = tuple(x.shape)
        parts = [self.weights(shape, n).torch(x[n : n + 1]) for n in range(len(x))]
        return (torch.stack(parts).sum(0) / len(x),)

    def onnx(self, graph, x):
        shape = graph.shape(x)
        parts = []
        for n in range(shape[0]):
            item = graph.slice(x, [n], [n + 1], [0]) if shape[0] > 1 else x
            parts.append(self.weights(shape, n).onnx(graph, item))
        if len(parts) == 1:
            return (parts[0],)
        return (graph.op("Div", graph.op("Sum", *parts), graph.constant(float(shape[0]))),)


@register
class Nms(Layer):
    """The peaks of the first maps of N x C x H x W: N x num_parts x (max_peaks + 1) x 3 (OpenPose's nms_layer).

    The first row holds the number of peaks, the others x, y and score of one each, 0 where there are no more; x and y
    are means over 7 x 7 cells, weighted by positive scores. By the rule of its GPU: a peak is above the threshold and
    its eight neighbours, two cells or more from the upper and left ends; rows are compared with the width.
    """

    type = "Nms"
    pack = "openpose"
    family = "other"
    param = ("nms_param",)
    no_gradient = (0,)

    threshold: float = 0.5
    max_peaks: int = 20
    num_parts: int = 15

    def top_shapes(self, x):
        if len(x) != 4:
            raise Misfit(f"an input with {len(x)} axes", "4 axes: N, C, H, W", "bottom")
        if self.max_peaks < 1 or self.num_parts < 1:
            raise Misfit(f"max_peaks {self.max_peaks}, num_parts {self.num_parts}", "both above 0", "nms_param")
        if x[1] < self.num_parts or (x[0] > 1 and x[1] != self.num_parts):
            wanted = "num_parts of them, or more for a batch of 1"
            raise Misfit(f"{x[1]} channels for {self.num_parts} parts", wanted, "bottom")
        return ((x[0], self.num_parts, self.max_peaks + 1, 3),)

    def reference(self, blobs, x):
        y = np.zeros(self.top_shapes(x.shape)[0])
        high, wide = x.shape[2:]
        flat, threshold = x.reshape(-1), np.float32(self.threshold)
        for n, part in np.ndindex(y.shape[:2]):
            values, found = x[n, part], 0
            for row in range(2, high - 1):
                for column in range(2, wide - 1):
                    around = values[row - 1 : row + 2, column - 1 : column + 2]
                    if values[row, column] > threshold and (around < values[row, column]).sum() == 8:
                        found += 1
                        if found <= self.max_peaks:
                            start = (n * x.shape[1] + part) * high * wide
                            place = self._centre(flat, start, row, column, wide)
                            y[n, part, found] = (*place, values[row, column])
            y[n, part, 0, 0] = found
        return (y,)

    @staticmethod
    def _centre(flat, start: int, row: int, column: int, wide: int) -> tuple[float, float]:
        """The mean place of positive scores around a peak; rows past the map are the next one's, as in memory."""
        total = across = down = 0.0
        for r in range(max(row - 3, 1), min(row + 4, wide)):
            for c in range(max(column - 3, 1), min(column + 4, wide)):
                place = start + r * wide + c
                score = max(flat[place], 0.0) if place < len(flat) else 0.0
                total, across, down = total + score, across + c * score, down + r * score
        return (across / total, down / total) if total else (np.nan, np.nan)

    def forward(self, module, x):
        tops = self.reference([], x.detach().cpu().double().numpy())
        return tuple(torch.from_numpy(top).to(x) for top in tops)

    def onnx(self, graph, x):
        high, wide = graph.shape(x)[2:]
        parts = graph.slice(x, [0], [self.num_parts], [1])
        order, number = self._onnx_order(graph, parts, high, wide)
        k = graph.constant([self.max_peaks], np.int64)
        ranks, places = graph.op("TopK", order, k, axis=2, outputs=2)
        there = graph.op("Greater", ranks, graph.constant(0.0))
        scores, centres = self._onnx_centres(graph, x, places, high, wide)
        last = graph.constant([-1], np.int64)
        columns = [graph.op("Unsqueeze", v, last) for v in (*centres, scores)]
        rows = graph.op("Concat", *columns, axis=3)
        rows = graph.op("Where", graph.op("Unsqueeze", there, last), rows, graph.constant(0.0))
        first = graph.op("Unsqueeze", graph.op("Unsqueeze", number, last), last)
        first = graph.pad(first, (0, 0, 0, 0), (0, 0, 0, 2), 0.0)
        return (graph.op("Concat", first, rows, axis=2),)

    def _onnx_order(self, graph, parts, high: int, wide: int):
        """N x P x cells, larger the earlier a peak is and 0 where none is; and N x P, how many there are."""
        inner = graph.slice(parts, [2, 2], [high - 1, wide - 1], [2, 3])
        peak = graph.op("Greater", inner, graph.constant(self.threshold))
        for down, across in np.ndindex(3, 3):
            if (down, across) != (1, 1):
                starts = [1 + down, 1 + across]
                near = graph.slice(parts, starts, [high - 2 + down, wide - 2 + across], [2, 3])
                peak = graph.op("And", peak, graph.op("Greater", inner, near))
        peak = graph.pad(graph.op("Cast", peak, to=1), (0, 0, 2, 2), (0, 0, 1, 1), 0.0)
        cells = high * wide
        peak = graph.reshape(peak, (-1, self.num_parts, cells))
        number = graph.reduce("ReduceSum", peak, (2,))
        order = graph.op("Mul", peak, graph.constant(np.arange(cells, 0, -1), name="order"))
        short = max(self.max_peaks - cells, 0)
        return graph.pad(order, (0, 0, 0), (0, 0, short), 0.0), number

    def _onnx_centres(self, graph, x, places, high: int, wide: int):
        """Of peaks at flat places N x P x K: their scores, and x and y of the mean place around them."""
        _, channels, *_ = graph.shape(x)
        width = graph.constant(wide, np.int64)
        row = graph.op("Div", places, width)
        column = graph.op("Sub", places, graph.op("Mul", row, width))
        items = graph.op("Squeeze", graph.extents(x, 0), graph.constant([0], np.int64))
        items = graph.op("Range", graph.constant(0, np.int64), items, graph.constant(1, np.int64))
        starts = graph.op("Mul", graph.reshape(items, (-1, 1, 1, 1)), graph.constant(channels * high * wide, np.int64))
        parts = np.arange(self.num_parts).reshape(1, -1, 1, 1) * high * wide
        starts = graph.op("Add", starts, graph.constant(parts, np.int64))
        last = graph.constant([-1], np.int64)
        near = [np.repeat(np.arange(-3, 4), 7), np.tile(np.arange(-3, 4), 7)]
        rows, columns = (
            graph.op("Add", graph.op("Unsqueeze", v, last), graph.constant(d, np.int64))
            for v, d in zip((row, column), near, strict=True)
        )
        flat = graph.op("Concat", graph.reshape(x, (-1,)), graph.constant([0.0]), axis=0)
        end = graph.op("Sub", graph.extents(flat, 0), graph.constant([1], np.int64))

        def scores(r, c):
            place = graph.op("Add", starts, graph.op("Add", graph.op("Mul", r, width), c))
            return graph.op("Gather", flat, graph.op("Max", graph.constant([0], np.int64), graph.op("Min", place, end)))

        inside = [graph.op("Greater", v, graph.constant(0, np.int64)) for v in (rows, columns)]
        inside += [graph.op("Less", v, width) for v in (rows, columns)]
        kept = graph.op("And", graph.op("And", *inside[:2]), graph.op("And", *inside[2:]))
        weight = graph.op("Where", kept, graph.op("Relu", scores(rows, columns)), graph.constant(0.0))
        total = graph.reduce("ReduceSum", weight, (3,))
        sums = (
            graph.reduce("ReduceSum", graph.op("Mul", weight, graph.op("Cast", v, to=1)), (3,)) for v in (columns, rows)
        )
        own = scores(*(graph.op("Unsqueeze", v, last) for v in (row, column)))
        return graph.op("Squeeze", own, last), [graph.op("Div", total_of, total) for total_of in sums]
