"""A net written as one Python file of plain nn modules, with the net's own names; repeated units are classes."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..graph.graph import Value
from ..graph.identifiers import identifier
from .helpers import HELPERS
from .units import Ends, Layers, Unit, common, ends_of, find_units

LETTERS = "abcdefghijklmnopqrstuvwxyz"  # of which names of a unit's parameters are made
WIDTH = 110  # characters of a line that expressions are joined up to
RESERVED = {"nn", "F", "torch", "pool", "Scale", "Net", "load", "unit", "self"}


@dataclass
class Names:
    """Identifiers, each its own, that resemble Caffe's names."""

    given: dict[Any, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=lambda: set(RESERVED | set(dir(object()))))

    def of(self, key: Any, wish: str) -> str:
        """The identifier of something, made of a wish where it is new."""
        if key not in self.given:
            name = identifier(wish)
            while name in self.taken:
                name += "_"
            self.taken.add(name)
            self.given[key] = name
        return self.given[key]


@dataclass
class Written:
    """What has been written: classes of units, lines of the net's two methods, tensors by their names."""

    classes: list[str] = field(default_factory=list)
    init: list[str] = field(default_factory=list)
    forward: list[str] = field(default_factory=list)
    state: dict[str, np.ndarray] = field(default_factory=dict)
    modules: Names = field(default_factory=lambda: Names(taken=set(RESERVED) | _module_names()))
    values: Names = field(default_factory=Names)


def _module_names() -> set[str]:
    from torch import nn

    return set(dir(nn.Module()))


def net_source(
    layers: Layers, inputs: Sequence[Value], outputs: Sequence[Value], head: str
) -> tuple[str, dict[str, np.ndarray]]:
    """The file's text and its tensors; `layers` compute, in order, each with its piece."""
    written = Written()
    for value in inputs:
        written.values.of(("blob", value.blob), value.blob)
    found = list(enumerate(find_units(layers), 1))
    units = {start: (number, unit) for number, unit in found for start in unit.starts}
    for number, unit in found:
        written.classes.append(_unit_class(f"Unit{number}", layers, unit))
    at = 0
    while at < len(layers):
        if at in units:
            at = _place_units(written, layers, *units[at], at)
            continue
        end = next((i for i in range(at, len(layers)) if i in units), len(layers))
        _place_layers(written, layers[at:end])
        at = end
    return _text(written, layers, inputs, outputs, head), written.state


def _text(written: Written, layers: Layers, inputs: Sequence[Value], outputs: Sequence[Value], head: str) -> str:
    used = {helper for _, piece in layers for helper in piece.helpers}
    given = ", ".join(_variable(written.values, value) for value in inputs)
    results = ", ".join(f'"{_quoted(value.blob)}": {_variable(written.values, value)}' for value in outputs)
    body = [*written.classes, "class Net(nn.Module):", "    def __init__(self):", "        super().__init__()"]
    body += [f"        {line}" for line in written.init]
    body += ["", f"    def forward(self, {given}):", *(f"        {line}" for line in written.forward)]
    body += [f"        return {{{results}}}"]
    return "\n".join([head, *(text for name, text in HELPERS.items() if name in used), *body, HELPERS["load"]])


def _quoted(text: str) -> str:
    return repr(text)[1:-1].replace('"', '\\"')


def _variable(names: Names, value: Value) -> str:
    return names.of(("blob", value.blob), value.blob)


def _place_layers(written: Written, layers: Layers) -> None:
    """Layers that no unit has."""
    modules = []
    for node, piece in layers:
        modules.append("")
        if piece.make:
            attribute = written.modules.of(node, node.name)
            modules[-1] = f"self.{attribute}"
            written.init.append(f"self.{attribute} = {piece.make.format(*map(repr, piece.args))}")
            written.state |= {f"{attribute}.{name}": array for name, array in piece.state.items()}
    variables = {v: _variable(written.values, v) for node, _ in layers for v in (*node.bottoms, *node.tops)}
    written.forward += statements(layers, modules, variables, set())


