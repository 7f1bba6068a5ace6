"""Small layers of happynear's face nets: Truncation, SoftTruncation, Cosine, Arccos, EltwiseAffine, Pairwise, Gram."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

import numpy as np
import torch

from ..activations import ElementWise
from ..base import BlobSpec, Layer, Misfit, at_least, register, show


class _Face(ElementWise):
    """What all element-wise ones share."""

    pack = "face"
    family = "activation"
    hangs = True


@register
class Truncation(_Face):
    """x held between lower_bound and upper_bound, which wins; no gradient at a bound (truncation_layer)."""

    type = "Truncation"
    param = ("truncation_param",)

    lower_bound: float = 0.0
    upper_bound: float = 5.0

    def reference(self, blobs, x):
        return (np.minimum(np.maximum(x, self.lower_bound), self.upper_bound),)

    def forward(self, module, x):
        inside = (x > self.lower_bound) & (x < self.upper_bound)
        held = x.detach().clamp(min=self.lower_bound).clamp(max=self.upper_bound)
        return (torch.where(inside, x, held),)

    def onnx(self, graph, x):
        y = graph.op("Max", x, graph.constant(self.lower_bound))
        return (graph.op("Min", y, graph.constant(self.upper_bound)),)


@register
class SoftTruncation(_Face):
    """1 - exp(-x / c) (soft_truncation_layer)."""

    type = "SoftTruncation"
    param = ("soft_truncation_param",)

    c: float = 2.0

    def top_shapes(self, x):
        if not self.c:
            raise Misfit("c 0", "another number", "c")
        return (x,)

    def reference(self, blobs, x):
        return (-np.expm1(x / -self.c),)

    def forward(self, module, x):
        return (-torch.expm1(x / -self.c),)

    def onnx(self, graph, x):
        powers = graph.op("Exp", graph.op("Div", x, graph.constant(-self.c)))
        return (graph.op("Sub", graph.constant(1.0), powers),)


@register
class Cosine(_Face):
    """cos(x); its gradient is the derivative, where the fork forgets the top's (cosine_layer)."""

    type = "Cosine"

    def reference(self, blobs, x):
        return (np.cos(x),)

    def forward(self, module, x):
        return (torch.cos(x),)

    def onnx(self, graph, x):
        return (graph.op("Cos", x),)


