"""`python -m port inspect`: every kind of file, and nets of which not everything is known."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from small_nets import conv, fully, inputs, layer

import port
from port.__main__ import main
from port.show.survey import settings, survey_net
from port.solver.states import write_solver_state
from port.weights.kinds import file_kind
from prototxt_gen.base import command
from prototxt_gen.nets.write import net_text
from prototxt_gen.schema import message_class, parse

NET = 'name: "small"\n' + inputs(data=(2, 3, 7, 6)) + conv("c", "data", "c", 4, 3) + fully("f", "c", "f", 5)


@pytest.fixture
def inspect(tmp_path, capsys):
    """Inspect a file, or a text written to one: its lines; a table's row by its first word."""

    def call(what, *options, status=0):
        path = what
        if isinstance(what, str):
            path = tmp_path / "net.prototxt"
            path.write_text(what)
        assert command.run(main, ["inspect", str(path), *map(str, options)]) == status
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return (out if status == 0 else err).splitlines()

    return call


LANES = set("│─●├┤┼╯╰")


def cells(line):
    """The words of a line without the lines that are drawn beside the table."""
    return [word for word in line.split() if not set(word) <= LANES]


def row(lines, first):
    (found,) = [cells(line) for line in lines if cells(line)[:1] == [first]]
    return found


# --- nets


def test_net(inspect):
    """Weights 4*3*3*3 and biases 4; 5*80 and 5; each weight once for every place that it is used at."""
    lines = inspect(NET)
    assert lines[0].startswith("net 'small', phase TEST, dialect bvlc (nothing in the file is special")
    assert row(lines, "c") == ["c", "Convolution", "4,", "3x3", "data", "c", "2x4x5x4", "112", "4,320"]
    assert row(lines, "f") == ["f", "InnerProduct", "5", "c", "f", "2x5", "405", f"{2 * 400}"]
    assert lines[-1] == "3 layers, 517 parameters, 0 statistics, 5,120 multiply-adds; outputs: f"


def test_paper_net(inspect, tmp_path):
    """The totals are those of the graph that load_net builds."""
    text = net_text("ResNet-SRN", dialect="srn", width_divisor=8)
    lines = inspect(text)
    net = port.load_net(tmp_path / "net.prototxt")
    learned = sum(p.numel() for p in net.parameters())
    kept = sum(b.numel() for b in net.buffers())
    assert f"{len(net.caffe.nodes)} layers, {learned:,} parameters, {kept:,} statistics" in lines[-1]
    assert lines[-1].endswith("outputs: y") and "dialect srn (the layer type 'BN'" in lines[0]


def test_net_level_inputs(inspect):
    lines = inspect(inputs(a=(2, 3), b=(4,)) + layer("r", "BN", "a", "a"), "--dialect", "srn")
    found = [cells(line) for line in lines if cells(line)[:1] == ["(input)"]]
    assert found == [["(input)", "a", "2x3"], ["(input)", "b", "4"]]
    assert "dialect srn (as given)" in lines[0] and lines[-1].endswith("outputs: a, b")


BROKEN = (
    inputs(data=(2, 3, 7, 6))
    + conv("c", "data", "c", 4, 3)
    + layer("odd", "Oddity", "c", "odd", "odd_param { x: 1 }")
    + layer("relu", "ReLU", "odd", "odd")
    + fully("f", "odd", "f", 5, "inner_product { }")
    + layer("p", "Pooling", "c", "p", "pooling_param { kernel_size: 90 }")
    + layer("lost", "ReLU", "nothing", "lost")
    + layer("bn", "BatchReduction", "c", "bn")
    + fully("g", "c", "g", 6)
)


