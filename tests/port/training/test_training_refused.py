"""What training refuses before it starts, and what it says about the files that it was given."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from training_runs import (
    SIMPLE,
    refusal,
    weights,
    without,
    write_run,
    write_solver,
)

from port.__main__ import main
from port.training import train


@pytest.fixture(scope="module", params=["bvlc", "srn"])
def finished(request, tmp_path_factory):
    """A folder with a run that was never interrupted."""
    folder = tmp_path_factory.mktemp(request.param)
    assert train(write_run(folder, request.param), SIMPLE) == 0
    return folder


MEMORY = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "mem" type: "MemoryData" top: "x" top: "t"
        memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "y" loss_weight: 1
        inner_product_param { num_output: 4 } }
"""


def test_a_net_fed_from_memory(tmp_path, capsys):
    (tmp_path / "net.prototxt").write_text(MEMORY)
    said = refusal(capsys, "--solver", str(write_solver(tmp_path)))
    assert "layer 'in': Input: the batches of the TRAIN net come from memory" in said
    assert "layer 'mem': MemoryData" in said and "solver.step({blob: array})" in said


def test_everything_wrong_with_a_solver_at_once(tmp_path, capsys):
    solver = write_run(tmp_path, solver="max_iter: 0 average_loss: 0")
    said = refusal(capsys, "--solver", str(solver), "--weights", "a", "--resume", "b", "--seed", "-3")
    assert said.count("error: ") == 4
    for part in ("max_iter 0", "average_loss 0", "--weights and --resume", "--seed -3"):
        assert part in said


@pytest.mark.parametrize(
    "fields, message",
    [
        ("test_interval: 0", "0 with test nets; expected 1 or more"),
        ("test_iter: -1", "field 'test_iter': -1; expected 0 or more"),
    ],
)
def test_test_nets_that_caffe_refuses(tmp_path, capsys, fields, message):
    assert message in refusal(capsys, "--solver", str(write_run(tmp_path, solver=fields)))


def test_a_test_net_of_no_iterations_is_built_and_never_run(tmp_path, capsys):
    solver = write_run(tmp_path, solver="test_iter: 0 max_iter: 4 test_interval: 2 test_compute_loss: true")
    assert main(["train", "--solver", str(solver), "--workers", "0"]) == 0
    said = capsys.readouterr().err
    assert "test net 0: test_iter is 0, so it is built and never run" in said and "nan" not in said
    assert not (tmp_path / "run" / "tiny.test.csv").exists()
    assert "without a test net" in refusal(capsys, "--solver", str(solver), "--plateau")


def test_nets_that_are_not_there(tmp_path, capsys, monkeypatch):
    write_run(tmp_path)
    solver = tmp_path / "other.prototxt"
    monkeypatch.chdir(tmp_path)
    usual = 'base_lr: 0.1 lr_policy: "fixed" max_iter: 2 '
    solver.write_text(usual + 'net: "nets/tiny.prototxt"')
    said = refusal(capsys, "--solver", str(solver))
    assert f"{solver}: field 'net': there is no net 'nets/tiny.prototxt'" in said and "from the current folder" in said
    tests = 'test_net: "a.prototxt" test_net: "net.prototxt" test_net: "b.prototxt"' + " test_iter: 1" * 3
    solver.write_text(f'{usual} train_net: "net.prototxt" {tests} test_interval: 1')
    said = refusal(capsys, "--solver", str(solver), "--workers", "0")
    assert said.count("field 'test_net'") == 2 and "'a.prototxt'" in said and "'b.prototxt'" in said
    assert not list(tmp_path.glob("*.log"))


def test_why_the_dialect_is_what_it_is(tmp_path, capsys):
    solver = write_run(tmp_path, norm=False, solver='max_iter: 1 test_interval: 9 type: "SGD"')
    for arguments, reason in (
        ([], "in the solver file, the field 'type' of SolverParameter in line"),
        (["--dialect", "bvlc"], "as given"),
    ):
        assert main(["train", "--solver", str(solver), "--workers", "0", *arguments]) == 0
        assert f"dialect bvlc ({reason}" in capsys.readouterr().err


