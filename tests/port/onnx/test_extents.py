"""ONNX files with extents that are not the net's own: items chosen by the data, overwritten inputs, nets of data."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from small_nets import conv, fully, inputs, layer

import port
from port.net import run_values
from port.onnx.export import build_onnx
from port.onnx.session import run_onnx, session
from prototxt_gen.base.errors import ExportError

FILTERED = (
    inputs(data=(4, 3, 5, 6), keep=(4,))
    + layer("soft", "Softmax", "data", "soft")
    + layer("pick", "Filter", "soft data keep", "picked raw")
    + layer("pow", "Power", "picked", "pow", "power_param { scale: 0.5 shift: -1 }")
    + fully("fc", "pow", "y", 7)
    + layer("flat", "Flatten", "raw", "flat", "flatten_param { axis: 2 }")
    + conv("c", "raw", "c", 2, 3)
    + layer("abs", "AbsVal", "soft", "all")
)


def net_of(tmp_path, text, **options):
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return port.load_net(path, **options)


def dims(value) -> list:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
@pytest.mark.parametrize("keep", [(0, 1, 0, 2), (1, 1, 1, 1), (0, 0, 0, 1), (0, 0, 0, 0)])
def test_filter_and_what_is_behind_it(tmp_path, dialect, keep):
    """As many items as are kept, none too; what does not come from it follows the batch."""
    net = net_of(tmp_path, FILTERED, dialect=dialect)
    fed = {"data": np.random.RandomState(3).standard_normal((4, 3, 5, 6)), "keep": np.float32(keep)}
    expected = port.run_blobs(net, fed)
    found = run_onnx(session(build_onnx(net, blobs="all")), fed)
    assert set(found) >= {"picked", "raw", "pow", "y", "flat", "c", "all"}
    for name, array in found.items():
        assert array.shape == expected[name].shape, name
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6)
    assert found["y"].shape == (sum(map(bool, keep)), 7)


def test_the_file_says_which_extents_depend_on_the_data(tmp_path):
    model = build_onnx(net_of(tmp_path, FILTERED), blobs="all")
    found = {value.name: dims(value) for value in model.graph.output}
    assert found["picked"] == ["items of pick", 3, 5, 6] and found["y"] == ["items of pick", 7]
    assert found["c"] == ["items of pick", 2, 3, 4] and found["all"] == ["N", 3, 5, 6]


def test_a_free_batch_beside_a_filter(tmp_path):
    port.export_onnx(net_of(tmp_path, FILTERED), tmp_path / "net.onnx")
    runner = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    fed = {"data": np.zeros((6, 3, 5, 6), np.float32), "keep": np.float32([1, 0, 1, 1, 0, 1])}
    assert [array.shape[0] for array in run_onnx(runner, fed).values()] == [6, 4, 4, 4]  # all, c, flat, y by name


def test_two_filters_have_extents_of_their_own(tmp_path):
    text = inputs(data=(4, 3), first=(4,), second=(4,))
    text += layer("a", "Filter", "data first", "a") + layer("b", "Filter", "data second", "b")
    text += layer("sum", "Concat", "a b", "joined", "concat_param { axis: 0 }")
    net = net_of(tmp_path, text)
    model = build_onnx(net, blobs="all")
    found = {value.name: dims(value) for value in model.graph.output}
    assert found["a"] == ["items of a", 3] and found["b"] == ["items of b", 3] and found["joined"] == [0, 3]
    fed = {"data": np.arange(12).reshape(4, 3), "first": np.float32([1, 0, 0, 1]), "second": np.float32([1, 1, 1, 0])}
    expected = port.run_blobs(net, fed)["joined"]
    np.testing.assert_array_equal(run_onnx(session(model), fed)["joined"], expected)
    assert expected.shape == (5, 3)


def test_layers_that_need_a_fixed_number_of_items_are_refused(tmp_path):
    text = inputs(data=(4, 3), keep=(4,)) + layer("pick", "Filter", "data keep", "picked")
    text += fully("fc", "picked", "y", 5).replace("num_output: 5", "num_output: 5 axis: 0")
    with pytest.raises(ExportError, match="layer 'pick': what is behind Filter fits one number of items alone"):
        build_onnx(net_of(tmp_path, text))


IN_PLACE = {
    "Power": "power_param { scale: 0.5 shift: 3 }",
    "Scale": "scale_param { filler { value: 2 } }",
    "BatchNorm": "batch_norm_param { use_global_stats: false }",
    "ReLU": "",
}


@pytest.mark.parametrize("kind", IN_PLACE)
@pytest.mark.parametrize("level", [False, True], ids=["Input", "net-level"])
def test_an_input_that_is_overwritten_in_place(tmp_path, kind, level):
    """It is fed under its own name, in ONNX as in PyTorch; `run_blobs` shows what became of it, as Caffe does."""
    own = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 3 dim: 4 dim: 5 dim: 6 } } }\n'
    text = (inputs(data=(3, 4, 5, 6)) if level else own) + layer("norm", kind, "data", "data", IN_PLACE[kind])
    net = net_of(tmp_path, text + layer("again", "Sigmoid", "data", "data") + fully("fc", "data", "y", 7))
    x = np.random.RandomState(1).standard_normal((3, 4, 5, 6)).astype(np.float32)
    port.export_onnx(net, tmp_path / "net.onnx")
    runner = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    assert [value.name for value in runner.get_inputs()] == ["data"]
    (found,) = runner.run(["y"], {"data": x})
    blobs = port.run_blobs(net, {"data": x})
    np.testing.assert_allclose(found, blobs["y"], rtol=1e-5, atol=1e-6)
    values = {name: tensor.detach().numpy() for name, tensor in run_values(net, {"data": x}).items()}
    np.testing.assert_array_equal(values["data"], x)
    np.testing.assert_array_equal(values["data@again"], blobs["data"])
    everything = run_onnx(session(build_onnx(net, blobs="all")), {"data": x})
    assert set(everything) == {"data@norm", "data@again", "y"}


def test_an_output_that_is_an_overwritten_input(tmp_path):
    net = net_of(tmp_path, inputs(data=(2, 3)) + layer("norm", "Power", "data", "data", "power_param { scale: 4 }"))
    assert list(net(data=np_tensor())) == ["data"]
    found = run_onnx(session(build_onnx(net)), {"data": np.ones((2, 3))})
    assert list(found) == ["data@norm"] and (found["data@norm"] == 4).all()


def np_tensor():
    import torch

    return torch.ones(2, 3)


@pytest.mark.parametrize(
    "text", [inputs(data=(2, 3)) + layer("d", "Input", "", "x", "input_param { shape { dim: 2 } }")]
)
def test_a_net_of_data_alone_is_refused(tmp_path, text):
    text += layer("m", "MemoryData", "", "a b", "memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 }")
    with pytest.raises(ExportError, match="the net computes nothing"):
        port.export_onnx(net_of(tmp_path, text), tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()
