"""An image file as the input of a net."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.base.errors import UsageError

from .decode import read_pixels
from .resize import AUTHORS, CAFFE, WAYS, check_resize

MEAN = (104.0, 117.0, 123.0)  # blue, green, red


def load_image(
    path: str | Path, height: int, width: int, mean: Sequence[float] = MEAN, resize: str = AUTHORS
) -> NDArray[np.float32]:
    """An image as the input of a net: float32 (3, height, width), BGR, 0 to 255 minus `mean` (B, G, R).

    Grey is repeated to three channels, alpha is dropped, the whole image is resized in one of the ways of
    RESIZES; the default is the authors', scikit-image's of 2017 (docs/scoring.md). Raises DataError naming a
    file that is no image, UsageError for a height, width, mean or way that is none.
    """
    if min(height, width) < 1 or len(mean) != 3:
        found = f"height {height}, width {width}, mean {tuple(mean)}"
        raise UsageError(f"{found}; expected a height and width of 1 or more, and 3 means")
    check_resize(resize)
    result = np.empty((3, height, width), np.float32)
    if resize == CAFFE:
        result[:] = _as_data_layers(path, height, width)
    else:
        result[::-1] = WAYS[resize](read_pixels(path), height, width)  # rounded here, as the authors' program does
        result *= np.float32(255)
    result -= np.array(mean, np.float32)[:, None, None]
    return result


def _as_data_layers(path: str | Path, height: int, width: int) -> NDArray[np.uint8]:
    """What Caffe's ImageData layer makes of a file with new_height and new_width: OpenCV decodes and resizes."""
    from ..data.readers import read_image

    return read_image(Path(path), 1, height, width).transpose(2, 0, 1)
