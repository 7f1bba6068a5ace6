"""Nets and weights of C3D's first version: the old layer format, its types, and blobs with a length."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_nets import inputs

import port
import port.onnx.session
from port.caffemodel import read_caffemodel
from port.net import params
from prototxt_gen.base.errors import NetError, WeightsError
from prototxt_gen.schema import message_class
from prototxt_gen.schema.text import parse_prototxt
from prototxt_gen.schema.upgrade import V1_TYPES, upgrade_parsed

NET = (
    inputs(data=(1, 3, 4, 8, 7))
    + """
layers { name: "conv" type: CONVOLUTION3D bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
  convolution_param { num_output: 5 kernel_size: 3 kernel_depth: 3 pad: 1 temporal_pad: 1 } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "pool" type: POOLING3D bottom: "conv" top: "pool"
  pooling_param { pool: MAX kernel_size: 2 kernel_depth: 1 stride: 2 temporal_stride: 1 } }
layers { name: "up" type: DECONVOLUTION3D bottom: "pool" top: "up"
  convolution_param { num_output: 2 kernel_size: 2 kernel_depth: 2 stride: 2 } }
layers { name: "fc" type: INNER_PRODUCT bottom: "pool" top: "fc" inner_product_param { num_output: 6 } }
"""
)
OLD_TYPES = {"conv": "CONVOLUTION3D", "up": "DECONVOLUTION3D", "fc": "INNER_PRODUCT"}


@pytest.fixture
def saved(tmp_path):
    """A net, its weights as C3D saves them, and the numbers in them."""
    (tmp_path / "net.prototxt").write_text(NET)
    model, random = message_class("NetParameter", "c3d_v1")(name="c3d"), np.random.RandomState(3)
    numbers: dict[str, list[np.ndarray]] = {}
    for name, blobs in params(port.load_net(tmp_path / "net.prototxt")).items():
        if not blobs:
            continue
        layer = model.layers.add(name=name)
        layer.type = layer.DESCRIPTOR.enum_types_by_name["LayerType"].values_by_name[OLD_TYPES[name]].number
        numbers[name] = [random.standard_normal(b.shape).astype(np.float32) / 9 for b in blobs]
        for array in numbers[name]:
            num, channels, length, height, width = (1,) * (5 - array.ndim) + array.shape
            layer.blobs.add(num=num, channels=channels, length=length, height=height, width=width, data=array.ravel())
    (tmp_path / "net.caffemodel").write_bytes(model.SerializeToString())
    return tmp_path / "net.prototxt", tmp_path / "net.caffemodel", numbers


def test_such_a_net_runs_everywhere(saved, tmp_path):
    text, weights, numbers = saved
    net = port.load_net(text, weights)
    assert "c3d" in net.caffe.packs
    for name, blobs in numbers.items():
        assert all(np.array_equal(a.detach(), b) for a, b in zip(params(net)[name], blobs, strict=True))
    x = np.random.RandomState(1).standard_normal((2, 3, 4, 8, 7)).astype(np.float32)
    found = net(data=torch.from_numpy(x))
    assert found["up"].shape == (2, 2, 5, 8, 8) and found["fc"].shape == (2, 6)
    port.export_onnx(net, tmp_path / "net.onnx")
    for blob, array in port.onnx.session.run_onnx(
        port.onnx.session.session(tmp_path / "net.onnx"), {"data": x}
    ).items():
        assert np.abs(array - found[blob].detach().numpy()).max() < 5e-6 * np.abs(array).max()


def test_the_file_says_what_it_holds(saved):
    _, weights, numbers = saved
    layers = {layer.name: layer for layer in read_caffemodel(weights).layers}
    assert {name: layer.type for name, layer in layers.items()} == {
        "conv": "Convolution3D", "up": "Deconvolution3D", "fc": "InnerProduct",
    }  # fmt: skip
    assert [b.shape for b in layers["fc"].blobs] == [(1, 1, 1, *numbers["fc"][0].shape), (1, 1, 1, 1, 6)]
    assert layers["conv"].blobs[0].fits((5, 3, 3, 3, 3)) and not layers["conv"].blobs[0].fits((5, 9, 3, 3))


def test_what_is_missing_there_is_found(saved, tmp_path):
    _, weights, _ = saved
    (tmp_path / "cut.caffemodel").write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(WeightsError):
        read_caffemodel(tmp_path / "cut.caffemodel")


def test_video_data_gives_the_shapes_that_are_declared():
    text = """layers { name: "data" type: VIDEO_DATA top: "data" top: "label"
      image_data_param { source: "list" use_image: true batch_size: 5 crop_size: 112 new_length: 16 show_data: 0 } }
    layers { name: "fc" type: INNER_PRODUCT bottom: "data" top: "fc" inner_product_param { num_output: 3 } }"""
    net = port.load_net(parse_prototxt(text), input_shapes={"data": (2, 3, 16, 112, 112), "label": (2, 1, 1, 1, 1)})
    assert net.caffe.blobs()["fc"].shape == (2, 3)


@pytest.mark.parametrize("name", sorted(V1_TYPES))
def test_every_old_name_has_a_type_of_today(name):
    parsed, _ = upgrade_parsed(parse_prototxt(f'layers {{ name: "l" type: {name} top: "x" }}'))
    assert parsed.message.layer[0].type == V1_TYPES[name]


def test_a_type_that_is_not_supported_is_named():
    text = inputs(data=(1, 2)) + 'layers { name: "l" type: DOWN_SAMPLING bottom: "data" top: "x" }'
    with pytest.raises(NetError, match="DownSampling"):
        port.load_net(parse_prototxt(text))
