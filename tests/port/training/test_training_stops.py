"""How training ends early: signals, kills, failures in between."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from training_runs import (
    SIMPLE,
    assert_same,
    ended,
    forked,
    log_of,
    snapshot_arrays,
    weights,
    write_run,
    write_solver,
)

from port.__main__ import main
from port.data import open_data
from port.solver.states import read_solver_state
from port.training import Options, train
from prototxt_gen.base.errors import CaffeError, DataError
from prototxt_gen.schema import read_prototxt

# ---- signals and kills


def at_iteration(folder: Path, iteration: int, child: int) -> None:
    """Wait until a run's log shows an iteration."""
    log, limit = folder / "run" / "tiny.log", time.monotonic() + 20
    while time.monotonic() < limit:
        if log.exists() and f"Iteration {iteration}, lr" in log.read_text():
            return
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("the run did not get there")


LONG = "max_iter: 100000 display: 1 snapshot: 0 test_interval: 50"


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_with_a_snapshot(tmp_path, number, status):
    solver = write_run(tmp_path, solver=LONG + " snapshot_after_train: false")
    child = forked(main, ["train", "--solver", str(solver), "--workers", "0"])
    at_iteration(tmp_path, 3, child)
    os.kill(child, number)
    assert ended(child) == status
    (state,) = (tmp_path / "run").glob("*.solverstate")
    reached = read_solver_state(state).iter
    assert reached >= 4 and f"stopped early, at iteration {reached}." in log_of(tmp_path)[-1]
    # The snapshot is that of a run to there.
    train(write_run(tmp_path / "again", solver=f"max_iter: {reached} snapshot: 0 test_interval: 50"), SIMPLE)
    assert_same(*(snapshot_arrays(f / "run" / "tiny", reached) for f in (tmp_path, tmp_path / "again")))


def test_hangup_asks_for_a_snapshot_and_goes_on(tmp_path):
    solver = write_run(tmp_path, solver=LONG)
    child = forked(main, ["train", "--solver", str(solver), "--workers", "0"])
    at_iteration(tmp_path, 2, child)
    os.kill(child, signal.SIGHUP)
    limit = time.monotonic() + 20
    while not list((tmp_path / "run").glob("*.solverstate")) and time.monotonic() < limit:
        time.sleep(0.005)
    reached = max(read_solver_state(p).iter for p in (tmp_path / "run").glob("*.solverstate"))
    at_iteration(tmp_path, reached + 1, child)
    os.kill(child, signal.SIGTERM)
    assert ended(child) == 143


def test_a_signal_during_a_test_keeps_the_data_order(tmp_path):
    solver = write_run(tmp_path, solver="max_iter: 8 test_interval: 4 test_iter: 100000 snapshot: 0 display: 1")
    child = forked(main, ["train", "--solver", str(solver), "--workers", "0"])
    limit = time.monotonic() + 20
    while time.monotonic() < limit and "Testing net" not in "".join(
        log_of(tmp_path) if (tmp_path / "run").exists() else []
    ):
        time.sleep(0.005)
    time.sleep(0.05)
    os.kill(child, signal.SIGTERM)
    assert ended(child) == 143
    assert "Test interrupted." in "".join(log_of(tmp_path))
    (side,) = (tmp_path / "run").glob("*.portstate")
    assert json.loads(side.read_text())["tests"][0]["images"]["position"] == 0


KILLED = "max_iter: 60 display: 1 snapshot: 3 test_interval: 9 test_iter: 2"


def killed_after(child: int, folder: Path, lines: int, more: float) -> bool:
    """Kill a run when its log has so many more lines, and a little later; whether it was not done before."""
    log = folder / "run" / "tiny.log"
    before = log.stat().st_size if log.exists() else 0
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        gone, status = os.waitpid(child, os.WNOHANG)
        if gone:
            assert os.waitstatus_to_exitcode(status) == 0
            return False
        if log.exists() and log.read_bytes()[before:].count(b"\n") >= lines:
            break
        time.sleep(0.001)
    time.sleep(more)
    os.kill(child, signal.SIGKILL)
    return ended(child) == -signal.SIGKILL


def killed_and_resumed(folder: Path, reference: dict, kills: int, seed: int, workers: int) -> int:
    """Kill a run at random moments and resume it each time; returns how often it was caught."""
    rng = random.Random(seed)
    solver = write_run(folder, "srn", solver=KILLED)
    arguments = ["train", "--solver", str(solver), "--resume", "latest", "--workers", str(workers)]
    caught = 0
    for _ in range(kills):
        # From the first line of the start on, in iterations, tests and snapshots.
        caught += killed_after(forked(main, arguments), folder, rng.randint(1, 90), rng.uniform(0, 0.02))
        for state in (folder / "run").glob("*.solverstate"):
            read_solver_state(state)
            weights(state.with_suffix(".caffemodel"))
            json.loads(state.with_suffix(".portstate").read_text())
    assert main(arguments) == 0
    assert_same(reference, snapshot_arrays(folder / "run" / "tiny", 60))
    return caught


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    """What the run that was never killed reaches."""
    folder = tmp_path_factory.mktemp("unharmed")
    train(write_run(folder, "srn", solver=KILLED), SIMPLE)
    return snapshot_arrays(folder / "run" / "tiny", 60)


