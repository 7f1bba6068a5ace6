"""MS-COCO's annotations to lists and labels: order, crowds, images without labels; damaged files are explained."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from dataset_files import coco, coco_data, dataset, tree

from port.images import read_image_list
from prototxt_gen.base.command import BAD_INPUT, CHECK_FAILED, OK
from verify.evaluation.scores import read_labels


@pytest.fixture
def made(tmp_path, capsys):
    """The folder that the command made of the small data set, and what it printed."""
    root = coco(tmp_path / "coco")
    status, out, _ = dataset(capsys, "coco", "--root", root, "--output", tmp_path / "out", "--allow-counts")
    assert status == OK
    return tmp_path / "out", out


def test_lists_and_labels(made):
    folder, out = made
    lines = (folder / "coco_train_imglist.txt").read_text().splitlines()
    # in order of the ids, not of the file
    assert lines == [
        "train2014/COCO_train2014_000000000009.jpg 2",
        "train2014/COCO_train2014_000000000025.jpg 0",
        "train2014/COCO_train2014_000000000030.jpg 3",
        "train2014/COCO_train2014_000000000071.jpg 1",
        "train2014/COCO_train2014_000000000581.jpg 1",
    ]
    names = ["person", "bicycle", "car", "stop sign", "bag", "cup", "toothbrush"]
    assert (folder / "coco_classes.txt").read_text().splitlines() == names
    assert read_labels(folder / "coco_train_label.txt").tolist() == [
        [1, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 1, 0],
        [0, 0, 1, 0, 0, 0, 0],  # the crowd
        [0, 0, 0, 1, 0, 0, 0],
    ]
    assert read_labels(folder / "coco_test_label.txt").tolist() == [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 1],
        [0, 0, 0, 0, 1, 0, 0],
    ]
    assert "train: 1 labels come from crowd regions (iscrowd) alone; they count" in out


def test_the_lists_are_what_the_project_reads(made, tmp_path):
    images = read_image_list(made[0] / "coco_test_imglist.txt", tmp_path / "coco")
    assert images[0].name == "COCO_val2014_000000000042.jpg" and len(images) == 3


def test_figures_beside_the_papers(made):
    rows = {line.split()[0]: line.split() for line in made[1].splitlines() if line.startswith(("train ", "test "))}
    assert rows["train"] == ["train", "5", "82,783", "-", "1", "1.40"]
    assert rows["test"] == ["test", "3", "40,504", "-", "1", "1.00"]
    assert "labels per image: 1.25 (paper: 2.9)" in made[1]
    assert "DIFFERS: 7 classes; the paper has 80" in made[1]


def test_other_counts_than_the_papers_fail(tmp_path, capsys):
    root = coco(tmp_path / "coco")
    status, out, _ = dataset(capsys, "coco", "--root", root, "--output", tmp_path / "out", "--split", "test")
    assert status == CHECK_FAILED
    assert "DIFFERS: test: 3 images, -40,501 against the 40,504 of the paper" in out
    assert not (tmp_path / "out" / "coco_train_label.txt").exists()


def test_the_same_call_twice_makes_the_same_files(made, tmp_path, capsys):
    before = tree(made[0])
    root = tmp_path / "coco"
    assert dataset(capsys, "coco", "--root", root, "--output", made[0], "--allow-counts")[0] == OK
    assert tree(made[0]) == before


def test_all_missing_images_are_counted_with_their_origin(tmp_path, capsys):
    root = coco(tmp_path / "coco")
    for number in (9, 30):
        (root / "train2014" / f"COCO_train2014_{number:012d}.jpg").unlink()
    status, out, err = dataset(capsys, "coco", "--root", root, "--output", tmp_path / "out")
    assert status == BAD_INPUT and not out and not (tmp_path / "out").exists()
    assert "COCO_train2014_000000000009.jpg" in err and "COCO_train2014_000000000030.jpg" in err
    assert "2 of 5 images are missing" in err and "train2014.zip of https://cocodataset.org" in err


@pytest.mark.parametrize(("subset", "rows"), [("present", [9, 25, 71, 581]), ("tagged", [9, 71, 581])])
def test_subsets(tmp_path, capsys, subset, rows):
    root = coco(tmp_path / "coco")
    (root / "train2014" / "COCO_train2014_000000000030.jpg").unlink()
    out = tmp_path / "out"
    status, text, _ = dataset(capsys, "coco", "--root", root, "--output", out, "--subset", subset)
    lines = (out / "coco_train_imglist.txt").read_text().splitlines()
    assert status == OK and [int(line.split("_")[-1].split(".")[0]) for line in lines] == rows
    labels = read_labels(out / "coco_train_label.txt")
    assert [int(line.split()[1]) for line in lines] == labels.sum(1).tolist()
    assert "train: 1 images without a file are left out (--subset present)".replace("present", subset) in text


def test_no_image_at_all(tmp_path, capsys):
    root = coco(tmp_path / "coco")
    (tmp_path / "empty").mkdir()
    options = ("--image-root", tmp_path / "empty", "--subset", "present")
    status, _, err = dataset(capsys, "coco", "--root", root, "--output", tmp_path / "out", *options)
    assert status == BAD_INPUT and "no image of split 'train' is left" in err


def test_images_elsewhere(tmp_path, capsys):
    root = coco(tmp_path / "coco")
    (tmp_path / "elsewhere").mkdir()
    for folder in ("train2014", "val2014"):
        (root / folder).rename(tmp_path / "elsewhere" / folder)
    call = ("coco", "--root", root, "--output", tmp_path / "out", "--allow-counts")
    assert dataset(capsys, *call)[0] == BAD_INPUT
    assert dataset(capsys, *call, "--image-root", tmp_path / "elsewhere")[0] == OK


def test_missing_annotations_are_all_named(tmp_path, capsys):
    (tmp_path / "coco").mkdir()
    status, _, err = dataset(capsys, "coco", "--root", tmp_path / "coco", "--output", tmp_path / "out")
    assert status == BAD_INPUT
    assert "instances_train2014.json" in err and "instances_val2014.json" in err
    assert err.count("annotations_trainval2014.zip of https://cocodataset.org/#download") == 2


def damage(**changes):
    """A change of the training annotations: key -> function of its list."""

    def change(data, split):
        if split == "train":
            for key, function in changes.items():
                function(data[key])

    return change


BROKEN = {
    "category": (damage(annotations=lambda a: a[2].update(category_id=91)), "annotations[2] has the category 91"),
    "no integer": (damage(annotations=lambda a: a[1].update(category_id="1")), "annotations[1] is"),
    "a list": (damage(annotations=lambda a: a.insert(0, [5])), "annotations[0] is [5]"),
    "image": (damage(annotations=lambda a: a[0].update(image_id=5)), "annotations[0] is of image 5"),
    "twice": (damage(images=lambda a: a.append(dict(a[1], file_name="x.jpg"))), "id of images '9' stands 2 times"),
    "same file": (damage(images=lambda a: a.append(dict(a[1], id=7))), "stands 2 times"),
    "categories": (damage(categories=lambda a: a.append(dict(a[0], name="x"))), "id of categories '90' stands 2 times"),
    "outside": (damage(images=lambda a: a[0].update(file_name="../../x.jpg")), "a relative path"),
    "absolute": (damage(images=lambda a: a[0].update(file_name="/etc/x.jpg")), "a relative path"),
    "empty": (damage(images=lambda a: a.clear()), "the list 'images' is empty"),
    "other": (damage(categories=lambda a: a.append({"id": 92, "name": "banner"})), "other categories"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_damaged_annotations(tmp_path, capsys, name):
    change, expected = BROKEN[name]
    root = coco(tmp_path / "coco", change)
    status, out, err = dataset(capsys, "coco", "--root", root, "--output", tmp_path / "out", "--allow-counts")
    assert status == BAD_INPUT and not out and not (tmp_path / "out").exists()
    assert "instances_" in err and expected in err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"images": [',
        "[]",
        "null",
        '{"images": {}}',
        "[" * 100_000,
        '{"images": "abc',
        b"\xff\xd8\xff".hex() + "\0",
    ],
    ids=range(9),
)
def test_files_that_are_no_annotations(tmp_path, capsys, text):
    root = coco(tmp_path / "coco")
    (root / "annotations" / "instances_val2014.json").write_text(text)
    status, _, err = dataset(capsys, "coco", "--root", root, "--output", tmp_path / "out", "--split", "test")
    assert status == BAD_INPUT and "instances_val2014.json" in err


def test_a_file_that_was_cut_off_is_called_so(tmp_path, capsys):
    root = coco(tmp_path / "coco")
    file = root / "annotations" / "instances_val2014.json"
    file.write_text(file.read_text()[:300])
    err = dataset(capsys, "coco", "--root", root, "--output", tmp_path / "out", "--split", "test")[2]
    assert "instances_val2014.json:1:" in err and "unpack or download it again" in err


def test_many_problems_are_shortened(tmp_path, capsys):
    def change(data, split):
        data["annotations"] = [{"id": n, "image_id": -1, "category_id": 1} for n in range(50)]

    err = dataset(capsys, "coco", "--root", coco(tmp_path / "coco", change), "--output", tmp_path / "out")[2]
    assert err.count("is of image -1") == 20 and "and 30 more such problems" in err


def test_without_pycocotools_the_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    root = coco(tmp_path / "coco")
    status, _, err = dataset(capsys, "coco", "--root", root, "--output", tmp_path / "out")
    assert status == BAD_INPUT and "pip install 'caffe-srn[coco]'" in err


def test_the_made_up_annotations_are_as_meant():
    """So that the tests above cannot pass by symmetry: the ids are not in order, and no two columns are alike."""
    data = coco_data("train")
    ids = [image["id"] for image in data["images"]]
    assert ids != sorted(ids) and [c["id"] for c in data["categories"]] != sorted(c["id"] for c in data["categories"])
    assert len({len(ids), len(coco_data("test")["images"]), len(data["categories"])}) == 3
    assert np.unique(ids).size == len(ids)
