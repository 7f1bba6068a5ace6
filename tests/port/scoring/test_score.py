"""port score in one process: the file, resuming after every kind of end, what is refused."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from scoring_runs import (
    BATCH,
    CLASSES,
    HEIGHT,
    IMAGES,
    WIDTH,
    child,
    dying,
    ended,
    scenes,
    score,
    tiny_net,
    words,
)

import port
from port.__main__ import main
from port.images import load_image
from port.scoring import compute_scores
from port.scoring.engines import TorchEngine, parts
from port.scoring.journal import Journal
from prototxt_gen.base import command
from verify.evaluation.scores import read_scores

# PyTorch and ONNX Runtime sum in other orders: float32 keeps 1.2e-7 of scores near 1, after two layers.
RUNTIMES = 1e-4


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """The file that one undisturbed run writes."""
    output = tmp_path_factory.mktemp("whole") / "scores.txt"
    assert score(output) == 0
    assert [path.name for path in output.parent.iterdir()] == ["scores.txt"]
    return output.read_bytes()


def images() -> list[Path]:
    return sorted((scenes() / "val").iterdir())


def by_hand() -> np.ndarray:
    """Every image alone through the net."""
    net = port.load_net(tiny_net(), tiny_net().with_suffix(".caffemodel"))
    return np.stack([port.run_blobs(net, {"data": load_image(p, HEIGHT, WIDTH)[None]})["scores"][0] for p in images()])


def test_the_file_has_the_nets_scores_in_the_lists_order(whole):
    lines = whole.decode().splitlines()
    assert len(lines) == IMAGES and all(re.fullmatch(r"(-?\d+\.\d{6} ?){5}", line) for line in lines)
    found = np.array([list(map(float, line.split())) for line in lines])
    expected = by_hand()
    assert found.shape == expected.shape == (IMAGES, CLASSES)
    tolerance = 5e-7 + 1e-6  # six decimals, and float32 summed in batches of another size
    assert np.abs(found - expected).max() < tolerance
    # ... and the comparison would see it: other order of images, of classes, off by one
    for wrong in (expected[::-1], expected[:, ::-1], np.roll(expected, 1, axis=0)):
        assert np.abs(found - wrong).max() > 1000 * tolerance


def test_the_library_gives_the_same(whole, tmp_path):
    net = port.load_net(tiny_net(), tiny_net().with_suffix(".caffemodel"))
    scores = compute_scores(net, images(), batch=BATCH, device="cpu")
    (tmp_path / "scores.txt").write_bytes(whole)
    assert np.array_equal(np.round(scores.astype(np.float64), 6), read_scores(tmp_path / "scores.txt"))


@pytest.mark.parametrize("more", [("--threads", 1), ("--threads", 3, "--workers", 2), ("--threads", 2, "--workers", 5)])
def test_threads_do_not_change_a_byte(whole, tmp_path, more):
    assert score(tmp_path / "scores.txt", *more) == 0
    assert (tmp_path / "scores.txt").read_bytes() == whole


def test_five_kills_and_a_torn_record_leave_the_same_file(whole, tmp_path):
    output, log = tmp_path / "scores.txt", tmp_path / "log"
    held = 0
    for records, torn in ((0, False), (2, False), (3, True), (1, False), (1, True)):
        assert ended(child(log, words(output), dying(records, torn))) == -signal.SIGKILL
        held += records
        assert not output.exists() and (tmp_path / "scores.txt.part").exists()
    assert ended(child(log, words(output))) == 0
    assert f"; {held} are in {output}.part already" in log.read_text()
    assert output.read_bytes() == whole and not (tmp_path / "scores.txt.part").exists()


def test_a_kill_between_the_output_and_the_journals_end(whole, tmp_path):
    output = tmp_path / "scores.txt"

    def at_the_end() -> None:
        Journal.remove = lambda journal: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]

    assert ended(child(tmp_path / "log", words(output), at_the_end)) == -signal.SIGKILL
    assert output.read_bytes() == whole and (tmp_path / "scores.txt.part").exists()
    assert score(output) == 0 and output.read_bytes() == whole and not (tmp_path / "scores.txt.part").exists()


def slow() -> None:
    run = TorchEngine.run
    TorchEngine.run = lambda *a: (time.sleep(0.3), run(*a))[1]  # type: ignore[method-assign]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_stops_the_run_and_says_how_to_go_on(whole, tmp_path, number, status):
    output, log = tmp_path / "scores.txt", tmp_path / "log"
    process = child(log, words(output, "--threads", 1), slow)
    part = tmp_path / "scores.txt.part"
    while not (part.exists() and part.stat().st_size > 1000):
        time.sleep(0.02)
    os.kill(process, number)
    assert ended(process) == status
    said = log.read_text()
    assert f"{signal.Signals(number).name}: finishing" in said and "the same command goes on from there" in said
    assert not output.exists()
    assert score(output) == 0 and output.read_bytes() == whole


def test_a_closed_terminal_does_not_stop_what_nohup_started(whole, tmp_path):
    output = tmp_path / "scores.txt"

    def before() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        slow()

    process = child(tmp_path / "log", words(output, "--threads", 2), before)
    part = tmp_path / "scores.txt.part"
    while not (part.exists() and part.stat().st_size > 1000):
        time.sleep(0.02)
    os.kill(process, signal.SIGHUP)
    assert ended(process) == 0 and output.read_bytes() == whole


CHANGES = {
    "resize": ("--resize", "opencv"),
    "mean": ("--mean", "1,2,3"),
    "batch": ("--batch", "5"),
    "output blob": ("--blob", "z_other"),
    "runtime": ("--runtime", "onnxruntime"),
}


@pytest.mark.parametrize("what", [*CHANGES, "weights", "prototxt", "images", "image root"])
def test_a_run_of_something_else_does_not_go_on(tmp_path, capsys, what):
    output, more = tmp_path / "scores.txt", CHANGES.get(what, ())
    assert ended(child(tmp_path / "log", words(output), dying(3))) == -signal.SIGKILL
    parts = {}
    if what in ("weights", "prototxt"):
        parts["net"] = tmp_path / "other.prototxt"
        shutil.copy(tiny_net(), parts["net"])
        shutil.copy(tiny_net().with_suffix(".caffemodel"), tmp_path / "other.caffemodel")
        if what == "prototxt":
            parts["net"].write_text(tiny_net().read_text() + "# a remark\n")
        else:
            port.save_caffemodel(port.load_net(tiny_net(), seed=4), tmp_path / "other.caffemodel")
    elif what in ("images", "image root"):
        parts["root"] = tmp_path / "images"
        shutil.copytree(scenes(), parts["root"])
        if what == "images":
            names = (scenes() / "list.txt").read_text().splitlines()
            (parts["root"] / "list.txt").write_text("\n".join(names[::-1]))
    before = (tmp_path / "scores.txt.part").read_bytes()
    assert score(output, *more, **parts) == 2
    said = capsys.readouterr().err
    assert f"scores.txt.part: {what}: was " in said and ", now " in said and "or --restart to drop" in said
    assert (tmp_path / "scores.txt.part").read_bytes() == before and not output.exists()
    assert score(output, *more, "--restart", **parts) == 0 and output.exists()


def test_other_files_and_other_runs_are_left_alone(tmp_path, capsys):
    part = tmp_path / "scores.txt.part"
    for content in ("my notes\n", "my notes", '{"kind": "other"}\n', "[1]\n"):
        part.write_text(content)
        assert score(tmp_path / "scores.txt") == 2 and "is no journal of `port score`" in capsys.readouterr().err
        assert part.read_text() == content
    part.unlink()
    with open(part, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert score(tmp_path / "scores.txt") == 2
        assert "another run is writing this journal" in capsys.readouterr().err


def test_a_header_cut_short_begins_anew(whole, tmp_path):
    output, part = tmp_path / "scores.txt", tmp_path / "scores.txt.part"
    assert ended(child(tmp_path / "log", words(output), dying(2))) == -signal.SIGKILL
    part.write_bytes(part.read_bytes()[:50])
    assert score(output) == 0 and output.read_bytes() == whole


def test_damage_in_a_record_is_noticed(whole, tmp_path):
    output, part = tmp_path / "scores.txt", tmp_path / "scores.txt.part"
    assert ended(child(tmp_path / "log", words(output, "--threads", 1), dying(4))) == -signal.SIGKILL
    data = bytearray(part.read_bytes())
    data[-40] ^= 1  # a bit of the last record's scores
    part.write_bytes(data)
    assert ended(child(tmp_path / "log", words(output))) == 0
    assert "; 3 are in " in (tmp_path / "log").read_text() and output.read_bytes() == whole


def test_onnx_runtime_agrees(whole, tmp_path):
    model = tmp_path / "tiny.onnx"
    port.export_onnx(port.load_net(tiny_net(), tiny_net().with_suffix(".caffemodel")), model)
    options = ["--image-list", scenes() / "list.txt", "--image-root", scenes(), "--batch", BATCH, "--device", "cpu"]
    line = ["score", "--onnx", model, "--blob", "scores", "--output", tmp_path / "onnx.txt", *options]
    assert command.run(main, list(map(str, line))) == 0
    assert score(tmp_path / "same.txt", "--runtime", "onnxruntime", "--threads", 1) == 0
    (tmp_path / "torch.txt").write_bytes(whole)
    of_torch, of_onnx = (read_scores(tmp_path / f"{name}.txt") for name in ("torch", "onnx"))
    assert np.abs(of_torch - of_onnx).max() <= RUNTIMES < np.abs(of_torch - of_onnx[::-1]).max()
    assert (tmp_path / "same.txt").read_bytes() == (tmp_path / "onnx.txt").read_bytes()


def test_a_block_is_cut_alike_wherever_it_is_computed():
    block = np.arange(19 * 3 * 2 * 5, dtype=np.float32).reshape(19, 3, 2, 5)
    cut = parts(block, None)
    assert [len(part) for part in cut] == [8, 8, 3] and np.array_equal(np.concatenate(cut), block)
    assert len(parts(block, 19)) == 1, "a net of a fixed batch size takes the whole block"
