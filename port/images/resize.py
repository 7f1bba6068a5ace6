"""Ways to bring an image to a net's height and width; the default is scikit-image's of 2017."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.base.errors import UsageError, closest

Pixels = NDArray[Any]
Floats = NDArray[np.float64]

# In [0, 1] and rounded to float32, as the authors' program reads images.
_UNIT = (np.arange(256) / 255).astype(np.float32).astype(np.float64)


def unit_values(pixels: Pixels) -> Floats:
    """Pixels of a file in [0, 1], rounded to float32, kept in float64."""
    if pixels.dtype == np.uint8:
        return _UNIT.take(pixels)
    values = pixels / 65535 if pixels.dtype == np.uint16 else pixels
    return values.astype(np.float32).astype(np.float64)


@dataclass(frozen=True)
class _Axis:
    """For every output position of one axis its two neighbours in the input and their weights."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    low_weight: Floats
    high_weight: Floats
    outside: bool  # some positions have a neighbour outside the image


@lru_cache(maxsize=4096)
def _axis(size: int, wanted: int) -> _Axis:
    """Pixel centres mapped onto each other; a neighbour outside has weight 0."""
    place = (np.arange(wanted) + 0.5) * (size / wanted) - 0.5
    floor = np.floor(place)
    part = place - floor
    low = floor.astype(np.intp)
    inside_low, inside_high = low >= 0, low + 1 < size
    # a neighbour of weight 0 is no neighbour: the last pixel itself lies inside
    outside = bool((~inside_low | (~inside_high & (part > 0))).any())
    return _Axis(
        np.maximum(low, 0),
        np.minimum(low + 1, size - 1),
        np.where(inside_low, 1 - part, 0.0),
        np.where(inside_high, part, 0.0),
        outside,
    )


def _planes(pixels: Pixels, height: int, width: int, fill: float) -> Floats:
    """The channels (3, height, width) in [0, 1], bilinear, with `fill` outside the image."""
    rows, columns = _axis(pixels.shape[0], height), _axis(pixels.shape[1], width)
    used = pixels.take(np.concatenate([rows.low, rows.high]), axis=0)
    channels = [used] if used.ndim == 2 else [used[:, :, i] for i in range(3)]
    result = np.empty((len(channels), height, width))
    for plane, channel in zip(result, channels, strict=True):
        channel = np.ascontiguousarray(channel)
        both = _values(channel.take(columns.low, axis=1), fill)
        both *= columns.low_weight
        right = _values(channel.take(columns.high, axis=1), fill)
        right *= columns.high_weight
        both += right
        np.multiply(both[:height], rows.low_weight[:, None], out=plane)
        lower = both[height:]
        lower *= rows.high_weight[:, None]
        plane += lower
    if fill:
        result += fill
    return result if len(result) == 3 else np.repeat(result, 3, axis=0)


def _values(pixels: Pixels, fill: float) -> Floats:
    values = unit_values(pixels)
    if fill:
        values -= fill
    return values


def _span(pixels: Pixels) -> tuple[float, float]:
    least, most = unit_values(np.array([pixels.min(), pixels.max()]))
    return float(least), float(most)


def authors(pixels: Pixels, height: int, width: int) -> Floats:
    """scikit-image 0.12 and 0.13: bilinear, no anti-aliasing, zeros outside, then clipped to the image's range."""
    result = _planes(pixels, height, width, 0.0)
    if _axis(pixels.shape[0], height).outside or _axis(pixels.shape[1], width).outside:
        np.clip(result, *_span(pixels), out=result)
    return result


def pycaffe(pixels: Pixels, height: int, width: int) -> Floats:
    """`caffe.io.resize_image` on the same scikit-image: the least value is outside, since the range is stretched."""
    return _planes(pixels, height, width, _span(pixels)[0])


def antialias(pixels: Pixels, height: int, width: int) -> Floats:
    """scikit-image's `resize` of today with its defaults: smoothed before, mirrored at the border."""
    from skimage.transform import resize  # slow to import

    result = resize(unit_values(pixels), (height, width), order=1, mode="reflect", anti_aliasing=True)
    return _channels_first(result)


def pil(pixels: Pixels, height: int, width: int) -> Floats:
    """Pillow's bilinear, whose window grows with the image (torchvision's too); 8 bits stay 8 bits."""
    from PIL import Image

    if pixels.dtype == np.uint8:
        resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
        return _channels_first(unit_values(np.asarray(resized)))
    planes = _channels_first(unit_values(pixels)).astype(np.float32)
    resized_planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR) for plane in planes]
    return np.stack([np.asarray(plane, np.float64) for plane in resized_planes])


def opencv(pixels: Pixels, height: int, width: int) -> Floats:
    """OpenCV's INTER_LINEAR: bilinear, no anti-aliasing, the border repeated; 8 bits stay 8 bits."""
    return _opencv(pixels, height, width, "INTER_LINEAR")


def opencv_area(pixels: Pixels, height: int, width: int) -> Floats:
    """OpenCV's INTER_AREA: the mean of what a pixel covers; 8 bits stay 8 bits."""
    return _opencv(pixels, height, width, "INTER_AREA")


def _opencv(pixels: Pixels, height: int, width: int, how: str) -> Floats:
    import cv2

    known = pixels if pixels.dtype in (np.uint8, np.uint16) else pixels.astype(np.float32)
    return _channels_first(unit_values(cv2.resize(known, (width, height), interpolation=getattr(cv2, how))))


def _channels_first(values: Pixels) -> Pixels:
    return np.repeat(values[None], 3, axis=0) if values.ndim == 2 else values.transpose(2, 0, 1)


AUTHORS = "authors"
CAFFE = "caffe"  # decodes by OpenCV too: see load.py

WAYS: dict[str, Callable[[Pixels, int, int], Floats]] = {
    AUTHORS: authors,
    "pycaffe": pycaffe,
    "antialias": antialias,
    "pil": pil,
    "opencv": opencv,
    "opencv-area": opencv_area,
}
RESIZES = (*WAYS, CAFFE)


def check_resize(name: str) -> None:
    """Raise UsageError for a way that is none."""
    if name not in RESIZES:
        raise UsageError(f"resize '{name}': {closest(name, RESIZES)}")
