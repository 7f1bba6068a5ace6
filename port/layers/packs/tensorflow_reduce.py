"""TensorFlow's and ONNX's reductions in synopsys-caffe: one number of all along some axes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from ..base import Layer, Misfit, canonical_axis, register, show


class _Reduce(Layer):
    """One number of all values along `axis` (none: of all there are); the axes go away unless `keepdims`."""

    pack = "synopsys"
    family = "reshaping"
    never_in_place = True
    kind_in_onnx: ClassVar[str] = ""
    of_none: ClassVar[bool] = True  # whether no values have such a number

    axis: tuple[int, ...] = ()
    keepdims: bool = False

    def axes(self, rank: int) -> tuple[int, ...]:
        """The axes that are reduced, ascending; raises Misfit where one is named twice."""
        axes = sorted(canonical_axis(a, rank) for a in self.axis) or list(range(rank))
        if len(set(axes)) < len(axes):
            raise Misfit("axes " + ", ".join(map(str, self.axis)), "each once", "axis")
        return tuple(axes)

    def top_shapes(self, x):
        axes = self.axes(len(x))
        if not self.of_none and not all(x[axis] for axis in axes):
            raise Misfit(
                f"no values along an axis of {show(x)}", "one or more: there is nothing to choose from", "axis"
            )
        if self.keepdims:
            return (tuple(1 if i in axes else n for i, n in enumerate(x)),)
        return (tuple(n for i, n in enumerate(x) if i not in axes),)

    def reduced(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        """The numbers, the axes gone."""
        raise NotImplementedError

    def reduced_tensor(self, x: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
        """The same in torch."""
        raise NotImplementedError

    def reference(self, blobs, x):
        return (np.asarray(self.reduced(x, self.axes(x.ndim))).reshape(self.top_shapes(x.shape)[0]),)

    def forward(self, module, x):
        if not x.dim():
            return (self.reduced_tensor(x.reshape(1), (0,)).reshape(()),)
        return (self.reduced_tensor(x, self.axes(x.dim())).reshape(self.top_shapes(tuple(x.shape))[0]),)

    def onnx(self, graph, x):
        axes = self.axes(len(graph.shape(x)))
        return (graph.reduce(self.kind_in_onnx, self.seen(graph, x), axes or None, keep=self.keepdims),)

    def seen(self, graph: Any, x: str) -> str:
        """What the ONNX node reduces."""
        return x


def _product(x: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    for axis in reversed(axes):
        x = x.prod(axis)
    return x


def _sum_of_exponentials(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    most = x.max(axes, keepdims=True)
    return np.log(np.exp(x - most).sum(axes)) + most.squeeze(axes)


@register
class ReduceSum(_Reduce):
    """The sum along `axis` (reduce_sum_layer)."""

    type = kind_in_onnx = "ReduceSum"
    param = ("reduce_sum_param",)

    def reduced(self, x, axes):
        return x.sum(axes)

    def reduced_tensor(self, x, axes):
        return x.sum(axes)


@register
class ReduceMean(_Reduce):
    """The mean along `axis` (reduce_mean_layer)."""

    type = kind_in_onnx = "ReduceMean"
    param = ("reduce_mean_param",)

    def reduced(self, x, axes):
        return x.mean(axes)

    def reduced_tensor(self, x, axes):
        return x.mean(axes)


@register
class ReduceMax(_Reduce):
    """The largest value along `axis` (reduce_max_layer)."""

    type = kind_in_onnx = "ReduceMax"
    of_none = False
    param = ("reduce_max_param",)

    def reduced(self, x, axes):
        return x.max(axes)

    def reduced_tensor(self, x, axes):
        return x.amax(axes)


@register
class ReduceMin(_Reduce):
    """The least value along `axis` (reduce_min_layer)."""

    type = kind_in_onnx = "ReduceMin"
    of_none = False
    param = ("reduce_min_param",)

    def reduced(self, x, axes):
        return x.min(axes)

    def reduced_tensor(self, x, axes):
        return x.amin(axes)


@register
class ReduceProd(_Reduce):
    """The product along `axis` (reduce_prod_layer)."""

    type = kind_in_onnx = "ReduceProd"
    param = ("reduce_prod_param",)

    def reduced(self, x, axes):
        return x.prod(axes)

    def reduced_tensor(self, x, axes):
        return _product(x, axes)


class _ReduceByNorm(_Reduce):
    """ONNX's forms, whose axes are called `axes` and stay unless `keepdims` is another number than 1."""

    @classmethod
    def read(cls, message):
        values = super().read(message)
        kept = values.pop("keepdims", 1) == 1
        axes = values.pop("axes", ())
        return {**values, "axis": axes, "keepdims": kept}


