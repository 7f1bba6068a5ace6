"""Element-wise types of forks: HardSigmoid, HardSwish, Mish, Softplus, SeLU."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ..activations import ElementWise
from ..base import float32, register
from ..memory import Reads


@register
class HardSigmoid(ElementWise):
    """alpha * x + beta held between 0 and 1; the forks' hard_sigmoid_layer."""

    type = "HardSigmoid"
    known_to_opencv = True
    pack = "mobile"
    family = "activation"
    hangs = True
    param = ("hard_sigmoid_param",)

    alpha: float = float32(0.2)
    beta: float = 0.5

    def reference(self, blobs, x):
        return ((self.alpha * x + self.beta).clip(0, 1),)

    def forward(self, module, x):
        return ((x * self.alpha + self.beta).clamp(0, 1),)

    def onnx(self, graph, x):
        return (graph.op("HardSigmoid", x, alpha=self.alpha, beta=self.beta),)


@register
class HardSwish(ElementWise):
    """x * min(max(x + 3, 0), 6) / 6; the forks' hard_swish_layer."""

    type = "HardSwish"
    known_to_opencv = True
    pack = "mobile"
    family = "activation"
    hangs = True

    def reference(self, blobs, x):
        return (x * (x + 3).clip(0, 6) / 6,)

    def forward(self, module, x):
        return (F.hardswish(x),)

    def onnx(self, graph, x):
        gate = graph.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)  # ONNX's own HardSwish came with opset 14
        return (graph.op("Mul", x, gate),)


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x)), split at 0 so that nothing overflows."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@register
class Softplus(ElementWise):
    """log(1 + exp(x)); the forks' softplus_layer, which is infinite from 88.7 on where this goes on as x."""

    type = "Softplus"
    known_to_opencv = True
    pack = "synopsys"
    family = "activation"
    hangs = True

    def reference(self, blobs, x):
        return (softplus(x),)

    def forward(self, module, x):
        return (F.softplus(x),)

    def onnx(self, graph, x):
        return (graph.op("Softplus", x),)


@register
class Mish(ElementWise):
    """x * tanh(log(1 + exp(x))); the forks' mish_layer."""

    type = "Mish"
    known_to_opencv = True
    pack = "yolo"
    family = "activation"
    hangs = True

    def reference(self, blobs, x):
        return (x * np.tanh(softplus(x)),)

    def forward(self, module, x):
        return (F.mish(x),)

    def onnx(self, graph, x):
        return (graph.op("Mul", x, graph.op("Tanh", graph.op("Softplus", x))),)


@register
class SeLU(ElementWise):
    """lambda * x above 0, lambda * alpha * (exp(x) - 1) below; the forks' selu_layer."""

    type = "SeLU"
    pack = "synopsys"
    family = "activation"
    hangs = True
    param = ("selu_param",)

    gain: float = float32(1.05070102)  # the schema's `lambda`, which is no name in Python
    alpha: float = float32(1.67326319)

    @classmethod
    def read(cls, message):
        values = super().read(message)
        return {"gain" if name == "lambda" else name: value for name, value in values.items()}

    def reference(self, blobs, x):
        return (self.gain * (np.maximum(x, 0) + self.alpha * np.expm1(np.minimum(x, 0))),)

    def forward(self, module, x):
        return (self.gain * torch.where(x > 0, x, self.alpha * torch.expm1(x.clamp(max=0))),)

    def onnx(self, graph, x):
        return (graph.op("Selu", x, alpha=self.alpha, gamma=self.gain),)

    def reads(self):
        return Reads((0,))

    def keeps(self):
        return "signs" if self.gain > 0 and self.alpha >= 0 else ""


@register
class SeLu(SeLU):
    """SeLU under the name that other forks gave it."""

    type = "SeLu"
