"""Parts of a net as ONNX files, and models of more than 2 GiB in two files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_nets import conv, fully, inputs, layer

import port
from port.__main__ import main
from port.net import run_values
from port.onnx import apart as apart_module
from port.onnx import export as export_module
from port.onnx.export import build_onnx
from port.onnx.session import run_onnx, session
from port.show.inspect import describe
from prototxt_gen.base.command import run
from prototxt_gen.base.errors import CaffeError, ExportError
from prototxt_gen.schema import message_class

TOLERANCE = 5e-6  # float32 against float32, of the largest value
NET = (
    inputs(data=(1, 3, 9, 11), other=(1, 5))
    + conv("c", "data", "c", 40, 3)
    + layer("r", "ReLU", "c", "c")
    + layer("p", "Pooling", "c", "p", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }")
    + fully("f", "p", "y", 6)
    + fully("g", "other", "g", 7)
    + layer("j", "Concat", "y g", "j")
    + layer("x", "Sigmoid", "j", "x")
)


@pytest.fixture
def net(tmp_path):
    (tmp_path / "n.prototxt").write_text(NET)
    return port.load_net(tmp_path / "n.prototxt")


def given(batch: int = 2) -> dict[str, np.ndarray]:
    random = np.random.default_rng(batch)
    return {
        "data": random.standard_normal((batch, 3, 9, 11)).astype(np.float32),
        "other": random.standard_normal((batch, 5)).astype(np.float32),
    }


def agrees(model, net) -> set[str]:
    expected = run_values(net, given())
    found = run_onnx(session(model), given())
    for name, array in found.items():
        want = expected[name].detach().numpy()
        assert array.shape == want.shape and np.abs(array - want).max() <= TOLERANCE * np.abs(want).max()
    return set(found)


# -- parts -----------------------------------------------------------------------------------------------------------
def test_outputs_and_only_what_they_need(net):
    model = build_onnx(net, outputs=["p", "c"])
    assert [o.name for o in model.graph.output] == ["p", "c"] and [i.name for i in model.graph.input] == ["data"]
    assert [node.name for node in model.graph.node] == ["c", "r", "p"]
    assert {tensor.name for tensor in model.graph.initializer} == {"c/weight", "c/bias"}
    assert agrees(model, net) == {"p", "c"}
    assert agrees(build_onnx(net, outputs=["c@c", "g"]), net) == {"c@c", "g"}


def test_a_cut_keeps_what_does_not_read_it(net):
    model = build_onnx(net, cut=["p"])
    assert [o.name for o in model.graph.output] == ["g", "p"]
    assert agrees(model, net) == {"g", "p"}
    assert agrees(build_onnx(net, cut=["y", "g"]), net) == {"y", "g"}
    assert agrees(build_onnx(net, cut=["y"], outputs=["y"]), net) == {"y"}
    assert agrees(build_onnx(net), net) == {"x"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"outputs": ["q", "pp"]}, "no layer computes a blob 'q'"),
        ({"outputs": ["data"]}, "no layer computes a blob 'data'"),
        ({"cut": ["x"]}, "no layer reads the blobs of the cut"),
        ({"cut": ["p", "y"]}, "behind another cut: 'y'"),
        ({"cut": ["p"], "outputs": ["y"]}, "no layer computes a blob 'y'"),
    ],
)
def test_parts_that_are_none(net, options, words):
    with pytest.raises(ExportError, match=words):
        build_onnx(net, **options)


def test_the_command(net, tmp_path, capsys):
    port.save_caffemodel(net, tmp_path / "n.caffemodel")
    files = [f"--{kind}={tmp_path / 'n'}.{kind}" for kind in ("prototxt", "caffemodel")]
    assert run(main, ["export", *files, f"--output={tmp_path / 'o.onnx'}", "--outputs", "p, g", "--opset=11"]) == 0
    assert [o.name for o in onnx.load(tmp_path / "o.onnx").graph.output] == ["p", "g"]
    assert run(main, ["export", *files, f"--output={tmp_path / 'q.onnx'}", "--cut", "q"]) == 2
    assert "no layer computes a blob 'q'" in capsys.readouterr().err and not (tmp_path / "q.onnx").exists()


# -- two files --------------------------------------------------------------------------------------------------------
@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(export_module, "MAX_BYTES", 2000)


def test_large_constants_in_a_second_file(net, tmp_path, small):
    path = tmp_path / "a" / "n.onnx"
    port.export_onnx(net, path)
    assert sorted(each.name for each in path.parent.iterdir()) == ["n.onnx", "n.onnx.data"]
    model = onnx.load(path, load_external_data=False)
    apart = {tensor.name for tensor in model.graph.initializer if tensor.external_data}
    assert apart == {"c/weight", "f/weight"} and path.stat().st_size < 4000
    onnx.checker.check_model(str(path), full_check=True)
    assert agrees(path, net) == {"x"}
    assert "external data in n.onnx.data, " in describe(path)
    first = path.read_bytes()
    port.export_onnx(net, path)
    assert path.read_bytes() == first
    with torch.no_grad():
        net.layer("c").weight += 0.5
    with pytest.raises(AssertionError):  # the old file against the new weights: agreement is no accident
        agrees(path, net)


def test_a_part_below_the_limit_stays_one_file(net, tmp_path, small):
    port.export_onnx(net, tmp_path / "g.onnx", outputs=["g"])
    assert not (tmp_path / "g.onnx.data").exists() and agrees(tmp_path / "g.onnx", net) == {"g"}


@pytest.mark.parametrize("fails_at", [1, 2])
def test_both_files_or_neither(net, tmp_path, small, monkeypatch, fails_at):
    calls, replace = [], os.replace

    def failing(source, target):
        calls.append(target)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(apart_module.os, "replace", failing)
    before = set(tmp_path.iterdir())
    with pytest.raises(CaffeError, match="cannot write: No space left"):
        port.export_onnx(net, tmp_path / "n.onnx")
    assert set(tmp_path.iterdir()) == before and len(calls) == fails_at


def test_what_the_checker_refuses_leaves_nothing(net, tmp_path, small, monkeypatch):
    def refuse(*args, **options):
        raise onnx.checker.ValidationError("made up")

    monkeypatch.setattr(apart_module.onnx.checker, "check_model", refuse)
    with pytest.raises(ExportError, match="made up"):
        port.export_onnx(net, tmp_path / "n.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"n.prototxt"}
    with pytest.raises(CaffeError, match="is a folder"):
        port.export_onnx(net, Path(tmp_path))


def huge(tmp_path) -> tuple[Path, str]:
    """A net of 2.5 GiB whose weights are in two files: one of more than 2 GiB no Caffe reads."""
    sizes = {"a": (16384, 20480), "b": (20480, 16384)}  # 1.25 GiB each
    text = inputs(data=(2, 20480)) + fully("a", "data", "a", 16384) + fully("b", "a", "b", 20480)
    (tmp_path / "h.prototxt").write_text(text.replace("num_output", "bias_term: false num_output"))
    random = np.random.default_rng(3)
    for name, shape in sizes.items():
        blob = message_class("BlobProto", "bvlc")()
        blob.shape.dim.extend(shape)
        values = (random.standard_normal(shape[1], np.float32) / 100)[None] * random.uniform(1, 2, (shape[0], 1))
        head = blob.SerializeToString()
        data = values.astype("<f4").tobytes()
        inner = head + b"\x2a" + varint(len(data))
        layer_head = b"\x0a\x01" + name.encode() + b"\x12\x0cInnerProduct" + b"\x3a" + varint(len(inner) + len(data))
        with open(tmp_path / f"{name}.caffemodel", "wb") as file:
            file.write(b"\xa2\x06" + varint(len(layer_head) + len(inner) + len(data)) + layer_head + inner)
            file.write(data)
    return tmp_path / "h.prototxt", ",".join(str(tmp_path / f"{name}.caffemodel") for name in sizes)


def varint(number: int) -> bytes:
    made = b""
    while number > 127:
        made += bytes([number & 127 | 128])
        number >>= 7
    return made + bytes([number])


@pytest.mark.slow
def test_two_and_a_half_gib(tmp_path):
    net = port.load_net(*huge(tmp_path))
    port.export_onnx(net, tmp_path / "h.onnx")
    assert (tmp_path / "h.onnx.data").stat().st_size > 2.4 * 2**30 and (tmp_path / "h.onnx").stat().st_size < 10000
    data = {"data": np.random.default_rng(1).standard_normal((2, 20480)).astype(np.float32)}
    expected = port.run_blobs(net, data)["b"]
    del net
    found = run_onnx(session(tmp_path / "h.onnx"), data)["b"]
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()  # sums of 20,480 in float32
