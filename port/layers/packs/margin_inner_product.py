"""Inner products whose label has to win by an angle: SphereFace's MarginInnerProduct, L-softmax's LargeMargin-.

The label's score |x| |w| cos(t) becomes |x| |w| f(t), where f falls like cos(m t) and goes on falling below -1, mixed
with what it was: (f + lambda cos) / (1 + lambda).
"""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

import numpy as np
import torch

from ..base import BlobSpec, Layer, Misfit, at_least, canonical_axis, per_item, register, show
from ..values import check_places
from .face_labels import grown
from .inner_distance import leading

TINY = 1e-9  # L-softmax adds it to |x| |w|


def _sign(x: Any) -> Any:
    return torch.sign(x) if isinstance(x, torch.Tensor) else np.sign(x)


def falling(kind: str, c: Any) -> tuple[Any, Any]:
    """f and its derivative by the cosine, for margins of 1 to 4 (NumPy and torch)."""
    s = _sign(c)
    if kind == "DOUBLE":
        return 2 * s * c**2 - 1, 4 * s * c
    if kind == "TRIPLE":
        turn = _sign(abs(c) - 0.5)
        return turn * (4 * c**3 - 3 * c) + s * (1 + turn) - 2, turn * (12 * c**2 - 3)
    if kind == "QUADRUPLE":
        turn = s * _sign(2 * c**2 - 1)
        return turn * (8 * c**4 - 8 * c**2 + 1) + 2 * s + turn - 3, turn * (32 * c**3 - 16 * c)
    return c, c * 0 + 1


class _Sphere(torch.autograd.Function):
    """The label's scores with SphereFace's gradient: of x the falling part is scaled, of w only x is left."""

    @staticmethod
    def forward(ctx, x, w, labels, kind, mix):
        scores, norm = x @ w.t(), x.norm(dim=1, keepdim=True)
        own = scores.gather(1, labels) / norm
        f, slope = falling(kind, own)
        ctx.mix = mix
        ctx.save_for_backward(x, w, labels, slope, (f - own * slope) / norm)
        return scores if kind == "SINGLE" else scores.scatter(1, labels, norm * (f + mix * own) / (1 + mix))

    @staticmethod
    def backward(ctx, grad):
        x, w, labels, of_w, of_x = ctx.saved_tensors
        own = grad.gather(1, labels)
        length = (of_w.square() + of_x.square()).sqrt()
        turned = (of_w / length * w[labels[:, 0]] + of_x / length * x + ctx.mix * w[labels[:, 0]]) / (1 + ctx.mix)
        to_x = grad.scatter(1, labels, torch.zeros_like(own)) @ w + own * turned
        return to_x, grad.t() @ x, None, None, None


