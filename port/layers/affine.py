"""Scale and Bias: multiply by, or add, a blob that spans some consecutive axes."""

from __future__ import annotations

from typing import Any

from .base import BlobSpec, Layer, Misfit, canonical_axis, register, show
from .memory import Reads


class _Spanning(Layer):
    """What both share: the operand spans `num_axes` axes from `axis` on, not NumPy's trailing ones."""

    bottom_count = (1, 2)

    axis: int = 1
    num_axes: int = 1

    def span(self, x, *operand) -> tuple[int, tuple[int, ...]]:
        """First axis and shape of the operand; raises Misfit when it does not fit the bottom."""
        if operand and not operand[0]:
            return 0, ()
        axis = canonical_axis(self.axis, len(x))
        if operand:
            if x[axis : axis + len(operand[0])] != operand[0]:
                raise Misfit(
                    f"a second bottom of {show(operand[0])} at axis {axis} of {show(x)}",
                    "the extents of the axes that it spans",
                    "axis",
                )
            return axis, operand[0]
        if self.num_axes < -1 or (self.num_axes > 0 and axis + self.num_axes > len(x)):
            raise Misfit(f"{self.num_axes} axes from axis {axis} of {show(x)}", "axes that exist, or -1", "num_axes")
        return axis, x[axis:] if self.num_axes == -1 else x[axis : axis + self.num_axes]

    def expanded(self, x, *operand) -> tuple[int, ...]:
        """Shape in which the operand broadcasts against the bottom."""
        axis, shape = self.span(x, *operand)
        return (*[1] * axis, *shape, *[1] * (len(x) - axis - len(shape)))

    def top_shapes(self, x, *operand):
        self.span(x, *operand)
        return (x,)

    def onnx_operand(self, graph, x, *operand):
        """The operand in a form that broadcasts: the second bottom, or blob 0."""
        shape = graph.shape(x)
        if not operand:
            return graph.blob(0, self.expanded(shape))
        axis, _ = self.span(shape, graph.shape(operand[0]))
        return graph.expand_rank(operand[0], axis, len(shape))

    def spares_top(self):
        return True


@register
class Scale(_Spanning):
    """y = x * a (+ b), a learned or the second bottom; semantics 1.7 (scale_layer)."""

    type = "Scale"
    family = "normalisation"
    in_bfloat16 = True
    hangs = True
    param = ("scale_param",)

    filler: Any = 1.0
    bias_term: bool = False
    bias_filler: Any = 0.0

    def blobs(self, x, *operand):
        _, shape = self.span(x, *operand)
        if self.bias_term:
            canonical_axis(self.axis, len(x))  # of Caffe's inner Bias layer, also where the second bottom is a scalar
        specs = [] if operand else [BlobSpec("scale", shape, self.filler)]
        return [*specs, BlobSpec("bias", shape, self.bias_filler)] if self.bias_term else specs

    def reference(self, blobs, x, *operand):
        operands = [*operand, *blobs]
        factor, bias = operands[0], operands[1:]
        wide = self.expanded(x.shape, *(o.shape for o in operand))
        y = x * factor.reshape(wide)
        return (y + bias[0].reshape(wide),) if bias else (y,)

    def forward(self, module, x, *operand):
        operands = [*operand, *module.blobs]
        factor, bias = operands[0], operands[1:]
        wide = self.expanded(tuple(x.shape), *(tuple(o.shape) for o in operand))
        y = x * factor.reshape(wide)
        return (y.add_(bias[0].reshape(wide)) if bias else y,)  # backward does not look at the product

    def onnx(self, graph, x, *operand):
        y = graph.op("Mul", x, self.onnx_operand(graph, x, *operand))
        if not self.bias_term:
            return (y,)
        wide = self.expanded(graph.shape(x), *map(graph.shape, operand))
        return (graph.op("Add", y, graph.blob(graph.blob_count() - 1, wide)),)

    def reads(self):
        return Reads(tuple(range(int(self.at.in_place), self.at.bottoms)))  # in place it keeps a copy of bottom 0


@register
class Bias(_Spanning):
    """y = x + b, b learned or the second bottom; semantics 1.7 (bias_layer)."""

    type = "Bias"
    family = "normalisation"
    hangs = True
    param = ("bias_param",)

    filler: Any = 0.0

    def blobs(self, x, *operand):
        return [] if operand else [BlobSpec("bias", self.span(x)[1], self.filler)]

    def reference(self, blobs, x, *operand):
        (term,) = operand or blobs
        return (x + term.reshape(self.expanded(x.shape, *(o.shape for o in operand))),)

    def forward(self, module, x, *operand):
        (term,) = operand or module.blobs
        return (x + term.reshape(self.expanded(tuple(x.shape), *(tuple(o.shape) for o in operand))),)

    def onnx(self, graph, x, *operand):
        return (graph.op("Add", x, self.onnx_operand(graph, x, *operand)),)