def test_a_killed_run_reaches_the_same_weights(tmp_path, unharmed):
    assert killed_and_resumed(tmp_path, unharmed, kills=3, seed=1, workers=0) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_killed_runs_reach_the_same_weights(tmp_path, unharmed, seed):
    assert killed_and_resumed(tmp_path, unharmed, kills=4, seed=seed, workers=seed % 3) >= 1


# ---- failures in between


def test_a_bad_record_leaves_a_snapshot_and_is_named(tmp_path):
    from port.data import encoded_datum, new_database

    solver = write_run(
        tmp_path, solver="max_iter: 12 snapshot: 0 test_interval: 100 display: 1 test_initialization: false"
    )
    good = next(iter(open_data(read_prototxt(tmp_path / "net.prototxt").message.layer[0], "TRAIN").batches()))
    assert good["data"].shape == (4, 3, 5, 5)
    from port.data import Database

    held = Database(tmp_path / "images")
    with new_database(tmp_path / "bad") as writer:
        records = [(key, held[i]) for i, key in enumerate(held.keys)]
        records[17] = (records[17][0], encoded_datum(b"no image", 0))
        writer.put(records)
    net = tmp_path / "net.prototxt"
    whole = net.read_text()
    net.write_text(whole.replace(str(tmp_path / "images"), str(tmp_path / "bad")))
    with pytest.raises(DataError) as caught:
        train(solver, SIMPLE)
    text = str(caught.value)
    assert "record '00000017'" in text and "iteration 4 is not done" in text
    state = tmp_path / "run" / "tiny_iter_4.solverstate"
    assert str(state) in text
    # With the record mended the run goes on as if nothing had been.
    net.write_text(whole)
    train(solver, Options(workers=0, resume=state))
    resumed = snapshot_arrays(tmp_path / "run" / "tiny", 12)
    train(
        write_run(tmp_path / "b", solver="max_iter: 12 snapshot: 0 test_interval: 100 test_initialization: false"),
        SIMPLE,
    )
    assert_same(resumed, snapshot_arrays(tmp_path / "b" / "run" / "tiny", 12))


def test_a_full_disk_spares_what_is_there(tmp_path, monkeypatch):
    import prototxt_gen.base.files

    solver = write_run(tmp_path, solver="max_iter: 9 snapshot: 3")
    train(
        write_solver(tmp_path, "max_iter: 4 snapshot: 3 snapshot_after_train: false", "first.prototxt"),
        SIMPLE,
    )
    before = snapshot_arrays(tmp_path / "run" / "tiny", 3)
    sync, full = os.fsync, OSError(28, "No space left on device")

    def fsync(handle: int) -> None:
        name = os.readlink(f"/proc/self/fd/{handle}")
        if "iter_6.solverstate" in name:
            raise full
        sync(handle)

    monkeypatch.setattr(prototxt_gen.base.files.os, "fsync", fsync)
    with pytest.raises(CaffeError) as caught:
        train(solver, Options(workers=0, resume="latest"))
    monkeypatch.undo()
    text = str(caught.value)
    assert "tiny_iter_6.solverstate: cannot write: No space left on device" in text
    last = tmp_path / "run" / "tiny_iter_3.solverstate"
    assert f"the last one is {last}" in text and f"go on with --resume {last}" in text
    assert_same(before, snapshot_arrays(tmp_path / "run" / "tiny", 3))
    assert sorted(p.name for p in (tmp_path / "run").glob("*_iter_*")) == [
        f"tiny_iter_3.{kind}" for kind in ("caffemodel", "portstate", "solverstate")
    ]
    assert not [p for p in (tmp_path / "run").iterdir() if p.name.endswith(".tmp")]


def test_snapshots_of_an_older_run_are_pointed_out(tmp_path, capsys):
    solver = write_run(tmp_path, solver="max_iter: 7 snapshot: 7 test_interval: 100")
    train(solver, SIMPLE)
    assert "older run" not in capsys.readouterr().err
    train(write_solver(tmp_path, "max_iter: 3 snapshot: 7 test_interval: 100"), SIMPLE)
    said = capsys.readouterr().err
    assert f"{tmp_path / 'run' / 'tiny_iter_7.solverstate'} is of an older run" in said
    assert "--resume latest takes it until this run is past it" in said
    train(solver, Options(workers=0, resume="latest"))
    assert "older run" not in capsys.readouterr().err
