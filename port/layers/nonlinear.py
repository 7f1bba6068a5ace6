"""The rarer element-wise layers: TanH, AbsVal, BNLL, ELU, PReLU, Exp, Log, Threshold, Swish, Clip."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .activations import ElementWise
from .base import BlobSpec, Misfit, register


@register
class TanH(ElementWise):
    """Hyperbolic tangent; semantics 1.13 (tanh_layer)."""

    type = "TanH"
    family = "activation"
    hangs = True
    param = ("tanh_param",)

    engine: str = "DEFAULT"

    def reference(self, blobs, x):
        return (np.tanh(x),)

    def forward(self, module, x):
        return (torch.tanh(x),)

    def onnx(self, graph, x):
        return (graph.op("Tanh", x),)


@register
class AbsVal(ElementWise):
    """Absolute value; gradient 0 at 0; semantics 1.13 (absval_layer)."""

    type = "AbsVal"
    family = "activation"
    hangs = True
    never_in_place = ("bvlc", "srn")

    def reference(self, blobs, x):
        return (np.abs(x),)

    def forward(self, module, x):
        return (x.abs(),)

    def onnx(self, graph, x):
        return (graph.op("Abs", x),)


@register
class BNLL(ElementWise):
    """log(1 + exp(x)), split at 0 so that nothing overflows; semantics 1.13 (bnll_layer)."""

    type = "BNLL"
    family = "activation"
    hangs = True

    def reference(self, blobs, x):
        return (np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),)

    def forward(self, module, x):
        return (F.softplus(x),)

    def onnx(self, graph, x):
        return (graph.op("Softplus", x),)


@register
class ELU(ElementWise):
    """x above 0, alpha * (exp(x) - 1) below; semantics 1.13 (elu_layer)."""

    type = "ELU"
    family = "activation"
    hangs = True
    param = ("elu_param",)

    alpha: float = 1.0

    def reference(self, blobs, x):
        return (np.maximum(x, 0) + self.alpha * np.expm1(np.minimum(x, 0)),)

    def forward(self, module, x):
        return (F.elu(x, self.alpha),)

    def onnx(self, graph, x):
        return (graph.op("Elu", x, alpha=self.alpha),)


@register
class PReLU(ElementWise):
    """x above 0, a learned slope times x below, one per channel or one for all; semantics 1.13 (prelu_layer)."""

    type = "PReLU"
    family = "activation"
    hangs = True
    param = ("prelu_param",)

    filler: Any = 0.25
    channel_shared: bool = False

    def top_shapes(self, x):
        if len(x) < 2:
            raise Misfit(f"an input with {len(x)} axes", "2 or more: channels are axis 1", "bottom")
        return (x,)

    def blobs(self, x):
        return [BlobSpec("slope", () if self.channel_shared else (x[1],), self.filler)]

    def reference(self, blobs, x):
        slope = blobs[0] if self.channel_shared else blobs[0].reshape(-1, *[1] * (x.ndim - 2))
        return (np.maximum(x, 0) + slope * np.minimum(x, 0),)

    def forward(self, module, x):
        return (F.prelu(x, module.blobs[0].reshape(-1)),)

    def onnx(self, graph, x):
        rank = len(graph.shape(x))
        return (graph.op("PRelu", x, graph.blob(0, (1,) * rank if self.channel_shared else (-1, *[1] * (rank - 2)))),)


def log_of_base(base: float) -> float:
    """The natural logarithm of a base, -1 meaning e; raises Misfit for another base that is not positive."""
    if base != -1 and base <= 0:
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
        if self.at.faithful_bugs and self.at.dialect == "srn" and self.base == -1 and self.shift != 0:
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


@register
class Threshold(ElementWise):
    """1 above the threshold, else 0; no gradient; semantics 1.13 (threshold_layer)."""

    type = "Threshold"
    family = "activation"
    hangs = True
    param = ("threshold_param",)
    no_gradient = (0,)

    threshold: float = 0.0

    def reference(self, blobs, x):
        return ((x > self.threshold).astype(np.float64),)

    def forward(self, module, x):
        return ((x.detach() > self.threshold).to(x.dtype),)

    def onnx(self, graph, x):
        return (graph.op("Cast", graph.op("Greater", x, graph.constant(self.threshold)), to=1),)


@register
class Swish(ElementWise):
    """x * sigmoid(beta * x); semantics 1.13 (swish_layer)."""

    type = "Swish"
    family = "activation"
    hangs = True
    param = ("swish_param",)

    beta: float = 1.0

    def reference(self, blobs, x):
        return (x * (0.5 * np.tanh(0.5 * self.beta * x) + 0.5),)

    def forward(self, module, x):
        return (F.silu(x) if self.beta == 1 else x * torch.sigmoid(x * self.beta),)

    def onnx(self, graph, x):
        inner = x if self.beta == 1 else graph.op("Mul", x, graph.constant(self.beta))
        return (graph.op("Mul", x, graph.op("Sigmoid", inner)),)


@register
class Clip(ElementWise):
    """x held between min and max, the gradient passing where min <= x <= max; semantics 1.13 (clip_layer)."""

    type = "Clip"
    family = "activation"
    hangs = True
    param = ("clip_param",)

    min: float | None = None
    max: float | None = None

    def top_shapes(self, x):
        if self.min is None or self.max is None:
            raise Misfit("no min or no max", "both", "clip_param")
        return (x,)

    def reference(self, blobs, x):
        return (x.clip(self.min, self.max),)

    def forward(self, module, x):
        return (x.clamp(self.min, self.max),)

    def onnx(self, graph, x):
        return (graph.op("Clip", x, graph.constant(self.min), graph.constant(self.max)),)
