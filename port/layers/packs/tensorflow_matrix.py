"""TensorFlow's and ONNX's matrices and norms in synopsys-caffe: MatMul, Gemm, LayerNorm, LpNormalization."""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from ..base import BlobSpec, Layer, Misfit, canonical_axis, float32, register, show


@register
class MatMul(Layer):
    """Products of matrices in the last two axes; b the second bottom or a blob of `blob_shape` (matmul_layer).

    a and b have as many axes, the others equal; or b is one matrix for all rows of a.
    """

    type = "MatMul"
    pack = "synopsys"
    family = "weights"
    param = ("matmul_param",)
    bottom_count = (1, 2)

    transpose_a: bool = False
    transpose_b: bool = False
    blob_shape: tuple[int, ...] = ()

    def blobs(self, a, *b):
        return [] if b else [BlobSpec("weight", self.blob_shape)]

    def top_shapes(self, a, *b):
        other = b[0] if b else self.blob_shape
        if len(other) < 2 or len(a) < len(other) or (len(a) > len(other) and len(other) != 2):
            found = f"{show(a)} times {show(other)}"
            raise Misfit(found, "matrices, as many of each, or one for all", "bottom" if b else "blob_shape")
        if len(a) > len(other) and (self.transpose_a or self.transpose_b):
            raise Misfit("a transposed matrix among inputs of different rank", "none", "transpose_a")
        left = (a[-1], a[-2]) if self.transpose_a else a[-2:]
        right = (other[-1], other[-2]) if self.transpose_b else other[-2:]
        if left[1] != right[0] or (len(a) == len(other) and a[:-2] != other[:-2]):
            raise Misfit(f"{show(a)} times {show(other)}", "inner and outer extents that agree", "bottom")
        return ((*a[:-2], left[0], right[1]),)

    def reference(self, blobs, a, *b):
        left, right = a, [*b, *blobs][0]
        left = left.swapaxes(-1, -2) if self.transpose_a else left
        right = right.swapaxes(-1, -2) if self.transpose_b else right
        return (left @ right,)

    def forward(self, module, a, *b):
        left, right = a, [*b, *module.blobs][0]
        left = left.mT if self.transpose_a else left
        right = right.mT if self.transpose_b else right
        return (left @ right,)

    def onnx(self, graph, a, *b):
        right, rank = (b[0], len(graph.shape(b[0]))) if b else (graph.blob(0), len(self.blob_shape))
        turned = [*range(rank - 2), rank - 1, rank - 2]
        a = graph.op("Transpose", a, perm=turned) if self.transpose_a else a
        right = graph.op("Transpose", right, perm=turned) if self.transpose_b else right
        return (graph.op("MatMul", a, right),)

    def multiply_adds(self, bottoms, tops):
        """Inner extent times the top's values."""
        return prod(tops[0]) * bottoms[0][-2 if self.transpose_a else -1]


@register
class Gemm(Layer):
    """alpha * a * b + beta * c, c of the product's shape, of a row, of a column, or one number (gemm_layer)."""

    type = "Gemm"
    pack = "synopsys"
    family = "weights"
    param = ("gemm_param",)
    bottom_count = (3, 3)

    alpha: float = 1.0
    beta: float = 1.0
    transA: int = 0
    transB: int = 0

    def top_shapes(self, a, b, c):
        if len(a) != 2 or len(b) != 2:
            raise Misfit(f"{show(a)} times {show(b)}", "two matrices", "bottom")
        for name, value in (("transA", self.transA), ("transB", self.transB)):
            if value not in (0, 1):
                raise Misfit(f"{name} {value}", "0 or 1", name)
        left, right = (a[::-1] if self.transA else a), (b[::-1] if self.transB else b)
        top = (left[0], right[1])
        if left[1] != right[0]:
            raise Misfit(f"{show(left)} times {show(right)}", "an inner extent that agrees", "bottom")
        if c not in (top, (top[0], 1), (1, top[1]), (1,)):
            raise Misfit(f"{show(c)} added to {show(top)}", "that shape, a row, a column, or 1", "bottom")
        return (top,)

    def reference(self, blobs, a, b, c):
        left, right = (a.T if self.transA else a), (b.T if self.transB else b)
        return (self.alpha * (left @ right) + self.beta * c,)

    def forward(self, module, a, b, c):
        left, right = (a.t() if self.transA else a), (b.t() if self.transB else b)
        return (torch.addmm(c, left, right, beta=self.beta, alpha=self.alpha),)

    def onnx(self, graph, a, b, c):
        numbers = {"alpha": self.alpha, "beta": self.beta, "transA": self.transA, "transB": self.transB}
        return (graph.op("Gemm", a, b, c, **numbers),)

    def multiply_adds(self, bottoms, tops):
        """Inner extent times the top's values."""
        return prod(tops[0]) * bottoms[0][0 if self.transA else 1]


