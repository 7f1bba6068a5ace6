"""Loading blobs into a net by layer name, with Caffe's shape rules and an account of every blob.

Weights are binary `.caffemodel` files or HDF5 (`.caffemodel.h5`), told apart by their content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prototxt_gen.base.errors import Problems, WeightsError
from prototxt_gen.base.files import read_head
from prototxt_gen.schema.packs import PACKS

from ..caffemodel import ModelFile, read_caffemodel
from ..caffemodel.forks import telling_forks
from ..graph.graph import Graph
from ..graph.stored import Stored
from ..layers import show
from .sources import Source, sources

if TYPE_CHECKING:
    from .hdf5 import Hdf5Model

Slot = tuple[int, int]  # index of the node, index of its blob

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
HDF5_OFFSETS = (0, 512, 1024, 2048)  # a block of the user's may stand before it


@dataclass
class LoadReport:
    """What became of the weights: layers taken, layers of the file the net lacks, layers of the net without weights."""

    files: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)  # the files that were read, the prototxt among them

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


def is_hdf5(path: str | Path) -> bool:
    """Whether a file is HDF5 by its content, as Caffe decides; raises WeightsError if it cannot be read."""
    head = read_head(path, WeightsError)
    return any(head.startswith(HDF5_SIGNATURE, at) for at in HDF5_OFFSETS)


def open_weights(path: str | Path) -> ModelFile | Hdf5Model:
    """Open a weights file, binary or HDF5 by its content; raises WeightsError."""
    if is_hdf5(path):
        from .hdf5 import Hdf5Model  # takes a moment to import, and few files need it

        return Hdf5Model(path)
    return read_caffemodel(path)


def stored_weights(caffemodel: Any) -> Stored:
    """What weights files tell of their net; nothing where they cannot be read, which loading says."""
    counts: dict[str, int] = {}
    packs: set[str] = set()
    for path in weight_files(caffemodel):
        try:
            with open_weights(path) as model:
                counts |= {layer.name: len(layer.blobs) for layer in model.layers}
                forks = telling_forks(model) if isinstance(model, ModelFile) else []
        except WeightsError:
            continue
        packs |= {fork for fork in forks if len(forks) == 1 and fork in PACKS}
    return Stored(counts, frozenset(packs))


def load_arrays(graph: Graph, caffemodel: Any, strict: bool = True) -> tuple[dict[Slot, Any], LoadReport]:
    """Arrays for the graph's blobs from weights files; raises WeightsError with all that does not fit.

    As Caffe does (Net::CopyTrainedLayersFrom): by layer name, all blobs of a layer or none, exact shapes,
    later files over earlier ones, and a blob that layers share takes what was loaded last. An HDF5 file may
    leave out what a layer shares. Unlike Caffe, `strict` refuses a net layer that no file has.
    """
    files = weight_files(caffemodel)
    found = sources("caffemodel", files)  # as they are before they are read
    taker = _Taker(graph, ", ".join(map(str, files)))
    with Problems(WeightsError) as unreadable:
        for path in files:
            try:
                with open_weights(path) as model:
                    taker.take(model)
            except WeightsError as error:
                unreadable.found += error.problems
    report, problems = taker.report, taker.problems
    report.missing = [
        node.name
        for i, node in enumerate(graph.nodes)
        if any((i, j) not in taker.arrays and (i, j) not in taker.owners for j in range(len(node.specs)))
    ]
    complained = {problem.layer for problem in problems.found}
    for name in report.missing if strict else []:
        if name not in complained:
            blobs = ", ".join(show(spec.shape) for spec in graph.node(name).specs)
            problems.add("the file has no such layer", expected=f"blobs {blobs}", layer=name)
    if problems.found and not report.taken and not complained:
        problems.add("no layer of the net is in the file", fix="is it the weights file of another net?")
    problems.raise_if_any()
    report.taken = list(dict.fromkeys(report.taken))
    report.sources = found
    return taker.arrays, report


def shared_slots(graph: Graph) -> dict[Slot, Slot]:
    """The blobs that layers share by `param` name (semantics 2.7): each later one -> the first, its owner."""
    first: dict[str, Slot] = {}
    owners: dict[Slot, Slot] = {}
    for i, node in enumerate(graph.nodes):
        for j, entry in enumerate(node.message.param[: len(node.specs)]):
            if entry.name and first.setdefault(entry.name, (i, j)) != (i, j):
                owners[i, j] = first[entry.name]
    return owners


class _Taker:
    """Takes the blobs of one file after the other; arrays of shared blobs are kept for their owners."""

    def __init__(self, graph: Graph, files: str):
        self.graph = graph
        self.index = {node.name: i for i, node in reversed(list(enumerate(graph.nodes)))}
        self.owners = shared_slots(graph)
        self.arrays: dict[Slot, Any] = {}
        self.report = LoadReport()
        self.problems = Problems(WeightsError, files)

    def take(self, model: ModelFile | Hdf5Model) -> None:
        self.report.files.append(model.path.name)
        for layer in model.layers:
            if layer.name not in self.index:
                if layer.blobs:
                    self.report.unused.append(layer.name)
                continue
            blobs = layer.blobs if isinstance(layer.blobs, dict) else dict(enumerate(layer.blobs))
            self._take_layer(model.path, self.index[layer.name], blobs, isinstance(layer.blobs, dict))

    def _take_layer(self, path: Path, i: int, blobs: Mapping[int, Any], may_omit_shared: bool) -> None:
        node = self.graph.nodes[i]
        wanted = set(range(len(node.specs)))
        optional = {j for j in wanted if (i, j) in self.owners} if may_omit_shared else set()
        if not wanted - optional <= set(blobs) <= wanted:
            self.problems.add(
                f"{len(blobs)} blobs ({_shapes(blobs.values())})",
                expected=f"{len(node.specs)} for {node.layer.type} ({_shapes(node.specs)})",
                file=path,
                layer=node.name,
            )
            return
        for j, blob in blobs.items():
            spec = node.specs[j]
            if blob.fits(spec.shape):
                self.arrays[self.owners.get((i, j), (i, j))] = blob.data
            else:
                self.problems.add(
                    f"{spec.name} is {show(tuple(blob.shape))}",
                    expected=show(spec.shape),
                    file=path,
                    layer=node.name,
                    field=f"blobs[{j}]",
                )
        if blobs:
            self.report.taken.append(node.name)


def _shapes(items: Any) -> str:
    return ", ".join(show(tuple(item.shape)) for item in items) or "none"
