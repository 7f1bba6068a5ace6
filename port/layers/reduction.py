"""Reduction of all axes from one on."""

from __future__ import annotations

from math import prod

import numpy as np

from .base import Layer, Misfit, canonical_axis, register
from .memory import Reads


@register
class Reduction(Layer):
    """SUM, ASUM, SUMSQ or MEAN over all axes from `axis` on, times coeff; semantics 1.15 (reduction_layer)."""

    type = "Reduction"
    family = "pooling"
    param = ("reduction_param",)

    operation: str = "SUM"
    axis: int = 0
    coeff: float = 1.0
    k: int = 1

    def top_shapes(self, x):
        if self.operation == "TOPK":
            raise Misfit(
                "operation TOPK",
                "SUM, ASUM, SUMSQ or MEAN (the fork's Reduction aborts on TOPK)",
                "operation",
            )
        return (x[: canonical_axis(self.axis, len(x))],)

    def _rows(self, x):
        """An array or tensor with the reduced axes as one."""
        lead = self.top_shapes(tuple(x.shape))[0]
        return x.reshape(*lead, prod(x.shape[len(lead) :]))

    def reference(self, blobs, x):
        rows = self._rows(x)
        rows = {"ASUM": np.abs, "SUMSQ": np.square}.get(self.operation, np.asarray)(rows)
        y = rows.sum(-1) * self.coeff
        if self.operation == "MEAN":
            y = y / rows.shape[-1] if rows.shape[-1] else y * np.nan  # of nothing: 0 / 0, as in Caffe
        return (y,)

    def forward(self, module, x):
        rows = self._rows(x)
        if self.operation == "ASUM":
            rows = rows.abs()
        elif self.operation == "SUMSQ":
            rows = rows.square()
        y = rows.mean(-1) if self.operation == "MEAN" else rows.sum(-1)
        return (y if self.coeff == 1 else y * self.coeff,)

    def onnx(self, graph, x):
        shape = graph.shape(x)
        axes = tuple(range(canonical_axis(self.axis, len(shape)), len(shape)))
        op = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}[self.operation]
        if graph.target == "opencv" and axes:  # OpenCV 4 reduces several axes wrongly, and all of them with a crash
            flat = graph.reshape(x, (*shape[: axes[0]], -1))
            y = graph.like_top(graph.reduce(op, flat, (axes[0],), keep=True), 0)
        else:
            y = graph.reduce(op, x, axes)
        return (y if self.coeff == 1 else graph.op("Mul", y, graph.constant(self.coeff)),)

    def multiply_adds(self, bottoms, tops):
        """Adding is free, as is customary."""
        return 0 * prod(tops[0])

    def reads(self):
        return Reads((0,) if self.operation in ("ASUM", "SUMSQ") else ())
