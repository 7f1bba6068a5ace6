"""`python -m port upgrade`: texts as Caffe's own tools write them, weights with their blobs untouched."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import port
from port.__main__ import main
from port.caffemodel import read_caffemodel
from prototxt_gen.base import command
from prototxt_gen.schema import message_class

V1 = """
layers { name: "ip" type: INNER_PRODUCT bottom: "data" top: "ip" blobs_lr: 1 blobs_lr: 2
         inner_product_param { num_output: 2 } }
layers { name: "relu" type: RELU bottom: "ip" top: "ip" }
"""
V0 = """
layers { layer { name: "pad" type: "padding" pad: 2 } bottom: "data" top: "pad" }
layers { layer { name: "conv" type: "conv" num_output: 2 kernelsize: 3 } bottom: "pad" top: "conv" }
"""
INPUT = 'input: "data" input_dim: 4 input_dim: 3 input_dim: 1 input_dim: 1 '


def run(*arguments: object) -> int:
    return command.run(main, [str(argument) for argument in arguments])


def binary(path, text, blobs):
    """A net as an old Caffe saved it: `blobs` (layer -> messages) in the old legacy form."""
    from google.protobuf import text_format

    net = text_format.Parse(text, message_class("NetParameter", "bvlc")())
    for entry in net.layers:
        old = entry.layer if entry.HasField("layer") else entry
        for fields in blobs.get(old.name, []):
            old.blobs.add(**fields)
    path.write_bytes(net.SerializeToString())
    return net


WEIGHT = {"num": 1, "channels": 1, "height": 2, "width": 3, "data": range(6), "diff": range(6)}
BIAS = {"num": 1, "channels": 1, "height": 1, "width": 2, "data": [7, 8]}


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_recorded(golden, dialect, capsys):
    """Character for character what each Caffe's upgrade_net_proto_text wrote."""
    cases = sorted((golden / "legacy").glob("*.in.prototxt"))
    assert len(cases) == 6
    for case in cases:
        assert run("upgrade", case, "--dialect", dialect) == 0
        out, err = capsys.readouterr()
        assert out == case.with_name(case.name.replace(".in.", f".{dialect}.")).read_text()
        assert f"net, dialect {dialect} (as given)" in err


def test_to_a_file(tmp_path, capsys):
    old, new = tmp_path / "old.prototxt", tmp_path / "new.prototxt"
    old.write_text(INPUT + V1)
    assert run("upgrade", old, "--output", new) == 0
    out, err = capsys.readouterr()
    assert "upgraded from the V1 format ('layers'): 2 layers" in out and f"wrote {new}: " in out and not err
    assert "the net's input fields became the Input layer 'input'" in out
    assert port.load_net(new).caffe.outputs[0].shape == (4, 2)
    assert run("upgrade", new) == 0
    out, err = capsys.readouterr()
    assert out == new.read_text() and "nothing to upgrade" in err


def test_solver(tmp_path, capsys):
    path = tmp_path / "solver.prototxt"
    path.write_text('net: "n.prototxt" base_lr: 0.1 solver_type: ADAM momentum2: 0.9')
    assert run("upgrade", path) == 0
    out, err = capsys.readouterr()
    assert 'type: "Adam"' in out and "solver_type" not in out
    assert f'snapshot_prefix: "{tmp_path}/solver"' in out
    assert "solver, dialect bvlc (the value of SolverParameter" in err and "solver_type became type: 'Adam'" in err


