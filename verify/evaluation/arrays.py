"""Scores and labels out of binary files: NumPy's .npy and .npz, MATLAB's .mat of any version, HDF5.

What a file is, its first bytes say, not its name.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.base.errors import DataError, Problem
from prototxt_gen.base.formats import CHECK, HEAD, PLAIN, refusal

SCORES = ("scores", "logits", "predictions", "outputs")
LABELS = ("labels", "targets", "ground_truth")

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAD = 1024  # bytes in which a file says what it is; HDF5 from MATLAB begins after 512 of its own
_MAX_LISTED = 10
_OWN = PLAIN | {"npy", "npz", "mat", "mat hdf5", "hdf5", "zip"}
_EXPECTED = "a text with a line for each image, or an array (.npy, .npz, .mat, HDF5)"

Arrays = Mapping[str, NDArray[Any]]


def reader(path: str | Path, data: bytes) -> Callable[[bytes], Arrays] | None:
    """What reads the arrays of a file with this content, by name; None for a file that may be text."""
    head = data[:_HEAD]
    if head.startswith(b"\x93NUMPY"):
        return _npy
    if head.startswith(b"PK\x03\x04"):
        return _npz
    if _HDF5 in head:
        return _hdf5
    if head.startswith(b"MATLAB 5.0") or (Path(path).suffix.lower() == ".mat" and b"\0" in head):
        return _mat
    return None


def read_array(path: str | Path, data: bytes, names: Sequence[str]) -> NDArray[np.float64] | None:
    """The one array (images, classes) of a file's content, as float64; None for a file that may be text.

    Axes of length 1 after those two are dropped, as in a blob (images, classes, 1, 1). Where there are several
    such arrays, the one named as in `names` (in any case, in any group). Raises DataError for a file that is
    damaged, and for one without such an array or with several.
    """
    read = reader(path, data)
    if read is None:
        return None
    try:
        arrays = read(data)
    except Exception as cause:  # readers of damaged files raise anything
        reason = (str(cause) or type(cause).__name__).splitlines()[0]
        problem = Problem(f"cannot be read: {reason}", "a whole file", file=path)
        raise DataError(other_file(path, data) or problem) from None
    tables = {name: table for name, array in arrays.items() if (table := _table(array)) is not None}
    named = [name for name in tables if name.rpartition("/")[2].lower() in names]
    chosen = named if len(tables) > 1 else list(tables)
    if len(chosen) == 1:
        return tables[chosen[0]].astype(np.float64)
    raise DataError((not arrays and other_file(path, data)) or _unclear(path, arrays, names))


def other_file(path: str | Path, data: bytes) -> Problem | None:
    """What a file is that has neither scores nor labels; None for one that may have."""
    return refusal(data[:HEAD], _EXPECTED, path, own=_OWN, fix=CHECK)


def bad_cells(path: str | Path, values: NDArray[Any], good: NDArray[np.bool_], expected: str) -> list[Problem]:
    """The values of an array (images, classes) that are not good, the first few in full."""
    cells = np.argwhere(~good)
    problems = [
        Problem(f"{values[row, column]:g} in row {row + 1}, column {column + 1}", expected, file=path)
        for row, column in cells[:_MAX_LISTED]
    ]
    if len(cells) > _MAX_LISTED:
        problems.append(Problem(f"{len(cells) - _MAX_LISTED} more such values", file=path))
    return problems


def _table(array: NDArray[Any]) -> NDArray[Any] | None:
    """An array as (images, classes); None for one that is none."""
    while array.ndim > 2 and array.shape[-1] == 1:
        array = array[..., 0]
    return array if array.ndim == 2 and array.size and array.dtype.kind in "biuf" else None


def _unclear(path: str | Path, arrays: Arrays, names: Sequence[str]) -> Problem:
    listed = [f"'{name}' {array.shape} {array.dtype}" for name, array in arrays.items()]
    more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    found = f"the arrays are {', '.join(listed[:_MAX_LISTED])}{more}" if listed else "the file holds no arrays"
    expected = f"one of numbers (images, classes), or one of them named {', '.join(names[:-1])} or {names[-1]}"
    return Problem(found, expected, file=path)


def _npy(data: bytes) -> Arrays:
    return {"the array": np.load(io.BytesIO(data), allow_pickle=False)}


def _npz(data: bytes) -> Arrays:
    with np.load(io.BytesIO(data), allow_pickle=False) as held:
        found = {name: held[name] for name in held.files}
    return {name: array for name, array in found.items() if isinstance(array, np.ndarray)}  # a zip holds anything


def _mat(data: bytes) -> Arrays:
    from .mat import read_mat

    return read_mat(data)


def _hdf5(data: bytes) -> Arrays:
    import h5py

    from port.weights.datasets import values

    found: dict[str, NDArray[Any]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None and not name.startswith("#refs#"):
            # MATLAB stores the last axis first, and says that it was the writer.
            found[name] = values(item).T if "MATLAB_class" in item.attrs else values(item)

    with h5py.File(io.BytesIO(data), "r") as file:
        file.visititems(visit)
    return found
