"""SegNet's BN: two blobs, which at inference already hold the statistics; and ICNet's in a fork that has both."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from ..base import BlobSpec, Layer, Misfit, register, show
from ..memory import Reads
from ..normalization import BN

_OWN = ("scale_filler", "shift_filler", "bn_mode")
_EPS = 1e-9  # the forks' var_eps_, whatever a net's eps says


@register
class SegNetBN(Layer):
    """x * scale + shift, by channel, x normalised by the batch first in LEARN mode (SegNet's bn_layer).

    The mode decides, not the phase. LEARN's further tops are the batch's mean and variance, 1 x C x 1 x 1 as both blobs
    are. The forks that have the SRN fork's fields too do not read them here.
    """

    type = "BN"
    pack = "segnet"
    family = "normalisation"
    hangs = True
    param = ("bn_param",)
    top_count = (1, 3)

    scale_filler: Any = 0.0
    shift_filler: Any = 0.0
    bn_mode: str = "LEARN"
    slope_filler: Any = None
    bias_filler: Any = None
    momentum: float | None = None
    frozen: bool = False
    eps: float | None = None
    engine: str = "DEFAULT"

    @classmethod
    def claims(cls, message, context):
        """By its fields, by its two blobs, or by pack where a net says nothing."""
        given = message.bn_param
        if given.HasField("icnet"):
            return not given.icnet
        if any(given.HasField(name) for name in _OWN) or context.stored is not None:
            return context.stored in (None, 2)
        others = any(given.HasField(name) for name in ("slope_filler", "bias_filler", "momentum", "frozen"))
        return bool(context.packs & {"segnet", "synopsys"}) and not others

    @property
    def learns(self) -> bool:
        """Whether the batch's own statistics are used."""
        return self.bn_mode == "LEARN"

    def top_shapes(self, x):
        if not 2 <= len(x) <= 4:
            raise Misfit(f"an input with {len(x)} axes", "2 to 4: N, C, H, W", "bottom")
        if self.learns and x[1] and not prod(x):
            raise Misfit(f"an input of {show(x)}: channels without a value", "a value for the statistics", "bottom")
        if self.at.tops > 1 and not self.learns:
            raise Misfit(f"{self.at.tops} tops in INFERENCE mode", "one: there are no statistics", "top")
        return (x, *[(1, x[1], 1, 1)] * (self.at.tops - 1))

    def blobs(self, x):
        shape = (1, x[1], 1, 1)
        return [BlobSpec("scale", shape, self.scale_filler), BlobSpec("shift", shape, self.shift_filler)]

    def reference(self, blobs, x):
        column = (1, -1, *[1] * (x.ndim - 2))
        scale, shift = (blob.reshape(column) for blob in blobs)
        if not self.learns:
            return (x * scale + shift,)
        axes = (0, *range(2, x.ndim))
        mean = x.mean(axes, keepdims=True)
        variance = ((x - mean) ** 2).mean(axes, keepdims=True)
        y = (x - mean) / np.sqrt(variance + _EPS) * scale + shift
        return (y, mean.reshape(1, -1, 1, 1), variance.reshape(1, -1, 1, 1))[: self.at.tops]

    def forward(self, module, x):
        column = (1, -1, *[1] * (x.dim() - 2))
        scale, shift = (blob.reshape(column) for blob in module.blobs)
        if not self.learns:
            return (x * scale + shift,)
        axes = (0, *range(2, x.dim()))
        # differences first: the square of the mean may be all that float32 holds of the squares' mean
        mean = x.mean(axes, keepdim=True)
        variance = (x - mean).square().mean(axes, keepdim=True)
        y = (x - mean) * (variance + _EPS).rsqrt() * scale + shift
        return (y, *(s.detach().reshape(1, -1, 1, 1) for s in (mean, variance)))[: self.at.tops]

    def onnx(self, graph, x):
        rank = len(graph.shape(x))
        scale, shift = (graph.blob(i, (1, -1, *[1] * (rank - 2))) for i in range(2))
        if not self.learns:
            return (graph.op("Add", graph.op("Mul", x, scale), shift),)
        axes = (0, *range(2, rank))
        mean = graph.reduce("ReduceMean", x, axes, keep=True)
        centred = graph.op("Sub", x, mean)
        variance = graph.reduce("ReduceMean", graph.op("Mul", centred, centred), axes, keep=True)
        y = graph.op("Div", centred, graph.op("Sqrt", graph.op("Add", variance, graph.constant(_EPS))))
        y = graph.op("Add", graph.op("Mul", y, scale), shift)
        return (y, *(graph.reshape(s, (1, -1, 1, 1)) for s in (mean, variance)))[: self.at.tops]

    def reads(self):
        return Reads() if self.learns else Reads((0,))


@register
class IcnetBN(BN):
    """The SRN fork's BN where SegNet's bears the name (Synopsys' bn_layer, icnet: true); blobs are 1 x C x 1 x 1."""

    pack = "synopsys"

    icnet: bool = False

    @classmethod
    def claims(cls, message, context):
        """By its field."""
        return message.bn_param.icnet

    def blobs(self, x):
        return [replace(spec, shape=(*spec.shape, 1, 1)) for spec in super().blobs(x)]

    def reference(self, blobs, x):
        return super().reference([blob.reshape(1, -1) for blob in blobs], x)
