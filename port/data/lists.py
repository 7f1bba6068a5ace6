"""Lists of images and of videos, read as ImageData and VideoData read them; every bad line is reported."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prototxt_gen.errors import DataError, Problem, Problems
from prototxt_gen.files import read_text

from .paths import Root, find

MOST_LISTED = 20

_INTEGER = re.compile(r"[+-]?\d+")


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
    source: str | Path, root: Root, folder: str = "", *, dialect: str = "bvlc", numbers: int = 1, files: bool = True
) -> list[Entry]:
    """The entries of a list: a path and as many integers per line; `folder` is glued before each path.

    BVLC splits at the last space, so a path may have spaces; the fork splits at all white space. Empty lines
    are passed over. Raises DataError naming every line that is malformed or whose file is not there
    (`files`: a file, else a folder).
    """
    entries = []
    with Problems(DataError, source) as problems:
        for number, line in enumerate(read_text(source, DataError).splitlines(), start=1):
            if not line.strip():
                continue
            parts = line.split() if dialect == "srn" else line.rstrip().rsplit(" ", numbers)
            if len(parts) != numbers + 1 or not all(map(_INTEGER.fullmatch, parts[1:])) or not parts[0].strip():
                problems.add(f"'{line}'", line=number, expected=_expected(numbers, dialect))
                continue
            path = find(folder + parts[0], root)
            if not (path.is_file() if files else path.is_dir()):
                fix = "check the path, and root_folder or the folder it is relative to"
                problems.add(f"there is no {'image' if files else 'folder'} {path}", line=number, fix=fix)
            entries.append(Entry(parts[0], path, tuple(map(int, parts[1:])), number))
        shorten(problems)
        if not entries and not problems.found:
            problems.add("the list is empty", expected=_expected(numbers, dialect) + " on each line")
    return entries


def shorten(problems: Problems, unit: str = "lines") -> None:
    """Keep the first problems of very many, and say how many more there are."""
    if more := problems.found[MOST_LISTED:]:
        problems.found[MOST_LISTED:] = [Problem(f"and {len(more):,} more such {unit}", file=problems.file)]


def _expected(numbers: int, dialect: str) -> str:
    what = "a path and an integer" if numbers == 1 else "a folder, the number of frames and an integer"
    return what + (", no spaces within the path" if dialect == "srn" else ", one space between them")


def read_words(source: str | Path, root: Root) -> list[Path]:
    """The files that a text names, separated by white space; raises DataError naming all that are not there."""
    paths = [find(word, root) for word in read_text(source, DataError).split()]
    with Problems(DataError, source) as problems:
        for path in missing(paths):
            problems.add(f"there is no file {path}", fix="check the path, and the folder it is relative to")
        shorten(problems, "files")
        if not paths:
            problems.add("the list is empty", expected="one file or more")
    return paths


def missing(paths: Iterable[Path]) -> list[Path]:
    """Those of some paths that are no files."""
    return [path for path in paths if not path.is_file()]
