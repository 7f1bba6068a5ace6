"""Cutting rectangles out of image files, side by side; what is there already is kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from port.data.lists import shorten
from prototxt_gen.base.errors import DataError, Problem, Problems
from prototxt_gen.base.files import os_problem

from .split import Crop

QUALITY = 95
RULE = f"edges rounded half up, clipped; RGB JPEG, quality {QUALITY}"
_CHUNK = 256  # images at a time, so that Ctrl-C is not far


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file, from its header, as stored (EXIF does not turn it); raises DataError."""
    try:
        with Image.open(path) as image:
            return image.size
    except Exception as cause:  # decoders raise anything
        raise DataError(_unreadable(path, cause)) from None


def cut(crops: Sequence[Crop], folder: Path, progress: bool = False) -> int:
    """Write crops as JPEG files below `folder`, a thread for each core; returns how many were not there yet.

    A file appears only when it is complete, so an interrupted call goes on where it was. Raises DataError naming
    every image that does not decode, after all others are cut, or when the disk refuses.
    """
    missing = [crop for crop in crops if not _complete(folder / crop.name)]
    groups = [(path, list(group)) for path, group in groupby(missing, key=lambda crop: crop.source)]
    bar = tqdm(total=len(missing), desc="crop", unit="crops", disable=not progress or not missing)
    with bar, Problems(DataError, folder) as problems, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(groups), _CHUNK):
            part = groups[start : start + _CHUNK]
            for found in pool.map(lambda job: _cut_one(job[0], job[1], folder), part):
                problems.found += found
            bar.update(sum(len(group) for _, group in part))
        shorten(problems, "images")
    return len(missing)


def _complete(path: Path) -> bool:
    """Whether a crop is there to its last byte: a JPEG ends in the marker FF D9."""
    try:
        with open(path, "rb") as file:
            file.seek(-2, os.SEEK_END)
            return file.read() == b"\xff\xd9"
    except OSError:
        return False


def _cut_one(source: Path, crops: Sequence[Crop], folder: Path) -> list[Problem]:
    """Cut the crops of one image; what went wrong with it."""
    try:
        with Image.open(source) as file:
            image = file.convert("RGB")
    except Exception as cause:  # decoders raise anything
        return [_unreadable(source, cause)]
    for crop in crops:
        path = folder / crop.name
        # Not atomic_write: waiting for the disk after each of thousands of files would take longer than cutting them.
        unfinished = path.with_name(f".{path.name}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            image.crop(crop.box).save(unfinished, "JPEG", quality=QUALITY)
            unfinished.replace(path)
        except (OSError, ValueError) as cause:
            with suppress(OSError):
                unfinished.unlink()
            cause = cause if isinstance(cause, OSError) else OSError(str(cause))
            return [os_problem(path, cause, "write")]
    return []


def _unreadable(path: Path, cause: Exception) -> Problem:
    reason = (str(cause) or type(cause).__name__).splitlines()[0]
    if "cannot identify image file" in reason:
        reason = "in no known image format"
    return Problem(f"cannot be read: {reason}", "a whole image file", "unpack or download it again", file=path)
