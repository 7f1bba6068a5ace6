"""`python -m port lmdb`: databases from lists, their layout, what is refused, and what `inspect` shows."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_layers import GOLDEN_DATA, database, take, write_images

from port.__main__ import main
from port.data import create, datum_values, label_datum, new_database, open_data, parse_datum
from port.data import database as database_module
from port.data.database import Database
from prototxt_gen.base import command
from prototxt_gen.base.errors import DataError, UsageError


def port(*words: object) -> int:
    return command.run(main, [str(word) for word in words])


def records(path: Path) -> dict[bytes, bytes]:
    found = Database(path)
    return {key: found[i] for i, key in enumerate(found.keys)}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """5 images of 9x13 with a label file of 3 classes."""
    write_images(tmp_path, 5)
    (tmp_path / "labels.txt").write_text("1 0 1\n0 0 0\n1 1 1\n0 -1 1\n1 0 0\n")
    return tmp_path


def test_images_and_labels_as_the_authors_tool_lays_them_out(images: Path):
    assert port(
        *("lmdb", "create", "--images", images / "list.txt", "--root", images, "--output", images / "db"),
        *("--labels", images / "labels.txt"),
    ) == command.OK  # fmt: skip
    assert {path.name for path in images.iterdir() if path.is_dir()} == {"db", "db_labels"}
    assert [path.name for path in (images / "db").iterdir()] == ["data.mdb"]
    found = records(images / "db")
    assert list(found) == [b"%08d_img%d.png" % (i, i) for i in range(5)]
    for i, value in enumerate(found.values()):
        datum = parse_datum(value)
        assert (datum.channels, datum.height, datum.width, datum.label, datum.encoded) == (3, 9, 13, 10 + i, False)
        np.testing.assert_array_equal(datum_values(datum), cv2.imread(str(images / f"img{i}.png")))
    rows = records(images / "db_labels")
    assert list(rows) == list(found)
    datum = parse_datum(rows[b"00000003_img3.png"])
    assert (datum.channels, datum.height, datum.width, datum.label) == (3, 1, 1, 1)
    assert list(datum.float_data) == [0, -1, 1] and not datum.data
    # Both through data layers, side by side.
    data = take(open_data(database("batch_size: 5"), root=images), 1)[0]
    vectors = take(open_data(database("batch_size: 5", source="db_labels"), root=images), 1)[0]
    assert data["label"].tolist() == [10, 11, 12, 13, 14] and vectors["label"].tolist() == [2, 0, 3, 1, 1]
    assert vectors["data"].shape == (5, 3, 1, 1)


def test_label_datums_are_byte_for_byte_those_of_a_recorded_database():
    # Written by the authors' tool's rules for real Caffe to read.
    found = records(GOLDEN_DATA / "srn" / "lmdb_labels")
    assert len(found) == 6
    for key, value in found.items():
        assert key.startswith(b"0000000")
        assert label_datum(np.array(parse_datum(value).float_data, np.float32)) == value


def test_labels_as_bytes(images: Path):
    (images / "labels.txt").write_text("1 0\n0 0\n1 1\n0 1\n1 0\n")
    create(images / "list.txt", images, images / "db", labels=images / "labels.txt", label_type="uint8")
    datum = parse_datum(records(images / "db_labels")[b"00000002_img2.png"])
    assert datum.data == b"\1\1" and datum.label == 2 and not datum.float_data


@pytest.mark.parametrize(
    ("words", "encoded", "shape", "start"),
    [
        ((), False, (9, 13, 3), b""),
        (("--resize", "6x8"), False, (6, 8, 3), b""),
        (("--grey",), False, (9, 13, 1), b""),
        (("--encoded",), True, (9, 13, 3), b"\x89PNG"),
        (("--encoded", "jpg"), True, (9, 13, 3), b"\xff\xd8"),
        (("--encoded", "--resize", "6x8"), True, (6, 8, 3), b"\xff\xd8"),
        (("--encoded", "png", "--resize", "6x8", "--grey"), True, (6, 8, 1), b"\x89PNG"),
    ],
)
def test_forms_of_images(images: Path, words: tuple[str, ...], encoded: bool, shape: tuple, start: bytes):
    where = ("--images", images / "list.txt", "--root", images, "--output", images / "db")
    assert port("lmdb", "create", *where, *words) == command.OK
    datum = parse_datum(records(images / "db")[b"00000001_img1.png"])
    values = datum_values(datum)
    assert datum.encoded == encoded and values.shape == shape and datum.label == 11
    assert not encoded or datum.data.startswith(start)
    pixels = cv2.imread(str(images / "img1.png"), cv2.IMREAD_GRAYSCALE if shape[2] == 1 else cv2.IMREAD_COLOR)
    expected = cv2.resize(pixels, (shape[1], shape[0])).reshape(shape)
    if start != b"\xff\xd8":
        np.testing.assert_array_equal(values, expected)
    if words == ("--encoded",):
        assert datum.data == (images / "img1.png").read_bytes()


def test_shuffled_images_and_labels_stay_together(images: Path):
    made = create(images / "list.txt", images, images / "db", labels=images / "labels.txt", shuffle=4)
    assert "5 images, 3x9x13 (5)" in str(made) and "5 rows of labels, 3 classes" in str(made)
    keys = list(records(images / "db"))
    names = [key.split(b"_")[1] for key in keys]
    assert [key[:8] for key in keys] == [b"%08d" % i for i in range(5)]
    assert sorted(names) == [b"img%d.png" % i for i in range(5)] != names
    rows = (images / "labels.txt").read_text().splitlines()
    for key, value in records(images / "db_labels").items():
        expected = rows[int(key[12:13])].split()
        assert list(parse_datum(value).float_data) == list(map(float, expected))


def test_a_database_grows(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(database_module, "_START", 1 << 16)
    with new_database(tmp_path / "db") as writer:
        for i in range(10):
            writer.put((b"%d_%d" % (i, j), bytes(3000)) for j in range(9))
    assert len(Database(tmp_path / "db")) == 90


def test_nothing_appears_unless_all_is_well(images: Path, capsys):
    (images / "img1.png").write_bytes(b"no image")
    (images / "img3.png").write_bytes(b"")
    before = sorted(path.name for path in images.iterdir())
    where = ("--images", images / "list.txt", "--root", images, "--output", images / "db")
    assert port("lmdb", "create", *where, "--labels", images / "labels.txt") == command.BAD_INPUT
    error = capsys.readouterr().err
    assert "list.txt:2" in error and "img1.png: the image does not decode" in error
    assert "list.txt:4" in error and "img3.png: the image is empty" in error
    assert sorted(path.name for path in images.iterdir()) == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_nothing_stays_of_a_call_that_was_stopped(images: Path, number: int, status: int):
    (images / "list.txt").write_text("img0.png 1\n" * 60_000)  # takes much longer than to stop it
    words = ("lmdb", "create", "--images", images / "list.txt", "--root", images, "--output", images / "db")
    before = sorted(images.iterdir())
    command_line = [sys.executable, "-m", "port", *map(str, words)]
    # A shell's background jobs ignore Ctrl-C, and so would their children.
    process = subprocess.Popen(command_line, stderr=subprocess.PIPE, preexec_fn=default_signals)
    try:
        while not list(images.glob(".db.*/database/data.mdb")):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == status and sorted(images.iterdir()) == before


def default_signals() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.filterwarnings("error")
def test_lists_and_labels_that_do_not_fit(images: Path):
    def message(**options) -> str:
        with pytest.raises((DataError, UsageError)) as error:
            create(images / "list.txt", images, images / "db", **options)
        assert not (images / "db").exists()
        return str(error.value)

    labels = images / "labels.txt"
    labels.write_text("1 0\n1 0\n")
    assert "2 rows for the 5 images" in message(labels=labels)
    labels.write_text("1 0\n1 0 1\n\n1 x\n1 nan\n")
    text = message(labels=labels)
    for part in (":2: 3 labels; expected 2", ":3: ''", ":4: '1 x'", ":5: '1 nan'"):
        assert part in text
    labels.write_text("1 0\n-1 0\n1 300\n0.5 1\n1 1\n")
    text = message(labels=labels, label_type="uint8")
    assert all(f"labels.txt:{line}: " in text for line in (2, 3, 4)) and "store labels as floats" in text.lower()
    labels.write_text("1 0\n1 1e39\n1 0\n1 0\n1 0\n")
    assert ":2: '1 1e39'; expected finite numbers" in message(labels=labels)
    labels.write_text("")
    assert "the file is empty" in message(labels=labels)
    assert "encoded 'gif'" in message(encoded="gif")
    (images / ("x" * 200)).mkdir()
    deep = Path("x" * 200) / ("y" * 200)
    (images / deep).mkdir()
    (images / deep / ("z" * 120)).write_bytes((images / "img0.png").read_bytes())
    (images / "list.txt").write_text(f"img0.png 1\n{deep / ('z' * 120)} 2\n")
    assert "list.txt:2: a key of 531 bytes; expected a key of at most 511" in message()


def test_options_that_do_not_go_together(images: Path, capsys):
    before = sorted(images.iterdir())
    where = ("--images", images / "list.txt", "--root", images, "--output", images / "db")
    vectors = ("--labels", images / "labels.txt")
    for words, message in (
        ((*vectors, "--label-output", images / "db"), "two databases side by side"),
        ((*vectors, "--label-output", images / "db" / "labels"), "two databases side by side"),
        ((*vectors, "--label-output", images), "two databases side by side"),
        (("--output", images / ("x" * 300)), "cannot write: File name too long"),
        (("--label-output", images / "other"), "a label database without labels"),
        (("--label-type", "uint8"), "--label-type without labels"),
        (("--resize", "40000x50000"), "at most 2,147,418,112 bytes"),
        (("--encoded", "--resize", "2x65501"), "list.txt:1: field 'img0.png'"),  # the longest side of a JPEG: 65500
    ):
        assert port("lmdb", "create", *where, *words) == command.BAD_INPUT
        assert message in capsys.readouterr().err
        assert sorted(images.iterdir()) == before


def test_labels_in_another_order_are_told(images: Path):
    (images / "list.txt").write_text("img0.png 2\nimg1.png 0\nimg2.png 3\nimg3.png 1\nimg4.png 1\n")
    told = "positive labels in 3 of 5 lines: are list and labels in the same order?"
    assert told not in str(create(images / "list.txt", images, images / "db", labels=images / "labels.txt"))
    rows = (images / "labels.txt").read_text().splitlines()
    (images / "labels.txt").write_text("\n".join([rows[1], rows[0], *rows[2:]]))
    assert told in str(create(images / "list.txt", images, images / "two", labels=images / "labels.txt"))
    (images / "list.txt").write_text("".join(f"img{i}.png 7\n" for i in range(5)))  # integers that mean something else
    text = str(create(images / "list.txt", images, images / "three", labels=images / "labels.txt"))
    assert "in the same order" not in text


def test_paths_of_the_whole_disk(images: Path):
    (images / "list.txt").write_text(f"{images}/img0.png 1\n{images}/img3.png 2\n")
    assert port("lmdb", "create", "--images", images / "list.txt", "--output", images / "db") == command.OK
    assert list(records(images / "db")) == [
        f"00000000_{images}/img0.png".encode(),
        f"00000001_{images}/img3.png".encode(),
    ]
    # Given a root, it is glued before them, as the authors' tool does.
    assert (
        port("lmdb", "create", "--images", images / "list.txt", "--root", "/", "--output", images / "two") == command.OK
    )
    with pytest.raises(DataError, match="there is no image"):
        create(images / "list.txt", images, images / "three")


def test_kept_files_are_told_as_they_are(images: Path):
    grey = cv2.imread(str(images / "img1.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(images / "img1.png"), grey)
    cv2.imwrite(str(images / "img2.png"), grey.astype(np.uint16) * 256)
    text = str(create(images / "list.txt", images, images / "db", encoded=""))
    assert "3x9x13 (3), 1x9x13 (1), 1x9x13 of uint16 (1)" in text and "needs force_color" in text
    assert "force_color" not in str(create(images / "list.txt", images, images / "two", encoded="png"))


def test_an_existing_database_is_left_alone(images: Path, capsys):
    (images / "db").mkdir()
    where = ("--images", images / "list.txt", "--root", images, "--output", images / "db")
    assert port("lmdb", "create", *where) == command.BAD_INPUT
    assert "already exists" in capsys.readouterr().err and not list((images / "db").iterdir())


def test_keys_that_stand_twice(tmp_path: Path):
    with pytest.raises(DataError, match="the key 'a' stands twice"), new_database(tmp_path / "db") as writer:
        writer.put([(b"a", b"1"), (b"a", b"2")])
    assert not list(tmp_path.iterdir())


def test_inspect(images: Path, capsys):
    create(images / "list.txt", images, images / "db", encoded="", labels=images / "labels.txt")
    capsys.readouterr()
    assert port("lmdb", "inspect", images / "db") == command.OK
    text = capsys.readouterr().out
    for part in ("5 records", "'00000000_img0.png' to '00000004_img4.png'", "PNG 3x9x13: 5", "label: 10 to 14"):
        assert part in text
    assert port("lmdb", "inspect", images / "db_labels", "--all") == command.OK
    text = capsys.readouterr().out
    for part in ("raw float32 3x1x1: 5", "vectors of 3: values -1, 0, 1", "1.40 a record, 0 to 3; 0 of 3 never"):
        assert part in text


def test_inspect_tells_bad_records(tmp_path: Path, capsys):
    with new_database(tmp_path / "db") as writer:
        writer.put([(b"0_a", label_datum(np.ones(2))), (b"1_b", b"\xff\xff")])
    assert port("lmdb", "inspect", tmp_path / "db") == command.CHECK_FAILED
    assert "wrong: record '1_b': 2 bytes that are no Datum" in capsys.readouterr().out
    assert port("lmdb", "inspect", tmp_path / "nowhere") == command.BAD_INPUT
    assert "there is no such database" in capsys.readouterr().err


def test_inspect_reads_a_sample_of_many(tmp_path: Path, capsys):
    with new_database(tmp_path / "db") as writer:
        writer.put((b"%08d" % i, label_datum(np.ones(2))) for i in range(1001))
    assert port("lmdb", "inspect", tmp_path / "db") == command.OK
    assert "1 record in 2, 501 in all" in capsys.readouterr().out
    assert port("lmdb", "inspect", tmp_path / "db", "--all") == command.OK
    assert "all records" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["6", "6x", "0x4", "axb"])
def test_sizes_that_are_none(word: str, capsys):
    with pytest.raises(SystemExit) as ended:
        port("lmdb", "create", "--images", "x", "--output", "y", "--resize", word)
    assert ended.value.code == command.BAD_INPUT and "expected HxW" in capsys.readouterr().err
