"""How many blobs a layer stores: as many `param` entries as its definition may have (Net::AppendParam).

That is part of Caffe's file format, as its fields are: who writes `param` entries has to know it, without what the
blobs mean. port/layers knows that, and a test holds that the two agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .dialect import LAYER_TYPES


def _biased(settings: str, alone: int = 1) -> Callable[[Any], int]:
    """A weight, and a bias where `bias_term` says so; no weight where a second bottom takes its place (`alone` 0)."""
    return lambda layer: (alone or len(layer.bottom) < 2) + getattr(layer, settings).bias_term


def _recurrent(states: int, blobs: int) -> Callable[[Any], int]:
    """One more for a static input; exposed states are bottoms too."""
    return lambda layer: blobs + (len(layer.bottom) - 2 > states * layer.recurrent_param.expose_hidden)


_COUNTS: dict[str, Callable[[Any], int]] = {
    "BN": lambda layer: 4,
    "BatchNorm": lambda layer: 3,
    "Bias": lambda layer: len(layer.bottom) < 2,
    "Convolution": _biased("convolution_param"),
    "Deconvolution": _biased("convolution_param"),
    "Embed": _biased("embed_param"),
    "InnerProduct": _biased("inner_product_param"),
    "LSTM": _recurrent(states=2, blobs=3),
    "PReLU": lambda layer: 1,
    "Parameter": lambda layer: 1,
    "RNN": _recurrent(states=1, blobs=5),
    "Scale": _biased("scale_param", alone=0),
}
_UNKNOWN = {"Python"}  # its own code says


def blob_count(layer: Any) -> int | None:
    """The number of blobs of a LayerParameter; None for a type whose own code alone tells."""
    if layer.type in _COUNTS:
        return int(_COUNTS[layer.type](layer))
    known = any(layer.type in types for types in LAYER_TYPES.values()) and layer.type not in _UNKNOWN
    return 0 if known else None
