"""Score and label files: what is read back, and that every kind of damage is named with file and line."""

from __future__ import annotations

import numpy as np
import pytest

from prototxt_gen.base.errors import CaffeError, DataError, UsageError
from verify.evaluation.scores import match, read_labels, read_scores, write_scores


@pytest.fixture
def text_file(tmp_path):
    def write(text: str | bytes, name: str = "file.txt"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_scores_are_read(text_file):
    scores = read_scores(text_file("-1.500000 2 .25\n+3 -0.000000 1e-3\n"))
    assert scores.dtype == np.float64
    assert scores.tolist() == [[-1.5, 2, 0.25], [3, 0, 0.001]]


@pytest.mark.parametrize("text", ["1 0 1\n0 0 1\n", "1\t0  1\r\n0 0 1 \r\n\n", "1.0 0.0 1.0\n0 0 1"])
def test_labels_are_read_whatever_the_white_space(text_file, text):
    labels = read_labels(text_file(text), classes=3)
    assert labels.dtype == np.int8 and labels.tolist() == [[1, 0, 1], [0, 0, 1]]


def test_one_image_and_one_class_keep_both_axes(text_file):
    assert read_scores(text_file("1 2 3\n")).shape == (1, 3)
    assert read_scores(text_file("1\n2\n")).shape == (2, 1)


def test_wider_labels_are_read_by_their_protocol_only(text_file):
    path = text_file("1 -1\n0 1\n")
    assert read_labels(path, protocol="wider").tolist() == [[1, -1], [0, 1]]
    with pytest.raises(DataError, match=r"file.txt:1: column 2 is '-1'; expected 0 or 1. Labels with -1"):
        read_labels(path)


def test_written_scores_are_read_back_to_six_decimals(tmp_path):
    scores = np.random.default_rng(0).normal(0, 9, (23, 7)).astype(np.float32)
    write_scores(tmp_path / "new" / "scores.txt", scores)
    lines = (tmp_path / "new" / "scores.txt").read_text().splitlines()
    assert len(lines) == 23 and all(len(word.split(".")[1]) == 6 for word in lines[4].split())
    again = read_scores(tmp_path / "new" / "scores.txt", classes=7)
    assert np.abs(again - scores).max() <= 0.5e-6 + 1e-12  # half of the last decimal


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("1 2\n1 2 3\n1 2\n", ["file.txt:2: 3 columns; expected 2, as in line 1"]),
        ("1 2\nnan 2\n", ["file.txt:2: column 1 is 'nan'; expected a finite number"]),
        ("1 2\n3 -inf\n", ["file.txt:2: column 2 is '-inf'; expected a finite number"]),
        ("1e999 2\n", ["file.txt:1: column 1 is '1e999'"]),
        ("1 2\n1 two\n", ["file.txt:2: column 2 is 'two'"]),
        ("1 0x1f\n", ["file.txt:1: column 2 is '0x1f'"]),
        ("1,2\n3 4\n", ["file.txt:2: 1 columns; expected 2, as in line 1"]),
        ("1,2\n3,\n", ["file.txt:2: column 2 is ''; expected a finite number"]),
        ("1,,2\n3,,4\n", ["file.txt:1: column 2 is ''", "file.txt:2: column 2 is ''"]),
        ("a,b\n3,4\n5,6,7\n", ["file.txt:3: 3 columns; expected 2, as in line 2"]),
        ("a,b\n3,4\n\n5,6\n", ["file.txt:3: 0 columns"]),
        ("a,1\n3,4\n", ["file.txt:1: column 1 is 'a'"]),
        ("a,b\n", ["file.txt: the file is empty"]),
        ("a b\n3 4\n", ["file.txt:1: column 1 is 'a'", "file.txt:1: column 2 is 'b'"]),
        ("x" * 99 + "\n", [f"file.txt:1: column 1 is '{'x' * 40}...'; expected a finite number"]),
        ("1 2\n\n3 4\n", ["file.txt:2: 0 columns; expected 2, as in line 1"]),
        ("\n3 4\n", ["file.txt:1: 0 columns; expected 2, as in line 2"]),
        ("", ["file.txt: the file is empty"]),
        (" \n\n", ["file.txt: the file is empty"]),
        (b"\xff\xfe1 2\n", ["file.txt: this is a text in UTF-16; expected a text with a line for each image"]),
        (
            b"\x1f\x8b\x08\0" + bytes(9),
            ["file.txt: this is a gzip archive; expected a text"],
        ),
        ("<html>\n<body>\n", ["file.txt: this is a web page (HTML); expected a text"]),
        ("[[0.5, 1], [2, 3]]\n", ["file.txt: this is JSON; expected a text"]),
        (b"\x0a\x03net\xa2\x06\x03\x0a\x01a", ["file.txt: this is a .caffemodel; expected a text"]),
        ("1 x\nnan\n", ["file.txt:1: column 2 is 'x'", "file.txt:2: 1 columns"]),
    ],
)
def test_damaged_scores_are_refused_with_file_and_line(text_file, text, messages):
    with pytest.raises(DataError) as caught:
        read_scores(text_file(text))
    problems = [str(problem) for problem in caught.value.problems]
    assert len(problems) == len(messages)
    assert all(message in problem for message, problem in zip(messages, problems, strict=True))


