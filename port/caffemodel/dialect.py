"""Which Caffe a weights file comes from, told by its layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prototxt_gen.schema.dialect import LAYER_TYPES, other
from prototxt_gen.schema.messages import DIALECTS

from .layout import telling_fields

# Types that one dialect alone registers.
_DIALECT_OF = {name: dialect for dialect in DIALECTS for name in LAYER_TYPES[dialect] - LAYER_TYPES[other(dialect)]}
_FOREIGN = "another fork"


def dialect_hint(layers: Iterable[Any]) -> tuple[str | None, str]:
    """The dialect of `ModelLayer`s and the reason; None when nothing tells, signs disagree, or a third fork wrote."""
    signs: dict[str, str] = {}
    for layer in layers:
        for dialect, reason in _signs(layer):
            signs.setdefault(dialect, f"layer '{layer.name}' {reason}")
    if _FOREIGN in signs:
        return None, signs[_FOREIGN]
    if len(signs) > 1:
        return None, "the signs disagree: " + "; ".join(f"{reason} ({who})" for who, reason in signs.items())
    for dialect, reason in signs.items():
        return dialect, reason
    return None, "no layer type or field belongs to one dialect alone"


def _signs(layer: Any) -> Iterable[tuple[str, str]]:
    shapes = [blob.shape for blob in layer.blobs]
    if layer.type == "BN" and shapes and not _is_srn_bn(shapes):
        shown = ", ".join(map(str, shapes[:6]))
        yield _FOREIGN, f"is a BN of another fork: its blobs are {shown}, not four of shape (1, C)"
    elif layer.type == "BatchNorm" and len(shapes) not in (0, 3):
        yield _FOREIGN, f"is a BatchNorm of another fork: it has {len(shapes)} blobs, not 3"
    elif layer.type in _DIALECT_OF:
        blobs = f" with {len(shapes)} blobs of shape {shapes[0]}" if layer.type == "BN" and shapes else ""
        yield _DIALECT_OF[layer.type], f"has the type {layer.type}{blobs}"
    for number in sorted(layer.telling):
        dialect, field = telling_fields()[number]
        yield dialect, f"has the field {field} ({number})"
    if any(blob.dtype.name == "float16" for blob in layer.blobs):
        yield _FOREIGN, "has float16 values, as NVIDIA's Caffe writes them"
    if any(blob.dtype.itemsize == 8 for blob in layer.blobs):
        yield "bvlc", "has double_data"


def _is_srn_bn(shapes: list[tuple[int, ...]]) -> bool:
    """Four blobs of one shape (1, C), or (1, 1, 1, C) as a legacy file right-aligns it."""
    channels = shapes[0][-1] if shapes[0] else 0
    return len(shapes) == 4 and all(shape in ((1, channels), (1, 1, 1, channels)) for shape in shapes)
