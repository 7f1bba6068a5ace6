"""The files of a scoring run: the scores as the authors' program writes them, and what was left out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from prototxt_gen.base.errors import DataError, Problem
from prototxt_gen.base.files import atomic_write, write_text

MAX_LISTED = 100


def write_scores(path: str | Path, scores: ArrayLike) -> None:
    """Write (images, classes) logits with 6 decimals, as the authors' test program does, all or nothing.

    Raises DataError for another shape or a value that is not finite, CaffeError when the disk refuses.
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 2 or not array.size:
        raise DataError(Problem(f"scores of shape {array.shape}", "(images, classes), neither 0", file=path))
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        found = f"score {array[row, column]} in row {row + 1}, column {column + 1}"
        raise DataError(Problem(found, "a finite number", file=path))
    with atomic_write(path) as file:
        np.savetxt(file, array, fmt="%.6f")


def left_out_path(output: str | Path) -> Path:
    """Where a run lists the images that have no row in its scores: scores.txt -> scores.left_out.txt.

    Of two outputs in a folder never the same: other endings than .txt are kept, scores.coco.left_out.txt.
    """
    output = Path(output)
    return output.with_name(output.name.removesuffix(".txt") + ".left_out.txt")


def write_left_out(output: str | Path, images: Sequence[Path], holes: Mapping[int, str]) -> None:
    """List the images without a row, as lines: place in the list (from 1), path, reason, separated by tabs.

    `holes`: index of an image -> why it could not be read. Without any, a list of an earlier run is removed.
    """
    path = left_out_path(output)
    if holes:
        lines = [f"{index + 1}\t{images[index]}\t{reason}\n" for index, reason in sorted(holes.items())]
        write_text(path, "".join(lines))
    else:
        path.unlink(missing_ok=True)


def unreadable(holes: Mapping[int, str], images: Sequence[Path], fix: str) -> list[Problem]:
    """Unreadable images as problems, the first of them in full, the others counted."""
    first = sorted(holes)[:MAX_LISTED]
    problems = [Problem(holes[index], file=images[index]) for index in first]
    if len(holes) > len(first):
        problems.append(Problem(f"{len(holes) - len(first)} more images cannot be read"))
    problems.append(Problem(f"{len(holes)} of {len(images)} images cannot be read", fix=fix))
    return problems
