"""Several processes that train one net, as with the fork's MPI: against one process, and when one is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from training_runs import ended, forked, log_of, snapshot_arrays, table, weights, write_run

import port
from port.__main__ import main
from port.data import open_data
from port.solver.states import read_solver_state
from prototxt_gen.base import command
from prototxt_gen.schema import read_prototxt


def ranked(rank: int, world: int, place: int, log: Path, arguments: list[str]) -> int:
    """One process of several, with its words in a file."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(place),
    )
    with open(log, "w", buffering=1) as file:
        sys.stderr = file
        return command.run(main, arguments)


def torchrun(folder: Path, *arguments: str) -> list[str]:
    """The command that starts two processes as a user does."""
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "port"]
    return [*line, "train", "--solver", str(folder / "solver.prototxt"), "--workers", "1", *arguments]


def together_by_torchrun(folder: Path, world: int, *arguments: str) -> None:
    """The same as `together`, of two."""
    assert world == 2
    subprocess.run(torchrun(folder, *arguments), check=True, cwd=ROOT, timeout=300)


def start(folder: Path, world: int, *arguments: str) -> list[int]:
    """Start the processes of a run; returns their ids."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = probe.getsockname()[1]
    words = ["train", "--solver", str(folder / "solver.prototxt"), "--workers", "0", *arguments]
    return [forked(ranked, rank, world, place, folder / f"rank{rank}", words) for rank in range(world)]


def together(folder: Path, world: int, *arguments: str) -> None:
    """Run to the end, in all processes."""
    assert [ended(child) for child in start(folder, world, *arguments)] == [0] * world, (folder / "rank0").read_text()


def larger_batch(folder: Path, size: int) -> None:
    net = folder / "net.prototxt"
    net.write_text(net.read_text().replace("batch_size: 4", f"batch_size: {size}"))


ROOT = Path(__file__).parents[3]
STARTERS = [
    pytest.param(together, id="forked"),
    pytest.param(together_by_torchrun, id="torchrun", marks=pytest.mark.slow),
]
SHORT = "max_iter: 9 snapshot: 4 test_interval: 4"


@pytest.mark.parametrize("starter", STARTERS)
@pytest.mark.parametrize("dialect", ["srn", "bvlc"])
def test_two_processes_equal_one_with_the_joined_batch(tmp_path, dialect, starter):
    for name in "ab":
        write_run(tmp_path / name, norm=False, drop=False, solver=SHORT)
    larger_batch(tmp_path / "b", 8)
    starter(tmp_path / "a", 2, "--dialect", dialect)
    together(tmp_path / "b", 1, "--dialect", dialect)
    one, two = (snapshot_arrays(tmp_path / name / "run" / "tiny", 9) for name in "ab")
    assert one.keys() == two.keys()
    for name in one:  # float32, summed in another order
        assert np.abs(one[name] - two[name]).max() <= 1e-6 * max(np.abs(two[name]).max(), 1e-2), name
    mine, theirs = (table(tmp_path / name / "run" / "tiny.train.csv") for name in "ab")
    assert [float(r["loss"]) for r in mine] == pytest.approx([float(r["loss"]) for r in theirs], rel=1e-6)


def test_the_forks_processes_test_together_and_bvlcs_alone(tmp_path):
    means = {}
    for dialect in ("srn", "bvlc"):
        folder = tmp_path / dialect
        write_run(folder, norm=False, drop=False, solver="max_iter: 1 display: 0 snapshot: 0 test_interval: 5")
        together(folder, 2, "--dialect", dialect)
        means[dialect] = float(table(folder / "run" / "tiny.test.csv")[0]["loss"])
    net = port.load_net(tmp_path / "srn" / "net.prototxt", phase="TEST", dialect="srn", seed=7)
    message = read_prototxt(tmp_path / "srn" / "net.prototxt", dialect="srn").message
    batches = zip(*(open_data(layer, "TEST", "srn").batches() for layer in message.layer[2:4]), strict=True)
    losses = [float(port.run_blobs(net, one | two)["loss"]) for _, (one, two) in zip(range(6), batches, strict=False)]
    assert means["srn"] == pytest.approx(np.mean(losses), rel=1e-6)  # 2 processes x 3 batches
    assert means["bvlc"] == pytest.approx(np.mean(losses[:3]), rel=1e-6)


@pytest.mark.parametrize("starter", STARTERS)
def test_normalisation_is_local_and_the_first_processs_statistics_are_saved(tmp_path, starter):
    more = "max_iter: 3 snapshot: 3 test_interval: 100 test_initialization: false"
    write_run(tmp_path, "srn", drop=False, solver=more)
    starter(tmp_path, 2)
    message = read_prototxt(tmp_path / "net.prototxt").message
    solvers = [
        port.load_solver(
            tmp_path / "solver.prototxt", net=port.load_net(tmp_path / "net.prototxt", phase="TRAIN", seed=7)
        )
        for _ in range(2)
    ]
    feeds = [
        zip(
            *(open_data(layer, "TRAIN", "srn", seed=7, rank=rank, world=2).batches() for layer in message.layer[:2]),
            strict=True,
        )
        for rank in range(2)
    ]
    for _ in range(3):  # the semantics by hand: local forward and backward, mean gradients, the same update
        for solver, feed in zip(solvers, feeds, strict=True):
            one, two = next(feed)
            solver.clear()
            solver.forward_backward(one | two)
        for mine, theirs in zip(solvers[0].learned, solvers[1].learned, strict=True):
            if mine.tensor.grad is not None:
                mean = (mine.tensor.grad + theirs.tensor.grad) / 2
                mine.tensor.grad, theirs.tensor.grad = mean, mean.clone()
        for solver in solvers:
            solver.apply_update()
    saved = weights(tmp_path / "run" / "tiny_iter_3.caffemodel")
    for name, blobs in port.params(solvers[0].net).items():
        for i, blob in enumerate(blobs):
            held = blob.detach().numpy()
            np.testing.assert_allclose(saved[f"{name}[{i}]"].reshape(held.shape), held, atol=1e-6, rtol=1e-6)
    means = [port.params(solver.net)["norm"][2] for solver in solvers]
    assert not np.allclose(means[0].numpy(), means[1].numpy(), atol=1e-4)  # the second's would have been others


def test_a_run_of_two_resumes_exactly(tmp_path):
    write_run(tmp_path, "srn", solver=SHORT)
    together(tmp_path, 2)
    whole = snapshot_arrays(tmp_path / "run" / "tiny", 9)
    together(tmp_path, 2, "--resume", str(tmp_path / "run" / "tiny_iter_4.solverstate"))
    again = snapshot_arrays(tmp_path / "run" / "tiny", 9)
    learned = [name for name in whole if not re.match(r"norm\[[23]\]", name)]
    # The second process goes on with the first's statistics, which only testing reads.
    assert len(learned) > 4 and all(np.array_equal(whole[name], again[name]) for name in learned)
    side = json.loads((tmp_path / "run" / "tiny_iter_9.portstate").read_text())
    assert side["world"] == 2 and side["train"]["images"]["position"] == 9


def test_another_number_of_processes_is_refused(tmp_path):
    write_run(tmp_path, "srn", solver=SHORT)
    together(tmp_path, 2)
    state = str(tmp_path / "run" / "tiny_iter_4.solverstate")
    assert command.run(main, ["train", "--solver", str(tmp_path / "solver.prototxt"), "--resume", state]) == 2


LONG = "max_iter: 100000 snapshot: 4 test_interval: 100000 display: 1"


def reached(folder: Path, iteration: int, children: list[int], patience: float = 60) -> None:
    limit = time.monotonic() + patience
    while time.monotonic() < limit:
        if any(f"Iteration {iteration}, lr" in line for line in log_of(folder)):
            return
        time.sleep(0.005)
    for child in children:
        os.kill(child, signal.SIGKILL)
    raise AssertionError("the run did not get there")


@pytest.mark.parametrize("lost", [1, 0])
def test_a_lost_process_ends_the_run_with_a_usable_snapshot(tmp_path, lost):
    write_run(tmp_path, "srn", solver=LONG)
    children = start(tmp_path, 2)
    reached(tmp_path, 6, children)
    os.kill(children[lost], signal.SIGKILL)
    assert ended(children[lost]) == -signal.SIGKILL
    assert ended(children[1 - lost]) == command.BAD_INPUT
    said = (tmp_path / f"rank{1 - lost}").read_text()
    assert "another process of the run ended or cannot be reached" in said
    assert "start all processes again with --resume" in said
    states = sorted((tmp_path / "run").glob("*.solverstate"), key=lambda p: read_solver_state(p).iter)
    last = read_solver_state(states[-1]).iter
    if lost:  # the first process lives and keeps all that was done
        assert last >= 7 and str(states[-1]) in said
    assert last >= 4
    solver = tmp_path / "solver.prototxt"
    solver.write_text(solver.read_text().replace("max_iter: 100000", f"max_iter: {last + 3}"))
    together(tmp_path, 2, "--resume", "latest")
    assert (tmp_path / "run" / f"tiny_iter_{last + 3}.solverstate").exists()


def test_a_signal_to_one_ends_all(tmp_path):
    write_run(tmp_path, "srn", solver=LONG)
    children = start(tmp_path, 2)
    reached(tmp_path, 3, children)
    os.kill(children[1], signal.SIGTERM)
    assert [ended(child) for child in children] == [143, 143]
    assert "stopped early" in log_of(tmp_path)[-1]


def test_gather_is_refused_with_several(tmp_path):
    write_run(tmp_path, "srn", solver=SHORT)
    net = tmp_path / "net.prototxt"
    net.write_text(net.read_text() + 'layer { name: "all" type: "Gather" bottom: "y" top: "all" }\n')
    assert {ended(child) for child in start(tmp_path, 2)} == {command.BAD_INPUT}
    assert "layer 'all'" in (tmp_path / "rank0").read_text() and "2 processes" in (tmp_path / "rank0").read_text()


def worker_of(log: str, rank: int) -> int:
    """The id of a process that torchrun started, from what the processes say."""
    return int(re.findall(rf"^rank {rank} is (\d+)$", log, re.MULTILINE)[0])


SAYING = """
import os, runpy, sys
os.write(2, f"rank {os.environ['RANK']} is {os.getpid()}\n".encode())  # at once: the other process writes there, too
sys.argv = ["port", *sys.argv[1:]]
runpy.run_module("port", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("lost", [1, 0])
def test_a_process_that_torchrun_loses(tmp_path, lost):
    write_run(tmp_path, "srn", solver=LONG)
    (tmp_path / "saying.py").write_text(SAYING)
    line = torchrun(tmp_path)
    place = line.index("-m", line.index("2"))
    line[place : place + 2] = [str(tmp_path / "saying.py")]
    with open(tmp_path / "said", "w") as said:
        run = subprocess.Popen(line, cwd=ROOT, stderr=said, stdout=said)
    reached(tmp_path, 6, [run.pid], patience=200)
    os.kill(worker_of((tmp_path / "said").read_text(), lost), signal.SIGKILL)
    assert run.wait(120) != 0
    words = (tmp_path / "said").read_text()
    assert "another process of the run ended or cannot be reached" in words
    assert "start all processes again with --resume" in words
    last = max(read_solver_state(path).iter for path in (tmp_path / "run").glob("*.solverstate"))
    assert last >= (7 if lost == 1 else 4)
    solver = tmp_path / "solver.prototxt"
    solver.write_text(solver.read_text().replace("max_iter: 100000", f"max_iter: {last + 3}"))
    together_by_torchrun(tmp_path, 2, "--resume", "latest")
    assert (tmp_path / "run" / f"tiny_iter_{last + 3}.solverstate").exists()
