"""Reading prototxt files: strict in one dialect, every problem reported at once with its line."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.door import WAY_OUT
from ..base.errors import NEARLY, ParseError, Problem, Problems, closest
from ..base.files import read_bytes
from .dialect import DEFAULT, layer_types, origin, other
from .judge import KINDS, judge, judge_text, listed, neither
from .messages import DIALECTS, message_class, message_names, schema_cache
from .packs import split
from .sniff import check_is_prototxt, decode
from .syntax import Field, Scalar, Tree, parse_tree, printable
from .values import BadValue, FieldSpec, convert, fields_of, names_of

_LAYERS = ("LayerParameter", "V1LayerParameter", "V0LayerParameter")

_MOST_PROBLEMS = 100  # a file with more is of some other kind


@dataclass
class Parsed:
    """A prototxt as read: the message, its dialect and why, its file, and the line of each layer entry.

    `lines` follows `message.layer`, or `message.layers` where the file has such entries. `packs` are the packs of
    forks that it uses, each with the reason.
    """

    message: Any
    dialect: str
    reason: str
    file: str
    lines: list[int]
    packs: dict[str, str] = dataclasses.field(default_factory=dict)


def parse(text: str, message: str = "NetParameter", dialect: str = DEFAULT, file: str = "") -> Any:
    """The protobuf message that a text holds in one dialect; raises one ParseError with all problems."""
    return build(parse_tree(text, file), message, dialect)


def read_prototxt(path: str | Path, message: str = "NetParameter", dialect: str | None = None) -> Parsed:
    """A prototxt file, its dialect detected unless given; raises ParseError (also for a missing file).

    `dialect` may declare packs of forks too, beside those that are recognised: `bvlc+ssd`, or `+ssd`.
    """
    text = decode(read_bytes(path, ParseError), str(path))
    return parse_prototxt(text, message, dialect, str(path))


def read_tolerantly(path: str | Path, message: str, dialect: str | None = None) -> tuple[Parsed, list[Problem]]:
    """What can be read of a prototxt file, without the fields that the dialect does not know, and all problems.

    Raises ParseError only for a file that is not in the text format, or plainly of another kind.
    """
    text = decode(read_bytes(path, ParseError), str(path))
    check_is_prototxt(text, KINDS.get(message, f"a {message}"), str(path))
    tree = parse_tree(text, str(path))
    dialect, reason, packs = _origin(tree, message, dialect)
    built, problems = _build(tree, message, dialect)
    return Parsed(built, dialect, reason, str(path), layer_lines(tree), packs), problems.found


def parse_prototxt(text: str, message: str = "NetParameter", dialect: str | None = None, file: str = "") -> Parsed:
    """The text of a prototxt, its dialect detected unless given; raises ParseError with all problems."""
    check_is_prototxt(text, KINDS.get(message, f"a {message}"), file)
    tree = parse_tree(text, file)
    dialect, reason, packs = _origin(tree, message, dialect)
    return Parsed(build(tree, message, dialect), dialect, reason, file, layer_lines(tree), packs)


def _origin(tree: Tree, message: str, declared: str | None) -> tuple[str, str, dict[str, str]]:
    """The dialect of a tree, the reason in words, and the packs; what is declared is not looked for."""
    dialect, reason, packs = origin(tree, message, *split(declared))
    if packs:
        reason += "; with " + ", ".join(f"{name}: {why}" for name, why in packs.items())
    return dialect, reason, packs


def read_any(path: str | Path, dialect: str | None = None) -> tuple[str, Parsed]:
    """A net or a solver, and which of the two it is; raises ParseError with all problems."""
    text = decode(read_bytes(path, ParseError), str(path))
    kind = judge_text(text, str(path))
    return kind, parse_prototxt(text, kind, dialect, str(path))


def layer_lines(tree: Tree) -> list[int]:
    """The line of each `layers` entry of a net, or of each `layer` entry if it has none of the former."""
    lines: dict[str, list[int]] = {"layers": [], "layer": []}
    for field in tree.fields:
        if field.name in lines:
            lines[field.name] += [tree.place(field.at if not field.listed else v.at)[0] for v in field.values]
    return lines["layers"] or lines["layer"]


def build(tree: Tree, message: str, dialect: str) -> Any:
    """The protobuf message of a tree; raises one ParseError with all problems."""
    target, problems = _build(tree, message, dialect)
    problems.raise_if_any()
    return target


def _build(tree: Tree, message: str, dialect: str) -> tuple[Any, Problems]:
    target = message_class(message, dialect)()
    problems = Problems(ParseError, tree.source.file)
    _check_kind(tree, message, dialect, problems)
    _Builder(dialect, problems).fill(target, tree, message, "", "")
    if more := problems.found[_MOST_PROBLEMS:]:
        problems.found[_MOST_PROBLEMS:] = [Problem(f"and {len(more)} more problems", file=tree.source.file)]
    return target, problems


def _check_kind(tree: Tree, message: str, dialect: str, problems: Problems) -> None:
    """Say so at once when a net is given where a solver is expected, or the reverse, or something that is neither."""
    known = fields_of(message, dialect)
    strange = list(dict.fromkeys(field.name for field in tree.fields if field.name not in known))
    if message not in KINDS or not strange:
        return
    verdict = judge(tree)
    if verdict.kind and verdict.kind != message:
        problems.add(f"this is {KINDS[verdict.kind]} ({listed(strange)})", expected=KINDS[message])
    elif verdict.resembles:
        problems.found.append(neither(verdict, tree, KINDS[message]))
    problems.raise_if_any()


class _Builder:
    def __init__(self, dialect: str, problems: Problems):
        self.dialect = dialect
        self.problems = problems

    def fill(self, target: Any, tree: Tree, message: str, layer: str, path: str) -> None:
        """Set the fields of a message; `path` leads to it from the layer or from the file."""
        specs = fields_of(message, self.dialect)
        given: dict[str, int] = {}
        for field in tree.fields:
            spec = specs.get(field.name)
            if spec is None:
                self.unknown(tree, field, message, layer, path)
                continue
            if not spec.repeated and not self.is_single(tree, field, given, layer, path):
                continue
            given.setdefault(field.name, field.at)
            for value in field.values:
                self.set(target, tree, value, spec, layer, path)
        for spec in specs.values():
            if spec.required and spec.name not in given:
                self.add(tree, tree.at, "this required field is missing", layer, path + spec.name)

    def set(self, target: Any, tree: Tree, value: Scalar | Tree, spec: FieldSpec, layer: str, path: str) -> None:
        name = spec.name
        if isinstance(value, Tree) and spec.message:
            child = getattr(target, name)
            if spec.repeated:
                child = child.add()
            else:
                child.SetInParent()
            if spec.message in _LAYERS:
                self.fill(child, value, spec.message, printable(value.first("name")) or layer, "")
            else:
                self.fill(child, value, spec.message, layer, f"{path}{name}.")
            return
        if isinstance(value, Tree):
            kind = names_of(spec) if spec.enum else f"one value ({spec.kind})"
            self.add(tree, value.at, "a block", layer, path + name, expected=kind)
            return
        try:
            plain = convert(spec, value)
        except BadValue as bad:
            self.add(tree, value.at, layer=layer, path=path + name, **self.with_dialect(bad, value, spec))
            return
        if spec.repeated:
            getattr(target, name).append(plain)
        else:
            setattr(target, name, plain)

    def is_single(self, tree: Tree, field: Field, given: dict[str, int], layer: str, path: str) -> bool:
        """Whether a field that may stand only once does so; otherwise a problem is noted."""
        if field.name in given:
            line, _ = tree.place(given[field.name])
            found, expected = f"given a second time (first in line {line})", "it once"
        elif field.listed:
            found, expected = "given as a list", "a single value"
        else:
            return True
        self.add(tree, field.at, found, layer, path + field.name, expected=expected)
        return False

    def unknown(self, tree: Tree, field: Field, message: str, layer: str, path: str) -> None:
        rest = other(self.dialect)
        if field.name in _fields_or_none(message, rest):
            found = f"{message} has no such field in the dialect {self.dialect}, only in {rest}"
            fix = f"remove it, or read the whole file as {rest}"
        else:
            found, fix = f"{message} has no such field", _hint(field.name, message, self.dialect)
            if message == "LayerParameter" and _is_foreign(tree.first("type"), field.name):
                fix = WAY_OUT
        self.add(tree, field.at, found, layer, path + printable(field.name), fix=fix)

    def with_dialect(self, bad: BadValue, value: Scalar, spec: FieldSpec) -> dict[str, str]:
        """The parts of a bad value's problem, naming the other dialect if that one knows the enum value."""
        rest = other(self.dialect)
        if spec.enum and value.kind == "word" and value.text in _enum_values(spec.enum, rest):
            found = f"{spec.enum} has no value '{value.text}' in the dialect {self.dialect}, only in {rest}"
            return {**bad.parts, "found": found, "fix": f"change it, or read the whole file as {rest}"}
        return bad.parts

    def add(self, tree: Tree, at: int, found: str, layer: str, path: str, **parts: str) -> None:
        line, column = tree.place(at)
        field = path.rstrip(".")
        self.problems.add(found, line=line, column=column, layer=layer, field=field, **parts)


def _is_foreign(type: str, field: str) -> bool:
    """Whether a field holds the settings of a type that nobody here knows: no field of another type was meant."""
    known = frozenset().union(*map(layer_types, DIALECTS))
    if not field.endswith("_param") or not type or type in known:
        return False
    return closest(type, known, cutoff=NEARLY).startswith("known")


@schema_cache
def _hint(name: str, message: str, dialect: str) -> str:
    return closest(name, fields_of(message, dialect))


def _fields_or_none(message: str, dialect: str) -> dict[str, FieldSpec]:
    """The fields of a message that the dialect may not have."""
    return fields_of(message, dialect) if message in message_names(dialect) else {}


def _enum_values(enum: str, dialect: str) -> set[str]:
    """The names of an enum's values in a dialect; none if it has no such enum."""
    owner, _, _ = enum.rpartition(".")
    specs = _fields_or_none(owner, dialect).values()
    return {name for spec in specs if spec.enum == enum for name in spec.values}
