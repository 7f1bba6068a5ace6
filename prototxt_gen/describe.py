"""What a net holds, as a table beside its drawing; layers with settings, and with a measure shapes and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .builder import phases_of
from .columns import columns
from .diff import flatten
from .drawing import Drawing, draw
from .errors import NetError
from .measure import Measure, Measured, Request
from .schema.printer import to_text
from .schema.text import Parsed

LEFT_OUT = ("filler", "param.", "include", "exclude", "bottom", "top", "name", "type", "phase")


def describe(
    parsed: Parsed,
    phase: str = "TEST",
    measure: Measure | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> tuple[str, Drawing]:
    """A net in one phase as text, and its drawing. Rules about stages and levels count as met.

    Shapes and sizes need a `measure`; where it cannot tell them, as when only the data know the shape of an
    image, the last line says why.
    """
    layers = [layer for layer in parsed.message.layer if phase in phases_of(layer)]
    drawing = draw(parsed.message, layers)
    measured, trouble = _measured(parsed, phase, measure, input_shapes or {})
    title = ("", "layer", "type", "settings", "tops")
    rows = [(*title, "shape", "parameters", "multiply-adds") if measured else title]
    for row in drawing.rows:
        layer = row.layer
        cells = (row.drawn, layer.name, layer.type, _settings(layer), ", ".join(layer.top))
        rows.append((*cells, *_sizes(layer.name, measured)) if measured else cells)
    head = f"net '{parsed.message.name}', phase {phase}, dialect {parsed.dialect} ({parsed.reason})"
    inputs = ", ".join(name for name, _ in drawing.inputs)
    lines = [head, *([f"inputs: {inputs}"] if inputs else []), *columns(rows, right=(6, 7)), f"{len(layers)} layers"]
    if measured:
        whole = measured.size()
        lines[-1] += f", {whole.parameters:,} parameters, {whole.statistics:,} statistics, "
        lines[-1] += f"{whole.multiply_adds:,} multiply-adds"
    return "\n".join([*lines, *trouble]), drawing


def _measured(
    parsed: Parsed, phase: str, measure: Measure | None, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Measured | None, list[str]]:
    """The measures of a net, or why there are none."""
    if measure is None:
        return None, []
    try:
        return measure(Request(to_text(parsed.message), parsed.dialect, phase, shapes, parsed.file)), []
    except NetError as error:
        return None, ["no shapes:", *(f"  {problem}" for problem in error.problems)]


def _settings(layer: Any) -> str:
    """The settings of a layer's type in a few words, and whether training leaves it alone."""
    words = []
    for path, values in flatten(layer, skip=LEFT_OUT).items():
        if not any(part in path for part in ("filler", "param.lr", "param.decay", "param[")):
            words.append(f"{path.partition('.')[2] or path} {','.join(values)}")
    if layer.param and not any(entry.lr_mult for entry in layer.param):
        words.append("fixed")
    return "; ".join(words)


def _sizes(name: str, measured: Measured) -> tuple[str, str, str]:
    size = measured.sizes[name]
    shapes = ", ".join("x".join(map(str, shape)) or "scalar" for shape in measured.tops[name])
    parameters, work = (f"{number:,}" if number else "" for number in (size.parameters, size.multiply_adds))
    return shapes, parameters, work
