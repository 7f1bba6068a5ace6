"""ONNX files of anybody's: read with our own errors, without their external data, and described."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from prototxt_gen.base.columns import columns, fold
from prototxt_gen.base.errors import ExportError, Problem
from prototxt_gen.base.files import read_bytes
from prototxt_gen.base.formats import HEAD, refusal


def read_model(path: str | Path) -> onnx.ModelProto:
    """An ONNX model as its file has it, without the external data it may name; raises ExportError.

    Nothing is believed: what is damaged, or is another kind of file, is named.
    """
    data = read_bytes(path, ExportError)
    if other := refusal(data[:HEAD], "an ONNX model", path, own={"onnx"}):
        raise ExportError(other)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise ExportError(Problem("is no ONNX model, or a damaged one", file=path)) from None
    if not model.graph.node and not model.graph.output:
        raise ExportError(Problem("has no graph", "an ONNX model", file=path))
    return model


def said(text: str | bytes) -> str:
    """A name as a line shows it, whole; what is not printable, or not even text, is escaped."""
    text = text.decode(errors="backslashreplace") if isinstance(text, bytes) else text
    return text if text.isprintable() else repr(text)[1:-1]


def describe_onnx(path: Path, width: int | None = None) -> str:
    """An ONNX file as text: provenance, inputs, outputs, operators with their number, constants and their bytes."""
    model = read_model(path)
    graph = model.graph
    opsets = ", ".join(f"{said(o.domain) or 'ai.onnx'} {o.version}" for o in model.opset_import)
    producer = f"{said(model.producer_name)} {said(model.producer_version)}".strip()
    lines = [f"ONNX model '{said(graph.name)}', opset {opsets}, IR {model.ir_version}, by {producer or 'unknown'}"]
    facts = [(said(entry.key), said(entry.value)) for entry in model.metadata_props]
    lines += fold_rows([("metadata", ""), *facts], width) if facts else ["no metadata: nothing says where it came from"]
    constants = {tensor.name for tensor in graph.initializer}
    rows: list[tuple[str, ...]] = [("", "name", "type", "shape")]
    rows += [("input", *_value(value)) for value in graph.input if value.name not in constants]
    rows += [("output", *_value(value)) for value in graph.output]
    lines += columns(rows)
    kinds = Counter((node.domain and f"{said(node.domain)}.") + said(node.op_type) for node in graph.node)
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items(), key=lambda k: (-k[1], k[0])))
    lines += fold(f"{len(graph.node)} operators: {counts}", width, 2)
    lines.append(_constants(graph, path))
    return "\n".join(lines)


def fold_rows(rows: list[tuple[str, str]], width: int | None) -> list[str]:
    """Two columns, each row folded to the width."""
    return [line for row in columns(rows) for line in fold(row, width, 4)]


def _value(value: Any) -> tuple[str, str, str]:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return said(value.name), "no tensor", "?"
    dims = [said(dim.dim_param) or (str(dim.dim_value) if dim.HasField("dim_value") else "?") for dim in kind.shape.dim]
    shape = ("x".join(dims) or "()") if kind.HasField("shape") else "?"
    return said(value.name), _type(kind.elem_type), shape


def _type(number: int) -> str:
    try:
        return helper.tensor_dtype_to_string(number).removeprefix("TensorProto.").lower()
    except (KeyError, ValueError):
        return f"type {number}"


def _constants(graph: Any, path: Path) -> str:
    values = [_count(tensor.dims) for tensor in graph.initializer]
    apart = {entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"}
    text = f"{len(values)} constants, {sum(values):,} values; {path.stat().st_size:,} bytes"
    for name in sorted(map(said, apart)):
        plain = not Path(name).is_absolute() and ".." not in Path(name).parts
        size = (
            f"{(path.parent / name).stat().st_size:,} bytes" if plain and _is_file(path.parent / name) else "not there"
        )
        text += f"; external data in {name}, {size}"
    return text


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no system takes
        return False


def _count(dims: Any) -> int:
    return prod(max(0, dim) for dim in dims)
