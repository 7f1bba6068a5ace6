"""`verify onnx`: files of ours and of others against the Caffe net; every kind of sabotage is seen and placed."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from small_nets import conv, fully, inputs, layer

import port
from port.images import sample_images
from port.onnx.export import build_onnx
from prototxt_gen.base.command import run
from prototxt_gen.base.errors import CaffeError, ExportError
from verify.__main__ import main
from verify.parity.onnx_file import verify_onnx
from verify.parity.onnx_text import onnx_table

NET = (
    inputs(data=(1, 3, 9, 11))
    + conv("c", "data", "c", 4, 3)
    + layer("n", "BatchNorm", "c", "c")
    + layer("s", "Scale", "c", "c")
    + layer("r", "ReLU", "c", "c")
    + layer("p", "Pooling", "c", "p", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }")
    + fully("f", "p", "y", 6)
    + layer("z", "Softmax", "y", "z")
)


@pytest.fixture
def net(tmp_path):
    (tmp_path / "n.prototxt").write_text(NET)
    net = port.load_net(tmp_path / "n.prototxt", dialect="bvlc")
    net.layer("n").mean[:], net.layer("n").variance[:] = 0.2, 30.0  # so that the softmax does not saturate
    net.layer("n").count[:] = 1.0
    port.save_caffemodel(net, tmp_path / "n.caffemodel")
    port.export_onnx(net, tmp_path / "n.onnx")
    return net


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model as another tool would name it."""
    names = {"data": "input.1"} | {name: f"t{i}" for i, node in enumerate(model.graph.node) for name in node.output}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names[value.name]
    del model.graph.value_info[:], model.metadata_props[:]
    return model


def change(model: onnx.ModelProto, constant: str, by: float) -> None:
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == constant)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] += by
    tensor.CopyFrom(numpy_helper.from_array(array, constant))


def test_our_own_file(net, tmp_path):
    for batch in (None, 3):
        report = verify_onnx(tmp_path / "n.onnx", net, batch=batch, every=True)
        assert report and all(row.how == "name" for row in report.rows) and len(report.rows) == 7
        assert report.rows[0].shape[0] == (batch or 1) and report.first is None


def test_names_of_another_tool(net, tmp_path):
    onnx.save(renamed(build_onnx(net)), tmp_path / "t.onnx")
    report = verify_onnx(tmp_path / "t.onnx", net, every=True)
    assert report, onnx_table(report)
    assert all(row.how == "value" for row in report.rows)
    assert [row.theirs for row in report.rows if row.output] == ["t7"]


