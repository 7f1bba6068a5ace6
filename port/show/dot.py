"""A net in Graphviz's language."""

from __future__ import annotations

from .lanes import Drawing


def dot(name: str, drawing: Drawing) -> str:
    """The drawing in Graphviz's language: a node for each layer, an edge for each blob that is read."""
    lines = [f"digraph {_quoted(name or 'net')} {{", "  node [shape=box, fontname=Helvetica];"]
    made: dict[int, tuple[str, str]] = {}
    for name, version in drawing.inputs:
        node = f"input {name}"
        made[version] = node, name
        lines.append(f"  {_quoted(node)} [shape=oval, label={_quoted(name)}];")
    for index, row in enumerate(drawing.rows):
        node = f"{index} {row.layer.name}"
        lines.append(f"  {_quoted(node)} [label={_quoted(f'{row.layer.name} ({row.layer.type})')}];")
        for version in row.reads:
            source, blob = made[version]
            lines.append(f"  {_quoted(source)} -> {_quoted(node)} [label={_quoted(blob)}];")
        for blob, version in zip(row.layer.tops, row.makes, strict=True):
            made[version] = node, blob
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
