"""Score and label files: text, one image per line, one column per class, as the authors' programs do.

Columns may be apart by commas or semicolons instead of blanks, under a line of names; `arrays` reads binary files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from port.scoring.files import write_scores
from prototxt_gen.base.errors import DataError, Problem
from prototxt_gen.base.files import read_bytes, read_text

from ..metrics import MAX_LISTED, allowed_labels
from .arrays import LABELS, SCORES, bad_cells, other_file, read_array

__all__ = ["match", "read_labels", "read_scores", "write_scores"]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LONGEST = 40  # characters of a word that a message repeats


def read_scores(path: str | Path, classes: int | None = None) -> NDArray[np.float64]:
    """The logits of a scores file, text or binary, (images, classes); raises DataError naming the bad lines.

    Without `classes` the first line says how many columns there are.
    """
    return _read(path, classes, None, SCORES)


def read_labels(path: str | Path, classes: int | None = None, protocol: str = "srn") -> NDArray[np.int8]:
    """The labels of a label file, (images, classes): 0 and 1, or 1, -1 and 0 in protocol "wider".

    Text or binary. Raises DataError naming the bad lines, and UsageError for an unknown protocol.
    """
    return _read(path, classes, allowed_labels(protocol), LABELS).astype(np.int8)


def match(
    scores: NDArray[Any],
    labels: NDArray[Any],
    scores_file: str | Path = "scores",
    labels_file: str | Path = "labels",
) -> None:
    """Check that scores and labels are of as many images and classes; raises DataError naming both files."""
    problems = []
    for axis, unit in enumerate(("rows (images)", "columns (classes)")):
        have, want = scores.shape[axis], labels.shape[axis]
        if have != want:
            less = "fewer" if have < want else "more"
            found = f"{have} {unit}, {less} than the {want} of {labels_file}"
            problems.append(Problem(found, "files of the same images and classes", file=scores_file))
    if problems and scores.shape == labels.shape[::-1]:
        problems.append(Problem("one of them lies on its side", fix="transpose it", file=scores_file))
    if problems:
        raise DataError(problems)


def _read(
    path: str | Path, classes: int | None, allowed: Sequence[int] | None, names: Sequence[str]
) -> NDArray[np.float64]:
    data = read_bytes(path, DataError)
    array = read_array(path, data, names)
    if array is None:
        try:
            return _read_lines(path, classes, allowed)
        except DataError as error:  # of a file of another kind no line is worth a message
            raise (DataError(other) if (other := other_file(path, data)) else error) from None
    if classes not in (None, array.shape[1]):
        raise DataError(Problem(f"{array.shape[1]} columns", f"{classes}", file=path))
    if not (good := _good(array, allowed)).all():
        raise DataError(bad_cells(path, array, good, _expected(allowed)))
    return array


def _read_lines(path: str | Path, classes: int | None, allowed: Sequence[int] | None) -> NDArray[np.float64]:
    lines = read_text(path, DataError).rstrip().splitlines()
    mark = _mark(lines)
    titles = 1 if mark and not any(_NUMBER.fullmatch(word) for word in _words(lines[0], mark)) else 0
    if not lines[titles:]:
        raise DataError(Problem("the file is empty", "one line per image", file=path))
    try:
        values = np.loadtxt(lines[titles:], comments=None, delimiter=mark, ndmin=2)
        reason = f"the numbers make {values.shape[0]} rows, the lines are {len(lines) - titles}"
    except ValueError as cause:
        values, reason = np.empty((0, 0)), str(cause)
    # loadtxt passes over empty lines, so the lines are counted too.
    shape = (len(lines) - titles, classes or values.shape[1])
    if values.shape == shape and _good(values, allowed).all():
        return values
    raise DataError(_problems(path, lines, titles, classes, allowed) or Problem(reason, file=path))


def _mark(lines: Sequence[str]) -> str | None:
    """What separates the columns: a comma or a semicolon where the first line has one, else (None) blanks."""
    return next((mark for mark in ",;" if lines and mark in lines[0]), None)


def _words(line: str, mark: str | None) -> list[str]:
    return [word.strip() for word in line.split(mark)] if mark and line.strip() else line.split()


def _expected(allowed: Sequence[int] | None) -> str:
    return "a finite number" if allowed is None else " or ".join(map(str, allowed))


def _good(values: Any, allowed: Sequence[int] | None) -> Any:
    return np.isfinite(values) if allowed is None else np.isin(values, allowed)


def _problems(
    path: str | Path, lines: list[str], titles: int, classes: int | None, allowed: Sequence[int] | None
) -> list[Problem]:
    """What is wrong with the lines of a file, the first few in full and the number of the others."""
    mark = _mark(lines)
    first = next(number for number, line in enumerate(lines, start=1) if number > titles and line.strip())
    width = classes or len(_words(lines[first - 1], mark))
    source = "" if classes else f", as in line {first}"
    problems: list[Problem] = []
    left = 0
    for number, line in enumerate(lines[titles:], start=titles + 1):
        words = _words(line, mark)
        if len(words) != width:
            found = [Problem(f"{len(words)} columns", f"{width}{source}", file=path, line=number)]
        else:
            found = list(_bad_words(path, number, words, allowed))
        room = max(0, MAX_LISTED - len(problems))
        problems += found[:room]
        left += len(found[room:])
    if left:
        problems.append(Problem(f"{left} more such problems", file=path))
    return problems


def _bad_words(path: str | Path, line: int, words: list[str], allowed: Sequence[int] | None) -> Iterator[Problem]:
    fix = "labels with -1 are WIDER-Attribute's; elsewhere 0 means absent" if allowed == (0, 1) else ""
    for column, word in enumerate(words, start=1):
        if not _NUMBER.fullmatch(word) or not _good(float(word), allowed):
            negative = word.startswith("-1")
            found = f"column {column} is '{word if len(word) <= _LONGEST else word[:_LONGEST] + '...'}'"
            yield Problem(found, _expected(allowed), fix if negative else "", file=path, line=line)
