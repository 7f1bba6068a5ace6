"""An ONNX file of anybody's against the Caffe net it should be: values matched by name or by what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from port.graph.reference import run_reference
from port.layers import show
from port.module import CaffeNet
from port.net import param_arrays
from port.onnx.reading import read_model, said
from port.onnx.session import session_of_bytes
from prototxt_gen.base.errors import ExportError, Problem, Problems, UsageError, closest

from .compare import Comparison, compare
from .net import TOLERANCE, net_inputs

NAME, VALUE, NONE = "name", "value", ""
TYPES = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}


@dataclass
class Found:
    """One value of the Caffe net and what the file has for it."""

    value: str
    layer: str
    type: str
    shape: tuple[int, ...]
    output: bool
    how: str = NONE  # matched by its name, by its value, or not at all
    theirs: str = ""  # the value of the file; where nothing matches, the nearest one of that shape
    comparison: Comparison | None = None  # None: the file has nothing of that shape

    @property
    def differs(self) -> bool:
        """Whether the file has it by name, with other numbers."""
        return self.how == NAME and not self.comparison

    def __bool__(self) -> bool:
        return bool(self.how and self.comparison)


@dataclass
class OnnxReport:
    """True when every output of the net is in the file, and nothing that bears a blob's name differs.

    A blob inside the net that the file does not have (a tool may compute two layers as one) is told, and fails only
    where `every` asks for all blobs.
    """

    file: str
    net: str
    inputs: str
    tolerance: float
    every: bool = False
    rows: list[Found] = field(default_factory=list)

    def fails(self, row: Found) -> bool:
        """Whether a row alone makes the file another net."""
        return not row and (row.output or row.differs or self.every)

    def __bool__(self) -> bool:
        outputs = [row for row in self.rows if row.output]
        return bool(outputs) and not any(map(self.fails, self.rows))

    @property
    def first(self) -> Found | None:
        """The first blob, in the net's order, that differs or has no match."""
        return next((row for row in self.rows if not row), None)


def verify_onnx(
    path: Path,
    net: CaffeNet,
    *,
    images: list[Path] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    batch: int | None = None,
    tolerance: float = TOLERANCE,
    every: bool = False,
) -> OnnxReport:
    """Run an ONNX file with all its values and the float64 reference on the same input, and match them.

    `arrays` gives inputs by blob; else photographs (`images`) and random numbers. `batch` None: the file's own, or 1.
    Raises ExportError for a file that cannot be read, run or fed with the net's inputs.
    """
    model = read_model(path)
    _require_text(model, path)
    pairs = _pairs(model, net, path)
    sizes = [_batch(theirs) for theirs in pairs.values()]
    batch = batch or next((size for size in sizes if size), 1)
    inputs, told = net_inputs(net, images or [], batch)
    if arrays is not None:
        inputs, told = _given(net, arrays)
    found = file_values(model, path, {theirs.name: inputs[blob] for blob, theirs in pairs.items()})
    expected = run_reference(net.caffe, param_arrays(net), inputs)
    report = OnnxReport(str(path), net.caffe.name, told, tolerance, every)
    _match(report, net, found, expected, {value.name for value in model.graph.output})
    return report


def _require_text(model: onnx.ModelProto, path: Path) -> None:
    """Raise ExportError for names that are not UTF-8, which protobuf gives as bytes."""
    graph = model.graph
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    names += [value.name for value in (*graph.input, *graph.output)]
    if strange := next((name for name in names if isinstance(name, bytes)), None):
        raise ExportError(Problem(f"the name '{said(strange)}' is not UTF-8", "an ONNX model", file=path))


