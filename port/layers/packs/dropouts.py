"""Dropouts of forks: SeLUDropout, SpatialDropout."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..activations import Dropout, ElementWise
from ..base import Misfit, float32, register


@register
class SpatialDropout(Dropout):
    """Dropout of whole channels, N x C x ...; the forks' spatial_dropout_layer, whose CPU code draws for few cells."""

    type = "SpatialDropout"
    pack = "segnet"
    param = ("spatial_dropout_param",)

    def top_shapes(self, x):
        if len(x) < 2:
            raise Misfit(f"an input with {len(x)} axes", "2 or more: channels are axis 1", "bottom")
        return super().top_shapes(x)

    def drawn(self, x):
        mask = F.dropout(
            torch.ones_like(x[(slice(None), slice(None), *[slice(0, 1)] * (x.dim() - 2))]), self.dropout_ratio
        )
        return x * mask


@register
class SeLUDropout(ElementWise):
    """TRAIN: a share of the values made `alpha`, then all of them scaled and shifted; the forks' selu_dropout_layer.

    Scale and shift keep mean 0 and variance 1 as they are. TEST: nothing.
    """

    type = "SeLUDropout"
    pack = "synopsys"
    family = "activation"
    hangs = True
    param = ("selu_dropout_param",)
    onnx_note = "TEST phase only: ONNX draws no mask"

    dropout_ratio: float = float32(0.1)
    alpha: float = float32(-1.75809932)

    def top_shapes(self, x):
        if not 0 < self.dropout_ratio < 1:
            raise Misfit(f"dropout_ratio {self.dropout_ratio:g}", "a number between 0 and 1", "dropout_ratio")
        return (x,)

    def refuse_draws(self, who: str) -> None:
        """Raise Misfit in TRAIN phase."""
        if self.train:
            way_out = "load with phase='TEST'"
            raise Misfit(f"{self.type} in TRAIN phase", f"TEST phase: {who} draws no mask", "phase", way_out)

    def reference(self, blobs, x):
        self.refuse_draws("the reference")
        return (x.copy(),)

    def forward(self, module, x):
        if not self.train:
            return (x.clone(),)
        kept = 1 - self.dropout_ratio
        scale = (kept * (1 + self.alpha**2 * self.dropout_ratio)) ** -0.5
        mask = torch.rand_like(x) >= self.dropout_ratio
        return (scale * torch.where(mask, x, self.alpha) - scale * self.dropout_ratio * self.alpha,)

    def onnx(self, graph, x):
        self.refuse_draws("ONNX")
        return (x,)

    def keeps(self):
        return "" if self.train else "all"


@register
class SeLuDropout(SeLUDropout):
    """SeLUDropout under the name that other forks gave it."""

    type = "SeLuDropout"
