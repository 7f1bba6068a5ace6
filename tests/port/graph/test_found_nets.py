"""Nets of a mutator that once ended in errors of torch, NumPy or Python, each with the right outcome."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxruntime import set_default_logger_severity
from small_nets import inputs, layer

import port
from port.graph import sizes
from port.graph.reference import run_reference
from port.net import param_arrays
from port.onnx.export import build_onnx
from port.onnx.session import run_onnx, session
from prototxt_gen.base.errors import ExportError, NetError
from prototxt_gen.schema.text import parse_prototxt

set_default_logger_severity(4)

REFUSED = {  # when it is loaded, and the words
    "net_07": "the input 'data' has the shape 2x6x9x2147483648 with the extent 2147483648",
    "net_09": "layer 'up', field 'stride': stride 4294967295, 4294967295",
    "net_13": "field 'input': the input 'data' stands there twice",
    "net_14": "the input 'data' has the shape 4294967295x6x0x11 with the extent 4294967295",
    "net_15": "2x2147483648x11x2147483648 with the extent 2147483648",
    "net_21": "layer 'y', field 'pad': pad 2147483648, 2147483648",
    "net_22": "the input 'data' has the shape 4294967296x4294967296x4 with the extent 4294967296",
    "net_24": "the input 'data' has the shape 0x4294967296x4x5 with the extent 4294967296",
}
WRONG = {  # values: the layer, what is wrong, what is expected
    "net_01": ("y", "the index", "0 to 3"),
    "net_02": ("y", "the index", "0 to 8"),
    "net_05": ("roi", "the region's item", "0 to 1"),
    "net_08": ("loss", "the label", "0 to 0"),
    "net_10": ("acc", "the label", "0 to 3"),
    "net_11": ("loss", "the label", "none: there is nothing to choose from"),
    "net_17": ("loss", "the label", "0 to 5, or the ignored 2"),
    "net_20": ("loss", "the label", "0 to 1"),
    "net_23": ("acc", "the label", "0 to 0"),
}
EMPTY = {  # shapes that hold nothing run, and have no ONNX form
    "net_06": ("pool", (1, 0, 4, 4)),
    "net_12": ("b", (0, 0)),
    "net_16": ("norm", (2, 0, 9, 11)),
    "net_18": ("pool", (2, 0, 6, 6)),
    "net_19": ("conv", (2, 5, 9, 11)),
}
RUNS = {"net_03": "s", "net_04": "y"}  # everywhere
RIGHT = {  # inputs of those nets whose values were wrong, with which they run
    "net_01": ("idx", 4),
    "net_02": ("data", 9),
    "net_05": ("rois", 1),
    "net_08": ("label", 1),
    "net_10": ("label", 4),
    "net_17": ("label", 6),
    "net_20": ("label", 2),
    "net_23": ("label", 1),
}


def load(golden: Path, name: str):
    """A found net in the phase of its first line."""
    path = golden / "found" / "nets" / f"{name}.prototxt"
    return port.load_net(path, phase="TRAIN" if "# phase: TRAIN" in path.read_text() else "TEST")


def normal_inputs(net) -> dict[str, np.ndarray]:
    """Normal numbers in the shapes of the file."""
    random = np.random.default_rng(0)
    return {v.blob: random.standard_normal(v.shape).astype(np.float32) for v in net.caffe.inputs}


def test_every_net_has_its_outcome(golden):
    names = {path.stem for path in (golden / "found" / "nets").glob("*.prototxt")}
    assert len(names) == 24 and names == {*REFUSED, *WRONG, *EMPTY, *RUNS}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_when_loaded(golden, name):
    with pytest.raises(NetError) as error:
        load(golden, name)
    assert REFUSED[name] in str(error.value)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values_are_named(golden, name):
    layer, what, wanted = WRONG[name]
    net = load(golden, name)
    inputs = normal_inputs(net)
    for run in (port.run_blobs, lambda net, inputs: run_reference(net.caffe, param_arrays(net), inputs)):
        with pytest.raises(NetError) as error:
            run(net, inputs)
        text = str(error.value)
        assert f"layer '{layer}'" in text and what in text and " at item " in text and f"expected {wanted}" in text


@pytest.mark.parametrize("name", RIGHT)
def test_right_values_run_everywhere(golden, name):
    net = load(golden, name)
    inputs = normal_inputs(net)
    blob, count = RIGHT[name]
    inputs[blob] = (np.arange(inputs[blob].size) % count).astype(np.float32).reshape(inputs[blob].shape)
    if name == "net_05":
        inputs[blob][:] = [1, 0, 0, 20, 10]
    compare(net, inputs)


@pytest.mark.parametrize("name", EMPTY)
def test_what_holds_nothing(golden, name):
    net = load(golden, name)
    inputs = normal_inputs(net)
    blob, shape = EMPTY[name]
    values = port.run_blobs(net, inputs)
    reference = run_reference(net.caffe, param_arrays(net), inputs)
    assert values[blob].shape == reference[blob].shape == shape
    np.testing.assert_array_equal(values[blob], reference[blob])
    with pytest.raises(ExportError, match=r"holds no values; expected extents of 1 or more in ONNX"):
        build_onnx(net)


@pytest.mark.parametrize("name", RUNS)
def test_ordinary_nets_run_everywhere(golden, name):
    net = load(golden, name)
    compare(net, normal_inputs(net))


def test_a_parameter_among_the_blobs_is_a_copy(golden):
    net = load(golden, "net_04")
    values = port.run_blobs(net, normal_inputs(net))
    values["p"][:] = 5
    assert not param_arrays(net)["p"][0].any()


def compare(net, inputs) -> None:
    """The same blobs in PyTorch, the reference and ONNX Runtime."""
    values = port.run_blobs(net, inputs)
    reference = run_reference(net.caffe, param_arrays(net), inputs)
    for blob, value in values.items():
        np.testing.assert_allclose(value, reference[blob], 1e-4, 1e-5, err_msg=blob)
    for blob, value in run_onnx(session(build_onnx(net)), inputs).items():
        assert value.shape == values[blob].shape
        np.testing.assert_allclose(value, values[blob], 1e-4, 1e-5, err_msg=blob)


def test_inputs_whose_names_become_one_identifier_stay_two():
    text = 'input: "a.b" input_shape { dim: 2 } input: "a_b" input_shape { dim: 2 } layer { name: "y" type: "Eltwise" '
    net = port.load_net(
        parse_prototxt(text + 'bottom: "a.b" bottom: "a_b" top: "y" eltwise_param { coeff: 1 coeff: -1 } }')
    )
    inputs = {"a.b": np.float32([5, 6]), "a_b": np.float32([1, 1])}
    compare(net, inputs)
    np.testing.assert_array_equal(port.run_blobs(net, inputs)["y"], [4, 5])
    np.testing.assert_array_equal(net(**{blob: torch.from_numpy(x) for blob, x in inputs.items()})["y"], [4, 5])


def test_of_two_layers_of_one_name_the_one_with_parameters_is_found():
    text = 'input: "d" input_shape { dim: 1 dim: 2 } layer { name: "n" type: "ReLU" bottom: "d" top: "r" } '
    net = port.load_net(parse_prototxt(text + 'layer { name: "n" type: "Scale" bottom: "r" top: "s" }'))
    assert [blob.shape for blob in param_arrays(net)["n"]] == [(2,)]
    compare(net, {"d": np.float32([[1, 2]])})


BIG = {  # more memory than there is, said before any is taken
    "blobs": 'layer { name: "y" type: "Tile" bottom: "d" top: "y" tile_param { tiles: 10000000 } }',
    "padding": 'layer { name: "y" type: "Pooling" bottom: "d" top: "y" pooling_param '
    "{ kernel_size: 90000 pad: 80000 stride: 100000 } }",
    "parameters": 'layer { name: "y" type: "InnerProduct" bottom: "d" top: "y" inner_product_param '
    "{ num_output: 30000000 } }",
}


@pytest.mark.parametrize("kind", BIG)
def test_memory_is_asked_for_first(monkeypatch, kind):
    monkeypatch.setattr(sizes, "free_memory", lambda: 2**30)
    parsed = parse_prototxt('input: "d" input_shape { dim: 1 dim: 2 dim: 5 dim: 6 } ' + BIG[kind])
    with pytest.raises(NetError, match=r"layer 'y': .* would need about [\d.]+ GiB of memory, and 1\.0 GiB are free"):
        port.run_blobs(port.load_net(parsed), {"d": np.zeros((1, 2, 5, 6), np.float32)})


def test_a_larger_batch_than_the_files_needs_more(monkeypatch):
    monkeypatch.setattr(sizes, "free_memory", lambda: 2**27)
    text = 'input: "d" input_shape { dim: 1 dim: 1000 } layer { name: "y" type: "ReLU" bottom: "d" top: "y" }'
    net = port.load_net(parse_prototxt(text))
    assert port.run_blobs(net, {"d": np.zeros((2, 1000), np.float32)})["y"].shape == (2, 1000)
    with pytest.raises(NetError, match="GiB of memory"):
        port.run_blobs(net, {"d": np.zeros((20000, 1000), np.float32)})


def test_the_reference_counts_in_double_precision(monkeypatch):
    text = 'input: "d" input_shape { dim: 1000 dim: 10000 } layer { name: "y" type: "ReLU" bottom: "d" top: "y" }'
    net = port.load_net(parse_prototxt(text))
    monkeypatch.setattr(sizes, "free_memory", lambda: 3 * 10**8)
    inputs = {"d": np.zeros((1000, 10000), np.float32)}
    port.run_blobs(net, inputs)
    with pytest.raises(NetError, match="the blobs in double precision would need about"):
        run_reference(net.caffe, {}, inputs)


def test_much_memory_is_taken_with_a_word(tmp_path, monkeypatch):
    """Said before it is taken; a machine that has it goes on."""
    monkeypatch.setattr(sizes, "free_memory", lambda: 64 * 2**30)
    monkeypatch.setattr(sizes, "_MUCH", 2**20)
    monkeypatch.setattr(sizes, "_NEVER_MORE", 2**19)
    (tmp_path / "net.prototxt").write_text(inputs(data=(1, 3, 300, 301)) + layer("r", "ReLU", "data", "r"))
    net = port.load_net(tmp_path / "net.prototxt")
    with pytest.warns(
        sizes.LargeMemoryWarning, match=r"the blobs of a pass take about \d+ MiB of memory, most of it in layer"
    ):
        port.run_blobs(net, {"data": np.zeros((1, 3, 300, 301))})
    (tmp_path / "small.prototxt").write_text(inputs(data=(1, 3, 30, 31)) + layer("r", "ReLU", "data", "r"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        port.run_blobs(port.load_net(tmp_path / "small.prototxt"), {"data": np.zeros((1, 3, 30, 31))})


TOO_MANY = {
    "input: 'd' input_shape { dim: 65536 dim: 65536 }": "the shape 65536x65536, 4294967296 values",
    "input: 'd' input_shape { dim: 65536 dim: 65536 dim: 0 }": "2147483647 at most, in Caffe",
    "input: 'd' input_shape { dim: 0 dim: 65536 dim: 65536 }": "",
    "input: 'd' input_shape { dim: 50000 dim: 50000 }": "2500000000 values",
}


@pytest.mark.parametrize("text", TOO_MANY)
def test_values_are_counted_as_caffe_counts_them(text):
    parsed = parse_prototxt(text.replace("'", '"') + ' layer { name: "y" type: "ReLU" bottom: "d" top: "y" }')
    if not TOO_MANY[text]:
        assert port.load_net(parsed).caffe.blobs()["y"].shape == (0, 65536, 65536)
        return
    with pytest.raises(NetError) as error:
        port.load_net(parsed)
    assert TOO_MANY[text] in str(error.value)


WINDOWS = {  # sizes that mean nothing, or that no int holds
    "Convolution": ("stride: 2147483647", (1, 2, 1, 1)),
    "Convolution ": ("dilation: 2147483647", None),
    "Convolution  ": ("pad: 1073741823", None),
    "Convolution   ": ("pad: 1073741823 stride: 2147483647", None),
    "Im2col": ("stride: 2147483647 pad: 1", (1, 18, 1, 1)),
    "Deconvolution": ("stride: 2147483647", None),
}


@pytest.mark.parametrize("key", WINDOWS)
def test_huge_windows_end_at_once(key):
    fields, shape = WINDOWS[key]
    text = 'input: "d" input_shape { dim: 1 dim: 2 dim: 5 dim: 6 } layer { name: "y" bottom: "d" top: "y" '
    text += f'type: "{key.strip()}" convolution_param {{ num_output: 2 kernel_size: 3 {fields} }} }}'
    inputs = {"d": np.random.default_rng(1).standard_normal((1, 2, 5, 6)).astype(np.float32)}
    if shape is None:
        with pytest.raises(NetError):
            port.run_blobs(port.load_net(parse_prototxt(text)), inputs)
        return
    net = port.load_net(parse_prototxt(text))
    assert port.run_blobs(net, inputs)["y"].shape == shape
    compare(net, inputs)
