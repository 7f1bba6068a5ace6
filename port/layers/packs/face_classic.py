"""Fields that face nets add to Caffe's own InnerProduct, Scale and Accuracy (happynear's fork)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..accuracy import Accuracy
from ..affine import Scale
from ..base import Misfit, canonical_axis, per_item, register, show
from ..classification import last_axis
from ..inner_product import InnerProduct
from ..memory import Reads
from ..values import check_places

EPS = 1e-6  # what is added to a row's sum of squares


class _Straight(torch.autograd.Function):
    """Values in place of others, with the gradient handed to those as if nothing had been done."""

    @staticmethod
    def forward(ctx, held, used):
        return used.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad, None


def in_place_of(held: torch.Tensor, used: torch.Tensor, train: bool) -> torch.Tensor:
    """A changed weight with the weight's gradient; in training it is stored, as the fork always does."""
    with torch.no_grad():
        used = used.detach()
        if train:
            held.copy_(used)
    return held if train else _Straight.apply(held, used)


@register
class FaceInnerProduct(InnerProduct):
    """`normalize`: a row of weights over its length; or the second bottom's items as rows (happynear's inner_product).

    Rows stay normalised after a pass in training, and the gradient is that of the normalised row, its length left out.
    With a second bottom num_output is not read, and there is no bias: the fork looks for it in the wrong place.
    """

    type = "InnerProduct"
    pack = "face"
    bottom_count = (1, 2)

    normalize: bool = False

    @classmethod
    def claims(cls, message, context):
        return context.bottoms > 1 or message.inner_product_param.normalize

    def top_shapes(self, x, *rows):
        if not rows:
            if self.transpose:
                raise Misfit("normalize of transposed weights, whose rows the fork mistakes", "false", "normalize")
            return super().top_shapes(x)
        if self.bias_term or self.transpose or self.normalize:
            named = [n for n in ("bias_term", "transpose", "normalize") if getattr(self, n)]
            raise Misfit(f"{named[0]} with a second bottom", "false", named[0])
        axis = canonical_axis(self.axis, len(x))
        inputs = int(np.prod(x[axis:]))
        if not rows[0] or int(np.prod(rows[0][1:])) != inputs:
            raise Misfit(f"rows of {show(rows[0])} for {show(x)}", f"{inputs} values an item", "bottom")
        return ((*x[:axis], rows[0][0]),)

    def blobs(self, x, *rows):
        return [] if rows else super().blobs(x)

    def reference(self, blobs, x, *rows):
        lead = x.shape[: canonical_axis(self.axis, x.ndim)]
        if rows:
            flat = rows[0].reshape(len(rows[0]), -1)
            return ((x.reshape(*lead, -1) @ flat.T),)
        weight = blobs[0] / np.sqrt((blobs[0] ** 2).sum(1, keepdims=True) + EPS)
        if self.train:
            blobs[0][...] = weight
        return super().reference([weight, *blobs[1:]], x)

    def forward(self, module, x, *rows):
        flat = x.flatten(canonical_axis(self.axis, x.dim()))
        if rows:
            return (F.linear(flat, per_item(rows[0])),)
        held = module.blobs[0]
        weight = in_place_of(held, held / (held.square().sum(1, keepdim=True) + EPS).sqrt(), self.train)
        return (F.linear(flat, weight, module.blobs[1] if self.bias_term else None),)

    def onnx(self, graph, x, *rows):
        axis = canonical_axis(self.axis, len(graph.shape(x)))
        flat = graph.op("Flatten", x, axis=axis)
        if rows:
            y = graph.op("Gemm", flat, graph.op("Flatten", rows[0], axis=1), transB=1)
        else:
            weight = graph.blob_value(0).astype(np.float64)
            weight = graph.constant(weight / np.sqrt((weight**2).sum(1, keepdims=True) + EPS))
            y = graph.op("Gemm", flat, weight, *([graph.blob(1)] if self.bias_term else []), transB=1)
        return (y if axis == 1 else graph.like_top(y, 0),)

    def reads(self):
        return Reads(tuple(range(self.at.bottoms)))


