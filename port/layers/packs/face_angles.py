"""What face nets do to the angle of the label's class alone: LabelSpecificAffine and LabelSpecificMargin."""

from __future__ import annotations

from math import pi, radians

import numpy as np
import torch

from ..base import BlobSpec, Misfit, register
from .face_labels import LabelSpecific, grown

EDGE = pi - 1e-4  # angles beyond are taken back to it
THIN = 1e-12  # is added to a squared sine before its root


class _Bent(torch.autograd.Function):
    """x^p * scale * pi^(1 - p) + bias, taken back to the largest angle; the gradient does not see that."""

    @staticmethod
    def forward(ctx, x, scale, bias, power):
        ctx.save_for_backward(x)
        ctx.factor, ctx.power = scale * pi ** (1 - power), power
        return (x**power * ctx.factor + bias).clamp(max=EDGE)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * ctx.factor * ctx.power * x ** (ctx.power - 1), None, None, None


@register
class LabelSpecificAffine(LabelSpecific):
    """In training an angle x of the label becomes x^power * scale * pi^(1 - power) + bias, at most pi - 1e-4.

    scale, bias and power follow their bases, gammas and powers from pass to pass, within scale_max, bias_max and
    power_min. The blob holds them for auto_tune, which the fork says does not work (its label_specific_affine).
    """

    type = "LabelSpecificAffine"
    param = ("label_specific_affine_param",)
    numbers = 3

    scale_base: float = 1.0
    scale_gamma: float = 0.0
    scale_power: float = 1.0
    scale_max: float = 1.0
    transform_test: bool = False
    bias_base: float = 0.0
    bias_gamma: float = 0.0
    bias_power: float = 1.0
    bias_max: float = 0.0
    power_base: float = 1.0
    power_gamma: float = 0.0
    power_power: float = -1.0
    power_min: float = 0.5
    auto_tune: bool = False
    reset: bool = False

    def check(self):
        if self.auto_tune:
            raise Misfit("auto_tune", "false: it does not work in the fork", "auto_tune")

    def blobs(self, x, label):
        return [BlobSpec("affine", (3,), statistic=True)]

    def settings(self, iteration, blobs):
        if not self.train:
            return 1.0, 0.0, 1.0
        scale = self.scale_base * grown(self.scale_gamma, iteration, self.scale_power)
        bias = self.bias_base + grown(self.bias_gamma, iteration, self.bias_power) - 1
        power = self.power_base * grown(self.power_gamma, iteration, self.power_power)
        return min(scale, self.scale_max), min(bias, self.bias_max), max(power, self.power_min)

    def changed(self, own, others, values):
        scale, bias, power = values
        with np.errstate(invalid="ignore"):
            return np.minimum(own**power * (scale * pi ** (1 - power)) + bias, EDGE), others

    def changed_tensors(self, own, others, values):
        return _Bent.apply(own, *values), others

    def changed_onnx(self, graph, x, values):
        scale, bias, power = values
        bent = graph.op("Mul", graph.op("Pow", x, graph.constant(power)), graph.constant(scale * pi ** (1 - power)))
        return graph.op("Min", graph.op("Add", bent, graph.constant(bias)), graph.constant(EDGE)), x


def _turn(margin: float) -> tuple[float, float]:
    """Cosine and sine of a margin in degrees; of one without end they are no numbers, as in C."""
    with np.errstate(invalid="ignore"):
        return float(np.cos(radians(margin))), float(np.sin(radians(margin)))


class _Turned(torch.autograd.Function):
    """cos(theta + margin) of x = cos(theta); `faithful`: with the wrong sign that the fork's gradient has."""

    @staticmethod
    def forward(ctx, x, margin, faithful):
        rest = (1 - x * x + THIN).sqrt()
        ctx.save_for_backward(x / rest)
        ctx.cos, across = _turn(margin)
        ctx.sin = across * (-1 if faithful else 1)
        return x * ctx.cos - rest * across

    @staticmethod
    def backward(ctx, grad):
        (slope,) = ctx.saved_tensors
        return grad * (ctx.cos + slope * ctx.sin), None, None


@register
class LabelSpecificMargin(LabelSpecific):
    """In training a cosine of the label becomes that of its angle and a margin in degrees (label_specific_margin).

    The margin is the blob's, or with margin_base margin_base + (1 + gamma * iteration) ^ power - 1, and at most what
    margin_max is set to. The fork's gradient has a wrong sign, which comes with faithful_bugs alone.
    """

    type = "LabelSpecificMargin"
    param = ("label_specific_margin_param",)

    margin_base: float | None = None
    margin_max: float | None = None
    power: float = 1.0
    gamma: float = 1.0
    margin_on_test: bool = False
    auto_tune: bool = False
    reset_margin: bool = False
    margin_type: str = "HARD"  # the message's `type`

    @classmethod
    def read(cls, message):
        values = super().read(message)
        return {"margin_type" if name == "type" else name: value for name, value in values.items()}

    def blobs(self, x, label):
        return [BlobSpec("margin", (1,), self.margin_base or 0.0, statistic=True)]

    def check(self):
        if self.auto_tune:
            raise Misfit("auto_tune", "false: only the fork's GPU knows it", "auto_tune")
        if self.margin_type != "HARD":
            raise Misfit(f"type {self.margin_type}", "HARD: only the fork's GPU knows another", "type")

    def settings(self, iteration, blobs):
        margin = float(blobs[0].reshape(-1)[0])
        if self.margin_base is not None:
            margin = self.margin_base + grown(self.gamma, iteration, self.power) - 1
        return (margin if self.margin_max is None else min(margin, self.margin_max),)

    def remember(self, blobs, values):
        if self.train:
            blobs[0][...] = values[0]

    def changed(self, own, others, values):
        along, across = _turn(values[0])
        with np.errstate(invalid="ignore"):
            return own * along - np.sqrt(1 - own * own + THIN) * across if values[0] else own, others

    def changed_tensors(self, own, others, values):
        return _Turned.apply(own, values[0], self.at.faithful_bugs) if values[0] else own, others

    def changed_onnx(self, graph, x, values):
        along, across = _turn(values[0])
        if not values[0]:
            return x, x
        left = graph.op("Sub", graph.constant(1 + THIN), graph.op("Mul", x, x))
        aside = graph.op("Mul", graph.op("Sqrt", left), graph.constant(across))
        return graph.op("Sub", graph.op("Mul", x, graph.constant(along)), aside), x
