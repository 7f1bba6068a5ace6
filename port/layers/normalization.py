"""BatchNorm (BVLC: statistics only) and BN (the fork: statistics and affine map in one layer)."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch

from .affine import Scale
from .base import BlobSpec, Layer, Misfit, float32, register, show, values_of


def _per_channel(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of every channel."""
    axes = (0, *range(2, x.ndim))
    mean = x.mean(axes)
    return mean, ((x - _per_channel(mean, x)) ** 2).mean(axes)


def _statistics_of_nothing(x, stored: bool) -> None:
    """Raise Misfit for channels without values whose mean would be 0 / 0 in Caffe, and stay in the statistics."""
    if not stored and x[1] and not prod(x):
        raise Misfit(f"an input of {show(x)}: channels without a value", "a value or more for the statistics", "bottom")


def _normalised(x, weight, bias, eps: float):
    """Batch-normalised x with its mean and unbiased variance (biased where a channel has one value)."""
    kind = torch.promote_types(x.dtype, torch.float32)  # half precision is for x alone
    mean, variance = (x.new_zeros(x.shape[1], dtype=kind) for _ in range(2))
    if x.numel() == x.shape[1]:  # each value is its own mean: exactly 0, where torch rounds and divides by m - 1
        y = torch.batch_norm(x - x, weight, bias, None, None, True, 0.0, eps, False)
        return y, x.detach().reshape(-1).to(kind), variance
    y = torch.batch_norm(x, weight, bias, mean, variance, True, 1.0, eps, False)
    return y, mean, variance


def _onnx_moments(graph, x):
    """Nodes for mean and biased variance of every channel, kept as 1 x C x 1 ..."""
    axes = (0, *range(2, len(graph.shape(x))))
    mean = graph.reduce("ReduceMean", x, axes, keep=True)
    centred = graph.op("Sub", x, mean)
    return centred, graph.reduce("ReduceMean", graph.op("Mul", centred, centred), axes, keep=True)


@register
class BatchNorm(Layer):
    """Normalise each channel; blobs: sums of mean and variance and their weight; semantics 1.6 (batch_norm_layer)."""

    type = "BatchNorm"
    family = "normalisation"
    in_bfloat16 = True
    hangs = True
    param = ("batch_norm_param",)

    use_global_stats: bool | None = None
    moving_average_fraction: float = float32(0.999)
    eps: float = float32(1e-5)

    @property
    def stored(self) -> bool:
        """Whether the stored statistics are used."""
        return not self.train if self.use_global_stats is None else self.use_global_stats

    def top_shapes(self, x):
        if len(x) < 2:
            raise Misfit(f"an input with {len(x)} axes", "2 or more: channels are axis 1", "bottom")
        _statistics_of_nothing(x, self.stored)
        return (x,)

    def blobs(self, x):
        names = ("mean", x[1]), ("variance", x[1]), ("count", 1)
        return [BlobSpec(name, (size,), statistic=True) for name, size in names]

    def reference(self, blobs, x):
        if self.stored:
            factor = 0.0 if blobs[2][0] == 0 else 1 / blobs[2][0]
            mean, variance = blobs[0] * factor, blobs[1] * factor
        else:
            mean, variance = _moments(x)
            m = prod(x.shape) // x.shape[1]
            blobs[2][...] = self.moving_average_fraction * blobs[2] + 1
            blobs[0][...] = self.moving_average_fraction * blobs[0] + mean
            blobs[1][...] = self.moving_average_fraction * blobs[1] + variance * (m / (m - 1) if m > 1 else 1)
        return ((x - _per_channel(mean, x)) / np.sqrt(_per_channel(variance, x) + self.eps),)

    def affine(self) -> tuple[Any, Any]:
        """Scale and bias that are applied too, where a pass has joined this layer with the next one."""
        return None, None

    def forward(self, module, x):
        sums = module.blobs
        if self.stored:
            factor = torch.where(sums[2] == 0, 0.0, 1 / sums[2])
            mean, variance = sums[0] * factor, sums[1] * factor
            return (torch.batch_norm(x, *self.affine(), mean, variance, False, 0.0, self.eps, False),)
        y, mean, variance = _normalised(x, *self.affine(), self.eps)
        with torch.no_grad():
            for blob, new in zip(sums, (mean, variance, 1.0), strict=True):
                blob.mul_(self.moving_average_fraction).add_(new)
        return (y,)

    def onnx(self, graph, x):
        if not self.stored:
            centred, variance = _onnx_moments(graph, x)
            return (graph.op("Div", centred, graph.op("Sqrt", graph.op("Add", variance, graph.constant(self.eps)))),)
        mean, variance, count = (graph.blob_value(i).astype(np.float64) for i in range(3))
        factor = 0.0 if count[0] == 0 else 1 / count[0]
        ones, zeros = np.ones_like(mean), np.zeros_like(mean)
        named = {"scale": ones, "shift": zeros, "mean": mean * factor, "variance": variance * factor}
        inputs = [graph.constant(value, name=name) for name, value in named.items()]
        return (graph.op("BatchNormalization", x, *inputs, epsilon=self.eps),)

    def spares_top(self):
        return True

    def joined(self, following, module, bottom):
        if type(self) is not BatchNorm or type(following) is not Scale or len(module.checked) != 1:
            return None
        if not bottom or following.span(bottom) != (1, (bottom[1],)):
            return None
        return _Joined(**values_of(self), scaling=module), _Done(**values_of(following))


