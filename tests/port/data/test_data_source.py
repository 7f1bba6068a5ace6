"""Lists and databases as data layers read them, and errors that name the item."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from data_layers import data_layer, database, image_data, labels, take, write_data, write_images

from port.data import encoded_datum, image_datum, label_datum, new_database, open_data
from prototxt_gen.base.errors import DataError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_data(tmp_path)


# Lists


def test_lists_of_both_dialects(tmp_path: Path):
    write_images(tmp_path, 2)
    (tmp_path / "img0.png").rename(tmp_path / "a b.png")
    (tmp_path / "list.txt").write_text("a b.png 3\n\nimg1.png -4\n")
    assert labels(open_data(image_data("batch_size: 2"), root=tmp_path), 1) == [[3, -4]]
    with pytest.raises(DataError, match=r"list.txt:1: layer 'd': 'a b.png 3'; .*no spaces within the path"):
        open_data(image_data("batch_size: 2", "srn"), dialect="srn", root=tmp_path)
    (tmp_path / "list.txt").write_text("img1.png \t 7\r\n")
    assert labels(open_data(image_data("batch_size: 1", "srn"), dialect="srn", root=tmp_path), 1) == [[7]]


def test_all_bad_lines_of_a_list_are_named(tmp_path: Path):
    write_images(tmp_path, 1)
    (tmp_path / "list.txt").write_text("img0.png 1\nimg0.png\nimg0.png x\nnowhere.png 2\n 5\nimg0.png 2.5\n")
    with pytest.raises(DataError) as error:
        open_data(image_data("batch_size: 1"), root=tmp_path)
    assert [problem.line for problem in error.value.problems] == [2, 3, 4, 5, 6]
    assert "there is no image" in str(error.value.problems[2])
    (tmp_path / "list.txt").write_text("\n" + "bad\n" * 50)
    with pytest.raises(DataError, match="and 30 more such lines"):
        open_data(image_data("batch_size: 1"), root=tmp_path)
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(DataError, match="the list is empty"):
        open_data(image_data("batch_size: 1"), root=tmp_path)
    with pytest.raises(DataError, match="cannot read: No such file"):
        open_data(image_data("batch_size: 1"), root=tmp_path / "nowhere")


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_lists_from_other_systems(tmp_path: Path, dialect: str):
    write_images(tmp_path, 3)
    # A line separator and a no-break space are no white space to Caffe.
    names = ["img0.png", "a\u2028b.png", "c\u00a0d.png"]
    for i in (1, 2):
        (tmp_path / f"img{i}.png").rename(tmp_path / names[i])
    text = "".join(f"{name} {i}\r\n\r\n" for i, name in enumerate(names))
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())  # with a byte order mark
    assert labels(open_data(image_data("batch_size: 3", dialect), dialect=dialect, root=tmp_path), 1) == [[0, 1, 2]]


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_labels_that_are_no_int_are_refused(tmp_path: Path, dialect: str):
    write_images(tmp_path, 1)
    (tmp_path / "list.txt").write_text("img0.png 2147483647\nimg0.png 2147483648\nimg0.png \u0663\n")
    with pytest.raises(DataError) as error:
        open_data(image_data("batch_size: 1", dialect), dialect=dialect, root=tmp_path)
    first, second = map(str, error.value.problems)
    assert "list.txt:2: layer 'd': the label 2,147,483,648; expected -2,147,483,648 to 2,147,483,647" in first
    assert "list.txt:3" in second and "a path and an integer" in second
    # Thousands of digits are more than Python makes an integer of.
    (tmp_path / "list.txt").write_text("img0.png " + "9" * 5000)
    with pytest.raises(DataError, match=r"list.txt:1.*expected a path and an integer"):
        open_data(image_data("batch_size: 1", dialect), dialect=dialect, root=tmp_path)


def test_paths_that_are_not_there_come_with_the_way_out(tmp_path: Path):
    write_images(tmp_path, 1)

    def message(text: str, fields: str = "", dialect: str = "bvlc") -> str:
        (tmp_path / "list.txt").write_text(text)
        with pytest.raises(DataError) as error:
            open_data(image_data(f"batch_size: 1 {fields}", dialect), dialect=dialect, root=tmp_path)
        return str(error.value)

    for dialect in ("bvlc", "srn"):
        assert "one integer; label vectors are read from a second database" in message("img0.png 1 0 1", "", dialect)
        glued = message("img0.png 1", f'root_folder: "{tmp_path}"', dialect)
        assert f"'{tmp_path}img0.png'. Let root_folder end in a slash, '{tmp_path}/'" in glued
    assert "'img0.png '. The line has a space too many" in message("img0.png  1").replace(f"{tmp_path}/", "")
    assert "Check the path, and root_folder" in message("other.png 1")
    assert "there is no image" in message("x" * 300 + " 1")  # longer than a disk's names can be


def test_root_folder_is_glued_before_the_path(images: Path):
    (images / "list.txt").rename(images.parent / "list.txt")
    layer = image_data(f'batch_size: 2 root_folder: "{images}/im"')
    (images.parent / "list.txt").write_text("g0.png 1\ng3.png 2\n")
    assert labels(open_data(layer, root=images.parent), 1) == [[1, 2]]


def test_paths_are_looked_for_in_several_folders(images: Path):
    layer = image_data("batch_size: 2")
    assert labels(open_data(layer, root=[images / "nowhere", images]), 1) == [[10, 11]]


def test_an_image_that_does_not_decode_is_named_with_its_line(images: Path):
    (images / "img2.png").write_bytes((images / "img2.png").read_bytes()[:20])
    with pytest.raises(DataError) as error:
        take(open_data(image_data("batch_size: 3"), root=images), 1)
    problem = str(error.value)
    assert problem.startswith(f"{images / 'list.txt'}:3: layer 'd'")
    assert str(images / "img2.png") in problem and "does not decode (20 bytes)" in problem
    (images / "img2.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"img2.png.*empty \(0 bytes\)"):
        take(open_data(image_data("batch_size: 3"), root=images), 1)
    (images / "img2.png").write_text("<!DOCTYPE html>")
    with pytest.raises(DataError, match=r"img2.png.*does not decode \(15 bytes\): this is a web page \(HTML\)"):
        take(open_data(image_data("batch_size: 3"), root=images), 1)


def test_images_of_other_sizes_need_a_crop_or_single_batches(images: Path):
    write_images(images / "more", 1, (10, 14))
    (images / "list.txt").write_text("img0.png 1\nmore/img0.png 2\n")
    with pytest.raises(DataError, match=r"list.txt:2.*'data' is 3x10x14 here, 3x9x13 in the batch's first item"):
        take(open_data(image_data("batch_size: 2"), root=images), 1)
    shapes = [batch["data"].shape for batch in take(open_data(image_data(""), root=images), 2)]
    assert shapes == [(1, 3, 9, 13), (1, 3, 10, 14)]
    for fields, transform in (("", "crop_size: 5"), ("new_height: 5 new_width: 5", "")):
        source = open_data(image_data(f"batch_size: 2 {fields}", transform=transform), root=images)
        assert take(source, 1)[0]["data"].shape == (2, 3, 5, 5)
    huge = image_data("batch_size: 1 new_height: 1000000000 new_width: 1000000001")
    with pytest.raises(
        DataError, match=r"list.txt:1: layer 'd'.*img0.png: OpenCV cannot resize it to 1,000,000,000x1,"
    ):
        take(open_data(huge, root=images), 1)
    with pytest.raises(DataError, match="new_height 5, new_width 0; expected both, or neither"):
        open_data(image_data("new_height: 5"), root=images)


# Databases


def test_label_vectors_without_a_second_top(tmp_path: Path):
    rows = np.array([[1, 0, 1, -1], [0, 0, 0, 1], [0, 1, 1, 1]], np.float32)
    with new_database(tmp_path / "db") as writer:
        writer.put((b"%08d_x" % i, label_datum(row)) for i, row in enumerate(rows))
    source = open_data(database("batch_size: 2", tops="attributes"), root=tmp_path)
    batch = take(source, 1)[0]
    assert list(batch) == ["attributes"]
    np.testing.assert_array_equal(batch["attributes"], rows[:2, :, None, None])


def test_a_wrong_label_width_names_the_record(tmp_path: Path):
    with new_database(tmp_path / "db") as writer:
        writer.put([(b"00_a", label_datum(np.ones(5))), (b"01_b", label_datum(np.ones(6)))])
    with pytest.raises(DataError, match=r"record '01_b'.*'data' is 6x1x1 here, 5x1x1 in the batch's first item"):
        take(open_data(database("batch_size: 2"), root=tmp_path), 1)


def test_forced_colours_of_encoded_images(tmp_path: Path):
    write_images(tmp_path, 1)
    with new_database(tmp_path / "db") as writer:
        writer.put([(b"0", encoded_datum((tmp_path / "img0.png").read_bytes(), 4))])
    for transform, channels in (("force_gray: true", 1), ("force_color: true", 3), ("crop_size: 8", 3)):
        batch = take(open_data(database("batch_size: 1", transform=transform), root=tmp_path), 1)[0]
        assert batch["data"].shape[1] == channels and batch["label"] == [4]


def test_records_that_are_no_datums_are_named(tmp_path: Path):
    records = [
        (b"00_ok", image_datum(np.ones((2, 3, 3), np.uint8))),
        (b"01_junk", b"\xff\xff\xff"),
        (b"02_short", image_datum(np.ones((2, 3, 3), np.uint8))[:-12]),
        (b"03_empty", b""),
        (b"04_encoded", b"\x38\x01\x22\x03abc"),
    ]
    with new_database(tmp_path / "db") as writer:
        writer.put(records)
    source = open_data(database("batch_size: 1"), root=tmp_path)
    take(source, 1)
    for key, message in (("01_junk", "no Datum"), ("02_short", "no Datum"), ("03_empty", "0x0x0 with 0")):
        with pytest.raises(DataError, match=f"record '{key}'.*{message}"):
            take(source, 1)
        source.position += 1
    with pytest.raises(DataError, match=r"record '04_encoded'.*the image does not decode"):
        take(source, 1)


def test_databases_that_cannot_be_opened(images: Path):
    def message(source: str, fields: str = "backend: LMDB") -> str:
        layer = data_layer("Data", f'data_param {{ source: "{source}" batch_size: 2 {fields} }}')
        with pytest.raises(DataError) as error:
            open_data(layer, root=images)
        assert "layer 'd'" in str(error.value) and str(images) in str(error.value)
        return str(error.value)

    assert "cannot read: File name too long" in message("x" * 300)
    (images / "loop").symlink_to(images / "loop")
    assert "cannot read: Too many" in message("loop")
    assert "backend is LEVELDB" in message("x" * 300, "")
    assert "no such database" in message("nowhere") and "port lmdb create" in message("nowhere")
    (images / "empty").mkdir()
    assert "a folder without data.mdb" in message("empty")
    (images / "empty" / "CURRENT").touch()
    assert "this is a LevelDB" in message("empty")
    assert "LEVELDB, Caffe's default" in message("nowhere", "") and "Convert it" in message("nowhere", "")
    assert "holds an LMDB: set backend: LMDB" in message("db", "backend: LEVELDB")
    (images / "junk").mkdir()
    (images / "junk" / "data.mdb").write_bytes(b"junk" * 5000)
    assert "not an LMDB file" in message("junk")
    whole = (images / "db" / "data.mdb").read_bytes()
    (images / "junk" / "data.mdb").write_bytes(whole[: len(whole) - 4096])
    assert "copied completely" in message("junk")  # reading on would kill the process
    (images / "junk" / "data.mdb").write_bytes(b"")
    assert "damaged" in message("junk") or "cannot be opened" in message("junk")
    for content, found in (
        (b"\x89HDF\r\n\x1a\n" + bytes(9000), "this is an HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "this is a Git LFS pointer, not the file it stands for"),
        (b"\x8f\x8c\x8d\x1d\x1c\0\x01\x01\x1aleveldb.BytewiseComparator", "this is a file of a LevelDB"),
    ):
        (images / "junk" / "data.mdb").write_bytes(content)
        assert f"data.mdb: layer 'd': {found}" in message("junk") and "expected an LMDB" in message("junk")
        (images / "other").write_bytes(content)
        assert f"other: layer 'd': {found}" in message("other")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_databases_of_others(images: Path):
    # A process of its own, which gives its rights away: the folder and the file may be read, not written, or neither.
    script = """
