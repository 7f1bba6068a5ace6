"""The synthetic data set on disk: layout, the same bytes however it was interrupted, refusals."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from port.data import Database, datum_values, parse_datum
from port.images import read_image_list
from prototxt_gen.base.command import BAD_INPUT, OK, run
from prototxt_gen.base.errors import CaffeError, DataError, UsageError
from reference_weights.__main__ import main
from reference_weights.shapes import NAMES, dataset, render, scene, sheet, write_dataset
from verify.evaluation.scores import read_labels

SMALL = {"train": 70, "test": 9, "seed": 4, "size": 48, "train_size": 56, "workers": 1}


def contents(folder: Path) -> dict[str, str]:
    """The sha256 of every file of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A data set written at once."""
    return write_dataset(tmp_path_factory.mktemp("whole") / "shapes", **SMALL)


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of it to spoil."""
    return Path(shutil.copytree(whole.folder, tmp_path / "shapes"))


def drawn(monkeypatch, stop: int = 10**9) -> list[int]:
    """Counts the pictures drawn from now on; Ctrl-C comes before picture `stop`."""
    sizes: list[int] = []

    def counting(shown, size):
        if len(sizes) == stop:
            raise KeyboardInterrupt
        sizes.append(size)
        return render(shown, size)

    monkeypatch.setattr(dataset, "render", counting)
    return sizes


@cache
def truth(first: int, count: int) -> np.ndarray:
    """The labels of scenes, (count, classes)."""
    labels = [scene(4, first + i).labels for i in range(count)]
    return np.array([[name in each for name in NAMES] for each in labels])


def test_lists_and_files_are_as_the_authors_programs_want_them(whole):
    images = read_image_list(whole.path("test", "imglist.txt"), whole.folder)
    labels = read_labels(whole.path("test", "label.txt"), len(NAMES))
    assert len(images) == 9 and (labels == truth(dataset.TEST_INDEX, 9)).all()
    lines = whole.path("test", "imglist.txt").read_text().splitlines()
    assert lines == [f"test/{i:06d}.jpg {row.sum()}" for i, row in enumerate(labels)]
    assert all(cv2.imread(str(path)).shape == (48, 48, 3) for path in images)
    assert (whole.folder / "shapes_classes.txt").read_text().split() == list(NAMES)
    assert (read_labels(whole.path("train", "label.txt")) == truth(0, 70)).all()


@pytest.mark.parametrize(("split", "count", "side"), [("train", 70, 56), ("test", 9, 48)])
def test_databases_hold_the_same(whole, split, count, side):
    images, labels = (Database(whole.path(split, f"{content}_lmdb")) for content in ("image", "label"))
    assert images.keys == labels.keys and len(images) == count
    assert images.keys[3] == f"00000003_{split}/000003.jpg".encode()
    expected = truth(dataset.TEST_INDEX if split == "test" else 0, count)
    for i in range(count):
        datum = parse_datum(labels[i])
        assert (datum_values(datum).ravel() == expected[i]).all() and datum.label == expected[i].sum()
        assert datum_values(parse_datum(images[i])).shape == (side, side, 3)


def test_training_images_are_not_kept_twice(whole):
    assert sorted(path.name for path in whole.folder.iterdir() if path.is_dir()) == [
        "shapes_test_image_lmdb",
        "shapes_test_label_lmdb",
        "shapes_train_image_lmdb",
        "shapes_train_label_lmdb",
        "test",
    ]


def test_images_are_the_pictures_of_the_scenes(tmp_path):
    small = {**SMALL, "train": 2, "test": 3}
    exact = write_dataset(tmp_path / "png", **small, encoding="png")
    lossy = write_dataset(tmp_path / "jpg", **small)
    lists = [read_image_list(w.path("test", "imglist.txt"), w.folder) for w in (exact, lossy)]
    for i, (a, b) in enumerate(zip(*lists, strict=True)):
        picture = render(scene(4, dataset.TEST_INDEX + i), 48)
        assert (cv2.imread(str(a)) == picture).all()
        assert 0 < np.abs(cv2.imread(str(b)).astype(int) - picture).mean() < 12  # of 256, at JPEG's quality 95


def test_manifest_and_summary(whole):
    manifest = json.loads((whole.folder / "shapes.json").read_text())
    assert manifest["complete"] and manifest["settings"]["seed"] == 4
    entry = manifest["splits"]["train"]
    label = whole.path("train", "label.txt").read_bytes()
    assert entry["sha256"]["label"] == hashlib.sha256(label).hexdigest()
    assert entry["statistics"]["mean"] == pytest.approx(truth(0, 70).sum(1).mean(), abs=1e-4)
    assert entry["statistics"]["by_class"]["person"] == truth(0, 70)[:, 0].sum()
    assert "labels per image; images with 0: " in str(whole) and "was written" in str(whole)


def test_the_test_set_is_the_same_for_any_training_set(whole, tmp_path):
    other = write_dataset(tmp_path / "other", **{**SMALL, "train": 3})
    assert other.manifest["splits"]["test"] == whole.manifest["splits"]["test"]
    assert other.manifest["splits"]["train"] != whole.manifest["splits"]["train"]


def test_a_complete_folder_is_left_alone(copy, monkeypatch):
    before, sizes = contents(copy), drawn(monkeypatch)
    again = write_dataset(copy, **SMALL)
    assert again.found and "is complete" in str(again)
    assert not sizes and contents(copy) == before