def test_unknown_things_are_shown(inspect):
    """Every layer has its line; what follows from an unknown one is a question mark, all else is known."""
    lines = inspect(BROKEN, "--dialect", "bvlc")
    assert row(lines, "odd")[1:3] == ["Oddity", "(unknown)"] and row(lines, "odd")[-3:] == ["?", "?", "?"]
    assert row(lines, "relu") == ["relu", "ReLU", "odd", "odd", "?"]
    assert row(lines, "f") == ["f", "InnerProduct", "5", "odd", "f", "?", "?", "?"]
    assert row(lines, "p")[:5] == ["p", "Pooling", "90x90", "c", "p"]
    assert row(lines, "lost") == ["lost", "ReLU", "nothing", "lost", "?"]
    assert row(lines, "c")[-3:] == ["2x4x5x4", "112", "4,320"]
    assert row(lines, "g")[5:7] == ["2x6", "486"]
    text = "\n".join(lines)
    assert "9 layers, at least 598 parameters" in text  # eight, and the Input layer
    assert "layers of unknown type: 1 (Oddity)" in text
    found = text.partition("\nproblems: ")[2].splitlines()
    assert int(found[0]) == len(found) - 1 == 6
    for problem in (
        "field 'odd_param': LayerParameter has no such field",
        "field 'inner_product': LayerParameter has no such field. Did you mean 'inner_product_param'",
        "layer 'odd': the layer type 'Oddity' is unknown",
        "layer 'p', field",
        "layer 'lost', field 'bottom': the bottom 'nothing' is not made",
        "layer 'bn': the layer type 'BatchReduction' does not exist in the dialect 'bvlc'",
    ):
        assert sum(problem in line for line in found) == 1, problem


DATA = layer("d", "Data", "", "data label", "data_param { source: 'none' batch_size: 2 }")


def test_data_layers(inspect):
    """Their shapes are in the data; given, all else follows."""
    lines = inspect(DATA + conv("c", "data", "c", 4))
    assert row(lines, "d") == ["d", "Data", "source", "none,", "batch_size", "2", "data,", "label", "?,", "?"]
    assert row(lines, "c")[-4:] == ["c", "?", "?", "?"]
    given = ["--input-shape", "data=2x3x5x4", "--input-shape", "label=2"]
    lines = inspect(DATA + conv("c", "data", "c", 4), *given)
    assert row(lines, "c")[-3:] == ["2x4x5x4", "16", "480"] and "problems" not in "\n".join(lines)


def test_phases(inspect):
    text = inputs(data=(2, 3)) + layer("a", "ReLU", "data", "a", "include { phase: TRAIN }")
    text += layer("b", "ReLU", "data", "b")
    assert not any(line.startswith("a ") for line in inspect(text))
    assert row(inspect(text, "--phase", "TRAIN"), "a")


def test_a_phase_without_layers(inspect):
    text = layer("d", "Data", "", "data", "include { phase: TRAIN }") + layer(
        "r", "ReLU", "data", "r", "include { phase: TRAIN }"
    )
    lines = inspect(text)
    assert "phase TRAIN," in lines[0] and lines[1].strip() == "no layer is left in phase TEST; this is phase TRAIN"
    assert row(lines, "r")


def test_old_formats(inspect):
    text = 'layers { name: "r" type: RELU bottom: "data" top: "r" }' + inputs(data=(2, 3))
    lines = inspect(text)
    assert "upgraded from the V1 format" in lines[1] and row(lines, "r")[-1] == "2x3"
    lines = inspect('layers { layer { name: "q" type: "odd" } bottom: "a" top: "b" }')
    assert row(lines, "q")[1:5] == ["odd", "(unknown)", "a", "b"]
    assert any("there is no V0 layer type 'odd'" in line for line in lines)
    lines = inspect('layers { name: "r" type: RELU } layer { name: "s" type: "ReLU" }', "--dialect", "bvlc")
    assert row(lines, "r")[1] == "ReLU" and row(lines, "s")[1] == "ReLU"


def test_names_that_would_spoil_a_terminal(inspect):
    lines = inspect(inputs(data=(2, 3)) + layer(r"a\033[2J\n", "ReLU", "data", "b"))
    assert r"a\x1b[2J\n" in "\n".join(lines)


def test_not_text_format(inspect):
    assert "net.prototxt:1:" in inspect("layer {", status=2)[0]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("convolution_param { num_output: 64 kernel_size: 7 stride: 2 pad: 3 }", "64, 7x7, stride 2, pad 3"),
        ("convolution_param { num_output: 6 kernel_h: 3 kernel_w: 1 pad_w: 1 }", "6, 3x1, pad 0x1"),
        ("convolution_param { num_output: 6 kernel_size: [3, 5] bias_term: false }", "6, 3x5, no bias"),
        ("pooling_param { pool: AVE global_pooling: true }", "AVE, global_pooling"),
        ("eltwise_param { operation: SUM coeff: [0.5, 0.25] }", "SUM, coeff 0.5 0.25"),
        ("param { lr_mult: 0 } include { phase: TEST } transform_param { mirror: true }", "fixed"),
        ("param { lr_mult: 0 } param { } include { phase: TEST } transform_param { mirror: true }", ""),
        ("lrn_param { local_size: 5 k: 3 engine: CAFFE }", "local_size 5, k 3"),
        (
            "reshape_param { axis: 1 num_axes: 2 } power_param { power: 2 scale: 3 shift: 4 } relu_param {}",
            "power 2, scale 3, shift 4, axis 1, num_axes 2",
        ),
        (
            "reshape_param { axis: 1 num_axes: 2 } power_param { power: 2 scale: 3 shift: 4 } elu_param { alpha: 2 }",
            None,
        ),
    ],
)
def test_settings(text, expected):
    found = settings(parse(text, "LayerParameter"))
    assert found == (expected if expected is not None else "power 2, scale 3, shift 4, axis 1, num_axes 2, ...")


