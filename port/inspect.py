"""What a Caffe file holds, as text: nets, solvers, weights, mean images and solver states, told by content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prototxt_gen.columns import columns
from prototxt_gen.errors import Problem, UsageError
from prototxt_gen.files import write_text

from .caffemodel.sniff import printable
from .drawing import svg
from .inspect_files import describe_mean, describe_solver, describe_state, describe_weights
from .kinds import file_kind, hdf5_kind, prototxt_kind
from .layers import Shape, show
from .survey import UNKNOWN, Entry, Survey, survey_net

__all__ = ["columns", "describe", "describe_survey", "draw"]


def describe(
    path: Path,
    phase: str = "TEST",
    dialect: str | None = None,
    input_shapes: Mapping[str, Shape] | None = None,
) -> str:
    """A file as text; raises CaffeError for one that is damaged, or none of Caffe's."""
    kind = file_kind(path)
    if kind == "prototxt" and prototxt_kind(path) == "NetParameter":
        return describe_survey(survey_net(path, phase, dialect, input_shapes))
    if kind == "prototxt":
        return describe_solver(path, dialect)
    if kind == "hdf5":
        kind = hdf5_kind(path)
    return {"blob": describe_mean, "solverstate": describe_state}.get(kind, describe_weights)(path)


def draw(
    path: Path,
    output: Path,
    phase: str = "TEST",
    dialect: str | None = None,
    input_shapes: Mapping[str, Shape] | None = None,
) -> None:
    """Write a picture of a net as SVG; raises UsageError for a file that is no prototxt of a net."""
    if file_kind(path) != "prototxt" or prototxt_kind(path) != "NetParameter":
        raise UsageError(Problem("only nets are drawn", "a prototxt of a net", file=path))
    write_text(output, svg(survey_net(path, phase, dialect, input_shapes)))


def describe_survey(survey: Survey) -> str:
    """One line a layer: name, type, bottoms, tops, shapes, parameters, multiply-adds; totals, then problems."""
    lines = [f"net '{survey.name}', phase {survey.phase}, dialect {survey.dialect} ({survey.reason})"]
    lines += [f"  {note}" for note in survey.notes]
    rows: list[tuple[str, ...]] = [("layer", "type", "bottoms", "tops", "shapes", "parameters", "multiply-adds")]
    rows += [("(input)", "", "", blob, _shape(shape), "", "") for blob, shape in survey.inputs]
    rows += [_row(entry) for entry in survey.entries]
    lines += columns(rows, right=(5, 6))
    whole = survey.size
    partial = any(entry.size is None for entry in survey.entries)
    lines.append(
        f"{len(survey.entries)} layers, {'at least ' if partial else ''}{whole.parameters:,} parameters, "
        f"{whole.statistics:,} statistics, {whole.multiply_adds:,} multiply-adds; "
        f"outputs: {', '.join(survey.outputs) or 'none'}"
    )
    unknown = sorted({entry.type for entry in survey.entries if entry.kind == UNKNOWN})
    if unknown:
        count = sum(entry.kind == UNKNOWN for entry in survey.entries)
        lines.append(f"layers of unknown type: {count} ({', '.join(map(printable, unknown))})")
    if survey.problems:
        lines += [f"problems: {len(survey.problems)}", *(f"  {problem}" for problem in survey.problems)]
    return "\n".join(lines)


def _row(entry: Entry) -> tuple[str, ...]:
    known = entry.size
    parameters = f"{known.parameters:,}" if known and known.parameters else ""
    work = f"{known.multiply_adds:,}" if known and known.multiply_adds else ""
    unknown = "?" if known is None and entry.has_blobs else ""
    return (
        printable(entry.name),
        printable(entry.type) + (" (unknown)" if entry.kind == UNKNOWN else ""),
        ", ".join(map(printable, entry.bottoms)),
        ", ".join(map(printable, entry.tops)),
        ", ".join(map(_shape, entry.shapes)),
        unknown or parameters,
        unknown or work,
    )


def _shape(shape: Shape | None) -> str:
    return "?" if shape is None else show(shape)