@pytest.mark.parametrize("stop", [0, 33, 69, 70, 75])
def test_an_interrupted_call_goes_on_where_it_was(whole, tmp_path, monkeypatch, stop):
    folder = tmp_path / "shapes"
    drawn(monkeypatch, stop)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(folder, **SMALL)
    assert not json.loads((folder / "shapes.json").read_text())["complete"]
    sizes = drawn(monkeypatch)
    assert not write_dataset(folder, **SMALL).found
    assert len(sizes) == 79 - stop
    assert contents(folder) == contents(whole.folder)


def test_an_end_while_the_databases_are_written_is_made_good(whole, tmp_path, monkeypatch):
    import port.data

    def fail(*arguments, **options):
        create(*arguments, **options)
        raise KeyboardInterrupt  # before the manifest knows

    create = port.data.create
    monkeypatch.setattr(port.data, "create", fail)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "shapes", **SMALL)
    monkeypatch.undo()
    sizes = drawn(monkeypatch)
    write_dataset(tmp_path / "shapes", **SMALL)
    assert sizes == [48] * 9
    assert contents(tmp_path / "shapes") == contents(whole.folder)


def test_what_a_killed_call_left_half_written_is_removed(whole, copy):
    (copy / ".shapes_train_image_lmdb.x7.tmp").mkdir()
    (copy / ".shapes_train_image_lmdb.x7.tmp" / "data.mdb").write_bytes(b"half")
    (copy / ".shapes.json.x8.tmp").write_text("{")
    assert write_dataset(copy, **SMALL).found
    assert contents(copy) == contents(whole.folder)


@pytest.mark.parametrize(
    ("name", "drawings"),
    [
        ("test/000005.jpg", 1),
        ("shapes_test_label.txt", 0),
        ("shapes_test_imglist.txt", 0),
        ("shapes_test_label_lmdb/data.mdb", 0),
        ("shapes_train_image_lmdb/data.mdb", 70),
        ("shapes_train_label.txt", 70),
    ],
)
def test_what_is_missing_or_changed_is_made_again(whole, copy, monkeypatch, name, drawings):
    if name.endswith(".txt"):
        (copy / name).write_text("changed\n")
    else:
        (copy / name).unlink()
    sizes = drawn(monkeypatch)
    assert not write_dataset(copy, **SMALL).found
    assert len(sizes) == drawings
    assert contents(copy) == contents(whole.folder)


def test_processes_draw_the_same(whole, tmp_path):
    other = write_dataset(tmp_path / "shapes", **{**SMALL, "workers": 2})
    assert contents(other.folder) == contents(whole.folder)


def test_another_data_set_in_the_folder_is_refused(copy):
    before = contents(copy)
    with pytest.raises(UsageError, match=r"a data set of seed 4, size 48 is here; expected seed 5, size 50"):
        write_dataset(copy, **{**SMALL, "seed": 5, "size": 50})
    assert contents(copy) == before


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "test").mkdir()
    with pytest.raises(UsageError, match=r"there is test, but no shapes\.json"):
        write_dataset(tmp_path, **SMALL)


@pytest.mark.parametrize("text", ["{", "[]", '{"settings": {}}', '{"settings": {}, "splits": 3}', "\xff"])
def test_a_damaged_manifest_is_refused(tmp_path, text):
    (tmp_path / "shapes.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"shapes\.json: "):
        write_dataset(tmp_path, **SMALL)


def test_bad_arguments_are_named_all_at_once(tmp_path):
    with pytest.raises(UsageError) as caught:
        write_dataset(tmp_path / "x", train=0, test=-1, seed=-3, size=8, train_size=5000, encoding="gif", workers=0)
    assert len(caught.value.problems) == 7
    assert "train is 0; expected 1 to 16,777,216" in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(CaffeError, match="cannot write"):
        write_dataset(tmp_path / "x", **SMALL)


def test_command(tmp_path, capsys):
    arguments = ["shapes", "--output", str(tmp_path / "d"), "--train", "2", "--test", "3", "--size", "40"]
    assert run(main, [*arguments, "--workers", "1"]) == OK
    assert "test: 3 images" in capsys.readouterr().out
    assert run(main, [*arguments, "--seed", "9"]) == BAD_INPUT
    assert "a data set of seed 0 is here" in capsys.readouterr().err
    assert run(main, ["shapes"]) == BAD_INPUT
    assert run(main, ["shapes", "--classes"]) == OK
    assert capsys.readouterr().out.count("\n") == 20


def test_picture_shows_every_relation(tmp_path, monkeypatch):
    rows = sheet.examples()
    pairs = [("hat", "plate"), ("bird", "fish"), ("sun", "flower"), ("eating", "fleeing"), ("coin", "window")]
    for (one, other), row in zip(pairs, rows, strict=True):
        shown = [(one in s.labels, other in s.labels) for s in row]
        assert shown == [(True, False), (False, True), (False, False)]
    monkeypatch.setattr(sheet, "examples", lambda seed: rows)
    assert run(main, ["shapes", "--picture", str(tmp_path / "p.png")]) == OK
    assert cv2.imread(str(tmp_path / "p.png")).shape[:2] == (5 * 232, 3 * 206)
