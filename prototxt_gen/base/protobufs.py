"""Which protobuf message a file is, by its first bytes: several kinds of file are one message and bear no signature.

The wire format has no names, so a message is told by which fields there are and by what they hold. Every rule asks
for more than the first field, since Caffe's own files begin like those of others: a solver state with an integer as
an ONNX model does, weights with a name as a TensorFlow graph does.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}
_MOST_FIELDS = 512  # more say no more about what the message is

_NODE_NAME = re.compile(r"[A-Za-z0-9.][\w.\\/>-]*", re.ASCII)
_OPERATION = re.compile(r"[A-Za-z_]\w*(>\w+)*", re.ASCII)

_Wires = Mapping[int, int | tuple[int, ...]]  # number of a field -> the wire types that it may have


class Entry(NamedTuple):
    """A field of a message: its number, wire type and value; not `whole` where the bytes end inside it."""

    number: int
    wire: int
    integer: int
    data: bytes
    whole: bool

    def inside(self) -> list[Entry]:
        """The fields of a message in this field; none where it holds no message."""
        return entries(self.data, self.whole) if self.wire == _LENGTH else []

    def text(self) -> str | None:
        """The field as a text that can be printed, blanks and line ends included; None for anything else."""
        if self.wire != _LENGTH:
            return None
        try:
            text = codecs.getincrementaldecoder("utf-8")().decode(self.data, final=self.whole)
        except UnicodeDecodeError:
            return None
        return text if re.sub(r"[\t\r\n]", " ", text).isprintable() else None


def entries(data: bytes, whole: bool = False) -> list[Entry]:
    """The fields of a message as far as its bytes go; none at all where one of them cannot be a field.

    Of a `whole` message none may be cut off.
    """
    found: list[Entry] = []
    at = 0
    while at < len(data) and len(found) < _MOST_FIELDS:
        tag, at, complete = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if not complete:
            return [] if whole else found
        if not number or number >= 1 << 29 or wire not in (_VARINT, _LENGTH, *_SIZES):
            return []
        integer = 0
        if wire in (_VARINT, _LENGTH):
            integer, at, complete = _varint(data, at)
        size = integer if wire == _LENGTH else _SIZES.get(wire, 0)
        found.append(Entry(number, wire, integer, data[at : at + size], complete and at + size <= len(data)))
        at += size
    return [] if whole and at > len(data) else found


def _varint(data: bytes, at: int) -> tuple[int, int, bool]:
    """The integer at a place, the place after it, and whether it is whole, not cut off by the end."""
    value = 0
    for shift, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, at + shift + 1, True
    return value, at + 10, at + 10 <= len(data)


def message(head: bytes) -> str:
    """The kind of file that begins with `head`, a key of `formats.FORMATS`; "" for a message not known here."""
    top = entries(head)
    return next((kind for kind, holds in _RULES.items() if holds(top)), "") if top else ""


def _fits(found: list[Entry], wires: _Wires) -> bool:
    """Whether every field is one of these, by number and wire type, and there is any."""
    known = {number: wire if isinstance(wire, tuple) else (wire,) for number, wire in wires.items()}
    return bool(found) and all(each.wire in known.get(each.number, ()) for each in found)


def _texts(found: list[Entry], *numbers: int) -> bool:
    return all(each.text() is not None for each in found if each.number in numbers)


def _some(found: list[Entry], number: int, holds: Callable[[list[Entry]], bool]) -> bool:
    """Whether the first field of this number is a message of which something holds."""
    first = next((each for each in found if each.number == number), None)
    return first is not None and holds(first.inside())


def _each(found: list[Entry], number: int, holds: Callable[[list[Entry]], bool]) -> bool:
    """Whether something holds of the first message with this number, and of all those that are not cut off."""
    held = [each for each in found if each.number == number]
    return bool(held) and all(holds(each.inside()) for i, each in enumerate(held) if each.whole or not i)


def _lengths(*numbers: int) -> dict[int, int]:
    return dict.fromkeys(numbers, _LENGTH)


def _onnx(top: list[Entry]) -> bool:
    """ModelProto: ir_version 1, producer 2 and 3, domain 4, model_version 5, doc 6, graph 7, opset_import 8."""
    version = next((each.integer for each in top if each.number == 1), 0)
    own = [each for each in top if each.number <= 8 or each.wire != _LENGTH]
    if not (0 < version < 100 and _fits(own, {1: _VARINT, 5: _VARINT, **_lengths(2, 3, 4, 6, 7, 8)})):
        return False
    return _texts(own, 2, 3, 4, 6) and (_some(own, 7, _onnx_graph) or _some(own, 8, _onnx_opset))


def _onnx_graph(graph: list[Entry]) -> bool:
    if not _fits(graph, _lengths(1, 2, 5, 10, 11, 12, 13, 14, 15, 16)) or not _texts(graph, 2, 10):
        return False
    return _some(graph, 1, _onnx_node) if graph[0].number == 1 else graph[0].number == 2


def _onnx_node(node: list[Entry]) -> bool:
    if not _fits(node, _lengths(*range(1, 11))) or not _texts(node, 1, 2, 3, 4, 6, 7):
        return False
    return not node[-1].whole or any(each.number == 4 for each in node)


def _onnx_opset(opset: list[Entry]) -> bool:
    return _fits(opset, {1: _LENGTH, 2: _VARINT}) and _texts(opset, 1)


def _coreml(top: list[Entry]) -> bool:
    """Model: specificationVersion 1, then description 2, which has its inputs and outputs in 1 and 10."""
    if len(top) < 2 or [each.number for each in top[:2]] != [1, 2] or not 0 < top[0].integer < 100:
        return False
    description = top[1].inside()
    ends = [each for each in description if each.number in (1, 10)]
    known = _fits(description, _lengths(1, 7, 10, 11, 12, 13, 20, 21, 50, 100))
    return known and ends != [] and all(_coreml_feature(each) for each in ends)


def _coreml_feature(entry: Entry) -> bool:
    feature = entry.inside()
    if not _fits(feature, _lengths(1, 2, 3)) or not _texts(feature, 1, 2):
        return False
    # The name and the type; of a feature that is cut off the name alone.
    return feature[0].number == 1 and (feature[-1].number == 3 or not entry.whole)


def _saved_model(top: list[Entry]) -> bool:
    """SavedModel: version 1 in field 1, then a MetaGraphDef, which begins with its MetaInfoDef."""
    if len(top) < 2 or (top[0].number, top[0].wire, top[0].integer, top[1].number) != (1, _VARINT, 1, 2):
        return False
    graph = top[1].inside()
    return bool(graph) and graph[0].number == 1 and _fits(graph, _lengths(*range(1, 9))) and _meta_info(graph[0])


def _meta_info(entry: Entry) -> bool:
    info = entry.inside()
    if not _fits(info, {7: _VARINT, **_lengths(1, 2, 3, 4, 5, 6, 8)}) or not _texts(info, 1, 4, 5, 6):
        return False
    return any(each.number in (4, 5) for each in info) or _some(info, 2, _operations)


def _operations(listed: list[Entry]) -> bool:
    """OpList: the operations that a graph uses, each with its name in front."""
    return _fits(listed, _lengths(1)) and _each(listed, 1, lambda each: bool(each) and _is(each[0], 1, _OPERATION))


def _tensorflow_graph(top: list[Entry]) -> bool:
    """GraphDef: nodes 1, library 2, versions 3 and 4; a node has its name in 1 and its operation in 2."""
    if not _fits(top, {3: _VARINT, **_lengths(1, 2, 4)}) or top[0].number != 1:
        return False
    return _each(top, 1, _tensorflow_node)


def _tensorflow_node(node: list[Entry]) -> bool:
    if len(node) < 2 or not _fits(node, _lengths(*range(1, 8))):
        return False
    return _is(node[0], 1, _NODE_NAME) and _is(node[1], 2, _OPERATION)


def _is(entry: Entry, number: int, pattern: re.Pattern[str]) -> bool:
    text = entry.text() if entry.number == number else None
    return text is not None and pattern.fullmatch(text) is not None


def _caffemodel(top: list[Entry]) -> bool:
    """NetParameter: name 1, old layers 2, input 3, dimensions 4 and 8, layers 100; with at least one layer."""
    number = (_VARINT, _LENGTH)
    wires: _Wires = {4: number, 5: _VARINT, 7: _VARINT, 200: _LENGTH, **_lengths(1, 2, 3, 6, 8, 100)}
    if not _fits(top, wires) or not _texts(top, 1, 3):
        return False
    return _some(top, 100, lambda layer: _texts(layer, 1, 2)) or _some(top, 2, lambda layer: _texts(layer, 2, 3, 4))


def _solver_state(top: list[Entry]) -> bool:
    """SolverState: iter 1, learned_net 2, history 3, current_step 4."""
    wires = {1: _VARINT, 4: _VARINT, **_lengths(2, 3)}
    numbers = {each.number for each in top}
    if not _fits(top, wires) or top[0].number != 1 or not _texts(top, 2):
        return False
    if any(".caffemodel" in (each.text() or "") for each in top if each.number == 2):
        return True
    return _some(top, 3, _blob) if 3 in numbers else 4 in numbers


def _blob(blob: list[Entry]) -> bool:
    """BlobProto: its size in 1 to 4, or its shape in 7; its values in 5 or 8, their gradients in 6 or 9."""
    singles, doubles = (_FIXED32, _LENGTH), (_FIXED64, _LENGTH)
    sizes = dict.fromkeys((1, 2, 3, 4), _VARINT)
    if not _fits(blob, {**sizes, 5: singles, 6: singles, 7: _LENGTH, 8: doubles, 9: doubles}):
        return False
    numbers = [each.number for each in blob]
    values = [each for each in blob if each.number in (5, 8)]
    # An ONNX tensor has its dimensions in 1, several times, and its name in 8.
    once = all(numbers.count(number) <= 1 for number in sizes)
    packed = all(each.integer % (4 if each.number == 5 else 8) == 0 for each in values if each.wire == _LENGTH)
    return once and packed and (values != [] or sizes.keys() <= set(numbers))


# In this order; those of others first, whose rules ask for more.
_RULES: dict[str, Callable[[list[Entry]], bool]] = {
    "onnx": _onnx,
    "coreml": _coreml,
    "saved model": _saved_model,
    "tensorflow graph": _tensorflow_graph,
    "caffemodel": _caffemodel,
    "solver state": _solver_state,
    "blob": _blob,
}