def _given(net: CaffeNet, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    names = [value.blob for value in net.caffe.inputs]
    with Problems(UsageError) as problems:
        for name in set(arrays) - set(names):
            problems.add(f"the net has no input '{name}'", fix=closest(name, names))
        for name in set(names) - set(arrays):
            problems.add(f"the input '{name}' is not given")
    inputs = {name: np.asarray(arrays[name], np.float32) for name in names}
    return inputs, "; ".join(f"{name} {show(inputs[name].shape)} given" for name in names)


def _pairs(model: onnx.ModelProto, net: CaffeNet, path: Path) -> dict[str, Any]:
    """Blob -> input of the file: by name, else in order; raises ExportError where they do not go together."""
    constants = {tensor.name for tensor in model.graph.initializer}
    theirs = [value for value in model.graph.input if value.name not in constants]
    ours = [value.blob for value in net.caffe.inputs]
    if {value.name for value in theirs} == set(ours):
        pairs = {value.name: value for value in theirs}
    elif len(theirs) == len(ours):
        pairs = dict(zip(ours, theirs, strict=True))
    else:
        found = f"inputs {', '.join(said(value.name) for value in theirs) or 'none'}"
        raise ExportError(Problem(found, f"the net's: {', '.join(ours)}", file=path))
    with Problems(ExportError, path) as problems:
        for value in net.caffe.inputs:
            other, shape = pairs[value.blob], value.shape or ()
            dims = [dim.dim_value for dim in other.type.tensor_type.shape.dim]
            fits = len(dims) == len(shape) and all(d in (0, n) for d, n in zip(dims[1:], shape[1:], strict=True))
            if other.type.tensor_type.HasField("shape") and not fits:
                text = f"the input '{said(other.name)}' has shape {'x'.join(str(d or '?') for d in dims)}"
                fix = (
                    "a file with channels last needs its input transposed"
                    if sorted(dims[1:]) == sorted(shape[1:])
                    else ""
                )
                problems.add(text, expected=f"{show(shape)}, of the net's '{value.blob}'", fix=fix)
            if other.type.tensor_type.elem_type not in TYPES:
                problems.add(f"the input '{said(other.name)}' is not of a floating type", expected="float32")
    return {blob: pairs[blob] for blob in ours}


def _batch(value: Any) -> int:
    """The first extent that an input of the file fixes; 0 where it is free."""
    dims = value.type.tensor_type.shape.dim
    return dims[0].dim_value if dims else 0


def file_values(model: onnx.ModelProto, path: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every floating value that the nodes of a model compute, in their order; raises ExportError.

    Optimisations are off and all values are outputs, so that ONNX Runtime joins no operators.
    """
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    have = {value.name for value in shown.graph.output}
    for node in shown.graph.node:
        for name in node.output:
            if name and name not in have:
                have.add(name)
                shown.graph.output.append(onnx.ValueInfoProto(name=name))
    types = {value.name: TYPES.get(value.type.tensor_type.elem_type, np.float32) for value in model.graph.input}
    runner = session_of_bytes(shown.SerializeToString(), path.parent, path)
    names = [name for node in shown.graph.node for name in node.output if name]
    names += [value.name for value in model.graph.output if value.name not in names]
    fed = {name: array.astype(types[name]) for name, array in inputs.items()}
    try:
        results = runner.run(names, fed)
    except Exception as cause:  # ONNX Runtime raises its own kinds, without a common base
        first = str(cause).strip().split("\n")[0]
        raise ExportError(Problem(f"ONNX Runtime cannot run it on these inputs: {first}", file=path)) from None
    pairs = zip(names, results, strict=True)
    return {name: array for name, array in pairs if isinstance(array, np.ndarray) and array.dtype.kind == "f"}


def _match(
    report: OnnxReport,
    net: CaffeNet,
    found: dict[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    given: set[str],
) -> None:
    """Enter a row for every value of the net, in its order.

    A value that is not there by name, or not with these numbers, is looked for by shape and numbers among those that
    the file computes no earlier than what the layer reads; an output, among the outputs that it gives.
    """
    place = {name: i for i, name in enumerate(found)}
    at: dict[str, int] = {value.name: -1 for value in net.caffe.inputs}
    outputs = {value.name for value in net.caffe.outputs}
    for node in net.caffe.nodes:
        if node.layer.kind == "data":
            continue
        after = max((at[value.name] for value in node.bottoms), default=-1)
        for value in node.tops:
            want = expected[value.name]
            row = Found(value.name, node.name, node.layer.type, want.shape, value.name in outputs)
            later = [name for name, i in place.items() if i >= after and (name in given or not row.output)]
            _look(row, found, want, report.tolerance, later)
            at[value.name] = place[row.theirs] if row else after
            report.rows.append(row)


def _look(row: Found, found: dict[str, np.ndarray], want: np.ndarray, tolerance: float, later: list[str]) -> None:
    if row.value in later:
        row.how, row.theirs = NAME, row.value
        row.comparison = compare(found[row.value], want, tolerance, row.value)
        if row.comparison:
            return
    alike = [name for name in later if _core(found[name].shape) == _core(want.shape) and name != row.value]
    compared = [(compare(found[name].reshape(want.shape), want, tolerance, row.value), name) for name in alike]
    best = min(compared, key=lambda pair: (not pair[0], bool(pair[0].note), pair[0].relative), default=None)
    first = next(((comparison, name) for comparison, name in compared if comparison), None)
    if first is not None:
        row.how, (row.comparison, row.theirs) = VALUE, first
    elif best is not None and not row.how:
        row.comparison, row.theirs = best


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its extents of 1, which tools add and leave out (2x64x1x1 and 2x64)."""
    return tuple(n for n in shape if n != 1)
