"""Reports as text and JSON."""

from __future__ import annotations

from math import isfinite
from typing import Any

from port.layers import show
from prototxt_gen.base.columns import fitted_rows

from .net import NetReport, Row


def _cell(row: Row, runtime: str) -> str:
    comparison = row.comparisons.get(runtime)
    if comparison is None:
        return "-"
    return "FAIL" if comparison.note else f"{comparison.relative:.1e}"


def net_table(report: NetReport, every: bool = True, width: int | None = None) -> str:
    """One line a blob, in topological order, in `width` characters (None: any); `every` False: the failures only.

    Where `width` is too small, layer types and absolute errors are left out, then names and notes are folded.
    """
    used = report.runtimes
    lines = [f"net '{report.net}', dialect {report.dialect} ({report.reason})", f"input: {report.inputs}"]
    lines += [f"{runtime} left out: {why}" for runtime, why in report.left_out.items()]
    shown = [row for row in report.rows if every or not row]
    head, *blocks = _table([_HEAD + tuple(used) + ("verdict",), *(_line(row, used) for row in shown)], width)
    lines += head
    for row, block in zip(shown, blocks, strict=True):
        if row is report.first_divergent:
            lines.append(f">>> first divergent layer: '{row.layer}' ({row.type})")
        lines += block
    return "\n".join([*lines, *net_summary(report)])


_HEAD = ("blob", "layer type", "shape", "largest error", "relative", "in")
_SPARE = (1, 3)  # what a narrow terminal does without: layer type, largest error


def _line(row: Row, used: list[str]) -> tuple[str, ...]:
    runtime, worst = row.worst
    verdict = ("pass" if row else "FAIL") + (f"  {worst.note}" if worst.note else "")
    errors = (f"{worst.absolute:.1e}", f"{worst.relative:.1e}", runtime)
    return (row.value, row.type, show(row.shape), *errors, *(_cell(row, r) for r in used), verdict)


def _table(rows: list[tuple[str, ...]], width: int | None) -> list[list[str]]:
    """The lines of each row: all columns where they fit, else the necessary ones, folded."""
    last = len(rows[0]) - 1
    wide = fitted_rows(rows, (2, 3, 4, *range(6, last)), None)
    if width is None or max(len(line) for block in wide for line in block) <= width:
        return wide
    kept = [i for i in range(last + 1) if i not in _SPARE]
    right = [kept.index(i) for i in (2, 4, *range(6, last))]
    return fitted_rows([tuple(row[i] for i in kept) for row in rows], right, width, kept=(kept.index(5),))


def net_summary(report: NetReport) -> list[str]:
    """What was compared, the largest error of every runtime, and the verdict."""
    lines = []
    for runtime in report.runtimes:
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
                        "absolute": number(c.absolute),
                        "relative": number(c.relative),
                        "passed": bool(c),
                        "note": c.note,
                    }
                    for name, c in row.comparisons.items()
                },
            }
            for row in report.rows
        ],
    }


def number(value: float) -> float | None:
    """A figure as JSON can hold it; None where there is none."""
    return value if isfinite(value) else None
