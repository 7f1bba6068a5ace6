"""What is in a database, in words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from prototxt_gen.base.errors import DataError

from ..layers import show
from .database import DATA, Database
from .datum import datum_values, parse_datum

SAMPLED = 1000
_MOST_SHAPES = 8
_FORMATS = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG", "PNG"), (b"BM", "BMP"))


def describe(path: str | Path, everything: bool = False) -> tuple[str, list[str]]:
    """A database in words, and what is wrong with its records; of many only a sample is read unless asked."""
    database = Database(path)
    count = len(database)
    step = 1 if everything else -(-count // SAMPLED)
    kinds: Counter[str] = Counter()
    labels: list[int] = []
    rows: list[np.ndarray] = []
    wrong: list[str] = []
    for index in range(0, count, step):
        try:
            datum = parse_datum(database[index])
            values = datum_values(datum)
        except DataError as error:
            wrong += [f"record {database.name(index)}: {problem}" for problem in error.problems]
            continue
        form = _format(datum.data) if datum.encoded else f"raw {values.dtype}"
        shape = (values.shape[2], *values.shape[:2])
        kinds[f"{form} {show(shape)}"] += 1
        labels.append(datum.label)
        if shape[1:] == (1, 1) and (not rows or rows[0].shape == (shape[0],)):
            rows.append(values.reshape(-1))
    file = database.path / DATA if database.path.is_dir() else database.path
    lines = [
        f"{database.path}: {count:,} records, {file.stat().st_size:,} bytes",
        f"keys: {database.name(0)} to {database.name(count - 1)}",
        f"read: {'all records' if step == 1 else f'1 record in {step}, {len(range(0, count, step)):,} in all'}",
    ]
    lines += [f"  {kind}: {number:,}" for kind, number in kinds.most_common(_MOST_SHAPES)]
    if len(kinds) > _MOST_SHAPES:
        lines.append(f"  and {len(kinds) - _MOST_SHAPES} other sizes")
    if labels:
        lines.append(f"label: {min(labels)} to {max(labels)}, {len(set(labels)):,} different")
    if rows and len(rows) == len(labels):
        lines += _describe_rows(np.stack(rows))
    return "\n".join(lines), wrong


def _format(data: bytes) -> str:
    return next((name for magic, name in _FORMATS if data.startswith(magic)), "encoded image")


def _describe_rows(rows: np.ndarray) -> list[str]:
    """A label database: one vector each record."""
    values = np.unique(rows)
    listed = ", ".join(f"{v:g}" for v in values) if len(values) <= 5 else f"{values[0]:g} to {values[-1]:g}"
    positive = (rows > 0).sum(axis=1)
    return [
        f"vectors of {rows.shape[1]}: values {listed}",
        f"positive: {positive.mean():.2f} a record, {positive.min()} to {positive.max()}; "
        f"{int((~(rows > 0).any(axis=0)).sum())} of {rows.shape[1]} never",
    ]
