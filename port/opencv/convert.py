"""A Caffe net as an ONNX file that OpenCV reads, and the proof that OpenCV computes the same with it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx

from prototxt_gen.base.errors import CaffeError, ExportError, Problem, WeightsError

from ..graph.graph import Graph, Node
from ..module import CaffeNet
from ..net import load_net, run_values
from ..onnx.export import MAX_BYTES, build_onnx
from .cache import Meaning, open_net

Arrays = dict[str, np.ndarray]

# Of a value's largest: OpenCV's Winograd convolutions are good for 1e-4; a layer that is read wrongly is off by
# more than a hundredth
TOLERANCE = 1e-3
FOUND = 0.9  # of our detections that OpenCV must have: scores that differ in the last bit change places


def convert(
    prototxt: Path,
    caffemodel: Path | None,
    shapes: Mapping[str, tuple[int, ...]],
    taps: tuple[str, ...],
    dialect: str | None,
    packs: tuple[str, ...],
) -> tuple[bytes, Meaning]:
    """A net for inputs of some shapes ({}: its own) as an ONNX file and what this means; raises CaffeError.

    `taps` names values that become outputs beside the net's.
    """
    net = load_net(
        prototxt,
        caffemodel,
        dialect=dialect,
        packs=packs,
        input_shapes={blob: tuple(shape) for blob, shape in shapes.items()} or None,
    )
    if caffemodel is None and any(node.specs for node in net.caffe.nodes):
        layers = ", ".join(node.name for node in net.caffe.nodes if node.specs)
        raise WeightsError(Problem("no caffemodel is given", f"the weights of {layers[:200]}", file=prototxt))
    meaning = meaning_of(net.caffe, taps)
    data = _written(net, meaning.outputs)
    if found := check(net, data, meaning.outputs):
        # the same net with every blob may show which layer it is
        every = meaning_of(net.caffe, "all").outputs
        raise ExportError(check(net, _written(net, every), every, constants=True) or found)
    return data, replace(meaning, read=_read(data))


def _written(net: CaffeNet, offered: Collection[str]) -> bytes:
    """The ONNX file with these values as outputs."""
    model = build_onnx(net, target="opencv", blobs="all")
    outputs = [value for value in model.graph.output if value.name in offered]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    _drop_unread(model)
    if model.ByteSize() > MAX_BYTES:
        raise ExportError(Problem(f"the model has {model.ByteSize():,} bytes", f"at most {MAX_BYTES:,}"))
    return model.SerializeToString()


def _drop_unread(model: onnx.ModelProto) -> None:
    """Leave out inputs of which the shape alone counts: OpenCV 4 stumbles over them."""
    used = {name for node in model.graph.node for name in node.input}
    inputs = [each for each in model.graph.input if each.name in used]
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def _read(data: bytes) -> list[str]:
    return [each.name for each in onnx.load_from_string(data).graph.input]


def _computing(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.layer.kind != "data"]


def meaning_of(graph: Graph, taps: str | Collection[str]) -> Meaning:
    """The names of a graph's conversion that offers these values beside its outputs ("all": every one)."""
    nodes = _computing(graph)
    made = [value for node in nodes for value in node.tops]
    last = [value for value in graph.outputs if value in made]
    return Meaning(
        inputs={value.blob: list(value.shape or ()) for value in graph.inputs},
        layers=[[node.name, node.layer.type, [value.name for value in node.tops]] for node in nodes],
        blobs={blob: value.name for blob, value in graph.blobs().items() if value in made},
        read=[],
        outputs=[value.name for value in made if taps == "all" or value in last or value.name in taps],
        ends=[node.name for node in nodes if any(value in last for value in node.tops)],
    )


def check(net: CaffeNet, data: bytes, offered: Collection[str], constants: bool = False) -> Problem | None:
    """What is wrong with a conversion in this OpenCV, on random inputs against PyTorch; None where nothing is.

    `constants`: OpenCV does not offer what depends on no input; such values are then passed over.
    """
    graph = net.caffe
    said = f"OpenCV {cv2.__version__}"
    inputs, wanted = _sample(net)
    reached = _follow_inputs(data) if constants else set()
    try:
        theirs = open_net(data)
        for blob in _read(data):
            theirs.setInput(inputs[blob], blob)
        for node in _computing(graph):
            for value in (each for each in node.tops if each.name in offered):
                if constants and value.name not in reached:
                    continue
                found = np.array(theirs.forward(value.name))
                if text := _difference(found, wanted[value.name], node):
                    return Problem(f"{said} computes it otherwise: {text}", file=graph.file, layer=node.name)
    except cv2.error as error:
        layer = _layer_of(str(error), graph) or (first_failing(graph, data, inputs) if constants else "")
        what = " ".join(str(error).split("error:")[-1].split())[-200:]
        return Problem(f"{said} cannot compute the net's ONNX form: {what}", file=graph.file, layer=layer)
    return None