class _Joined(BatchNorm):
    """Normalises and scales by the blobs of another layer's module, in one pass over memory; rounded differently."""

    scaling: Any = None

    def affine(self) -> tuple[Any, Any]:
        scale, *bias = self.scaling.blobs
        return scale, bias[0] if bias else torch.zeros_like(scale)


class _Done(Scale):
    """Hands its bottom on: the layer before it has scaled."""

    def forward(self, module, x):
        return (x,)


class _TrainingGradient(torch.autograd.Function):
    """Normalise by stored statistics, go back as if they were the batch's: the fork's defect in TEST phase."""

    @staticmethod
    def forward(ctx, x, slope, bias, mean, variance, eps):
        column = (1, -1, *[1] * (x.dim() - 2))
        scale = (variance.reshape(column) + eps).sqrt()
        normal = (x - mean.reshape(column)) / scale
        ctx.save_for_backward(normal, slope.reshape(column), scale)
        return normal * slope.reshape(column) + bias.reshape(column)

    @staticmethod
    def backward(ctx, grad):
        normal, slope, scale = ctx.saved_tensors
        axes = (0, *range(2, grad.dim()))
        inner = grad - grad.mean(axes, keepdim=True) - normal * (grad * normal).mean(axes, keepdim=True)
        return inner * slope / scale, (grad * normal).sum(axes), grad.sum(axes), None, None, None


@register
class BN(Layer):
    """The fork's normalisation with slope and bias; blobs are 1 x C; semantics 1.8 (bn_layer).

    Backward in TEST phase uses the stored statistics as constants; the fork takes them for the batch's, and
    so does `faithful_bugs`.
    """

    type = "BN"
    family = "normalisation"
    in_bfloat16 = True
    hangs = True
    param = ("bn_param",)

    slope_filler: Any = 0.0
    bias_filler: Any = 0.0
    momentum: float = float32(0.9)
    eps: float = float32(1e-5)
    frozen: bool = False
    engine: str = "DEFAULT"

    @property
    def stored(self) -> bool:
        """Whether the running statistics are used."""
        return self.frozen or not self.train

    def top_shapes(self, x):
        if not 2 <= len(x) <= 4:
            raise Misfit(f"an input with {len(x)} axes", "2 to 4: the fork's BN knows N, C, H, W only", "bottom")
        _statistics_of_nothing(x, self.stored)
        return (x,)

    def blobs(self, x):
        shape = (1, x[1])
        return [
            BlobSpec("slope", shape, self.slope_filler),
            BlobSpec("bias", shape, self.bias_filler),
            BlobSpec("mean", shape, 0.0, statistic=True),
            BlobSpec("variance", shape, 1.0 if self.frozen else 0.0, statistic=True),
        ]

    def reference(self, blobs, x):
        slope, bias, mean, variance = (_per_channel(blob, x) for blob in blobs)
        if not self.stored:
            batch_mean, batch_variance = _moments(x)
            mean, variance = _per_channel(batch_mean, x), _per_channel(batch_variance, x)
            blobs[2][...] = self.momentum * blobs[2] + (1 - self.momentum) * batch_mean
            blobs[3][...] = self.momentum * blobs[3] + (1 - self.momentum) * batch_variance
        return (slope * (x - mean) / np.sqrt(variance + self.eps) + bias,)

    def forward(self, module, x):
        slope, bias, mean, variance = (blob.reshape(-1) for blob in module.blobs)
        if self.stored:
            if self.frozen:  # only the bottom's gradient is computed
                slope, bias = slope.detach(), bias.detach()
            elif self.at.faithful_bugs:
                return (_TrainingGradient.apply(x, slope, bias, mean, variance, self.eps),)
            return (torch.batch_norm(x, slope, bias, mean, variance, False, 0.0, self.eps, False),)
        y, batch_mean, batch_variance = _normalised(x, slope, bias, self.eps)
        m = max(x.numel() // x.shape[1], 1)
        with torch.no_grad():  # the running average takes the biased variance
            mean.lerp_(batch_mean, 1 - self.momentum)
            variance.lerp_(batch_variance * ((m - 1) / m), 1 - self.momentum)
        return (y,)

    def onnx(self, graph, x):
        slope, bias, mean, variance = (graph.blob(i, (-1,)) for i in range(4))
        if self.stored:
            return (graph.op("BatchNormalization", x, slope, bias, mean, variance, epsilon=self.eps),)
        centred, spread = _onnx_moments(graph, x)
        y = graph.op("Div", centred, graph.op("Sqrt", graph.op("Add", spread, graph.constant(self.eps))))
        column = (1, -1, *[1] * (len(graph.shape(x)) - 2))
        return (graph.op("Add", graph.op("Mul", y, graph.blob(0, column)), graph.blob(1, column)),)

    def spares_top(self):
        return True

    def holds_still(self):
        return self.frozen
