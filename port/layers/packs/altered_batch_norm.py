"""BVLC's BatchNorm with what some forks switch off."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..base import Misfit, register
from ..normalization import BatchNorm
from .batch_norm import axes_of, has, unbiased, wide


@register
class AlteredBatchNorm(BatchNorm):
    """BVLC's BatchNorm with what forks switch off (batch_norm_layer of PSPNet, Synopsys, happynear).

    update_global_stats false: the stored statistics do not move; add_eps_before_sqrt false: eps is added to the root;
    disable_mean, disable_variance: that statistic is neither used nor moved, and without a mean the variance is the
    mean square. icnet saves memory alone.
    """

    pack = "deeplab"

    update_global_stats: bool | None = None
    add_eps_before_sqrt: bool = True
    icnet: bool = False
    disable_mean: bool = False
    disable_variance: bool = False

    @classmethod
    def claims(cls, message, context):
        """By its fields."""
        own = ("update_global_stats", "add_eps_before_sqrt", "icnet", "disable_mean", "disable_variance")
        return has(message, *own)

    def top_shapes(self, x):
        if self.update_global_stats and self.stored and self.train:
            found = "update_global_stats with stored statistics in TRAIN phase"
            raise Misfit(found, "false: PSPNet's fork would move what it uses", "update_global_stats")
        return super().top_shapes(x)

    def root(self, variance: Any) -> Any:
        """What a channel is divided by."""
        return (variance + self.eps) ** 0.5 if self.add_eps_before_sqrt else variance**0.5 + self.eps

    def _normal(self, x: Any, mean: Any, variance: Any) -> Any:
        y = x if self.disable_mean else x - wide(mean, x)
        return y if self.disable_variance else y / self.root(wide(variance, x))

    def _from_batch(self, x: Any) -> tuple[Any, Any]:
        axes = axes_of(len(x.shape))
        mean = x.mean(axes)
        centred = x if self.disable_mean else x - wide(mean, x)
        return mean, (centred * centred).mean(axes)

    def _move(self, blobs: Any, x: Any, mean: Any, variance: Any) -> None:
        if self.update_global_stats is False:
            return
        off = (self.disable_mean, self.disable_variance, False)
        for blob, new, still in zip(blobs, (mean, unbiased(variance, x), 1.0), off, strict=True):
            if not still:
                blob[...] = self.moving_average_fraction * blob + new

    def reference(self, blobs, x):
        if self.stored:
            factor = 0.0 if blobs[2][0] == 0 else 1 / blobs[2][0]
            mean, variance = blobs[0] * factor, blobs[1] * factor
        else:
            mean, variance = self._from_batch(x)
            self._move(blobs, x, mean, variance)
        with np.errstate(invalid="ignore"):
            return (self._normal(x, mean, variance),)

    def forward(self, module, x):
        if self.stored:
            factor = torch.where(module.blobs[2] == 0, 0.0, 1 / module.blobs[2])
            return (self._normal(x, module.blobs[0] * factor, module.blobs[1] * factor),)
        mean, variance = self._from_batch(x)
        with torch.no_grad():
            self._move(module.blobs, x, mean, variance)
        return (self._normal(x, mean, variance),)

    def onnx(self, graph, x):
        axes, y = axes_of(len(graph.shape(x))), x
        wide = (1, -1, *[1] * (len(axes) - 1))
        count = float(graph.blob_value(2)[0])
        factor = 1 / count if count else 0.0
        mean, variance = (graph.blob_value(i).astype(np.float64).reshape(wide) * factor for i in range(2))
        if not self.disable_mean:
            taken = graph.constant(mean, name="mean") if self.stored else graph.reduce("ReduceMean", x, axes, keep=True)
            y = graph.op("Sub", x, taken)
        if self.disable_variance:
            return (y,)
        if self.stored:
            return (graph.op("Div", y, graph.constant(self.root(variance), name="root")),)
        spread = graph.reduce("ReduceMean", graph.op("Mul", y, y), axes, keep=True)
        eps = graph.constant(self.eps)
        if self.add_eps_before_sqrt:
            return (graph.op("Div", y, graph.op("Sqrt", graph.op("Add", spread, eps))),)
        return (graph.op("Div", y, graph.op("Add", graph.op("Sqrt", spread), eps)),)
