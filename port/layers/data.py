"""Data layers: in a graph their tops are inputs; what feeds them in training stands elsewhere."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from .base import Layer, Misfit, as_shape, register, set_fields

DEPRECATED = ("scale", "mean_file", "crop_size", "mirror")


class DataLayer(Layer):
    """A layer whose tops the caller, or training's data reader, provides."""

    kind = "data"
    bottom_count = (0, 0)
    top_count: ClassVar[tuple[int, int | None]] = (1, None)

    def unknown(self, why: str):
        """The complaint about a shape that only the data knows."""
        blob, *more = self.at.made or ("blob",)
        shapes = f"{{'{blob}': (N, C, H, W){', ...' if more else ''}}}"
        return Misfit(
            f"the shape of its tops depends on {why}",
            field="top",
            fix=f"give it: load_net(..., input_shapes={shapes}), by blob name",
        )

    def reference(self, blobs):
        raise Misfit("a data layer is not computed; its tops are given")

    def forward(self, module):
        raise Misfit("a data layer is not computed; its tops are given")

    def onnx(self, graph):
        raise Misfit("a data layer is not computed; its tops are given")


class _Transformed(DataLayer):
    """Data layers with `transform_param`.

    The deprecated twins of its fields, inside the layer's own message, are ignored as Caffe ignores them.
    """

    scale: float = 1.0
    mirror: bool = False
    crop_size: int = 0
    mean_file: str = ""
    mean_value: tuple[float, ...] = ()
    force_color: bool = False
    force_gray: bool = False
    fix_crop: bool = False
    more_fix_crop: bool = False
    multi_scale: bool = False
    scale_ratios: tuple[float, ...] = ()
    max_distort: int = 1
    is_flow: bool = False
    original_image: bool = False

    @classmethod
    def read(cls, message):
        """The set fields, without the deprecated twins."""
        own = {k: v for k, v in set_fields(message, cls.param[:1]).items() if k not in DEPRECATED}
        return own | set_fields(message, cls.param[1:])

    def __post_init__(self):
        """Raise Misfit for fields that exclude or need each other (DataTransformer's constructor)."""
        for one, other in (("mean_file", "mean_value"), ("force_color", "force_gray")):
            if getattr(self, one) and getattr(self, other):
                raise Misfit(f"both {one} and {other}", "one of them", "transform_param")
        if self.original_image and not self.crop_size:
            raise Misfit("original_image without crop_size", field="crop_size", fix="set crop_size")


def both_or_neither(new_height: int, new_width: int) -> None:
    """Raise Misfit for one side of the size that images are resized to (image_data_layer, DataLayerSetUp)."""
    if bool(new_height) != bool(new_width):
        raise Misfit(f"new_height {new_height}, new_width {new_width}", "both, or neither", "new_height")


class _Transforming(_Transformed):
    """Those that read a source: one image blob, and labels where there is a second top."""

    top_count = (1, 2)

    source: str = ""
    batch_size: int | None = None
    rand_skip: int = 0


@register
class Data(_Transforming):
    """Datums of a database; semantics 5 (data_layer)."""

    type = "Data"
    family = "input"
    param = ("data_param", "transform_param")

    backend: str = "LEVELDB"
    force_encoded_color: bool = False
    prefetch: int = 4
    shuffle: bool = False

    def top_shapes(self):
        raise self.unknown("the database's first item")


@register
class ImageData(_Transforming):
    """Image files of a list; semantics 5 (image_data_layer)."""

    type = "ImageData"
    family = "input"
    param = ("image_data_param", "transform_param")
    top_count = (2, 2)

    shuffle: bool = False
    new_height: int = 0
    new_width: int = 0
    is_color: bool = True
    root_folder: str = ""

    def __post_init__(self):
        super().__post_init__()
        both_or_neither(self.new_height, self.new_width)

    def top_shapes(self):
        size = (self.crop_size,) * 2 if self.crop_size else (self.new_height, self.new_width)
        batch = self.batch_size or self.at.habits.image_batch
        if not all(size) or not batch:
            raise self.unknown("the first image's size" if batch else "batch_size, which is missing")
        return ((batch, 3 if self.is_color else 1, *size), (batch,))


@register
class WindowData(_Transforming):
    """Windows of image files; semantics 5 (window_data_layer)."""

    type = "WindowData"
    family = "input"
    param = ("window_data_param", "transform_param")
    top_count = (2, 2)

    fg_threshold: float = 0.5
    bg_threshold: float = 0.5
    fg_fraction: float = 0.25
    context_pad: int = 0
    crop_mode: str = "warp"
    cache_images: bool = False
    root_folder: str = ""

    def top_shapes(self):
        if not self.crop_size or not self.batch_size:
            raise self.unknown("crop_size and batch_size")
        return ((self.batch_size, 3, self.crop_size, self.crop_size), (self.batch_size,))


