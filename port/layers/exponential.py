"""Exp and Log: powers of a base and back."""

from __future__ import annotations

import math

import numpy as np
import torch

from .activations import ElementWise
from .base import Misfit, register
from .memory import Reads


def log_of_base(base: float) -> float:
    """The natural logarithm of a base, -1 meaning e; raises Misfit for another that is no positive, finite number."""
    if base != -1 and not 0 < base < math.inf:
        raise Misfit(f"base {base:g}", "-1 (for e) or a number above 0", "base")
    return 1.0 if base == -1 else math.log(base)


@register
class Exp(ElementWise):
    """base^(shift + scale * x); semantics 1.13 (exp_layer).

    The fork multiplies by (-1)^shift instead of e^shift where the base is e; `faithful_bugs` does the same,
    with 0 where that is no real number.
    """

    type = "Exp"
    family = "activation"
    hangs = True
    param = ("exp_param",)

    base: float = -1.0
    scale: float = 1.0
    shift: float = 0.0

    def top_shapes(self, x):
        log_of_base(self.base)
        return (x,)

    @property
    def factors(self) -> tuple[float, float]:
        """Inner and outer factor: y = outer * exp(inner * x)."""
        inner = log_of_base(self.base) * self.scale
        if self.at.faithful_bugs and self.at.habits.exp_shift_is_a_sign and self.base == -1 and self.shift != 0:
            return inner, (-1.0) ** int(self.shift) if self.shift == int(self.shift) else 0.0
        with np.errstate(over="ignore"):  # as in C: infinite
            return inner, float(np.exp(log_of_base(self.base) * self.shift))

    def reference(self, blobs, x):
        inner, outer = self.factors
        return (outer * np.exp(inner * x),)

    def forward(self, module, x):
        inner, outer = self.factors
        y = torch.exp(x if inner == 1 else x * inner)
        return (y if outer == 1 else y * outer,)

    def onnx(self, graph, x):
        inner, outer = self.factors
        y = graph.op("Exp", x if inner == 1 else graph.op("Mul", x, graph.constant(inner)))
        return (y if outer == 1 else graph.op("Mul", y, graph.constant(outer)),)

    def reads(self):
        return Reads(tops=(0,))

    def spoiled_gradient(self, grads, held):
        return (grads[0] * held.tops[0] * self.factors[0],)


@register
class Log(ElementWise):
    """Logarithm of shift + scale * x to a base; semantics 1.13 (log_layer)."""

    type = "Log"
    family = "activation"
    hangs = True
    param = ("log_param",)

    base: float = -1.0
    scale: float = 1.0
    shift: float = 0.0

    def top_shapes(self, x):
        if log_of_base(self.base) == 0:
            raise Misfit("base 1", "-1 (for e) or a positive number other than 1", "base")
        return (x,)

    def reference(self, blobs, x):
        with np.errstate(divide="ignore", invalid="ignore"):
            return (np.log(self.shift + self.scale * x) / log_of_base(self.base),)

    def forward(self, module, x):
        y = torch.log(x * self.scale + self.shift)
        return (y if self.base == -1 else y / log_of_base(self.base),)

    def onnx(self, graph, x):
        x = x if self.scale == 1 else graph.op("Mul", x, graph.constant(self.scale))
        x = x if self.shift == 0 else graph.op("Add", x, graph.constant(self.shift))
        y = graph.op("Log", x)
        return (y if self.base == -1 else graph.op("Div", y, graph.constant(log_of_base(self.base))),)

    def reads(self):
        return Reads((0,))

    def mixes_gradients(self):
        return True  # it writes the slope first, where in place the gradient stands

    def spoiled_gradient(self, grads, held):
        slope = self.scale / log_of_base(self.base) / (held.bottoms[0] * self.scale + self.shift)
        return (slope * slope if self.at.in_place else grads[0] * slope,)
