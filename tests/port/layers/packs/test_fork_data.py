"""Data layers of forks, VoxelSoftmax, and the types that are refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from pack_runs import Run, refused
from small_nets import inputs, layer

import port
from prototxt_gen.base.errors import NetError


def shapes_of(tmp_path, text: str, **load):
    file = tmp_path / "net.prototxt"
    file.write_text(text)
    net = port.load_net(file, **load)
    return {value.blob: value.shape for value in net.caffe.values}


def test_clips_of_c3d(tmp_path):
    fields = "video_data_param { source: 'list' batch_size: 4 new_length: 8 crop_size: 28 use_image: true }"
    found = shapes_of(tmp_path, layer("d", "VideoData", "", "data label", fields))
    assert found == {"data": (4, 3, 8, 28, 28), "label": (4, 1, 1, 1, 1)}
    fields = "video_data_param { batch_size: 4 new_length: 8 new_height: 20 new_width: 24 is_color: false }"
    assert shapes_of(tmp_path, layer("d", "VideoData", "", "data", fields)) == {"data": (4, 1, 8, 20, 24)}
    fields = "video_data_param { batch_size: 4 new_length: 8 use_multiple_label: true num_of_labels: 5 } "
    fields += "transform_param { crop_size: 12 }"
    found = shapes_of(tmp_path, layer("d", "VideoData", "", "data label", fields))
    assert found == {"data": (4, 3, 8, 12, 12), "label": (4, 5, 1, 1, 1)}


def test_clips_of_the_first_c3d(tmp_path):
    text = 'layers { name: "d" type: VIDEO_DATA top: "data" top: "label" '
    text += 'image_data_param { source: "list" batch_size: 5 crop_size: 16 new_length: 6 use_image: true } }'
    assert shapes_of(tmp_path, text) == {"data": (5, 3, 6, 16, 16), "label": (5, 1, 1, 1, 1)}


def test_the_other_video_layers_are_told_apart(tmp_path):
    fields = "video_data_param { batch_size: 4 crop_size: 28 modality: RGB new_length: 1 } "
    fields += "transform_param { crop_size: 28 }"
    text = layer("d", "VideoData", "", "data label", fields)
    assert shapes_of(tmp_path, text, dialect="srn") == {"data": (4, 3, 28, 28), "label": (4, 1, 1, 1)}
    text = layer("d", "VideoData", "", "data", 'video_data_param { video_type: VIDEO video_file: "f" }')
    assert shapes_of(tmp_path, text, input_shapes={"data": (1, 3, 9, 9)}) == {"data": (1, 3, 9, 9)}
    with pytest.raises(NetError, match="the video"):
        shapes_of(tmp_path, text)


def test_what_only_the_data_know_has_to_be_given(tmp_path):
    for type, tops in (
        ("VolumeData", "data label"),
        ("LaneData", "data label"),
        ("VideoWithVoxelTruthData", "data label"),
        ("ImageLabelmapData", "data label"),
        ("CPMData", "data label"),
        ("CustomData", "data label"),
        ("MatRead", "data label"),
    ):
        text = layer("d", type, "", tops, "data_param { batch_size: 2 source: 'db' }")
        with pytest.raises(NetError, match="depends on"):
            shapes_of(tmp_path, text)
        given = {"data": (2, 3, 4, 5), "label": (2, 1)}
        assert shapes_of(tmp_path, text, input_shapes=given) == given
    with pytest.raises(NetError, match="new_length"):
        shapes_of(tmp_path, layer("d", "VideoData", "", "data", "video_data_param { batch_size: 2 is_color: true }"))


def test_a_net_that_writes_files_computes_without_them(tmp_path):
    fields = 'mat_write_param { prefix: "out/" source: "list" strip: 4 period: 2 }'
    net = inputs(a=(1, 2)) + layer("p", "Power", "a", "b") + layer("w", "MatWrite", "a b", "", fields)
    assert shapes_of(tmp_path, net) == {"a": (1, 2), "b": (1, 2)}


def test_what_openpose_trains_with(tmp_path):
    fields = (
        "data_param { batch_size: 2 } cpm_transform_param { stride: 8 crop_size_x: 368 do_clahe: false num_parts: 56 }"
    )
    given = {"data": (2, 4, 16, 16), "label": (2, 114, 2, 2)}
    assert shapes_of(tmp_path, layer("d", "CPMData", "", "data label", fields), input_shapes=given) == given


def test_what_deepdetect_trains_with(tmp_path):
    """Its own fields for noise, colours, suppression and cuDNN; none of them makes it a net with LRCN's Crop."""
    fields = "transform_param { resize_param { height: 12 width: 10 } noise_param { prob: 0.1 all_effects: true } "
    fields += "distort_param { prob: 0.5 brightness: true contrast: true hue: true saturation: true "
    fields += "all_effects: false random_order: true } } data_param { batch_size: 4 source: 'db' }"
    text = layer("d", "AnnotatedData", "", "data label", fields)
    fields = "convolution_param { num_output: 2 kernel_size: 1 engine: CUDNN cudnn_flavor: SINGLE_HANDLE }"
    text += layer("c", "Convolution", "data", "c", fields)
    tops = "input_param { shape { dim: 1 dim: 8 } shape { dim: 1 dim: 4 } shape { dim: 1 dim: 2 dim: 8 } }"
    text += layer("i", "Input", "", "loc conf prior", tops)
    fields = "detection_output_param { num_classes: 2 nms_param { top_k: 4 soft_nms: false theta: 0.5 } }"
    text += layer("o", "DetectionOutput", "loc conf prior", "o", fields)
    file = tmp_path / "net.prototxt"
    shapes = {"data": (4, 3, 12, 10), "label": (1, 1, 2, 8)}
    file.write_text(text.replace("soft_nms: false", "soft_nms: true"))
    with pytest.raises(NetError, match="soft_nms"):
        port.load_net(file, input_shapes=shapes)
    file.write_text(text)
    net = port.load_net(file, input_shapes=shapes)
    assert net.caffe.packs.keys() == {"ssd"}
    assert net.caffe.node("c").tops[0].shape == (4, 2, 12, 10)


