"""PriorBox: the boxes that a detector's predictions are relative to, laid out on a feature map's grid."""

from __future__ import annotations

from math import inf, sqrt
from typing import Any

import numpy as np
import torch

from ..base import Layer, Misfit, register, show

SAME = 1e-6  # aspect ratios that differ by less are one
INSET = 0.05  # what the TensorFlow form takes off each side of its smallest box


def extent(shape, axis: int) -> int:
    """An extent by Caffe's old names (2: height, 3: width): 1 where there are fewer axes; raises Misfit above 4."""
    if len(shape) > 4:
        raise Misfit(f"an input with {len(shape)} axes", "at most 4: N, C, H, W", "bottom")
    return shape[axis] if axis < len(shape) else 1


@register
class PriorBox(Layer):
    """1 x 2 x 4K: boxes by rows, columns and kinds, and their variances (the forks' prior_box_layer).

    As in the forks min_size and max_size lose their fractions. A box is xmin, ymin, xmax, ymax over the image's
    extents; `yx_order`, `tf`, `keras`, `faceboxes`, `box_width` and `box_height` are of one fork. TextBoxes++ has each
    box twice with `denser_prior_boxes`, the second time at the lower end of the cell.
    """

    type = "PriorBox"
    known_to_opencv = True
    pack = "ssd"
    param = ("prior_box_param",)
    bottom_count = (2, 2)
    no_gradient = (0, 1)

    min_size: tuple[float, ...] = ()
    max_size: tuple[float, ...] = ()
    aspect_ratio: tuple[float, ...] = ()
    flip: bool = True
    clip: bool = False
    variance: tuple[float, ...] = ()
    img_size: int | None = None
    img_h: int | None = None
    img_w: int | None = None
    step: float | None = None
    step_h: float | None = None
    step_w: float | None = None
    offset: float = 0.5
    faceboxes: bool = False
    box_width: tuple[float, ...] = ()
    box_height: tuple[float, ...] = ()
    tf: bool = False
    yx_order: bool = False
    keras: bool = False
    denser_prior_boxes: bool = False

    def opencv_agrees(self):
        """Several sizes and the image's own it takes otherwise; what one fork has it ignores."""
        own = (self.img_size, self.img_h, self.img_w, self.faceboxes, self.tf, self.yx_order, self.keras)
        return len(self.min_size) == 1 and not any((*own, self.box_width, self.denser_prior_boxes))

    def _require(self) -> None:
        """Raise Misfit for what the forks refuse before they look at any blob."""
        for name in ("min_size", "max_size", "aspect_ratio", "variance"):
            if any(not 0 < value < inf for value in getattr(self, name)):
                found = ", ".join(f"{v:g}" for v in getattr(self, name))
                raise Misfit(f"{name} {found}", "all above 0, and numbers", name)
        if len(self.max_size) not in (0, len(self.min_size)):
            raise Misfit(f"{len(self.max_size)} max_size and {len(self.min_size)} min_size", "as many", "max_size")
        if any(high <= low for low, high in zip(self.min_size, self.max_size, strict=False)):
            raise Misfit(f"max_size {self.max_size} beside min_size {self.min_size}", "greater ones", "max_size")
        if len(self.variance) not in (0, 1, 4):
            raise Misfit(f"{len(self.variance)} variances", "1 or 4", "variance")
        if len(self.box_width) != len(self.box_height):
            found = f"{len(self.box_width)} box_width and {len(self.box_height)} box_height"
            raise Misfit(found, "as many", "box_height")
        if self.faceboxes and (self.yx_order or self.keras):
            raise Misfit("faceboxes with yx_order or keras", "one of the forms", "faceboxes")
        if not self.min_size and not self.box_width:
            raise Misfit("no min_size", "one or more", "min_size")

    def _pair(self, name: str, both: str) -> tuple[Any, Any] | None:
        """Height and width of a setting that is given by one field or by two; None: not given."""
        one, high, wide = (getattr(self, field) for field in (both, f"{name}_h", f"{name}_w"))
        if high is None and wide is None:
            pair = None if one is None else (one, one)
        elif one is not None:
            raise Misfit(f"{both} beside {name}_h or {name}_w", "one of the two forms", both)
        else:
            pair = (high, wide)
        if pair is not None and any(value is None or not value > 0 for value in pair):
            raise Misfit(f"{name}_h {pair[0]}, {name}_w {pair[1]}", "both above 0", name if one is None else both)
        return pair

    def grid(self, x, image) -> tuple[tuple[int, int], tuple[int, int], tuple[float, float]]:
        """Extents of the map and of the image, and the steps between centres in pixels: each height, width."""
        cells = (extent(x, 2), extent(x, 3))
        size = self._pair("img", "img_size") or (extent(image, 2), extent(image, 3))
        if not all(cells) or not all(size):
            raise Misfit(f"a map of {show(x)} in an image of {show(image)}", "extents above 0", "bottom")
        high, wide = (float(np.float32(n) / np.float32(c)) for n, c in zip(size, cells, strict=True))
        return cells, size, self._pair("step", "step") or (high, wide)

    def ratios(self) -> list[float]:
        """The aspect ratios but for 1, each once, with their reciprocals where boxes are flipped."""
        found = [1.0]
        for ratio in self.aspect_ratio:
            if all(abs(np.float32(ratio) - np.float32(old)) >= SAME for old in found):
                found += [ratio, float(np.float32(1 / ratio))] if self.flip else [ratio]
        return [ratio for ratio in found if abs(ratio - 1) >= SAME]

    def cell(self) -> np.ndarray:
        """K x 8: the sides of each box relative to its centre in pixels, then what is added over the image's extent."""
        self._require()
        sizes = zip(self.box_width, self.box_height, strict=True)
        boxes = [_sides(wide, high) for wide, high in sizes]
        if not boxes:
            largest = self.max_size or (None,) * len(self.min_size)
            for low, high in zip(self.min_size, largest, strict=True):
                boxes += self._of_size(int(low), None if high is None else int(high))
            dense = self.faceboxes and len(self.min_size) == 3
            made = 21 if dense else (1 + len(self.ratios())) * len(self.min_size) + len(self.max_size)
            if len(boxes) != made:  # the forks have room for another number than they write
                raise Misfit(f"{len(boxes)} boxes for each cell", f"{made}, as the forks count them", "min_size")
        return np.array(boxes)

    def boxes(self, step: tuple[float, float]) -> np.ndarray:
        """`cell`, where boxes are dense each with a copy behind it whose centre is at the lower end of the cell."""
        cell = self.cell()
        if not self.denser_prior_boxes:
            return cell
        lower = cell.copy()
        lower[:, [1, 3]] += (1 - float(np.float32(self.offset))) * step[0]
        return np.stack([cell, lower], 1).reshape(-1, cell.shape[1])

    def _of_size(self, low: int, high: int | None) -> list[list[float]]:
        """The boxes of one min_size and its max_size."""
        inset = INSET if self.tf and not self.keras and low == 60 else 0.0
        first = _dense(low) if self.faceboxes else [_sides(low, low, inset)]
        side = None if high is None else float(np.float32(sqrt(low * high)))
        middle = [] if side is None else [_sides(side, side)]
        root = [np.sqrt(np.float32(ratio)) for ratio in self.ratios()]
        rest = [_sides(float(np.float32(low * r)), float(np.float32(low / r))) for r in root]
        if self.keras:
            return [*middle, *first, *rest]
        return [*first, *rest, *middle] if self.tf else [*first, *middle, *rest]

    def top_shapes(self, x, image):
        (high, wide), _, step = self.grid(x, image)
        return ((1, 2, high * wide * len(self.boxes(step)) * 4),)

    @property
    def spread(self) -> np.ndarray:
        """The four variances."""
        return np.broadcast_to(np.array(self.variance or (0.1,), np.float32), 4).astype(np.float64)

    def reference(self, blobs, x, image):
        (high, wide), size, step = self.grid(x.shape, image.shape)
        cell = self.boxes(step)
        places = [
            ((np.arange(count, dtype=np.float32) + np.float32(self.offset)) * np.float32(each)).astype(np.float64)
            for count, each in zip((high, wide), step, strict=True)
        ]
        centres = (places[1][None, :, None], places[0][:, None, None]) * 2  # x, y, x, y
        tops = np.empty((high, wide, len(cell), 4))
        for i, (centre, length) in enumerate(zip(centres, size[::-1] * 2, strict=True)):
            tops[..., i] = (centre + cell[:, i]) / length + cell[:, 4 + i]
        tops = tops[..., [1, 0, 3, 2]] if self.yx_order else tops
        tops = tops.clip(0, 1) if self.clip else tops
        return (np.stack([tops.reshape(-1), np.tile(self.spread, tops.size // 4)])[None],)

    def forward(self, module, x, image):
        cells, size, step = self.grid(tuple(x.shape), tuple(image.shape))
        cell = torch.from_numpy(self.boxes(step))
        # Caffe's centres are float32, the boxes around them are rounded once
        places = [(torch.arange(n, dtype=torch.float32) + self.offset) * s for n, s in zip(cells, step, strict=True)]
        centres = torch.stack(torch.meshgrid(*places, indexing="ij"), -1).flip(-1).repeat(1, 1, 2).double()
        extents = torch.tensor(size[::-1] * 2, dtype=torch.float64)
        boxes = (centres[:, :, None] + cell[:, :4]) / extents + cell[:, 4:]
        boxes = boxes[..., [1, 0, 3, 2]] if self.yx_order else boxes
        boxes = boxes.clamp(0, 1) if self.clip else boxes
        spread = torch.from_numpy(self.spread).expand(boxes.shape)
        return (torch.stack([boxes.reshape(-1), spread.reshape(-1)])[None].to(x),)

    def onnx(self, graph, x, image):
        blank = [np.empty((0, *graph.shape(bottom)[1:])) for bottom in (x, image)]
        return (graph.constant(self.reference([], *blank)[0], name="priors"),)


def _sides(wide: float, high: float, inset: float = 0.0) -> list[float]:
    """A box around its centre, by its extents in pixels."""
    return [-wide / 2, -high / 2, wide / 2, high / 2, inset, inset, -inset, -inset]


def _dense(size: int) -> list[list[float]]:
    """FaceBoxes' anchors of a size: the smaller ones at 16 or 4 places of each cell."""
    places = {32: (range(-2, 2), 8), 64: (range(-1, 1), 16)}.get(size, (range(1), 0))
    reach = (size - 1) / 2
    return [
        [x * places[1] - reach, y * places[1] - reach, x * places[1] + reach, y * places[1] + reach, 0, 0, 0, 0]
        for y in places[0]
        for x in places[0]
    ]
