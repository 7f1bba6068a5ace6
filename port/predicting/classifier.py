"""Classes of images by pycaffe's rules (caffe.Classifier, caffe.io.Transformer) or its C++ example's.

The rules: python/caffe/classifier.py, python/caffe/io.py and examples/cpp_classification of BVLC's Caffe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.base.errors import DataError, NetError, Problem, Problems, UsageError

from ..images import read_pixels
from ..images.resize import WAYS, unit_values
from .part import Floats, Runner

IMAGE_DIMS = (256, 256)
RAW_SCALE = 255.0
_LUMINANCE = (0.2125, 0.7154, 0.0721)  # scikit-image's rgb2gray, by which caffe.io reads an image without its colours


@dataclass(frozen=True)
class Preparation:
    """How an image becomes an input; the defaults are those of Caffe's classify.py, but for the mean and the crops."""

    image_dims: tuple[int, int] = IMAGE_DIMS  # height and width before the crop
    mean: Any = None  # one number a channel, in the blob's order
    raw_scale: float = RAW_SCALE
    input_scale: float | None = None
    channel_swap: tuple[int, ...] | None = (2, 1, 0)  # of RGB; None: as they are
    oversample: bool = False  # ten crops instead of the centre's
    cpp: bool = False  # as the C++ example: only the mean counts

    @property
    def crops(self) -> int:
        """Inputs for each image."""
        return 10 if self.oversample else 1


def check(preparation: Preparation, channels: int, height: int, width: int) -> None:
    """Raise UsageError with all that does not fit a net's input."""
    high, wide = preparation.image_dims
    swap = preparation.channel_swap
    with Problems(UsageError) as problems:
        if not preparation.cpp and (high < height or wide < width):
            fix = f"use --image-dims {max(high, height)},{max(wide, width)}"
            problems.add(f"images of {high}x{wide} for an input of {height}x{width}", expected="as large", fix=fix)
        if swap is not None and channels == 3 and sorted(swap) != [0, 1, 2]:
            problems.add(f"--channel-swap {','.join(map(str, swap))}", expected="0, 1 and 2 in some order")
        if preparation.cpp and preparation.oversample:
            problems.add(
                "--oversample with --like cpp", fix="leave it out: the C++ example resizes to the input's size"
            )


def crop_places(high: int, wide: int, height: int, width: int, oversample: bool) -> list[tuple[int, int]]:
    """Where crops begin (row, column): the centre; or four corners and the centre, as caffe.io.oversample has them."""
    centre = (int(high / 2 - height / 2), int(wide / 2 - width / 2))  # halves are cut off, as by astype(int)
    if not oversample:
        return [centre]
    return [(row, column) for row in (0, high - height) for column in (0, wide - width)] + [centre]


def prepare(path: str | Path, preparation: Preparation, channels: int, height: int, width: int) -> Floats:
    """An image as inputs, crops x C x H x W; raises DataError for a file that is no image."""
    if preparation.cpp:
        return _as_cpp(Path(path), preparation.mean, channels, height, width)[None]
    high, wide = preparation.image_dims
    pixels: Any = read_pixels(path)
    if channels == 1 and pixels.ndim == 3:
        pixels = unit_values(pixels) @ np.array(_LUMINANCE)
    image = WAYS["pycaffe"](pixels, high, wide).astype(np.float32)[:channels]
    places = crop_places(high, wide, height, width, preparation.oversample)
    crops = np.stack([image[:, row : row + height, column : column + width] for row, column in places])
    if preparation.oversample:
        crops = np.concatenate([crops, crops[..., ::-1]])
    return _transformed(crops, preparation)


def _transformed(crops: Floats, preparation: Preparation) -> Floats:
    """What caffe.io.Transformer does, in its order: channels, raw scale, mean, input scale."""
    swap = preparation.channel_swap
    result = crops[:, list(swap)] if swap is not None and crops.shape[1] == 3 else crops.copy()
    result *= np.float32(preparation.raw_scale)
    if preparation.mean is not None:
        result -= np.asarray(preparation.mean, np.float64)[:, None, None]
    if preparation.input_scale is not None:
        result *= np.float32(preparation.input_scale)
    return np.ascontiguousarray(result)


def _as_cpp(path: Path, mean: Any, channels: int, height: int, width: int) -> Floats:
    """The C++ example: OpenCV decodes, the whole image is resized in its own depth, then the channels' means go."""
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        read_pixels(path)  # says what the file is, where it is no image at all
        raise DataError(Problem("OpenCV cannot decode it", "an image file", "save it as PNG", file=path))
    have = 1 if image.ndim == 2 else image.shape[2]
    codes = {(3, 1): "BGR2GRAY", (4, 1): "BGRA2GRAY", (4, 3): "BGRA2BGR", (1, 3): "GRAY2BGR"}
    if (have, channels) in codes:
        image = cv2.cvtColor(image, getattr(cv2, f"COLOR_{codes[have, channels]}"))
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height))
    result = image.reshape(height, width, channels).transpose(2, 0, 1).astype(np.float32)
    if mean is not None:
        result -= np.asarray(mean, np.float32)[:, None, None]
    return result


class Classifier:
    """A net of `port.load_net` that classifies image files; raises NetError, UsageError for what does not fit.

    `blob`: the scores (default: the first output by name, as in pycaffe); `batch`: inputs computed at once.
    """

    def __init__(
        self,
        net: Any,
        preparation: Preparation | None = None,
        *,
        blob: str | None = None,
        batch: int = 10,
        device: str = "cpu",
    ):
        outputs = sorted(value.blob for value in net.caffe.outputs)
        if not outputs:
            raise NetError(Problem("the net has no output", "scores", file=net.caffe.file))
        self.blob = blob or outputs[0]
        self.preparation = preparation or Preparation()
        self.runner = Runner(net, [self.blob], device)
        self.batch = batch
        shape = net.caffe.blobs()[self.blob].shape
        if shape is None or len(shape) < 2:
            raise NetError(
                Problem(f"the blob '{self.blob}' has shape {shape}", "scores of each image", file=net.caffe.file)
            )
        self.classes = int(np.prod(shape[1:]))
        check(self.preparation, *self.size)

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, height and width of the input."""
        return self.runner.channels, self.runner.height, self.runner.width

    def predict(self, images: Sequence[str | Path]) -> NDArray[np.float32]:
        """The scores (images, classes), the mean of an image's crops; raises DataError naming all unreadable files."""
        return np.concatenate([scores for _, scores in self.blocks(images)])

    def blocks(self, images: Sequence[str | Path]) -> Iterator[tuple[list[Path], NDArray[np.float32]]]:
        """The same in blocks as they are computed: images and their scores; DataError comes after all that are read."""
        crops = self.preparation.crops
        each = max(1, self.batch // crops)
        with Problems(DataError) as problems:
            for start in range(0, len(images), each):
                paths, inputs = [], []
                for path in map(Path, images[start : start + each]):
                    try:
                        inputs.append(prepare(path, self.preparation, *self.size))
                        paths.append(path)
                    except DataError as error:
                        problems.found += error.problems
                if paths:
                    rows = self.runner.rows(np.concatenate(inputs), self.blob).reshape(len(paths), crops, -1)
                    for path, row in zip(paths, rows, strict=True):
                        if not np.isfinite(row).all():
                            problems.add("the net gives no finite numbers for it", fix="check the weights", file=path)
                    yield paths, rows.mean(1)


def best(scores: NDArray[np.float32], count: int) -> list[int]:
    """The classes of the highest scores, best first, equal ones in their order."""
    return [int(index) for index in np.argsort(-scores, kind="stable")[:count]]
