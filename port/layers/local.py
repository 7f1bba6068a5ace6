"""Layers that normalise by what stands nearby: LRN, MVN, Normalize."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from .base import Layer, Misfit, at_least, at_most_4, float32, per_item, register
from .memory import Reads


def _across(x: torch.Tensor, n: int) -> torch.Tensor:
    """Sum over the neighbouring channels, over n."""
    wide = x.reshape(x.shape[0], 1, x.shape[1], -1)
    return F.avg_pool2d(wide, (n, 1), 1, (n // 2, 0)).reshape(x.shape)


@register
class LRN(Layer):
    """Local response normalisation across channels or within each; semantics 1.5 (lrn_layer)."""

    type = "LRN"
    family = "normalisation"
    hangs = True
    param = ("lrn_param",)

    local_size: int = 5
    alpha: float = 1.0
    beta: float = 0.75
    norm_region: str = "ACROSS_CHANNELS"
    k: float = 1.0
    engine: str = "DEFAULT"

    def top_shapes(self, x):
        if len(x) != 4:
            raise Misfit(f"an input with {len(x)} axes", "4 axes: N, C, H, W", "bottom")
        if self.local_size % 2 == 0:
            raise Misfit(f"local_size {self.local_size}", "an odd number", "local_size")
        return (x,)

    @property
    def within(self) -> bool:
        return self.norm_region == "WITHIN_CHANNEL"

    def reach(self, x) -> tuple[int, float]:
        """Extent of the neighbourhood and its alpha; cells outside the map are 0, so it needs to reach no farther."""
        n = min(self.local_size, 2 * max(1, *(x[2:] if self.within else x[1:2])) - 1)
        return n, self.alpha * (n / self.local_size) ** (2 if self.within else 1)

    def reference(self, blobs, x):
        (n, alpha), square = self.reach(x.shape), x * x
        half = n // 2
        if self.within:  # k plays no part there: the constant is 1
            wide = np.pad(square, [(0, 0), (0, 0), (half, half), (half, half)])
            sums = sum(wide[:, :, i : i + x.shape[2], j : j + x.shape[3]] for i in range(n) for j in range(n))
            return (x * (1 + alpha / n**2 * sums) ** -self.beta,)
        wide = np.pad(square, [(0, 0), (half, half), (0, 0), (0, 0)])
        sums = sum(wide[:, i : i + x.shape[1]] for i in range(n))
        return (x * (self.k + alpha / n * sums) ** -self.beta,)

    def forward(self, module, x):
        n, alpha = self.reach(tuple(x.shape))
        if not self.within:
            return (F.local_response_norm(x, n, alpha, self.beta, self.k),)
        mean = F.avg_pool2d(x * x, n, 1, n // 2, count_include_pad=True)
        return (x * (1 + alpha * mean) ** -self.beta,)

    def onnx(self, graph, x):
        n, alpha = self.reach(graph.shape(x))
        if not self.within:
            if not (alpha > 0 and self.beta > 0):
                found = f"alpha {self.alpha:g}, beta {self.beta:g}"
                raise Misfit(found, "numbers above 0 in ONNX Runtime", "lrn_param")
            return (graph.op("LRN", x, size=n, alpha=alpha, beta=self.beta, bias=self.k),)
        half = (n // 2,) * 2
        square = graph.pad(graph.op("Mul", x, x), (0, 0, *half), (0, 0, *half), 0.0)
        mean = graph.op("AveragePool", square, kernel_shape=(n, n))
        base = graph.op("Add", graph.op("Mul", mean, graph.constant(alpha)), graph.constant(1.0))
        return (graph.op("Mul", x, graph.op("Pow", base, graph.constant(-self.beta))),)

    def reads(self):
        return Reads((0,), tops=() if self.within else (0,))

    def spoiled_gradient(self, grads, held):
        (g,), (x,), (seen,) = grads, held.bottoms, held.seen_bottoms
        n, alpha = self.reach(tuple(x.shape))
        if self.within:
            base = 1 + alpha * F.avg_pool2d(seen * seen, n, 1, n // 2, count_include_pad=True)
            inner = g * x * base ** (-self.beta - 1)
            return (g * base**-self.beta - 2 * alpha * self.beta * x * F.avg_pool2d(inner, n, 1, n // 2),)
        base = self.k + alpha * _across(seen * seen, n)
        ratio = g * held.tops[0] / base
        return (g * base**-self.beta - 2 * alpha * self.beta * x * _across(ratio, n),)


class _MeanVariance(torch.autograd.Function):
    """MVN with Caffe's gradient, which treats eps as negligible."""

    @staticmethod
    def forward(ctx, x, axes, eps, inside):
        mean = x.mean(axes, keepdim=True)
        centred = x - mean
        variance = centred.square().mean(axes, keepdim=True)
        scale = (variance + eps).sqrt() if inside else variance.sqrt() + eps
        y = centred / scale
        ctx.save_for_backward(y, scale)
        ctx.axes = axes
        return y

    @staticmethod
    def backward(ctx, grad):
        y, scale = ctx.saved_tensors
        inner = grad - grad.mean(ctx.axes, keepdim=True) - y * (grad * y).mean(ctx.axes, keepdim=True)
        return inner / scale, None, None, None


