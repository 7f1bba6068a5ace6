"""BatchNorm of the forks that have scale and bias inside: NVIDIA's, Intel's and happynear's."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch

from ..base import BlobSpec, Layer, Misfit, float32, register, show

_LEAST_EPS = float32(1e-5)  # cuDNN's


def has(message: Any, *names: str) -> bool:
    """Whether batch_norm_param holds one of some fields."""
    return any(message.batch_norm_param.HasField(name) for name in names)


def unbiased(variance: Any, x: Any) -> Any:
    """A biased variance of x's channels as the running average takes it."""
    count = prod(x.shape) // x.shape[1]
    return variance * (count / (count - 1) if count > 1 else 1)


def axes_of(rank: int) -> tuple[int, ...]:
    return (0, *range(2, rank))


def wide(values: Any, x: Any) -> Any:
    return values.reshape(1, -1, *[1] * (len(x.shape) - 2))


class _Scaled(Layer):
    """x normalised by channel, times a scale, plus a bias; which blobs hold what, and how they move, is the fork's."""

    type = "BatchNorm"
    family = "normalisation"
    hangs = True
    param = ("batch_norm_param",)

    use_global_stats: bool | None = None
    moving_average_fraction: float = float32(0.999)
    eps: float = float32(1e-5)

    @property
    def stored(self) -> bool:
        """Whether the stored statistics are used."""
        return not self.train

    @property
    def epsilon(self) -> float:
        return max(self.eps, _LEAST_EPS)

    def names(self) -> tuple[str, ...]:
        """The blobs in the fork's order: mean, variance, count, scale, bias, or some of them."""
        raise NotImplementedError

    def fillers(self) -> dict[str, Any]:
        """What blobs start as, where that is not 0."""
        raise NotImplementedError

    def kept(self, held: dict[str, Any]) -> tuple[Any, Any]:
        """Mean and variance from the blobs."""
        return held["mean"], held["variance"]

    def move(self, held: dict[str, Any], new: dict[str, Any], first: bool) -> None:
        """Move the running statistics by a batch's; `first`: by the first batch."""
        for name, value in new.items():
            held[name][...] = self.moving_average_fraction * held[name] + (1 - self.moving_average_fraction) * value

    def top_shapes(self, x):
        if len(x) < 2:
            raise Misfit(f"an input with {len(x)} axes", "2 or more: channels are axis 1", "bottom")
        if not self.stored and x[1] and not prod(x):
            raise Misfit(f"an input of {show(x)}: channels without a value", "a value for the statistics", "bottom")
        return (x,)

    def blobs(self, x):
        fillers = self.fillers()
        return [
            BlobSpec(name, (1,) if name == "count" else (x[1],), fillers.get(name, 0.0), name not in ("scale", "bias"))
            for name in self.names()
        ]

    def reference(self, blobs, x):
        held = dict(zip(self.names(), blobs, strict=True))
        if self.stored:
            mean, variance = self.kept(held)
        else:
            mean, variance = x.mean(axes_of(x.ndim)), x.var(axes_of(x.ndim))
            self.move(held, {"mean": mean, "variance": unbiased(variance, x)}, True)
        y = (x - wide(mean, x)) / np.sqrt(wide(variance, x) + self.epsilon)
        for name in held.keys() & {"scale"}:
            y = y * wide(held[name], x)
        return (y + wide(held["bias"], x) if "bias" in held else y,)

    def forward(self, module, x):
        held = dict(zip(self.names(), module.blobs, strict=True))
        if self.stored:
            mean, variance = self.kept(held)
        else:
            mean, centred = x.mean(axes_of(x.dim())), x - x.mean(axes_of(x.dim()), keepdim=True)
            variance = centred.square().mean(axes_of(x.dim()))
            with torch.no_grad():
                new = {"mean": mean, "variance": unbiased(variance, x)}
                self.move(held, new, "batches" not in module.state)
                module.state["batches"] = True
        factor = (variance + self.epsilon).rsqrt() * held.get("scale", 1.0)
        y = (x - wide(mean, x)) * wide(factor, x)
        return (y + wide(held["bias"], x) if "bias" in held else y,)

    def onnx(self, graph, x):
        held = {name: graph.blob_value(i).astype(np.float64) for i, name in enumerate(self.names())}
        channels = graph.shape(x)[1]
        scale, bias = held.get("scale", np.ones(channels)), held.get("bias", np.zeros(channels))
        if self.stored:
            mean, variance = self.kept(held)
            named = {"scale": scale, "bias": bias, "mean": mean, "variance": variance}
            inputs = [graph.constant(value, name=name) for name, value in named.items()]
            return (graph.op("BatchNormalization", x, *inputs, epsilon=self.epsilon),)
        axes, wide = axes_of(len(graph.shape(x))), (1, -1, *[1] * (len(graph.shape(x)) - 2))
        centred = graph.op("Sub", x, graph.reduce("ReduceMean", x, axes, keep=True))
        variance = graph.reduce("ReduceMean", graph.op("Mul", centred, centred), axes, keep=True)
        y = graph.op("Div", centred, graph.op("Sqrt", graph.op("Add", variance, graph.constant(self.epsilon))))
        y = graph.op("Mul", y, graph.constant(scale.reshape(wide), name="scale"))
        return (graph.op("Add", y, graph.constant(bias.reshape(wide), name="bias")),)