@pytest.mark.parametrize(
    "text", ["1.5,-2\n3,4e0\n", "1.5; -2\r\n3 ;4\r\n", "cat, dog\n1.5,-2\n3,4\n", "\ufeff1.5 -2\n3 4\n"]
)
def test_commas_titles_and_what_windows_adds(text_file, text):
    assert read_scores(text_file(text)).tolist() == [[1.5, -2], [3, 4]]


def test_a_wanted_number_of_classes_is_checked_in_every_line(text_file):
    with pytest.raises(DataError, match=r"file.txt:1: 2 columns; expected 5") as caught:
        read_scores(text_file("1 2\n3 4\n"), classes=5)
    assert len(caught.value.problems) == 2


def test_a_label_of_two_is_refused(text_file):
    with pytest.raises(DataError, match=r"file.txt:2: column 1 is '2'; expected 0 or 1"):
        read_labels(text_file("1 0\n2 1\n"))


def test_half_a_label_is_refused(text_file):
    with pytest.raises(DataError, match=r"column 2 is '0.5'"):
        read_labels(text_file("1 0.5\n"), protocol="wider")


def test_unknown_protocol_is_refused(text_file):
    with pytest.raises(UsageError, match="no evaluation protocol 'voc'"):
        read_labels(text_file("1 0\n"), protocol="voc")


def test_many_problems_are_counted_not_listed(text_file):
    with pytest.raises(DataError) as caught:
        read_scores(text_file("1 2\n" + "x y\n" * 50))
    assert len(caught.value.problems) == 11
    assert "90 more such problems" in str(caught.value.problems[-1])


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none.txt: cannot read: No such file"):
        read_scores(tmp_path / "none.txt")
    with pytest.raises(DataError, match="cannot read: Is a directory"):
        read_labels(tmp_path)


def test_scores_and_labels_must_be_of_the_same_images():
    match(np.zeros((3, 2)), np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"s.txt: one of them lies on its side. Transpose it"):
        match(np.zeros((2, 3)), np.zeros((3, 2)), "s.txt", "l.txt")
    with pytest.raises(DataError, match=r"s.txt: 2 rows .images., fewer than the 3 of l.txt"):
        match(np.zeros((2, 2)), np.zeros((3, 2)), "s.txt", "l.txt")
    with pytest.raises(DataError) as caught:
        match(np.zeros((5, 4)), np.zeros((3, 2)), "s.txt", "l.txt")
    assert [str(problem).split(",")[0] for problem in caught.value.problems] == [
        "s.txt: 5 rows (images)",
        "s.txt: 4 columns (classes)",
    ]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, 2.0], r"scores of shape \(2,\)"),
        (np.empty((0, 3)), r"scores of shape \(0, 3\)"),
        ([[1.0, 2.0], [np.inf, 1.0]], "score inf in row 2, column 1"),
    ],
)
def test_bad_scores_are_not_written(tmp_path, scores, message):
    with pytest.raises(DataError, match=message):
        write_scores(tmp_path / "scores.txt", scores)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_write_leaves_nothing(tmp_path):
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(CaffeError, match="cannot write"):
        write_scores(tmp_path / "folder" / "scores.txt", [[1.0]])
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