class _PassThrough(torch.autograd.Function):
    """Subtract the mean, hand the gradient on unchanged: the fork's defect."""

    @staticmethod
    def forward(ctx, x, axes):
        return x - x.mean(axes, keepdim=True)

    @staticmethod
    def backward(ctx, grad):
        return grad, None


@register
class MVN(Layer):
    """Mean (and variance) normalisation per channel or per sample; eps is added to the deviation; semantics 1.17.

    `add_eps_before_sqrt`, of synopsys-caffe, adds it to the variance. The fork's gradient without variance
    normalisation misses the mean; `faithful_bugs` does the same.
    """

    type = "MVN"
    family = "normalisation"
    hangs = True
    param = ("mvn_param",)

    normalize_variance: bool = True
    across_channels: bool = False
    eps: float = float32(1e-9)
    add_eps_before_sqrt: bool = False

    def opencv_agrees(self):
        """It adds eps behind the root."""
        return super().opencv_agrees() and not self.add_eps_before_sqrt

    def top_shapes(self, x):
        at_most_4(x)
        return (x,)

    def axes(self, rank: int) -> tuple[int, ...]:
        """Axes that the statistics run over."""
        return tuple(range(1 if self.across_channels else 2, rank))

    def reference(self, blobs, x):
        wide = x.reshape(*x.shape, *[1] * (4 - x.ndim))
        centred = wide - wide.mean(self.axes(4), keepdims=True)
        if self.normalize_variance:
            variance = (centred**2).mean(self.axes(4), keepdims=True)
            inside = self.add_eps_before_sqrt
            centred = centred / (np.sqrt(variance + self.eps) if inside else np.sqrt(variance) + self.eps)
        return (centred.reshape(x.shape),)

    def forward(self, module, x):
        wide, axes = x.reshape(*x.shape, *[1] * (4 - x.dim())), self.axes(4)
        if self.normalize_variance:
            y = _MeanVariance.apply(wide, axes, self.eps, self.add_eps_before_sqrt)
        elif self.at.faithful_bugs and self.at.habits.mvn_gradient_passes:
            y = _PassThrough.apply(wide, axes)
        else:
            y = wide - wide.mean(axes, keepdim=True)
        return (y.reshape(x.shape),)

    def onnx(self, graph, x):
        axes = self.axes(len(graph.shape(x)))
        if not axes:  # planes of one cell: nothing is left of them
            return (graph.op("Mul", x, graph.constant(0.0)),)
        y = graph.op("Sub", x, graph.reduce("ReduceMean", x, axes, keep=True))
        if not self.normalize_variance:
            return (y,)
        variance, eps = graph.reduce("ReduceMean", graph.op("Mul", y, y), axes, keep=True), graph.constant(self.eps)
        if self.add_eps_before_sqrt:
            return (graph.op("Div", y, graph.op("Sqrt", graph.op("Add", variance, eps))),)
        return (graph.op("Div", y, graph.op("Add", graph.op("Sqrt", variance), eps)),)

    def reads(self):
        return Reads(tops=(0,) if self.normalize_variance else ())

    def spoiled_gradient(self, grads, held):
        x, axes = held.seen_bottoms[0], self.axes(4)
        wide, g, y = (t.reshape(*x.shape, *[1] * (4 - x.dim())) for t in (x, grads[0], held.tops[0]))
        variance = (wide - wide.mean(axes, keepdim=True)).square().mean(axes, keepdim=True)
        scale = (variance + self.eps).sqrt() if self.add_eps_before_sqrt else variance.sqrt() + self.eps
        inner = g - g.mean(axes, keepdim=True) - y * (g * y).mean(axes, keepdim=True)
        return ((inner / scale).reshape(x.shape),)


@register
class Normalize(Layer):
    """Each sample divided by its L2 norm over all of C, H, W; semantics 1.18 (normalize_layer of the fork)."""

    type = "Normalize"
    family = "normalisation"
    hangs = True

    def top_shapes(self, x):
        at_least(1, x)
        at_most_4(x)
        return (x,)

    def reference(self, blobs, x):
        norm = np.sqrt((per_item(x) ** 2).sum(1)).reshape(-1, *[1] * (x.ndim - 1))
        with np.errstate(invalid="ignore"):
            return (x / norm,)

    def forward(self, module, x):
        norm = x.flatten(1).square().sum(1).sqrt() if x.dim() > 1 else x.abs()
        return (x / norm.reshape(-1, *[1] * (x.dim() - 1)),)

    def onnx(self, graph, x):
        axes = tuple(range(1, len(graph.shape(x))))
        norm = graph.op("Sqrt", graph.reduce("ReduceSum", graph.op("Mul", x, x), axes, keep=True))
        return (graph.op("Div", x, norm),)

    def reads(self):
        return Reads((0,), tops=(0,))

    def spoiled_gradient(self, grads, held):
        x, g, y = (t.reshape(t.shape[0], -1) for t in (held.bottoms[0], grads[0], held.tops[0]))
        inner = g - y * (y * g).sum(1, keepdim=True)
        return ((inner / x.square().sum(1, keepdim=True).sqrt()).reshape(held.bottoms[0].shape),)
