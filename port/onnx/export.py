"""ONNX export: one value per blob under Caffe's name, one group of nodes per layer, a free batch size."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from prototxt_gen.base.errors import ExportError, Problem, Problems, UsageError
from prototxt_gen.base.files import atomic_write

from ..graph.graph import Graph, Node, Value
from ..layers import Misfit, show
from ..module import CaffeNet
from ..net import params, require_layers
from ..weights.sources import provenance
from .apart import Apart, write_pair
from .builder import OnnxGraph
from .heads import cut_at, needed_for, without_detections

OPSETS = range(11, 27)  # below 11 Pad and Clip have other forms; above 26 ONNX Runtime 1.31 refuses
DEFAULT_OPSET = 17  # what OpenCV 4 and older runtimes read as well
MAX_IR = 13
MAX_BYTES = 2**31 - 1  # protobuf's limit
BATCH = "N"

Axes = dict[str, tuple[int, ...]]


def free_axes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Value name -> axes that grow with the batch (axis 0 of every input), or nothing where the net fixes it.

    Found by working out all shapes at another batch size: what changes is free. A net whose layers refuse
    the other batch, or do not scale with it, has a fixed batch.
    """
    fixed = any(node.layer.fixed_batch for node in graph.nodes)
    shapes = None if fixed else _shapes_at(graph, 2)
    if shapes is None:
        return {}
    free = {}
    for value in graph.values:
        old, new = value.shape or (), shapes[value.name]
        if len(old) != len(new) or any(n not in (o, 2 * o) for o, n in zip(old, new, strict=True)):
            return {}
        free[value.name] = tuple(i for i, (o, n) in enumerate(zip(old, new, strict=True)) if n != o)
    return free


def selected_axes(graph: Graph) -> dict[str, dict[int, str]]:
    """Value name -> axis -> the layer that decides its extent by the values of its bottoms (Filter), "" for several.

    Found as free axes are: by working out all shapes with another number of items behind each such layer.
    """
    found: dict[str, dict[int, str]] = {}
    for node in graph.nodes:
        if not node.layer.selects:
            continue
        shapes = _shapes_at(graph, 1, node)
        if shapes is None:
            fix = "put the layers that need a fixed number of items before it"
            found_text = f"what is behind {node.layer.type} fits one number of items alone"
            raise ExportError(Problem(found_text, fix=fix, file=graph.file, line=node.line, layer=node.name))
        for value in graph.values:
            for axis, (old, new) in enumerate(zip(value.shape or (), shapes[value.name], strict=True)):
                if old != new:
                    axes = found.setdefault(value.name, {})
                    axes[axis] = node.name if axis not in axes else ""
    return found


def _shapes_at(graph: Graph, factor: int, selecting: Node | None = None) -> dict[str, tuple[int, ...]] | None:
    """All shapes with every input's first extent multiplied, and one item more behind a selecting layer; None where a
    layer refuses."""
    if any(not v.shape for v in graph.inputs):
        return None
    shapes = {v.name: (v.shape[0] * factor, *v.shape[1:]) for v in graph.inputs if v.shape}
    try:
        for node in graph.nodes:
            if node.layer.kind == "data":
                continue
            bottoms = [shapes[v.name] for v in node.bottoms]
            if [s.shape for s in node.layer.blobs(*bottoms)] != [s.shape for s in node.specs]:
                return None
            tops = node.layer.top_shapes(*bottoms)
            if node is selecting:
                at = node.layer.selected_axis
                tops = tuple((*top[:at], top[at] + 1, *top[at + 1 :]) for top in tops)
            shapes |= {v.name: s for v, s in zip(node.tops, tops, strict=True)}
    except Misfit:
        return None
    return shapes


def _info(value: Value, free: Axes, selected: dict[str, dict[int, str]], unit: int) -> onnx.ValueInfoProto:
    dims: list[Any] = list(value.shape or ())
    for axis, layer in selected.get(value.name, {}).items():
        dims[axis] = f"items of {layer}" if layer and axis == 0 else None
    for axis in free.get(value.name, ()):
        if axis in selected.get(value.name, {}):
            continue
        per = dims[axis] // unit
        dims[axis] = BATCH if dims[axis] == unit else f"{per}*{BATCH}" if dims[axis] % unit == 0 else None
    return helper.make_tensor_value_info(value.name, TensorProto.FLOAT, dims)


def _require_values(graph: Graph) -> None:
    """Raise ExportError for blobs without values, on which runtimes differ, and for those without a name."""
    with Problems(ExportError, graph.file) as problems:
        for value in graph.values:
            if not value.blob:
                problems.add("a blob whose name is empty", expected="a name, in ONNX", layer=value.producer)
            if 0 in (value.shape or ()):
                found = f"the blob '{value.blob}' of shape {show(value.shape or ())} holds no values"
                problems.add(found, expected="extents of 1 or more in ONNX", layer=value.producer)


