"""Data layers of forks for videos, volumes, maps: inputs, of shapes that are given or follow from fields; MatWrite."""

from __future__ import annotations

from ..base import Layer, Misfit, register, set_fields
from ..data import DataLayer, _Transforming, both_or_neither

_OF_C3D = frozenset(
    [
        "is_color",
        "max_sampling_rate",
        "num_of_labels",
        "root_folder",
        "sampling_rate",
        "show_data",
        "use_image",
        "use_multiple_label",
        "use_sampling_rate_jitter",
        "use_temporal_jitter",
    ]
)
_OF_SSD = frozenset(["video_type", "device_id", "video_file", "skip_frames"])


def _video_fields(message) -> set[str]:
    """The fields that a layer's video_data_param sets."""
    return {field.name for field, _ in message.video_data_param.ListFields()}


@register
class VolumeVideo(_Transforming):
    """Clips N x channels x new_length x H x W, and labels N x 1 x 1 x 1 x 1 (C3D's video_data_layer).

    In C3D's first version its fields stand in image_data_param.
    """

    type = "VideoData"
    pack = "c3d"
    family = "input"
    param = ("video_data_param", "image_data_param", "transform_param")

    shuffle: bool = False
    new_height: int = 0
    new_width: int = 0
    new_length: int = 0
    is_color: bool = True
    root_folder: str = ""
    use_multiple_label: bool = False
    num_of_labels: int = 1

    @classmethod
    def claims(cls, message, context):
        """By the pack, by C3D's fields, or by those of its first version."""
        if _video_fields(message) & _OF_SSD:
            return False
        return "c3d" in context.packs or bool(_video_fields(message) & _OF_C3D) or message.HasField("image_data_param")

    @classmethod
    def read(cls, message):
        values, own = super().read(message), set_fields(message, cls.param[:1])
        return values | {name: own[name] for name in ("crop_size",) if name in own and name not in values}

    def __post_init__(self):
        super().__post_init__()
        both_or_neither(self.new_height, self.new_width)

    def top_shapes(self):
        if not self.new_length:
            raise Misfit("no new_length, or 0", "1 or more frames", "new_length")
        size = (self.crop_size,) * 2 if self.crop_size else (self.new_height, self.new_width)
        if not all(size) or not self.batch_size:
            raise self.unknown("the first video" if self.batch_size else "batch_size, which is missing")
        labels = self.num_of_labels if self.use_multiple_label else 1
        clips = (self.batch_size, 3 if self.is_color else 1, self.new_length, *size)
        return (clips, (self.batch_size, labels, 1, 1, 1))[: self.at.tops]


class _Given(DataLayer):
    """Data layers whose shapes only their data know."""

    family = "input"
    what = "its data"

    @classmethod
    def read(cls, message):
        return {}  # its fields say what is read, not what is computed

    def top_shapes(self):
        raise self.unknown(self.what)


@register
class Webcam(_Given):
    """Frames of a camera or a video file (SSD's video_data_layer)."""

    type = "VideoData"
    pack = "ssd"
    what = "the camera, or the video"

    @classmethod
    def claims(cls, message, context):
        """By SSD's fields."""
        return bool(_video_fields(message) & _OF_SSD)


@register
class VolumeData(_Given):
    """Volumes of a database (C3D's volume_data_layer)."""

    type = "VolumeData"
    pack = "c3d"
    what = "the database's first volume"


@register
class VideoSegmentationData(_Given):
    """Clips with a class for every voxel (C3D's video_segmentation_data_layer)."""

    type = "VideoSegmentationData"
    pack = "c3d"
    what = "the first video"


@register
class VideoWithVoxelTruthData(_Given):
    """Clips with numbers for every voxel (C3D's video_with_voxel_truth_data_layer)."""

    type = "VideoWithVoxelTruthData"
    pack = "c3d"
    what = "the first video"


@register
class LaneData(_Given):
    """Images with lanes as points, and as maps (MobileNet-YOLO's lane_data_layer)."""

    type = "LaneData"
    pack = "yolo"
    what = "the database's first image"


@register
class ImageLabelmapData(_Given):
    """Images of a list, each with a map as large (HED's image_labelmap_data_layer)."""

    type = "ImageLabelmapData"
    pack = "hed"
    what = "the first image"


@register
class CPMData(_Given):
    """Images of a database with weights and maps of body parts (OpenPose's cpm_data_layer)."""

    type = "CPMData"
    pack = "openpose"
    what = "the database's first item"


@register
class CustomData(_Given):
    """Slices of a database's items, one a top (FlowNet's custom_data_layer)."""

    type = "CustomData"
    pack = "flow"
    what = "the database's first item"


@register
class MatRead(_Given):
    """Arrays of MATLAB files (DeepLab's mat_read_layer)."""

    type = "MatRead"
    pack = "deeplab"
    what = "the first file"


@register
class MatWrite(Layer):
    """Writes its bottoms to MATLAB files in DeepLab's Caffe; here it computes nothing (mat_write_layer)."""

    type = "MatWrite"
    pack = "deeplab"
    param = ("mat_write_param",)
    kind = "host-only"
    bottom_count = (1, None)
    top_count = (0, 0)

    prefix: str = ""
    source: str = ""
    strip: int = 0
    period: int = 1

    def top_shapes(self, *bottoms):
        return ()

    def reference(self, blobs, *bottoms):
        return ()

    def forward(self, module, *bottoms):
        return ()

    def onnx(self, graph, *bottoms):
        return ()
