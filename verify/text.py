"""Reports as text and JSON."""

from __future__ import annotations

from math import isfinite
from typing import Any

from port.layers import show

from .net import NetReport, Row

RUNTIMES = ("torch", "onnx", "opencv")


def _cell(row: Row, runtime: str) -> str:
    comparison = row.comparisons.get(runtime)
    if comparison is None:
        return "-"
    return "FAIL" if comparison.note else f"{comparison.relative:.1e}"


def net_table(report: NetReport, every: bool = True) -> str:
    """One line a blob, in topological order; `every` False prints the failures only."""
    used = [r for r in RUNTIMES if any(r in row.comparisons for row in report.rows)]
    lines = [f"net '{report.net}', dialect {report.dialect} ({report.reason})", f"input: {report.inputs}"]
    lines += [f"{runtime} left out: {why}" for runtime, why in report.left_out.items()]
    width = max((len(row.value) for row in report.rows), default=4)
    head = f"{'blob':{width}}  {'layer type':14} {'shape':>16}  {'largest error':>13} {'relative':>8} {'in':7}"
    lines.append(head + "".join(f" {r:>8}" for r in used) + "  verdict")
    first = report.first_divergent
    for row in report.rows:
        if row is first:
            lines.append(f">>> first divergent layer: '{row.layer}' ({row.type})")
        if every or not row:
            lines.append(_line(row, width, used))
    return "\n".join([*lines, *net_summary(report)])


def _line(row: Row, width: int, used: list[str]) -> str:
    runtime, worst = row.worst
    text = f"{row.value:{width}}  {row.type:14} {show(row.shape):>16}"
    text += f"  {worst.absolute:13.1e} {worst.relative:8.1e} {runtime:7}"
    text += "".join(f" {_cell(row, r):>8}" for r in used)
    return f"{text}  {'pass' if row else 'FAIL'}" + (f"  {worst.note}" if worst.note else "")


def net_summary(report: NetReport) -> list[str]:
    """What was compared, the largest error of every runtime, and the verdict."""
    lines = []
    for runtime in RUNTIMES:
        worst, output = report.worst(runtime), report.worst(runtime, outputs=True)
        if worst and output:
            count = sum(runtime in row.comparisons for row in report.rows)
            lines.append(
                f"{runtime}: {count} of {len(report.rows)} blobs against the float64 reference, largest relative error "
                f"{worst[1].relative:.1e} ({worst[0]}), at the outputs {output[1].relative:.1e} ({output[0]}), "
                f"{report.seconds.get(runtime, 0):.1f} s"
            )
    failed = [row for row in report.rows if not row]
    verdict = (
        f"PASS: all within {report.tolerance:.0e}" if report else f"FAIL: {len(failed)} of {len(report.rows)} blobs"
    )
    if report.first_divergent is not None:  # a row is false where it failed
        verdict += f", first in layer '{report.first_divergent.layer}'"
    return [*lines, verdict]


def net_json(report: NetReport) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "net": report.net,
        "dialect": report.dialect,
        "input": report.inputs,
        "tolerance": report.tolerance,
        "passed": bool(report),
        "seconds": report.seconds,
        "blobs": [
            {
                "blob": row.value,
                "layer": row.layer,
                "type": row.type,
                "shape": list(row.shape),
                "runtimes": {
                    name: {
                        "absolute": _number(c.absolute),
                        "relative": _number(c.relative),
                        "passed": bool(c),
                        "note": c.note,
                    }
                    for name, c in row.comparisons.items()
                },
            }
            for row in report.rows
        ],
    }


def _number(value: float) -> float | None:
    """A figure as JSON can hold it; None where there is none."""
    return value if isfinite(value) else None
