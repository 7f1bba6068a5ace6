"""`transform_param`: crop, resize, subtract the mean, scale, flip, as the data layers of both Caffes do it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from prototxt_gen.base.errors import DataError, Problem

from ..layers import show
from ..weights.mean import read_mean
from . import windows
from .paths import find, located
from .windows import Pair, Window

Pixels = NDArray[Any]  # (height, width, channels), uint8 or float32
Tensor = NDArray[np.float32]  # (channels, height, width)

LARGEST_RATIO = 1e4  # a crop larger than the image is refused when it is drawn; this keeps its size an integer


class Transformer:
    """What a TransformationParameter does to one item in a phase; semantics 5.7 and 5.8.

    Items are (height, width, channels). `as_image` tells decoded images from raw Datums: only the former
    know `original_image`.
    Raises DataError, also for settings that Caffe refuses, and WeightsError for a mean file that is none.
    """

    def __init__(self, param: Any, phase: str = "TEST", root: str | Path | Sequence[str | Path] = "."):
        self.train = phase == "TRAIN"
        self.crop: int = param.crop_size
        self.scale = np.float32(param.scale)
        self.mirror: bool = param.mirror
        self.means = np.array(param.mean_value, np.float32)
        # Fields that only the fork has.
        self.fix_crop: bool = getattr(param, "fix_crop", False)
        self.more_fix_crop: bool = getattr(param, "more_fix_crop", False)
        self.multi_scale: bool = getattr(param, "multi_scale", False)
        self.ratios = tuple(getattr(param, "scale_ratios", ()))
        self.max_distort: int = getattr(param, "max_distort", 1)
        self.is_flow: bool = getattr(param, "is_flow", False)
        self.original_image: bool = getattr(param, "original_image", False)
        _check(param, self)
        with located(field="mean_file"):
            self.mean = read_mean(find(param.mean_file, root)) if param.mean_file else None

    def __call__(self, pixels: Pixels, rng: np.random.Generator, as_image: bool = True) -> Tensor:
        """An item as the net gets it, float32 (channels, height, width), with what is random drawn from `rng`."""
        height, width = pixels.shape[:2]
        mirror = bool(self.mirror and rng.integers(2))  # in TEST phase too
        return self.apply(pixels, self.draw(height, width, rng, as_image), mirror, as_image)

    def draw(self, height: int, width: int, rng: np.random.Generator, as_image: bool = True) -> Window:
        """The window of one item; in TEST phase, and without crop_size, nothing is drawn."""
        if not (self.crop and self.train):
            return self._fixed(height, width, as_image)
        if self.original_image and as_image:
            return windows.draw_original(height, width, rng)
        sizes = self._sizes(height, width)
        size = sizes[rng.integers(len(sizes))] if self.multi_scale else sizes[0]
        self._check_size(height, width, size)
        if self.fix_crop:
            offsets = windows.fixed_offsets(height, width, size, self.more_fix_crop)
            return Window(*offsets[rng.integers(len(offsets))], *size)
        row = int(rng.integers(height - size[0] + 1))
        return Window(row, int(rng.integers(width - size[1] + 1)), *size)

    def windows(self, height: int, width: int, as_image: bool = True) -> Iterator[tuple[Window, float]]:
        """Every window that `draw` can give for an item of this size, with its probability; duplicates kept."""
        if not (self.crop and self.train):
            yield self._fixed(height, width, as_image), 1.0
            return
        if self.original_image and as_image:
            yield from windows.original_windows(height, width)
            return
        for size in (sizes := self._sizes(height, width)):
            self._check_size(height, width, size)
            if self.fix_crop:
                offsets = windows.fixed_offsets(height, width, size, self.more_fix_crop)
            else:
                offsets = windows.all_offsets(height, width, size)
            for offset in offsets:
                yield Window(*offset, *size), 1 / (len(sizes) * len(offsets))

    def candidates(self, pixels: Pixels, as_image: bool = True) -> Iterator[tuple[Tensor, float]]:
        """Every result that the rules can give for an item, with its probability; duplicates kept."""
        flips = (False, True) if self.mirror else (False,)
        height, width = pixels.shape[:2]
        for window, probability in self.windows(height, width, as_image):
            for mirror in flips:
                yield self.apply(pixels, window, mirror, as_image), probability / len(flips)

    def apply(self, pixels: Pixels, window: Window, mirror: bool, as_image: bool = True) -> Tensor:
        """The result for a given window and flip: crop, resize, subtract the mean, scale, flip, in this order."""
        row, column, height, width = window
        part = pixels[row : row + height, column : column + width]
        if self.original_image and as_image:
            part = resize(part, self.crop, self.crop, cv2.INTER_CUBIC)
        elif self.crop and (height, width) != (self.crop, self.crop):
            part = resize(part, self.crop, self.crop) if as_image else _resize_planes(part, self.crop)
        values = np.empty((part.shape[2], *part.shape[:2]), np.float32)
        values[...] = part.transpose(2, 0, 1)
        if mirror and self.is_flow:
            values[::2] = np.float32(255) - values[::2]  # x components turn round
        if self.mean is not None or self.means.size:
            values -= self._mean_of(pixels.shape, window)
        if self.scale != 1:
            values *= self.scale
        return values[:, :, ::-1] if mirror else values

    def _fixed(self, height: int, width: int, as_image: bool) -> Window:
        if not self.crop:
            return Window(0, 0, height, width)
        if self.original_image and as_image:
            return windows.original_centre(height, width)
        self._check_size(height, width, (self.crop, self.crop))
        return windows.centre(height, width, self.crop)

    def _sizes(self, height: int, width: int) -> list[Pair]:
        """The sizes that a training crop may have, duplicates kept; the item holds crop_size also where none is it."""
        self._check_size(height, width, (self.crop, self.crop))
        if not self.multi_scale:
            return [(self.crop, self.crop)]
        return windows.crop_sizes(height, width, self.crop, self.ratios, self.max_distort)

    def _check_size(self, height: int, width: int, size: tuple[int, int]) -> None:
        if size[0] > height or size[1] > width:
            found = f"a crop of {size[0]}x{size[1]} from an item of {height}x{width} (height x width)"
            fix = "make the items larger (new_height, new_width, or resize them), or crop_size smaller"
            raise DataError(Problem(found, "a crop that fits", fix, field="crop_size"))
        if min(size) < 1:
            found = f"a crop of {size[0]}x{size[1]} from an item of {height}x{width}"
            raise DataError(Problem(found, "1 pixel or more", "larger ratios", field="scale_ratios"))

    def _mean_of(self, shape: tuple[int, ...], window: Window) -> NDArray[np.float32]:
        """What to subtract, (C, 1, 1) or (C, height, width); the mean image at the window's place."""
        height, width, channels = shape
        if self.mean is None:
            if self.means.size not in (1, channels):
                found = f"{self.means.size} values for an item of {channels} channels"
                raise DataError(Problem(found, f"1 or {channels}", field="mean_value"))
            return self.means[:, None, None]
        if self.mean.shape != (channels, height, width):
            found = f"a mean image {show(self.mean.shape)} for an item {show((channels, height, width))}"
            raise DataError(Problem(found, "equal sizes, as before the crop", "use mean_value", field="mean_file"))
        size = (self.crop, self.crop) if self.crop else (height, width)
        # With multi_scale the fork always takes the corner, in TEST phase too.
        row, column = (0, 0) if self.multi_scale and self.crop else window[:2]
        part = self.mean[:, row : row + size[0], column : column + size[1]]
        if part.shape[1:] != size:
            found = f"the crop at ({row}, {column}) reaches beyond the mean image {show(self.mean.shape)}"
            raise DataError(Problem(found, fix="use mean_value", field="mean_file"))
        return part


