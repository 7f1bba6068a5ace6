"""Tables beside our figures, and the command that reproduces Table 2, down to its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import port
from port.images import load_image
from port.scoring import compute_scores
from port.scoring.engines import TorchEngine
from prototxt_gen.base.command import run
from prototxt_gen.base.errors import UsageError
from reference_weights import manifest
from verify.evaluation.scores import read_scores, write_scores
from verify.metrics import evaluate
from verify.reproduce_table2 import main
from verify.tables import Figure, compare_row, layout, load_table, side_by_side
from verify.tables.layout import row_page, table_page

ROW = "ResNet-SRN"
CLASSES = 7
NET = """
name: "tiny"
input: "picture" input_shape { dim: 2 dim: 3 dim: 11 dim: 13 }
layer { name: "conv" type: "Convolution" bottom: "picture" top: "conv"
  convolution_param { num_output: 5 kernel_size: 3 stride: 4
                      weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "other" type: "InnerProduct" bottom: "conv" top: "b_other"
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "score" type: "InnerProduct" bottom: "conv" top: "a_score"
  inner_product_param { num_output: 7 weight_filler { type: "gaussian" std: 0.01 } } }
"""


def paper_figures(**changes: float) -> dict[str, float]:
    return {name: value / 100 for name, value in load_table(2).row(ROW).items()} | changes


def test_tables_are_those_of_the_paper():
    assert [load_table(n).dataset for n in (1, 2, 3)] == ["NUS-WIDE", "MS-COCO", "WIDER-Attribute"]
    assert load_table(2).row(ROW)["mAP"] == 77.1 and load_table(2).row(ROW)["R-O@3"] == 62.5
    assert list(load_table(3).row(ROW)) == ["mAP", "F1-C", "F1-O"]
    assert "mAP" not in load_table(1).row("WARP")
    for number in (1, 2, 3):
        assert {"ResNet-101", "ResNet-107", "ResNet-101-semantic", "ResNet-SRN-att", ROW} <= set(
            load_table(number).rows
        )


def test_every_column_is_a_figure_that_evaluate_returns():
    figures = evaluate([[1.0, -1.0], [-1.0, 1.0]], [[1, 0], [1, 1]])
    for number in (1, 2, 3):
        for row in load_table(number).rows.values():
            assert row and set(row) <= set(figures)


@pytest.mark.parametrize(
    ("ours", "reproduced"),
    [(77.1, True), (77.149, True), (77.051, True), (77.151, False), (77.049, False), (float("nan"), False)],
)
def test_a_figure_is_reproduced_when_it_rounds_to_the_papers(ours, reproduced):
    assert Figure("mAP", 77.1, ours).reproduced is reproduced


def test_one_wrong_figure_fails_the_row():
    table = load_table(2)
    assert compare_row(paper_figures(), table, ROW, 40504, 80)
    assert not compare_row(paper_figures(**{"P-O@3": 0.8755}), table, ROW, 40504, 80)
    assert not compare_row(paper_figures(mAP=float("nan")), table, ROW, 40504, 80)


def test_nothing_compared_is_no_success():
    assert not replace(compare_row(paper_figures(), load_table(2), ROW, 3, 80), figures=())


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    """Whatever terminal the tests run in."""
    monkeypatch.setenv("COLUMNS", "500")


def cells(page: str, row: str) -> list[str]:
    """The words of the line of a page that starts so."""
    (line,) = (line for line in page.splitlines() if line.strip("| ").startswith(row))
    return line.replace("|", " ").split()


@pytest.mark.parametrize("style", ["text", "markdown"])
def test_the_page_shows_the_whole_table_with_ours_below_its_row(style):
    ours = paper_figures(mAP=0.7, **{"F1-C": float("nan")})
    page = table_page(compare_row(ours, load_table(2), ROW, 40504, 80, "mine"), style)
    names = [line.strip("| ").split("  ")[0].split(" |")[0] for line in page.splitlines()]
    at = names.index(ROW)
    assert [name.strip() for name in names[at + 1 : at + 4]] == ["ours", "difference", "reproduced"]
    assert cells(page, "ours ")[:4] == ["ours", "70.00", "nan", "81.60"]
    assert cells(page, "difference")[:4] == ["difference", "-7.10", "nan", "+0.00"]
    assert [word.strip("*").lower() for word in cells(page, "reproduced")[1:]] == ["no", "no"] + ["yes"] * 11
    assert cells(page, "ResNet-107")[1:4] == ["75.4", "69.7", "80.9"]
    assert cells(page, "WARP")[:3] == ["WARP", "(quoted)", "-"]
    assert "11 of 13 figures reproduced" in page and "NOT reproduced: mAP, F1-C" in page and "ours: mine" in page
    assert "not the test data" not in page and "ML-GCN" not in page
    if style == "markdown":
        lines = [line for line in page.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1 and len(lines) == 2 + 7 + 3


@pytest.mark.parametrize("style", ["text", "markdown"])
def test_one_row_shows_paper_ours_difference_and_verdict(style):
    page = row_page(compare_row(paper_figures(mAP=0.7), load_table(2), ROW, 53, 7), style)
    assert cells(page, "mAP") == ["mAP", "77.1", "70.00", "-7.10", "NOT", "reproduced"]
    assert cells(page, "P-O@3") == ["P-O@3", "87.4", "87.40", "+0.00", "reproduced"]
    assert "not the test data of MS-COCO, which has 40,504 images, 80 classes" in page


def test_data_for_json():
    ours = paper_figures(mAP=0.7, **{"F1-C": float("nan")})
    found = json.loads(json.dumps(layout.data(compare_row(ours, load_table(2), ROW, 40504, 80)), allow_nan=False))
    assert list(found) == [
        "table", "dataset", "row", "quoted", "source", "images", "classes", "reproduced", "figures", "notes",
        "published",
    ]  # fmt: skip
    assert found["figures"]["mAP"] == {
        "paper": 77.1, "ours": pytest.approx(70), "difference": pytest.approx(-7.1), "reproduced": False,
    }  # fmt: skip
    assert found["figures"]["F1-C"]["ours"] is None and found["reproduced"] is False
    assert found["published"]["CNN-RNN"] == {"quoted": True, "figures": dict(load_table(2).row("CNN-RNN"))}


@pytest.mark.parametrize(("number", "row"), [(1, "KNN"), (2, "CNN-RNN"), (2, "WARP"), (3, "DHC"), (3, "R*CNN")])
def test_a_row_quoted_from_elsewhere_is_never_claimed(number, row):
    table = load_table(number)
    same = {name: value / 100 for name, value in table.row(row).items()}
    compared = compare_row(same, table, row, table.images, table.classes)
    assert all(figure.reproduced for figure in compared.figures) and not compared
    page = row_page(compared, "text")
    assert "quoted by the paper from elsewhere; not claimed" in page and "not claimed" in cells_of_first(page)
    assert "figures reproduced" not in page
    assert not any(figure["reproduced"] for figure in layout.data(compared)["figures"].values())


def cells_of_first(page: str) -> str:
    return page.splitlines()[3]


def test_the_papers_own_rows_are_not_quoted():
    quoted = [[name for name in load_table(n).rows if load_table(n).quoted(name)] for n in (1, 2, 3)]
    assert quoted == [["KNN", "WARP", "CNN-RNN"], ["WARP", "CNN-RNN"], ["R-CNN", "R*CNN", "DHC"]]


def test_later_methods_are_shown_when_asked_for():
    compared = compare_row(paper_figures(), load_table(2), ROW, 40504, 80)
    page = table_page(compared, "text", later=True)
    assert cells(page, "ML-GCN")[3:6] == ["83.0", "78.0", "85.1"] and cells(page, "DELTA")[3:] == ["71.3"] + ["-"] * 6
    assert layout.data(compared, later=True)["later"]["C-Tran (CVPR, 2021)"]["R-O"] == 76.5
    third = compare_row({"mAP": 0.8, "F1-C": 0.7, "F1-O": 0.7}, load_table(3), ROW, 29177, 14)
    assert "no figures of later methods are known for WIDER-Attribute" in table_page(third, "text", later=True)


@pytest.mark.parametrize("style", ["text", "markdown"])
def test_several_nets_side_by_side_above_the_papers_table(style):
    one, two = paper_figures(), {"mAP": 0.5, "P-O@3": float("nan")}
    page = side_by_side({"small": one, "smaller": two}, load_table(2), heading="Ours", style=style)
    assert page.startswith("Ours\n\n") and "Table 2 of the paper, MS-COCO: 40,504 images, 80 classes" in page
    assert cells(page, "small ")[1:] == [f"{v:.1f}" for v in load_table(2).row(ROW).values()]
    assert cells(page, "smaller")[1:] == ["50.0"] + ["-"] * 10 + ["nan", "-"]
    assert page.index("smaller") < page.index("WARP (quoted)") < page.index("ResNet-SRN ")


def test_unknown_rows_and_tables_are_refused():
    with pytest.raises(UsageError, match="Table 2 has no row 'ResNet-SNR'; did you mean 'ResNet-SRN'"):
        load_table(2).row("ResNet-SNR")
    with pytest.raises(UsageError, match="there is no Table 4"):
        load_table(4)


@pytest.fixture
def data(tmp_path):
    """Scores and labels of 53 images, 7 classes."""
    random = np.random.default_rng(0)
    labels = (random.random((53, CLASSES)) < 0.4).astype(int)
    write_scores(tmp_path / "scores.txt", random.normal(2 * labels - 1.0, 1.5))
    np.savetxt(tmp_path / "labels.txt", labels, fmt="%d")
    return tmp_path


def row_of(monkeypatch, figures: dict[str, float]) -> None:
    """Make the table's row hold these figures, rounded as the paper prints them."""
    table = load_table(2)
    published = {name: round(100 * figures[name], 1) for name in table.row(ROW)}
    changed = replace(table, rows={**table.rows, ROW: published})
    monkeypatch.setattr("verify.tables.command.load_table", lambda number: changed)


def figures_of(data: Path) -> dict[str, float]:
    return evaluate(read_scores(data / "scores.txt"), np.loadtxt(data / "labels.txt"))


def test_reproduced_figures_exit_with_zero_and_others_with_one(data, monkeypatch, capsys):
    command = ["--scores", str(data / "scores.txt"), "--labels", str(data / "labels.txt")]
    assert run(main, command) == 1
    assert "not the test data of MS-COCO, which has 40,504 images, 80 classes" in capsys.readouterr().out
    row_of(monkeypatch, figures_of(data))
    assert run(main, command) == 0
    assert "13 of 13 figures reproduced" in capsys.readouterr().out
    lines = (data / "scores.txt").read_text().splitlines(keepends=True)
    (data / "scores.txt").write_text("".join(lines[1:] + lines[:1]))  # rows shifted by one
    assert run(main, command) == 1
    assert "NOT reproduced" in capsys.readouterr().out


def test_another_row_and_json(data, capsys):
    command = ["--scores", str(data / "scores.txt"), "--labels", str(data / "labels.txt")]
    assert run(main, [*command, "--row", "CNN-RNN", "--format", "json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["row"] == "CNN-RNN" and printed["images"] == 53 and len(printed["figures"]) == 6


@pytest.mark.parametrize(
    ("scores", "labels", "messages"),
    [
        ("1 2\n3 4\n", "0 1\n1 0\n0 0\n", ["scores.txt: 2 rows (images), fewer than the 3 of "]),
        ("1 2\n3 4 5\n", "0 1\n1 0\n", ["scores.txt:2: 3 columns; expected 2"]),
        ("1 nan\n3 4\n", "0 1\n1 2\n", ["scores.txt:1: column 2 is 'nan'", "labels.txt:2: column 2 is '2'"]),
        ("", "0 1\n", ["scores.txt: the file is empty"]),
        ("1 2\n", "0 1 0\n", ["scores.txt: 2 columns (classes), fewer than the 3 of "]),
        (None, None, ["scores.txt: cannot read", "labels.txt: cannot read"]),
    ],
)
def test_bad_files_exit_with_two_and_name_everything(tmp_path, capsys, scores, labels, messages):
    for name, text in (("scores.txt", scores), ("labels.txt", labels)):
        if text is not None:
            (tmp_path / name).write_text(text)
    command = ["--scores", str(tmp_path / "scores.txt"), "--labels", str(tmp_path / "labels.txt")]
    assert run(main, command) == 2
    captured = capsys.readouterr()
    errors = captured.err.splitlines()
    assert captured.out == "" and len(errors) == len(messages)
    assert all(message in error for message, error in zip(messages, errors, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scores", "s"], "--scores given, but not --labels"),
        (["--labels", "l"], "not --prototxt, --caffemodel, --image-list, --image-root; or give --scores"),
        (["--prototxt", "p", "--labels", "l"], "but not --caffemodel, --image-list, --image-root"),
        (["--scores", "s", "--labels", "l", "--caffemodel", "c"], "--caffemodel cannot be combined with"),
        (["--scores", "s", "--labels", "l", "--scores-out", "o"], "--scores-out cannot be combined"),
        (["--root", ".", "--labels", "l"], "--labels cannot be combined with --released"),
        (["--root", ".", "--scores-out", "o"], "--scores-out cannot be combined with --released"),
        (["--row", "ResNet-SRN"], "--row given, but nothing to evaluate"),
        (["--scores", "s", "--labels", "l", "--row", "SRN"], "Table 2 has no row 'SRN'"),
        (["--scores", "s", "--image", "i"], "--scores given, but not --labels. --image cannot be combined"),
    ],
)
def test_options_that_do_not_go_together_are_named(arguments, message, capsys):
    assert run(main, arguments) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def net_files(data):
    """A small net with weights, and 53 lines of images; the last batch of 48 is not full."""
    (data / "net.prototxt").write_text(NET)
    port.save_caffemodel(port.load_net(data / "net.prototxt"), data / "net.caffemodel")
    random = np.random.default_rng(1)
    (data / "images").mkdir()
    for name in "abc":
        array = random.integers(0, 256, (17, 19, 3), dtype=np.uint8)
        Image.fromarray(array).save(data / "images" / f"{name}.png")
    (data / "list.txt").write_text("".join(f"{'abc'[i % 3]}.png 1\n" for i in range(53)))
    return data


def net_command(data: Path) -> list[str]:
    files = {
        "prototxt": "net.prototxt",
        "caffemodel": "net.caffemodel",
        "image-list": "list.txt",
        "image-root": "images",
        "labels": "labels.txt",
    }
    return [part for option, name in files.items() for part in (f"--{option}", str(data / name))]


def test_scores_of_a_net_are_those_of_each_image_alone(net_files):
    net = port.load_net(net_files / "net.prototxt", net_files / "net.caffemodel")
    paths = [net_files / "images" / f"{'abc'[i % 3]}.png" for i in range(53)]
    scores = compute_scores(net, paths, device="cpu")
    assert scores.shape == (53, CLASSES)
    for row in (0, 1, 2, 47, 48, 52):
        image = load_image(paths[row], 11, 13)[None]
        alone = port.run_blobs(net, {"picture": image})["a_score"][0]
        # float32, summed in another order in a batch of another size.
        assert np.abs(scores[row] - alone).max() < 1e-5 * np.abs(alone).max()
    assert np.abs(scores[0] - scores[1]).max() > 1e-2


def test_a_net_is_evaluated_like_the_scores_it_writes(net_files, capsys):
    command = [*net_command(net_files), "--format", "json"]
    assert run(main, [*command, "--scores-out", str(net_files / "mine.txt")]) == 1
    computed = json.loads(capsys.readouterr().out)
    assert read_scores(net_files / "mine.txt").shape == (53, CLASSES)
    files = ["--scores", str(net_files / "mine.txt"), "--labels", str(net_files / "labels.txt")]
    assert run(main, [*files, "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["figures"] == computed["figures"]


def test_everything_is_checked_before_anything_is_computed(net_files, capsys, monkeypatch):
    for name in ("port.scoring.compute_scores", "port.scoring.run.score", "port.scoring.engines.TorchEngine.run"):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("computed"))
    (net_files / "net.caffemodel").unlink()
    (net_files / "images" / "b.png").unlink()
    (net_files / "labels.txt").write_text("0 1 3\n")
    assert run(main, [*net_command(net_files), "--scores-out", str(net_files)]) == 2
    errors = capsys.readouterr().err
    for part in ("list.txt:2: there is no image", "column 3 is '3'", "net.caffemodel: there is no such file"):
        assert part in errors
    assert f"{net_files}: is a folder" in errors


def test_labels_of_another_width_or_length_are_refused(net_files, capsys, monkeypatch):
    monkeypatch.setattr("port.scoring.compute_scores", lambda *_, **__: pytest.fail("computed"))
    (net_files / "labels.txt").write_text("0 1 0\n")
    assert run(main, net_command(net_files)) == 2
    errors = capsys.readouterr().err
    assert "1 lines; expected 53" in errors and "3 columns; expected 7, as output 'a_score'" in errors


def test_an_unreadable_image_ends_the_run_without_scores(net_files, capsys):
    (net_files / "images" / "c.png").write_bytes(b"no image")
    assert run(main, [*net_command(net_files), "--scores-out", str(net_files / "mine.txt")]) == 2
    errors = capsys.readouterr().err
    assert errors.count("c.png: cannot be read: in no known image format") == 1 and "(17 times" in errors  # of 53 lines
    assert not (net_files / "mine.txt").exists()


def test_written_scores_are_gone_on_with(net_files, capsys, monkeypatch):
    """What an interrupted run computed is not computed again."""
    command = [*net_command(net_files), "--scores-out", str(net_files / "mine.txt"), "--format", "json"]
    (net_files / "images" / "last.png").write_bytes(b"no image")
    listed = (net_files / "list.txt").read_text().splitlines()
    (net_files / "list.txt").write_text("\n".join([*listed[:-1], "last.png 1"]) + "\n")  # in the second batch
    assert run(main, command) == 2 and (net_files / "mine.txt.part").exists()
    assert "only their batches are computed" in capsys.readouterr().err
    blocks = []
    compute = TorchEngine.run
    monkeypatch.setattr(TorchEngine, "run", lambda *a: (blocks.append(1), compute(*a))[1])
    Image.fromarray(np.full((17, 19, 3), 99, np.uint8)).save(net_files / "images" / "last.png")
    assert run(main, command) == 1 and len(blocks) == 1
    assert json.loads(capsys.readouterr().out)["images"] == 53  # and nothing else is printed
    assert read_scores(net_files / "mine.txt").shape == (53, CLASSES) and not (net_files / "mine.txt.part").exists()


def test_a_net_without_an_image_input_is_refused(net_files, capsys):
    text = NET.replace("dim: 3 dim: 11", "dim: 4 dim: 11")
    (net_files / "net.prototxt").write_text(text)
    port.save_caffemodel(port.load_net(net_files / "net.prototxt"), net_files / "net.caffemodel")
    assert run(main, net_command(net_files)) == 2
    assert "expected one, of shape (N, 3, height, width)" in capsys.readouterr().err


def test_an_absent_device_is_refused(net_files, capsys):
    assert run(main, [*net_command(net_files), "--device", "abacus"]) == 2
    assert "the device 'abacus' is unknown; expected cpu, cuda or cuda:N" in capsys.readouterr().err


@pytest.mark.parametrize("status", [0, 1])
def test_without_files_the_example_runs_and_its_status_counts(monkeypatch, capsys, status):
    calls = []
    module = types.ModuleType("verify.example.embedded")
    module.run = lambda image=None: calls.append(image) or status
    monkeypatch.setitem(sys.modules, "verify.example.embedded", module)
    monkeypatch.setattr("verify.example.embedded", module, raising=False)
    assert run(main, []) == status
    assert run(main, ["--image", "cat.jpg"]) == status
    assert calls == [None, Path("cat.jpg")]
    output = capsys.readouterr().out
    assert all(file.path in output for file in manifest.load("coco"))
    assert manifest.load("coco")[0].archive.drive_url in output and "val2014" in output


def test_it_runs_as_a_script_from_anywhere(tmp_path):
    script = Path(__file__).parents[3] / "verify" / "reproduce_table2.py"
    command = [sys.executable, str(script), "--scores", "none.txt", "--labels", "none.txt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={}, timeout=60)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: none.txt: cannot read") and "Traceback" not in done.stderr
