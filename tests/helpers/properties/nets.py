"""One layer as a net: the text of its prototxt, the numbers that go in, and the answer of every runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from port.graph.build import build_graph
from port.graph.graph import Graph
from port.graph.reference import reference_values
from port.graph.state import NetState
from port.module import CaffeNet, build_module
from port.net import params, run_values
from port.onnx.export import build_onnx
from port.onnx.session import run_onnx, session
from prototxt_gen.schema.text import parse_prototxt

LAYER = "layer under test"
Arrays = list[np.ndarray]
Shape = tuple[int, ...]


class Word(str):
    """A value that stands in the text without quotes: an enum's."""


@dataclass(frozen=True)
class Bottom:
    """One input of the layer: its shape, and how its numbers are made."""

    shape: Shape
    kind: str = "normal"
    limit: int = 0  # labels and indices lie below it
    ignored: int | None = None  # a label that some locations get

    def numbers(self, random: np.random.RandomState) -> np.ndarray:
        """float32 numbers of this kind."""
        made = np.asarray(NUMBERS[self.kind](random, self))
        return made.astype(np.float32).reshape(self.shape)


def _spread(random, bottom):
    """All different, and from those of other bottoms (by their `limit`); none near 0, 1/2 or 1."""
    count = int(np.prod(bottom.shape))
    return random.permutation(np.linspace(-2, 2, 2 * count + 1)[1::2] + 0.0137 + 0.0031 * bottom.limit)


def _labels(random, bottom):
    labels = random.randint(0, bottom.limit, bottom.shape)
    if bottom.ignored is None:
        return labels
    return np.where(random.uniform(size=bottom.shape) < 0.3, bottom.ignored, labels)


def _regions(random, bottom):
    """[item, x1, y1, x2, y2], partly outside the map, corners in halves so that rounding matters."""
    rows = random.randint(-4, 24, (bottom.shape[0], 5)) / 2
    rows[:, 0] = random.randint(0, bottom.limit, bottom.shape[0])
    return rows


def _extreme(random, bottom):
    """Logits from nothing to far beyond what exp can hold in float32."""
    x = random.standard_normal(bottom.shape) * random.choice([1, 30, 300], bottom.shape)
    return np.where(random.uniform(size=bottom.shape) < 0.1, -np.inf, x)


NUMBERS = {
    "normal": lambda r, b: 1.5 * r.standard_normal(b.shape),
    "quantised": lambda r, b: r.randint(-2, 3, b.shape) / 2,
    "positive": lambda r, b: r.uniform(0.1, 2, b.shape),
    "unit": lambda r, b: r.uniform(0, 1, b.shape),
    "spread": _spread,
    "extreme": _extreme,
    "infinite": lambda r, b: r.choice([-np.inf, np.nan, -1.0, 2.0], b.shape),
    "labels": _labels,
    "flags": lambda r, b: r.randint(0, 2, b.shape) * r.choice([1, 2, -1], b.shape),
    "starts": lambda r, b: r.randint(0, 2, b.shape),
    "none": lambda r, b: np.zeros(b.shape),
    "regions": _regions,
}


@dataclass(frozen=True)
class Case:
    """A layer with its fields as they are written, its bottoms, and where it stands."""

    type: str
    dialect: str
    bottoms: tuple[Bottom, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    tops: int = 1
    phase: str = "TEST"
    in_place: bool = False
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)  # fields of the layer itself

    @property
    def bottom_names(self) -> list[str]:
        return [f"bottom{i}" for i in range(len(self.bottoms))]

    @property
    def top_names(self) -> list[str]:
        names = [f"top{i}" for i in range(self.tops)]
        return ["bottom0", *names[1:]] if self.in_place else names

    def text(self) -> str:
        """The net's prototxt."""
        layer = {"name": LAYER, "type": self.type, "bottom": self.bottom_names, "top": self.top_names}
        net: dict[str, Any] = {"name": "case", "input": self.bottom_names}
        net["input_shape"] = [{"dim": list(b.shape)} for b in self.bottoms]
        return "\n".join([*lines({**net, "layer": {**layer, **self.extra, **self.fields}}), ""])

    def inputs(self) -> Arrays:
        """The numbers of the bottoms, the same for the same case."""
        return [b.numbers(np.random.RandomState([self.seed, i])) for i, b in enumerate(self.bottoms)]

    def with_batch(self, batch: int | None = None, factor: int = 1) -> Case:
        """The same layer on other batches: every bottom's first extent replaced or multiplied."""
        bottoms = [
            replace(b, shape=(b.shape[0] * factor if batch is None else batch, *b.shape[1:])) if b.shape else b
            for b in self.bottoms
        ]
        return replace(self, bottoms=tuple(bottoms))


def lines(fields: Mapping[str, Any]) -> list[str]:
    """Fields in protobuf's text format; a list is a repeated field."""
    written = []
    for name, value in fields.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Mapping):
                written += [f"{name} {{", *("  " + line for line in lines(each)), "}"]
            elif isinstance(each, bool):
                written.append(f"{name}: {str(each).lower()}")
            elif isinstance(each, str) and not isinstance(each, Word):
                written.append(f'{name}: "{each}"')
            else:
                written.append(f"{name}: {each}")
    return written


def graph_of(case: Case) -> Graph:
    """The net as users read it: from text."""
    return build_graph(parse_prototxt(case.text(), dialect=case.dialect), NetState(case.phase))


def net_of(graph: Graph, blobs: Arrays) -> CaffeNet:
    """The torch net with given blobs in the layer under test."""
    at = next(i for i, node in enumerate(graph.nodes) if node.name == LAYER)
    return build_module(graph, {(at, j): blob for j, blob in enumerate(blobs)})


def _tops(graph: Graph, values: Mapping[str, Any]) -> list[Any]:
    return [values[v.name] for v in graph.node(LAYER).tops]


def by_blob(graph: Graph, inputs: Arrays) -> dict[str, np.ndarray]:
    """The inputs under the names of their blobs."""
    return {f"bottom{i}": array for i, array in enumerate(inputs)}


def reference_answer(graph: Graph, blobs: Arrays, inputs: Arrays) -> tuple[Arrays, Arrays]:
    """Tops, and blobs after forward, in float64."""
    after: dict[str, Arrays] = {}
    values = dict(reference_values(graph, {LAYER: blobs}, by_blob(graph, inputs), after))
    return [np.asarray(top) for top in _tops(graph, values)], after[LAYER]


def torch_answer(net: CaffeNet, inputs: Arrays) -> tuple[Arrays, Arrays]:
    """Tops, and blobs after forward, in PyTorch."""
    with torch.no_grad():
        values = run_values(net, by_blob(net.caffe, inputs))
        return [top.numpy() for top in _tops(net.caffe, values)], [b.numpy() for b in params(net).get(LAYER, [])]


def onnx_session(net: CaffeNet, opset: int) -> Any:
    """An ONNX Runtime session with every blob as an output."""
    return session(build_onnx(net, opset=opset, blobs="all"))


def onnx_answer(runner: Any, graph: Graph, inputs: Arrays) -> Arrays:
    """Tops in ONNX Runtime."""
    # a bottom that the layer overwrites in place has a name of its own in the file
    names = {v.name: v.blob for v in graph.inputs}
    blobs = by_blob(graph, inputs)
    return _tops(graph, run_onnx(runner, {name: blobs[blob] for name, blob in names.items()}))
