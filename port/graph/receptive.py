"""Receptive fields: how many pixels of the image, along one axis, a position of a blob can depend on."""

from __future__ import annotations

from dataclasses import dataclass

from .graph import Graph


@dataclass(frozen=True)
class Field:
    """`size` pixels seen by one position, `step` pixels between two neighbours."""

    size: int = 1
    step: int = 1


def receptive_fields(graph: Graph) -> dict[str, Field]:
    """Blob -> receptive field with respect to the net's inputs, along the first spatial axis.

    Layers without a window see what their bottoms see; where several meet, the largest counts.
    """
    fields: dict[str, Field] = {}
    for node in graph.nodes:
        seen = [fields.get(bottom.blob, Field()) for bottom in node.bottoms] or [Field()]
        field = max(seen, key=lambda each: each.size)
        window = node.layer.window(node.bottoms[0].shape or ()) if node.bottoms else None
        if window is not None:
            extent, stride = window
            field = Field(field.size + (extent - 1) * field.step, field.step * stride)
        fields |= {top.blob: field for top in node.tops}
    return {value.blob: Field() for value in graph.inputs} | fields