def test_binary_v1(tmp_path, capsys):
    """The blobs keep their legacy form: a bias 1x1x1x2 written as a shape of today would not load."""
    old, new = tmp_path / "old.caffemodel", tmp_path / "new.caffemodel"
    net = binary(old, INPUT + V1, {"ip": [WEIGHT, BIAS]})
    assert run("upgrade", old, "--output", new) == 0
    assert "dialect bvlc (bvlc is the default" in (out := capsys.readouterr().out) and "2 blobs kept" in out
    upgraded = message_class("NetParameter", "bvlc").FromString(new.read_bytes())
    assert [layer.type for layer in upgraded.layer] == ["Input", "InnerProduct", "ReLU"] and not upgraded.layers
    assert [p.lr_mult for p in upgraded.layer[1].param] == [1, 2]
    stored = [blob.SerializeToString() for blob in upgraded.layer[1].blobs]
    assert stored == [blob.SerializeToString() for blob in net.layers[0].blobs]
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(INPUT + V1)
    weight, bias = port.params(port.load_net(prototxt, new))["ip"]
    np.testing.assert_array_equal(weight.detach(), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(bias.detach(), [7, 8])


def test_binary_v0_in_srn(tmp_path, capsys):
    """Layers that go or come do not shift the blobs; srn keeps the input fields."""
    old, new = tmp_path / "old.caffemodel", tmp_path / "new.caffemodel"
    kernel = {"num": 2, "channels": 3, "height": 3, "width": 3, "data": range(54)}
    binary(old, INPUT + V0, {"conv": [kernel, BIAS]})
    assert run("upgrade", old, "--output", new, "--dialect", "srn") == 0
    assert "the padding layer 'pad' is merged into 'conv'" in capsys.readouterr().out
    with read_caffemodel(new) as model:
        assert [(layer.name, len(layer.blobs)) for layer in model.layers] == [("conv", 2)]
        assert model.inputs == ["data"] and model.layers[0].blobs[0].shape == (2, 3, 3, 3)
        assert model.layers[0].message("srn").convolution_param.pad == 2


def test_binary_of_today(golden, tmp_path, capsys):
    """Real Caffe's files come out byte for byte."""
    files = sorted((golden / "caffemodel").rglob("*.caffemodel"))
    assert len(files) >= 10
    for path in files:
        dialect = path.parent.name
        assert run("upgrade", path, "--output", tmp_path / "new", "--dialect", dialect) == 0
        with read_caffemodel(path) as old, read_caffemodel(tmp_path / "new") as new:
            assert [(a.name, len(a.blobs)) for a in old.layers] == [(a.name, len(a.blobs)) for a in new.layers]
        if "nothing to upgrade" in capsys.readouterr().out:
            assert path.read_bytes() == (tmp_path / "new").read_bytes()


def hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_group("data")


@pytest.mark.parametrize(
    "make, options, message",
    [
        (lambda p: p.write_text("layers { type: RELUX }"), (), "no value of V1LayerParameter.LayerType"),
        (lambda p: p.write_text(V1 + 'layer { name: "x" }'), ("--dialect", "bvlc"), "entries of both formats"),
        (lambda p: p.write_text("layers { layer { type: 'x' } }"), (), "there is no V0 layer type 'x'"),
        (lambda p: p.write_text("base_lr: 1 solver_type: SGD type: 'SGD'"), (), "both 'type' and 'solver_type'"),
        (lambda p: p.write_text("layer {"), (), "{"),
        (lambda p: p.write_bytes(b""), (), "empty"),
        (hdf5, (), "this is an HDF5 file; expected a net, a solver or a .caffemodel"),
        (lambda p: port.write_mean(p, np.ones((3, 2, 1))), (), "this is a single blob"),
        (lambda p: p.write_bytes(b"\x08\x05\x12\x01x\x20\x01"), (), "this is a solver state"),
        (lambda p: binary(p, V1, {"ip": [{"num": 1, "data": [1, 2]}]}), (), "are stored"),
        (lambda p: binary(p, "layers { layer { name: 'l' type: 'x' } }", {}), (), ": layer 'l', field 'type': there"),
        (lambda p: None, (), "No such file"),
    ],
)
def test_bad_input(tmp_path, capsys, make, options, message):
    """Status 2, the file named, nothing written."""
    path = tmp_path / "in"
    make(path)
    assert run("upgrade", path, "--output", tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert message in error and str(path) in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_binary_needs_an_output(tmp_path, capsys):
    binary(tmp_path / "old", V1, {})
    assert run("upgrade", tmp_path / "old") == 2
    assert "Give --output" in capsys.readouterr().err


def test_doubles_have_no_place_in_srn(tmp_path, capsys):
    binary(tmp_path / "old", V1, {"ip": [{"shape": {"dim": [2]}, "double_data": [1, 2]}]})
    assert run("upgrade", tmp_path / "old", "--output", tmp_path / "new", "--dialect", "srn") == 2
    assert "type float64; expected float32 in this dialect" in capsys.readouterr().err
    assert run("upgrade", tmp_path / "old", "--output", tmp_path / "new", "--dialect", "bvlc") == 0
