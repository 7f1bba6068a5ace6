"""Data layers of segmentation forks: in a graph their tops are inputs, whose shapes follow from their fields."""

from __future__ import annotations

from ..base import Misfit, Shape, register
from ..data import _Transforming


class _Segmented(_Transforming):
    """Images N x C x H x W with a label for every place, N x 1 x H x W."""

    family = "input"

    shuffle: bool = False
    new_height: int = 0
    new_width: int = 0
    is_color: bool = True
    root_folder: str = ""
    crop_height: int = 0
    crop_width: int = 0

    def crops(self) -> list[tuple[int, int]]:
        """Sizes that images may be cut to, the first that is there counts."""
        return [(self.crop_size, self.crop_size), (self.crop_height, self.crop_width)]

    def top_shapes(self):
        sizes = [*self.crops(), (self.new_height, self.new_width)]
        size = next((size for size in sizes if all(size)), None)
        if size is None or not self.batch_size:
            raise self.unknown("the first image's size" if self.batch_size else "batch_size, which is missing")
        images: Shape = (self.batch_size, 3 if self.is_color else 1, *size)
        return (images, (self.batch_size, 1, *self.labels(size)), (self.batch_size, 1, 1, 2))[: self.at.tops]

    def labels(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the labels of images of a size."""
        return size


@register
class DenseImageData(_Segmented):
    """Image files and label images of a list (SegNet's and ENet's dense_image_data_layer).

    ENet's makes the labels of whole images smaller.
    """

    type = "DenseImageData"
    pack = "segnet"
    param = ("dense_image_data_param", "transform_param")
    top_count = (2, 2)

    label_divide_factor: int = 1

    def __post_init__(self):
        super().__post_init__()
        if self.label_divide_factor < 1:
            raise Misfit(f"label_divide_factor {self.label_divide_factor}", "1 or more", "label_divide_factor")

    def labels(self, size):
        if all((self.crop_height, self.crop_width)):
            return size
        return (size[0] // self.label_divide_factor, size[1] // self.label_divide_factor)


@register
class ImageSegData(_Segmented):
    """Image files and label images of a list; a third top has the images' sizes (DeepLab's image_seg_data_layer)."""

    type = "ImageSegData"
    pack = "deeplab"
    param = ("image_data_param", "transform_param")
    top_count = (1, 3)

    label_type: str = "IMAGE"
    ignore_label: int = 255
    crop_h: int = 0
    crop_w: int = 0

    def crops(self):
        return [*super().crops(), (self.crop_h, self.crop_w)]
