"""Writes a net as a column of statements: `x = net.Convolution("conv1", x, num_output=64, kernel_size=7)`.

No layer type has code here. The schema of the dialect says which fields a type has: those of the message
named after it (`Convolution`: `ConvolutionParameter`), then those every layer has (`param`, `include`, whole
messages such as `loss_param`). Nested messages are dicts, repeated fields are lists, enums are their names.
What the schema or Caffe's connection rules do not allow is a NetError on the statement that says it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from numbers import Integral, Real
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from .base.errors import NetError, Problems, closest
from .schema.dialect import ADDED_TYPES, LAYER_TYPES, layer_types
from .schema.messages import PHASES, is_repeated, message_class
from .schema.printer import to_text

# Fields of a layer that the builder sets from its own arguments; blobs belong in a .caffemodel.
_SET_BY_BUILDER = {"name", "type", "bottom", "top", "blobs"}

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}
_FLOATS = {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}


class NetBuilder:
    """A net under construction in one dialect; a capitalised attribute is a layer type (`net.ReLU(...)`).

    `parts` maps each layer's name to the part of the net it belongs to (see `section`). Layers of different
    phases may share a name, as in Caffe; rules about stages and levels do not make layers exclusive here.
    """

    def __init__(self, name: str, dialect: str):
        self.name = name
        self.dialect = dialect
        self.parts: dict[str, str] = {}
        self._net = message_class("NetParameter", dialect)(name=name)
        self._part = ""
        self._comments: dict[int, str] = {}
        # Per phase: the layers, and for each blob how many layers read its last version.
        self._layers: dict[str, set[str]] = {phase: set() for phase in PHASES}
        self._readers: dict[str, dict[str, int]] = {phase: {} for phase in PHASES}

    def __getattr__(self, type: str) -> Any:
        if not type[:1].isupper():
            raise AttributeError(f"'{__class__.__name__}' object has no attribute '{type}'")  # type: ignore[name-defined]
        return partial(self.layer, type)

    def input(self, name: str, shape: Sequence[int]) -> str:
        """An input blob of the given shape: an `Input` layer, or net-level fields in a dialect without it."""
        if "Input" in LAYER_TYPES[self.dialect]:
            return self.layer("Input", name, shape={"dim": list(shape)})
        with Problems(NetError) as problems:
            if any(name in blobs for blobs in self._readers.values()):
                problems.add(f"the net has a blob '{name}' already", fix="choose another name for the input")
            elif len(self._net.layer):
                problems.add(f"input '{name}' comes after a layer", expected="inputs before all layers")
        self._net.input.append(name)
        self._net.input_shape.add(dim=list(shape))
        for blobs in self._readers.values():
            blobs[name] = 0
        return name

    def section(self, title: str, part: str = "") -> None:
        """Begin a section: a comment before the next layer, and the part that its layers belong to."""
        index = len(self._net.layer)
        self._comments[index] = "\n".join(filter(None, (self._comments.get(index), title)))
        self._part = part or self._part

    def layer(
        self,
        type: str,
        name: str,
        *bottoms: str,
        top: str | Sequence[str] | None = None,
        in_place: bool = False,
        **fields: Any,
    ) -> Any:
        """Add a layer and return the name of its top, or a tuple of names when it has none or several.

        The top is named after the layer unless `top` gives a name, or several. Raises NetError with
        everything that is wrong with the layer: its type, fields, values, bottoms and tops.
        """
        with Problems(NetError) as problems:
            _check_type(type, name, self.dialect, problems)
        layer = message_class("LayerParameter", self.dialect)(name=name, type=type)
        with Problems(NetError) as problems:
            _set_fields(layer, fields, problems)
            if in_place and (top is not None or not bottoms):
                problems.add("in_place goes with bottoms and without `top`", layer=name)
            tops = list(bottoms) if in_place else _names(name if top is None else top)
            unnamed = [blob for blob in (*bottoms, *tops) if not isinstance(blob, str)]
            for blob in unnamed:
                problems.add(f"{blob!r} is not the name of a blob", expected="names as strings", layer=name)
            if not unnamed:
                layer.bottom.extend(bottoms)
                layer.top.extend(tops)
                self._check_names(layer, problems)
        self._add(layer)
        return tops[0] if len(tops) == 1 else tuple(tops)

    def outputs(self, phase: str = "TEST") -> list[str]:
        """The blobs that no layer reads in a phase, in the order in which Caffe reports them: by name."""
        return sorted(blob for blob, readers in self._readers[phase].items() if not readers)

    def blobs(self, phase: str = "TEST") -> set[str]:
        """The blobs that exist in a phase."""
        return set(self._readers[phase])

    def layers(self) -> Sequence[Any]:
        """The layers so far, as messages that may still be changed in what is not a name."""
        return self._net.layer

    def build(self) -> Any:
        """The net as a NetParameter message of its dialect; later statements do not change it."""
        net = message_class("NetParameter", self.dialect)()
        net.CopyFrom(self._net)
        return net

    def to_text(self, header: str = "") -> str:
        """The net as a prototxt: the header as a comment, then the layers under their sections' comments."""
        return to_text(self._net, header=header, comments=self._comments)

    def _check_names(self, layer: Any, problems: Problems) -> None:
        """Caffe's rules for names, in each phase that the layer is part of."""
        found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for phase in phases_of(layer):
            for problem in _name_conflicts(layer, self._layers[phase], self._readers[phase]):
                found[problem].append(phase)
        for (text, expected, fix), phases in found.items():
            where = "" if len(phases) == len(PHASES) else f" in phase {phases[0]}"
            problems.add(text + where, expected=expected, fix=fix, layer=layer.name)

    def _add(self, layer: Any) -> None:
        for phase in phases_of(layer):
            readers = self._readers[phase]
            for blob in layer.bottom:
                readers[blob] += 1
            readers.update(dict.fromkeys(layer.top, 0))
            self._layers[phase].add(layer.name)
        self.parts[layer.name] = self._part
        self._net.layer.append(layer)


