"""TensorFlow's arithmetic in synopsys-caffe: of two bottoms that NumPy would broadcast, and of one, value by value."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from ..activations import ElementWise
from ..base import BlobSpec, Layer, Misfit, register, show


class _Broadcast(Layer):
    """A number of every pair of values, the bottoms' shapes aligned at the last axis."""

    pack = "synopsys"
    family = "joining"
    bottom_count = (2, 2)
    never_in_place = True
    node: ClassVar[str] = ""

    def other(self, *others: Any) -> Any:
        """Of a second bottom, or what stands in for it, the one that there is."""
        return others[0]

    def top_shapes(self, x, *others):
        try:
            return (tuple(np.broadcast_shapes(x, self.other(*others))),)
        except ValueError:
            found = f"{show(x)} and {show(self.other(*others))}"
            raise Misfit(found, "extents that are equal or 1, from the last axis on", "bottom") from None

    def rule(self, numbers: Any, a: Any, b: Any) -> Any:
        """The numbers, with NumPy's or torch's functions."""
        raise NotImplementedError

    def reference(self, blobs, x, *others):
        with np.errstate(all="ignore"):
            return (np.asarray(self.rule(np, x, [*others, *blobs][0])),)

    def forward(self, module, x, *others):
        return (self.rule(torch, x, [*others, *module.blobs][0]),)

    def onnx(self, graph, x, *others):
        return (self.nodes(graph, x, [*others, *[graph.blob(i) for i in range(graph.blob_count())]][0]),)

    def nodes(self, graph: Any, a: str, b: str) -> str:
        """The same in ONNX."""
        return graph.op(self.node, a, b)


@register
class Add(_Broadcast):
    """a + b (add_layer)."""

    type = node = "Add"

    def rule(self, numbers, a, b):
        return a + b


@register
class Sub(_Broadcast):
    """a - b (sub_layer)."""

    type = node = "Sub"

    def rule(self, numbers, a, b):
        return a - b


@register
class Mul(_Broadcast):
    """a * b, b the second bottom or a blob of `mul_shape` (mul_layer)."""

    type = node = "Mul"
    param = ("mul_param",)
    bottom_count = (1, 2)

    mul_shape: tuple[int, ...] = ()

    def other(self, *others):
        return others[0] if others else self.mul_shape

    def blobs(self, x, *others):
        return [] if others else [BlobSpec("factor", self.mul_shape)]

    def rule(self, numbers, a, b):
        return a * b


@register
class Div(_Broadcast):
    """a / b (div_layer)."""

    type = node = "Div"

    def rule(self, numbers, a, b):
        return a / b


@register
class Maximum(_Broadcast):
    """The larger one (maximum_layer)."""

    type = "Maximum"
    node = "Max"

    def rule(self, numbers, a, b):
        return numbers.maximum(a, b)


@register
class Minimum(_Broadcast):
    """The lesser one (minimum_layer)."""

    type = "Minimum"
    node = "Min"

    def rule(self, numbers, a, b):
        return numbers.minimum(a, b)


@register
class Pow(_Broadcast):
    """a to the power of b (pow_layer)."""

    type = node = "Pow"

    def rule(self, numbers, a, b):
        return a**b


@register
class FloorDiv(_Broadcast):
    """a / b, rounded down (floor_div_layer)."""

    type = "FloorDiv"

    def rule(self, numbers, a, b):
        return numbers.floor(a / b)

    def nodes(self, graph, a, b):
        return graph.op("Floor", graph.op("Div", a, b))


@register
class FloorMod(_Broadcast):
    """What a is above b times their quotient rounded down (floor_mod_layer)."""

    type = "FloorMod"

    def rule(self, numbers, a, b):
        return a - numbers.floor(a / b) * b

    def nodes(self, graph, a, b):
        whole = graph.op("Floor", graph.op("Div", a, b))
        return graph.op("Sub", a, graph.op("Mul", whole, b))


@register
class NotEqual(_Broadcast):
    """1 where the first bottom is not the second, of its shape or a single number, else 0 (not_equal_layer)."""

    type = "NotEqual"
    never_in_place = False
    no_gradient = (0, 1)

    def top_shapes(self, x, *others):
        if others[0] not in ((), x):
            raise Misfit(f"{show(x)} and {show(others[0])}", "equal shapes, or a scalar as the second", "bottom")
        return (x,)

    def rule(self, numbers, a, b):
        flags = a != b
        return flags.to(a.dtype) if numbers is torch else np.asarray(flags).astype(np.float64)

    def nodes(self, graph, a, b):
        return graph.op("Cast", graph.op("Not", graph.op("Equal", a, b)), to=1)


class _Function(ElementWise):
    """A function that NumPy, torch and ONNX have."""

    pack = "synopsys"
    family = "activation"
    hangs = True
    named: ClassVar[tuple[str, str, str]] = ("", "", "")  # what they call it

    def reference(self, blobs, x):
        return (getattr(np, self.named[0])(x),)

    def forward(self, module, x):
        return (getattr(torch, self.named[1])(x),)

    def onnx(self, graph, x):
        return (graph.op(self.named[2], x),)


@register
class Sin(_Function):
    """sin(x) (sin_layer)."""

    type = "Sin"
    named = ("sin", "sin", "Sin")


@register
class Atan(_Function):
    """arctan(x) (atan_layer)."""

    type = "Atan"
    named = ("arctan", "arctan", "Atan")


@register
class Floor(_Function):
    """x rounded down (floor_layer)."""

    type = "Floor"
    named = ("floor", "floor", "Floor")


@register
class Ceil(_Function):
    """x rounded up (ceil_layer)."""

    type = "Ceil"
    named = ("ceil", "ceil", "Ceil")


@register
class Round(_Function):
    """x rounded to the nearest integer, halves to the even one (round_layer)."""

    type = "Round"
    named = ("rint", "round", "Round")
