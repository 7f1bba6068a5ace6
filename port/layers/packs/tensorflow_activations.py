"""Activations of other frameworks in synopsys-caffe: ScaledTanH, ThresholdedReLU, HardTanh, Softsign, XLU."""

from __future__ import annotations

import numpy as np
import torch

from ..activations import ElementWise, ReLU
from ..base import register


class _Activation(ElementWise):
    """What all share."""

    pack = "synopsys"
    family = "activation"
    hangs = True


@register
class ScaledTanH(_Activation):
    """alpha * tanh(beta * x); both are 0 where they are not given (scaled_tanh_layer)."""

    type = "ScaledTanH"
    param = ("scaled_tanh_param",)

    alpha: float = 0.0
    beta: float = 0.0

    def reference(self, blobs, x):
        return (self.alpha * np.tanh(self.beta * x),)

    def forward(self, module, x):
        return (self.alpha * torch.tanh(self.beta * x),)

    def onnx(self, graph, x):
        inner = graph.op("Tanh", graph.op("Mul", x, graph.constant(self.beta)))
        return (graph.op("Mul", inner, graph.constant(self.alpha)),)


@register
class ThresholdedReLU(_Activation):
    """x above alpha, else 0 (thresholded_relu_layer)."""

    type = "ThresholdedReLU"
    param = ("thresholded_relu_param",)

    alpha: float = 1.0

    def reference(self, blobs, x):
        return (np.where(x > self.alpha, x, 0.0),)

    def forward(self, module, x):
        return (torch.where(x > self.alpha, x, torch.zeros_like(x)),)

    def onnx(self, graph, x):
        above = graph.op("Greater", x, graph.constant(self.alpha))
        return (graph.op("Where", above, x, graph.constant(0.0)),)


@register
class HardTanh(_Activation):
    """x held between -1 and 1 (hard_tanh_layer)."""

    type = "HardTanh"

    def reference(self, blobs, x):
        return (x.clip(-1, 1),)

    def forward(self, module, x):
        return (x.clamp(-1, 1),)

    def onnx(self, graph, x):
        return (graph.op("Clip", x, graph.constant(-1.0), graph.constant(1.0)),)


@register
class Softsign(_Activation):
    """x / (1 + |x|) (softsign_layer)."""

    type = "Softsign"

    def reference(self, blobs, x):
        return (x / (1 + np.abs(x)),)

    def forward(self, module, x):
        return (torch.nn.functional.softsign(x),)

    def onnx(self, graph, x):
        return (graph.op("Softsign", x),)


@register
class XLU(ReLU):
    """ReLU with the slope and bounds of its own message (xlu_layer); a second bottom, the upper bound, is not taken."""

    type = "XLU"
    pack = "synopsys"
    param = ("xlu_param",)
