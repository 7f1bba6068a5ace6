"""port score in several processes, and the whole of it on 2,000 scenes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from scoring_runs import IMAGES, child, dying, ended, scenes, score, words

from port.scoring import mates
from port.scoring.run import share
from prototxt_gen import write_net
from verify.evaluation.scores import read_scores

RUNTIMES = 1e-4  # PyTorch and ONNX Runtime sum in other orders, through 100 layers


def place() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def together(folder: Path, lines: list[list[str]], before=None) -> list[int]:
    """Start a run of several processes as torchrun would; returns their ids."""
    common = {"WORLD_SIZE": len(lines), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": place()}
    return [
        child(folder / f"log{rank}", line, before, RANK=rank, LOCAL_RANK=rank, **common)
        for rank, line in enumerate(lines)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    output = tmp_path_factory.mktemp("whole") / "scores.txt"
    assert score(output) == 0
    return output.read_bytes()


def test_shares_are_contiguous_and_even():
    for count in (0, 1, 7, 100):
        for world in (1, 2, 3, 8):
            shares = [share(list(range(count)), rank, world) for rank in range(world)]
            assert list(chain(*shares)) == list(range(count))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_work_and_write_the_same_file(whole, tmp_path, world):
    output = tmp_path / "scores.txt"
    processes = together(tmp_path, [words(output)] * world)
    assert [ended(process) for process in processes] == [0] * world, (tmp_path / "log0").read_text()
    assert output.read_bytes() == whole and not (tmp_path / "scores.txt.part").exists()
    assert "wrote" in (tmp_path / "log0").read_text() and "wrote" not in (tmp_path / "log1").read_text()


def test_a_run_goes_on_with_another_number_of_processes(whole, tmp_path):
    output = tmp_path / "scores.txt"
    assert ended(child(tmp_path / "log", words(output), dying(4))) == -signal.SIGKILL
    assert [ended(process) for process in together(tmp_path, [words(output)] * 2)] == [0, 0]
    assert "; 4 are in " in (tmp_path / "log0").read_text() and output.read_bytes() == whole


def test_processes_that_would_score_otherwise_are_refused(tmp_path):
    lines = [words(tmp_path / "s.txt"), words(tmp_path / "s.txt", "--mean", "1,2,3")]
    assert [ended(process) for process in together(tmp_path, lines)] == [2, 2]
    said = (tmp_path / "log1").read_text()
    assert "mean: 1, 2, 3 in process 1, 104, 117, 123 in the first" in said and "must score the same" in said
    assert not (tmp_path / "s.txt").exists()


def slow() -> None:
    from port.scoring import engines

    mates.PULSE, mates.SILENCE = 0.1, 3.0
    run = engines.TorchEngine.run
    engines.TorchEngine.run = lambda *a: (time.sleep(0.3), run(*a))[1]  # type: ignore[method-assign]


def journalled(part: Path, size: int) -> None:
    while not (part.exists() and part.stat().st_size > size):
        time.sleep(0.02)


def test_a_lost_process_is_noticed_and_nothing_is_lost(whole, tmp_path):
    output = tmp_path / "scores.txt"
    first, other = together(tmp_path, [words(output, "--threads", 1)] * 2, slow)
    journalled(tmp_path / "scores.txt.part", 900)
    os.kill(other, signal.SIGKILL)
    assert (ended(other), ended(first)) == (-signal.SIGKILL, 2)
    said = (tmp_path / "log0").read_text()
    assert "process 1 of the run has been silent for 3 s" in said and "what was computed is kept" in said
    assert not output.exists()
    assert score(output) == 0 and output.read_bytes() == whole


def test_the_loss_of_the_first_is_noticed(tmp_path):
    first, other = together(tmp_path, [words(tmp_path / "scores.txt", "--threads", 1)] * 2, slow)
    journalled(tmp_path / "scores.txt.part", 700)
    os.kill(first, signal.SIGKILL)
    assert (ended(first), ended(other)) == (-signal.SIGKILL, 2)
    assert "error: " in (tmp_path / "log1").read_text()


def test_a_signal_to_all_stops_all(whole, tmp_path):
    output = tmp_path / "scores.txt"
    processes = together(tmp_path, [words(output, "--threads", 1)] * 2, slow)
    journalled(tmp_path / "scores.txt.part", 900)
    for process in processes:
        os.kill(process, signal.SIGTERM)
    assert [ended(process) for process in processes] == [143, 143]
    assert "the same command goes on from there" in (tmp_path / "log0").read_text()
    assert score(output) == 0 and output.read_bytes() == whole


def test_unreadable_images_of_another_process_are_named(tmp_path):
    root = tmp_path / "images"
    shutil.copytree(scenes(), root)
    (root / "val" / f"{IMAGES - 1:04}.jpg").write_bytes(b"no image")
    assert [ended(p) for p in together(tmp_path, [words(tmp_path / "s.txt", root=root)] * 2)] == [2, 2]
    assert f"{IMAGES - 1:04}.jpg: cannot be read: in no known image format" in (tmp_path / "log0").read_text()


@pytest.mark.slow
def test_2000_scenes_in_every_way(tmp_path):
    """One process, torchrun's two, five kills: the same bytes; ONNX Runtime to 1e-4."""
    net = write_net(tmp_path, "ResNet-SRN", "coco", dialect="srn", width_divisor=32, weights="seed:7").path
    root = scenes(2000)

    def line(name: str, *more: object) -> list[str]:
        return words(tmp_path / name, "--batch", 48, *more, root=root, net=net)

    assert ended(child(tmp_path / "log", line("one.txt"))) == 0
    for _ in range(5):
        assert ended(child(tmp_path / "log", line("kills.txt"), dying(7))) == -signal.SIGKILL
    assert ended(child(tmp_path / "log", line("kills.txt"))) == 0
    assert "; 35 are in " in (tmp_path / "log").read_text()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "port"]
    subprocess.run([*torchrun, *line("two.txt")], check=True)
    one = (tmp_path / "one.txt").read_bytes()
    assert one == (tmp_path / "kills.txt").read_bytes() == (tmp_path / "two.txt").read_bytes()
    assert ended(child(tmp_path / "log", line("onnx.txt", "--runtime", "onnxruntime"))) == 0
    of_torch, of_onnx = (read_scores(tmp_path / f"{name}.txt", 80) for name in ("one", "onnx"))
    assert len(of_torch) == len(of_onnx) == 2000
    assert np.abs(of_torch - of_onnx).max() <= RUNTIMES < np.abs(of_torch - np.roll(of_onnx, 1, axis=0)).max()
