"""Eltwise: product, weighted sum or maximum of blobs of one shape."""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch

from .base import Layer, Misfit, canonical_axis, register, same_shape, show
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


_OPERATIONS = ("PROD", "SUM", "MAX", "DIV", "MIN")


@register
class Eltwise(Layer):
    """PROD, SUM (with coefficients) or MAX over two or more bottoms; semantics 1.9 (eltwise_layer).

    Forks add MIN and, of two bottoms, DIV. In synopsys's, and with `axis`, the second bottom may span only some axes of
    the first, from `axis` on.
    """

    type = "Eltwise"
    family = "joining"
    in_bfloat16 = True
    param = ("eltwise_param",)
    bottom_count = (2, None)

    operation: str = "SUM"
    coeff: tuple[float, ...] = ()
    stable_prod_grad: bool = True
    axis: int | None = None

    def top_shapes(self, *bottoms):
        if self.operation not in _OPERATIONS:
            raise Misfit(f"operation {self.operation}", ", ".join(_OPERATIONS), "operation")
        if self.coeff and len(self.coeff) != len(bottoms):
            raise Misfit(f"{len(self.coeff)} coefficients for {len(bottoms)} bottoms", "none or one each", "coeff")
        if self.coeff and self.operation in ("PROD", "DIV", "MIN"):
            what = "a product" if self.operation == "PROD" else self.operation
            raise Misfit(f"coefficients of {what}", "none (only SUM takes them)", "coeff")
        if self.operation == "DIV" and len(bottoms) != 2:
            raise Misfit(f"{len(bottoms)} bottoms to divide", "2", "bottom")
        if self.axis is not None:
            canonical_axis(self.axis, len(bottoms[0]))
        if self.spans(*bottoms):
            same_shape((bottoms[0], *bottoms[2:]))
        else:
            same_shape(bottoms)
        return (bottoms[0],)

    def spans(self, *bottoms) -> bool:
        """Whether the second bottom is spread over the first."""
        first, second = bottoms[:2]
        if first == second or (self.axis is None and "synopsys" not in self.at.packs):
            return False
        axis = canonical_axis(self.axis or 0, len(first))
        if first[axis : axis + len(second)] != second:
            wanted = "the extents of the axes that it spans"
            raise Misfit(f"a second bottom of {show(second)} at axis {axis} of {show(first)}", wanted, "axis")
        return True

    def spread(self, bottoms):
        """The bottoms, arrays or tensors, in shapes that go together."""
        shapes = [tuple(x.shape) for x in bottoms]
        if not self.spans(*shapes):
            return bottoms
        after = len(shapes[0]) - canonical_axis(self.axis or 0, len(shapes[0])) - len(shapes[1])
        second = bottoms[1].reshape(*shapes[1], *[1] * after)
        return bottoms[0], second, *bottoms[2:]

    @property
    def terms(self) -> tuple[float, ...]:
        return self.coeff or (1.0,) * self.at.bottoms

    def reference(self, blobs, *bottoms):
        bottoms = self.spread(bottoms)
        if self.operation == "SUM":
            return (sum(c * x for c, x in zip(self.terms, bottoms, strict=True)),)
        rule = {"PROD": np.multiply, "MAX": np.maximum, "DIV": np.divide, "MIN": np.minimum}[self.operation]
        with np.errstate(divide="ignore", invalid="ignore"):
            return (reduce(rule, bottoms[1:], bottoms[0].copy()),)

    def forward(self, module, *bottoms):
        bottoms = self.spread(bottoms)
        if self.operation == "SUM":
            return (reduce(torch.add, (x if c == 1 else x * c for c, x in zip(self.terms, bottoms, strict=True))),)
        if self.operation == "PROD":
            return (reduce(torch.mul, bottoms) if self.stable_prod_grad else _QuotientProduct.apply(*bottoms),)
        if self.operation == "DIV":
            return (bottoms[0] / bottoms[1],)
        # Who wins a tie gets the whole gradient: the second of the first two, afterwards the earlier one.
        wins = torch.gt if self.operation == "MAX" else torch.lt
        top = torch.where(wins(bottoms[0], bottoms[1]), bottoms[0], bottoms[1])
        for x in bottoms[2:]:
            top = torch.where(wins(x, top), x, top)
        return (top,)

    def onnx(self, graph, *bottoms):
        shapes = [graph.shape(x) for x in bottoms]
        if self.spans(*shapes):
            axis = canonical_axis(self.axis or 0, len(shapes[0]))
            bottoms = (bottoms[0], graph.expand_rank(bottoms[1], axis, len(shapes[0])), *bottoms[2:])
        if self.operation in ("MAX", "MIN"):
            return (graph.op(self.operation.title(), *bottoms),)
        if self.operation == "DIV":
            return (graph.op("Div", *bottoms),)
        if self.operation == "SUM":
            bottoms = tuple(
                x if c == 1 else graph.op("Mul", x, graph.constant(c)) for c, x in zip(self.terms, bottoms, strict=True)
            )
        return (reduce(lambda a, b: graph.op("Mul" if self.operation == "PROD" else "Add", a, b), bottoms),)

    def spares_top(self):
        # of one bottom it would hand on the bottom itself
        return self.operation == "SUM" and self.at.bottoms > 1

    def sums_bottoms(self):
        return self.operation == "SUM" and not self.coeff and self.axis is None

    def reads(self):
        if self.operation != "PROD":
            return Reads()
        return Reads(tuple(range(self.at.bottoms)), tops=() if self.stable_prod_grad else (0,))

    def spoiled_gradient(self, grads, held):
        if self.stable_prod_grad:
            return None
        return tuple(grads[0] * (held.tops[0] / x) for x in held.bottoms)
