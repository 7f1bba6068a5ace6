"""Caffe's memory for blobs: which of them are one piece of memory, and which layers write into it."""

from __future__ import annotations

from dataclasses import dataclass

from .graph import Graph, Node, Value


@dataclass(frozen=True)
class Write:
    """A layer in place, and the version of the blob that it makes."""

    node: Node
    value: Value


@dataclass(frozen=True)
class Mark:
    """A piece of memory at one moment: how many writes it had seen."""

    cell: int
    count: int


def in_place(node: Node, top: int) -> bool:
    """Whether a top of a layer is its bottom at the same position."""
    return top < len(node.bottoms) and node.bottoms[top].blob == node.tops[top].blob


class Cells:
    """The pieces of memory of a graph; `add` its layers in order."""

    def __init__(self, graph: Graph):
        self.writes: list[list[Write]] = []
        self.made: dict[Value, Mark] = {}  # each version of a blob, as it was made
        self.read: dict[tuple[Node, int], Mark] = {}  # what a layer's bottom held when the layer ran
        for value in graph.inputs:
            self._new(value)

    def add(self, node: Node) -> None:
        """Let a layer run."""
        for i, value in enumerate(node.bottoms):
            self.read[node, i] = self._now(self.made[value].cell)
        if node.layer.kind == "data":
            return
        for i, value in enumerate(node.tops):
            shared = i if in_place(node, i) else node.layer.shares(i)
            if shared is None:
                self._new(value)
                continue
            cell = self.made[node.bottoms[shared]].cell
            if in_place(node, i) and not node.layer.only_memory:
                self.writes[cell].append(Write(node, value))
            self.made[value] = self._now(cell)

    def _new(self, value: Value) -> None:
        self.made[value] = Mark(len(self.writes), 0)
        self.writes.append([])

    def _now(self, cell: int) -> Mark:
        return Mark(cell, len(self.writes[cell]))

    def after(self, mark: Mark, blob: str, signs: bool = False) -> list[Write]:
        """The writes since, without those that leave what matters: the values, or with `signs` which are above 0."""
        found = []
        for write in self.writes[mark.cell][mark.count :]:
            kept = write.node.layer.keeps()
            fine = kept == "all" or (signs and (kept == "signs" or (kept == "chain" and write.value.blob == blob)))
            if not fine:
                found.append(write)
        return found

    def final(self, value: Value) -> Value:
        """The version that stands in a value's memory at the end, under the name of who wrote it."""
        writes = self.writes[self.made[value].cell]
        return writes[-1].value if writes else value