class AngularProduct(Layer):
    """What both share: bottoms x and labels, a blob num_output x K, tops the scores and lambda.

    lambda is base * (1 + gamma * pass) ^ -power, at least lambda_min; the first pass is iteration + 1, and it is all
    that the reference and ONNX know.
    """

    pack = "face"
    family = "weights"
    bottom_count = (2, 2)
    top_count = (1, 2)
    no_gradient: ClassVar[tuple[int, ...]] = (1,)
    onnx_note = "lambda of the first pass"

    num_output: int | None = None
    weight_filler: Any = 0.0
    axis: int = 1
    base: float = 1.0
    gamma: float = 0.0
    power: float = 1.0
    iteration: int = 0
    lambda_min: float = 0.0
    margin: str = "SINGLE"  # the message's `type`

    @classmethod
    def read(cls, message):
        return {"margin" if name == "type" else name: value for name, value in super().read(message).items()}

    def top_shapes(self, x, label, *weight):
        at_least(1, x)
        axis = canonical_axis(self.axis, len(x))
        if prod(label) != prod(x[:axis]) or label[:1] != x[:1]:
            raise Misfit(f"{show(label)} labels for {show(x)}", f"{prod(x[:axis])}", "bottom")
        outputs = weight[0][0] if weight and weight[0] else self.num_output
        if not outputs:
            raise Misfit("no num_output, or 0", "1 or more", "num_output")
        if weight and prod(weight[0]) != outputs * prod(x[axis:]):
            raise Misfit(f"weights {show(weight[0])} for {show(x)}", f"{prod(x[axis:])} values each", "bottom")
        return ((*x[:axis], outputs), (1,))[: self.at.tops]

    def blobs(self, x, label, *weight):
        inputs = prod(x[canonical_axis(self.axis, len(x)) :])
        return [] if weight else [BlobSpec("weight", (self.num_output or 0, inputs), self.weight_filler)]

    def mix(self, passes: int) -> float:
        """lambda, so many training passes after the first."""
        return max(self.base * grown(self.gamma, self.iteration + 1 + passes, -self.power), self.lambda_min)

    def norms(self, x: Any, w: Any) -> Any:
        """|x| |w| of items and outputs as the fork has it (NumPy and torch)."""
        raise NotImplementedError

    def weights(self, blob: Any) -> Any:
        """The weights that are used; what the fork writes back is written."""
        return blob

    def reference(self, blobs, x, label, *weight):
        axis, mix = canonical_axis(self.axis, x.ndim), self.mix(0)
        rows = x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))
        w = self.weights(blobs[0]) if not weight else per_item(weight[0])
        check_places(label, len(w), "label")
        y, norms = rows @ w.T, self.norms(rows, w)
        mine = np.arange(len(w)) == np.trunc(label.reshape(-1, 1))
        turned = (norms * falling(self.margin, y / norms)[0] + mix * y) / (1 + mix)
        y = y if self.margin == "SINGLE" else np.where(mine, turned, y)
        return (y.reshape(*x.shape[:axis], len(w)), np.array([mix]))[: self.at.tops]

    def forward(self, module, x, label, *weight):
        passes = module.state.get("passes", 0)
        if self.train:
            module.state["passes"] = passes + 1
        axis, mix = canonical_axis(self.axis, x.dim()), self.mix(passes)
        rows = x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))
        w = weight[0].flatten(1) if weight else self.weights(module.blobs[0])
        check_places(label, len(w), "label")
        y = self.scores(rows, w, label.detach().reshape(-1, 1).long(), mix)
        return (y.reshape(*x.shape[:axis], len(w)), x.new_tensor([mix]))[: self.at.tops]

    def scores(self, x: torch.Tensor, w: torch.Tensor, labels: torch.Tensor, mix: float) -> torch.Tensor:
        """Items x outputs, with the fork's gradient."""
        raise NotImplementedError

    def onnx(self, graph, x, label, *weight):
        shape, mix = graph.shape(x), self.mix(0)
        values = prod(shape[canonical_axis(self.axis, len(shape)) :])
        rows = graph.reshape(x, (-1, values))
        w = self.onnx_weights(graph) if not weight else graph.op("Flatten", weight[0], axis=1)
        y = graph.op("Gemm", rows, w, transB=1)
        if self.margin != "SINGLE":
            norms = self.onnx_norms(graph, rows, w)
            turned = graph.op("Mul", norms, self._falling_onnx(graph, graph.op("Div", y, norms)))
            turned = graph.op("Add", turned, graph.op("Mul", y, graph.constant(mix)))
            turned = graph.op("Mul", turned, graph.constant(1 / (1 + mix)))
            outputs = graph.shape(weight[0])[0] if weight else self.num_output
            flat = graph.op("Cast", graph.reshape(label, (-1,)), to=7)
            mine = graph.op("OneHot", flat, graph.constant([outputs], np.int64), graph.constant([0.0, 1.0]))
            y = graph.op("Where", graph.op("Cast", mine, to=9), turned, y)
        y = leading(graph, y, x, canonical_axis(self.axis, len(shape)))
        return (y, graph.constant([mix]))[: self.at.tops]

    def onnx_weights(self, graph) -> str:
        return graph.blob(0)

    def onnx_norms(self, graph, rows: str, w: str) -> str:
        """|x| of every item as a column."""
        return graph.op("Sqrt", graph.reduce("ReduceSumSquare", rows, (1,), keep=True))

    def _falling_onnx(self, graph, c: str) -> str:
        def times(x, number):
            return graph.op("Mul", x, graph.constant(float(number)))

        def plus(x, number):
            return graph.op("Add", x, graph.constant(float(number)))

        s, square = graph.op("Sign", c), graph.op("Mul", c, c)
        if self.margin == "DOUBLE":
            return plus(times(graph.op("Mul", s, square), 2), -1)
        if self.margin == "TRIPLE":
            turn = graph.op("Sign", plus(graph.op("Abs", c), -0.5))
            wave = graph.op("Mul", graph.op("Mul", turn, c), plus(times(square, 4), -3))
            return plus(graph.op("Add", wave, graph.op("Mul", s, plus(turn, 1))), -2)
        turn = graph.op("Mul", s, graph.op("Sign", plus(times(square, 2), -1)))
        wave = plus(times(graph.op("Mul", square, plus(square, -1)), 8), 1)
        return plus(graph.op("Add", graph.op("Mul", turn, plus(wave, 1)), times(s, 2)), -3)

    def multiply_adds(self, bottoms, tops):
        """Inputs of one output times outputs."""
        return prod(tops[0]) * prod(bottoms[0][canonical_axis(self.axis, len(bottoms[0])) :])


