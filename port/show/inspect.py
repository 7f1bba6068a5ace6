"""What a Caffe file holds, as text: nets, solvers, weights, mean images and solver states, told by content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from prototxt_gen.base.columns import columns, fitted, fold
from prototxt_gen.base.errors import Problem, UsageError, told
from prototxt_gen.base.files import write_text
from prototxt_gen.schema.judge import NET, judge_file

from ..caffemodel.sniff import printable
from ..layers import Shape, show
from ..weights.kinds import file_kind, hdf5_kind, is_onnx
from .dot import dot
from .files import describe_mean, describe_solver, describe_state, describe_weights
from .lanes import draw as draw_lanes
from .survey import UNKNOWN, Entry, Survey, survey_net
from .svg import svg

__all__ = ["columns", "describe", "describe_survey", "draw"]

HEAD = ("", "layer", "type", "settings", "bottoms", "tops", "shapes", "parameters", "multiply-adds")
_TYPE, _SETTINGS, _BOTTOMS, _TOPS = (HEAD.index(name) for name in ("type", "settings", "bottoms", "tops"))
_NUMBERS = (7, 8)
_BLANK = "(no top is shown where it bears its layer's name)"


def describe(
    path: Path,
    phase: str = "TEST",
    dialect: str | None = None,
    input_shapes: Mapping[str, Shape] | None = None,
    width: int | None = None,
) -> str:
    """A file as text, tables in `width` characters (None: any); raises CaffeError for one that is none of Caffe's."""
    if is_onnx(path):
        from ..onnx.reading import describe_onnx  # takes a moment to import, and few files need it

        return describe_onnx(path, width)
    kind = file_kind(path)
    if kind == "prototxt" and judge_file(path) == NET:
        return describe_survey(survey_net(path, phase, dialect, input_shapes), width)
    if kind == "prototxt":
        return describe_solver(path, dialect, width)
    if kind == "hdf5":
        kind = hdf5_kind(path)
    if kind == "blob":
        return describe_mean(path)
    return describe_state(path) if kind == "solverstate" else describe_weights(path, width)


def draw(
    path: Path,
    output: Path,
    phase: str = "TEST",
    dialect: str | None = None,
    input_shapes: Mapping[str, Shape] | None = None,
    form: str = "svg",
) -> None:
    """Write a picture of a net as SVG, or for Graphviz (form "dot"); raises UsageError for what is no net."""
    if file_kind(path) != "prototxt" or judge_file(path) != NET:
        raise UsageError(Problem("only nets are drawn", "a prototxt of a net", file=path))
    survey = survey_net(path, phase, dialect, input_shapes)
    if form == "dot":
        write_text(output, dot(survey.name, draw_lanes([blob for blob, _ in survey.inputs], survey.entries)))
    else:
        write_text(output, svg(survey))


def describe_survey(survey: Survey, width: int | None = None) -> str:
    """One line a layer beside the lines that connect them, then totals, then problems.

    Where `width` is too small, what the lines and the other columns say as well is left out: bottoms, and tops
    that bear their layer's name; then settings; then cells are folded.
    """
    head = f"net '{survey.name}', phase {survey.phase}, dialect {survey.dialect} ({survey.reason})"
    lines = fold(head, width, 2) + [f"  {note}" for note in survey.notes]
    drawing = draw_lanes([blob for blob, _ in survey.inputs], survey.entries)
    rows: list[tuple[str, ...]] = [HEAD]
    rows += [("", "(input)", "", "", "", blob, _shape(shape), "", "") for blob, shape in survey.inputs]
    rows += [(row.drawn, *_row(entry)) for row, entry in zip(drawing.rows, survey.entries, strict=True)]
    lines += _table(rows, width)
    whole = survey.size
    partial = any(entry.size is None for entry in survey.entries)
    sums = (
        f"{len(survey.entries)} layers, {'at least ' if partial else ''}{whole.parameters:,} parameters, "
        f"{whole.statistics:,} statistics, {whole.multiply_adds:,} multiply-adds; "
        f"outputs: {', '.join(survey.outputs) or 'none'}"
    )
    lines += fold(sums, width, 2)
    unknown = sorted({entry.type for entry in survey.entries if entry.kind == UNKNOWN})
    if unknown:
        count = sum(entry.kind == UNKNOWN for entry in survey.entries)
        lines.append(f"layers of unknown type: {count} ({', '.join(map(printable, unknown))})")
    if survey.problems:
        lines += [f"problems: {len(survey.problems)}", *(f"  {line}" for line in told(survey.problems))]
    return "\n".join(lines)


def _table(rows: list[tuple[str, ...]], width: int | None) -> list[str]:
    """The first form of the table that is narrow enough, else the last one folded; a note where tops are left out."""
    if width is None:
        return columns(rows, _NUMBERS)
    short = [(*row[:_TOPS], "" if row[_TOPS] == row[1] else row[_TOPS], *row[_TOPS + 1 :]) for row in rows]
    forms: list[tuple[list[tuple[str, ...]], tuple[int, ...], list[str]]] = [
        (rows, (), []),
        (rows, (_BOTTOMS,), []),
        (short, (_BOTTOMS,), [_BLANK]),
        (short, (_SETTINGS, _BOTTOMS), [_BLANK]),
    ]
    for table, left_out, note in forms:
        lines = columns(*_without(table, left_out))
        if max(map(len, lines)) <= width:
            return lines + note
    return [*fitted(*_without(*forms[-1][:2]), width, kept=(0,)), _BLANK]


def _without(rows: list[tuple[str, ...]], left_out: Sequence[int]) -> tuple[list[tuple[str, ...]], tuple[int, ...]]:
    """A table without some columns, and where its numbers are now."""
    kept = [i for i in range(len(HEAD)) if i not in left_out]
    return [tuple(row[i] for i in kept) for row in rows], tuple(kept.index(i) for i in _NUMBERS)


def _row(entry: Entry) -> tuple[str, ...]:
    known = entry.size
    parameters = f"{known.parameters:,}" if known and known.parameters else ""
    work = f"{known.multiply_adds:,}" if known and known.multiply_adds else ""
    unknown = "?" if known is None and entry.has_blobs else ""
    return (
        printable(entry.name),
        printable(entry.type) + (" (unknown)" if entry.kind == UNKNOWN else ""),
        printable(entry.settings),
        ", ".join(map(printable, entry.bottoms)),
        ", ".join(map(printable, entry.tops)),
        ", ".join(map(_shape, entry.shapes)),
        unknown or parameters,
        unknown or work,
    )


def _shape(shape: Shape | None) -> str:
    return "?" if shape is None else show(shape)
