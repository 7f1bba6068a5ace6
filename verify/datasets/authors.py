"""The authors' released image lists and label files, read as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from port.data.lists import shorten
from prototxt_gen.base.errors import CaffeError, DataError, Problem, Problems
from prototxt_gen.base.files import read_text
from reference_weights import manifest

from ..evaluation.scores import read_labels
from .build import list_path
from .index import read_index
from .sets import sources
from .split import Loaded, Request


@dataclass(frozen=True)
class Released:
    """The authors' lists of one split; a part that is not there is None."""

    split: str
    images: list[str] | None
    tags: NDArray[Any] | None
    labels: NDArray[np.int8] | None  # (images, classes)
    files: tuple[Path, ...]


def require_lists(root: Path, request: Request) -> None:
    """Raise DataError when `root` has none of the authors' lists that could be compared, naming them all."""
    key = sources()[request.dataset].key
    if not any(path.is_file() for split in request.splits for path in _paths(root, key, split)):
        known = {file.path: file for file in manifest.load(key) if file.role in ("image_list", "labels")}
        origin = where(next(iter(known.values())))
        files = [path for split in request.splits for path in _paths(root, key, split)]
        raise DataError(
            Problem("there is no such file", fix=f"so nothing can be compared; {origin}", file=file) for file in files
        )


def read_released(root: Path, loaded: Loaded, accessible: Path | None) -> list[Released]:
    """The authors' lists below `root`, of the splits that were read and whose lists are there.

    Raises DataError with all problems of the files.
    """
    found: list[Released] = []
    problems: list[Problem] = []
    for split in loaded.splits:
        listing, labels = _paths(root, loaded.key, split)
        if listing.is_file() or labels.is_file():
            try:
                index = accessible if split in loaded.selected else None
                found.append(_read(split, listing, labels, loaded.source.signed, index))
            except CaffeError as error:
                problems += error.problems
    if problems:
        raise DataError(problems)
    return found


def _paths(root: Path, key: str, split: str) -> list[Path]:
    return [list_path(root / "datasets" / key, key, split, content) for content in ("imglist", "label")]


def where(file: manifest.ReleasedFile) -> str:
    """Where a released file was published."""
    return f"the authors published it in {file.archive.drive_url} ({file.archive.page})"


def _read(split: str, listing: Path, labels: Path, signed: bool, index: Path | None) -> Released:
    images, tags = _images(listing) if listing.is_file() else (None, None)
    protocol = "wider" if signed else "srn"
    values = read_labels(labels, protocol=protocol) if labels.is_file() else None
    if images is not None and values is not None and len(images) != len(values):
        expected = f"{len(images):,}, one per image of {listing}"
        raise DataError(Problem(f"{len(values):,} lines", expected, file=labels))
    if index:
        rows = read_index(index, len(images if images is not None else values if values is not None else ()))
        images = [images[row] for row in rows] if images is not None else None
        tags = tags[rows] if tags is not None else None
        values = values[rows] if values is not None else None
    files = tuple(path for path in (listing, labels) if path.is_file())
    return Released(split, images, tags, values, files)


def _images(path: Path) -> tuple[list[str], NDArray[Any]]:
    """Paths, without a leading "./" or "/" and with "/" for a backslash, and numbers of tags."""
    images, tags = [], []
    lines: Sequence[str] = read_text(path, DataError).rstrip().splitlines()
    with Problems(DataError, path) as problems:
        for number, line in enumerate(lines, start=1):
            name, count, *_ = *line.rsplit(maxsplit=1), "", ""  # a tab will do
            images.append(
                "/".join(part for part in name.strip().replace("\\", "/").split("/") if part not in ("", "."))
            )
            if not images[-1] or not count.lstrip("-").isdecimal():
                problems.add(f"'{line[:80]}'", line=number, expected="a path, a space and the number of tags")
            else:
                tags.append(int(count))
        shorten(problems)
        if not lines:
            problems.add("the list is empty", expected="one image per line")
    return images, np.array(tags)
