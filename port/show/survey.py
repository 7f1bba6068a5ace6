"""A net as far as it can be understood: every layer is listed, also those that nothing is known about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from prototxt_gen.base.errors import NetError, Problem
from prototxt_gen.schema import Parsed, is_repeated, read_tolerantly, upgrade_parsed
from prototxt_gen.schema.upgrade import V1_TYPES

from ..graph.build import draft_graph
from ..graph.count import Size, node_size, total
from ..graph.forks import kept_notes
from ..graph.graph import Graph, Node
from ..graph.state import PHASES, NetState
from ..layers import REGISTRY, Layer, Shape

UNKNOWN = "unknown"


@dataclass
class Entry:
    """One layer: what the file says, and what follows from it; None or "unknown" where nothing does."""

    name: str
    type: str
    bottoms: list[str]
    tops: list[str]
    shapes: list[Shape | None]  # of the tops
    kind: str = UNKNOWN
    size: Size | None = None
    has_blobs: bool = True
    settings: str = ""
    family: str = "other"  # how it is drawn
    hangs: bool = False


@dataclass
class Survey:
    """A net in one phase, with everything that is wrong with it."""

    name: str
    dialect: str
    reason: str
    phase: str
    file: str
    inputs: list[tuple[str, Shape | None]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def outputs(self) -> list[str]:
        """The blobs that no layer reads after they were last written, by name."""
        unread = {blob for blob, _ in self.inputs}
        for entry in self.entries:
            unread -= set(entry.bottoms)
            unread |= set(entry.tops)
        return sorted(unread)

    @property
    def size(self) -> Size:
        """The sum over the layers whose size is known."""
        return total(entry.size for entry in self.entries if entry.size is not None)


def survey_net(
    path: str | Path,
    phase: str = "TEST",
    dialect: str | None = None,
    input_shapes: Mapping[str, Shape] | None = None,
) -> Survey:
    """Survey a prototxt; a phase without layers gives way to the other. Raises ParseError for what is no net."""
    parsed, problems = read_tolerantly(path, "NetParameter", dialect)
    try:
        upgraded, notes = upgrade_parsed(parsed)
    except NetError as error:
        survey = Survey(parsed.message.name, parsed.dialect, parsed.reason, phase, str(path), _inputs(parsed.message))
        survey.problems = [*problems, *error.problems]
        survey.entries = [_old_entry(entry) for entry in [*parsed.message.layers, *parsed.message.layer]]
        return survey
    return survey_parsed(upgraded, phase, input_shapes, problems, notes)


def survey_parsed(
    parsed: Parsed,
    phase: str = "TEST",
    input_shapes: Mapping[str, Shape] | None = None,
    problems: list[Problem] | None = None,
    notes: list[str] | None = None,
) -> Survey:
    """Survey an upgraded net."""
    graph, found = draft_graph(parsed, NetState(phase), input_shapes=input_shapes)
    notes = list(notes or [])
    if not graph.net.layer and parsed.message.layer:
        other = PHASES[1 - PHASES.index(phase)]
        graph, found = draft_graph(parsed, NetState(other), input_shapes=input_shapes)
        notes.append(f"no layer is left in phase {phase}; this is phase {other}")
        phase = other
    survey = Survey(graph.name, parsed.dialect, parsed.reason, phase, parsed.file, notes=notes)
    survey.notes += kept_notes(graph)
    survey.inputs = [(v.blob, v.shape) for v in graph.inputs if not v.producer]
    survey.entries = _entries(graph)
    survey.problems = [*(problems or []), *found.found]
    return survey


def _entries(graph: Graph) -> list[Entry]:
    made = {id(node.message): node for node in graph.nodes}
    return [_entry(message, made.get(id(message))) for message in graph.net.layer]


def _entry(message: Any, node: Node | None) -> Entry:
    tops = list(message.top)
    entry = Entry(message.name, message.type, list(message.bottom), tops, [None] * len(tops))
    entry.settings = settings(message)
    if message.type in REGISTRY:
        cls = REGISTRY[message.type]
        entry.kind, entry.family, entry.hangs = cls.kind, cls.family, cls.hangs
        entry.has_blobs = cls.blobs is not Layer.blobs
    if node is not None:
        entry.tops, entry.shapes = [v.blob for v in node.tops], [v.shape for v in node.tops]
        if node.layer.kind == "data":
            entry.size = Size()
        elif all(value.shape is not None for value in (*node.bottoms, *node.tops)):
            entry.size = node_size(node)
    return entry


def _old_entry(message: Any) -> Entry:
    """An entry of a file that cannot be upgraded."""
    name, kind = message.name, message.type
    if message.DESCRIPTOR.name == "V1LayerParameter":
        old = message.layer
        name = old.name or name
        number = message.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[message.type]
        kind = old.type or V1_TYPES[number.name]
    return Entry(name, kind, list(message.bottom), list(message.top), [None] * len(message.top))


def _inputs(net: Any) -> list[tuple[str, Shape | None]]:
    shapes = [tuple(shape.dim) for shape in net.input_shape]
    return [(blob, shapes[i] if i < len(shapes) else None) for i, blob in enumerate(net.input)]


_SAID_ELSEWHERE = {"engine", "shape"}
_WINDOW = ("num_output", "kernel", "stride", "pad", "dilation", "group")


def settings(message: Any, most: int = 5) -> str:
    """What a layer's own message sets, in short: "64, 7x7, stride 2, pad 3" for a Convolution; whether it learns."""
    values: dict[str, str] = {}
    for block, child in message.ListFields():
        if block.type != FieldDescriptor.TYPE_MESSAGE or is_repeated(block) or block.name == "transform_param":
            continue
        for own, value in child.ListFields():
            if own.type != FieldDescriptor.TYPE_MESSAGE and own.name not in _SAID_ELSEWHERE:
                values[own.name] = _shown(own, value)
    words = _window_words(values) + [_word(name, value) for name, value in values.items()]
    if message.param and not any(entry.lr_mult for entry in message.param):
        words.insert(0, "fixed")
    return ", ".join(word for word in words[:most] if word) + (", ..." if len(words) > most else "")


def _shown(field: Any, value: Any) -> str:
    values = list(value) if is_repeated(field) else [value]
    if field.enum_type is not None:
        return " ".join(field.enum_type.values_by_number[v].name for v in values)
    return " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)


def _window_words(values: dict[str, str]) -> list[str]:
    """Takes the fields that describe a window out of `values`, and says them as people do."""
    words = []
    for name in _WINDOW:
        single = values.pop("kernel_size" if name == "kernel" else name, "")
        pair = [values.pop(f"{name}_{axis}", "") for axis in "hw"]
        text = "x".join(part or "0" for part in pair) if any(pair) else single.replace(" ", "x")
        if text and name == "kernel":
            words.append(text if "x" in text else f"{text}x{text}")
        elif text:
            words.append(text if name == "num_output" else f"{name} {text}")
    return words


def _word(name: str, value: str) -> str:
    if value in ("True", "False"):
        return ("" if value == "True" else "no ") + name.removesuffix("_term")
    return value if name in ("pool", "operation") else f"{name} {value}"
