"""Im2col: what a convolution multiplies, as a layer."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
import torch.nn.functional as F

from .base import Misfit, register
from .convolution import Convolving
from .memory import Reads
from .spatial import conv_extent, end_pad, offsets, padded, require_reach, telling, window

_MOST_CELLS = 4096  # of a window in ONNX, where each has nodes of its own


@register
class Im2col(Convolving):
    """The cells of every window, laid out along the channels; semantics 1.21 (im2col_layer)."""

    type = "Im2col"
    family = "reshaping"
    bottom_count = top_count = (1, 1)  # type: ignore[assignment]

    def columns(self, x):
        """Channel axis, sizes and window counts for a bottom's shape."""
        axis = self.channel_axis(x)
        sizes = self.sizes(len(x) - axis - 1)
        require_reach(x[axis + 1 :], sizes[0], sizes[2], sizes[3])
        out = tuple(map(conv_extent, x[axis + 1 :], *sizes))
        if any(o < 1 for o in out):
            raise Misfit(f"an input of {'x'.join(map(str, x[axis + 1 :]))}, smaller than the window", "", "kernel_size")
        return axis, sizes, out

    def top_shapes(self, *bottoms):
        tops = []
        for x in bottoms:
            axis, (kernel, *_), out = self.columns(x)
            tops.append((*x[:axis], x[axis] * prod(kernel), *out))
        return tuple(tops)

    def blobs(self, *bottoms):
        return []

    def buffers(self, *bottoms):
        """A padded copy, and the parts that are joined."""
        axis, (kernel, stride, pad, dilation), out = self.columns(bottoms[0])
        reach = map(end_pad, bottoms[0][axis + 1 :], out, kernel, stride, pad, dilation)
        wide = [n + p + e for n, p, e in zip(bottoms[0][axis + 1 :], pad, reach, strict=True)]
        return prod(bottoms[0][: axis + 1]) * (prod(wide) + prod(kernel) * prod(out))

    def reference(self, blobs, *bottoms):
        tops = []
        for x, top in zip(bottoms, self.top_shapes(*(b.shape for b in bottoms)), strict=True):
            axis, (kernel, stride, pad, dilation), out = self.columns(x.shape)
            ends = tuple(map(end_pad, x.shape[axis + 1 :], out, kernel, stride, pad, dilation))
            cells = padded(x, pad, ends)
            parts = [cells[(..., *window(at, out, stride, dilation))] for at in offsets(kernel)]
            tops.append(np.stack(parts, axis + 1).reshape(top))
        return tuple(tops)

    def forward(self, module, *bottoms):
        tops = []
        for x, top in zip(bottoms, self.top_shapes(*(tuple(b.shape) for b in bottoms)), strict=True):
            axis, (kernel, stride, pad, dilation), out = self.columns(tuple(x.shape))
            ends = tuple(map(end_pad, x.shape[axis + 1 :], out, kernel, stride, pad, dilation))
            cells = F.pad(x, [n for p, e in zip(pad[::-1], ends[::-1], strict=True) for n in (p, e)])
            stride, dilation = telling(self.longest(x.shape[axis + 1 :], pad), kernel, stride, dilation)
            if len(kernel) == 2:
                flat = cells.reshape(prod(x.shape[:axis]), *cells.shape[axis:])
                tops.append(F.unfold(flat, kernel, dilation, 0, stride).reshape(top))
                continue
            parts = [cells[(..., *window(at, out, stride, dilation))] for at in offsets(kernel)]
            tops.append(torch.stack(parts, axis + 1).reshape(top))
        return tuple(tops)

    def onnx(self, graph, *bottoms):
        tops = []
        for i, x in enumerate(bottoms):
            shape = graph.shape(x)
            axis, (kernel, stride, pad, dilation), out = self.columns(shape)
            if prod(kernel) > _MOST_CELLS:
                raise Misfit(f"a window of {prod(kernel)} cells", f"{_MOST_CELLS} at most in ONNX", "kernel_size")
            ends = tuple(map(end_pad, shape[axis + 1 :], out, kernel, stride, pad, dilation))
            lead = (0,) * (axis + 1)
            cells = graph.pad(x, (*lead, *pad), (*lead, *ends), 0.0)
            spatial = tuple(range(axis + 1, len(shape)))
            parts = []
            for at in offsets(kernel):
                seen = window(at, out, stride, dilation)
                starts, stops, steps = ([getattr(s, end) for s in seen] for end in ("start", "stop", "step"))
                part = graph.slice(cells, starts, stops, spatial, steps)
                parts.append(graph.op("Unsqueeze", part, graph.constant([axis + 1], np.int64)))
            tops.append(graph.like_top(graph.op("Concat", *parts, axis=axis + 1), i))
        return tuple(tops)

    def multiply_adds(self, bottoms, tops):
        """Nothing is multiplied."""
        return 0

    def reads(self):
        return Reads()
