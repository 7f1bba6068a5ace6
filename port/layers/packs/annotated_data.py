"""AnnotatedData: images with the boxes of what they show, whose shapes follow from the layer's fields."""

from __future__ import annotations

from typing import Any

from ..base import Misfit, register
from ..data import _Transforming

FIT_SMALL_SIZE = "FIT_SMALL_SIZE"


@register
class AnnotatedData(_Transforming):
    """Images N x 3 x H x W, and ground truth 1 x 1 x G x 8 of a database (the forks' annotated_data_layer).

    H and W are those of the crop, else of `resize_param`. G is another number in every batch; the net is laid out
    for 1, the least that the forks make room for. A third top has maps of classes, whose shape is given (of
    MobileNet-YOLO). Nothing reads the database here.
    """

    type = "AnnotatedData"
    pack = "ssd"
    family = "input"
    param = ("data_param", "transform_param", "annotated_data_param")
    top_count = (1, 3)

    backend: str = "LEVELDB"
    force_encoded_color: bool = False
    prefetch: int = 4
    shuffle: bool = False
    crop_h: int = 0
    crop_w: int = 0
    resize_param: Any = None
    anno_type: str | None = None

    def size(self) -> tuple[int, int]:
        """Height and width of the images; 0 where the first one decides."""
        if self.crop_size:
            return self.crop_size, self.crop_size
        if self.crop_h and self.crop_w:
            return self.crop_h, self.crop_w
        given = self.resize_param if isinstance(self.resize_param, tuple) else (self.resize_param,)
        sizes = {(resize.height, resize.width) for resize in given if resize is not None}
        names = {_mode(resize) for resize in given if resize is not None}
        return sizes.pop() if len(sizes) == 1 and FIT_SMALL_SIZE not in names else (0, 0)

    def top_shapes(self):
        if self.anno_type not in (None, "BBOX"):
            raise Misfit(f"anno_type {self.anno_type}", "BBOX, or the shapes of all tops", "anno_type")
        size = self.size()
        if self.at.tops == 3:
            raise self.unknown("the maps of the first image")
        if not all(size) or not self.batch_size:
            raise self.unknown("the first image's size" if self.batch_size else "batch_size, which is missing")
        return ((self.batch_size, 1 if self.force_gray else 3, *size), (1, 1, 1, 8))[: self.at.tops]


def _mode(resize: Any) -> str:
    """How images are resized, by name."""
    return resize.DESCRIPTOR.fields_by_name["resize_mode"].enum_type.values_by_number[resize.resize_mode].name
