"""The figures of each class: as CSV, and as what the pictures of `pictures.py` show."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.base.errors import DataError, Problem, Problems
from prototxt_gen.base.files import read_text, write_text

from ..datasets.sets import sources


@dataclass(frozen=True)
class ClassFigures:
    """One class: fractions, NaN where there is none; `together` is how many other labels its images have on average."""

    number: int  # of the column, from 1
    name: str
    positives: int
    AP: float
    P: float
    R: float
    F1: float
    together: float
    baseline_AP: float = math.nan
    improvement: float = math.nan


def class_figures(
    figures: Mapping[str, Any],
    labels: NDArray[Any],
    names: Sequence[str] | None = None,
    baseline: Mapping[str, Any] | None = None,
) -> list[ClassFigures]:
    """Every class of `metrics.evaluate`'s figures and labels (images, classes), in the order of the columns.

    Without names a class is "class 7", counted from 1. `baseline` are the figures that the improvement is over.
    """
    positive = labels == 1
    others = positive.sum(axis=1, keepdims=True) - 1
    found = []
    for column in range(labels.shape[1]):
        own = positive[:, column]
        ap = float(figures["AP"][column])
        before = float(baseline["AP"][column]) if baseline else math.nan
        found.append(
            ClassFigures(
                number=column + 1,
                name=names[column] if names else f"class {column + 1}",
                positives=int(own.sum()),
                AP=ap,
                P=float(figures["P_class"][column]),
                R=float(figures["R_class"][column]),
                F1=float(figures["F1_class"][column]),
                together=float(others[own].mean()) if own.any() else math.nan,
                baseline_AP=before,
                improvement=ap - before,
            )
        )
    return found


def csv_text(classes: Sequence[ClassFigures]) -> str:
    """One line per class, figures as fractions with six decimals, empty where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(field.name for field in fields(ClassFigures))
    for each in classes:
        writer.writerow(_cell(value) for value in asdict(each).values())
    return out.getvalue()


def write_csv(path: str | Path, classes: Sequence[ClassFigures]) -> None:
    """Write `csv_text` at once or not at all; raises CaffeError when the disk refuses."""
    write_text(path, csv_text(classes))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6f}"
    return str(value)


# -- names --------------------------------------------------------------------------------------------------
def class_names(source: str, classes: int) -> list[str]:
    """Names of the columns: a data set's key ("coco") for its own order, or a file.

    A file has one name per line. The order of the columns in the authors' label files is not documented, so
    nothing here assumes it. Raises DataError for another number of names than classes, and for names that stand
    twice.
    """
    known = {each.key: each.classes for each in sources().values() if each.classes}
    if source in known:
        names, origin = list(known[source]), f"the classes of '{source}'"
    else:
        names = [line.strip() for line in read_text(source, DataError).rstrip().splitlines()]
        origin = source
    with Problems(DataError, origin) as problems:
        if len(names) != classes:
            problems.add(f"{len(names)} names", expected=f"{classes}, one per class")
        for line, name in enumerate(names, start=1):
            if not name or name in names[: line - 1]:
                found = f"'{name}' stands twice" if name else "a name is empty"
                problems.add(found, line=line, expected="another name for each class")
    return names


def doubt(names: Sequence[str], labels: NDArray[Any]) -> str:
    """Why the names may be in another order than the columns; "" when nothing speaks against them.

    In MS-COCO a person is on almost half of the images, three times as many as anything else.
    """
    if set(names) != set(sources()["coco"].classes):
        return ""
    named, found = list(names).index("person"), int(np.argmax((labels == 1).sum(axis=0)))
    if named == found:
        return ""
    return f"column {named + 1} is named 'person', but the most frequent label is column {found + 1}: check the order"


def check_picture(path: Path) -> list[Problem]:
    """What is wrong with the name of a picture."""
    if path.suffix.lower() == ".png":
        return []
    return [Problem(f"a picture cannot be written as '{path.suffix}'", "a name ending in .png", file=path)]
