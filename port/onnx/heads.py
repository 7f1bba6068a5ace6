"""Parts of a net: without the layers that make detections, up to some blobs, or what some blobs need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from prototxt_gen.base.errors import ExportError, Problem, Problems, closest

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
    return _of(graph, kept)


def cut_at(graph: Graph, blobs: Iterable[str]) -> Graph:
    """The graph that ends at some blobs: without what reads them, and what reads that; raises ExportError."""
    ends = set(_values(graph, blobs, "cut"))
    gone: set[Value] = set()
    kept: list[Node] = []
    for node in graph.nodes:
        if (ends | gone).intersection(node.bottoms):
            gone.update(node.tops)
        else:
            kept.append(node)
    if lost := ends & gone:
        found = ", ".join(f"'{value.name}'" for value in sorted(lost, key=lambda v: v.name))
        raise ExportError(Problem(f"behind another cut: {found}", "cuts of which none needs another", file=graph.file))
    if not gone:
        raise ExportError(Problem("no layer reads the blobs of the cut", "blobs inside the net", file=graph.file))
    return _of(graph, kept)


def needed_for(graph: Graph, blobs: Iterable[str]) -> tuple[Graph, list[str]]:
    """The layers and inputs that some blobs need, and these blobs as names of values; raises ExportError."""
    wanted = _values(graph, blobs, "outputs")
    needed, kept = set(wanted), []
    for node in reversed(graph.nodes):
        if node.layer.kind != "data" and needed.intersection(node.tops):  # tops of data layers are inputs
            needed.update(node.bottoms)
            kept.append(node)
    inputs = [value for value in graph.inputs if value in needed]
    return _of(replace(graph, inputs=inputs), kept[::-1]), [value.name for value in wanted]


def _values(graph: Graph, blobs: Iterable[str], field: str) -> list[Value]:
    """The last versions of blobs, or versions by their own names; raises ExportError with all that are not computed."""
    computed = {v.name: v for node in graph.nodes if node.layer.kind != "data" for v in node.tops}
    known = computed | {blob: v for blob, v in graph.blobs().items() if v.name in computed}
    blobs = list(dict.fromkeys(blobs))
    with Problems(ExportError, graph.file) as problems:
        for blob in blobs:
            if blob not in known:
                problems.add(f"no layer computes a blob '{blob}'", field=field, fix=closest(blob, known))
        if not blobs:
            problems.add("no blob is named", expected="names of blobs", field=field)
    return list(dict.fromkeys(known[blob] for blob in blobs))


def _of(graph: Graph, kept: list[Node]) -> Graph:
    """The graph with some of its nodes and what they read and make, its values counted anew."""
    have = {*graph.inputs, *(value for node in kept for value in node.tops)}
    read = [value for node in kept for value in node.bottoms]
    new = {value: replace(value, consumers=read.count(value)) for value in graph.values if value in have}
    nodes = [replace(node, bottoms=[new[v] for v in node.bottoms], tops=[new[v] for v in node.tops]) for node in kept]
    return replace(graph, nodes=nodes, inputs=[new[v] for v in graph.inputs], values=list(new.values()))
