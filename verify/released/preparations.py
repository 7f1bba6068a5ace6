"""Other ways to make a net's input of an image than the authors' program: what a net or its scores may have had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from port.images import MEAN, load_image, read_pixels
from port.images.resize import unit_values

Image = NDArray[Any]
Resize = Callable[[Image, int, int], Image]  # (h, w, 3) in 0 to 1 to another height and width

_MEAN = np.array(MEAN)[:, None, None]
_VGG_MEAN = np.array((103.939, 116.779, 123.68))[:, None, None]
# What torchvision's nets are trained with: RGB in 0..1, less the mean, by the deviation.
_TORCH_MEAN, _TORCH_DEVIATION = (np.array(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@dataclass(frozen=True)
class Preparation:
    """One way; `text` completes "the scores of the authors are those of images ..."."""

    kind: str  # channels, mean, scale, mirrored, resize
    text: str
    make: Callable[[Path, int, int], Image]  # file, height, width -> (3, height, width)

    def __call__(self, path: Path, height: int, width: int) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.make(path, height, width), np.float32)


def _of_pixels(kind: str, text: str, change: Callable[[Image], Image]) -> Preparation:
    """Resized as the authors do, then `change`: (3, h, w), blue first, 0..255 -> what the net reads."""
    return Preparation(kind, text, lambda path, h, w: change(load_image(path, h, w, mean=(0, 0, 0)).astype(float)))


def _named(resize: str, text: str) -> Preparation:
    """Resized in a way that `port.images` has, then as the authors do."""
    return Preparation("resize", text, lambda path, h, w: load_image(path, h, w, resize=resize))


def _resized(text: str, resize: Resize) -> Preparation:
    """Resized in another way, then as the authors do."""
    return Preparation("resize", text, lambda path, h, w: _finished(resize(decoded(path), h, w)))


def _finished(image: Image) -> Image:
    """(h, w, 3), RGB in 0 to 1, as the net reads it."""
    return 255 * image.transpose(2, 0, 1)[::-1] - _MEAN


def decoded(path: Path) -> Image:
    """An image at its own size, (h, w, 3), RGB in 0 to 1."""
    pixels = read_pixels(path)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return unit_values(pixels)


def _scikit(**options: Any) -> Resize:
    def resize(pixels: Image, height: int, width: int) -> Image:
        from skimage.transform import resize as scikit  # slow to import

        return scikit(pixels, (height, width), anti_aliasing=False, **options)

    return resize


_bilinear = _scikit(order=1, mode="constant")


def _cropped(shorter: bool) -> Resize:
    """The centre of an image resized to 256/224 of the net's input, as a whole or by its shorter side."""

    def resize(pixels: Image, height: int, width: int) -> Image:
        high, wide = round(height * 256 / 224), round(width * 256 / 224)
        if shorter:
            scale = max(high / pixels.shape[0], wide / pixels.shape[1])
            high, wide = (max(side, round(scale * n)) for side, n in zip((high, wide), pixels.shape, strict=False))
        whole = _bilinear(pixels, high, wide)
        top, left = (high - height) // 2, (wide - width) // 2
        return whole[top : top + height, left : left + width]

    return resize


AS_PUBLISHED = _of_pixels("", "prepared as the authors' program does", lambda x: x - _MEAN)

PREPARATIONS = (
    _of_pixels("channels", "with the channels in the order RGB, the mean with them", lambda x: (x - _MEAN)[::-1]),
    _of_pixels("channels", "with the channels in the order RGB, the mean in the order BGR", lambda x: x[::-1] - _MEAN),
    _of_pixels("mean", "without the mean subtracted", lambda x: x),
    _of_pixels("mean", "less the mean 103.939, 116.779, 123.68", lambda x: x - _VGG_MEAN),
    _of_pixels(
        "mean", "less the mean in the order RGB: 123, 117, 104 from blue, green, red", lambda x: x - _MEAN[::-1]
    ),
    _of_pixels("mean", "less 128", lambda x: x - 128),
    _of_pixels("mean", "with the channels in the order RGB and without the mean subtracted", lambda x: x[::-1]),
    _of_pixels("scale", "in 0 to 1, without the mean subtracted", lambda x: x / 255),
    _of_pixels("scale", "in 0 to 1 in the order RGB, without the mean subtracted", lambda x: x[::-1] / 255),
    _of_pixels("scale", "in 0 to 1, less the mean of 104, 117, 123", lambda x: x / 255 - _MEAN),
    _of_pixels("scale", "less the mean, then divided by 255", lambda x: (x - _MEAN) / 255),
    _of_pixels(
        "scale",
        "in 0 to 1 in the order RGB, normalised as for torchvision's nets",
        lambda x: (x[::-1] / 255 - _TORCH_MEAN) / _TORCH_DEVIATION,
    ),
    _of_pixels("mirrored", "mirrored left to right", lambda x: (x - _MEAN)[:, :, ::-1]),
    _named("antialias", "resized with anti-aliasing, as scikit-image does today"),
    _resized("resized with mirrored borders, as scikit-image 0.14 does", _scikit(order=1, mode="reflect")),
    _named("pycaffe", "resized by pycaffe, which puts the least value outside"),
    _named("opencv", "resized by OpenCV, bilinear"),
    _named("opencv-area", "resized by OpenCV, by area"),
    _named("pil", "resized by Pillow, bilinear"),
    _named("caffe", "decoded and resized by Caffe's data layers"),
    _resized("resized by the nearest pixel", _scikit(order=0, mode="constant")),
    _resized("resized to 256x256, of which the centre is taken", _cropped(shorter=False)),
    _resized("resized to 256 on the shorter side, of which the centre is taken", _cropped(shorter=True)),
)


def one_level_off(path: Path, height: int, width: int) -> NDArray[np.float32]:
    """An image with every value a grey level up, down or as it is, as another JPEG decoder may have it."""
    pixels = decoded(path)
    moved = np.clip(pixels + np.random.RandomState(0).randint(-1, 2, pixels.shape) / 255, 0, 1)
    return _finished(_bilinear(moved, height, width)).astype(np.float32)