def resize(pixels: Pixels, height: int, width: int, how: int = cv2.INTER_LINEAR) -> Pixels:
    """An image (height, width, channels) resized by OpenCV, without anti-aliasing, as Caffe calls it.

    Raises DataError for an empty image, and for a size that no memory holds.
    """
    if not pixels.size:
        raise DataError(Problem(f"a window of {pixels.shape[0]}x{pixels.shape[1]} pixels", "1 pixel or more"))
    try:
        resized = cv2.resize(pixels, (width, height), interpolation=how)
    except cv2.error:
        found = f"OpenCV cannot resize it to {height:,}x{width:,} (height x width)"
        raise DataError(Problem(found, "a size that fits into memory")) from None
    return resized[:, :, None] if resized.ndim == 2 else resized


def _resize_planes(pixels: Pixels, size: int) -> Pixels:
    """A raw Datum resized channel by channel: OpenCV knows no images of many channels."""
    planes = [np.ascontiguousarray(pixels[:, :, channel]) for channel in range(pixels.shape[2])]
    return np.stack([cv2.resize(plane, (size, size), interpolation=cv2.INTER_LINEAR) for plane in planes], axis=2)


def _check(param: Any, transformer: Transformer) -> None:
    """Raise DataError for settings that Caffe's constructor refuses."""
    problems = []
    if param.mean_file and len(param.mean_value):
        found = "both mean_file and mean_value"
        problems.append(Problem(found, "one of them", field="transform_param"))
    if param.force_color and param.force_gray:
        found = "both force_color and force_gray"
        problems.append(Problem(found, "one of them", field="transform_param"))
    if transformer.original_image and not transformer.crop:
        problems.append(Problem("original_image without crop_size", fix="set crop_size", field="crop_size"))
    if transformer.multi_scale and not all(abs(ratio) < LARGEST_RATIO for ratio in transformer.ratios):  # NaN too
        found = " ".join(f"{ratio:g}" for ratio in transformer.ratios)
        problems.append(Problem(found, "shares of the image's shorter side, 0 to 1", field="scale_ratios"))
    if transformer.multi_scale and transformer.max_distort < 0:
        found = f"{transformer.max_distort}: no crop size is left"
        problems.append(Problem(found, "0 or more", field="max_distort"))
    if problems:
        raise DataError(problems)