def _follow_inputs(data: bytes) -> set[str]:
    """The values of an ONNX file that depend on an input: prior boxes are constants."""
    graph = onnx.load_from_string(data).graph
    reached = {value.name for value in graph.input}
    for node in graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
    return reached


def _sample(net: CaffeNet) -> tuple[Arrays, Arrays]:
    """Inputs that the net takes, and every value by PyTorch; raises NetError where it takes none of those tried."""
    for number, make in enumerate(_MAKERS):
        inputs = {value.blob: make(value.shape or ()) for value in net.caffe.inputs}
        try:
            values = run_values(net, inputs)
        except CaffeError:
            if number == len(_MAKERS) - 1:
                raise
            continue
        return inputs, {name: value.detach().numpy() for name, value in values.items()}
    raise AssertionError


def _noise(shape: tuple[int, ...]) -> np.ndarray:
    """Images as noise; other inputs as rising numbers, as regions and boxes are."""
    if len(shape) > 3 and max(shape[2:]) > 1:
        return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)
    return _rising(shape)


def _rising(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers from 0 to 1 that rise within each item; cut to integers they are label 0."""
    rows = np.random.default_rng(len(shape)).random((shape[0] if shape else 1, int(np.prod(shape[1:]))))
    return np.sort(rows, 1).astype(np.float32).reshape(shape)


def _zeros(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.float32)


_MAKERS = (_noise, _rising, _zeros)


def _difference(found: np.ndarray, wanted: np.ndarray, node: Node) -> str:
    """What makes two results differ, "" where nothing does."""
    if node.layer.detects:
        return _missing(found, wanted)
    if found.size != wanted.size:
        return f"shape {found.shape} instead of {wanted.shape}"
    found = found.reshape(wanted.shape)
    valued = np.isfinite(wanted)  # the logarithm of noise is not
    scale = float(np.abs(wanted).max(where=valued, initial=0)) or 1.0
    with np.errstate(invalid="ignore"):
        error = float(np.abs(found - wanted).max(where=valued, initial=0)) / scale
    return "" if error <= TOLERANCE else f"off by {error:.2g} of the largest value"


def _missing(found: np.ndarray, wanted: np.ndarray) -> str:
    """Detections are in an order of OpenCV's, and scores that are nearly equal change which are kept."""
    theirs, ours = found.reshape(-1, 7), wanted.reshape(-1, 7)
    ours = ours[ours[:, 2] > 0]
    near = [bool((np.abs(theirs - row).max(1, initial=0) <= TOLERANCE).any()) for row in ours]
    return "" if sum(near) >= FOUND * len(near) else f"{sum(near)} of {len(near)} detections found"


def first_failing(graph: Graph, data: bytes, inputs: Arrays) -> str:
    """The first layer up to which OpenCV cannot run an ONNX file with every blob, found by halving; "" for none."""
    whole, reached = onnx.load_from_string(data), _follow_inputs(data)
    ends = {name: i for i, node in enumerate(whole.graph.node) for name in node.output}
    nodes = [node for node in _computing(graph) if node.tops and node.tops[0].name in reached]
    low, high = 0, len(nodes)
    while low < high:
        middle = (low + high) // 2
        if _runs(whole, nodes[middle].tops[0].name, ends, inputs):
            low = middle + 1
        else:
            high = middle
    return nodes[low].name if low < len(nodes) else ""


def _runs(whole: onnx.ModelProto, value: str, ends: dict[str, int], inputs: Arrays) -> bool:
    """Whether OpenCV computes a value of a model from the nodes up to the one that makes it."""
    part = onnx.ModelProto()
    part.CopyFrom(whole)
    del part.graph.node[ends[value] + 1 :]
    outputs = [each for each in part.graph.output if each.name == value]
    del part.graph.output[:]
    part.graph.output.extend(outputs)
    _drop_unread(part)
    try:
        theirs = open_net(part.SerializeToString())
        for each in part.graph.input:
            theirs.setInput(inputs[each.name], each.name)
        theirs.forward(value)
    except cv2.error:
        return False
    return True


def _layer_of(text: str, graph: Graph) -> str:
    """The Caffe layer in a message of OpenCV's: nodes bear the layers' names."""
    names: dict[str, Any] = {node.name: node for node in graph.nodes}
    for found in re.findall(r"onnx_node!([^\s\"')]+)", text):
        while found:
            if found in names:
                return found
            found = found.rpartition("/")[0]
    return ""