def test_a_missing_database(tmp_path, capsys):
    solver = write_run(tmp_path)
    shutil.rmtree(tmp_path / "images")
    shutil.rmtree(tmp_path / "labels")
    said = refusal(capsys, "--solver", str(solver))
    assert said.count("there is no such database") == 2 and "layer 'images'" in said and "layer 'truth'" in said


def test_labels_of_another_width(tmp_path, capsys):
    from port.data import label_datum, new_database

    solver = write_run(tmp_path)
    shutil.rmtree(tmp_path / "labels")
    with new_database(tmp_path / "labels") as writer:
        writer.put([(f"{i:08d}".encode(), label_datum(np.ones(5, np.float32))) for i in range(23)])
    said = refusal(capsys, "--solver", str(solver))
    assert "layer 'loss'" in said and "4x3 scores and 4x5x1x1 targets" in said


def test_weights_that_do_not_fit(finished, tmp_path, capsys):
    solver = write_run(tmp_path, "bvlc", norm=False)
    net = tmp_path / "net.prototxt"
    net.write_text(net.read_text().replace("num_output: 7", "num_output: 9"))
    model = finished / "run" / "tiny_iter_5.caffemodel"
    said = refusal(capsys, "--solver", str(solver), "--weights", str(model))
    assert "layer 'conv'" in said and "expected 9x3x3x3" in said
    assert not (tmp_path / "run").exists()


def test_weights_are_taken_and_reported(finished, tmp_path, capsys):
    model = finished / "run" / "tiny_iter_12.caffemodel"
    net = (finished / "net.prototxt").read_text().replace('"fc"', '"fc_new"')
    (tmp_path / "net.prototxt").write_text(net)
    solver = write_solver(tmp_path, "max_iter: 1 base_lr: 0 test_interval: 100 test_initialization: false")
    assert main(["train", "--solver", str(solver), "--weights", str(model), "--workers", "0"]) == 0
    said = capsys.readouterr().err
    assert "1 not in the net: fc" in said and "1 without weights, filled: fc_new" in said
    made, given = weights(tmp_path / "run" / "tiny_iter_1.caffemodel"), weights(model)
    np.testing.assert_array_equal(made["conv[0]"], given["conv[0]"])


def test_weights_given_several_times(finished, tmp_path, capsys):
    solver = write_run(tmp_path, norm=False, solver="max_iter: 1 test_interval: 9")
    five, ten = (str(finished / "run" / f"tiny_iter_{i}.caffemodel") for i in (5, 10))
    assert main(["train", "--solver", str(solver), "--workers", "0", "--weights", five, "--weights", ten]) == 0
    assert "taken from tiny_iter_5.caffemodel, tiny_iter_10.caffemodel" in capsys.readouterr().err
    said = refusal(capsys, "--solver", str(solver), "--weights", f"{five},{tmp_path}/a", "--weights", f"{tmp_path}/b")
    assert said.count("No such file") == 2 and f"{tmp_path}/a" in said and f"{tmp_path}/b" in said


def test_snapshot_prefix_and_its_default(tmp_path, capsys):
    solver = write_run(tmp_path, "srn", solver="max_iter: 1 test_interval: 100")
    other = tmp_path / "else" / "where"
    assert main(["train", "--solver", str(solver), "--snapshot-prefix", str(other), "--workers", "0"]) == 0
    assert other.with_name("where_iter_1.solverstate").exists() and other.with_name("where.log").exists()
    solver.write_text(without(solver, "snapshot_prefix"))
    assert main(["train", "--solver", str(solver), "--workers", "0"]) == 0
    assert (tmp_path / "solver_iter_1.solverstate").exists()
    assert "snapshot_prefix is not set" in capsys.readouterr().err