class _Arccos(torch.autograd.Function):
    """arccos with the gradient at 0.99 for all that is larger."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.arccos(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return -grad / (1 - x.clamp(max=0.99).square()).sqrt()


@register
class Arccos(_Face):
    """arccos(x), whose gradient is that of 0.99 where x is larger (arccos_layer)."""

    type = "Arccos"

    def reference(self, blobs, x):
        with np.errstate(invalid="ignore"):
            return (np.arccos(x),)

    def forward(self, module, x):
        return (_Arccos.apply(x),)

    def onnx(self, graph, x):
        return (graph.op("Acos", x),)


@register
class EltwiseAffine(Layer):
    """x times a slope plus a bias, each one a channel or with channel_shared one for all (eltwise_affine_layer)."""

    type = "EltwiseAffine"
    pack = "face"
    family = "normalisation"
    hangs = True
    param = ("eltwise_affine_param",)

    slope_filler: Any = 1.0001
    bias_filler: Any = 0.0001
    channel_shared: bool = False

    def top_shapes(self, x):
        at_least(2, x)
        return (x,)

    def blobs(self, x):
        shape = () if self.channel_shared else (x[1],)
        return [BlobSpec("slope", shape, self.slope_filler), BlobSpec("bias", shape, self.bias_filler)]

    def wide(self, rank: int) -> tuple[int, ...]:
        """The shape in which a blob broadcasts against the bottom."""
        return () if self.channel_shared else (-1, *[1] * (rank - 2))

    def reference(self, blobs, x):
        wide = self.wide(x.ndim)
        return (x * blobs[0].reshape(wide) + blobs[1].reshape(wide),)

    def forward(self, module, x):
        wide = self.wide(x.dim())
        return (x * module.blobs[0].reshape(wide) + module.blobs[1].reshape(wide),)

    def onnx(self, graph, x):
        slope, bias = (graph.constant(graph.blob_value(i).reshape(self.wide(len(graph.shape(x))))) for i in (0, 1))
        return (graph.op("Add", graph.op("Mul", x, slope), bias),)


@register
class Pairwise(Layer):
    """Every item of bottom 0 with every item of bottom 1: the product, the sum with `coeff`, or the larger value.

    M x K and N x K give M x N x K (pairwise_layer).
    """

    type = "Pairwise"
    pack = "face"
    family = "joining"
    param = ("pairwise_param",)
    bottom_count = (2, 2)
    nodes: ClassVar[dict[str, str]] = {"PROD": "Mul", "SUM": "Add", "MAX": "Max"}

    operation: str = "SUM"
    coeff: tuple[float, ...] = ()

    def top_shapes(self, a, b):
        at_least(2, a)
        at_least(2, b)
        if a[1] != b[1] or prod(a[2:]) != 1 or prod(b[2:]) != 1:
            raise Misfit(f"{show(a)} and {show(b)}", "items of as many channels and nothing more", "bottom")
        if self.operation not in self.nodes:
            raise Misfit(f"operation {self.operation}", "one of: " + ", ".join(self.nodes), "operation")
        if self.coeff and (len(self.coeff) != 2 or self.operation == "PROD"):
            raise Misfit(f"{len(self.coeff)} coeff with {self.operation}", "two, with SUM", "coeff")
        return ((a[0], b[0], a[1]),)

    @property
    def factors(self) -> tuple[float, ...]:
        """What the bottoms are multiplied by."""
        return self.coeff if self.coeff and self.operation == "SUM" else (1.0, 1.0)

    def reference(self, blobs, a, b):
        a, b = a.reshape(len(a), 1, a.shape[1]), b.reshape(1, len(b), b.shape[1])
        if self.operation == "PROD":
            return (a * b,)
        return (np.maximum(a, b) if self.operation == "MAX" else self.factors[0] * a + self.factors[1] * b,)

    def forward(self, module, a, b):
        a, b = a.reshape(len(a), 1, a.shape[1]), b.reshape(1, len(b), b.shape[1])
        if self.operation == "PROD":
            return (a * b,)
        # of equal values the second bottom's gets the gradient
        return (torch.where(a > b, a, b) if self.operation == "MAX" else self.factors[0] * a + self.factors[1] * b,)

    def onnx(self, graph, a, b):
        channels = graph.shape(a)[1]
        a, b = graph.reshape(a, (-1, 1, channels)), graph.reshape(b, (1, -1, channels))
        a, b = (
            x if f == 1 else graph.op("Mul", x, graph.constant(f)) for x, f in zip((a, b), self.factors, strict=True)
        )
        return (graph.op(self.nodes[self.operation], a, b),)


@register
class Gram(Layer):
    """N x C x C x 1: products of an item's channels, over the number of its values (gram_layer).

    The gradient is the derivative; the fork's is half of it beside the diagonal.
    """

    type = "Gram"
    pack = "face"
    family = "joining"

    def top_shapes(self, x):
        if len(x) != 4:
            raise Misfit(f"an input of {show(x)}", "N x C x H x W", "bottom")
        return ((x[0], x[1], x[1], 1),)

    def reference(self, blobs, x):
        rows = x.reshape(*x.shape[:2], -1)
        return ((rows @ rows.swapaxes(1, 2) / prod(x.shape[1:]))[..., None],)

    def forward(self, module, x):
        rows = x.flatten(2)
        return ((rows @ rows.mT / prod(x.shape[1:]))[..., None],)

    def onnx(self, graph, x):
        shape = graph.shape(x)
        rows = graph.reshape(x, (0, shape[1], prod(shape[2:])))
        products = graph.op("MatMul", rows, graph.op("Transpose", rows, perm=[0, 2, 1]))
        mean = graph.op("Div", products, graph.constant(float(prod(shape[1:]))))
        return (graph.op("Unsqueeze", mean, graph.constant([3], np.int64)),)
