"""Ristretto's layers, which compute in floats what a chip would in fixed-point numbers (pmgysel's caffe)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch

from ..base import Array, Layer, Misfit, register
from ..convolution import Convolution
from ..deconvolution import Deconvolution
from ..inner_product import InnerProduct

WAY_OUT = "the same net with the plain types, `Ristretto` left off their names, computes in floats"


class _Rounded(torch.autograd.Function):
    """Values on a grid, with the gradient handed on as it is."""

    @staticmethod
    def forward(ctx, x, bits, fraction):
        low, high, step = bounds(bits, fraction)
        y = x.clamp(low, high) / step
        whole = y.abs().floor()
        return y.sign() * (whole + ((y.abs() - whole) >= 0.5).to(y.dtype)) * step

    @staticmethod
    def backward(ctx, grad):
        return grad, None, None


def bounds(bits: int, fraction: int) -> tuple[float, float, float]:
    """The least and the largest number, and what lies between two."""
    step = 2.0**-fraction
    return -(2.0 ** (bits - 1)) * step, (2.0 ** (bits - 1) - 1) * step, step


def rounded(x: Array, bits: int, fraction: int) -> Array:
    """Values held to the bounds, then rounded, halves away from 0."""
    low, high, step = bounds(bits, fraction)
    y = np.clip(x, low, high) / step
    return np.sign(y) * np.floor(np.abs(y) + 0.5) * step


class _Fixed(Layer):
    """Inputs, weights and outputs on grids of bw_... bits, fl_... of them behind the point, in TEST.

    The gradient passes all rounding. Other readers of the bottom see it as it was, where the fork writes over it.
    """

    pack = "ristretto"

    precision: str = "DYNAMIC_FIXED_POINT"
    rounding_scheme: str = "NEAREST"
    bw_layer_in: int = 32
    bw_layer_out: int = 32
    bw_params: int = 32
    fl_layer_in: tuple[int, ...] = (16,)
    fl_layer_out: tuple[int, ...] = (16,)
    fl_params: tuple[int, ...] = (16,)
    mant_bits: int = 23
    exp_bits: int = 8
    exp_min: int = -8
    exp_max: int = -1

    def top_shapes(self, *bottoms):
        if self.precision != "DYNAMIC_FIXED_POINT":
            raise Misfit(f"precision {self.precision}", "DYNAMIC_FIXED_POINT", "precision", WAY_OUT)
        if self.rounding_scheme != "NEAREST" or self.train:
            field = "rounding_scheme" if self.rounding_scheme != "NEAREST" else "phase"
            raise Misfit("weights that are rounded at random", "NEAREST, in TEST", field, WAY_OUT)
        for name in ("bw_layer_in", "bw_layer_out", "bw_params"):
            if not 1 <= getattr(self, name) <= 32:
                raise Misfit(f"{name} {getattr(self, name)}", "1 to 32", name)
        for name in ("fl_layer_in", "fl_layer_out", "fl_params"):
            if len(getattr(self, name)) != 1:
                raise Misfit(f"{len(getattr(self, name))} {name}", "one", name)
        return super().top_shapes(*bottoms)

    def grid(self, of: str) -> tuple[int, int]:
        """Bits and bits behind the point of `layer_in`, `layer_out` or `params`."""
        return getattr(self, f"bw_{of}"), getattr(self, f"fl_{of}")[0]

    def reference(self, blobs, *bottoms):
        weights = [rounded(blob, *self.grid("params")) for blob in blobs]
        tops = super().reference(weights, *(rounded(x, *self.grid("layer_in")) for x in bottoms))
        return tuple(rounded(top, *self.grid("layer_out")) for top in tops)

    def forward(self, module, *bottoms):
        weights = SimpleNamespace(blobs=[_Rounded.apply(blob, *self.grid("params")) for blob in module.blobs])
        tops = super().forward(weights, *(_Rounded.apply(x, *self.grid("layer_in")) for x in bottoms))
        return tuple(_Rounded.apply(top, *self.grid("layer_out")) for top in tops)

    def onnx(self, graph, *bottoms):
        seen = _Weights(graph, self.grid("params"))
        inner = [self.rounding(graph, x, *self.grid("layer_in")) for x in bottoms]
        for x, y in zip(bottoms, inner, strict=True):
            seen.stand_in(x, y)
        tops = super().onnx(seen, *inner)
        return tuple(self.rounding(graph, top, *self.grid("layer_out")) for top in tops)

    def rounding(self, graph: Any, x: str, bits: int, fraction: int) -> str:
        """The same in ONNX, whose own Round takes halves to the even number."""
        low, high, step = bounds(bits, fraction)
        y = graph.op("Clip", x, graph.constant(low), graph.constant(high))
        y = graph.op("Div", y, graph.constant(step))
        size = graph.op("Abs", y)
        whole = graph.op("Floor", size)
        below = graph.op("Less", graph.op("Sub", size, whole), graph.constant(0.5))
        up = graph.op("Cast", graph.op("Not", below), to=1)
        size = graph.op("Mul", graph.op("Add", whole, up), graph.constant(step))
        return graph.op("Mul", graph.op("Sign", y), size)


class _Weights:
    """An ONNX writer that hands out rounded weights, and knows the shapes of rounded bottoms."""

    def __init__(self, graph: Any, grid: tuple[int, int]):
        self.graph, self.grid = graph, grid
        self.bottoms: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.graph, name)

    def stand_in(self, x: str, y: str) -> None:
        """Take a value for a bottom."""
        self.bottoms[y] = x

    def shape(self, value: str) -> tuple[int, ...]:
        """A bottom's shape."""
        return self.graph.shape(self.bottoms.get(value, value))

    def blob(self, index: int, shape: tuple[int, ...] | None = None) -> str:
        """The rounded blob as a constant."""
        value = rounded(self.graph.blob_value(index).astype(np.float64), *self.grid)
        return self.graph.constant(value if shape is None else value.reshape(shape))


@register
class ConvolutionRistretto(_Fixed, Convolution):
    """Convolution in simulated fixed-point numbers (conv_ristretto_layer)."""

    type = "ConvolutionRistretto"
    param = ("convolution_param", "quantization_param")
    in_bfloat16 = False


@register
class DeconvolutionRistretto(_Fixed, Deconvolution):
    """Deconvolution in simulated fixed-point numbers (deconv_ristretto_layer)."""

    type = "DeconvolutionRistretto"
    param = ("convolution_param", "quantization_param")
    in_bfloat16 = False


@register
class FcRistretto(_Fixed, InnerProduct):
    """InnerProduct in simulated fixed-point numbers (fc_ristretto_layer)."""

    type = "FcRistretto"
    param: ClassVar[tuple[str, ...]] = ("inner_product_param", "quantization_param")
    in_bfloat16 = False
