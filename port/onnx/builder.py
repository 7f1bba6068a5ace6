"""What a layer's `onnx` rule writes with: nodes, constants, weights and shapes that may have a free batch."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ..graph.graph import Graph, Node
from ..layers import Misfit, Shape
from .apart import Apart
from .old_forms import OldForms


class OnnxGraph:
    """Collects the nodes of one export; `free` maps value name -> axes that follow the batch size or the data.

    `selected` names the values whose extents depend on the data; `target` the runtime whose own operators may be used
    ("opencv", or "" for ONNX's alone).
    """

    def __init__(
        self,
        graph: Graph,
        arrays: dict[str, list[np.ndarray]],
        free: dict[str, Any],
        opset: int,
        selected: frozenset[str] = frozenset(),
        target: str = "",
    ):
        self.graph, self.arrays, self.free, self.opset, self.selected = graph, arrays, free, opset, selected
        self.target = target
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self.names = {v.name for v in graph.values}
        self.node_names: set[str] = set()
        self.shapes: dict[str, Shape] = {v.name: v.shape or () for v in graph.values}
        self.node: Node | None = None
        self.start = 0
        self.apart: Apart | None = None  # where large constants go that shall not stand in the model
        self.old = OldForms(opset, self.initializers, self.fresh, self.rank)

    # -- names ------------------------------------------------------------------------------------------
    def fresh(self, stem: str) -> str:
        """A name that nothing else in the file has."""
        name, count = stem, 1
        while name in self.names:
            count += 1
            name = f"{stem}_{count}"
        self.names.add(name)
        return name

    def begin(self, node: Node) -> None:
        """The nodes that follow belong to this layer."""
        self.node, self.start = node, len(self.nodes)

    @property
    def current(self) -> Node:
        """The layer whose rule is running."""
        assert self.node is not None
        return self.node

    # -- nodes and constants ----------------------------------------------------------------------------
    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; returns the name of its output, or a tuple of names."""
        names = [self.fresh(f"{self.current.name}/{kind}") for _ in range(outputs)]
        attributes = {k: list(v) if isinstance(v, tuple) else v for k, v in attributes.items()}
        self.nodes += self.old.nodes(kind, list(inputs), names, attributes)
        return names[0] if outputs == 1 else tuple(names)

    def constant(self, value: Any, dtype: Any = np.float32, name: str = "constant") -> str:
        """A constant tensor."""
        return self._initializer(np.asarray(value, dtype), f"{self.current.name}/{name}")

    def _initializer(self, array: np.ndarray, stem: str) -> str:
        name = self.fresh(stem)
        if self.apart is not None and self.apart.takes(array):
            self.initializers[name] = self.apart.tensor(array, name)
            return name
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name

    # -- the layer's blobs ------------------------------------------------------------------------------
    def blob_count(self) -> int:
        """How many blobs the layer has."""
        return len(self.current.specs)

    def blob_shape(self, index: int) -> Shape:
        """Shape of the layer's blob."""
        return self.current.specs[index].shape

    def blob_value(self, index: int) -> np.ndarray:
        """The layer's blob as float32."""
        return np.asarray(self.arrays[self.current.name][index], np.float32)

    def blob(self, index: int, shape: Shape | None = None) -> str:
        """The layer's blob as a constant, reshaped where a shape is given."""
        array = self.blob_value(index)
        stem = f"{self.current.name}/{self.current.specs[index].name}"
        return self._initializer(array if shape is None else array.reshape(shape), stem)

    def transposed_blob(self, index: int) -> str:
        """The layer's matrix blob, transposed, as a constant."""
        stem = f"{self.current.name}/{self.current.specs[index].name}"
        return self._initializer(self.blob_value(index).T, stem)

    # -- shapes -----------------------------------------------------------------------------------------
    def shape(self, value: str) -> Shape:
        """Shape of a bottom at the net's own batch size."""
        return self.shapes[value]

    def rank(self, value: str) -> int | None:
        """How many axes a blob has; None for a value inside a layer."""
        return len(self.shapes[value]) if value in self.shapes else None

    def follows_batch(self, value: str, axis: int) -> bool:
        """Whether this axis of a value grows with the batch."""
        return axis in self.free.get(value, ())

    def extents(self, value: str, *axes: int) -> str:
        """The extents of some axes when the net runs, as an int64 vector."""
        return self.op("Gather", self.op("Shape", value), self.constant(axes, np.int64, "axes"), axis=0)

    def reshape(self, x: str, target: tuple[int, ...]) -> str:
        """Reshape to numbers (-1: what is left; 0: as it is)."""
        return self.op("Reshape", x, self.constant(target, np.int64, "shape"))

    def like_top(self, x: str, index: int) -> str:
        """Reshape to the shape of the layer's top, whatever the batch size."""
        top = self.current.tops[index]
        return self._as_value(x, top.name, {v.name for v in self.current.bottoms} & {x})

    def like(self, x: str, other: str) -> str:
        """Reshape a bottom to the shape of another."""
        return x if self.shapes[x] == self.shapes[other] else self.op("Reshape", x, self.op("Shape", other))

    def _as_value(self, x: str, name: str, bottoms: set[str]) -> str:
        free = self.free.get(name, ())
        target = list(self.shapes[name])
        if len(free) > 1:
            return self.op("Reshape", x, self._free_shape(name))
        for axis in free:
            target[axis] = -1
        return self.reshape(x, tuple(target))

    def _free_shape(self, name: str) -> str:
        """A shape tensor with several axes that follow the batch: multiples of the first input's."""
        if name in self.selected:
            raise Misfit("its extents depend on the data in several axes", "one such axis", "bottom")
        source = next(v for v in self.graph.inputs if self.free.get(v.name))
        axis = self.free[source.name][0]
        batch = self.extents(source.name, axis)
        per = source.shape[axis] if source.shape else 1
        parts = []
        for i, dim in enumerate(self.shapes[name]):
            if i in self.free[name]:
                factor = self.constant([dim // per], np.int64)
                parts.append(self.op("Mul", batch, factor))
            else:
                parts.append(self.constant([dim], np.int64))
        return self.op("Concat", *parts, axis=0)

    def expand_rank(self, x: str, axis: int, rank: int) -> str:
        """A bottom that starts at `axis` of a blob with `rank` axes, with axes of extent 1 around it."""
        after = range(axis + len(self.shapes[x]), rank)
        axes = [*range(axis), *after]
        return self.op("Unsqueeze", x, self.constant(axes, np.int64, "axes")) if axes else x

    def count(self, x: str, axes: int | None = None) -> str:
        """The number of values of a bottom (of its first `axes` axes), as a float scalar."""
        shape = self.shapes[x] if axes is None else self.shapes[x][:axes]
        if not any(axis < len(shape) for axis in self.free.get(x, ())):
            return self.constant(float(prod(shape)))
        dims = self.op("Shape", x)
        if axes is not None:  # Shape's own start and end came with opset 15
            dims = self.op("Slice", dims, self.constant([0], np.int64), self.constant([axes], np.int64))
        return self.op("Cast", self.op("ReduceProd", dims, keepdims=0), to=TensorProto.FLOAT)

    # -- operators whose form depends on the opset ----------------------------------------------------------
    def reduce(self, kind: str, x: str, axes: tuple[int, ...] | None = None, keep: bool = False) -> str:
        """A Reduce* node; None reduces all axes to a scalar."""
        if axes is None:
            return self.op(kind, x, keepdims=int(keep))
        if not axes:  # without axes ONNX would reduce everything
            return (
                self.op({"ReduceL1": "Abs"}.get(kind, "Identity"), x)
                if kind != "ReduceSumSquare"
                else self.op("Mul", x, x)
            )
        if kind == "ReduceSum" or self.opset >= 18:
            return self.op(kind, x, self.constant(axes, np.int64, "axes"), keepdims=int(keep))
        return self.op(kind, x, axes=axes, keepdims=int(keep))

    def pad(self, x: str, before: tuple[int, ...], after: tuple[int, ...], value: float) -> str:
        """Pad with a constant; nothing is added where there is nothing to pad."""
        if not any((*before, *after)):
            return x
        return self.op("Pad", x, self.constant((*before, *after), np.int64, "pads"), self.constant(value))

    def slice(self, x: str, starts: Any, stops: Any, axes: Any, steps: Any = None) -> str:
        """Cut some axes."""
        numbers = [starts, stops, axes, steps or [1] * len(starts)]
        return self.op("Slice", x, *(self.constant(n, np.int64, "slice") for n in numbers))

    # -- finishing a layer --------------------------------------------------------------------------------
    def finish(self, results: tuple[str, ...]) -> None:
        """Name the layer's nodes after it and its results after its tops."""
        made = self.nodes[self.start :]
        self.old.check(made)
        rename: dict[str, str] = {}
        outputs = {name for node in made for name in node.output}
        for result, top in zip(results, self.current.tops, strict=True):
            if result in outputs and result not in rename:
                rename[result] = top.name
            else:  # a bottom or constant handed through, or one result for several tops
                self.nodes.append(helper.make_node("Identity", [rename.get(result, result)], [top.name]))
        for node in made:
            node.input[:] = [rename.get(name, name) for name in node.input]
            node.output[:] = [rename.get(name, name) for name in node.output]
        for i, node in enumerate(reversed(self.nodes[self.start :])):
            node.name = self.current.name if i == 0 else f"{self.current.name}/{node.op_type}_{i}"
            while node.name in self.node_names:  # two layers may have one name, two nodes may not
                node.name += "_"
            self.node_names.add(node.name)
