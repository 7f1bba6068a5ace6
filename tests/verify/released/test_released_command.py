"""`--released DIR` of the table commands: outputs, exit statuses, options, and what a folder is said to hold."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_release import made_up_release

from prototxt_gen.base.command import run
from reference_weights import manifest
from verify.evaluation.scores import read_scores
from verify.reproduce_table1 import main as main1
from verify.reproduce_table2 import main as main2
from verify.reproduce_table3 import main as main3

MAINS = {"nus_wide": main1, "coco": main2, "wider_att": main3}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_up_release(tmp_path_factory.mktemp("made"), "coco", 12)


@pytest.fixture
def coco(made, tmp_path, monkeypatch):
    """A release that a test may damage, and its figures in place of the paper's."""
    monkeypatch.setattr("verify.tables.command.load_table", lambda number: made.table)
    return made.copy(tmp_path)


def command(release, *more):
    return ["--released", str(release.root), "--image-root", str(release.images), "--device", "cpu", *more]


def test_a_release_that_is_right_exits_with_zero_in_every_format(coco, capsys, tmp_path):
    scores = tmp_path / "mine.txt"
    assert run(main2, command(coco, "--scores-out", str(scores))) == 0
    output = capsys.readouterr()
    assert "yes, 12 of 12 images are within 0.001" in output.out and "faults found: none" in output.out
    assert "all 12 images" in output.err and "wrote" in output.err and "wrote" not in output.out
    assert read_scores(scores).shape == (12, 80) and not scores.with_name("mine.txt.part").exists()
    assert run(main2, command(coco, "--format", "markdown")) == 0
    page = capsys.readouterr().out
    assert page.startswith("## Released files of MS-COCO") and "### 2. The net against the authors' scores" in page
    assert run(main2, command(coco, "--format", "json")) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["status"] == 0 and data["evaluation"]["reproduced"] and data["figures"]["reproduced"]
    assert data["net"]["agrees"] and data["net"]["images"] == 12 and data["faults"] == []
    assert data["net"]["worst"][0]["largest"] == data["net"]["largest"] and len(data["same_figures"]) == 13


SHOWN = ("--definitions", "--bootstrap", "20", "--per-class", "classes.csv", "--picture", "ap.png")


