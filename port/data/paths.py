"""Where the files that a net names are: Caffe looks in the current folder, people keep them beside the net."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from prototxt_gen.base.errors import CaffeError

Root = str | Path | Sequence[str | Path]


def roots(root: Root) -> list[Path]:
    """One folder or several as a list."""
    return [Path(root)] if isinstance(root, str | Path) else [Path(r) for r in root]


def find(path: str, root: Root) -> Path:
    """`path` in the first of the folders that has it; in the first folder where none has."""
    places = [folder / path for folder in roots(root)]
    return next((place for place in places if os.path.exists(place)), places[0])


@contextmanager
def listed(path: Path) -> Iterator[None]:
    """Name a file in the text of an error on its way out, so that its place can be the line that lists the file."""
    try:
        yield
    except CaffeError as error:
        raise type(error)([replace(p, found=f"{path}: {p.found}", file="") for p in error.problems]) from None


@contextmanager
def located(**place: Any) -> Iterator[None]:
    """Add a place (file, line, layer, ...) to the problems of an error on its way out, where they name none."""
    try:
        yield
    except CaffeError as error:
        problems = [replace(p, **{k: v for k, v in place.items() if not getattr(p, k)}) for p in error.problems]
        raise type(error)(problems) from None