@register
class MarginInnerProduct(AngularProduct):
    """SphereFace's: weights are normalised, and in training written back so (sphereface's margin_inner_product_layer).

    Its gradient is not the derivative: the weights' is that of a plain inner product, and what falls reaches x with the
    two parts of its gradient, along w and along x, scaled to one length.
    """

    type = "MarginInnerProduct"
    param = ("margin_inner_product_param",)

    def norms(self, x, w):
        return np.sqrt((x * x).sum(1, keepdims=True))

    def weights(self, blob):
        if not isinstance(blob, torch.Tensor):
            unit = blob / np.sqrt((blob * blob).sum(1, keepdims=True))
            blob[...] = unit if self.train else blob
            return unit
        with torch.no_grad():
            length = blob.norm(dim=1, keepdim=True)
            if self.train:
                blob.div_(length)
        return blob if self.train else blob / length

    def scores(self, x, w, labels, mix):
        return _Sphere.apply(x, w, labels, self.margin, mix)

    def onnx_weights(self, graph):
        array = graph.blob_value(0).astype(np.float64)
        return graph.constant(array / np.sqrt((array * array).sum(1, keepdims=True)), name="weight")


@register
class LargeMarginInnerProduct(AngularProduct):
    """L-softmax's: weights as they are, or from a third bottom (happynear's largemargin_inner_product_layer)."""

    type = "LargeMarginInnerProduct"
    param = ("largemargin_inner_product_param",)
    bottom_count = (2, 3)

    def norms(self, x, w):
        return np.sqrt((x * x).sum(1, keepdims=True)) * np.sqrt((w * w).sum(1)) + TINY

    def scores(self, x, w, labels, mix):
        y = x @ w.t()
        if self.margin == "SINGLE":
            return y
        norms = (x.norm(dim=1) * w.norm(dim=1)[labels[:, 0]] + TINY)[:, None]
        own = y.gather(1, labels)
        return y.scatter(1, labels, (norms * falling(self.margin, own / norms)[0] + mix * own) / (1 + mix))

    def onnx_norms(self, graph, rows, w):
        of_w = graph.op("Sqrt", graph.reduce("ReduceSumSquare", w, (1,)))
        return graph.op("Add", graph.op("Mul", super().onnx_norms(graph, rows, w), of_w), graph.constant(TINY))
