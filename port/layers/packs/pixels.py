"""Boxes as fractions of what a net saw, in pixels of the image that it was made from; all in float32, as the forks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..base import Array, Misfit

WARP, FIT_SMALL_SIZE, FIT_LARGE_SIZE_AND_PAD = "WARP", "FIT_SMALL_SIZE", "FIT_LARGE_SIZE_AND_PAD"


def read_sizes(path: str) -> list[tuple[int, int]]:
    """Height and width of each image of a file with lines of name, height, width; raises Misfit."""
    try:
        words = Path(path).read_text(encoding="utf-8").split()
        sizes = [(int(high), int(wide)) for high, wide in zip(words[1::3], words[2::3], strict=True)]
    except (OSError, ValueError) as error:
        fix = "remove the field: boxes are then compared as fractions of the image"
        raise Misfit(
            f"the file cannot be read: {error}", "lines of name, height, width", "name_size_file", fix
        ) from None
    if not sizes:
        raise Misfit("the file names no image", "lines of name, height, width", "name_size_file")
    return sizes


@dataclass(frozen=True)
class Resize:
    """How images were fitted to the net: the mode, the net's extents, and those that FIT_SMALL_SIZE scales to."""

    mode: str = WARP
    height: int = 0
    width: int = 0
    height_scale: int = 0
    width_scale: int = 0

    def inner(self, high: int, wide: int) -> tuple[np.float32, ...] | None:
        """Of an image padded to the net's extents the part that is image, as a box of fractions."""
        if self.mode != FIT_LARGE_SIZE_AND_PAD:
            return None
        one, zero, aspect = np.float32(1), np.float32(0), np.float32(wide) / np.float32(high)
        tall, broad = np.float32(self.height), np.float32(self.width)
        if aspect > broad / tall:
            start = (tall - broad / aspect) / np.float32(2) / tall
            return zero, start, one, one - start
        start = (broad - tall * aspect) / np.float32(2) / broad
        return start, zero, one - start, one

    def scaled_to(self, high: int, wide: int) -> tuple[int, int] | None:
        """The extents that FIT_SMALL_SIZE's boxes are fractions of; None where it is the image's own."""
        given = self.mode == FIT_SMALL_SIZE and self.height_scale and self.width_scale
        return (self.height_scale, self.width_scale) if given else None


def resize_of(message: Any) -> Resize:
    """The settings of a ResizeParameter (None: not given); raises Misfit where it has no extents."""
    if message is None:
        return Resize()
    names = message.DESCRIPTOR.fields_by_name["resize_mode"].enum_type.values_by_number
    if not message.height or not message.width:
        raise Misfit(f"height {message.height}, width {message.width}", "both above 0", "resize_param")
    extents = message.height, message.width, message.height_scale, message.width_scale
    return Resize(names[message.resize_mode].name, *extents)


def in_pixels(boxes: Array, size: tuple[int, int], resize: Resize) -> tuple[Array, Array]:
    """Boxes M x 4 in pixels of an image (height, width), and their areas."""
    boxes, inner, other = boxes.astype(np.float32), resize.inner(*size), resize.scaled_to(*size)
    if inner is not None:
        src = np.array(inner)
        spread = np.tile(src[2:] - src[:2], 2)
        outside = np.concatenate([boxes[:, :2] >= src[2:], boxes[:, 2:] <= src[:2]], 1).any(1, keepdims=True)
        boxes = np.where(outside, boxes, (boxes - np.tile(src[:2], 2)) / spread)
    if other is not None:
        boxes = boxes * np.array(other[::-1] * 2, np.float32)
        boxes = boxes.clip(0, np.array(size[::-1] * 2, np.float32))
    else:
        boxes = boxes.clip(0, 1) * np.array(size[::-1] * 2, np.float32)
    more = np.float32(0 if other is not None or max(size) <= 1 else 1)
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes, np.where((sides < 0).any(1), 0, (sides[:, 0] + more) * (sides[:, 1] + more))


def in_pixels_tensor(boxes: torch.Tensor, size: tuple[int, int], resize: Resize) -> tuple[torch.Tensor, torch.Tensor]:
    """`in_pixels` in torch."""
    boxes, inner, other = boxes.float(), resize.inner(*size), resize.scaled_to(*size)
    x, y = boxes[:, 0::2], boxes[:, 1::2]
    if inner is not None:
        left, top, right, bottom = map(float, inner)
        inside = (x[:, :1] < right) & (x[:, 1:] > left) & (y[:, :1] < bottom) & (y[:, 1:] > top)
        x = torch.where(inside, (x - left) / float(inner[2] - inner[0]), x)
        y = torch.where(inside, (y - top) / float(inner[3] - inner[1]), y)
    if other is not None:
        x, y = (x * other[1]).clamp(0, size[1]), (y * other[0]).clamp(0, size[0])
    else:
        x, y = x.clamp(0, 1) * size[1], y.clamp(0, 1) * size[0]
    wide, high = x[:, 1] - x[:, 0], y[:, 1] - y[:, 0]
    more = 0 if other is not None or max(size) <= 1 else 1
    area = torch.where((wide < 0) | (high < 0), 0, (wide + more) * (high + more))
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1), area


def pixel_overlaps(a: Array, area_a: Array, b: Array, area_b: Array) -> Array:
    """Intersection over union M x G of boxes that hold their borders; as in the forks boxes apart share one pixel."""
    a, b = a[:, None], b[None]
    apart = (b[..., :2] > a[..., 2:]).any(-1) | (b[..., 2:] < a[..., :2]).any(-1)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + np.float32(1)
    common = np.where(apart, np.float32(1), sides[..., 0] * sides[..., 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        shared = common / (area_a[:, None] + area_b - common)
    return np.where(apart | (sides > 0).all(-1), shared, np.float32(0))


def pixel_overlap_tensor(a: Any, area_a: Any, b: Any, area_b: Any) -> torch.Tensor:
    """`pixel_overlaps` in torch."""
    left, top = torch.maximum(a[:, None, 0], b[:, 0]), torch.maximum(a[:, None, 1], b[:, 1])
    wide = torch.minimum(a[:, None, 2], b[:, 2]) - left
    high = torch.minimum(a[:, None, 3], b[:, 3]) - top
    apart = (b[:, :2] > a[:, None, 2:]).any(-1) | (b[:, 2:] < a[:, None, :2]).any(-1)
    common = torch.where(apart, 1, (wide + 1) * (high + 1))
    shared = common / (area_a[:, None] + area_b - common)
    return torch.where(apart | ((wide + 1 > 0) & (high + 1 > 0)), shared, 0)
