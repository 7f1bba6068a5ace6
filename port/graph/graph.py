"""What a net is in one state: layers in order, every version of every blob, shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from prototxt_gen.schema.habits import Habits, habits

from ..layers import BlobSpec, Layer, Shape
from ..layers.foreign import Foreign
from .state import NetState


@dataclass(eq=False)
class Value:
    """One version of a blob: an in-place layer makes a new one under the old blob name."""

    blob: str  # Caffe's name
    producer: str  # the layer that wrote this version; "" for a net input
    shape: Shape | None = None
    name: str = ""  # unique; an input, or else the last version of a blob, bears the blob's own name
    consumers: int = 0
    loss_weight: float = 0.0
    explicit_weight: bool = False  # the file gives it, so that Caffe puts a Split behind the blob


@dataclass(eq=False)
class Node:
    """One layer of the net, in file order."""

    name: str
    layer: Layer
    bottoms: list[Value]
    tops: list[Value]
    message: Any
    line: int = 0
    specs: list[BlobSpec] = field(default_factory=list)


@dataclass(eq=False)
class Graph:
    """A net in one state: `inputs` come from the caller, `nodes` compute, `outputs` nobody consumes."""

    name: str
    dialect: str
    reason: str
    state: NetState
    file: str
    net: Any  # the upgraded, filtered NetParameter
    faithful_bugs: bool = False  # compute what Caffe computed, where that is wrong
    packs: dict[str, str] = field(default_factory=dict)  # of forks that the net uses -> the reason
    kept: list[Foreign] = field(default_factory=list)  # fields of forks that have no effect here
    inputs: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)

    @property
    def habits(self) -> Habits:
        """What its Caffe does differently from others."""
        return habits(self.dialect)

    @property
    def outputs(self) -> list[Value]:
        """The blobs that no layer consumes, sorted by name as Caffe reports them."""
        made = [v for node in self.nodes for v in node.tops] + self.inputs
        return sorted({v.name: v for v in made if not v.consumers}.values(), key=lambda v: v.blob)

    def blobs(self) -> dict[str, Value]:
        """The last version of every blob, in the order in which the net first writes it."""
        return {v.blob: v for v in self.values}

    def node(self, name: str) -> Node:
        """The first layer of a name, as Caffe finds it."""
        return next(node for node in self.nodes if node.name == name)


def name_values(graph: Graph) -> None:
    """An input bears its blob's name, since it is fed by it; of all other blobs the last version does."""
    owners = {value.blob: value for value in graph.values}
    owners |= {value.blob: value for value in graph.inputs}
    taken = set(owners)
    for value in graph.values:
        value.name = value.blob
        if owners[value.blob] is not value:
            value.name = f"{value.blob}@{value.producer or 'input'}"
            while value.name in taken:
                value.name += "'"
            taken.add(value.name)
