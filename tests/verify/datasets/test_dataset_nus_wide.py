"""NUS-WIDE's lists to ours: backslashes, 81 concepts in order, the index of accessible images; damaged files."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from dataset_files import NUS, dataset, nus_labels, nus_wide
from scipy.io import savemat

from prototxt_gen.base.command import BAD_INPUT, CHECK_FAILED, OK
from prototxt_gen.base.errors import DataError
from prototxt_gen.paper import DATASETS
from verify.datasets.index import read_index
from verify.datasets.sets.nus_wide import CONCEPTS
from verify.evaluation.scores import read_labels

NAMES = {"train": "Train", "test": "Test"}


@pytest.fixture
def root(tmp_path):
    return nus_wide(tmp_path / "nus")


def test_the_concepts_are_81_in_alphabetical_order():
    assert len(set(CONCEPTS)) == len(CONCEPTS) == DATASETS["nus_wide"].classes
    assert list(CONCEPTS) == sorted(CONCEPTS)


def test_lists_and_labels(root, tmp_path, capsys):
    out = tmp_path / "out"
    status, text, _ = dataset(capsys, "nus_wide", "--root", root, "--output", out, "--allow-counts")
    assert status == OK
    for split, name in NAMES.items():
        labels = nus_labels(name)
        lines = [f"{n} {tags}" for n, tags in zip(NUS[name], labels.sum(1), strict=True)]
        assert (out / f"nus_wide_{split}_imglist.txt").read_text().splitlines() == [
            line.replace("\\", "/") for line in lines
        ]
        assert np.array_equal(read_labels(out / f"nus_wide_{split}_label.txt"), labels)
    assert (out / "nus_wide_classes.txt").read_text().splitlines() == list(CONCEPTS)
    row = next(line.split() for line in text.splitlines() if line.startswith("train "))
    assert row[:5] == ["train", "6", "161,789", "119,986", "1"]
    assert "DIFFERS: test: 5 images, -107,854 against the 107,859 of the paper, -80,278 against the 80,283" in text


def test_all_missing_files_are_named(tmp_path, capsys):
    (tmp_path / "nus").mkdir()
    status, _, err = dataset(capsys, "nus_wide", "--root", tmp_path / "nus", "--output", tmp_path / "out")
    assert status == BAD_INPUT and err.count("there is no such file") == 2
    assert "TrainImagelist.txt" in err and "TestImagelist.txt" in err and "NUS-WIDE.htm" in err
    assert "there is no such folder, with 162 files such as Labels_airport_Train.txt" in err
    (tmp_path / "nus/Groundtruth/TrainTestLabels").mkdir(parents=True)
    status, _, err = dataset(capsys, "nus_wide", "--root", tmp_path / "nus", "--output", tmp_path / "out")
    assert err.count("there is no such file") == 50 and f"and {2 * 82 - 50} more problems" in err  # long lists are cut
    assert "Labels_airport_Train.txt" in err


def test_a_list_of_another_length_is_said_once(root, tmp_path, capsys):
    with (root / "ImageList/TestImagelist.txt").open("a") as file:
        file.write("actor\\0009_1.jpg\n")
    status, _, err = dataset(capsys, "nus_wide", "--root", root, "--output", tmp_path / "out")
    assert status == BAD_INPUT and err.count("error") == 1 and "all 81 label files have 5 lines; expected 6" in err


def test_a_concept_is_missing(root, tmp_path, capsys):
    (root / "Groundtruth/TrainTestLabels/Labels_cow_Test.txt").unlink()
    status, _, err = dataset(capsys, "nus_wide", "--root", root, "--output", tmp_path / "out")
    assert status == BAD_INPUT and err.count("error") == 1 and "Labels_cow_Test.txt" in err


def test_a_concept_too_many(root, tmp_path, capsys):
    (root / "Groundtruth/TrainTestLabels/Labels_unicorn_Test.txt").write_text("0\n" * 5)
    status, _, err = dataset(capsys, "nus_wide", "--root", root, "--output", tmp_path / "out")
    assert status == BAD_INPUT and "Labels_unicorn_Test.txt: this is none of the 81 concepts" in err


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (CONCEPTS[:-1], "80 concepts, other ones: zebra"),
        ((*CONCEPTS[1:], CONCEPTS[0]), "81 concepts, in another order"),
    ],
)
def test_the_data_sets_own_list_of_concepts(root, tmp_path, capsys, names, expected):
    (root / "ConceptsList").mkdir()
    listing = root / "ConceptsList" / "Concepts81.txt"
    call = ("nus_wide", "--root", root, "--output", tmp_path / "out", "--allow-counts")
    listing.write_text("\n".join(CONCEPTS) + "\n")
    assert dataset(capsys, *call)[0] == OK
    listing.write_text("\n".join(names) + "\n")
    status, _, err = dataset(capsys, *call)
    assert status == BAD_INPUT and expected in err


def test_label_files_of_different_lengths(root, tmp_path, capsys):
    folder = root / "Groundtruth/TrainTestLabels"
    (folder / "Labels_cow_Test.txt").write_text("0\n1\n0\n")
    (folder / "Labels_fox_Test.txt").write_text("0\n" * 9)
    status, _, err = dataset(capsys, "nus_wide", "--root", root, "--output", tmp_path / "out")
    assert status == BAD_INPUT
    assert "Labels_cow_Test.txt: 3 lines; expected 5" in err and "Labels_fox_Test.txt: 9 lines; expected 5" in err


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("Groundtruth/TrainTestLabels/Labels_cow_Test.txt", "0\n1\n2\n0\n-1\n", "Labels_cow_Test.txt:5: '-1'"),
        ("Groundtruth/TrainTestLabels/Labels_cow_Test.txt", "", "the file is empty"),
        ("ImageList/TestImagelist.txt", "", "the file is empty"),
        ("ImageList/TestImagelist.txt", "a\\1.jpg\n\nb\\2.jpg\nc\\3.jpg\nd\\4.jpg\n", "TestImagelist.txt:2: ''"),
        ("ImageList/TestImagelist.txt", "a\\1.jpg\n..\\2.jpg\nc.jpg\nd.jpg\ne.jpg\n", "TestImagelist.txt:2:"),
        ("ImageList/TestImagelist.txt", "C:\\a\\1.jpg\nb.jpg\nc.jpg\nd.jpg\ne.jpg\n", "TestImagelist.txt:1:"),
        ("ImageList/TestImagelist.txt", "a\\1.jpg\na/1.jpg\nc.jpg\nd.jpg\ne.jpg\n", "'a/1.jpg' stands 2 times"),
        ("ImageList/TestImagelist.txt", b"a\\\xff.jpg\n", "not UTF-8"),
    ],
)
def test_damaged_files(root, tmp_path, capsys, file, text, expected):
    (root / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    status, out, err = dataset(capsys, "nus_wide", "--root", root, "--output", tmp_path / "out", "--allow-counts")
    assert status == BAD_INPUT and expected in err and not out and not (tmp_path / "out").exists()


def test_tagged_images_with_a_file(root, tmp_path, capsys):
    """The release leaves out images without a file and without a label."""
    (root / "Flickr/zebra/0002_12.jpg").unlink()
    out = tmp_path / "out"
    call = ("nus_wide", "--root", root, "--output", out)
    assert dataset(capsys, *call)[0] == BAD_INPUT
    status, text, _ = dataset(capsys, *call, "--subset", "tagged")
    assert status == OK and "train: 1 images without a file" in text and "test: 1 images without a label" in text
    assert np.array_equal(read_labels(out / "nus_wide_train_label.txt"), nus_labels("Train")[[0, 2, 3, 4]])


# -- the index of accessible images ---------------------------------------------------------------------------------
def mat(path, value, name="idx_final_test"):
    savemat(path, {name: value})
    return path


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        (np.array([[2], [4], [5]]), [1, 3, 4]),
        (np.array([[5.0, 1.0]]), [4, 0]),  # in the index's order, as MATLAB does
        (np.array([[False, True, False, True, True]]), [1, 3, 4]),
        (np.array([[1], [1], [0], [0], [1]], np.uint8), [0, 1, 4]),
        (np.array([[1]]), [0]),
    ],
)
def test_index_and_mask(tmp_path, value, rows):
    assert read_index(mat(tmp_path / "a.mat", value), 5).tolist() == rows


def test_an_index_in_hdf5(tmp_path):
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["idx_final_test"] = np.array([[2.0, 4.0]])
    assert read_index(tmp_path / "new.mat", 5).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([[0, 2, 3]], "rows from 0 to 3"),
        ([[2, 6]], "rows from 2 to 6"),
        ([[2, 2, 3]], "names 1 rows again"),
        ([[1.5, 2]], "no integers"),
        ([[np.nan, 2]], "no integers"),
        ([[True, False, True]], "a mask of 3 images; expected 5"),
        ([[0, 0, 0, 0, 0]], "selects no image"),
        (np.zeros((0, 0)), "is empty"),
    ],
)
def test_bad_indexes(tmp_path, value, expected):
    with pytest.raises(DataError, match=expected):
        read_index(mat(tmp_path / "a.mat", np.array(value)), 5)


@pytest.mark.parametrize("data", [b"", b"MATLAB 5.0 MAT-file", b"\x89HDF\r\n\x1a\n", b"<!DOCTYPE html>" * 40])
def test_files_that_are_no_index(tmp_path, data):
    (tmp_path / "a.mat").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.mat: "):
        read_index(tmp_path / "a.mat", 5)


def test_another_variable(tmp_path):
    with pytest.raises(DataError, match="there is no variable idx_final_test"):
        read_index(mat(tmp_path / "a.mat", np.array([1, 2]), "idx"), 5)


def test_the_index_restricts_the_test_images_alone(root, tmp_path, capsys):
    out = tmp_path / "out"
    index = mat(tmp_path / "a.mat", np.array([[2], [4]]))
    (root / "Flickr/dog/7.jpg").unlink()  # not accessible, and so not needed
    call = ("nus_wide", "--root", root, "--output", out, "--accessible", index)
    status, text, _ = dataset(capsys, *call)
    assert status == CHECK_FAILED and "test: 2 of 5 images are kept, those of a.mat" in text
    assert "DIFFERS: test: 2 images" in text and "-80,281 against the 80,283 of the release" in text
    assert np.array_equal(read_labels(out / "nus_wide_test_label.txt"), nus_labels("Test")[[1, 3]])
    assert len(read_labels(out / "nus_wide_train_label.txt")) == 6


def test_the_index_belongs_to_this_data_set(root, tmp_path, capsys):
    call = ("--root", root, "--output", tmp_path / "out", "--accessible", tmp_path / "a.mat")
    assert "belongs to nus_wide" in dataset(capsys, "coco", *call)[2]
    assert "test images" in dataset(capsys, "nus_wide", *call, "--split", "train")[2]
    assert "a.mat: cannot read" in dataset(capsys, "nus_wide", *call)[2]