import os, sys
from pathlib import Path
from port.data import Database
from prototxt_gen.base.errors import DataError
folder = Path(sys.argv[1])
os.seteuid(65534)
print(len(Database(folder)), *os.listdir(folder))
for mode, path in ((0, folder / "data.mdb"), (0, folder)):
    os.seteuid(0)
    path.chmod(mode)
    os.seteuid(65534)
    try:
        Database(folder)
    except DataError as error:
        print(error)
"""
    home = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        home.chmod(0o755)
        (images / "db").rename(home / "db")
        (home / "db" / "data.mdb").chmod(0o444)
        (home / "db").chmod(0o555)
        ran = subprocess.run(
            [sys.executable, "-c", script, str(home / "db")], capture_output=True, text=True, check=True
        )
    finally:
        shutil.rmtree(home)
    readable, file, folder = ran.stdout.splitlines()
    assert readable == "7 data.mdb"  # no lock file is wanted
    assert file.endswith("db/data.mdb: cannot read: Permission denied. Check the permissions")
    assert folder.endswith("/db: cannot read: Permission denied. Check the permissions")


# What is not read


def test_layers_that_are_refused(images: Path):
    for kind, message in (("WindowData", "ImageData"), ("DummyData", "makes its tops itself")):
        with pytest.raises(DataError, match=f"layer 'd'.*{message}"):
            open_data(data_layer(kind))
    with pytest.raises(DataError, match="'batch_size': there is no batch_size"):
        open_data(database(""), root=images)
    with pytest.raises(DataError, match="'source': there is no source"):
        open_data(data_layer("Data", "data_param { backend: LMDB batch_size: 1 }"))
    with pytest.raises(DataError, match="'top': 1 tops; expected 2"):
        open_data(data_layer("ImageData", tops="data"))
    with pytest.raises(DataError, match="rank 2 of 2"):
        open_data(database("batch_size: 1"), root=images, rank=2, world=2)


def test_the_layers_own_phase_goes_first(images: Path):
    layer = image_data("batch_size: 7", transform="crop_size: 3")
    layer.phase = 1  # TEST
    one, two = (take(open_data(layer, "TRAIN", root=images, seed=seed), 1)[0]["data"] for seed in (1, 2))
    np.testing.assert_array_equal(one, two)
