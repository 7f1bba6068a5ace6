"""What the command leaves: its record, databases that training reads, and nothing of anybody else's overwritten."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from dataset_files import COCO, coco, dataset, tree, wider

from port.data import Database, datum_values, parse_datum
from prototxt_gen.base.command import BAD_INPUT, OK


@pytest.fixture
def call(tmp_path, capsys):
    """Options -> status, stdout, stderr of the command on the small MS-COCO."""
    root = coco(tmp_path / "coco")

    def start(*options, output="out"):
        return dataset(capsys, "coco", "--root", root, "--output", tmp_path / output, "--allow-counts", *options)

    return start


def records(path):
    """Keys and Datums of a database, in order."""
    database = Database(path)
    return [(key.decode(), parse_datum(database[n])) for n, key in enumerate(database.keys)]


def test_databases_as_the_training_nets_read_them(call, tmp_path):
    status, text, _ = call("--lmdb")
    out = tmp_path / "out"
    assert status == OK and "coco_train_label_lmdb" in text
    lines = dict(line.split() for line in (out / "coco_train_imglist.txt").read_text().splitlines())
    rows = dict(zip(lines, (out / "coco_train_label.txt").read_text().splitlines(), strict=True))
    images, labels = (records(out / f"coco_train_{content}_lmdb") for content in ("image", "label"))
    assert len(images) == 5 and [key for key, _ in images] == [key for key, _ in labels]
    assert [key.partition("_")[2] for key, _ in images] != list(lines)  # shuffled
    for (key, image), (_, label) in zip(images, labels, strict=True):
        name = key.partition("_")[2]
        assert datum_values(image).shape == (256, 256, 3) and image.label == label.label == int(lines[name])
        assert datum_values(label).ravel().tolist() == [float(value) for value in rows[name].split()]
    tests = [key.partition("_")[2] for key, _ in records(out / "coco_test_image_lmdb")]
    assert tests == [line.split()[0] for line in (out / "coco_test_imglist.txt").read_text().splitlines()]


def test_databases_are_kept_and_finished(call, tmp_path):
    """An interrupted call leaves a record that says so; the databases are then made anew."""
    out = tmp_path / "out"
    call("--lmdb")
    before = {name: data for name, data in tree(out).items() if "lock" not in name}
    stamp = (out / "coco_train_image_lmdb" / "data.mdb").stat().st_mtime_ns
    assert call("--lmdb")[0] == OK
    assert (out / "coco_train_image_lmdb" / "data.mdb").stat().st_mtime_ns == stamp
    record = out / "coco_dataset.json"
    record.write_text(record.read_text().replace('"databases": {', '"interrupted": {'))
    (out / "coco_test_label_lmdb" / "data.mdb").write_bytes(b"half")
    assert call("--lmdb")[0] == OK
    assert len(records(out / "coco_test_label_lmdb")) == 3
    names = {name for name in tree(out) if "lock" not in name}
    assert names == set(before)


def test_another_form_replaces_the_databases(call, tmp_path):
    out = tmp_path / "out"
    call("--lmdb")
    first = [key for key, _ in records(out / "coco_train_image_lmdb")]
    assert call("--lmdb", "pixels", "--shuffle", 5)[0] == OK
    found = records(out / "coco_train_image_lmdb")
    assert [key for key, _ in found] != first and not found[0][1].encoded
    assert len(found[0][1].data) == 3 * 256 * 256


def test_labels_of_persons_in_databases_are_0_and_1(tmp_path, capsys):
    root, out = wider(tmp_path / "wider"), tmp_path / "out"
    options = ("--output", out, "--allow-counts", "--lmdb", "png", "--split", "test")
    assert dataset(capsys, "wider_attribute", "--root", root, *options)[0] == OK
    found = records(out / "wider_att_test_label_lmdb")
    assert [np.flatnonzero(datum_values(datum).ravel()).tolist() for _, datum in found] == [[7], [8, 9], [10]]
    image = datum_values(records(out / "wider_att_test_image_lmdb")[1][1])
    crop = cv2.imread(str(out / "crops/test/1--Talk/c_1.jpg"))
    assert np.array_equal(image, cv2.resize(crop, (256, 256)))


def test_a_bad_image_leaves_no_database(call, tmp_path):
    (tmp_path / "coco" / "val2014" / "COCO_val2014_000000000042.jpg").write_bytes(b"no image")
    status, _, err = call("--lmdb", "--split", "test")
    assert status == BAD_INPUT and "COCO_val2014_000000000042.jpg" in err
    assert not list((tmp_path / "out").glob("*lmdb*")) and not list((tmp_path / "out").glob(".*"))


def test_the_record(call, tmp_path):
    call()
    record = json.loads((tmp_path / "out" / "coco_dataset.json").read_text())
    train = record["splits"]["train"]
    assert train["complete"] and train["images"] == len(COCO["train"]["ids"]) and train["classes"] == 7
    assert set(train["files"]) == {"coco_train_imglist.txt", "coco_train_label.txt", "coco_classes.txt"}
    assert train["settings"]["subset"] == "all" and "instances_train2014.json" in train["settings"]["annotations"]


def test_one_split_after_the_other(call, tmp_path):
    assert call("--split", "test")[0] == OK
    assert call("--split", "train")[0] == OK
    assert call(output="both")[0] == OK
    assert tree(tmp_path / "out") == tree(tmp_path / "both")


@pytest.mark.parametrize("name", ["coco_test_imglist.txt", "coco_classes.txt", "coco_test_label_lmdb"])
def test_files_of_others_are_not_overwritten(call, tmp_path, name):
    """The authors' lists have the same names."""
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / name
    path.mkdir() if name.endswith("lmdb") else path.write_text("theirs\n")
    before = tree(tmp_path / "out")
    status, _, err = call()
    assert status == BAD_INPUT and f"{name}: there is such a file already, and this command did not write it" in err
    assert tree(tmp_path / "out") == before


def test_another_subset_needs_another_folder(call):
    assert call()[0] == OK
    status, _, err = call("--subset", "tagged")
    assert status == BAD_INPUT and "made otherwise: subset" in err


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"splits": 5}', '{"splits": {"test": {}}}', '{"splits": {"test": 1}}']
)
def test_a_damaged_record(call, tmp_path, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "coco_dataset.json").write_text(text)
    status, _, err = call()
    assert status == BAD_INPUT and "coco_dataset.json: this is no record" in err


def test_an_output_that_cannot_be_written(call, tmp_path):
    (tmp_path / "file").write_text("x")
    status, _, err = call(output="file/out")
    assert status == BAD_INPUT and "cannot write" in err


@pytest.mark.parametrize("options", [("--shuffle", "-1"), ("--lmdb", "gif"), ("--subset", "some"), ("--split", "val")])
def test_wrong_usage(call, tmp_path, options):
    assert call(*options)[0] == 2 and not (tmp_path / "out").exists()


def test_a_root_that_is_none(tmp_path, capsys):
    for name in ("coco", "nus_wide", "wider_attribute"):
        status, _, err = dataset(capsys, name, "--root", tmp_path / "none", "--output", tmp_path / "out")
        assert status == BAD_INPUT and "there is no such folder" in err
