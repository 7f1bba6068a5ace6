"""The comparison with the authors' lists: it sees other images, orders, columns and labels, and says which."""

from __future__ import annotations

import numpy as np
import pytest
from dataset_files import coco, dataset, nus_labels, nus_wide, wider
from scipy.io import savemat

from prototxt_gen.base.command import BAD_INPUT, CHECK_FAILED, OK
from verify.datasets.authors import Released, _images
from verify.datasets.columns import column_order
from verify.datasets.compare import compare
from verify.datasets.split import Split

CLASSES = [f"class{n}" for n in range(6)]
IMAGES = [f"folder/{name}.jpg" for name in "gacbedf"]


def labels(seed: int = 0, rows: int = 7, classes: int = 6) -> np.ndarray:
    """Labels in which no two columns are alike."""
    return (
        np.unpackbits(np.random.default_rng(seed).permutation(2**rows)[:classes].astype(np.uint8))
        .reshape(classes, 8)[:, 8 - rows :]
        .T.astype(np.int8)
    )


def against(ours, images, theirs, tags=None, names=IMAGES):
    tags = (theirs == 1).sum(1) if tags is None else tags
    return compare(Split("test", list(names), ours), Released("test", images, tags, theirs, ()), CLASSES)


def test_a_list_with_tabs_is_read(tmp_path):
    (tmp_path / "list.txt").write_text("a b/1.jpg\t3\nc\\2.jpg 0\n")
    images, tags = _images(tmp_path / "list.txt")
    assert images == ["a b/1.jpg", "c/2.jpg"] and tags.tolist() == [3, 0]


# -- columns --------------------------------------------------------------------------------------------------------
def test_columns_as_they_stand():
    order = column_order(labels(), labels())
    assert order.identity and order.exact and order.unique


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_columns_is_found(seed):
    turn = np.random.default_rng(seed).permutation(6)
    order = column_order(labels(seed), labels(seed)[:, turn])
    assert order.ours == tuple(turn) and order.exact and order.unique


def test_equal_columns_leave_the_order_open():
    ours = labels()
    ours[:, 4] = ours[:, 1]
    assert not column_order(ours, ours).unique
    order = column_order(ours, ours[:, ::-1])
    assert order.exact and not order.unique and np.array_equal(ours[:, order.ours], ours[:, ::-1])


@pytest.mark.parametrize("signed", [False, True])
def test_the_nearest_order_where_some_values_differ(signed):
    generator = np.random.default_rng(3)
    ours = generator.integers(-1 if signed else 0, 2, (200, 6)).astype(np.int8)
    turn = generator.permutation(6)
    theirs = ours[:, turn]
    theirs[::50] = 1 - np.abs(theirs[::50])
    order = column_order(ours, theirs)
    assert order.ours == tuple(turn) and not order.exact


def test_rows_in_another_order_do_not_turn_columns():
    generator = np.random.default_rng(6)
    ours = (generator.random((400, 30)) < np.linspace(0.01, 0.3, 30)).astype(np.int8)
    assert column_order(ours, ours[generator.permutation(400)]).identity
    theirs = ours[:, [1, 0, *range(2, 30)]]  # two rare columns exchanged, beside many values that differ
    theirs[::3, 29] ^= 1
    assert column_order(ours, theirs).ours[:3] == (1, 0, 2)


def test_a_few_wrong_values_do_not_turn_columns():
    theirs = labels()
    theirs[2, 3] ^= 1
    order = column_order(labels(), theirs)
    assert order.identity and not order.exact


# -- splits ---------------------------------------------------------------------------------------------------------
def test_the_same():
    result = against(labels(), IMAGES, labels())
    assert result and result.order.identity
    assert "test: the same 7 images\ntest: the images stand in the same order" in result.text()
    assert "the same labels in all 7 images compared" in result.text()


