"""The rarer element-wise layers: TanH, AbsVal, BNLL, ELU, PReLU, Threshold, Swish, Clip."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .activations import ElementWise
from .base import BlobSpec, Misfit, register
from .memory import Reads


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

    def reads(self):
        return Reads(tops=(0,))

    def keeps(self):
        return "signs"

    def spoiled_gradient(self, grads, held):
        return (grads[0] * (1 - held.tops[0].square()),)


@register
class AbsVal(ElementWise):
    """Absolute value; gradient 0 at 0; semantics 1.13 (absval_layer)."""

    type = "AbsVal"
    family = "activation"
    hangs = True
    never_in_place = True

    def reference(self, blobs, x):
        return (np.abs(x),)

    def forward(self, module, x):
        return (x.abs(),)

    def onnx(self, graph, x):
        return (graph.op("Abs", x),)

    def reads(self):
        return Reads((0,))


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

    def reads(self):
        return Reads((0,))


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

    def reads(self):
        return Reads(signs=(0,), tops=(0,))

    def keeps(self):
        return "signs" if self.alpha >= 0 else ""

    def spoiled_gradient(self, grads, held):
        return (grads[0] * torch.where(held.bottoms[0] > 0, 1.0, held.tops[0] + self.alpha),)


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

    def reads(self):
        return Reads(() if self.at.in_place else (0,))  # in place it keeps a copy


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

    def opencv_agrees(self):
        """It knows no beta."""
        return self.beta == 1

    def reference(self, blobs, x):
        return (x * (0.5 * np.tanh(0.5 * self.beta * x) + 0.5),)

    def forward(self, module, x):
        return (F.silu(x) if self.beta == 1 else x * torch.sigmoid(x * self.beta),)

    def onnx(self, graph, x):
        inner = x if self.beta == 1 else graph.op("Mul", x, graph.constant(self.beta))
        return (graph.op("Mul", x, graph.op("Sigmoid", inner)),)

    def reads(self):
        return Reads(tops=(0,))

    def keeps(self):
        return "signs"

    def spoiled_gradient(self, grads, held):
        y, gate = held.tops[0], torch.sigmoid(held.seen_bottoms[0] * self.beta)
        return (grads[0] * (self.beta * y + gate * (1 - self.beta * y)),)


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

    def reads(self):
        return Reads((0,))

    def keeps(self):
        return "signs" if (self.min or 0) <= 0 < (self.max or 0) else ""
