"""Where Caffe's memory makes another gradient or another value than the net means, and the graph that has its values.

`find_sharing` looks for the patterns in a graph; with `faithful_bugs` the builder has `share_memory` put in what later
layers read, and the torch module computes gradients by the same patterns (port/graph/weaving.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..layers import Context
from ..layers.overwritten import Overwritten
from .cells import Cells, Write, in_place
from .graph import Graph, Node, Value


@dataclass(eq=False)
class Spoiled:
    """A layer whose backward pass reads what others have written: by position, the version that it reads."""

    bottoms: dict[int, Value] = field(default_factory=dict)
    tops: dict[int, Value] = field(default_factory=dict)
    writers: list[Node] = field(default_factory=list)


@dataclass(eq=False)
class Sharing:
    """All places of a graph where memory is shared to an effect."""

    overwritten: dict[Node, list[Node]] = field(default_factory=dict)  # who reads what another wrote -> who wrote
    spoiled: dict[Node, Spoiled] = field(default_factory=dict)
    lost: dict[Value, tuple[Node, Node]] = field(default_factory=dict)  # no gradient passes: its maker, and Flatten
    unweighted: dict[Value, Node] = field(default_factory=dict)  # a weight of 1 that gives no gradient: its loss
    scratch: dict[Node, Value] = field(default_factory=dict)  # who leaves it -> to whose gradient it is added

    def __bool__(self) -> bool:
        return bool(self.overwritten or self.spoiled or self.lost or self.unweighted or self.scratch)


def find_sharing(graph: Graph) -> Sharing:
    """Look for all patterns."""
    found, cells = Sharing(), Cells(graph)
    for node in graph.nodes:
        stale = [w for value in node.bottoms for w in cells.after(cells.made[value], "")]
        cells.add(node)
        if stale and not node.layer.only_memory:
            found.overwritten[node] = [write.node for write in stale]
    for node in graph.nodes:
        spoiled = _spoiled(node, cells)
        if spoiled is not None:
            found.spoiled[node] = spoiled
    uses = _Uses(graph)
    for node in graph.nodes:
        if node.layer.rebinds_gradient:
            uses.find_lost(node, found)
        if node.layer.leaves_scratch and node not in running_backward(graph):
            uses.find_scratch(node, found)
        for value in node.tops:
            if value.loss_weight and not value.explicit_weight and uses.others(value):
                found.unweighted[value] = node
    return found


def running_backward(graph: Graph) -> set[Node]:
    """The layers that Caffe would run backward if all learned: those that lead to a loss (semantics 2.8)."""
    if graph.net.force_backward:
        return set(graph.nodes)
    found: set[Node] = set()
    wanted: set[Value] = set()
    for node in reversed(graph.nodes):
        if any(value.loss_weight or value in wanted for value in node.tops):
            found.add(node)
            wanted.update(node.bottoms)
    return found


def _spoiled(node: Node, cells: Cells) -> Spoiled | None:
    """What a layer's backward pass reads in another version; None: nothing."""
    reads, found = node.layer.reads(), Spoiled()
    writes: list[Write] = []
    for i in (*reads.bottoms, *reads.signs):
        value = node.bottoms[i]
        new = cells.after(cells.read[node, i], value.blob, i in reads.signs)
        if new:
            found.bottoms[i] = cells.final(value)
        writes += new
    for i in reads.tops:
        new = cells.after(cells.made[node.tops[i]], node.tops[i].blob)
        if new:
            found.tops[i] = cells.final(node.tops[i])
        writes += new
    found.writers = list(dict.fromkeys(write.node for write in writes))
    mixed = node.layer.mixes_gradients() and any(in_place(node, i) for i in range(len(node.tops)))
    return found if writes or mixed else None


class _Uses:
    """Who makes and who reads each value, as Caffe's Split layers count."""

    def __init__(self, graph: Graph):
        self.makers = {value: node for node in graph.nodes for value in node.tops}
        read = [value for node in graph.nodes if not node.layer.only_memory for value in node.bottoms]
        self.count = Counter(self.first(value) for value in read)
        self.going_on = {n.bottoms[i] for n in graph.nodes for i in range(len(n.tops)) if in_place(n, i)}

    def first(self, value: Value) -> Value:
        """The version whose gradient a change of memory belongs to."""
        while value in self.makers and self.makers[value].layer.only_memory:
            value = self.makers[value].bottoms[0]
        return value

    def others(self, value: Value) -> int:
        """How many layers read it, but for one that works on it in place."""
        return self.count[self.first(value)] - (value in self.going_on)

    def split(self, value: Value) -> bool:
        """Whether Caffe puts a Split behind it."""
        return self.count[self.first(value)] + value.explicit_weight > 1

    def _maker(self, value: Value) -> tuple[Value, Node | None]:
        """The first version of a blob, before all that works on it in place, and who makes it."""
        value = self.first(value)
        node = self.makers.get(value)
        while node is not None and in_place(node, node.tops.index(value)):
            value = self.first(node.bottoms[node.tops.index(value)])
            node = self.makers.get(value)
        return value, node

    def find_lost(self, node: Node, found: Sharing) -> None:
        """The gradient that goes to another memory than the bottom's maker looks at."""
        if self.split(self.first(node.bottoms[0])):
            return
        value, maker = self._maker(node.bottoms[0])
        if maker is not None and maker.layer.binds_gradient() and value is maker.tops[0]:
            found.lost[value] = (maker, node)

    def find_scratch(self, node: Node, found: Sharing) -> None:
        """The value to whose gradient a Split adds what a layer that does not run backward left in its bottom's."""
        value = self.first(node.bottoms[0])
        while not self.split(value):
            value, maker = self._maker(value)
            if maker is None or maker.layer.shares(maker.tops.index(value)) is None or maker.layer.rebinds_gradient:
                return  # nobody adds it to anything
            value = self.first(maker.bottoms[0])
            if not maker.layer.binds_gradient():  # a Split that the net's file has
                break
        found.scratch[node] = value


def share_memory(graph: Graph) -> None:
    """Behind every layer in place, a new version of each other blob in its memory, for the layers that follow."""
    cells, current = Cells(graph), {value.blob: value for value in graph.inputs}
    nodes: list[Node] = []
    for node in graph.nodes:
        node.bottoms = [current.get(value.blob, value) for value in node.bottoms]
        cells.add(node)
        nodes.append(node)
        current |= {value.blob: value for value in node.tops}
        for i, value in enumerate(node.tops):
            if in_place(node, i) and node.layer.keeps() != "all":
                cell = cells.made[value].cell
                for old in [v for v in current.values() if cells.made[v].cell == cell and v.blob != value.blob]:
                    change = _changed(graph, node, old, value)
                    cells.add(change)
                    nodes.append(change)
                    current[old.blob] = change.tops[0]
    graph.nodes = nodes


def _changed(graph: Graph, writer: Node, old: Value, written: Value) -> Node:
    """The new version of a blob that a layer in place on another one made."""
    new = Value(old.blob, writer.name, old.shape, consumers=old.consumers)
    old.consumers += 1
    graph.values.insert(graph.values.index(written) + 1, new)
    name = f"{writer.name} over {old.blob}"
    layer = Overwritten(at=Context(name, graph.state.phase, graph.dialect, 2, 1, True))
    message = type(writer.message)(name=name, type=layer.type)
    return Node(name, layer, [old, written], [new], message, writer.line)
