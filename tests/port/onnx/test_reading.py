"""ONNX files of anybody's as text; damaged and hostile ones as our own errors."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_nets import conv, inputs, layer

import port
from port.__main__ import main
from port.onnx.reading import read_model
from port.show.inspect import describe
from prototxt_gen.base.command import run
from prototxt_gen.base.errors import CaffeError, ExportError


@pytest.fixture
def exported(tmp_path):
    (tmp_path / "n.prototxt").write_text(
        inputs(data=(1, 3, 9, 11)) + conv("c", "data", "c", 4, 3) + layer("r", "ReLU", "c", "c")
    )
    port.export_onnx(port.load_net(tmp_path / "n.prototxt"), tmp_path / "n.onnx")
    return tmp_path / "n.onnx"


def test_a_file_of_ours(exported, capsys):
    assert run(main, ["inspect", str(exported)]) == 0
    out = capsys.readouterr().out
    for words in (
        "opset ai.onnx 17",
        "caffe_prototxt_sha256",
        "n.prototxt",
        "float  Nx3x9x11",
        "2 operators: Conv 1, Relu 1",
    ):
        assert words in out
    assert "2 constants, 112 values" in out
    assert max(map(len, describe(exported, width=60).splitlines())) <= 60


def test_a_file_of_nobodys(tmp_path):
    tensor = numpy_helper.from_array(np.zeros((2, 3), np.int64), "k")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value="../../etc/passwd")
    value = helper.make_tensor_value_info("a\x1b[2J", 7777, ["b", None, 5])
    graph = helper.make_graph([helper.make_node("Own", ["a"], ["b"], domain="x.y")], "", [value], [], [tensor])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph, producer_name="somebody").SerializeToString())
    text = describe(tmp_path / "m.onnx")
    assert "x.y.Own 1" in text and "type 7777" in text and "bx?x5" in text and "by somebody" in text
    assert "\x1b" not in text and "no metadata" in text
    assert "external data in ../../etc/passwd, not there" in text  # nothing outside its folder is looked at


@pytest.mark.parametrize("data", [b"", b"nothing", b"\x08\x08\x3a\xff\xff\xff\xff\x0f", b"PK\x03\x04", b"\xff" * 50])
def test_what_is_no_model(tmp_path, data):
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ExportError, match=r"m\.onnx"):
        read_model(tmp_path / "m.onnx")
    with pytest.raises(ExportError, match="cannot read"):
        read_model(tmp_path / "gone.onnx")


def test_mutations_of_a_model_raise_our_errors_alone(exported):
    whole, random = exported.read_bytes(), np.random.default_rng(0)
    assert onnx.load(exported)
    for _ in range(300):
        data = bytearray(whole)
        for at in random.integers(0, len(data), 3):
            data[at] = random.integers(256)
        exported.write_bytes(data[: random.integers(1, len(data) + 1)] if random.random() < 0.3 else data)
        try:
            assert describe(exported)
        except CaffeError:
            continue