def build_onnx(
    net: CaffeNet,
    *,
    opset: int = DEFAULT_OPSET,
    blobs: str | Collection[str] = "outputs",
    raw_heads: bool = False,
    target: str = "",
    outputs: Sequence[str] = (),
    cut: Sequence[str] = (),
    apart: Apart | None = None,
) -> onnx.ModelProto:
    """The net as an ONNX model, unchecked; raises ExportError with every layer that ONNX cannot express.

    `blobs` may also be names of values that become outputs beside the net's. `target="opencv"` writes what OpenCV
    reads: its own layers where it lacks ONNX's operators, and the net's own batch size. `outputs` and `cut` as in
    `export_onnx`; `apart` takes large constants, which then do not stand in the model.
    """
    if opset not in OPSETS:
        raise UsageError(f"opset {opset}; expected {OPSETS.start} to {OPSETS.stop - 1}")
    if isinstance(blobs, str) and blobs not in ("outputs", "all"):
        raise UsageError(f"blobs='{blobs}'; expected 'outputs' or 'all'")
    graph, names = _part(net.caffe, raw_heads, outputs, cut)
    _require_values(graph)
    # OpenCV 4's reader gives wrong numbers for other batches than a file's own
    free, selected = {} if target == "opencv" else free_axes(graph), selected_axes(graph)
    varying = {name: tuple(sorted({*free.get(name, ()), *selected.get(name, ())})) for name in {*free, *selected}}
    builder = OnnxGraph(graph, _held(net), varying, opset, selected=frozenset(selected), target=target)
    builder.apart = apart
    _write_layers(builder, graph)
    unit = next((v.shape[0] for v in graph.inputs if v.shape), 1) or 1
    inputs = [_info(v, free, selected, unit) for v in graph.inputs]
    made = {v.name: v for node in graph.nodes if node.layer.kind != "data" for v in node.tops}
    names = names or [v.name for v in graph.outputs]
    names += [] if isinstance(blobs, str) else [name for name in made if name in blobs and name not in names]
    wanted = list(made.values()) if blobs == "all" else [made[name] for name in names if name in made]
    rest = [v for v in made.values() if v not in wanted]
    body = helper.make_graph(
        builder.nodes,
        graph.name or "net",
        inputs,
        [_info(v, free, selected, unit) for v in wanted],
        list(builder.initializers.values()),
        value_info=[_info(v, free, selected, unit) for v in rest],
    )
    return _model(body, opset, provenance(net, "torch", "onnx") | {"opset": str(opset)})


def _part(graph: Graph, raw_heads: bool, outputs: Sequence[str], cut: Sequence[str]) -> tuple[Graph, list[str]]:
    """The part of a net that is wanted, and the outputs that were named; raises ExportError where nothing computes."""
    graph = without_detections(graph) if raw_heads else graph
    graph = cut_at(graph, cut) if cut else graph
    graph, names = needed_for(graph, outputs) if outputs else (graph, [])
    if all(node.layer.kind == "data" for node in graph.nodes):
        found = "the net computes nothing: it has data layers alone" if graph.nodes else "the net has no layer"
        raise ExportError(Problem(found, "layers that compute", "try the other phase", file=graph.file))
    return graph, names


def _held(net: CaffeNet) -> dict[str, list[np.ndarray]]:
    """Layer -> its blobs as arrays that are only read: no copies, of what may be several GiB; raises NetError."""
    require_layers(net)
    return {name: [blob.detach().cpu().numpy() for blob in blobs] for name, blobs in params(net).items()}


def _write_layers(builder: OnnxGraph, graph: Graph) -> None:
    """Every layer by its rule; raises ExportError with all that cannot be expressed."""
    with Problems(ExportError, graph.file) as problems:
        for node in graph.nodes:
            if node.layer.kind == "data":
                continue
            builder.begin(node)
            try:
                builder.finish(node.layer.onnx(builder, *(v.name for v in node.bottoms)))
            except Misfit as misfit:
                problems.add(**misfit.parts, layer=node.name, line=node.line)


def _model(body: onnx.GraphProto, opset: int, facts: dict[str, str]) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", opset)]
    ir = min(helper.find_min_ir_version_for(opsets), MAX_IR)
    model = helper.make_model(body, opset_imports=opsets, ir_version=ir, producer_name="caffe-srn")
    helper.set_model_props(model, facts)
    return model


def checked_bytes(model: onnx.ModelProto, file: str | Path = "") -> bytes:
    """A model as bytes that the checker passes with full shape inference; raises ExportError."""
    if model.ByteSize() > MAX_BYTES:
        found = f"the model has {model.ByteSize():,} bytes"
        fix = "write it with `export_onnx`, which puts large constants into a file beside it"
        raise ExportError(Problem(found, f"at most {MAX_BYTES:,} (2 GiB - 1)", fix, file=file))
    data = model.SerializeToString()
    try:
        onnx.checker.check_model(data, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(Problem(f"the ONNX checker refuses the model: {error}", file=file)) from None
    return data


def export_onnx(
    net: CaffeNet,
    path: str | Path,
    *,
    opset: int = DEFAULT_OPSET,
    blobs: str = "outputs",
    raw_heads: bool = False,
    outputs: Sequence[str] = (),
    cut: Sequence[str] = (),
) -> None:
    """Write the net as an ONNX file; `blobs="all"` makes every blob an output, for checking.

    `raw_heads` leaves out the layers that make detections (DetectionOutput), so that what they read becomes outputs:
    predictions of boxes, scores, prior boxes. `outputs` names the blobs that become outputs, and leaves out what they
    do not need; `cut` the blobs at which the net ends. The batch size is free wherever the net's layers allow it. More
    than protobuf's 2 GiB go into two files: the second, PATH.data, has the large constants. Raises ExportError with
    every layer that ONNX cannot express.
    """
    wanted: dict[str, Any] = {"opset": opset, "blobs": blobs, "raw_heads": raw_heads, "outputs": outputs, "cut": cut}
    kept = {node.name for node in _part(net.caffe, raw_heads, outputs, cut)[0].nodes}
    if sum(blob.nbytes for name, held in params(net).items() if name in kept for blob in held) <= MAX_BYTES:
        model = build_onnx(net, **wanted)
        if model.ByteSize() <= MAX_BYTES:
            data = checked_bytes(model, path)
            del model
            with atomic_write(path) as file:
                file.write(data)
            return
    apart = Apart(f"{Path(path).name}.data")
    write_pair(path, build_onnx(net, **wanted, apart=apart), apart)
