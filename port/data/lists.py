"""Lists of images and of videos, read as ImageData and VideoData read them; every bad line is reported."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prototxt_gen.base.errors import DataError, Problem, Problems
from prototxt_gen.base.files import read_text

from .paths import Root, find

MOST_LISTED = 20

# Caffe knows these as white space; a path may hold any other, such as a no-break space.
WHITE = " \t\n\v\f\r"

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_LINE_END = re.compile(r"\r\n|\n|\r")
_LABELS = range(-(2**31), 2**31)  # Caffe's int

_SEVERAL = (
    "a list gives an image one integer; label vectors are read from a second database "
    "(`python -m port lmdb create --labels`) or by HDF5Data"
)


@dataclass(frozen=True)
class Entry:
    """One line of a list: what it names, where that is, its numbers (the label last), and its line."""

    name: str
    path: Path
    numbers: tuple[int, ...]
    line: int

    @property
    def label(self) -> int:
        return self.numbers[-1]


def read_list(
    source: str | Path, root: Root, folder: str = "", *, spaced: bool = True, numbers: int = 1, files: bool = True
) -> list[Entry]:
    """The entries of a list: a path and as many integers per line; `folder` is glued before each path.

    `spaced`: a line is split at the last space, so that a path may have spaces, else at all white space. Empty lines
    are passed over. Raises DataError naming every line that is malformed or whose file is not there
    (`files`: a file, else a folder).
    """
    entries = []
    with Problems(DataError, source) as problems:
        for number, line in enumerate(_LINE_END.split(read_text(source, DataError)), start=1):
            if not line.strip(WHITE):
                continue
            parts = line.rstrip(WHITE).rsplit(" ", numbers) if spaced else _words(line)
            integers = all(map(_INTEGER.fullmatch, parts[1:]))
            if len(parts) != numbers + 1 or not integers or not parts[0].strip(WHITE):
                fix = _SEVERAL if numbers == 1 and len(parts) > 2 and integers else ""
                problems.add(f"'{line[:200]}'", line=number, expected=_expected(numbers, spaced), fix=fix)
                continue
            entries.append(Entry(parts[0], find(folder + parts[0], root), tuple(map(int, parts[1:])), number))
        kind, there = ("image", os.path.isfile) if files else ("folder", os.path.isdir)
        for entry in entries:
            if not there(entry.path):
                found = f"there is no {kind} '{entry.path}'"[:600]
                problems.add(found, line=entry.line, fix=_way_out(entry, root, folder))
            if entry.label not in _LABELS:
                expected = f"{_LABELS[0]:,} to {_LABELS[-1]:,}"
                problems.add(f"the label {entry.label:,}", line=entry.line, expected=expected)
        problems.found.sort(key=lambda problem: problem.line)
        shorten(problems)
        if not entries and not problems.found:
            problems.add("the list is empty", expected=_expected(numbers, spaced) + " on each line")
    return entries


def _way_out(entry: Entry, root: Root, folder: str) -> str:
    """What to do about a path that is not there."""
    if folder and not folder.endswith("/") and os.path.exists(find(f"{folder}/{entry.name}", root)):
        return f"let root_folder end in a slash, '{folder}/': it is glued before the path as it is"
    if os.path.isfile(find(folder + entry.name.strip(WHITE), root)):
        return "the line has a space too many: leave one, before the integer"
    name = re.sub(r"( +[+-]?[0-9]+)+ *$", "", entry.name)
    if name != entry.name and os.path.isfile(find(folder + name, root)):
        return _SEVERAL
    return "check the path, and root_folder or the folder it is relative to"


def shorten(problems: Problems, unit: str = "lines") -> None:
    """Keep the first problems of very many, and say how many more there are."""
    if more := problems.found[MOST_LISTED:]:
        problems.found[MOST_LISTED:] = [Problem(f"and {len(more):,} more such {unit}", file=problems.file)]


def _expected(numbers: int, spaced: bool) -> str:
    what = "a path and an integer" if numbers == 1 else "a folder, the number of frames and an integer"
    return what + (", one space between them" if spaced else ", no spaces within the path")


def read_words(source: str | Path, root: Root) -> list[Path]:
    """The files that a text names, separated by white space; raises DataError naming all that are not there."""
    paths = [find(word, root) for word in _words(read_text(source, DataError))]
    with Problems(DataError, source) as problems:
        for path in missing(paths):
            problems.add(f"there is no file {path}", fix="check the path, and the folder it is relative to")
        shorten(problems, "files")
        if not paths:
            problems.add("the list is empty", expected="one file or more")
    return paths


def _words(text: str) -> list[str]:
    """What stands between white space."""
    return [word for word in re.split(f"[{WHITE}]+", text) if word]


def missing(paths: Iterable[Path]) -> list[Path]:
    """Those of some paths that are no files."""
    return [path for path in paths if not os.path.isfile(path)]
