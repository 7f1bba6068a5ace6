"""Mean images as Caffe's compute_image_mean writes them: one BlobProto in a `.binaryproto` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.base.errors import Problem, UsageError, WeightsError
from prototxt_gen.base.files import atomic_write
from prototxt_gen.schema import message_class

from ..caffemodel import read_blob
from ..layers import show

_EXPECTED = "channels, height and width"


def read_mean(path: str | Path) -> NDArray[np.float32]:
    """A mean image, float32 (C, H, W), channels in the order stored (BGR); semantics 6.3.

    Raises WeightsError for a file that is no BlobProto, or one that holds something other than one image.
    """
    values = read_blob(path).data
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim != 3:
        raise WeightsError(Problem(f"the blob is {show(values.shape)}", f"1 image: {_EXPECTED}", file=path))
    return np.array(values, np.float32)


def write_mean(path: str | Path, mean: Any) -> None:
    """Write a mean image (C, H, W), channels in BGR order, byte for byte as Caffe does; raises UsageError."""
    mean = np.asarray(mean)
    if mean.ndim != 3 or not mean.size or mean.dtype.kind not in "fiu":
        raise UsageError(Problem(f"an array {show(mean.shape)} of {mean.dtype}", f"numbers: {_EXPECTED}", file=path))
    channels, height, width = mean.shape
    blob = message_class("BlobProto", "bvlc")(num=1, channels=channels, height=height, width=width)
    blob.data.extend(mean.astype(np.float32).reshape(-1))
    with atomic_write(path) as file:
        file.write(blob.SerializeToString(deterministic=True))