@register
class NvidiaBatchNorm(_Scaled):
    """NVIDIA's: blobs mean, variance, a 1 that nobody reads, and with scale_bias scale and bias (batch_norm_layer).

    The phase alone decides whose statistics are used. In training the first batch's replace the stored ones, later
    batches move them by 1 - moving_average_fraction.
    """

    pack = "nvidia"

    scale_bias: bool = False
    scale_filler: Any = None
    bias_filler: Any = None

    @classmethod
    def claims(cls, message, context):
        """By scale_bias or fillers, unless the blobs or the packs are happynear's."""
        if has(message, "filler"):
            return False
        own = has(message, "scale_bias")
        fillers = has(message, "scale_filler", "bias_filler") and "intel" not in context.packs
        return own or (fillers and "face" not in context.packs and context.stored != 4)

    def names(self):
        scaled = self.scale_bias or self.scale_filler is not None or self.bias_filler is not None
        return ("mean", "variance", "count", *(("scale", "bias") if scaled else ()))

    def fillers(self):
        scale, bias = self.scale_filler, self.bias_filler
        return {"count": 1.0, "scale": 1.0 if scale is None else scale, "bias": 0.0 if bias is None else bias}

    def move(self, held, new, first):
        if not first:
            super().move(held, new, first)
            return
        for name, value in new.items():
            held[name][...] = value


@register
class IntelBatchNorm(_Scaled):
    """Intel's: BVLC's blobs, then scale and bias unless those are switched off (mkldnn_batch_norm_layer).

    That is what its MKL engines make of a net; a file with these blobs, or a field of theirs, says that they are meant.
    """

    pack = "intel"

    filler: Any = 1.0
    bias_filler: Any = 0.0
    use_weight_bias: bool = True
    bias_term: bool = True
    relu: bool = False
    stats_batch_size: int = 0

    @classmethod
    def claims(cls, message, context):
        """By its fields, or by five blobs that nothing explains."""
        if has(message, "filler", "use_weight_bias", "bias_term", "relu", "stats_batch_size"):
            return True
        if has(message, "bias_filler") and "intel" in context.packs:
            return True
        return context.stored == 5 and not has(message, "scale_bias", "scale_filler", "bias_filler")

    @property
    def stored(self):
        return not self.train if self.use_global_stats is None else self.use_global_stats

    @property
    def epsilon(self):
        return self.eps

    def names(self):
        return ("mean", "variance", "count", "scale", "bias")[: 3 + self.use_weight_bias * (1 + self.bias_term)]

    def fillers(self):
        return {"scale": self.filler, "bias": self.bias_filler}

    def kept(self, held):
        count = float(held["count"].reshape(-1)[0])
        factor = 1 / count if count else 0.0
        return held["mean"] * factor, held["variance"] * factor

    def move(self, held, new, first):
        for name, value in {**new, "count": 1.0}.items():
            held[name][...] = self.moving_average_fraction * held[name] + value

    def top_shapes(self, x):
        if self.stats_batch_size and not self.stored:
            found = f"stats_batch_size {self.stats_batch_size} with the batch's statistics"
            raise Misfit(found, "0: statistics of parts of a batch are not supported", "stats_batch_size")
        return super().top_shapes(x)

    def reference(self, blobs, x):
        (y,) = super().reference(blobs, x)
        return (np.maximum(y, 0) if self.relu else y,)

    def forward(self, module, x):
        (y,) = super().forward(module, x)
        return (torch.relu(y) if self.relu else y,)

    def onnx(self, graph, x):
        (y,) = super().onnx(graph, x)
        return (graph.op("Relu", y) if self.relu else y,)


@register
class HappynearBatchNorm(_Scaled):
    """happynear's cuDNN form: blobs scale, bias, mean and variance, four in all (cudnn_batch_norm_layer)."""

    pack = "face"

    moving_average_fraction: float = float32(0.99)
    scale_filler: Any = 1.0
    bias_filler: Any = 0.0
    engine: str = "DEFAULT"

    @classmethod
    def claims(cls, message, context):
        """By its four blobs, or by its fillers where the face pack is declared."""
        if has(message, "disable_mean", "disable_variance", "filler", "scale_bias"):
            return False
        return context.stored == 4 or ("face" in context.packs and has(message, "scale_filler", "bias_filler"))

    def names(self):
        return ("scale", "bias", "mean", "variance")

    def fillers(self):
        return {"scale": self.scale_filler, "bias": self.bias_filler}
