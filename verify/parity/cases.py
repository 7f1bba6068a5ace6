"""Finding recordings of real Caffe below folders, however large those are."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from prototxt_gen.base.errors import DataError, Problem

_PAUSE = 2.0  # seconds between lines that say where the search is


def find_recorded(folders: Sequence[Path], ending: str, recorded: Callable[[Path], bool], expected: str) -> list[Path]:
    """The files with an ending that have a recording, sorted folder by folder; raises DataError, also for none.

    Links to folders are not followed. What takes longer than a moment says on stderr where it is.
    """
    cases: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise DataError(Problem("is not a folder", fix="name a folder with recorded cases", file=folder))
        found: list[Path] = []
        told = time.monotonic()
        for looked, (place, _, names) in enumerate(os.walk(folder), 1):
            paths = (Path(place) / name for name in names if name.endswith(ending))
            found += [path for path in paths if recorded(path)]
            if time.monotonic() - told > _PAUSE:
                told = time.monotonic()
                counts = f"{looked:,} folders, {len(found):,} found"
                print(f"looking for recordings: {counts}, now in {place}", file=sys.stderr)
        cases += sorted(found)
    if not cases:
        fix = "name the folder that holds the recordings"
        raise DataError(Problem("no recorded case", expected, fix, file=", ".join(map(str, folders))))
    return cases
