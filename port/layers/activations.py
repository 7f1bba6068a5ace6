"""Element-wise layers with one bottom: one top of the same shape, no memory of neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .base import FLT_MAX, Layer, Misfit, register, values_of
from .memory import Reads


class ElementWise(Layer):
    """One bottom, one top of its shape."""

    def top_shapes(self, x):
        return (x,)


@register
class ReLU(ElementWise):
    """max(x, 0) + negative_slope * min(x, 0); gradient negative_slope at 0; semantics 1.13 (relu_layer).

    Forks bound it: above by 6 (`relu6`) or by `maximum` where that is above 0, below by `minimum` where that is not 0.
    """

    type = "ReLU"
    family = "activation"
    in_bfloat16 = True
    hangs = True
    param = ("relu_param",)

    negative_slope: float = 0.0
    engine: str = "DEFAULT"
    relu6: bool = False
    maximum: float = 0.0
    minimum: float = 0.0

    def opencv_agrees(self):
        """It knows no bounds."""
        return self.bounds == (None, None)

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """The least and the largest value of the top; the least wins where it is the larger one."""
        above = [6.0] * self.relu6 + [self.maximum] * (self.maximum > 0)
        return self.minimum or None, min(above, default=None)

    def reference(self, blobs, x):
        low, high = self.bounds
        y = np.maximum(x, 0) + self.negative_slope * np.minimum(x, 0)
        y = y if high is None else np.minimum(y, high)
        return (y if low is None else np.maximum(y, low),)

    def forward(self, module, x):
        low, high = self.bounds
        y = F.leaky_relu(x, self.negative_slope) if self.negative_slope else F.relu(x)
        # no gradient at a bound, as in the forks; clamp would have one
        y = y if high is None else torch.where(y >= high, high, y)
        return (y if low is None else torch.where(y <= low, low, y),)

    def onnx(self, graph, x):
        low, high = self.bounds
        y = graph.op("LeakyRelu", x, alpha=self.negative_slope) if self.negative_slope else graph.op("Relu", x)
        y = y if high is None else graph.op("Min", y, graph.constant(high))
        return (y if low is None else graph.op("Max", y, graph.constant(low)),)

    def overwriting(self):
        plain = type(self) is ReLU and not self.negative_slope and self.bounds == (None, None)
        return _Overwriting(**values_of(self)) if plain else None

    def reads(self):
        if self.bounds == (None, None):
            return Reads(signs=(0,))
        return Reads() if self.at.in_place else Reads((0,))  # in place the top tells what the bottom was

    def keeps(self):
        return "signs" if self.negative_slope >= 0 and (self.bounds[0] or 0) <= 0 else ""


class _Overwriting(ReLU):
    """ReLU in its bottom's memory."""

    def forward(self, module, x):
        return (F.relu(x, inplace=True),)


@register
class Sigmoid(ElementWise):
    """1 / (1 + exp(-x)); semantics 1.13 (sigmoid_layer)."""

    type = "Sigmoid"
    family = "activation"
    hangs = True
    param = ("sigmoid_param",)

    engine: str = "DEFAULT"

    def reference(self, blobs, x):
        return (0.5 * np.tanh(0.5 * x) + 0.5,)

    def forward(self, module, x):
        return (torch.sigmoid(x),)

    def onnx(self, graph, x):
        return (graph.op("Sigmoid", x),)

    def reads(self):
        return Reads(tops=(0,))

    def spoiled_gradient(self, grads, held):
        (y,) = held.tops
        return (grads[0] * y * (1 - y),)


def _slope(x: Any, y: Any, power: float, scale: float, shift: float) -> Any:
    """The derivative of y = (shift + scale * x)^power as power_layer computes it from x and y."""
    if power == 1:
        return scale
    if power == 2:
        return 2 * scale * (scale * x + shift)
    if shift == 0:
        return power * y / x  # 0 / 0 is NaN here as it is there
    return power * scale * y / (scale * x + shift)


class _Power(torch.autograd.Function):
    """Caffe's gradient of (shift + scale * x)^power, with the shortcuts of power_layer's Backward."""

    @staticmethod
    def forward(ctx, x, power, scale, shift, constant):
        ctx.fields = power, scale, shift
        if constant is not None:
            return torch.full_like(x, constant)
        base = x * scale + shift
        y = base if power == 1 else base.pow(power)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, grad):
        power, scale, shift = ctx.fields
        if power * scale == 0:
            return torch.zeros_like(grad), None, None, None, None
        x, y = ctx.saved_tensors
        return grad * _slope(x, y, power, scale, shift), None, None, None, None