def statements(layers: Layers, modules: list[str], variables: dict[Value, str], given: set[Value]) -> list[str]:
    """A line for each layer; layers that write into their bottom's blob join the line of the one before."""
    lines: list[str] = []
    waiting: dict[Value, str] = {}
    for i, (node, piece) in enumerate(layers):
        operands = []
        for j, value in enumerate(node.bottoms):
            text = waiting.pop(value, variables[value])
            if text != variables[value] and piece.call.count(f"{{{j}}}") > 1:
                lines.append(f"{variables[value]} = {text}")
                text = variables[value]
            operands.append(text if f"({{{j}}})" in piece.call else _operand(text))
        text = piece.call.replace("{m}", modules[i])
        for j, operand in enumerate(operands):
            text = text.replace(f"{{{j}}}", operand)
        follows = layers[i + 1][0] if i + 1 < len(layers) else None
        top = node.tops[0] if len(node.tops) == 1 else None
        alone = top is not None and top.consumers == 1 and top not in given
        if top is not None and alone and follows and follows.bottoms == [top] and len(text) < WIDTH - 50:
            waiting[top] = text
        elif node.tops:
            lines.append(f"{', '.join(variables[value] for value in node.tops)} = {text}")
    return [line for line in lines if line.partition(" = ")[0] != line.partition(" = ")[2]]


def _operand(text: str) -> str:
    """An expression as it may stand among operators."""
    body = ast.parse(text, mode="eval").body
    return text if isinstance(body, (ast.Name, ast.Call, ast.Attribute, ast.Subscript)) else f"({text})"


