"""A net without the layers that make detections: what they would read, the raw predictions, become outputs."""

from __future__ import annotations

from dataclasses import replace

from prototxt_gen.base.errors import ExportError, Problem

from ..graph.graph import Graph, Node, Value


def without_detections(graph: Graph) -> Graph:
    """The graph without detecting layers and without what reads their tops; raises ExportError where there are none."""
    gone: set[Value] = set()
    kept: list[Node] = []
    for node in graph.nodes:
        if node.layer.detects or gone.intersection(node.bottoms):
            gone.update(node.tops)
        else:
            kept.append(node)
    if not gone:
        fix = "leave raw_heads (--raw-heads) out: all its outputs are raw"
        raise ExportError(Problem("the net has no layer that makes detections", fix=fix, file=graph.file))
    read = [value for node in kept for value in node.bottoms]
    new = {value: replace(value, consumers=read.count(value)) for value in graph.values if value not in gone}
    nodes = [replace(node, bottoms=[new[v] for v in node.bottoms], tops=[new[v] for v in node.tops]) for node in kept]
    return replace(graph, nodes=nodes, inputs=[new[v] for v in graph.inputs], values=list(new.values()))
