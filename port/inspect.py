"""What a Caffe file holds, as text: a net's layers with shapes and sizes, a weights file's blobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prototxt_gen.errors import CaffeError
from prototxt_gen.files import read_head

from .caffemodel import read_caffemodel
from .count import layer_sizes, total
from .graph import Graph, load_graph
from .layers import show


def describe_graph(graph: Graph) -> str:
    """One line a layer: name, type, bottoms, tops, shapes, parameters, multiply-adds; then the totals."""
    lines = [f"net '{graph.name}', phase {graph.state.phase}, dialect {graph.dialect} ({graph.reason})"]
    sizes = layer_sizes(graph)
    rows = [("layer", "type", "bottoms", "tops", "shapes", "parameters", "multiply-adds")]
    rows += [("(input)", "", "", v.blob, show(v.shape or ()), "", "") for v in graph.inputs if not v.producer]
    for node in graph.nodes:
        size = sizes[node.name]
        rows.append(
            (
                node.name,
                node.layer.type,
                ", ".join(v.blob for v in node.bottoms),
                ", ".join(v.blob for v in node.tops),
                ", ".join(show(v.shape or ()) for v in node.tops),
                f"{size.parameters:,}" if size.parameters else "",
                f"{size.multiply_adds:,}" if size.multiply_adds else "",
            )
        )
    lines += columns(rows, right=(5, 6))
    whole = total(sizes.values())
    lines.append(
        f"{len(graph.nodes)} layers, {whole.parameters:,} parameters, {whole.statistics:,} statistics, "
        f"{whole.multiply_adds:,} multiply-adds; outputs: " + ", ".join(v.blob for v in graph.outputs)
    )
    return "\n".join(lines)


def columns(rows: Sequence[tuple[str, ...]], right: tuple[int, ...] = ()) -> list[str]:
    """Rows of cells as aligned lines; the columns in `right` are flushed right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def describe_weights(path: Path) -> str:
    """One line a layer of a weights file: name, type, blobs."""
    with read_caffemodel(path) as model:
        dialect, reason = model.dialect_hint()
        rows = [("layer", "type", "blobs", "values")]
        count = 0
        for layer in model.layers:
            values = sum(blob.count for blob in layer.blobs)
            count += values
            shapes = ", ".join(show(blob.shape) + (" (old form)" if blob.legacy else "") for blob in layer.blobs)
            rows.append((layer.name, layer.type, shapes, f"{values:,}" if values else ""))
        head = f"weights of '{model.name}', dialect {dialect or 'unknown'} ({reason})"
        return "\n".join([head, *columns(rows, right=(3,)), f"{len(model.layers)} layers, {count:,} values"])


def describe(path: Path, phase: str = "TEST", dialect: str | None = None) -> str:
    """A net file or a weights file as text; raises CaffeError."""
    head = read_head(path, CaffeError)
    if head and not any(byte < 9 or 13 < byte < 32 for byte in head):  # no control characters: text
        return describe_graph(load_graph(path, phase=phase, dialect=dialect))
    return describe_weights(path)
