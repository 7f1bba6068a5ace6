"""Eltwise: product, weighted sum or maximum of blobs of one shape."""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch

from .base import Layer, Misfit, register, same_shape
from .memory import Reads


class _QuotientProduct(torch.autograd.Function):
    """Product whose gradient is grad * top / bottom, as `stable_prod_grad: false` computes it (NaN at 0)."""

    @staticmethod
    def forward(ctx, *bottoms):
        top = reduce(torch.mul, bottoms)
        ctx.save_for_backward(top, *bottoms)
        return top

    @staticmethod
    def backward(ctx, grad):
        top, *bottoms = ctx.saved_tensors
        return tuple(grad * (top / x) for x in bottoms)


@register
class Eltwise(Layer):
    """PROD, SUM (with coefficients) or MAX over two or more bottoms; semantics 1.9 (eltwise_layer)."""

    type = "Eltwise"
    family = "joining"
    in_bfloat16 = True
    param = ("eltwise_param",)
    bottom_count = (2, None)

    operation: str = "SUM"
    coeff: tuple[float, ...] = ()
    stable_prod_grad: bool = True

    def top_shapes(self, *bottoms):
        if self.coeff and len(self.coeff) != len(bottoms):
            raise Misfit(f"{len(self.coeff)} coefficients for {len(bottoms)} bottoms", "none or one each", "coeff")
        if self.coeff and self.operation == "PROD":
            raise Misfit("coefficients of a product", "none (only SUM takes them)", "coeff")
        same_shape(bottoms)
        return (bottoms[0],)

    @property
    def terms(self) -> tuple[float, ...]:
        return self.coeff or (1.0,) * self.at.bottoms

    def reference(self, blobs, *bottoms):
        if self.operation == "SUM":
            return (sum(c * x for c, x in zip(self.terms, bottoms, strict=True)),)
        top = bottoms[0].copy()
        for x in bottoms[1:]:
            top = top * x if self.operation == "PROD" else np.maximum(top, x)
        return (top,)

    def forward(self, module, *bottoms):
        if self.operation == "SUM":
            return (reduce(torch.add, (x if c == 1 else x * c for c, x in zip(self.terms, bottoms, strict=True))),)
        if self.operation == "PROD":
            return (reduce(torch.mul, bottoms) if self.stable_prod_grad else _QuotientProduct.apply(*bottoms),)
        # Who wins a tie gets the whole gradient: the second of the first two, afterwards the earlier one.
        top = torch.where(bottoms[0] > bottoms[1], bottoms[0], bottoms[1])
        for x in bottoms[2:]:
            top = torch.where(x > top, x, top)
        return (top,)

    def onnx(self, graph, *bottoms):
        if self.operation == "MAX":
            return (graph.op("Max", *bottoms),)
        if self.operation == "SUM":
            bottoms = tuple(
                x if c == 1 else graph.op("Mul", x, graph.constant(c)) for c, x in zip(self.terms, bottoms, strict=True)
            )
        return (reduce(lambda a, b: graph.op("Mul" if self.operation == "PROD" else "Add", a, b), bottoms),)

    def spares_top(self):
        # of one bottom it would hand on the bottom itself
        return self.operation == "SUM" and self.at.bottoms > 1

    def sums_bottoms(self):
        return self.operation == "SUM" and not self.coeff

    def reads(self):
        if self.operation != "PROD":
            return Reads()
        return Reads(tuple(range(self.at.bottoms)), tops=() if self.stable_prod_grad else (0,))

    def spoiled_gradient(self, grads, held):
        if self.stable_prod_grad:
            return None
        return tuple(grads[0] * (held.tops[0] / x) for x in held.bottoms)