def fill(message: Any, values: Mapping[str, Any], problems: Problems, *, layer: str = "", path: str = "") -> None:
    """Set a message's fields from plain values (dicts for messages); adds to `problems` what does not fit."""
    known = message.DESCRIPTOR.fields_by_name
    for name, value in values.items():
        place = {"layer": layer, "field": path + name}
        if name not in known:
            problems.add(f"{message.DESCRIPTOR.name} has no such field", **_way_out(name, known), **place)
            continue
        field = known[name]
        if isinstance(value, list | tuple) and not is_repeated(field):
            problems.add(f"{value!r} is a list", expected="a single value", **place)
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            if field.message_type is None:
                _set_scalar(message, field, item, problems, place)
            elif isinstance(item, Mapping):
                target = getattr(message, name)
                target = target.add() if is_repeated(field) else target
                target.SetInParent()  # an empty dict is a message too
                fill(target, item, problems, layer=layer, path=f"{path}{name}.")
            else:
                problems.add(f"{item!r} is no message", expected=f"a dict of {field.message_type.name} fields", **place)


def _set_fields(layer: Any, fields: Mapping[str, Any], problems: Problems) -> None:
    """Each field goes to the type's own message if that has it, else to the layer itself."""
    message = _own_message(layer.DESCRIPTOR, layer.type, ADDED_TYPES.get(layer.type, ()))
    own = message.message_type.fields_by_name if message else {}
    common = _common_fields(layer.DESCRIPTOR)
    for name, value in fields.items():
        if message and name in own:
            fill(getattr(layer, message.name), {name: value}, problems, layer=layer.name)
        elif name in common:
            fill(layer, {name: value}, problems, layer=layer.name)
        else:
            # Of the fields every layer has, a hint lists those that are not another type's message.
            plain = [known for known in common if not known.endswith("_param")]
            hint = _way_out(name, [*own, *plain])
            problems.add(f"{layer.type} has no such field", layer=layer.name, field=name, **hint)
    if layer.include and layer.exclude:
        problems.add("has both include and exclude rules", expected="rules of one kind", layer=layer.name)


