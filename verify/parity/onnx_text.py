"""The report of `verify onnx` as text and JSON."""

from __future__ import annotations

from typing import Any

from port.layers import show
from port.onnx.reading import said
from prototxt_gen.base.columns import fitted

from .onnx_file import NAME, VALUE, Found, OnnxReport
from .text import number

_HEAD = ("blob", "layer type", "shape", "in the file", "by", "relative", "verdict")


def onnx_table(report: OnnxReport, every: bool = True, width: int | None = None) -> str:
    """One line a blob in the net's order, then what was matched and the verdict; `every` False: no rows that agree."""
    lines = [f"{report.file} against the net '{report.net}'", f"input: {report.inputs}"]
    rows = [_line(report, row) for row in report.rows if every or not row]
    lines += fitted([_HEAD, *rows], (2, 5), width) if rows else []
    return "\n".join([*lines, *_summary(report)])


def _line(report: OnnxReport, row: Found) -> tuple[str, ...]:
    verdict = "pass" if row else "FAIL" if report.fails(row) else "not there"
    error = ""
    if row.comparison is not None:
        verdict += f"  {row.comparison.note}" if row.comparison.note and row.how else ""
        error = "" if row.comparison.note else f"{row.comparison.relative:.1e}"
    theirs = said(row.theirs) if row.how else f"(nearest: {said(row.theirs)})" if row.theirs else ""
    return (row.value, row.type, show(row.shape), theirs, row.how, error, verdict)


def _summary(report: OnnxReport) -> list[str]:
    matched = [row for row in report.rows if row]
    named, valued = (sum(row.how == how for row in matched) for how in (NAME, VALUE))
    rest = len(report.rows) - len(matched)
    lines = [f"{len(report.rows)} blobs: {named} matched by name, {valued} by value, {rest} not"]
    if matched:
        worst = max(matched, key=lambda row: row.comparison.relative if row.comparison else 0)
        lines.append(f"largest relative error of what matched: {worst.comparison.relative:.1e} ({worst.value})")  # type: ignore[union-attr]
    first = report.first
    if first is not None:
        what = "differs" if first.differs else "has no match in the file"
        lines.append(f"first blob that {what}: '{first.value}', of layer '{first.layer}' ({first.type})")
    failed = sum(map(report.fails, report.rows))
    lines.append(
        f"PASS: every output within {report.tolerance:.0e}" if report else f"FAIL: {failed} of {len(report.rows)} blobs"
    )
    return lines


def onnx_json(report: OnnxReport) -> dict[str, Any]:
    """The report as plain data."""
    first = report.first
    return {
        "file": report.file,
        "net": report.net,
        "input": report.inputs,
        "tolerance": report.tolerance,
        "passed": bool(report),
        "first": first and first.value,
        "blobs": [
            {
                "blob": row.value,
                "layer": row.layer,
                "type": row.type,
                "shape": list(row.shape),
                "output": row.output,
                "matched_by": row.how or None,
                "value": row.theirs or None,
                "relative": row.comparison and number(row.comparison.relative),
                "passed": bool(row),
            }
            for row in report.rows
        ],
    }
