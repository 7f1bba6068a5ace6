"""HDF5 weights: the layout of BVLC's Caffe, written and read, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

import port
from port.weights.hdf5 import Hdf5Model, write_hdf5
from port.weights.load import is_hdf5
from prototxt_gen.base.errors import WeightsError
from prototxt_gen.schema import message_class

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } } }
layer { name: "block/conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "a" type: "InnerProduct" bottom: "conv" top: "a" param { name: "w" } param { name: "b" }
        inner_product_param { num_output: 7 weight_filler { type: "gaussian" } } }
layer { name: "z" type: "InnerProduct" bottom: "conv" top: "z" param { name: "w" } param { name: "b" }
        inner_product_param { num_output: 7 } }
"""


@pytest.fixture
def prototxt(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return path


@pytest.fixture
def saved(tmp_path, prototxt):
    """The net's weights as HDF5."""
    net = port.load_net(prototxt, seed=3)
    for i, blob in enumerate(blob for blobs in port.params(net).values() for blob in blobs):
        blob.data.copy_(torch.linspace(-1, i + 1, blob.numel()).reshape(blob.shape))
    path = tmp_path / "w.caffemodel.h5"
    port.save_caffemodel(net, path)
    return net, path


def change(path, change):
    with h5py.File(path, "r+") as file:
        change(file["data"])


def test_layout(saved):
    """/data/<layer>/<index>, empty groups for layers without blobs, shared blobs with their owner only."""
    _, path = saved
    found: dict[str, tuple] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: getattr(item, "shape", None)}))
        assert all(item.dtype == np.float32 for item in [file["data/bn/0"], file["data/block/conv/1"]])
    shapes = {name: shape for name, shape in found.items() if shape is not None}
    assert shapes == {
        "data/block/conv/0": (4, 3, 3, 3),
        "data/block/conv/1": (4,),
        "data/bn/0": (4,),
        "data/bn/1": (4,),
        "data/bn/2": (1,),
        "data/a/0": (7, 48),
        "data/a/1": (7,),
    }
    assert {"data/data", "data/relu", "data/z", "data/conv_relu_0_split"} <= set(found)


def test_round_trip(saved, prototxt):
    net, path = saved
    again = port.load_net(prototxt, path, seed=8)
    for layer, blobs in port.params(net).items():
        for blob, other in zip(blobs, port.params(again)[layer], strict=True):
            torch.testing.assert_close(blob, other, rtol=0, atol=0)
    assert again.report.taken == ["a", "block/conv", "bn"]
    assert not again.report.missing and not again.report.unused


