"""What is subtracted from images: numbers, or a mean image's mean of each channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.base.errors import DataError, Problem, UsageError

_LARGEST = 65535.0  # grey levels, of 16 bits


def read_means(given: str, channels: int) -> NDArray[np.float64]:
    """One number a channel, in the blob's order (blue, green, red), from `104,117,123`, `127.5` or a file.

    Of a mean image (.binaryproto, or .npy of C x H x W or C) the mean of each channel, as Caffe's classify.py and its
    C++ example take it. Raises UsageError, DataError, WeightsError.
    """
    try:
        values = np.array([float(word) for word in given.split(",")])
    except ValueError:
        values = _of_file(Path(given))
    if len(values) == 1:
        values = np.repeat(values, channels)
    if len(values) != channels:
        raise UsageError(f"--mean {given}: {len(values)} channels; expected {channels}, as many as the input has")
    if not (np.abs(values) <= _LARGEST).all():  # NaN is not
        raise UsageError(f"--mean {given}: {values}; expected grey levels, as in 104,117,123")
    return values


def _of_file(path: Path) -> NDArray[np.float64]:
    """The means of a mean image's channels."""
    if path.suffix != ".npy":
        if path.suffix != ".binaryproto" and not path.is_file():
            raise UsageError(
                Problem(
                    f"--mean {path}", "numbers, as in 104,117,123, or a file (.binaryproto, .npy)", "check the path"
                )
            )
        from ..weights.mean import read_mean

        return read_mean(path).astype(np.float64).mean(1).mean(1)
    array = _array(path)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim not in (1, 3) or array.dtype.kind not in "fiu" or not array.size:
        found = f"an array {array.shape} of {array.dtype}"
        raise DataError(Problem(found, "numbers: channels, height and width, or channels alone", file=path))
    return (array if array.ndim == 1 else array.astype(np.float64).mean(1).mean(1)).astype(np.float64)


def _array(path: Path) -> NDArray[Any]:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(Problem("there is no such file", "a mean image", "check the path", file=path)) from None
    except (OSError, ValueError, EOFError) as cause:
        reason = (str(cause) or type(cause).__name__).splitlines()[0]
        raise DataError(Problem(f"cannot be read: {reason}", "an array of NumPy", file=path)) from None
