"""The released files: what is listed, what a folder is found to hold, and the command."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import pytest

from prototxt_gen.base.command import run
from prototxt_gen.base.errors import DataError, UsageError
from reference_weights import manifest
from reference_weights.__main__ import main

COCO = [
    "models/coco_resnet101_srn_test.prototxt",
    "models/coco_resnet101_srn.caffemodel",
    "datasets/coco/coco_test_imglist.txt",
    "datasets/coco/coco_test_label.txt",
    "results/reference_coco_predictions.txt",
]


@pytest.fixture
def root(tmp_path):
    """A folder with every MS-COCO file."""
    for number, path in enumerate(COCO):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x" * (number + 3))
    return tmp_path


def test_every_data_set_has_its_files():
    assert manifest.datasets() == ["nus_wide", "coco", "wider_att"]
    assert [file.path for file in manifest.load("coco")] == COCO
    paths = [file.path for file in manifest.load()]
    for dataset in manifest.datasets():
        assert [path.replace("coco", dataset) for path in COCO] == [p for p in paths if dataset in p][:5]
    assert "datasets/nus_wide/nus_test_accessible.mat" in paths
    assert len(paths) == len({(file.path, file.purpose) for file in manifest.load()})


def test_every_file_is_unpacked_where_its_archive_goes():
    for file in manifest.load():
        assert file.path.startswith(file.archive.unpack_to + "/")
        assert file.purpose and not re.search("[{}]", file.purpose + file.contents + file.path)
        assert file.bytes is None and file.sha256 is None  # nothing is recorded yet


def test_every_archive_has_its_addresses():
    archives = {file.archive for file in manifest.load()}
    assert len(archives) == 5 and len({archive.drive_id for archive in archives}) == 5
    for archive in archives:
        assert re.fullmatch(r"0B7lJth6WXHff\w{15}", archive.drive_id)
        assert re.fullmatch(r"0-[\w-]{22}", archive.resource_key)
        assert archive.resource_key in archive.drive_url and archive.drive_id in archive.drive_url
    assert sum(bool(archive.baidu) for archive in archives) == 4  # none for the cropped images


def test_missing_names_exactly_the_absent_files(root):
    assert manifest.missing(root) == []
    (root / COCO[1]).unlink()
    (root / COCO[3]).unlink()
    (root / COCO[3]).mkdir()  # a folder of that name is no file
    assert [file.path for file in manifest.missing(root, "coco")] == [COCO[1], COCO[3]]
    assert len(manifest.missing(root, "wider_att")) == 5
    assert manifest.paths(root) == {
        "prototxt": root / COCO[0],
        "image_list": root / COCO[2],
        "scores": root / COCO[4],
    }


def test_files_known_by_a_pattern_are_found(tmp_path):
    def steps():
        return [file.path for file in manifest.missing(tmp_path, None) if "step_2" in file.path]

    assert steps() == ["training_script/**/step_2_*"]
    (tmp_path / "training_script" / "coco").mkdir(parents=True)
    (tmp_path / "training_script" / "coco" / "step_2_attention.prototxt").write_text("net")
    assert steps() == []


def test_files_of_unknown_name_are_never_called_missing(tmp_path):
    unnamed = [file for file in manifest.load() if not file.named]
    assert len(unnamed) == 2
    assert not set(unnamed) & set(manifest.missing(tmp_path, None))
    assert unnamed[0].below(tmp_path) == []


def test_size_and_hash_are_those_of_the_file(root):
    file = manifest.load("coco")[1]
    (found,) = manifest.inspect(file, root)
    assert found == manifest.Found(root / COCO[1], 4, hashlib.sha256(b"xxxx").hexdigest(), "")


@pytest.mark.parametrize(
    ("recorded", "mismatch"),
    [({"bytes": 5}, "5 bytes expected"), ({"sha256": "00"}, "sha256 00 expected"), ({"bytes": 4}, "")],
)
def test_recorded_figures_are_compared(root, recorded, mismatch):
    (found,) = manifest.inspect(replace(manifest.load("coco")[1], **recorded), root)
    assert found.mismatch == mismatch


def test_unknown_data_set_and_folder_are_refused(root):
    with pytest.raises(UsageError, match="no data set 'cocoa'; did you mean 'coco'"):
        manifest.load("cocoa")
    with pytest.raises(DataError, match="is not a folder"):
        manifest.missing(root / "nowhere")


def test_list_prints_paths_and_addresses(capsys):
    assert run(main, ["list"]) == 0
    output = capsys.readouterr().out
    assert all(path in output for path in COCO)
    assert "resourcekey=0-5bDpogPl2vU_DJwsKladFg" in output and "https://pan.baidu.com/s/1kVKEaI7" in output


def test_check_tells_present_from_missing_and_exits_accordingly(root, capsys):
    assert run(main, ["check", str(root), "--dataset", "coco"]) == 0
    output = capsys.readouterr().out
    assert output.count("present  ") == 5 and hashlib.sha256(b"x" * 7).hexdigest() in output
    (root / COCO[4]).unlink()
    assert run(main, ["check", str(root), "--dataset", "coco"]) == 1
    output = capsys.readouterr().out
    assert output.count("present  ") == 4 and f"missing  {COCO[4]}" in output
    assert run(main, ["check", str(root)]) == 1


def test_an_empty_file_is_not_fine(root, capsys):
    (root / COCO[0]).write_text("")
    assert run(main, ["check", str(root), "--dataset", "coco"]) == 1
    assert "WRONG: the file is empty" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["check", "nowhere"], ["list", "--dataset", "imagenet"]])
def test_bad_arguments_exit_with_two_and_no_traceback(arguments, capsys):
    assert run(main, arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")
