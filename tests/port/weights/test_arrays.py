"""Weights without their net, as arrays."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from port.__main__ import main
from port.weights.arrays import save_arrays, weight_arrays
from prototxt_gen.base.command import run
from prototxt_gen.base.errors import UsageError, WeightsError
from prototxt_gen.schema import message_class

VALUES = {
    "inception/1x1": [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32([7, 8])],
    "odd": [np.linspace(0, 1, 5)],
}


@pytest.fixture
def weights(tmp_path):
    """A file of a fork that nobody knows: a layer type of its own, doubles, two layers of one name."""
    net = message_class("NetParameter", "bvlc")(name="n")
    for name, arrays in [*VALUES.items(), ("odd", [np.float32([3])]), ("none", [])]:
        layer = net.layer.add(name=name, type="NobodyKnows")
        for array in arrays:
            blob = layer.blobs.add()
            blob.shape.dim.extend(array.shape)
            (blob.double_data if array.dtype == np.float64 else blob.data).extend(array.ravel().tolist())
    path = tmp_path / "w.caffemodel"
    path.write_bytes(net.SerializeToString() + b"\xfa\x7d\x03abc")  # and a field without a meaning
    return path


def same(found) -> bool:
    wanted = {f"{name}/{i}": array for name, arrays in VALUES.items() for i, array in enumerate(arrays)}
    wanted["odd#2/0"] = np.float32([3])
    return set(found) == set(wanted) and all(
        found[name].dtype == array.dtype and np.array_equal(found[name], array) for name, array in wanted.items()
    )


def test_arrays_by_layer_name(weights):
    arrays = weight_arrays(weights)
    assert same(arrays) and all(array.flags.aligned and array.flags.owndata for array in arrays.values())
    changed = dict(arrays) | {"odd/0": arrays["odd/0"][::-1].copy()}
    assert not same(changed)


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_the_command_writes_them(weights, form, capsys):
    output = weights.with_suffix(f".{form}")
    assert run(main, ["export", "--caffemodel", str(weights), "--output", str(output)]) == 0
    assert "4 arrays, 14 values" in capsys.readouterr().out
    assert same(dict(np.load(output)) if form == "npz" else load_file(output))
    other = weights.with_name("w.bin")
    assert run(main, ["export", "--caffemodel", str(weights), "--output", str(other), "--format", form]) == 0
    assert other.read_bytes() == output.read_bytes() or form == "npz"  # a zip has the time in it


@pytest.mark.parametrize("name", ["w.bin", "w.onnx", "w"])
def test_a_format_that_is_not_said_or_needs_a_net(weights, name, capsys):
    assert run(main, ["export", "--caffemodel", str(weights), "--output", str(weights.with_name(name))]) == 2
    assert "error:" in capsys.readouterr().err and not weights.with_name(name).exists()


def test_files_that_cannot_be_read_are_all_named(tmp_path):
    (tmp_path / "a").write_bytes(b"nothing")
    with pytest.raises(WeightsError) as caught:
        weight_arrays([tmp_path / "a", tmp_path / "b"])
    assert len(caught.value.problems) == 2


def test_safetensors_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(UsageError, match="pip install safetensors"):
        save_arrays({"a/0": np.zeros(3)}, tmp_path / "a.safetensors", "safetensors")
    assert not list(tmp_path.iterdir())