def test_another_order_of_images_is_followed_and_fails():
    turn = [0, 2, 1, 3, 4, 6, 5]
    result = against(labels(), [IMAGES[n] for n in turn], labels()[turn])
    assert not result and result.rows == []
    assert "folder/c.jpg is line 3 of ours, line 2 of theirs" in result.text()
    assert "the same labels in all 7 images" in result.text()


def test_shifted_labels_are_seen():
    """Off by one line: the images the same, each with the labels of the one before."""
    result = against(labels(), IMAGES, np.roll(labels(), 1, axis=0))
    assert not result and result.rows


def test_turned_columns_are_named():
    turn = [1, 0, 2, 3, 5, 4]
    result = against(labels(), IMAGES, labels()[:, turn])
    assert not result and result.order.ours == tuple(turn) and result.order.exact
    assert "(exactly; columns from 0): their column 0 is our 1 (class1), 1 is our 0 (class0), 4 is" in result.text()
    assert "the same labels once the columns are ordered in all 7 images" in result.text()


def test_swapped_values_are_seen():
    result = against(labels(), IMAGES, 1 - labels())
    assert not result and len(result.rows) == 7


def test_differing_rows_are_listed_up_to_20():
    generator = np.random.default_rng(0)
    names = [f"{n}.jpg" for n in range(90)]
    ours = generator.integers(0, 2, (90, 6)).astype(np.int8)
    theirs = ours.copy()
    theirs[10:40, 2] ^= 1
    result = against(ours, names, theirs, names=names)
    assert result.rows == list(range(10, 40))
    assert result.text().count("  line ") == 20 and "and 10 more" in result.text()
    assert f"line 11, 10.jpg: class2 {ours[10, 2]} (theirs {theirs[10, 2]})" in result.text()


def test_images_of_one_list_alone():
    images = [*IMAGES[:-1], "folder/new.jpg"]
    result = against(labels(), images, labels())
    assert not result and result.rows == []
    assert "1 images are in ours alone: folder/f.jpg" in result.text()
    assert "1 images are in theirs alone: folder/new.jpg" in result.text()
    assert "all 6 images compared" in result.text()


@pytest.mark.parametrize("prefix", ["", "val2014/", "other/"])
def test_images_by_the_end_of_their_path(prefix):
    images = [prefix + name.split("/")[1] for name in IMAGES]
    result = against(labels(), images, labels())
    assert result and "matched by file name" in result.text()


def test_file_names_that_stand_twice_match_nothing():
    names = ["a/1.jpg", "b/1.jpg", *IMAGES[2:]]
    result = against(labels(), [f"x/{n}.jpg" for n in range(7)], labels(), names=names)
    assert not result and "labels are compared row by row" in result.text()


def test_wrong_tags_of_the_authors_list():
    result = against(labels(), IMAGES, labels(), tags=labels().sum(1) + np.eye(7, dtype=int)[2])
    assert not result and "in 1 lines of their image list the number of tags" in result.text()


def test_repeated_images_of_theirs():
    result = against(labels(), [*IMAGES, IMAGES[0]], labels()[[*range(7), 0]])
    assert not result and "names 1 images more than once" in result.text()


def test_other_numbers_of_columns_and_rows():
    assert "5 columns, ours 6" in against(labels(), IMAGES, labels()[:, :5]).text()
    result = against(labels(), None, labels()[:5], tags=np.zeros(5))
    assert not result and "5 rows, ours 7, so labels are not compared" in result.text()


def test_nothing_compared_is_no_success():
    assert not compare(Split("test", IMAGES, labels()), Released("test", None, None, None, ()), CLASSES)


def test_unspecified_labels():
    ours = labels() * 2 - 1
    ours[3, 3] = 0
    assert against(ours, IMAGES, ours)
    other = ours.copy()
    other[3, 3] = -1
    assert against(ours, IMAGES, other).rows == [3]
    assert against(ours, IMAGES, (ours == 1).astype(np.int8))  # theirs are 0 and 1


