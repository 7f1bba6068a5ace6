"""WIDER-Attribute's boxes to crops: which pixels, which labels, what is left out; damaged annotations and images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from dataset_files import WIDER, attributes, dataset, picture, tree, wider
from PIL import Image

from port.images import read_image_list
from prototxt_gen.base.command import BAD_INPUT, CHECK_FAILED, OK
from verify.datasets.sets.wider_attribute import pixels
from verify.evaluation.scores import read_labels


@pytest.fixture
def made(tmp_path, capsys):
    root = wider(tmp_path / "wider")
    status, out, _ = dataset(capsys, "wider_attribute", "--root", root, "--output", tmp_path / "out", "--allow-counts")
    assert status == OK
    return tmp_path / "out", out


def test_lists_and_labels(made):
    folder, out = made
    assert (folder / "wider_att_train_imglist.txt").read_text().splitlines() == [
        "train/0--Parade/b_0.jpg 2",
        "train/0--Parade/b_1.jpg 1",
        "val/7--Cheering/a_0.jpg 3",
        "train/0--Parade/a_0.jpg 0",
    ]
    labels = read_labels(folder / "wider_att_train_label.txt", protocol="wider")
    assert labels.tolist() == [a for _, _, targets in WIDER["trainval"] for _, a in targets]
    # unspecified is negative for training
    assert np.array_equal(read_labels(folder / "wider_att_train_label_01.txt"), labels == 1)
    assert (labels == 0).sum() == 3 and (folder / "wider_att_classes.txt").read_text().startswith("attribute0\n")
    assert len(read_image_list(folder / "wider_att_test_imglist.txt", folder / "crops")) == 3
    assert "train: 4 boxes; 2 reach beyond their image and are clipped" in out
    assert "train" in out and "28,340" in out and "29,177" in out


def test_crops_show_the_pixels_of_the_box(made):
    """Red is 5 times the column of the source and green 5 times the row.

    JPEG blurs colours, but the mean stays: a crop one pixel off would be off by 5.
    """
    for name, (left, top, right, bottom) in {
        "train/0--Parade/b_0.jpg": (4, 4, 14, 12),  # 3.5 -> 4, 4.4 -> 4, 13.7 -> 14, 11.7 -> 12
        "train/0--Parade/b_1.jpg": (0, 5, 7, 23),  # clipped at the left and below
        "val/7--Cheering/a_0.jpg": (10, 0, 29, 8),
        "train/0--Parade/a_0.jpg": (1, 2, 4, 6),
        "test/1--Talk/c_0.jpg": (0, 0, 23, 21),
    }.items():
        with Image.open(made[0] / "crops" / name) as image:
            assert image.size == (right - left, bottom - top) and image.mode == "RGB"
            shown = np.asarray(image).astype(int)
        rows, columns = np.mgrid[top:bottom, left:right]
        assert abs((shown[..., 0] - columns * 5).mean()) < 1.5 and abs((shown[..., 1] - rows * 5).mean()) < 1.5


@pytest.mark.parametrize(
    ("box", "expected", "clipped"),
    [
        ((1, 2, 3, 5), (1, 2, 4, 7), False),
        ((0.5, 0.49, 1, 1), (1, 0, 2, 1), False),
        ((-3.5, -1, 9, 4), (0, 0, 6, 3), True),
        ((0, 0, 13, 17), (0, 0, 13, 17), False),
        ((0, 0, 13.4, 17.4), (0, 0, 13, 17), False),
        ((0, 0, 14, 18), (0, 0, 13, 17), True),
        ((12, 16, 9, 9), (12, 16, 13, 17), True),
    ],
)
def test_rounding_and_clipping(box, expected, clipped):
    assert pixels(box, (13, 17)) == (expected, clipped)


@pytest.mark.parametrize(
    "box", [(13, 0, 5, 5), (0, 17, 5, 5), (-9, 2, 5, 5), (4, 4, -2, 5), (4, 4, 5, 0), (4, 4, 0.2, 3)]
)
def test_boxes_without_a_pixel_are_left_out_and_listed(tmp_path, capsys, box):
    def change(data, part):
        if part == "test":
            data["images"][1]["targets"].insert(0, {"bbox": list(box), "attribute": attributes(4)})

    root = wider(tmp_path / "wider", change)
    picture(root / "Image" / WIDER["test"][1][0], 13, 17)
    out = tmp_path / "out"
    status, text, _ = dataset(
        capsys, "wider_attribute", "--root", root, "--output", out, "--split", "test", "--allow-counts"
    )
    assert status == OK and "test: 1 boxes have no pixel in their image and are left out:" in text
    assert f"test/1--Talk/d.jpg, box 0: {list(box)} in 13x17" in text
    # the next box keeps its own number
    assert (out / "wider_att_test_imglist.txt").read_text().splitlines()[-1] == "test/1--Talk/d_1.jpg 1"
    assert not (out / "crops" / "test/1--Talk/d_0.jpg").exists()


def test_counts_fail_unless_allowed(tmp_path, capsys):
    root = wider(tmp_path / "wider")
    status, text, _ = dataset(capsys, "wider_attribute", "--root", root, "--output", tmp_path / "out")
    assert status == CHECK_FAILED and "DIFFERS: train: 4 images, -28,336 against the 28,340 of the paper" in text


def first(part, **changes):
    """A change of the first target of the first image."""

    def change(data, which):
        if which == part:
            data["images"][0]["targets"][0].update(changes)

    return change


def image(part, **changes):
    def change(data, which):
        if which == part:
            data["images"][0].update(changes)

    return change


BROKEN = {
    "13 attributes": (first("test", attribute=[1] * 13), "'attribute' has 13 values; expected 14 values"),
    "values": (first("test", attribute=[2] * 14), "expected 1, -1 or 0"),
    "no attributes": (first("test", attribute=None), "'attribute' has None"),
    "three numbers": (first("test", bbox=[1, 2, 3]), "4 finite numbers"),
    "NaN": (first("test", bbox=[1, 2, float("nan"), 4]), "4 finite numbers"),
    "text": (first("test", bbox=["1", 2, 3, 4]), "4 finite numbers"),
    "outside": (image("test", file_name="../x.jpg"), "a relative 'file_name'"),
    "no name": (image("test", file_name=7), "a relative 'file_name'"),
    "no targets": (image("test", targets={}), "a list 'targets'"),
    "twice": (image("test", file_name="test/1--Talk/d.jpg"), "each image once"),
    "map": (lambda data, part: data.update(attribute_id_map={"0": "a", "2": "b"}), "'attribute_id_map' is"),
    "other": (
        lambda data, part: data["attribute_id_map"].update({"3": part}),
        "other attributes; expected those of",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_damaged_annotations(tmp_path, capsys, name):
    change, expected = BROKEN[name]
    root = wider(tmp_path / "wider", change)
    status, out, err = dataset(capsys, "wider_attribute", "--root", root, "--output", tmp_path / "out")
    assert status == BAD_INPUT and expected in err and not out and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text", ["", "{", '{"images": []}', '{"images": [{"file_name": "a.jpg", "targets": []}]}', "[1]"]
)
def test_files_that_are_no_annotations(tmp_path, capsys, text):
    root = wider(tmp_path / "wider")
    (root / "wider_attribute_test.json").write_text(text)
    status, _, err = dataset(capsys, "wider_attribute", "--root", root, "--output", tmp_path / "out")
    assert status == BAD_INPUT and "wider_attribute_test.json" in err


def test_annotations_without_names_of_attributes(tmp_path, capsys):
    root = wider(tmp_path / "wider", lambda data, part: data.pop("attribute_id_map"))
    out = tmp_path / "out"
    assert dataset(capsys, "wider_attribute", "--root", root, "--output", out, "--allow-counts")[0] == OK
    assert (out / "wider_att_classes.txt").read_text().splitlines()[:2] == ["Male", "longHair"]


def test_missing_images(tmp_path, capsys):
    root = wider(tmp_path / "wider")
    (root / "Image/train/0--Parade/b.jpg").unlink()
    call = ("wider_attribute", "--root", root, "--output", tmp_path / "out")
    status, _, err = dataset(capsys, *call)
    assert status == BAD_INPUT and "there is no image train/0--Parade/b.jpg" in err and "1 of 3 images" in err
    status, text, _ = dataset(capsys, *call, "--subset", "tagged")
    assert status == OK and "train: 2 boxes of images without a file are left out" in text
    assert "train: 1 persons without a positive attribute are left out" in text
    assert (tmp_path / "out" / "wider_att_train_imglist.txt").read_text() == "val/7--Cheering/a_0.jpg 3\n"


@pytest.mark.parametrize("keep", [0, 30, 500])
def test_damaged_images_are_all_named(tmp_path, capsys, keep):
    root = wider(tmp_path / "wider")
    noise = np.random.default_rng(1).integers(0, 256, (37, 29, 3), np.uint8)
    for name in ("test/1--Talk/c.jpg", "test/1--Talk/d.jpg"):
        path = root / "Image" / name
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: keep or None][:keep])
    out = tmp_path / "out"
    status, _, err = dataset(capsys, "wider_attribute", "--root", root, "--output", out, "--split", "test")
    assert status == BAD_INPUT and "c.jpg: cannot be read" in err and "d.jpg: cannot be read" in err
    assert not (out / "wider_att_test_imglist.txt").exists()


def test_an_interrupted_call_goes_on(made, tmp_path, capsys):
    before = tree(made[0])
    crops = made[0] / "crops"
    good = crops / "train/0--Parade/b_0.jpg"
    stamp = good.stat().st_mtime_ns
    (crops / "train/0--Parade/b_1.jpg").unlink()
    cut = crops / "test/1--Talk/c_0.jpg"
    cut.write_bytes(cut.read_bytes()[:-40])  # what a lost disk leaves
    (crops / "val/7--Cheering/a_0.jpg").write_bytes(b"")
    (made[0] / "wider_att_test_label.txt").unlink()
    call = ("wider_attribute", "--root", tmp_path / "wider", "--output", made[0], "--allow-counts")
    assert dataset(capsys, *call)[0] == OK
    assert tree(made[0]) == before and good.stat().st_mtime_ns == stamp


def test_grey_and_transparent_sources(tmp_path, capsys):
    root = wider(tmp_path / "wider")
    Image.new("L", (23, 21), 90).save(root / "Image/test/1--Talk/c.jpg")
    Image.new("RGBA", (33, 22), (1, 2, 3, 4)).save(root / "Image/test/1--Talk/d.jpg", "PNG")
    out = tmp_path / "out"
    dataset(capsys, "wider_attribute", "--root", root, "--output", out, "--split", "test")
    for name in ("c_0.jpg", "d_0.jpg"):
        with Image.open(out / "crops/test/1--Talk" / name) as crop:
            assert crop.mode == "RGB" and crop.format == "JPEG"


def test_two_images_with_one_stem(tmp_path, capsys):
    def change(data, part):
        if part == "test":
            data["images"].append(dict(data["images"][1], file_name="test/1--Talk/d.png"))

    root = wider(tmp_path / "wider", change)
    picture(root / "Image/test/1--Talk/d.png", 33, 22)
    status, _, err = dataset(capsys, "wider_attribute", "--root", root, "--output", tmp_path / "out")
    assert status == BAD_INPUT and "the crop 'test/1--Talk/d_0.jpg' stands 2 times" in err


def test_a_record_of_other_annotations(made, tmp_path, capsys):
    file = tmp_path / "wider" / "wider_attribute_test.json"
    data = json.loads(file.read_text())
    data["images"][0]["targets"][0]["bbox"] = [1, 1, 5, 5]
    file.write_text(json.dumps(data))
    status, _, err = dataset(capsys, "wider_attribute", "--root", tmp_path / "wider", "--output", made[0])
    assert status == BAD_INPUT and "split 'test' is here already, made otherwise: annotations" in err
