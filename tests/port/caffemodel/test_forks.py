"""Binary files of other forks: whose field numbers they have, and NVIDIA's values in 16 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import port
from port.caffemodel import read_caffemodel
from port.caffemodel.forks import net_message
from prototxt_gen.base.errors import WeightsError
from prototxt_gen.schema import descriptor, message_class
from prototxt_gen.schema.community import FORKS

HALF = np.linspace(-3, 5, 15, dtype=np.float16).reshape(3, 5)


def write(path: Path, fork: str, *layers: dict) -> Path:
    """A caffemodel as a fork writes it."""
    net = message_class("NetParameter", fork)(name="n")
    for fields in layers:
        layer = net.layer.add(name=fields.pop("name", "l"), type=fields.pop("type"))
        for name, values in fields.items():
            for key, value in values.items():
                target = getattr(layer, name)
                target.SetInParent()
                (
                    getattr(target, key).extend
                    if isinstance(value, list)
                    else lambda v, t=target, k=key: setattr(t, k, v)
                )(value)
    path.write_bytes(net.SerializeToString())
    return path


@pytest.fixture
def read(tmp_path):
    def reader(fork: str, *layers: dict, declared: str | None = None):
        with read_caffemodel(write(tmp_path / "w.caffemodel", fork, *layers)) as model:
            return net_message(model, fork=declared)

    return reader


def test_one_number_is_another_field_in_another_fork():
    """Else the tests below would prove nothing."""
    fields = {fork: descriptor("LayerParameter", fork).fields_by_number.get(150) for fork in FORKS}
    assert fields["flownet2"].name == "correlation_param" and fields["mobilenet_yolo"].name == "upsample_param"
    assert descriptor("LayerParameter", "bvlc").fields_by_name["permute_param"].number == 202


@pytest.mark.parametrize(
    ("fork", "layer"),
    [
        ("flownet2", {"type": "Correlation", "correlation_param": {"max_displacement": 7, "pad": 2}}),
        ("mobilenet_yolo", {"type": "Upsample", "upsample_param": {"scale": 3}}),
        ("nvidia", {"type": "Permute", "permute_param": {"order": [0, 2, 3, 1]}}),
        ("pspnet", {"type": "Interp", "interp_param": {"zoom_factor": 8}}),
        ("synopsys", {"type": "Interp", "interp_param": {"zoom_factor": 8}}),
        ("c3d", {"type": "Pooling3D", "pooling3d_param": {"kernel_size": 2, "kernel_depth": 3}}),
        ("happynear", {"type": "TripletLoss", "triplet_loss_param": {"margin": 0.5}}),
    ],
)
def test_the_fork_is_told_by_its_numbers(read, fork, layer):
    (name,) = (key for key in layer if key.endswith("_param"))
    wanted = dict(layer[name].items())
    net, dialect, reason = read(fork, dict(layer))
    assert dialect == "bvlc" and fork in reason
    got = getattr(net.layer[0], name)
    assert {f.name: list(v) if isinstance(wanted[f.name], list) else v for f, v in got.ListFields()} == wanted


def test_what_cannot_be_told_apart_is_said_and_can_be_declared(read):
    """Number 13 of PoolingParameter is ceil_mode in synopsys and round_mode elsewhere."""
    layer = {"type": "Pooling", "pooling_param": {"kernel_size": 3, "ceil_mode": False}}
    with pytest.raises(WeightsError, match=r"mean different fields.*--fork"):
        read("synopsys", dict(layer))
    net, _, reason = read("synopsys", dict(layer), declared="synopsys")
    assert "synopsys's field numbers, as given" in reason
    assert net.layer[0].pooling_param.HasField("ceil_mode") and not net.layer[0].pooling_param.ceil_mode


def half_file(path: Path, **changes) -> Path:
    net = message_class("NetParameter", "nvidia")(name="half")
    layer = net.layer.add(name="fc", type="InnerProduct")
    for values in (HALF, HALF[:, 0]):
        blob = layer.blobs.add(raw_data_type=2, raw_data=values.tobytes())
        blob.shape.dim.extend(values.shape)
    for name, value in changes.items():
        setattr(layer.blobs[0], name, value) if value is not None else layer.blobs[0].ClearField(name)
    path.write_bytes(net.SerializeToString())
    return path


NET = """input: "data" input_shape { dim: 2 dim: 5 }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 3 } }
"""


def test_values_in_16_bits(tmp_path):
    path = half_file(tmp_path / "half.caffemodel")
    with read_caffemodel(path) as model:
        first, _second = model.layers[0].blobs
        assert first.dtype == np.float16 and first.shape == (3, 5) and np.array_equal(first.data, HALF)
        assert model.dialect_hint() == (None, "layer 'fc' has float16 values, as NVIDIA's Caffe writes them")
        model.write(tmp_path / "again.caffemodel")
    assert (tmp_path / "again.caffemodel").read_bytes() == path.read_bytes()
    (tmp_path / "net.prototxt").write_text(NET)
    net = port.load_net(tmp_path / "net.prototxt", path)
    x = np.linspace(-1, 1, 10, dtype=np.float32).reshape(2, 5)
    wanted = x.astype(float) @ HALF.T.astype(float) + HALF[:, 0].astype(float)
    assert np.allclose(port.run_blobs(net, {"data": x})["fc"], wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"raw_data_type": None}, "values as bytes without their type"),
        ({"raw_data": HALF.tobytes()[:-1]}, "field 12 packs 29 bytes"),
        ({"raw_data": HALF.tobytes()[:-2]}, "15 values, 14 are stored"),
        ({"raw_data_type": 1}, "multiple of 4|15 values"),
    ],
)
def test_damaged_values_in_16_bits(tmp_path, changes, found):
    with pytest.raises(WeightsError, match=found):
        read_caffemodel(half_file(tmp_path / "half.caffemodel", **changes))
