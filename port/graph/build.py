"""Builds the graph of a net file (Net::Init): connections, shapes, and all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from prototxt_gen.base.errors import CaffeError, NetError, Problems, closest
from prototxt_gen.schema.dialect import is_shared
from prototxt_gen.schema.habits import habits
from prototxt_gen.schema.text import Parsed, read_prototxt
from prototxt_gen.schema.upgrade import upgrade_parsed

from ..layers import REGISTRY, Context, Layer, Misfit, Shape, make_layer, show
from ..layers.base import VARIANTS, as_shape, dialects
from ..layers.making import layer_class
from .filling import check_fillers
from .forks import keep_settings, unknown_type
from .graph import Graph, Node, Value, name_values
from .memory import share_memory
from .sharing import check_params
from .sizes import require_parameters, require_sizes
from .state import NetState, kept_layers, phase_name, rules_of
from .stored import Stored

Ask = Callable[[], Stored]  # what a weights file tells, once somebody needs to know


def load_graph(
    prototxt, *, phase="TEST", stages=(), level=0, dialect=None, faithful_bugs=False, input_shapes=None, stored=None
) -> Graph:
    """Read a net file into a graph; raises ParseError or NetError with everything that is wrong."""
    parsed = prototxt if isinstance(prototxt, Parsed) else read_prototxt(Path(prototxt), dialect=dialect)
    return build_graph(parsed, NetState(phase, level, tuple(stages)), faithful_bugs, input_shapes, stored)


def build_graph(
    parsed: Parsed,
    state: NetState,
    faithful_bugs: bool = False,
    input_shapes: Mapping[str, Shape] | None = None,
    stored: Ask | None = None,
) -> Graph:
    """The graph of a parsed net in a state (Net::Init); raises NetError with all problems at once.

    `input_shapes` gives or replaces shapes of inputs and of data layers' tops, by blob name. Stages in the
    file's own `state` count as given, its phase does not, its level in the fork alone. With `faithful_bugs` the
    graph has a node for every blob that Caffe changes behind its back. `stored` tells how many blobs a weights file
    has for each layer, and of which fork it is; it is asked only where forks use one name for several types.
    """
    graph, problems = draft_graph(parsed, state, faithful_bugs, input_shapes, stored)
    problems.raise_if_any()
    return graph


def draft_graph(
    parsed: Parsed,
    state: NetState,
    faithful_bugs: bool = False,
    input_shapes: Mapping[str, Shape] | None = None,
    stored: Ask | None = None,
) -> tuple[Graph, Problems]:
    """As much of the graph as can be built, and what is wrong: without the layers that could not be made.

    Raises NetError only where an old format cannot be upgraded.
    """
    problems = Problems(NetError, parsed.file)
    parsed, _ = upgrade_parsed(parsed)
    message, lines = parsed.message, parsed.lines
    level = state.level or (message.state.level if habits(parsed.dialect).file_sets_level else 0)
    state = NetState(state.phase, level, (*message.state.stage, *state.stages))
    kept = kept_layers(message, state, problems, lines)
    net = type(message)()
    net.CopyFrom(message)
    del net.layer[:]
    net.layer.extend(message.layer[i] for i in kept)
    graph = Graph(net.name, parsed.dialect, parsed.reason, state, parsed.file, net, faithful_bugs, dict(parsed.packs))
    builder = _Builder(graph, problems, [lines[i] for i in kept], dict(input_shapes or {}))
    builder.stored = stored and cache(stored)
    builder.left_out = {top: layer for i, layer in enumerate(message.layer) if i not in kept for top in layer.top}
    builder.build()
    return graph, problems


class _Builder:
    """Connects layers and works out shapes; every complaint goes to `problems` with its place."""

    def __init__(
        self,
        graph: Graph,
        problems: Problems,
        lines: list[int],
        given: dict[str, Shape],
    ):
        self.graph, self.problems, self.lines, self.given = graph, problems, lines, given
        self.current: dict[str, Value] = {}
        self.left_out: dict[str, Any] = {}  # blobs of layers that the state leaves out -> those layers
        self.stored: Ask | None = None
        self.broken: set[str] = set()  # blobs of layers that could not be made: no follow-up complaints

    def build(self) -> None:
        if all(layer.type == "Input" for layer in self.graph.net.layer):
            self.problems.add(
                f"no layer is left in phase {self.graph.state.phase}",
                fix="try the other phase, or other stages",
            )
        keep_settings(self.graph, self.graph.net, self.problems, {})
        self._net_inputs()
        for layer, line in zip(self.graph.net.layer, self.lines, strict=True):
            self._add_layer(layer, line)
        if self.graph.faithful_bugs:
            share_memory(self.graph)
        name_values(self.graph)
        for blob in set(self.given) - {value.blob for value in self.graph.inputs} - self.broken:
            fix = closest(blob, {value.blob for value in self.graph.inputs})
            self.problems.add(f"a shape is given for '{blob}', which is no input", fix=fix)
        check_params(self.graph.nodes, self.graph.habits, self.problems)
        check_fillers(self.graph.nodes, self.graph.dialect, self.problems)

    def _net_inputs(self) -> None:
        net = self.graph.net
        dims = [tuple(net.input_dim[i : i + 4]) for i in range(0, len(net.input_dim), 4)]
        shapes = [as_shape(s) for s in net.input_shape] or dims
        if net.input_shape and net.input_dim and not self.graph.habits.shapes_win_over_dims:
            self.problems.add("both input_shape and input_dim", expected="one of the two", field="input_dim")
        if len(shapes) != len(net.input) or len(net.input_dim) % 4:
            shaped = f"{len(net.input_dim)} input_dim" if len(net.input_dim) % 4 else f"{len(shapes)} shapes"
            self.problems.add(
                f"{len(net.input)} inputs and {shaped}",
                expected="one input_shape, or four input_dim, for each input",
                field="input_shape",
            )
        for i, blob in enumerate(net.input):
            shape = self.given.get(blob, shapes[i] if i < len(shapes) else None)
            if blob in net.input[:i]:
                self.problems.add(f"the input '{blob}' stands there twice", fix="give one another name", field="input")
                continue
            try:
                require_sizes([shape or ()], self.graph.dialect, f"the input '{blob}' has the shape")
            except Misfit as misfit:
                self.problems.add(**misfit.parts)
                shape = None
            self.graph.inputs.append(self._new_value(blob, "", shape))

    def _new_value(self, blob: str, producer: str, shape: Shape | None) -> Value:
        value = Value(blob, producer, shape)
        self.current[blob] = value
        self.graph.values.append(value)
        return value

    def _add_layer(self, message: Any, line: int) -> None:
        place = {"layer": message.name, "line": line}
        bottoms = self._bottoms(message, place)
        layer = self._layer(message, place, bottoms or [])
        if layer is None or bottoms is None or not self._tops_fit(message, place):
            self.broken.update(message.top)
            for blob in message.top:
                self.current.setdefault(blob, Value(blob, message.name))
            return
        shapes, specs = self._shapes(message, layer, bottoms, place)
        for value in bottoms:
            value.consumers += 1
        names = list(message.top) or [self._automatic(message.name)] * len(shapes or ())
        tops = [self._new_value(blob, message.name, shapes[i] if shapes else None) for i, blob in enumerate(names)]
        for i, value in enumerate(tops):
            value.loss_weight = _loss_weight(message, layer, i)
            value.explicit_weight = i < len(message.loss_weight) and value.loss_weight != 0
        self._counts_fit(message, len(bottoms), len(tops), place)
        if specs and any(node.specs and node.name == message.name for node in self.graph.nodes):
            found = "another layer with parameters has this name, so no weights file could tell them apart"
            self.problems.add(found, fix="give it another name", field="name", **place)
        node = Node(message.name, layer, bottoms, tops, message, line, specs)
        if layer.kind == "data":
            self.graph.inputs.extend(tops)
        self.graph.nodes.append(node)

    def _automatic(self, layer: str) -> str:
        """Caffe's name for the top of a loss that names none; Caffe lets several bear it."""
        return "(automatic)" if "(automatic)" not in self.current else f"(automatic)@{layer}"

    def _bottoms(self, message: Any, place: dict) -> list[Value] | None:
        missing = [blob for blob in message.bottom if blob not in self.current]
        for blob in missing:
            found, fix = f"the bottom '{blob}' is not made by any earlier layer", ""
            if blob in self.left_out:
                layer = self.left_out[blob]
                found += f"; layer '{layer.name}' would make it, but is left out in {self.graph.state}"
                fix = f"its rules: {rules_of(layer)}"
            elif self.current:
                fix = closest(blob, self.current)
            self.problems.add(found, fix=fix, field="bottom", **place)
        if missing or self.broken.intersection(message.bottom):
            return None
        return [self.current[blob] for blob in message.bottom]

    def _layer(self, message: Any, place: dict, bottoms: list[Value]) -> Layer | None:
        if message.type not in REGISTRY:
            unknown_type(message.type, self.problems, place)
            return None
        phase = phase_name(message.phase) if message.HasField("phase") else self.graph.state.phase
        tops = len(message.top) or (1 if REGISTRY[message.type].kind == "loss" else 0)
        in_place = any(b == t for b, t in zip(message.bottom, message.top, strict=False))
        count = len(message.bottom)
        bugs, packs = self.graph.faithful_bugs, frozenset(self.graph.packs)
        told = self.stored() if self.stored and message.type in VARIANTS else Stored()
        self.graph.packs |= dict.fromkeys(told.packs - packs, "the weights file has its field numbers")
        packs, stored = packs | told.packs, told.counts.get(message.name)
        here = (message.name, phase, self.graph.dialect, count, tops, bugs, in_place, packs, stored)
        context = Context(*here, tuple(message.top))
        only = dialects(layer_class(message, context))
        if only and self.graph.dialect not in only and not is_shared(message.type):
            found = f"the layer type '{message.type}' does not exist in the dialect '{self.graph.dialect}'"
            fix = f"declare the dialect '{only[0]}' (this one: {self.graph.reason})"
            self.problems.add(found, fix=fix, **place)
            return None
        keep_settings(self.graph, message, self.problems, place)
        try:
            return make_layer(message, context).in_net(bottoms, self.graph.nodes)
        except Misfit as misfit:
            self.problems.add(**misfit.parts, **place)
            return None

    def _tops_fit(self, message: Any, place: dict) -> bool:
        """In place means: the same name as the bottom at the same position, which nobody else has read."""
        fits = True
        for i, blob in enumerate(message.top):
            in_place = i < len(message.bottom) and message.bottom[i] == blob
            if blob in message.top[:i] or (blob in self.current and not in_place):
                maker = self.current[blob].producer if blob in self.current else message.name
                found = f"the top '{blob}' is already made by layer '{maker or 'input'}'"
                self.problems.add(found, fix="give it another name", field="top", **place)
                fits = False
            elif in_place and self.current[blob].explicit_weight:
                maker = self.current[blob].producer
                found = f"'{blob}' is overwritten in place, and layer '{maker}' gives it a loss_weight"
                fix = "give the top another name: Caffe splits such a blob, and takes this one for a second of its name"
                self.problems.add(found, fix=fix, field="top", **place)
                fits = False
            elif in_place and self.current[blob].consumers:
                found = f"'{blob}' is overwritten in place after another layer has read it"
                self.problems.add(found, fix="give the top another name", field="top", **place)
                fits = False
        return fits

    def _counts_fit(self, message: Any, bottoms: int, tops: int, place: dict) -> None:
        for name, values, wanted in (
            ("propagate_down", message.propagate_down, bottoms),
            ("loss_weight", message.loss_weight, tops),
        ):
            if len(values) not in (0, wanted):
                what = "bottom" if name == "propagate_down" else "top"
                self.problems.add(f"{len(values)} values", expected=f"{wanted}, one per {what}", field=name, **place)

    def _shapes(self, message: Any, layer: Layer, bottoms: list[Value], place: dict):
        shapes = [v.shape for v in bottoms if v.shape is not None]
        if len(shapes) < len(bottoms):
            return None, []
        if layer.kind == "data":
            return self._data_shapes(message, layer, place), []
        try:
            extents, specs = layer.top_shapes(*shapes), layer.blobs(*shapes)
            require_sizes(extents, self.graph.dialect)
            require_parameters(specs, self.graph.dialect)
            return extents, specs
        except Misfit as misfit:
            parts = dict(misfit.parts)
            if bottoms:
                parts["found"] += " (bottoms: " + ", ".join(f"{v.blob} {show(v.shape or ())}" for v in bottoms) + ")"
            self.problems.add(**parts, **place)
            return None, []

    def _data_shapes(self, message: Any, layer: Layer, place: dict) -> tuple[Shape | None, ...] | None:
        """Shapes of a data layer's tops: those given by the caller, else what its fields say, else its data."""
        given = tuple(self.given.get(blob) for blob in message.top)
        if all(shape is not None for shape in given):
            return given
        try:
            own = layer.top_shapes()
            require_sizes(own, self.graph.dialect)
        except Misfit as misfit:
            read = self._read_shapes(message, layer)
            if read is None:
                self.problems.add(**misfit.parts, **place)
                return None
            own = read
        return tuple(self.given.get(blob, shape) for blob, shape in zip(message.top, own, strict=True))

    def _read_shapes(self, message: Any, layer: Layer) -> tuple[Shape, ...] | None:
        """What a data layer's first item says, where its data is there: in the current folder or the net's."""
        from ..data import data_shapes  # it needs OpenCV, LMDB and HDF5, and few nets need it

        try:
            return data_shapes(message, layer.at.phase, self.graph.dialect, [Path(), Path(self.graph.file).parent])
        except CaffeError as error:
            self.problems.found += error.problems
            return None


def _loss_weight(message: Any, layer: Layer, index: int) -> float:
    """The weight of a top in the net's loss: as written, else 1 for the first top of a loss layer."""
    if index < len(message.loss_weight):
        return message.loss_weight[index]
    implicit = layer.kind == "loss" and index == 0 and not message.loss_weight
    return layer.default_weight if implicit else 0.0