@cache
def _common_fields(layer: Any) -> frozenset[str]:
    """The fields of LayerParameter that a statement may set for every type."""
    return frozenset(layer.fields_by_name) - _SET_BY_BUILDER


@cache
def _own_message(layer: Any, type: str, param: tuple[str, ...]) -> FieldDescriptor | None:
    """The field of LayerParameter that an added type names, or that holds the message named after a type."""
    for field in layer.fields:
        if field.message_type is not None and (field.name in param or field.message_type.name == f"{type}Parameter"):
            return field
    return None


def _set_scalar(message: Any, field: FieldDescriptor, value: Any, problems: Problems, place: dict) -> None:
    if field.enum_type is not None:
        names = field.enum_type.values_by_name
        if not isinstance(value, str) or value not in names:
            problems.add(f"{value!r} is not a value of {field.enum_type.name}", **_way_out(str(value), names), **place)
            return
        value = names[value].number
    else:
        kinds, wanted = _python_type(field)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            problems.add(f"{value!r} does not fit", expected=wanted, **place)
            return
    try:
        if is_repeated(field):
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    except ValueError as cause:  # protobuf's range check
        problems.add(f"{value!r} does not fit: {cause}", **place)


def _python_type(field: FieldDescriptor) -> tuple[tuple[type, ...], str]:
    if field.cpp_type in _INTEGERS:
        return (Integral,), "an integer"
    if field.cpp_type in _FLOATS:
        return (Real,), "a number"
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return (bool,), "True or False"
    return (bytes,) if field.type == FieldDescriptor.TYPE_BYTES else (str,), "a string"


def _check_type(type: str, layer: str, dialect: str, problems: Problems) -> None:
    known = layer_types(dialect)
    if type in known:
        return
    others = [other for other, types in LAYER_TYPES.items() if type in types]
    found = f"the dialect '{dialect}' has no layer type '{type}'"
    if others:
        found += f" (the dialect '{others[0]}' has)"
    problems.add(found, fix=closest(type, known), layer=layer)


def _name_conflicts(layer: Any, layers: set[str], readers: dict[str, int]) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a layer's names given the net before it: (found, expected, fix)."""
    if layer.name in layers:
        yield "the net has a layer of this name already", "", "choose another name"
    for bottom in dict.fromkeys(layer.bottom):
        if bottom not in readers:
            yield f"reads blob '{bottom}', which no earlier layer makes", "", _way_out(bottom, readers)["fix"]
    for index, top in enumerate(layer.top):
        in_place = index < len(layer.bottom) and layer.bottom[index] == top
        if top in layer.top[:index]:
            yield f"names blob '{top}' twice", "tops that differ", ""
        elif in_place and readers.get(top, 0):
            # Caffe would split the blob for its readers and then find the name taken.
            yield (
                f"overwrites blob '{top}', which an earlier layer reads",
                "",
                "give the layer a top of its own",
            )
        elif top in readers and not in_place:
            yield f"makes blob '{top}', which an earlier layer makes", "", "choose another name for the top"


def phases_of(layer: Any) -> list[str]:
    """The phases in which some state of the net keeps a layer."""
    number = layer.DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_name

    def allows(rule: Any, phase: str) -> bool:
        return not rule.HasField("phase") or rule.phase == number[phase].number

    def whole_phase(rule: Any) -> bool:
        return all(field.name == "phase" for field, _ in rule.ListFields())

    if layer.include:
        return [phase for phase in PHASES if any(allows(rule, phase) for rule in layer.include)]
    excluding = [rule for rule in layer.exclude if whole_phase(rule)]
    return [phase for phase in PHASES if not any(allows(rule, phase) for rule in excluding)]


def _names(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _way_out(name: str, known: Any) -> dict[str, str]:
    """The parts of a Problem that list the known names, and the closest one if any is close."""
    hint = closest(name, known)
    expected = "one of: " + ", ".join(sorted(known)) if known else "no field"
    return {"expected": expected, "fix": hint if hint.startswith("did you mean") else ""}
