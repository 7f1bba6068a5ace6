"""Loading blobs into a net by layer name, with Caffe's shape rules and an account of every blob."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prototxt_gen.errors import CaffeError, Problems, WeightsError

from .caffemodel import ModelFile, read_caffemodel
from .graph import Graph
from .layers import show


@dataclass
class LoadReport:
    """What became of the weights: layers taken, layers of the file the net lacks, layers of the net without weights."""

    files: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"weights: {len(self.taken)} layers taken from {', '.join(self.files) or 'no file'}"]
        for what, names in (("not in the net", self.unused), ("without weights, filled", self.missing)):
            if names:
                lines.append(f"  {len(names)} {what}: {', '.join(names)}")
        return "\n".join(lines)


def weight_files(caffemodel: Any) -> list[Path]:
    """The files of a comma list, a path, or a sequence of paths."""
    if isinstance(caffemodel, str):
        return [Path(part.strip()) for part in caffemodel.split(",") if part.strip()]
    return [Path(caffemodel)] if isinstance(caffemodel, Path) else [Path(part) for part in caffemodel]


def load_arrays(graph: Graph, caffemodel: Any, strict: bool = True) -> tuple[dict[tuple[int, int], Any], LoadReport]:
    """Arrays for the graph's blobs from weights files; raises WeightsError with all that does not fit.

    As Caffe does (Net::CopyTrainedLayersFrom): by layer name, all blobs of a layer or none, exact shapes,
    later files over earlier ones. Unlike Caffe, `strict` refuses a net layer that no file has.
    """
    report = LoadReport()
    arrays: dict[tuple[int, int], Any] = {}
    index = {node.name: i for i, node in reversed(list(enumerate(graph.nodes)))}
    problems: list[Any] = []
    for path in weight_files(caffemodel):
        model = read_caffemodel(path)
        report.files.append(path.name)
        try:
            _take(graph, model, index, arrays, report)
        except CaffeError as error:
            problems += error.problems
    report.missing = [
        node.name
        for i, node in enumerate(graph.nodes)
        if any((i, j) not in arrays for j in range(len(node.specs))) and not _borrows(graph, i)
    ]
    with Problems(WeightsError, ", ".join(map(str, weight_files(caffemodel)))) as found:
        found.found += problems
        complained = {problem.layer for problem in problems}
        for name in report.missing if strict else []:
            if name not in complained:
                blobs = ", ".join(show(spec.shape) for spec in graph.node(name).specs)
                found.add("the file has no such layer", expected=f"blobs {blobs}", layer=name)
        if found.found and not report.taken:
            found.add("no layer of the net is in the file", fix="is it the weights file of another net?")
    return arrays, report


def _borrows(graph: Graph, index: int) -> bool:
    """Whether all blobs of a layer are shared with an earlier layer by name, so that no file needs to hold them."""
    node = graph.nodes[index]
    earlier = {p.name for other in graph.nodes[:index] for p in other.message.param if p.name}
    names = [p.name for p in node.message.param]
    return len(names) >= len(node.specs) and all(name in earlier for name in names[: len(node.specs)])


def _take(graph: Graph, model: ModelFile, index: dict[str, int], arrays: dict, report: LoadReport) -> None:
    with Problems(WeightsError, model.path) as problems:
        for layer in model.layers:
            if layer.name not in index:
                if layer.blobs:
                    report.unused.append(layer.name)
                continue
            node = graph.nodes[index[layer.name]]
            if len(layer.blobs) != len(node.specs):
                problems.add(
                    f"{len(layer.blobs)} blobs ({_shapes(layer.blobs)})",
                    expected=f"{len(node.specs)} for {node.layer.type} ({_shapes(node.specs)})",
                    layer=layer.name,
                )
                continue
            for j, (blob, spec) in enumerate(zip(layer.blobs, node.specs, strict=True)):
                if blob.fits(spec.shape):
                    arrays[index[layer.name], j] = blob.data
                else:
                    problems.add(
                        f"{spec.name} is {show(tuple(blob.shape))}",
                        expected=show(spec.shape),
                        layer=layer.name,
                        field=f"blobs[{j}]",
                    )
            if layer.blobs:
                report.taken.append(layer.name)
        for problem in problems.found:
            report.taken = [name for name in report.taken if name != problem.layer]


def _shapes(items: Any) -> str:
    return ", ".join(show(tuple(item.shape)) for item in items) or "none"