def _parameters(layers: Layers, unit: Unit) -> tuple[dict[tuple[int, int], str], list[tuple[Any, ...]]]:
    """Which arguments of a unit's modules differ from time to time: place -> parameter, and each one's values."""
    columns: dict[tuple[Any, ...], str] = {}
    places: dict[tuple[int, int], str] = {}
    for i in range(unit.length):
        for j in range(len(layers[unit.starts[0] + i][1].args)):
            column = tuple(layers[start + i][1].args[j] for start in unit.starts)
            if len(set(column)) > 1:
                places[i, j] = columns.setdefault(column, LETTERS[len(columns) % 26] * (1 + len(columns) // 26))
    return places, list(columns)


def _attributes(layers: Layers, unit: Unit) -> list[str]:
    """The names of a unit's modules: what the names of the layers, one of each time, have in common."""
    names = Names(taken=set(RESERVED) | _module_names())
    return [
        names.of(i, common([layers[start + i][0].name for start in unit.starts])[0] or f"layer{i}")
        for i in range(unit.length)
    ]


def _unit_class(name: str, layers: Layers, unit: Unit) -> str:
    places, _ = _parameters(layers, unit)
    start, attributes = unit.starts[0], _attributes(layers, unit)
    run, ends = layers[start : start + unit.length], ends_of(layers, start, unit.length)
    arguments = ", ".join(dict.fromkeys(places.values()))
    signature = f"self, {arguments}" if arguments else "self"
    lines = [f"class {name}(nn.Module):", f"    def __init__({signature}):", "        super().__init__()"]
    for i, (_, piece) in enumerate(run):
        if piece.make:
            values = [places.get((i, j), repr(value)) for j, value in enumerate(piece.args)]
            lines.append(f"        self.{attributes[i]} = {piece.make.format(*values)}")
    variables = _local_names(layers, unit, ends)
    lines += ["", f"    def forward(self, {', '.join(variables[value] for value in ends.reads)}):"]
    body = statements(run, [f"self.{each}" for each in attributes], variables, set(ends.gives))
    result = ", ".join(variables[value] for value in ends.gives)
    last, _, expression = body[-1].partition(" = ")
    body[-1:] = [f"return {expression}"] if last == result else [body[-1], f"return {result}"]
    return "\n".join([*lines, *(f"        {line}" for line in body), "", ""])


def _local_names(layers: Layers, unit: Unit, ends: Ends) -> dict[Value, str]:
    """Names of a unit's values: x, y, ... for what it reads, what the blobs' names have in common for the others."""
    names = Names()
    variables = {value: names.of(value, "xyzuvw"[i % 6]) for i, value in enumerate(ends.reads)}
    by_blob: dict[str, str] = {}
    for i in range(unit.length):
        for j, value in enumerate(layers[unit.starts[0] + i][0].tops):
            blobs = [layers[start + i][0].tops[j].blob for start in unit.starts]
            if value.blob not in by_blob:
                by_blob[value.blob] = names.of(("blob", value.blob), common(blobs)[0] or f"value{i}")
            variables[value] = by_blob[value.blob]
    return variables


def _place_units(written: Written, layers: Layers, number: int, unit: Unit, at: int) -> int:
    """A unit, or several that follow each other and are alike; returns where the layers behind begin."""
    _, columns = _parameters(layers, unit)
    first = unit.starts.index(at)
    values = [tuple(column[i] for column in columns) for i in range(len(unit.starts))]
    chain = [ends_of(layers, at, unit.length)]
    last = first
    while last + 1 < len(unit.starts) and unit.starts[last + 1] == unit.starts[last] + unit.length:
        following = ends_of(layers, unit.starts[last + 1], unit.length)
        if values[last + 1] != values[first] or set(following.reads) != set(chain[-1].gives):
            break
        chain.append(following)
        last += 1
    keys = _keys(layers, unit)[first : last + 1]
    call = f"Unit{number}({', '.join(map(repr, values[first]))})"
    attributes = _attributes(layers, unit)
    wish = f"unit{'s' if len(keys) > 1 else ''}_{keys[0]}"
    group = written.modules.of(("group", at), wish)
    for key, start in zip(keys, unit.starts[first : last + 1], strict=True):
        place = f"{group}.{key}" if len(keys) > 1 else group
        for attribute, (_, piece) in zip(attributes, layers[start : start + unit.length], strict=True):
            written.state |= {f"{place}.{attribute}.{name}": array for name, array in piece.state.items()}
    _calls(written, group, call, keys, chain)
    return unit.starts[last] + unit.length


def _calls(written: Written, group: str, call: str, keys: list[str], chain: list[Ends]) -> None:
    variables = written.values
    reads = [_variable(variables, value) for value in chain[0].reads]
    if len(keys) == 1:
        written.init.append(f"self.{group} = {call}")
        gives = [_variable(variables, value) for value in chain[0].gives]
        written.forward.append(f"{', '.join(gives)} = self.{group}({', '.join(reads)})")
        return
    written.init.append(f'self.{group} = nn.ModuleDict({{n: {call} for n in "{" ".join(keys)}".split()}})')
    # as the second unit reads them, the first gives them; what the last one gives has the names of its blobs
    order = [chain[0].gives.index(value) for value in chain[1].reads]
    running = [_variable(variables, chain[-1].gives[i]) for i in order]
    gives = [running[order.index(i)] for i in range(len(order))]
    written.forward += [
        f"{', '.join(running)} = {', '.join(reads)}",
        f"for unit in self.{group}.values():",
        f"    {', '.join(gives)} = unit({', '.join(running)})",
    ]


def _keys(layers: Layers, unit: Unit) -> list[str]:
    """What tells the times apart in the names of their layers; the name of the first layer where nothing does."""
    rows = [common([layers[start + i][0].name for start in unit.starts])[1] for i in range(unit.length)]
    middles = [Counter(column).most_common(1)[0][0] for column in zip(*rows, strict=True)]
    keys = [identifier(f"n{middle}")[1:].strip("_") for middle in middles]
    if len(set(keys)) == len(keys) and all(keys):
        return keys
    return [identifier(layers[start][0].name) for start in unit.starts]
