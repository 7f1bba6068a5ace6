"""Finding and reading annotation files and images; whatever is missing is named, with the place it comes from."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from port.data.lists import shorten
from prototxt_gen.base.errors import DataError, Problem, Problems
from prototxt_gen.base.files import os_problem, read_text

from .split import Split

_MANY = 5  # files of a folder that is not there; more are named together


def folder_problem(root: Path) -> None:
    """Raise DataError when the root of a data set is no folder."""
    if not root.is_dir():
        found = "is no folder" if root.exists() else "there is no such folder"
        raise DataError(Problem(found, "the folder of the data set", "check --root", file=root))


def locate(root: Path, names: Sequence[str]) -> Path:
    """The first of some paths below `root` that exists; the first of all when none does."""
    return next((root / name for name in names if (root / name).exists()), root / names[0])


def require(files: Iterable[Path], origin: str) -> None:
    """Raise DataError naming every file that is not there, and where it comes from; a whole folder as one."""
    absent: dict[Path, list[Path]] = {}
    for file in files:
        if not file.is_file():
            absent.setdefault(file.parent, []).append(file)
    with Problems(DataError) as problems:
        for folder, missing in absent.items():
            if len(missing) > _MANY and not folder.is_dir():
                found = f"there is no such folder, with {len(missing)} files such as {missing[0].name}"
                problems.add(found, file=folder, fix=f"they are in {origin}")
                continue
            for file in missing:
                problems.add("there is no such file", file=file, fix=f"it is in {origin}")


def read_json(path: Path) -> Any:
    """The value of a JSON file; raises DataError with line and column where it is damaged."""
    text = read_text(path, DataError)
    try:
        return json.loads(text)
    except json.JSONDecodeError as cause:
        ends = not text[cause.pos :].strip() or cause.msg.startswith("Unterminated")
        found = f"this is no JSON: {cause.msg}" + (" (the file ends too early)" if ends else "")
        fix = "the file may be damaged or cut off: unpack or download it again"
        raise DataError(Problem(found, fix=fix, file=path, line=cause.lineno, column=cause.colno)) from None
    except (RecursionError, ValueError) as cause:
        raise DataError(Problem(f"this is no JSON that can be read: {cause}", file=path)) from None


def rows_of(data: Any, key: str, path: Path) -> list[Any]:
    """The list under a key of a JSON file; raises DataError when there is none, or an empty one."""
    rows = data.get(key) if isinstance(data, dict) else None
    if not isinstance(rows, list) or not rows:
        found = f"no list '{key}'" if not isinstance(rows, list) else f"the list '{key}' is empty"
        raise DataError(Problem(found, f'{{"{key}": [...], ...}}', "is this another file?", file=path))
    return rows


def whole(value: Any) -> bool:
    """Whether a value of a JSON file is an integer."""
    return isinstance(value, int) and not isinstance(value, bool)


def image_path(text: Any) -> str:
    """A path of an annotation, with "/" and below the image root; "" when it is none."""
    if not isinstance(text, str) or any(ord(letter) < 32 for letter in text):
        return ""
    path = PurePosixPath(text.strip().replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0])
    return "" if outside or not path.name else str(path)


def check_unique(names: Sequence[str], problems: Problems, what: str) -> None:
    """Add a problem for each name that stands more than once."""
    for name, count in Counter(names).items():
        if count > 1:
            problems.add(f"{what} '{name}' stands {count} times", expected="once")


def on_disk(root: Path, names: Sequence[str]) -> NDArray[np.bool_]:
    """Which paths below `root` are there; a folder is listed once, however many of its files are asked for."""
    folders: dict[str, set[str]] = {}
    found = np.zeros(len(names), bool)
    for index, name in enumerate(names):
        folder, _, file = name.rpartition("/")
        if folder not in folders:
            folders[folder] = _files(root / folder)
        found[index] = file in folders[folder]
    return found


def _files(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as cause:
        raise DataError(os_problem(folder, cause, "read")) from None


def require_images(root: Path, names: Sequence[str], there: NDArray[np.bool_], origin: str) -> None:
    """Raise DataError naming images that are not there: the first ones, how many, and where they come from."""
    with Problems(DataError, root) as problems:
        for index in np.flatnonzero(~there).tolist():
            problems.add(f"there is no image {names[index]}")
        left = len(problems.found)
        shorten(problems, "images")
        if left:
            problems.add(
                f"{left:,} of {len(names):,} images are missing",
                fix=f"they are in {origin}; or name their folder with --image-root, or leave them out with"
                " --subset present",
            )


def restrict(split: Split, subset: str, root: Path, origin: str) -> Split:
    """A split with all its images (raises DataError for missing ones), those present, or those present and tagged."""
    there = on_disk(root, split.images)
    if subset == "all":
        require_images(root, split.images, there, origin)
        return split
    gone = int((~there).sum())
    split = split.kept(there, f"{gone:,} images without a file are left out (--subset {subset})")
    if subset == "tagged":
        tagged = split.tags > 0
        split = split.kept(tagged, f"{int((~tagged).sum()):,} images without a label are left out (--subset tagged)")
    if not split.images:
        found = f"no image of split '{split.name}' is left"
        raise DataError(Problem(found, "an image or more", f"check --image-root; they are in {origin}", file=root))
    return split
