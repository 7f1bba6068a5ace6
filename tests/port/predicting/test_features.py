"""`port features`: every blob's rows, in the images' order, and the same file from a run that was killed."""

from __future__ import annotations

import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
from scoring_runs import HEIGHT, WIDTH, child, dying, ended, scenes, tiny_net
from small_nets import layer

import port
from port.__main__ import main
from port.images import load_image
from port.predicting.part import part_of
from prototxt_gen.base import command
from prototxt_gen.base.errors import UsageError

BATCH, MEAN = 4, (100.0, 110.5, 120.0)
COUNT = 41
# Relative to a blob's largest value: float32 sums in batches of another size.
ROWS = 1e-5
BLOBS = {"c": (9, HEIGHT - 4, WIDTH - 4), "means": (9, 1, 1), "scores": (5,), "data": (3, HEIGHT, WIDTH)}


def words(output: Path, blobs: str, *more: object) -> list[str]:
    net = ["--prototxt", tiny_net(), "--caffemodel", tiny_net().with_suffix(".caffemodel"), "--blob", blobs]
    given = [*net, "--output", output, "--batch", BATCH, "--device", "cpu", "--mean", "100,110.5,120", *more]
    return list(map(str, ["features", *given, *([] if "--image-list" in more else [scenes() / "val"])]))


def run(output: Path, blobs: str, *more: object) -> int:
    return command.run(main, words(output, blobs, *more))


def images() -> list[Path]:
    return sorted((scenes() / "val").iterdir())


@pytest.fixture(scope="module")
def by_hand() -> dict[str, np.ndarray]:
    """Every image alone through the net, every blob."""
    net = port.load_net(tiny_net(), tiny_net().with_suffix(".caffemodel"))
    inputs = [load_image(path, HEIGHT, WIDTH, MEAN, "pycaffe")[None] * np.float32(0.5) for path in images()]
    each = [port.run_blobs(net, {"data": block}) for block in inputs]
    return {blob: np.concatenate([blobs[blob] for blobs in each]) for blob in BLOBS}


def assert_rows(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape and found.dtype == np.float32
    limit = ROWS * np.abs(wanted).max()
    assert np.abs(found - wanted).max() <= limit
    assert np.abs(found - wanted[::-1]).max() > 100 * limit  # it would see another order


def test_several_blobs_in_hdf5(tmp_path, by_hand):
    output = tmp_path / "blobs.h5"
    assert run(output, ",".join(BLOBS), "--scale", 0.5) == 0
    with h5py.File(output, "r") as root:
        assert set(root) == {*BLOBS, "images"}
        for blob, shape in BLOBS.items():
            assert root[blob].shape == (COUNT, *shape)
            assert_rows(root[blob][:], by_hand[blob])
        assert [name.decode() for name in root["images"]] == list(map(str, images()))
    assert [path.name for path in tmp_path.iterdir()] == ["blobs.h5"]


def test_one_blob_of_a_list(tmp_path, by_hand):
    root = scenes()
    output = tmp_path / "means.npy"
    assert run(output, "means", "--scale", 0.5, "--image-list", root / "list.txt", "--image-root", root) == 0
    assert_rows(np.load(output), by_hand["means"])


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
@pytest.mark.parametrize("torn", [False, True])
def test_a_run_that_was_killed_goes_on(tmp_path, capsys, suffix, torn):
    whole, output = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    assert run(whole, "means") == 0
    pid = child(tmp_path / "log", words(output, "means"), dying(3, torn))
    assert ended(pid) == -signal.SIGKILL and not output.exists()
    capsys.readouterr()
    assert run(output, "scores") == 2  # other blobs are another run
    assert "output blob: was means, now scores" in capsys.readouterr().err
    assert run(output, "means", "--scale", 2) == 2
    assert "scale: was 1, now 2" in capsys.readouterr().err
    assert run(output, "means", "--threads", 3) == 0
    assert "are in" in capsys.readouterr().out
    assert output.read_bytes() == whole.read_bytes()


def test_unreadable_images(tmp_path, capsys):
    bad = tmp_path / "a.png"
    bad.write_text("no image")
    output = tmp_path / "x.h5"
    assert command.run(main, [*words(output, "scores"), str(bad)]) == 2
    assert "a.png" in capsys.readouterr().err and not output.exists()
    assert command.run(main, [*words(output, "scores", "--allow-unreadable"), str(bad)]) == 0
    with h5py.File(output, "r") as root:
        assert len(root["scores"]) == COUNT and [name.decode() for name in root["images"]] == list(map(str, images()))
    assert "a.png" in (tmp_path / "x.h5.left_out.txt").read_text()


MISTAKES = [
    ("means,scores", "x.npy", [], "use an --output ending in .h5"),
    ("means", "x.txt", [], "a name ending in .npy or .h5"),
    ("mean", "x.npy", [], "did you mean 'means'?"),
    ("means,", "x.h5", [], "each once"),
    ("means,means", "x.h5", [], "each once"),
    ("images", "x.h5", [], "the name of a group"),
    ("means", "x.npy", ["--scale", "0"], "a factor other than 0"),
    ("means", "x.npy", ["--mean", "1,2"], "expected 3"),
    ("means", "x.npy", ["--resize", "bi"], "resize 'bi'"),
]


@pytest.mark.parametrize(("blobs", "name", "more", "says"), MISTAKES)
def test_mistakes(tmp_path, capsys, blobs, name, more, says):
    assert run(tmp_path / name, blobs, *more) == 2
    assert says.lower() in capsys.readouterr().err.lower() and not list(tmp_path.iterdir())


def test_a_blob_without_rows_is_refused(tmp_path, capsys):
    path = tmp_path / "net.prototxt"
    path.write_text(tiny_net().read_text() + layer("x", "Reduction", "scores", "sum"))
    net = ["--prototxt", path, "--caffemodel", tiny_net().with_suffix(".caffemodel")]
    asked = ["features", *net, "--blob", "sum", "--output", tmp_path / "x.npy", scenes() / "val"]
    assert command.run(main, list(map(str, asked))) == 2
    assert "the blob 'sum' of shape () has no row for each image" in capsys.readouterr().err


def test_a_part_is_no_more_than_what_it_needs():
    net = port.load_net(tiny_net(), tiny_net().with_suffix(".caffemodel"))
    part = part_of(net, ["t"])
    called = [node.target for node in part.graph.nodes if node.op == "call_module"]
    assert called == ["c", "r"] and part.get_parameter("c.weight") is net.get_parameter("c.weight")
    with pytest.raises(UsageError, match=r"no blob 'x'(.|\n)*no blob 'y'"):
        part_of(net, ["x", "t", "y"])
