"""SmoothL1Loss of Faster R-CNN and SSD, beside the SRN authors' older one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from prototxt_gen.schema.dialect import LAYER_TYPES

from ..base import Misfit, register, show
from ..losses import Loss, over_items
from ..memory import Reads


def smooth(u: np.ndarray, sigma2: float) -> np.ndarray:
    """The terms: a parabola within 1 / sigma2, then a line (NumPy)."""
    size = np.abs(u)
    return np.where(size < 1 / sigma2, 0.5 * u * u * sigma2, size - 0.5 / sigma2)


def smooth_torch(u: torch.Tensor, sigma2: float) -> torch.Tensor:
    """The same in torch."""
    size = u.abs()
    return torch.where(size < 1 / sigma2, 0.5 * u * u * sigma2, size - 0.5 / sigma2)


def smooth_onnx(graph: Any, u: str, sigma2: float) -> str:
    """The same in ONNX."""
    size = graph.op("Abs", u)
    near = graph.op("Mul", graph.op("Mul", size, size), graph.constant(0.5 * sigma2))
    far = graph.op("Sub", size, graph.constant(0.5 / sigma2))
    return graph.op("Where", graph.op("Less", size, graph.constant(1 / sigma2)), near, far)


@register
class WeightedSmoothL1Loss(Loss):
    """Smooth L1 of w_in * (a - b), times w_out, summed over the first extent (smooth_L1_loss_layer of detection forks).

    The third bottom is w_in, the fourth w_out. SSD's fork has no fourth, and leaves w_in out of the gradient; here the
    gradient is that of the loss.
    """

    type = "SmoothL1Loss"
    pack = "faster_rcnn"
    param = ("smooth_l1_loss_param",)
    bottom_count = (2, 4)
    no_gradient = (2, 3)

    sigma: float = 1.0

    @classmethod
    def claims(cls, message, context):
        """All but what the SRN authors' Caffe can have meant: without sigma, with at most three bottoms."""
        own = message.HasField("smooth_l1_loss_param") or len(message.bottom) == 4
        return own or cls.type not in LAYER_TYPES[context.dialect]

    def top_shapes(self, a, b, *weights):
        if a[1:] != b[1:] or any(w != b for w in weights):
            raise Misfit(", ".join(map(show, (a, b, *weights))), "equal shapes", "bottom")
        if not self.sigma:
            raise Misfit("sigma 0", "another number: the fork divides by its square", "sigma")
        return super().top_shapes(a, b)

    @property
    def sigma2(self) -> float:
        return self.sigma * self.sigma

    def reference(self, blobs, a, b, *weights):
        inside, outside = (*weights, 1.0, 1.0)[:2] if len(weights) < 2 else weights
        return (over_items((outside * smooth(inside * (a - b), self.sigma2)).sum(), len(a)),)

    def forward(self, module, a, b, *weights):
        u = a - b
        if weights:
            u = weights[0].detach() * u
        terms = smooth_torch(u, self.sigma2)
        if len(weights) == 2:
            terms = weights[1].detach() * terms
        return (terms.sum() / len(a),)

    def onnx(self, graph, a, b, *weights):
        u = graph.op("Sub", a, b)
        terms = smooth_onnx(graph, graph.op("Mul", weights[0], u) if weights else u, self.sigma2)
        if len(weights) == 2:
            terms = graph.op("Mul", weights[1], terms)
        return (graph.op("Div", graph.reduce("ReduceSum", terms), graph.count(a, 1)),)

    def reads(self):
        return Reads(tuple(range(2, self.at.bottoms)))