# --- other files


def test_weights(inspect, tmp_path, golden):
    lines = inspect(golden / "caffemodel" / "srn" / "bn_frozen_train.caffemodel")
    assert lines[0].startswith("weights of ") and "dialect srn (layer 'bn' has the type BN" in lines[0]
    assert "BN" in row(lines, "bn") and row(lines, "bn")[-1] == "24"
    assert lines[-1].endswith(" 24 values")


def test_weights_of_unknown_types(inspect, tmp_path):
    net = message_class("NetParameter", "bvlc")(name="a\x1b")
    net.layer.add(name="l", type="Odd", bottom=["x"], top=["y" * 99]).blobs.add(num=1, channels=2, data=[])
    net.layer[0].blobs[0].ClearField("num"), net.layer[0].blobs[0].shape.dim.append(2)
    net.layer[0].blobs[0].ClearField("channels"), net.layer[0].blobs[0].data.extend([1, 2])
    (tmp_path / "w").write_bytes(net.SerializeToString())
    lines = inspect(tmp_path / "w")
    assert row(lines, "l")[1:3] == ["Odd", "(unknown)"] and lines[-1] == "layers of unknown type: 1"
    assert r"a\x1b" in lines[0] and len(row(lines, "l")[4]) == 60


def test_hdf5_weights(inspect, tmp_path):
    text = inputs(data=(2, 3)) + fully("z", "data", "z", 5, 'param { name: "w" }')
    text += fully("y", "data", "y", 5, 'param { name: "w" }')
    (tmp_path / "net").write_text(text)
    port.save_caffemodel(port.load_net(tmp_path / "net"), tmp_path / "w.caffemodel.h5")
    lines = inspect(tmp_path / "w.caffemodel.h5")
    assert "HDF5 weights, dialect unknown (an HDF5 file does not tell" in lines[0]
    assert row(lines, "z") == ["z", "5x3,", "5", "20"]
    assert row(lines, "y") == ["y", "1:", "5", "5"]  # the weight is with its first layer


def test_mean_file(inspect, tmp_path):
    port.write_mean(tmp_path / "mean", np.stack([np.full((5, 4), v, np.float32) for v in (104, 117, 123)]))
    lines = inspect(tmp_path / "mean")
    assert lines[0].startswith("mean image 3x5x4 ") and row(lines, "1") == ["1", *["117.0000"] * 3]


@pytest.mark.parametrize("suffix", ["", ".h5"])
def test_solver_state(inspect, tmp_path, suffix):
    from port.caffemodel import SolverState

    state = SolverState(30, "net_iter_30.caffemodel", [np.float32([[1, -4, 2]]), np.float32(0.5)], 2)
    write_solver_state(tmp_path / f"s{suffix}", state)
    lines = inspect(tmp_path / f"s{suffix}")
    assert "after iteration 30, counter of rate steps 2" in lines[0] and ("bvlc" in lines[0]) == bool(suffix)
    assert lines[1] == "weights: net_iter_30.caffemodel" and lines[-1] == "2 blobs, 4 values"
    assert row(lines, "0") == ["0", "1x3", "4.000e+00"]


SOLVER = """net: "net.prototxt" base_lr: 0.1 lr_policy: "step" gamma: 0.1 stepsize: 20 max_iter: 60 momentum: 0.9
            solver_type: ADAGRAD test_iter: [3, 4] train_state { stage: "a" }"""


