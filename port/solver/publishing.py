"""Makes several files of one folder appear together, so that a killed process leaves a whole set or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from prototxt_gen.base.errors import CaffeError, Problem
from prototxt_gen.base.files import os_problem


@contextmanager
def publishing(*paths: Path) -> Iterator[list[Path]]:
    """Places to write files of one folder to, which appear under their paths when all of them are written.

    The last file stands for the whole: an old one goes before any other is replaced, the new one comes last. So
    whenever the process ends, no set of files is a mixture. Raises CaffeError naming the path when the system
    refuses to write; what was there is then as it was.
    """
    folder = paths[0].parent
    # One name for all snapshots of a run: what a killed process left behind is cleared away by the next.
    stage = folder / f".{paths[0].name.rpartition('_iter_')[0]}.snapshot.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
        yield [stage / path.name for path in paths]
        paths[-1].unlink(missing_ok=True)
        for path in paths:
            os.replace(stage / path.name, path)
        _sync(folder)
    except OSError as cause:
        raise CaffeError(os_problem(paths[0], cause, "write")) from None
    except CaffeError as error:
        raise type(error)([_renamed(problem, stage, folder) for problem in error.problems]) from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _renamed(problem: Problem, stage: Path, folder: Path) -> Problem:
    """The problem with the file that the user knows."""
    file = Path(problem.file)
    return replace(problem, file=folder / file.name) if file.parent == stage else problem


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
