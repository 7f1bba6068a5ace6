"""nus_test_accessible.mat: which NUS-WIDE test images the authors evaluate."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.base.errors import DataError, Problem, Problems
from prototxt_gen.base.files import read_bytes

from ..evaluation.mat import read_mat
from .split import Split

VARIABLE = "idx_final_test"
_HDF5 = b"\x89HDF\r\n\x1a\n"


def read_index(path: Path, images: int) -> NDArray[np.int64]:
    """Rows, from 0, that variable idx_final_test of a MATLAB file selects among `images` rows.

    MATLAB indexes alike with row numbers from 1 and with a mask; both are taken: a mask has as many values as there
    are images, all of them 0 or 1. Raises DataError for another file, and for rows that are not there or stand twice.
    """
    values = _values(path)
    if not values.size:
        raise DataError(Problem(f"{VARIABLE} is empty", "the rows of the accessible images", file=path))
    if not np.isfinite(values).all() or (values != np.round(values)).any():
        raise DataError(Problem(f"{VARIABLE} has values that are no integers", "row numbers or a mask", file=path))
    numbers = values.astype(np.int64)
    with Problems(DataError, path) as problems:
        if np.isin(numbers, (0, 1)).all() and numbers.size > 1:
            if numbers.size != images:
                problems.add(f"{VARIABLE} is a mask of {numbers.size:,} images", expected=f"{images:,}, as in the list")
            rows = np.flatnonzero(numbers)
            if not rows.size:
                problems.add(f"{VARIABLE} selects no image", expected="1 for each accessible image")
            return rows
        if numbers.min() < 1 or numbers.max() > images:
            found = f"{VARIABLE} has rows from {numbers.min():,} to {numbers.max():,}"
            problems.add(found, expected=f"1 to {images:,}, the rows of the list")
        if repeated := numbers.size - np.unique(numbers).size:
            problems.add(f"{VARIABLE} names {repeated:,} rows again", expected="each row once")
    return numbers - 1


def restricted(split: Split, path: Path) -> tuple[Split, dict[str, Any]]:
    """A test split with the accessible images alone, and what to record of the index; raises DataError."""
    rows = read_index(path, len(split.images))
    note = f"{len(rows):,} of {len(split.images):,} images are kept, those of {path.name}"
    return split.kept(rows, note), {"accessible": hashlib.sha256(read_bytes(path, DataError)).hexdigest()}


def _values(path: Path) -> NDArray[np.float64]:
    """The variable as a vector; MATLAB writes two formats, the newer of them HDF5."""
    data = read_bytes(path, DataError)
    try:
        if _HDF5 in data[:1024]:
            import h5py

            from port.weights.datasets import values

            with h5py.File(io.BytesIO(data), "r") as file:
                value = values(file[VARIABLE]) if VARIABLE in file else None
        else:
            value = read_mat(data).get(VARIABLE)
        if value is not None:
            return np.asarray(value, dtype=np.float64).ravel()
    except Exception as cause:  # readers of damaged files raise anything
        reason = (str(cause) or type(cause).__name__).splitlines()[0]
        raise DataError(Problem(f"this is no MATLAB file that can be read: {reason}", file=path)) from None
    raise DataError(Problem(f"there is no variable {VARIABLE}", "the authors' nus_test_accessible.mat", file=path))
