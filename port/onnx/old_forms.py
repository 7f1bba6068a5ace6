"""Operators as opsets 11 and 12 have them: axes as attributes, a softmax that flattens what follows its axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ..layers import Misfit

OPSET = 13  # from here on the forms are those that layers write
AXES = {"ReduceSum": "axes", "Squeeze": "axes", "Unsqueeze": "axes", "Split": "split"}
FLATTENING = ("Softmax", "LogSoftmax", "Hardmax")


class OldForms:
    """Writes a node as an opset has it, and refuses what that opset lacks; from opset 13 on nothing changes.

    `constants` are the initialisers by name, `fresh` makes names, `rank` says how many axes a blob has.
    """

    def __init__(
        self,
        opset: int,
        constants: dict[str, TensorProto],
        fresh: Callable[[str], str],
        rank: Callable[[str], int | None],
    ):
        self.opset, self.constants, self.fresh, self.rank = opset, constants, fresh, rank

    def nodes(self, kind: str, inputs: list[str], outputs: list[str], attributes: dict[str, Any]) -> list[NodeProto]:
        """The node, or the nodes that do the same in an old opset; raises Misfit where there are none."""
        if self.opset >= OPSET:
            return [helper.make_node(kind, inputs, outputs, **attributes)]
        if kind in AXES and len(inputs) > 1:
            if inputs[1] not in self.constants:
                raise self.lacking(f"{kind} with computed {AXES[kind]}")
            values = numpy_helper.to_array(self.constants[inputs[1]]).ravel().tolist()
            return [helper.make_node(kind, inputs[:1], outputs, **attributes, **{AXES[kind]: values})]
        if kind in FLATTENING:
            return self._flattening(kind, inputs, outputs, attributes.get("axis", -1))
        return [helper.make_node(kind, inputs, outputs, **attributes)]

    def _flattening(self, kind: str, inputs: list[str], outputs: list[str], axis: int) -> list[NodeProto]:
        """A softmax along one axis: moved to the end, where the old form means the same."""
        rank = self.rank(inputs[0])
        if axis == -1 or (rank is not None and axis % rank == rank - 1):
            return [helper.make_node(kind, inputs, outputs, axis=-1 if rank is None else rank - 1)]
        if rank is None:
            raise self.lacking(f"{kind} along axis {axis}")
        order = list(range(rank))
        order[axis % rank], order[-1] = order[-1], order[axis % rank]  # its own inverse
        moved, done = (self.fresh(f"{outputs[0]}/{what}") for what in ("moved", "done"))
        return [
            helper.make_node("Transpose", inputs, [moved], perm=order),
            helper.make_node(kind, [moved], [done], axis=rank - 1),
            helper.make_node("Transpose", [done], outputs, perm=order),
        ]

    def check(self, made: list[NodeProto]) -> None:
        """Raise Misfit where one of a layer's nodes is not in the opset, or not in this form."""
        for node in made if self.opset < OPSET else ():
            try:
                schema = onnx.defs.get_schema(node.op_type, self.opset, "")
            except onnx.defs.SchemaError:
                raise self.lacking(node.op_type) from None
            unknown = sorted({attribute.name for attribute in node.attribute} - set(schema.attributes))
            if unknown:
                raise self.lacking(f"{node.op_type} with {', '.join(unknown)}")
            single = onnx.defs.OpSchema.FormalParameterOption.Single
            left_out = [not n and f.option == single for n, f in zip(node.input, schema.inputs, strict=False)]
            if len(node.input) > schema.max_input or any(left_out):
                raise self.lacking(f"{node.op_type} with these inputs")
            if node.op_type in ("Max", "Min") and self.opset < 12 and any(map(self._is_integer, node.input)):
                raise self.lacking(f"{node.op_type} of integers")

    def _is_integer(self, name: str) -> bool:
        return name in self.constants and self.constants[name].data_type == TensorProto.INT64

    def lacking(self, what: str) -> Misfit:
        """That the opset has no such operator."""
        return Misfit(f"opset {self.opset} has no {what}", "a later opset", fix=f"--opset {OPSET} or later")