@register
class LayerNorm(Layer):
    """An item's values less their mean over the root of their variance and eps, then scaled and moved each by its own.

    The scale starts as 1, the offset as 0; without elementwise_affine there are none (layer_norm_layer).
    """

    type = "LayerNorm"
    pack = "synopsys"
    family = "normalisation"
    param = ("layer_norm_param",)

    eps: float = float32(1e-5)
    elementwise_affine: bool = True

    def top_shapes(self, x):
        if not x:
            raise Misfit("a scalar", "an axis of items", "bottom")
        return (x,)

    def blobs(self, x):
        if not self.elementwise_affine:
            return []
        return [BlobSpec("scale", tuple(x[1:]), 1.0), BlobSpec("offset", tuple(x[1:]), 0.0)]

    def reference(self, blobs, x):
        rows = x.reshape(len(x), prod(x.shape[1:]))
        apart = rows - rows.mean(1, keepdims=True)
        y = (apart / np.sqrt((apart**2).mean(1, keepdims=True) + self.eps)).reshape(x.shape)
        return (y * blobs[0] + blobs[1] if self.elementwise_affine else y,)

    def forward(self, module, x):
        blobs = module.blobs if self.elementwise_affine else (None, None)
        if x.dim() == 1:  # torch wants an axis to normalise
            y = torch.nn.functional.layer_norm(x[:, None], (1,), eps=self.eps)[:, 0]
            return (y * blobs[0] + blobs[1] if self.elementwise_affine else y,)
        return (torch.nn.functional.layer_norm(x, tuple(x.shape[1:]), *blobs, self.eps),)

    def onnx(self, graph, x):
        axes = tuple(range(1, len(graph.shape(x))))
        apart = graph.op("Sub", x, graph.reduce("ReduceMean", x, axes, keep=True))
        variance = graph.reduce("ReduceMean", graph.op("Mul", apart, apart), axes, keep=True)
        root = graph.op("Sqrt", graph.op("Add", variance, graph.constant(self.eps)))
        y = graph.op("Div", apart, root)
        if not self.elementwise_affine:
            return (y,)
        return (graph.op("Add", graph.op("Mul", y, graph.blob(0)), graph.blob(1)),)


@register
class LpNormalization(Layer):
    """Values over their p-norm along `axis` (none: each over its own absolute value); lp_normalization_layer."""

    type = "LpNormalization"
    pack = "synopsys"
    family = "normalisation"
    param = ("lp_normalization_param",)
    never_in_place = True

    axis: tuple[int, ...] = ()
    p: int = 2

    def axes(self, rank: int) -> tuple[int, ...]:
        """The axes of one norm, ascending."""
        axes = tuple(sorted(canonical_axis(a, rank) for a in self.axis))
        if len(set(axes)) < len(axes):
            raise Misfit("axes " + ", ".join(map(str, self.axis)), "each once", "axis")
        return axes

    def top_shapes(self, x):
        self.axes(len(x))
        if self.p < 1:
            raise Misfit(f"p {self.p}", "1 or more", "p")
        return (x,)

    def reference(self, blobs, x):
        total = (np.abs(x) ** self.p).sum(self.axes(x.ndim), keepdims=True)
        with np.errstate(invalid="ignore"):
            return (x / total ** (1 / self.p),)

    def forward(self, module, x):
        axes = self.axes(x.dim())
        size = x.abs() if not axes else torch.linalg.vector_norm(x, self.p, axes, keepdim=True)
        return (x / size,)

    def onnx(self, graph, x):
        axes = self.axes(len(graph.shape(x)))
        size = graph.op("Abs", x)
        if axes and self.p == 1:
            size = graph.reduce("ReduceL1", x, axes, keep=True)
        elif axes and self.p == 2:
            size = graph.reduce("ReduceL2", x, axes, keep=True)
        elif axes:
            powers = graph.op("Pow", size, graph.constant(float(self.p)))
            size = graph.op("Pow", graph.reduce("ReduceSum", powers, axes, keep=True), graph.constant(1 / self.p))
        return (graph.op("Div", x, size),)