@register
class ReduceL1(_ReduceByNorm):
    """The sum of absolute values along `axes` (reduce_l1_layer)."""

    type = kind_in_onnx = "ReduceL1"
    param = ("reduce_l1_param",)

    def reduced(self, x, axes):
        return np.abs(x).sum(axes)

    def reduced_tensor(self, x, axes):
        return x.abs().sum(axes)


@register
class ReduceL2(_ReduceByNorm):
    """The root of the sum of squares along `axes` (reduce_l2_layer)."""

    type = kind_in_onnx = "ReduceL2"
    param = ("reduce_l2_param",)

    def reduced(self, x, axes):
        return np.sqrt((x * x).sum(axes))

    def reduced_tensor(self, x, axes):
        return torch.linalg.vector_norm(x, dim=axes)


@register
class ReduceLogSumExp(_Reduce):
    """The logarithm of the sum of exponentials along `axis`; the fork's overflows where this does not."""

    type = kind_in_onnx = "ReduceLogSumExp"
    of_none = False
    param = ("reduce_logsumexp_param",)

    def reduced(self, x, axes):
        return _sum_of_exponentials(x, axes)

    def reduced_tensor(self, x, axes):
        return torch.logsumexp(x, axes)


@register
class ReduceLogsumexp(ReduceLogSumExp):
    """ReduceLogSumExp under the name that the fork's source registers (reduce_logsumexp_layer)."""

    type = "ReduceLogsumexp"


class _Logical(_Reduce):
    """A number of which of the values are not 0."""

    no_gradient = (0,)

    def reduced_tensor(self, x, axes):
        return self.of_flags((x != 0).to(x.dtype), axes)

    def of_flags(self, flags: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
        """The number, of 1 for what is not 0."""
        raise NotImplementedError

    def seen(self, graph, x):
        return graph.op("Cast", graph.op("Not", graph.op("Equal", x, graph.constant(0.0))), to=1)


@register
class ReduceAll(_Logical):
    """1 where no value along `axis` is 0, else 0 (reduce_all_layer)."""

    type = "ReduceAll"
    kind_in_onnx = "ReduceMin"
    param = ("reduce_all_param",)

    def reduced(self, x, axes):
        return (x != 0).all(axes).astype(np.float64)

    def of_flags(self, flags, axes):
        return (flags != 0).all(axes).to(flags)


@register
class ReduceAny(_Logical):
    """1 where some value along `axis` is not 0, else 0 (reduce_any_layer)."""

    type = "ReduceAny"
    kind_in_onnx = "ReduceMax"
    param = ("reduce_any_param",)

    def reduced(self, x, axes):
        return (x != 0).any(axes).astype(np.float64)

    def of_flags(self, flags, axes):
        return (flags != 0).any(axes).to(flags)


@register
class CountNonzero(_Logical):
    """How many values along `axis` are not 0 (count_nonzero_layer)."""

    type = "CountNonzero"
    kind_in_onnx = "ReduceSum"
    param = ("count_nonzero_param",)

    def reduced(self, x, axes):
        return (x != 0).sum(axes).astype(np.float64)

    def of_flags(self, flags, axes):
        return flags.sum(axes)