def test_maps_beside_boxes_have_to_be_given(tmp_path):
    fields = "data_param { batch_size: 2 } transform_param { resize_param { height: 8 width: 8 } }"
    net = layer("d", "AnnotatedData", "", "data label maps", fields)
    with pytest.raises(NetError, match="the maps of the first image"):
        shapes_of(tmp_path, net)
    given = {"data": (2, 3, 8, 8), "label": (1, 1, 3, 8), "maps": (2, 1, 4, 4)}
    assert shapes_of(tmp_path, net, input_shapes=given) == given


def test_a_loss_over_time(tmp_path):
    """C3D's blobs have a length; without its pack a loss refuses a fifth axis."""
    net = inputs(a=(1, 2, 3, 4, 5), b=(1, 2, 3, 4, 5)) + layer("l", "EuclideanLoss", "a b", "l")
    assert shapes_of(tmp_path, net, packs=["c3d"])["l"] == ()
    with pytest.raises(NetError, match="at most 4"):
        shapes_of(tmp_path, net)


def test_labels_of_enet_are_smaller(tmp_path):
    fields = "dense_image_data_param {{ batch_size: 2 label_divide_factor: 8 new_height: 17 new_width: 32 {} }}"
    net = layer("d", "DenseImageData", "", "data label", fields.format(""))
    assert shapes_of(tmp_path, net) == {"data": (2, 3, 17, 32), "label": (2, 1, 2, 4)}
    net = layer("d", "DenseImageData", "", "data label", fields.format("crop_height: 8 crop_width: 9"))
    assert shapes_of(tmp_path, net) == {"data": (2, 3, 8, 9), "label": (2, 1, 8, 9)}
    with pytest.raises(NetError, match="label_divide_factor 0"):
        shapes_of(tmp_path, net.replace("factor: 8", "factor: 0"))


def test_voxel_softmax():
    x = np.float32(np.random.RandomState(0).standard_normal((2, 3, 2, 4, 5)))
    power = np.exp(x.astype(np.float64))
    run = Run("VoxelSoftmax", [x])
    run.holds([power / power.sum(1, keepdims=True)], (13, 17, 23))
    run.slopes_hold(np.random.RandomState(1).standard_normal(x.shape))
    refused("5: N, C, length", "VoxelSoftmax", [x[0]])


@pytest.mark.parametrize(
    ("type", "match"),
    [
        ("DetectNetTransformation", "makes training data"),
        ("TRT", "TensorRT"),
        ("AssistedExcitation", "the solver's iteration"),
    ],
)
def test_types_that_are_refused_by_name(tmp_path, type, match):
    with pytest.raises(NetError, match=match):
        shapes_of(tmp_path, inputs(data=(1, 3, 4, 4)) + layer("l", type, "data", "out"))