def test_solver(inspect, tmp_path):
    (tmp_path / "net.prototxt").write_text(NET + layer("n", "Normalize", "data", "n"))
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    lines = inspect(tmp_path / "solver.prototxt")
    assert "solver, dialect bvlc (nothing in the file" in lines[0]
    assert "solver_type became type: 'AdaGrad'" in lines[1]
    assert row(lines, "net") == ["net", "net.prototxt", "found", "beside", "the", "solver,", "dialect", "srn"]
    assert row(lines, "delta") == ["delta", "1e-08", "default"] and row(lines, "type") == [
        "type",
        '"AdaGrad"',
    ]
    assert row(lines, "test_iter") == ["test_iter", "3,", "4"]
    assert row(lines, "iter_size") == ["iter_size", "1", "default"]
    assert row(lines, "train_state") == ["train_state", "{", "stage:", '"a"', "}"]
    assert "learning rate: 0.1 at iteration 0, 0.01 at iteration 30, 0.0001 at iteration 60" in lines
    assert not any(line.startswith(("power", "momentum2", "rms_decay")) for line in lines)


def test_a_solver_with_fields_of_forks(inspect, tmp_path):
    (tmp_path / "s").write_text('net: "n" base_lr: 1 lr_policy: "fixed" max_iter: 9 eval_type: "detection"')
    lines = inspect(tmp_path / "s")
    assert row(lines, "eval_type") == ["eval_type", '"detection"', "no", "effect", "here"]
    assert any(line.startswith("learning rate: 1 ") for line in lines)
    (tmp_path / "s").write_text('net: "n" base_lr: 1 lr_policy: "fixed" max_iter: 9 rampup_interval: 5')
    lines = inspect(tmp_path / "s")
    said = "rampup_interval 5 of nvidia; not supported, changes the training"
    assert " ".join(row(lines, "rampup_interval")) == said
    assert not any(line.startswith("learning rate") for line in lines)
    (tmp_path / "s").write_text('net: "n" base_lr: 1 lr_policy: "fixed" max_iter: 9 warmup_iter: 8')
    lines = inspect(tmp_path / "s")
    assert row(lines, "warmup_iter") == ["warmup_iter", "8"]
    assert "learning rate: 0 at iteration 0, 0.5 at iteration 4, 1 at iteration 9" in lines


def test_solver_with_problems(inspect, tmp_path):
    (tmp_path / "s").write_text('net: "n" base_lr: 1 lr_policy: "stepearly" solver_type: SGD type: "SGD" speed: 3')
    lines = inspect(tmp_path / "s", "--dialect", "bvlc")
    assert row(lines, "net")[1:] == ["n", "not", "found", "from", "here"]
    assert "problems: 2" in lines and any("both 'type' and 'solver_type'" in line for line in lines)
    assert any("field 'speed'" in line for line in lines)


def test_kinds(tmp_path, golden):
    """By content: the names say nothing."""
    path = tmp_path / "x"
    for content, kind in (
        (b"", "caffemodel"),
        (b"layer { }", "prototxt"),
        (b"\x08\x01\x10\x03", "blob"),
        (b"\x08\xac\x02\x12\x01a", "solverstate"),
        (b"\x2a\x04\x00\x00\x00\x00", "blob"),
        (b"\x0a\x01a\xa2\x06\x00", "caffemodel"),
        (b"\x89HDF\r\n\x1a\n", "hdf5"),
    ):
        path.write_bytes(content)
        assert file_kind(path) == kind, content


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "x: "),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "cannot be read as HDF5"),
        (b"\x08\x01\x10\x03\x18", "cut off"),
        (b"\x08\x05\x12\x09abc", "claims"),
        (b"<!DOCTYPE html>\n<html>", "web page"),
    ],
)
def test_damaged(inspect, tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    errors = inspect(tmp_path / "x", status=2)
    assert message in errors[0] and str(tmp_path / "x") in errors[0]


def test_hdf5_of_others(inspect, tmp_path):
    with h5py.File(tmp_path / "keras.h5", "w") as file:
        file["model_weights/a"] = 1.0
    assert "no group 'data', but model_weights" in inspect(tmp_path / "keras.h5", status=2)[0]


def test_survey_matches_the_graph(tmp_path):
    """Shapes of every top, as a forward pass has them."""
    path = tmp_path / "n"
    path.write_text(NET)
    survey, net = survey_net(path), port.load_net(path)
    shapes = {blob: shape for entry in survey.entries for blob, shape in zip(entry.tops, entry.shapes, strict=True)}
    blobs = port.run_blobs(net, {"data": torch.zeros(2, 3, 7, 6)})
    assert shapes == {blob: value.shape for blob, value in blobs.items()}
