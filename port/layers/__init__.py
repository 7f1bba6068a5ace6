"""The meaning of every layer type; importing this package registers them all."""

from . import (
    activations,
    affine,
    convolution,
    eltwise,
    inner_product,
    inputs,
    losses,
    normalization,
    pooling,
    reduction,
    shaping,
    softmax,
)
from .base import KINDS, REGISTRY, RULES, BlobSpec, Context, Layer, Misfit, Shape, make_layer, register, show

__all__ = [
    "KINDS",
    "REGISTRY",
    "RULES",
    "BlobSpec",
    "Context",
    "Layer",
    "Misfit",
    "Shape",
    "activations",
    "affine",
    "convolution",
    "eltwise",
    "inner_product",
    "inputs",
    "losses",
    "make_layer",
    "normalization",
    "pooling",
    "reduction",
    "register",
    "shaping",
    "show",
    "softmax",
]
