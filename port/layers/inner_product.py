"""InnerProduct: the axes from `axis` on are flattened and multiplied by a matrix."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

import torch.nn.functional as F

from .base import BlobSpec, Layer, Misfit, canonical_axis, register
from .memory import Reads


@register
class InnerProduct(Layer):
    """Fully connected layer; spatial axes disappear from the top; semantics 1.4 (inner_product_layer)."""

    type = "InnerProduct"
    family = "weights"
    in_bfloat16 = True
    param: ClassVar[tuple[str, ...]] = ("inner_product_param",)

    num_output: int | None = None
    bias_term: bool = True
    weight_filler: Any = 0.0
    bias_filler: Any = 0.0
    axis: int = 1
    transpose: bool = False

    def top_shapes(self, x):
        if not self.num_output:
            raise Misfit("no num_output, or 0", "1 or more", "num_output")
        return ((*x[: canonical_axis(self.axis, len(x))], self.num_output),)

    def blobs(self, x):
        inputs = prod(x[canonical_axis(self.axis, len(x)) :])
        outputs = self.num_output or 0
        weight = (inputs, outputs) if self.transpose else (outputs, inputs)
        specs = [BlobSpec("weight", weight, self.weight_filler)]
        return [*specs, BlobSpec("bias", (outputs,), self.bias_filler)] if self.bias_term else specs

    def reference(self, blobs, x):
        lead = x.shape[: canonical_axis(self.axis, x.ndim)]
        weight = blobs[0] if self.transpose else blobs[0].T
        y = x.reshape(prod(lead), len(weight)) @ weight
        if self.bias_term:
            y = y + blobs[1]
        return (y.reshape(*lead, self.num_output),)

    def forward(self, module, x):
        weight = module.blobs[0].t() if self.transpose else module.blobs[0]
        flat = x.flatten(canonical_axis(self.axis, x.dim())) if x.dim() else x.reshape(1)
        return (F.linear(flat, weight, module.blobs[1] if self.bias_term else None),)

    def onnx(self, graph, x):
        shape = graph.shape(x)
        axis = canonical_axis(self.axis, len(shape))
        bias = [graph.blob(1)] if self.bias_term else []
        if axis == 0:  # Gemm wants a matrix: one row, whose axis goes away afterwards
            x = graph.reshape(x, (1, prod(shape)))
            return (graph.like_top(graph.op("Gemm", x, graph.blob(0), *bias, transB=int(not self.transpose)), 0),)
        if len(shape) != axis + 1 or axis != 1:
            x = graph.op("Flatten", x, axis=axis)
        y = graph.op("Gemm", x, graph.blob(0), *bias, transB=int(not self.transpose))
        return (y if axis == 1 else graph.like_top(y, 0),)

    def multiply_adds(self, bottoms, tops):
        """Inputs of one output times outputs."""
        return prod(tops[0]) * prod(bottoms[0][canonical_axis(self.axis, len(bottoms[0])) :])

    def spares_top(self):
        return True

    def reads(self):
        return Reads((0,))
