"""ContinuationIndicator: what tells a recurrent layer that a sequence goes on."""

from __future__ import annotations

import numpy as np
import torch

from ..base import Layer, Misfit, canonical_axis, register


@register
class ContinuationIndicator(Layer):
    """T x N, 0 in the first step and 1 in all others; the forks' continuation_indicator_layer.

    N is `batch_size`, or without it the extent of the bottom along `axis`; nothing else of that matters.
    """

    type = "ContinuationIndicator"
    pack = "lrcn"
    family = "input"
    param = ("continuation_indicator_param",)
    bottom_count = (0, 1)
    no_gradient = (0,)

    time_step: int = 0
    batch_size: int = 0
    axis: int = 0

    def top_shapes(self, *bottom):
        if self.time_step < 1:
            raise Misfit(f"time_step {self.time_step}", "1 or more", "time_step")
        if bool(self.batch_size) == bool(bottom):
            found = "both a batch_size and a bottom" if bottom else "no batch_size, and no bottom"
            raise Misfit(found, "one of them", "batch_size")
        count = bottom[0][canonical_axis(self.axis, len(bottom[0]))] if bottom else self.batch_size
        return ((self.time_step, count),)

    @property
    def column(self) -> np.ndarray:
        """The steps of one item, T x 1."""
        return (np.arange(self.time_step) > 0).astype(np.float64)[:, None]

    def reference(self, blobs, *bottom):
        (top,) = self.top_shapes(*(x.shape for x in bottom))
        return (np.broadcast_to(self.column, top).copy(),)

    def forward(self, module, *bottom):
        (top,) = self.top_shapes(*(tuple(x.shape) for x in bottom))
        column = torch.from_numpy(self.column.astype(np.float32))
        return ((column.to(bottom[0]) if bottom else column).expand(top).contiguous(),)

    def onnx(self, graph, *bottom):
        if not bottom:
            return (graph.constant(np.broadcast_to(self.column, self.top_shapes()[0])),)
        axis = canonical_axis(self.axis, len(graph.shape(bottom[0])))
        shape = graph.op("Concat", graph.constant([self.time_step], np.int64), graph.extents(bottom[0], axis), axis=0)
        return (graph.op("Expand", graph.constant(self.column), shape),)
