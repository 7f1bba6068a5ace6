"""Receptive fields: how many pixels of the image, along one axis, a position of a blob can depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

WINDOWS = {"Convolution": "convolution_param", "Pooling": "pooling_param"}


@dataclass(frozen=True)
class Field:
    """`size` pixels seen by one position, `step` pixels between two neighbours."""

    size: int = 1
    step: int = 1


def receptive_fields(net: Any) -> dict[str, Field]:
    """Blob -> receptive field with respect to the net's inputs, of a NetParameter with square windows.

    Layers without a window see what their bottoms see; where several meet, the largest counts.
    """
    fields: dict[str, Field] = {name: Field() for name in net.input}
    for layer in net.layer:
        seen = [fields[bottom] for bottom in layer.bottom] or [Field()]
        field = max(seen, key=lambda each: each.size)
        if layer.type in WINDOWS:
            about = getattr(layer, WINDOWS[layer.type])
            kernel, stride = _single(about.kernel_size), _single(about.stride) or 1
            field = Field(field.size + (kernel - 1) * field.step, field.step * stride)
        fields |= dict.fromkeys(layer.top, field)
    return fields


def _single(value: Any) -> int:
    """A field that is repeated in bvlc and optional in srn."""
    return value if isinstance(value, int) else (value[0] if len(value) else 0)