@register
class VideoData(_Transforming):
    """Frames or flow of videos, the fork's; semantics 5 (video_data_layer)."""

    type = "VideoData"
    family = "input"
    param = ("video_data_param", "transform_param")
    top_count = (2, 2)

    shuffle: bool = False
    new_height: int = 0
    new_width: int = 0
    new_length: int = 1
    num_segments: int = 1
    modality: str = "FLOW"
    name_pattern: str = ""
    encoded: bool = False

    def __post_init__(self):
        super().__post_init__()
        both_or_neither(self.new_height, self.new_width)

    def top_shapes(self):
        if not self.crop_size or not self.batch_size:
            raise self.unknown("the frames' size")
        per = 3 if self.modality == "RGB" else 2
        channels = per * self.new_length * self.num_segments
        return ((self.batch_size, channels, self.crop_size, self.crop_size), (self.batch_size, 1, 1, 1))


@register
class HDF5Data(DataLayer):
    """Datasets of HDF5 files, one a top; semantics 5 (hdf5_data_layer)."""

    type = "HDF5Data"
    family = "input"
    param = ("hdf5_data_param",)

    source: str = ""
    batch_size: int | None = None
    shuffle: bool = False

    @classmethod
    def read(cls, message):
        """The set fields; raises Misfit for a transform, which Caffe refuses."""
        if message.HasField("transform_param"):
            raise Misfit("HDF5Data transforms nothing", field="transform_param", fix="delete the field")
        return super().read(message)

    def top_shapes(self):
        raise self.unknown("the HDF5 files")


@register
class MemoryData(_Transformed):
    """Arrays from the program: N x C x H x W, and N labels; semantics 5 (memory_data_layer)."""

    type = "MemoryData"
    family = "input"
    supplied = True
    param = ("memory_data_param", "transform_param")
    top_count = (2, 2)

    batch_size: int | None = None
    channels: int | None = None
    height: int | None = None
    width: int | None = None

    def __post_init__(self):
        super().__post_init__()
        sizes = (self.batch_size, self.channels, self.height, self.width)
        if not all(sizes):
            raise Misfit(f"batch_size, channels, height, width {sizes}", "all above 0", "memory_data_param")

    def top_shapes(self):
        sizes = (self.batch_size, self.channels, self.height, self.width)
        return (sizes, (self.batch_size or 0,))


@register
class DummyData(Layer):
    """Tops made by fillers: constants once, random numbers anew in every forward; semantics 5 (dummy_data_layer)."""

    type = "DummyData"
    family = "input"
    param = ("dummy_data_param",)
    bottom_count = (0, 0)
    top_count = (1, None)
    fixed_batch = True
    onnx_note = "constant fillers only: ONNX draws nothing"

    data_filler: tuple[Any, ...] = ()
    shape: tuple[Any, ...] = ()
    num: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    height: tuple[int, ...] = ()
    width: tuple[int, ...] = ()

    def top_shapes(self):
        old = {name: getattr(self, name) for name in ("num", "channels", "height", "width")}
        if any(old.values()) and self.shape:
            raise Misfit("both shape and num, channels, height, width", "one of the two forms", "shape")
        shapes = old if any(old.values()) else {"shape": self.shape}
        for name, values in {**shapes, "data_filler": self.data_filler or (0,)}.items():
            if len(values) not in (1, self.at.tops):
                raise Misfit(f"{len(values)} for {self.at.tops} tops", "one for all, or one each", name)
        if self.shape:
            tops = tuple(map(as_shape, self._each(self.shape)))
        else:
            tops = tuple(zip(*map(self._each, old.values()), strict=True))
        self._check_fillers(tops)
        return tops

    def _check_fillers(self, tops):
        """Raise Misfit for a filler that Caffe refuses: it fills when the net is set up."""
        from ..weights.fillers import check_filler

        for i, top in enumerate(tops):
            check_filler(self.filler(i), top, self.at.dialect)

    def _each(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """One value for each top."""
        return values * self.at.tops if len(values) == 1 else values

    def filler(self, index: int) -> Any:
        """The filler of a top, 0 where none is given."""
        if not self.data_filler:
            return 0.0
        return self.data_filler[index if len(self.data_filler) > 1 else 0]

    def made(self, seed: int) -> list[np.ndarray]:
        """All tops, drawn from a seed."""
        from ..weights.fillers import fill

        name, dialect = self.at.name, self.at.dialect
        return [fill(self.filler(i), s, dialect, seed, name, i) for i, s in enumerate(self.top_shapes())]

    def constant(self) -> bool:
        """Whether nothing is drawn."""
        return all(f == 0.0 or f.type == "constant" for f in map(self.filler, range(self.at.tops)))

    def reference(self, blobs):
        if not self.constant():
            raise Misfit("random DummyData", "constant fillers: the reference draws nothing", "data_filler")
        return tuple(top.astype(np.float64) for top in self.made(0))

    def forward(self, module):
        seed = 0 if self.constant() else int(torch.randint(2**31, ()))
        return tuple(map(torch.from_numpy, self.made(seed)))

    def onnx(self, graph):
        if not self.constant():
            raise Misfit("random DummyData", "constant fillers: ONNX draws nothing", "data_filler")
        return tuple(graph.constant(top) for top in self.made(0))