def test_what_goes_beside_the_table_is_of_our_scores_and_else_of_the_authors(coco, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(main2, command(coco, "--scores-out", "mine.txt", *SHOWN)) == 0
    output = capsys.readouterr()
    assert "by other definitions" in output.out and "20 resamples of 12 images" in output.out
    assert f"of {coco.caffemodel}" in output.out and "figures of each class: classes.csv" in output.err
    labels, ours = str(coco.root / manifest.paths(coco.root, "coco")["labels"]), Path("classes.csv").read_bytes()
    assert Path("ap.png").stat().st_size
    assert run(main2, ["--scores", "mine.txt", "--labels", labels, "--per-class", "again.csv"]) == 0
    assert Path("again.csv").read_bytes() == ours

    theirs = str(manifest.paths(coco.root, "coco")["scores"])
    capsys.readouterr()
    assert run(main2, ["--released", str(coco.root), "--format", "json", *SHOWN]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["beside"]["source"] == theirs and data["beside"]["bootstrap"]["images"] == 12
    assert data["evaluation"]["figures"]["mAP"]["interval"] and data["figures"] is None
    assert run(main2, ["--scores", theirs, "--labels", labels, "--per-class", "again.csv"]) == 0
    assert Path("again.csv").read_bytes() == Path("classes.csv").read_bytes()


def test_nothing_goes_beside_the_table_where_there_are_no_scores(coco, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = manifest.paths(coco.root, "coco")
    paths["scores"].unlink()
    assert run(main2, ["--released", str(coco.root), *SHOWN]) == 2
    assert "--per-class, --picture, --definitions, --bootstrap: there are no usable scores" in capsys.readouterr().out
    assert not Path("classes.csv").exists() and not Path("ap.png").exists()


def test_what_a_release_reads_is_not_written_over(coco, capsys):
    before = manifest.paths(coco.root, "coco")["labels"]
    kept = before.read_bytes()
    assert run(main2, ["--released", str(coco.root), "--per-class", str(before)]) == 2
    assert "is read by this run, and would be lost" in capsys.readouterr().err and before.read_bytes() == kept
    assert run(main2, ["--released", str(coco.root), "--dry-run", "--definitions"]) == 2
    assert "--definitions cannot be combined with --released, --dry-run" in capsys.readouterr().err


def test_a_fault_is_in_every_format_and_in_the_exit_status(coco, capsys):
    coco.reorder(coco.list, [*range(6, 12), *range(6)])
    assert run(main2, command(coco)) == 1
    assert "ORDER: " in capsys.readouterr().out
    assert run(main2, command(coco, "--format", "markdown")) == 1
    assert "- ORDER: " in capsys.readouterr().out
    assert run(main2, command(coco, "--format", "json")) == 1
    data = json.loads(capsys.readouterr().out)
    assert [fault["kind"] for fault in data["faults"]] == ["order"] and data["status"] == 1
    assert data["faults"][0]["file"] == str(coco.list) and not data["net"]["agrees"]


def test_a_damaged_file_exits_with_two_and_no_traceback(coco, capsys):
    coco.caffemodel.write_bytes(coco.caffemodel.read_bytes()[:5000])
    assert run(main2, command(coco)) == 2
    output = capsys.readouterr()
    assert f"DAMAGED: {coco.caffemodel}" in output.out and "Traceback" not in output.out + output.err
    assert "the authors' scores give the paper's figures: yes" in output.out


def test_an_unreadable_image_is_named(coco, capsys, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(coco.images, images)
    name = coco.lines(coco.list)[4].split()[0]
    (images / name).write_bytes(b"no image")
    assert run(main2, command(replace(coco, images=images))) == 2
    assert f"{name}: cannot be read" in capsys.readouterr().out


def test_another_row_and_the_old_name_of_the_option(coco, capsys):
    assert run(main2, ["--root", str(coco.root), "--row", "ResNet-SRN"]) == 0
    output = capsys.readouterr().out
    assert "difference" in output and "the net is not run: that takes --image-root" in output
    assert run(main2, ["--root", str(coco.root), "--row", "ResNet-SNR"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--released", ".", "--sample", "5"], "--sample cannot be combined"),
        (["--released", ".", "--dry-run", "--image-root", ".", "--keep-going"], "--keep-going cannot be combined"),
        (["--released", ".", "--image-root", ".", "--sample", "1"], "expected 2 or more images"),
        (["--released", ".", "--image-root", ".", "--tolerance", "0"], "expected a number above 0"),
        (["--released", ".", "--image-root", "nowhere"], "nowhere: is not a folder"),
        (["--released", "nowhere"], "nowhere: is not a folder"),
        (["--dry-run"], "--dry-run given"),
    ],
)
def test_options_that_do_not_go_together_are_named(arguments, message, capsys):
    assert run(main2, arguments) == 2
    assert message in capsys.readouterr().err


# -- --dry-run ---------------------------------------------------------------------------------------------------
def test_a_dry_run_of_all_that_is_there(coco, capsys):
    assert run(main2, [*command(coco)[:4], "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert output.count("sha256") == 5 and output.count("\n  yes  ") == 3 and "missing" not in output
    assert f"{coco.caffemodel.stat().st_size:,} bytes" in output


def test_a_dry_run_says_what_is_missing_where_it_was_published_and_what_runs(coco, capsys):
    coco.caffemodel.unlink()
    assert run(main2, [*command(coco)[:4], "--dry-run"]) == 1
    output = capsys.readouterr().out
    assert "resourcekey=0-5bDpogPl2vU_DJwsKladFg" in output and "pan.baidu.com/s/1kVKEaI7" in output
    assert "unpack to models/" in output and "pan.baidu.com/s/1dGgiM6P" not in output
    assert output.count("lacks models/coco_resnet101_srn.caffemodel") == 2
    assert "yes  the authors' scores against the paper" in output
    assert run(main2, ["--released", str(coco.root), "--dry-run", "--format", "json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert [file["path"] for file in data["missing"]] == ["models/coco_resnet101_srn.caffemodel"]
    assert (
        data["missing"][0]["unpack_to"] == "models" and "id=0B7lJth6WXHffUTByUFZqNFhTaWM" in data["missing"][0]["drive"]
    )
    assert len(data["present"]) == 4 and data["runs"]["the authors' scores against the paper"] == []


@pytest.mark.parametrize("dataset", MAINS)
def test_a_dry_run_of_an_empty_folder_names_every_file(dataset, tmp_path, capsys):
    assert run(MAINS[dataset], ["--released", str(tmp_path), "--dry-run"]) == 1
    output = capsys.readouterr().out
    wanted = [file.path for file in manifest.load(dataset) if file.named]
    assert len(wanted) == (6 if dataset == "nus_wide" else 5) and all(path in output for path in wanted)
    assert output.count("\n  no   ") == 3 and "by the authors' names" in output


def test_an_empty_file_is_said_to_be_wrong(coco, capsys):
    coco.labels.write_bytes(b"")
    assert run(main2, ["--released", str(coco.root), "--dry-run"]) == 2
    assert "WRONG: the file is empty" in capsys.readouterr().out


def test_the_authors_files_are_never_written_over(coco, capsys):
    theirs = coco.root / "results" / "reference_coco_predictions.txt"
    before = theirs.read_bytes()
    options = ["--released", str(coco.root), "--image-root", str(coco.images), "--scores-out"]
    assert run(main2, [*options, str(theirs)]) == 2
    assert "is read by this run, and would be lost" in capsys.readouterr().err and theirs.read_bytes() == before
    assert run(main2, [*options, str(coco.root)]) == 2
    assert "is a folder; expected the name of a file" in capsys.readouterr().err


def test_an_endless_tolerance_is_none(coco, capsys):
    options = ["--released", str(coco.root), "--image-root", str(coco.images)]
    assert run(main2, [*options, "--tolerance", "inf"]) == 2
    assert "--tolerance inf; expected a number above 0" in capsys.readouterr().err