def test_same_bytes_each_time(saved, tmp_path):
    net, path = saved
    port.save_caffemodel(net, tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == path.read_bytes()


def test_known_by_content(saved, prototxt, tmp_path):
    """Caffe looks at the content, not at the name; HDF5 allows a block of the user's in front."""
    net, path = saved
    other = tmp_path / "w.caffemodel"
    other.write_bytes(path.read_bytes())
    assert is_hdf5(other)
    assert len(port.load_net(prototxt, other).report.taken) == 3
    port.save_caffemodel(net, tmp_path / "binary.caffemodel")
    (tmp_path / "binary.h5").write_bytes((tmp_path / "binary.caffemodel").read_bytes())
    assert not is_hdf5(tmp_path / "binary.h5")
    port.load_net(prototxt, tmp_path / "binary.h5")
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file:
        file["data/a/0"] = 1.0
    assert is_hdf5(tmp_path / "block.h5")


def test_two_formats_in_a_comma_list(saved, prototxt, tmp_path):
    """Later files overwrite earlier ones."""
    net, path = saved
    port.params(net)["bn"][0].fill_(9)
    port.save_caffemodel(net, tmp_path / "b.caffemodel")
    for files, expected in ((f"{path},{tmp_path}/b.caffemodel", 9), (f"{tmp_path}/b.caffemodel,{path}", -1)):
        assert port.params(port.load_net(prototxt, files))["bn"][0][0] == expected


def test_other_number_types_are_converted(saved, prototxt):
    _, path = saved

    def doubles(data):
        del data["bn/0"], data["bn/2"]
        data["bn/0"] = np.array([0.1, 0.2, 0.3, 0.4], np.float64)
        data["bn/2"] = np.array([3], np.int64)

    change(path, doubles)
    mean, _, count = port.params(port.load_net(prototxt, path))["bn"]
    assert mean.dtype == torch.float32 and mean[1] == np.float32(0.2) and count == 3


def replace(name, value):
    def change(data):
        del data[name]
        data[name] = value

    return change


@pytest.mark.parametrize(
    "change_data, messages",
    [
        (replace("bn/0", np.zeros((1, 4))), ["layer 'bn', field 'blobs[0]': mean is 1x4; expected 4"]),
        (replace("bn/0", np.zeros((1, 1, 1, 4))), ["mean is 1x1x1x4"]),  # no legacy alignment here
        (lambda data: data.__delitem__("bn/2"), ["layer 'bn': 2 blobs (4, 4); expected 3 for BatchNorm (4, 4, 1)"]),
        (lambda data: data.__delitem__("a/1"), ["layer 'a': 1 blobs"]),  # an owner's blob is no sharer's
        (lambda data: [data.create_dataset(f"bn/{i}", data=0.0) for i in (3, 4, 5)], ["layer 'bn': 6 blobs"]),
        (lambda data: data.create_dataset("relu/0", data=0.0), ["layer 'relu': 1 blobs (()); expected 0"]),
        (lambda data: data.__delitem__("bn"), ["layer 'bn': the file has no such layer"]),
        (
            lambda data: (replace("bn/1", np.zeros(3))(data), data.__delitem__("block")),
            ["variance is 3", "layer 'block/conv': the file has no such layer"],
        ),
    ],
)
def test_must_fit(saved, prototxt, change_data, messages):
    _, path = saved
    change(path, change_data)
    with pytest.raises(WeightsError) as error:
        port.load_net(prototxt, path)
    assert all(message in str(error.value) for message in messages), error.value
    assert str(path) in str(error.value)


def test_a_sharer_may_have_its_blobs_too(saved, prototxt):
    """What is loaded last fills the shared blob; the layers come in the order of their names."""
    _, path = saved
    change(path, lambda data: data.create_dataset("z/1", data=np.full(7, 5.0)))
    assert (port.params(port.load_net(prototxt, path))["a"][1] == 5).all()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda file: file.create_group("model_weights"), "no group 'data', but model_weights"),
        (lambda file: None, "no group 'data', but nothing"),
        (lambda file: file.create_dataset("data", data=1.0), "no group 'data'"),
        (lambda file: file.create_dataset("data/a/weight", data=1.0), "field 'weight': a dataset with a name"),
        (lambda file: file.create_dataset("data/a/01", data=1.0), "a dataset with a name that is no index"),
        (lambda file: file.create_dataset("data/a/0", data="text"), "a dataset of type"),
        (lambda file: file.create_dataset("data/a/0", data=1j), "a dataset of type complex"),
        (lambda file: file.create_dataset("data/a/0", shape=(2**20, 2**12), dtype="f4"), "more than Caffe can hold"),
        (lambda file: file.create_dataset("data/a/0", shape=(2**10, 2**12), dtype="f4"), "of which 0 bytes are stored"),
        (lambda file: file.create_dataset("data/a/0", data=h5py.Empty("f4")), "neither a dataset nor a group"),
        (lambda file: file.update({"data": h5py.SoftLink("/x")}), "no group 'data'"),
        (
            lambda file: file.create_group("data").update({"a": h5py.ExternalLink("other.h5", "/")}),
            "field 'a': a link to somewhere else",
        ),
        (lambda file: file.create_group("data/a").update({"b": file["data"]}), "nested in each other"),
        (lambda file: file.create_group("data/a").parent.update({"b": file["data/a"]}), "nested in each other"),
        (lambda file: file.create_group("data/" + "/".join("x" * 40)), "nested in each other"),
    ],
)
def test_not_caffes(tmp_path, make, message):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        make(file)
    with pytest.raises(WeightsError) as error:
        Hdf5Model(path)
    assert message in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "a/./b", ".", "a\0b"])