# -- the command ----------------------------------------------------------------------------------------------------
def released(folder, key: str, made):
    """The lists of `made` as the authors' would lie."""
    place = folder / "datasets" / key
    place.mkdir(parents=True)
    for path in made.glob(f"{key}_t*_*.txt"):
        (place / path.name).write_bytes(path.read_bytes())
    return place


@pytest.mark.parametrize("name", ["coco", "nus_wide", "wider_attribute"])
def test_the_command_compares(tmp_path, capsys, name):
    root = {"coco": coco, "nus_wide": nus_wide, "wider_attribute": wider}[name](tmp_path / "root")
    out, key = tmp_path / "out", {"wider_attribute": "wider_att"}.get(name, name)
    call = (name, "--root", root, "--output", out, "--allow-counts")
    status, _, err = dataset(capsys, *call, "--released", tmp_path)
    assert status == BAD_INPUT and err.count("there is no such file") == 4 and "drive.google.com" in err
    assert not out.exists()
    assert dataset(capsys, *call)[0] == OK
    place = released(tmp_path / "authors", key, out)
    status, text, _ = dataset(capsys, *call, "--released", tmp_path / "authors")
    assert status == OK and text.count("the same labels in all") == 2
    listing = place / f"{key}_test_imglist.txt"
    listing.write_text("".join(f"./{line}\n" for line in listing.read_text().splitlines()))
    (place / f"{key}_train_imglist.txt").unlink()
    (place / f"{key}_train_label.txt").unlink()
    status, text, _ = dataset(capsys, *call, "--released", tmp_path / "authors")
    assert status == OK and "train: not compared" in text
    file = place / f"{key}_test_label.txt"
    rows = [line.split() for line in file.read_text().splitlines()]
    rows[0][0] = "1" if rows[0][0] != "1" else "0"
    file.write_text("".join(" ".join(row) + "\n" for row in rows))
    status, text, _ = dataset(capsys, *call, "--released", tmp_path / "authors")
    assert status == CHECK_FAILED and "rows of labels differ" in text and "the number of tags is not" in text


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("imglist", "a.jpg\n", "a path, a space and the number of tags"),
        ("imglist", "a.jpg 1\n", "3 lines; expected 1, one per image"),
        ("imglist", "", "the list is empty"),
        ("label", "0 1\n0\n", "1 columns"),
        ("label", "0 2\n", "column 2 is '2'"),
        ("label", "", "the file is empty"),
    ],
)
def test_damaged_lists_of_the_authors(tmp_path, capsys, file, text, expected):
    root, out = coco(tmp_path / "root"), tmp_path / "out"
    call = ("coco", "--root", root, "--output", out, "--allow-counts")
    dataset(capsys, *call)
    place = released(tmp_path / "authors", "coco", out)
    (place / f"coco_test_{file}.txt").write_text(text)
    status, _, err = dataset(capsys, *call, "--released", tmp_path / "authors")
    assert status == BAD_INPUT and expected in err


def test_the_index_restricts_both_lists(tmp_path, capsys):
    """The authors' lists hold all test images; the index selects the rows that are evaluated."""
    root, out = nus_wide(tmp_path / "root"), tmp_path / "all"
    dataset(capsys, "nus_wide", "--root", root, "--output", out)
    place = released(tmp_path / "authors", "nus_wide", out)
    savemat(place / "nus_test_accessible.mat", {"idx_final_test": np.array([[0, 1, 0, 1, 1]], bool)})
    call = (
        "nus_wide",
        "--root",
        root,
        "--output",
        tmp_path / "out",
        "--allow-counts",
        "--released",
        tmp_path / "authors",
    )
    status, text, _ = dataset(capsys, *call, "--accessible", place / "nus_test_accessible.mat")
    assert status == OK and "the same 3 images" in text and nus_labels("Test").shape == (5, 81)
