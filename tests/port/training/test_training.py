"""Training end to end: the order of things, what a run leaves, resuming."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_runs import (
    SIMPLE,
    assert_same,
    log_of,
    snapshot_arrays,
    table,
    weights,
    write_run,
)

import port
from port.__main__ import main
from port.data import open_data
from port.solver.states import read_solver_state, write_solver_state
from port.training import Options, train
from prototxt_gen.base.errors import DataError, UsageError, WeightsError
from prototxt_gen.schema import read_prototxt


@pytest.fixture(scope="module", params=["bvlc", "srn"])
def finished(request, tmp_path_factory):
    """A folder with a run that was never interrupted."""
    folder = tmp_path_factory.mktemp(request.param)
    assert train(write_run(folder, request.param), SIMPLE) == 0
    return folder


def copied(finished: Path, folder: Path) -> Path:
    """The finished run's snapshot of iteration 5 under another folder's prefix; returns the solver."""
    (folder / "run").mkdir(parents=True)
    for path in (finished / "run").glob("tiny_iter_5.*"):
        shutil.copy(path, folder / "run")
    text = (finished / "solver.prototxt").read_text().replace(str(finished / "run"), str(folder / "run"))
    (folder / "solver.prototxt").write_text(text)
    return folder / "solver.prototxt"


# ---- the loop


def test_the_order_of_tests_displays_and_snapshots(finished):
    seen = []
    for line in log_of(finished):
        text = line.split("] ", 1)[1]
        if found := re.match(r"Iteration (\d+), (Testing|loss|lr)|Snapshotting solver .*iter_(\d+)", text):
            seen.append((found[2] or "snapshot", int(found[1] or found[3])))
    expected = []
    for i in range(12):
        expected += [("Testing", i)] if i % 4 == 0 else []
        expected += [("loss", i), ("lr", i)] if i % 2 == 0 else []
        expected += [("snapshot", i + 1)] if (i + 1) % 5 == 0 else []
    # After the last iteration: a snapshot that is not there yet, a loss, a test.
    expected += [("snapshot", 12), ("loss", 12), ("Testing", 12)]
    assert seen == expected


def by_hand(finished: Path, iterations: int, dialect: str):
    """The same run in the plainest way: batches from the data layers, one after the other, into the solver."""
    parsed = read_prototxt(finished / "net.prototxt")
    sources = [open_data(layer, "TRAIN", dialect, seed=7) for layer in parsed.message.layer[:2]]
    net = port.load_net(finished / "net.prototxt", phase="TRAIN", seed=7)
    solver = port.load_solver(finished / "solver.prototxt", net=net)
    batches = zip(*(source.batches() for source in sources), strict=True)
    for _ in range(iterations):
        one, two = next(batches)
        yield solver, one | two


def test_losses_and_rates_are_those_of_the_solver_fed_by_hand(tmp_path):
    folder = tmp_path / "run"
    train(write_run(folder, "bvlc", drop=False), SIMPLE)  # dropout would need the trainer's random numbers
    losses, rates = [], []
    for solver, batch in by_hand(folder, 12, "bvlc"):
        rates.append(solver.rate())
        losses.append(solver.step(batch))
    log = "\n".join(log_of(folder))
    shown = [float(v) for v in re.findall(r"Iteration \d+, loss = (\S+)", log)]
    smoothed = [np.mean(losses[max(0, i - 2) : i + 1]) for i in range(0, 12, 2)]
    assert shown[:6] == pytest.approx(smoothed, rel=1e-5)  # six digits are printed
    assert [float(v) for v in re.findall(r"lr = (\S+)", log)] == pytest.approx(rates[::2], rel=1e-5)
    made = weights(folder / "run" / "tiny_iter_12.caffemodel")
    for name, blobs in port.params(solver.net).items():
        for i, blob in enumerate(blobs):
            np.testing.assert_array_equal(made[f"{name}[{i}]"].reshape(blob.shape), blob.detach().numpy())


def test_iter_size_takes_successive_batches(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    train(write_run(first, drop=False, norm=False, solver="iter_size: 2 max_iter: 6 snapshot: 6"), SIMPLE)
    solver = write_run(second, drop=False, norm=False, solver="max_iter: 6 snapshot: 6")
    net = second / "net.prototxt"
    net.write_text(net.read_text().replace("batch_size: 4", "batch_size: 8"))
    train(solver, SIMPLE)
    one, two = (snapshot_arrays(f / "run" / "tiny", 6) for f in (first, second))
    for name in one:  # the same sums in another order
        np.testing.assert_allclose(one[name], two[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_test_nets_see_the_live_parameters(tmp_path, dialect):
    # No display at the end: its forward pass would move the statistics after the snapshot.
    train(write_run(tmp_path, dialect, solver="display: 5"), SIMPLE)
    rows = table(tmp_path / "run" / "tiny.test.csv")
    model = tmp_path / "run" / "tiny_iter_12.caffemodel"
    net = port.load_net(tmp_path / "net.prototxt", model, phase="TEST")
    sources = [
        open_data(layer, "TEST", dialect) for layer in read_prototxt(tmp_path / "net.prototxt").message.layer[2:4]
    ]
    for source in sources:
        source.position = 9  # three tests of three batches came before
    batches = zip(*(source.batches() for source in sources), strict=True)
    losses = [float(port.run_blobs(net, one | two)["loss"]) for _, (one, two) in zip(range(3), batches, strict=False)]
    assert float(rows[-1]["loss"]) == pytest.approx(np.mean(losses), rel=1e-6)  # float32 sums
    assert float(rows[-1]["WeightedLoss"]) == pytest.approx(0.5 * float(rows[-1]["loss"]))
    assert float(rows[-1]["loss"]) != float(rows[-2]["loss"])


def test_test_initialization_and_snapshot_after_train(tmp_path):
    more = "test_initialization: false snapshot_after_train: false max_iter: 7 snapshot: 5"
    train(write_run(tmp_path, solver=more), SIMPLE)
    assert [row["NumIters"] for row in table(tmp_path / "run" / "tiny.test.csv")] == ["4"]
    assert sorted(p.name for p in (tmp_path / "run").glob("*.solverstate")) == ["tiny_iter_5.solverstate"]


def test_a_loss_that_is_no_number_is_said_once(tmp_path, capsys):
    train(write_run(tmp_path, norm=False, solver="base_lr: 1e30 max_iter: 6 test_interval: 9 display: 1"), SIMPLE)
    said = capsys.readouterr().err
    assert said.count("The loss of iteration") == 1 and "smaller base_lr" in said
    train(write_run(tmp_path / "b", solver="max_iter: 2 test_interval: 9"), SIMPLE)
    assert "The loss of iteration" not in capsys.readouterr().err


def test_several_test_nets_with_states(tmp_path):
    solver = write_run(tmp_path, solver="max_iter: 4 test_interval: 2")
    text = solver.read_text() + 'test_iter: 1 test_state { stage: "plain" } test_state { stage: "spare" level: 2 }'
    solver.write_text(text)
    net = tmp_path / "net.prototxt"
    net.write_text(net.read_text() + 'layer { name: "s" type: "Silence" bottom: "y" include { stage: "spare" } }')
    train(solver, SIMPLE)
    assert [len(table(tmp_path / "run" / f"tiny.{kind}.csv")) for kind in ("test", "test1")] == [3, 3]
    assert sum("Testing net (#1)" in line for line in log_of(tmp_path)) == 3


# ---- what it leaves


def test_tables_hold_rate_loss_and_speed(finished):
    rows = table(finished / "run" / "tiny.train.csv")
    assert [int(r["NumIters"]) for r in rows] == [0, 2, 4, 6, 8, 10]
    assert [float(r["LearningRate"]) for r in rows] == [0.05] * 4 + [0.025] * 2
    seconds = [float(r["Seconds"]) for r in rows]
    assert seconds == sorted(seconds) and all(float(r["ImagesPerSecond"]) > 0 for r in rows)


def test_tensorboard_when_it_is_there(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(write_run(tmp_path), SIMPLE)
    events = EventAccumulator(str(tmp_path / "run" / "tiny.tensorboard")).Reload()
    assert [e.step for e in events.Scalars("train/loss")] == [0, 2, 4, 6, 8, 10]
    assert [e.step for e in events.Scalars("test/outputs/loss")] == [0, 4, 8, 12]
    rows = table(tmp_path / "run" / "tiny.train.csv")
    assert [e.value for e in events.Scalars("train/loss")] == pytest.approx([float(r["SmoothedLoss"]) for r in rows])
    train(tmp_path / "solver.prototxt", Options(workers=0, resume=tmp_path / "run" / "tiny_iter_5.solverstate"))
    events = EventAccumulator(str(tmp_path / "run" / "tiny.tensorboard")).Reload()
    assert [e.step for e in events.Scalars("train/loss")] == [0, 2, 4, 6, 8, 10]  # what came again stands once


def test_records_that_a_full_disk_refuses_do_not_end_training(tmp_path, monkeypatch, capsys):
    solver = write_run(tmp_path, solver="display: 1")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tiny.log").symlink_to("/dev/full")
    monkeypatch.setattr("port.training.board.FileIO", lambda *_: io.FileIO("/dev/full", "ab"))
    train(solver, SIMPLE)
    said = capsys.readouterr().err
    expected = 2 if importlib.util.find_spec("tensorboard") else 1
    assert said.count("No space left on device") == expected and said.count("training goes on") == expected
    assert "Traceback" not in said and len(table(tmp_path / "run" / "tiny.train.csv")) == 12
    assert (tmp_path / "run" / "tiny_iter_12.solverstate").exists()


def test_an_older_run_is_set_aside(finished, tmp_path):
    solver = copied(finished, tmp_path)
    log = tmp_path / "run" / "tiny.log"
    log.write_text("precious\n")
    train(solver, SIMPLE)
    assert log.with_name("tiny.log.old").read_text() == "precious\n"
    assert "precious" not in log.read_text()


# ---- resuming


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_is_the_uninterrupted_one(finished, tmp_path, workers):
    solver = copied(finished, tmp_path)
    assert main(["train", "--solver", str(solver), "--resume", "latest", "--workers", str(workers)]) == 0
    for iteration in (10, 12):
        assert_same(*(snapshot_arrays(f / "run" / "tiny", iteration) for f in (finished, tmp_path)))
    sides = [json.loads((f / "run" / "tiny_iter_12.portstate").read_text()) for f in (finished, tmp_path)]
    for side in sides:
        del side["seconds"], side["solverstate"]
    assert sides[0] == sides[1]
    mine, theirs = (table(f / "run" / "tiny.test.csv") for f in (tmp_path, finished))
    assert [r["loss"] for r in mine] == [r["loss"] for r in theirs if int(r["NumIters"]) > 5]
    losses = [[line.split("loss = ")[1] for line in log_of(f) if ", loss = " in line] for f in (tmp_path, finished)]
    assert losses[0] == losses[1][3:]  # the smoothed loss goes on too


def test_tables_go_on_without_doubles(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "same")
    text = (finished / "solver.prototxt").read_text().replace(str(finished), str(tmp_path / "same"))
    (tmp_path / "same" / "solver.prototxt").write_text(text)
    state = tmp_path / "same" / "run" / "tiny_iter_5.solverstate"
    train(tmp_path / "same" / "solver.prototxt", Options(workers=0, resume=state))
    rows = table(tmp_path / "same" / "run" / "tiny.train.csv")
    assert [int(r["NumIters"]) for r in rows] == [0, 2, 4, 6, 8, 10]


def test_caffes_own_state_resumes_with_the_data_anew(finished, tmp_path, capsys):
    solver = copied(finished, tmp_path)
    (tmp_path / "run" / "tiny_iter_5.portstate").unlink()
    train(solver, Options(workers=0, resume="latest"))
    said = capsys.readouterr().err
    assert "Caffe writes none: data and random numbers start anew" in said
    assert read_solver_state(tmp_path / "run" / "tiny_iter_12.solverstate").iter == 12


def test_a_side_file_of_another_state_does_not_count(finished, tmp_path, capsys):
    solver = copied(finished, tmp_path)
    state = tmp_path / "run" / "tiny_iter_5.solverstate"
    shutil.copy(finished / "run" / "tiny_iter_10.solverstate", state)
    train(solver, Options(workers=0, resume=state))
    assert "belongs to another state of this name" in capsys.readouterr().err


def test_restart_data_and_seeds(finished, tmp_path):
    solver = copied(finished, tmp_path)
    state = tmp_path / "run" / "tiny_iter_5.solverstate"
    with pytest.raises(UsageError, match="--seed 8, and the snapshot goes on with 7"):
        train(solver, Options(workers=0, resume=state, seed=8))
    train(solver, Options(workers=0, resume=state, seed=8, restart_data=True))
    made = json.loads((tmp_path / "run" / "tiny_iter_12.portstate").read_text())
    assert made["seed"] == 8 and made["train"]["images"]["position"] == 7


def test_other_data_is_refused(finished, tmp_path):
    solver = copied(finished, tmp_path)
    net = tmp_path / "net.prototxt"
    net.write_text((finished / "net.prototxt").read_text().replace("batch_size: 4", "batch_size: 5"))
    solver.write_text(solver.read_text().replace(str(finished / "net.prototxt"), str(net)))
    with pytest.raises(DataError) as caught:
        train(solver, Options(workers=0, resume="latest"))
    assert len(caught.value.problems) == 2 and "batch_size 5; expected 4, as saved" in str(caught.value)


DAMAGE = {
    "caffemodel": lambda data: data[: len(data) // 2],
    "solverstate": lambda data: data[:-7],
    "portstate": lambda data: data[:20],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_latest_goes_back_before_a_damaged_snapshot(finished, tmp_path, capsys, kind):
    """To the one before it, saying what is damaged; the run then ends as it ended."""
    solver = copied(finished, tmp_path)
    for name in ("caffemodel", "solverstate", "portstate"):
        shutil.copy(finished / "run" / f"tiny_iter_10.{name}", tmp_path / "run")
    newest = tmp_path / "run" / "tiny_iter_10.solverstate"
    if kind == "caffemodel":  # the copied state names the weights where they were first
        state = read_solver_state(newest)
        write_solver_state(newest, replace(state, learned_net=str(newest.with_suffix(".caffemodel"))))
    damaged = tmp_path / "run" / f"tiny_iter_10.{kind}"
    damaged.write_bytes(DAMAGE[kind](damaged.read_bytes()))
    train(solver, Options(workers=0, resume="latest"))
    said = capsys.readouterr().err
    assert str(damaged) in said and "--resume latest goes back to " in said and "tiny_iter_5.solverstate" in said
    assert_same(*(snapshot_arrays(folder / "run" / "tiny", 12) for folder in (tmp_path, finished)))


def test_only_damaged_snapshots(finished, tmp_path):
    solver = copied(finished, tmp_path)
    (tmp_path / "run" / "tiny_iter_5.portstate").write_text('{"format": 1, "sol')
    with pytest.raises(WeightsError, match="the file is damaged"):
        train(solver, Options(workers=0, resume="latest"))
    train(solver, Options(workers=0, resume="latest", restart_data=True))


def test_latest_without_a_snapshot_starts_anew(tmp_path, capsys):
    train(write_run(tmp_path, solver="max_iter: 2"), Options(workers=0, resume="latest"))
    assert "there is no snapshot" in capsys.readouterr().err


RECURRENT = """
layer { name: "rows" type: "HDF5Data" top: "x" top: "cont" top: "label"
        hdf5_data_param { source: "LIST" batch_size: 3 } }
layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" top: "h"
        recurrent_param { num_output: 4 weight_filler { type: "uniform" min: -0.3 max: 0.3 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "h" bottom: "label" top: "loss" }
"""


def test_recurrent_states_are_resumed(tmp_path):
    import h5py

    rng = np.random.default_rng(3)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"] = rng.normal(size=(15, 2, 5)).astype(np.float32)
        file["cont"] = np.ones((15, 2), np.float32)
        file["label"] = rng.normal(size=(15, 2, 4)).astype(np.float32)
    (tmp_path / "list.txt").write_text(f"{tmp_path / 'rows.h5'}\n")
    (tmp_path / "net.prototxt").write_text(RECURRENT.replace("LIST", str(tmp_path / "list.txt")))
    solver = tmp_path / "solver.prototxt"
    fields = 'base_lr: 0.1 lr_policy: "fixed" max_iter: 8 snapshot: 4 display: 1'
    solver.write_text(f'net: "{tmp_path / "net.prototxt"}" snapshot_prefix: "{tmp_path / "run" / "tiny"}" {fields}')
    train(solver, SIMPLE)
    whole = snapshot_arrays(tmp_path / "run" / "tiny", 8)
    state = tmp_path / "run" / "tiny_iter_4.solverstate"
    train(solver, Options(workers=0, resume=state))
    assert_same(whole, snapshot_arrays(tmp_path / "run" / "tiny", 8))
    side = state.with_suffix(".portstate")
    content = json.loads(side.read_text())
    assert [entry["shape"] for entry in content["hidden"][0][0]["lstm"]] == [[2, 4], [2, 4]]
    content["hidden"] = [[{}]]
    side.write_text(json.dumps(content))
    train(solver, Options(workers=0, resume=state))
    with pytest.raises(AssertionError):  # the states matter, or the test above says nothing
        assert_same(whole, snapshot_arrays(tmp_path / "run" / "tiny", 8))