def test_names_that_are_no_paths(tmp_path, name):
    net = message_class("NetParameter", "bvlc")()
    net.layer.add(name=name)
    with pytest.raises(WeightsError, match="HDF5 cannot hold this name as a path"):
        write_hdf5(tmp_path / "w.h5", net, [[]])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "names, message", [(["a", "a/0"], "looks like a blob of the layer 'a'"), (["a", "b", "a"], "2 layers")]
)
def test_names_that_clash(tmp_path, names, message):
    net = message_class("NetParameter", "bvlc")(layer=[{"name": name} for name in names])
    with pytest.raises(WeightsError, match=message):
        write_hdf5(tmp_path / "w.h5", net, [[]] * len(names))


def test_names_with_slashes(tmp_path):
    """A group may be a layer and hold others; numbers in names are no blobs."""
    names = ["a", "a/b", "c/1/d", "c/1/é e", "a/b/x"]
    net = message_class("NetParameter", "bvlc")(layer=[{"name": name} for name in names])
    arrays = [np.full(i + 1, i, np.float32) for i in range(len(names))]
    write_hdf5(tmp_path / "w.h5", net, [[array] for array in arrays])
    with Hdf5Model(tmp_path / "w.h5") as model:
        found = {layer.name: layer.blobs[0].data for layer in model.layers}
    assert sorted(found) == sorted(names)
    for name, array in zip(names, arrays, strict=True):
        np.testing.assert_array_equal(found[name], array)


def test_scalars(tmp_path):
    net = message_class("NetParameter", "bvlc")(layer=[{"name": "prelu"}])
    write_hdf5(tmp_path / "w.h5", net, [[np.float32(0.25)]])
    with Hdf5Model(tmp_path / "w.h5") as model:
        blob = model.layers[0].blobs[0]
        assert blob.shape == () and blob.count == 1 and blob.fits(()) and not blob.fits((1,)) and blob.data == 0.25


def test_closed(saved):
    _, path = saved
    with Hdf5Model(path) as model:
        layer = next(layer for layer in model.layers if layer.name == "bn")
        data = layer.blobs[0].data
    assert data[0] == -1  # taken before
    with pytest.raises(WeightsError):
        _ = layer.blobs[0].data


def test_cut_off(saved, prototxt, tmp_path):
    _, path = saved
    data = path.read_bytes()
    for cut in [9, 100, len(data) // 2, len(data) - 1]:
        path.write_bytes(data[:cut])
        with pytest.raises(WeightsError, match="damaged or was not fetched completely"):
            port.load_net(prototxt, path)


# libhdf5 may crash on what it should refuse, so this runs in a process of its own.
FUZZ = """
import random, sys, numpy as np
from port.weights.hdf5 import Hdf5Model
from prototxt_gen.base.errors import WeightsError
path, count = sys.argv[1], int(sys.argv[2])
data = open(path, "rb").read()
draw, refused = random.Random(1), 0
for _ in range(count):
    broken = bytearray(data)
    for _ in range(draw.choice([1, 2, 8])):
        at = draw.randrange(len(data))
        broken[at] = draw.choice([0, 1, 255, draw.randrange(256)])
    broken = broken[: draw.choice([len(data)] * 3 + [draw.randrange(len(data))])]
    open(path, "wb").write(broken)
    try:
        with Hdf5Model(path) as model:
            for layer in model.layers:
                for blob in layer.blobs.values():
                    assert blob.data.shape == blob.shape
    except WeightsError:
        refused += 1
print(refused)
"""


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutations(saved, count):
    """Only WeightsError comes out of damaged files."""
    _, path = saved
    done = subprocess.run([sys.executable, "-c", FUZZ, str(path), str(count)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert count / 20 < int(done.stdout) < count