@register
class FaceScale(Scale):
    """Scale whose factors are held between `min_value` and `max_value` (happynear's scale_layer).

    The bounds have no part in the gradient. Factors that were held stay so after a pass in training.
    """

    type = "Scale"
    pack = "face"

    min_value: float | None = None
    max_value: float | None = None

    @classmethod
    def claims(cls, message, context):
        param = message.scale_param
        return param.HasField("min_value") or param.HasField("max_value")

    def top_shapes(self, x, *operand):
        if operand:
            raise Misfit("bounds with a second bottom, which the fork would write over", "none", "min_value")
        return super().top_shapes(x)

    def held(self, factors: np.ndarray) -> np.ndarray:
        """Factors between the bounds; the upper one wins."""
        factors = factors if self.min_value is None else np.maximum(factors, self.min_value)
        return factors if self.max_value is None else np.minimum(factors, self.max_value)

    def reference(self, blobs, x, *operand):
        factors = self.held(blobs[0])
        if self.train:
            blobs[0][...] = factors
        return super().reference([factors, *blobs[1:]], x)

    def forward(self, module, x, *operand):
        factors = module.blobs[0]
        low = factors if self.min_value is None else factors.clamp(min=self.min_value)
        used = in_place_of(factors, low if self.max_value is None else low.clamp(max=self.max_value), self.train)
        wide = self.expanded(tuple(x.shape))
        y = x * used.reshape(wide)
        return (y + module.blobs[1].reshape(wide) if self.bias_term else y,)

    def onnx_operand(self, graph, x, *operand):
        return graph.constant(self.held(graph.blob_value(0)).reshape(self.expanded(graph.shape(x))))


@register
class FaceAccuracy(Accuracy):
    """Accuracy of the least scores (`min_is_better`), a tie for the lower class; or over `denominator`, if not 0.

    A third bottom says which locations count: those where it is not 0 (happynear's accuracy_layer, LRCN's).
    """

    type = "Accuracy"
    pack = "face"
    bottom_count = (2, 3)
    no_gradient = (0, 1, 2)

    min_is_better: bool = False
    denominator: float = 0.0

    @classmethod
    def claims(cls, message, context):
        param = message.accuracy_param
        return context.bottoms > 2 or param.min_is_better or bool(param.denominator)

    def top_shapes(self, x, label, *weight):
        if self.denominator < 0:
            raise Misfit(f"denominator {self.denominator:g}", "0 or more", "denominator")
        if self.denominator and (weight or self.min_is_better or self.at.tops > 1):
            raise Misfit("denominator with what another fork has", "one of them", "denominator")
        if weight and int(np.prod(weight[0])) != int(np.prod(label)):
            raise Misfit(f"{show(weight[0])} weights for labels of {show(label)}", "as many", "bottom")
        return super().top_shapes(x, label)

    def counted(self, label: Any, *weight: Any) -> np.ndarray:
        """Which locations count."""
        kept = np.ones(label.size, bool)
        if self.ignore_label is not None:
            kept &= np.trunc(label.reshape(-1)) != self.ignore_label
        return kept & (weight[0].reshape(-1) != 0) if weight else kept

    def reference(self, blobs, x, label, *weight):
        if self.denominator:
            kept = self.counted(label).sum()
            share = super().reference(blobs, x, label)[0]
            return (np.asarray(share * kept / self.denominator if kept else 0.0),)
        rows, kept = last_axis(x, canonical_axis(self.axis, x.ndim)), self.counted(label, *weight)
        classes, flat = rows.shape[1], label.reshape(-1)[kept]
        check_places(flat, classes, "label")
        flat = flat.astype(int)
        rows = -rows[kept] if self.min_is_better else rows[kept]
        score = rows[np.arange(len(flat)), flat][:, None]
        places = np.arange(classes)
        first = places < flat[:, None] if self.min_is_better else places > flat[:, None]
        hit = ((rows > score) | ((rows == score) & first)).sum(1) < self.top_k
        counts = np.bincount(flat, minlength=classes)
        each = np.bincount(flat, hit, classes) / np.maximum(counts, 1)
        return (np.asarray(hit.mean() if len(hit) else np.nan), each)[: self.at.tops]

    def forward(self, module, x, label, *weight):
        arrays = [v.detach().cpu().double().numpy() for v in (x, label, *weight)]
        return tuple(torch.as_tensor(top, dtype=x.dtype, device=x.device) for top in self.reference([], *arrays))

    def _kept(self, graph, flat, *weight):
        kept, flat = super()._kept(graph, flat)
        if not weight:
            return kept, flat
        zero = graph.op("Equal", graph.reshape(weight[0], (-1,)), graph.constant(0.0))
        return graph.op("Mul", kept, graph.op("Cast", graph.op("Not", zero), to=1)), flat

    def _divisor(self, graph, kept):
        return graph.constant(self.denominator) if self.denominator else graph.reduce("ReduceSum", kept)

    def _hits(self, graph, rows, flat, classes):
        if self.denominator:
            return super()._hits(graph, rows, flat, classes)
        column = graph.op("Unsqueeze", flat, graph.constant([1], np.int64))
        score, places = graph.op("GatherElements", rows, column, axis=1), graph.constant(np.arange(classes), np.int64)
        better = graph.op("Less" if self.min_is_better else "Greater", rows, score)
        first = graph.op("Less" if self.min_is_better else "Greater", places, column)
        ahead = graph.op("Or", better, graph.op("And", graph.op("Equal", rows, score), first))
        ahead = graph.reduce("ReduceSum", graph.op("Cast", ahead, to=1), (1,))
        return graph.op("Cast", graph.op("Less", ahead, graph.constant(float(self.top_k))), to=1)