def test_operators_of_another_tool(net, tmp_path):
    """ONNX Runtime's own optimiser joins convolution, normalisation, scale and ReLU: three blobs are then nowhere."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnx.save(renamed(build_onnx(net)), tmp_path / "t.onnx")
    ort.InferenceSession(str(tmp_path / "t.onnx"), options, providers=["CPUExecutionProvider"])
    assert len(onnx.load(tmp_path / "o.onnx").graph.node) < 8
    report = verify_onnx(tmp_path / "o.onnx", net)
    assert report, onnx_table(report)
    assert report.first is not None and report.first.value == "c@c" and not report.first.how
    assert not verify_onnx(tmp_path / "o.onnx", net, every=True)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("constant", "first"), [("f/bias", "y"), ("c/weight", "c@c"), ("n/variance", "c@n")])
def test_a_changed_constant_is_placed(net, tmp_path, constant, first, named):
    model = build_onnx(net)
    change(model, constant, 0.5)
    onnx.save(model if named else renamed(model), tmp_path / "w.onnx")
    report = verify_onnx(tmp_path / "w.onnx", net)
    assert not report and report.first is not None and report.first.value == first
    assert report.first.differs == named
    what = "differs" if named else "has no match in the file"
    assert f"first blob that {what}: '{first}'" in onnx_table(report)


def test_an_output_must_be_one(net, tmp_path):
    model = build_onnx(net)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, ["N", 6]))
    onnx.save(model, tmp_path / "y.onnx")
    report = verify_onnx(tmp_path / "y.onnx", net)
    assert not report and report.first is not None and report.first.value == "z"


def test_the_command(net, tmp_path, capsys):
    words = ["onnx", str(tmp_path / "n.onnx")]
    words += [f"--{kind}={tmp_path / 'n'}.{kind}" for kind in ("prototxt", "caffemodel")]
    assert run(main, [*words, "--json", str(tmp_path / "r.json"), "--image", str(sample_images()[0])]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["passed"] and "photographs" in capsys.readouterr().out
    np.savez(tmp_path / "i.npz", data=np.ones((2, 3, 9, 11), np.float32))
    assert run(main, [*words, "--inputs", str(tmp_path / "i.npz"), "--failures-only"]) == 0
    assert "data 2x3x9x11 given" in capsys.readouterr().out
    assert run(main, [*words, "--tolerance", "1e-12"]) == 1
    np.savez(tmp_path / "i.npz", other=np.ones(2))
    for wrong in (
        ["--inputs", str(tmp_path / "i.npz")],
        ["--inputs", words[1]],
        ["--batch", "0"],
        ["--tolerance", "0"],
    ):
        assert run(main, [*words, *wrong]) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_inputs_that_do_not_go_together(net, tmp_path):
    model = renamed(build_onnx(net))
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[1].dim_value, dims[2].dim_value, dims[3].dim_value = 9, 11, 3
    onnx.save(model, tmp_path / "l.onnx")
    with pytest.raises(ExportError, match=r"'input\.1' has shape \?x9x11x3; expected 1x3x9x11.*channels last"):
        verify_onnx(tmp_path / "l.onnx", net)
    model.graph.input.add().CopyFrom(helper.make_tensor_value_info("more", 7, [1]))
    onnx.save(model, tmp_path / "l.onnx")
    with pytest.raises(ExportError, match=r"inputs input\.1, more; expected the net's: data"):
        verify_onnx(tmp_path / "l.onnx", net)


def test_mutations_raise_our_errors_alone(net, tmp_path):
    whole, random = (tmp_path / "n.onnx").read_bytes(), np.random.default_rng(1)
    ends = {"passed": 0, "failed": 0, "refused": 0}
    for _ in range(120):
        data = bytearray(whole)
        for at in random.integers(0, len(data), 2):
            data[at] = random.integers(256)
        (tmp_path / "m.onnx").write_bytes(data)
        try:
            ends["passed" if verify_onnx(tmp_path / "m.onnx", net) else "failed"] += 1
        except CaffeError:
            ends["refused"] += 1
    assert min(ends.values()) > 0, ends


def test_a_model_in_two_files(net, tmp_path, monkeypatch):
    monkeypatch.setattr("port.onnx.export.MAX_BYTES", 1000)
    monkeypatch.setattr("port.onnx.apart.SMALLEST", 16)
    (tmp_path / "two").mkdir()
    port.export_onnx(net, tmp_path / "two" / "n.onnx")
    assert (tmp_path / "two" / "n.onnx.data").stat().st_size > 400
    assert verify_onnx(tmp_path / "two" / "n.onnx", net, every=True)
    data = tmp_path / "two" / "n.onnx.data"
    data.write_bytes(data.read_bytes()[::-1])
    assert not verify_onnx(tmp_path / "two" / "n.onnx", net)
    data.unlink()
    with pytest.raises(ExportError, match=r"n\.onnx: ONNX Runtime refuses the model"):
        verify_onnx(tmp_path / "two" / "n.onnx", net)


def test_names_that_are_no_text(net, tmp_path):
    data = (tmp_path / "n.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(data.replace(b"c@n", b"c\xcan"))
    with pytest.raises(ExportError, match=r"m\.onnx: the name 'c.xcan' is not UTF-8"):
        verify_onnx(tmp_path / "m.onnx", net)
