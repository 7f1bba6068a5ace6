"""HDF5Data: the rows of datasets in HDF5 files, one dataset for each top; semantics 5.6."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from prototxt_gen.base.errors import DataError, Problems

from ..layers import show
from ..weights.datasets import values
from .lists import shorten
from .readers import Item

_DAMAGED = "the file is damaged or no HDF5 file"
_DAMAGE = (OSError, RuntimeError, KeyError, TypeError, ValueError)  # what h5py makes of a damaged file


class Hdf5Reader:
    """Rows by index, running on from file to file; a file is read whole, as Caffe does, the last two are kept."""

    def __init__(self, source: Path, files: Sequence[Path], tops: Sequence[str], *, integers: bool):
        self.files, self.tops = files, tops
        self.kinds = "fiu" if integers else "f"
        self.sizes: list[int] = []
        self._loaded: dict[int, list[np.ndarray]] = {}
        shapes: list[tuple[int, ...]] = []
        with Problems(DataError, source) as problems:
            for path in files:
                shapes = self._check(path, shapes, problems)
            shorten(problems, "problems")
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def _check(self, path: Path, shapes: list[tuple[int, ...]], problems: Problems) -> list:
        """Check one file against the shapes of the rows of the files before; returns these shapes."""
        try:
            with h5py.File(path, "r") as file:
                sets = {top: file[top] for top in self.tops if isinstance(file.get(top), h5py.Dataset)}
                found = {top: (item.shape, item.dtype) for top, item in sets.items()}
                there = ", ".join(name for name in sorted(file) if isinstance(file.get(name), h5py.Dataset))
        except _DAMAGE as cause:
            problems.add(f"cannot be read: {cause}", file=path, expected="an HDF5 file", fix=_DAMAGED)
            return shapes
        wrong = len(problems.found)
        for top in self.tops:
            if top not in found:
                fix = "name the tops after the datasets"
                problems.add(f"there is no dataset '{top}', but {there or 'none'}", file=path, field=top, fix=fix)
            elif not found[top][0]:
                problems.add("a dataset without axes", file=path, field=top, expected="one row per item")
            elif found[top][1].kind not in self.kinds:
                expected = "float32 or float64" + (" (or integers)" if "i" in self.kinds else "")
                problems.add(f"a dataset of type {found[top][1]}", file=path, field=top, expected=expected)
        if len(problems.found) > wrong:
            return shapes
        rows = {top: found[top][0][0] for top in self.tops}
        if len(set(rows.values())) > 1 or not min(rows.values()):
            counts = ", ".join(f"{top} {count}" for top, count in rows.items())
            problems.add(f"rows: {counts}", file=path, expected="as many in each dataset, 1 or more")
        these = [found[top][0][1:] for top in self.tops]
        if shapes and these != shapes:
            listed = ", ".join(map(show, these))
            problems.add(f"rows of {listed}", file=path, expected=", ".join(map(show, shapes)) + " as before")
        self.sizes.append(rows[self.tops[0]])
        return shapes or these

    def read(self, index: int, rng: np.random.Generator) -> Item:
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        row = index - self.starts[number]
        return tuple(array[row] for array in self._load(number))

    def _load(self, number: int) -> list[np.ndarray]:
        if number not in self._loaded:
            while len(self._loaded) > 1:
                del self._loaded[next(iter(self._loaded))]
            with Problems(DataError, self.files[number]) as problems:
                try:
                    with h5py.File(self.files[number], "r") as file:
                        arrays = [np.asarray(values(file[top]), np.float32) for top in self.tops]
                    self._loaded[number] = arrays
                except _DAMAGE as cause:
                    problems.add(f"cannot be read: {cause}", expected="an HDF5 file", fix=_DAMAGED)
        return self._loaded[number]

    def place(self, index: int) -> dict[str, Any]:
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        return {"file": self.files[number], "field": f"row {index - self.starts[number]}"}

    def candidates(self, index: int) -> Iterator[tuple[np.ndarray, float]]:
        yield self.read(index, np.random.default_rng(0))[0], 1.0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_loaded": {}}
