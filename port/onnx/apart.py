"""Models of more than 2 GiB: large constants in a file beside the model, as ONNX's external data."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
import onnx
from onnx import TensorProto
from tqdm import tqdm

from prototxt_gen.base.errors import CaffeError, ExportError, Problem
from prototxt_gen.base.files import os_problem, unwritable

SMALLEST = 1024  # bytes; what is smaller stays in the model, where shapes are worked out of it
PAGE, LARGE = 4096, 1 << 20  # large constants begin at a page, so that a runtime can map them
CHUNK = 1 << 24  # bytes written at a time


class Apart:
    """Collects large constants for the file beside a model; what it holds are views, nothing is copied."""

    def __init__(self, location: str):
        self.location, self.size = location, 0
        self.arrays: list[tuple[int, np.ndarray]] = []  # where each begins

    def takes(self, array: np.ndarray) -> bool:
        """Whether a constant goes into the file."""
        return array.dtype == np.float32 and array.nbytes >= SMALLEST

    def tensor(self, array: np.ndarray, name: str) -> TensorProto:
        """The constant as the model has it: its shape, and where in the file its values are."""
        align = PAGE if array.nbytes >= LARGE else array.itemsize
        start = -(-self.size // align) * align
        self.arrays.append((start, array))
        self.size = start + array.nbytes
        made = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=array.shape)
        made.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.location), ("offset", start), ("length", array.nbytes)):
            made.external_data.add(key=key, value=str(value))
        return made

    def write(self, file: IO[bytes]) -> None:
        """Write all values, little-endian, a piece at a time."""
        bar = tqdm(total=self.size, unit="B", unit_scale=True, desc=self.location, disable=None, delay=2, leave=False)
        with bar:
            for start, array in self.arrays:
                file.seek(start)
                flat = np.ascontiguousarray(array, "<f4").reshape(-1).view(np.uint8)
                for at in range(0, flat.size, CHUNK):
                    bar.update(file.write(flat[at : at + CHUNK].data))


def write_pair(path: str | Path, model: onnx.ModelProto, apart: Apart) -> None:
    """Write a model and the file beside it, checked; both appear under their names together, or neither.

    An older model of that name goes first: at no time does one stand beside constants of the other. Raises CaffeError
    (disk full, no folder) and ExportError (the checker refuses it).
    """
    path = Path(path)
    beside = path.with_name(apart.location)
    if problems := [*unwritable(path), *unwritable(beside)]:
        raise CaffeError(problems)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent) as folder:
            made = Path(folder, path.name)
            with open(made.with_name(apart.location), "wb") as data:
                apart.write(data)
                _settle(data)
            with open(made, "wb") as file:
                file.write(model.SerializeToString())
                _settle(file)
            _check(made, path)
            _appear(made, path, beside)
    except OSError as cause:
        raise CaffeError(os_problem(path, cause, "write")) from None


def _settle(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _check(made: Path, path: Path) -> None:
    try:
        onnx.checker.check_model(str(made), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(Problem(f"the ONNX checker refuses the model: {error}", file=path)) from None


def _appear(made: Path, path: Path, beside: Path) -> None:
    """Rename both; where the second cannot be, the first goes too."""
    path.unlink(missing_ok=True)
    os.replace(made.with_name(beside.name), beside)
    try:
        os.replace(made, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