@register
class Power(ElementWise):
    """(shift + scale * x)^power; a constant where power * scale is 0; semantics 1.13 (power_layer)."""

    type = "Power"
    family = "activation"
    hangs = True
    param = ("power_param",)

    power: float = 1.0
    scale: float = 1.0
    shift: float = 0.0

    @property
    def constant(self) -> float | None:
        """The value of every output when x does not matter."""
        if self.power * self.scale != 0:
            return None
        value = 1.0 if self.power == 0 else float(np.float64(self.shift) ** self.power)
        return float(np.copysign(np.inf, value)) if abs(value) > FLT_MAX else value  # as in Caffe

    def reference(self, blobs, x):
        if self.constant is not None:
            return (np.full(x.shape, self.constant),)
        with np.errstate(invalid="ignore", divide="ignore"):
            return ((self.shift + self.scale * x) ** self.power,)

    def forward(self, module, x):
        return (_Power.apply(x, self.power, self.scale, self.shift, self.constant),)

    def onnx(self, graph, x):
        if self.constant is not None:
            return (graph.op("Expand", graph.constant(self.constant), graph.op("Shape", x)),)
        if self.scale != 1:
            x = graph.op("Mul", x, graph.constant(self.scale))
        if self.shift != 0:
            x = graph.op("Add", x, graph.constant(self.shift))
        if self.power == 2:
            return (graph.op("Mul", x, x),)
        return (x if self.power == 1 else graph.op("Pow", x, graph.constant(self.power)),)

    def reads(self):
        if self.power * self.scale == 0 or self.power == 1:
            return Reads()
        return Reads((0,)) if self.power == 2 else Reads((0,), tops=(0,))

    def mixes_gradients(self):
        return self.power * self.scale != 0  # it writes the slope first, where in place the gradient stands

    def spoiled_gradient(self, grads, held):
        slope = _slope(held.bottoms[0], held.tops[0], self.power, self.scale, self.shift)
        factor = torch.ones_like(grads[0]) * slope if self.at.in_place else grads[0]
        return (factor * slope,)


@register
class Dropout(ElementWise):
    """TRAIN: zero a share of the values and scale up the rest; TEST: nothing; semantics 1.13 (dropout_layer).

    In forks `sqrt_scale` scales by the root, and without `scale_train` it is TEST that scales, down; with
    `sample_weights_test` TEST draws as TRAIN does.
    """

    type = "Dropout"
    family = "activation"
    hangs = True
    param = ("dropout_param",)
    onnx_note = "TEST phase only: ONNX draws no mask"

    dropout_ratio: float = 0.5
    scale_train: bool = True
    sqrt_scale: bool = False
    sample_weights_test: bool = False

    def top_shapes(self, x):
        if not 0 < self.dropout_ratio < 1:
            raise Misfit(f"dropout_ratio {self.dropout_ratio:g}", "a number between 0 and 1", "dropout_ratio")
        if self.sqrt_scale and not self.scale_train:
            raise Misfit("sqrt_scale without scale_train", "one of them: no fork has both", "sqrt_scale")
        if len(x) > 4 and self.at.habits.legacy_dropout:
            raise Misfit(f"an input with {len(x)} axes", "at most 4 in the fork", "bottom")
        return (x,)

    @property
    def draws(self) -> bool:
        """Whether values are dropped at all."""
        return self.train or self.sample_weights_test

    @property
    def share(self) -> float:
        """The factor of a value that is not drawn for: below 1 where TRAIN did not scale up."""
        return 1.0 if self.scale_train else 1 - self.dropout_ratio

    def refuse_draws(self, who: str) -> None:
        """Raise Misfit where values are dropped at random."""
        if self.train:
            way_out = "load with phase='TEST'"
            raise Misfit(f"{self.type} in TRAIN phase", f"TEST phase: {who} draws no mask", "phase", way_out)
        if self.draws:
            raise Misfit("sample_weights_test true", f"false: {who} draws no mask", "sample_weights_test")

    def reference(self, blobs, x):
        self.refuse_draws("the reference")
        return (x * self.share,)

    def drawn(self, x: torch.Tensor) -> torch.Tensor:
        """x with a share of its values zero and the rest scaled up by the inverse of what is left."""
        return F.dropout(x, self.dropout_ratio)

    def forward(self, module, x):
        if not self.draws:
            return (F.dropout(x, self.dropout_ratio, training=False) if self.scale_train else x * self.share,)
        y = self.drawn(x)
        if not self.scale_train:
            return (y * (1 - self.dropout_ratio),)
        return (y * (1 - self.dropout_ratio) ** 0.5 if self.sqrt_scale else y,)

    def onnx(self, graph, x):
        self.refuse_draws("ONNX")
        return (x if self.scale_train else graph.op("Mul", x, graph.constant(self.share)),)

    def keeps(self):
        if self.draws:
            return "chain"
        return "all" if self.scale_train else "signs"
