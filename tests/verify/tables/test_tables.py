"""The commands of Tables 1 to 3: data sets, index lists, other definitions, intervals, classes, pictures."""

from __future__ import annotations

import csv
import json
import re
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from prototxt_gen.base.command import run
from verify.evaluation.bootstrap import bootstrap
from verify.evaluation.definitions import by_definition
from verify.evaluation.scores import write_scores
from verify.metrics import evaluate
from verify.tables import load_table

IMAGES, CLASSES = 61, 5


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    """Whatever terminal the tests run in."""
    monkeypatch.setenv("COLUMNS", "500")


def main(number: int):
    return import_module(f"verify.reproduce_table{number}").main


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Scores, baseline scores and labels in the current folder."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(8)
    labels = (random.random((IMAGES, CLASSES)) < 0.4).astype(int)
    scores = np.round(random.normal(2 * labels - 1.4, 1.5), 6)
    write_scores("scores.txt", scores)
    write_scores("base.txt", np.round(scores + random.normal(size=scores.shape), 6))
    np.savetxt("labels.txt", labels, fmt="%d")
    np.savetxt("wider.txt", np.where(labels == 1, 1, np.where(random.random(labels.shape) < 0.3, 0, -1)), fmt="%d")
    (tmp_path / "names.txt").write_text("".join(f"name {n}\n" for n in range(CLASSES)))
    return tmp_path


FILES = ["--scores", "scores.txt", "--labels", "labels.txt"]


def arrays(labels: str = "labels.txt", scores: str = "scores.txt"):
    return np.loadtxt(scores), np.loadtxt(labels)


def printed(capsys, number: int, *options: str, status: int = 1):
    assert run(main(number), [*options, "--format", "json"]) == status
    return json.loads(capsys.readouterr().out)


def ours(found) -> dict[str, float]:
    return {name: figure["ours"] for name, figure in found["figures"].items()}


def wanted(figures, number: int):
    return pytest.approx({name: 100 * figures[name] for name in load_table(number).columns}, abs=1e-9)


# -- the three data sets ------------------------------------------------------------------------------------
def test_each_table_evaluates_as_its_data_set_is(data, capsys):
    scores, labels = arrays()
    with_threshold, without = (evaluate(scores, labels, top3_threshold=t) for t in (True, False))
    assert with_threshold["P-C@3"] != without["P-C@3"]
    assert ours(printed(capsys, 1, *FILES)) == wanted(without, 1)
    assert ours(printed(capsys, 2, *FILES)) == wanted(with_threshold, 2)
    wider = evaluate(scores, np.loadtxt("wider.txt"), "wider")
    assert ours(printed(capsys, 3, "--scores", "scores.txt", "--labels", "wider.txt")) == wanted(wider, 3)
    assert wider["mAP"] != with_threshold["mAP"]


def test_labels_of_another_protocol_are_refused(data, capsys):
    assert run(main(2), ["--scores", "scores.txt", "--labels", "wider.txt"]) == 2
    assert "expected 0 or 1. Labels with -1 are WIDER-Attribute's; elsewhere 0 means absent" in capsys.readouterr().err


INDEX = [3, 1, 61, 17, 20, 44, 45, 46, 47, 5]  # from 1, in no order


def test_scores_and_labels_of_other_files_give_the_same(data, capsys):
    scores, labels = arrays()
    np.savez("both.npz", scores=scores, labels=labels)
    np.savetxt("scores.csv", scores, delimiter=",", header="a,b,c,d,e", comments="")
    text = printed(capsys, 2, *FILES)["figures"]
    assert printed(capsys, 2, "--scores", "both.npz", "--labels", "both.npz")["figures"] == text
    assert printed(capsys, 2, "--scores", "scores.csv", "--labels", "both.npz")["figures"] == text


def test_probabilities_are_noticed(data, capsys):
    scores, _ = arrays()
    assert not any("probabilities" in note for note in printed(capsys, 2, *FILES)["notes"])
    np.save("p.npy", 1 / (1 + np.exp(-scores)))
    found = printed(capsys, 2, "--scores", "p.npy", "--labels", "labels.txt")
    assert any("as probabilities do; they are taken for logits" in note for note in found["notes"])
    assert found["figures"]["R-C"]["ours"] == pytest.approx(100)


@pytest.mark.parametrize("version", ["v5 row", "v5 column", "v7.3"])
def test_the_index_of_nus_wide_selects_the_rows(data, capsys, version):
    if version == "v7.3":
        with h5py.File("index.mat", "w", userblock_size=512) as file:
            file["idx_final_test"] = np.array(INDEX, float)[None]
    else:
        shape = (1, -1) if version == "v5 row" else (-1, 1)
        savemat("index.mat", {"idx_final_test": np.array(INDEX, float).reshape(shape)})
    scores, labels = arrays()
    rows = np.array(INDEX) - 1
    found = printed(capsys, 1, *FILES, "--index", "index.mat")
    assert ours(found) == wanted(evaluate(scores[rows], labels[rows], top3_threshold=False), 1)
    assert found["images"] == 10 and any("10 of 61 images, those of index.mat" in note for note in found["notes"])
    off_by_one = evaluate(scores[rows - 1], labels[rows - 1], top3_threshold=False)
    assert ours(found)["mAP"] != pytest.approx(100 * off_by_one["mAP"], abs=0.01)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"idx_final_test": [[1, 62]]}, "expected 1 to 61"),
        ({"idx_final_test": [[0, 2]]}, "expected 1 to 61"),
        ({"idx_final_test": [[1.5, 2]]}, "no integers"),
        ({"idx_test": [[1, 2]]}, "no variable idx_final_test"),
    ],
)
def test_bad_indices_are_refused(data, capsys, held, message):
    savemat("index.mat", {name: np.array(values, float) for name, values in held.items()})
    assert run(main(1), [*FILES, "--index", "index.mat"]) == 2
    error = capsys.readouterr().err
    assert "index.mat: " in error and message in error


def test_an_index_belongs_to_table_1_alone(data, capsys):
    with pytest.raises(SystemExit):
        main(2)([*FILES, "--index", "index.mat"])
    assert "unrecognized arguments" in capsys.readouterr().err
    assert run(main(1), ["--index", "index.mat"]) == 2
    assert "--index given, but nothing to evaluate" in capsys.readouterr().err


# -- beside the table ---------------------------------------------------------------------------------------
def test_definitions_are_printed_and_in_the_data(data, capsys):
    found = printed(capsys, 1, *FILES, "--definitions")["definitions"]
    direct = by_definition(*arrays(), top3_threshold=False)
    assert [each["key"] for each in found] == [each.key for each in direct]
    assert found[1]["figures"] == pytest.approx({"mAP": 100 * direct[1].figures["mAP"]}, abs=1e-9)
    assert set(found[0]) == {"key", "definition", "used_by", "authors", "figures"}
    for style in ("text", "markdown"):
        assert run(main(1), [*FILES, "--definitions", "--format", style]) == 1
        page = capsys.readouterr().out
        assert all(each.text in page and each.used_by in page for each in direct)
        (line,) = (line for line in page.splitlines() if "> all of the top 3" in line)
        assert f"{100 * direct[-2].figures['P-O@3']:.2f}" in line


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("width", [80, 100, 120])
def test_pages_fit_the_terminal(data, capsys, monkeypatch, number, width):
    files = ["--scores", "scores.txt", "--labels", "wider.txt" if number == 3 else "labels.txt", "--later"]
    told = [*files, "--definitions", "--bootstrap", "3"]
    assert run(main(number), told) == 1
    wide = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", str(width))
    assert run(main(number), told) == 1
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= width < max(map(len, wide.splitlines()))
    # Nothing is lost: every figure once, every word (rows of a table that is cut are named twice).
    assert sorted(re.findall(r"[-+]?\d+\.\d+", page)) == sorted(re.findall(r"[-+]?\d+\.\d+", wide))
    assert set(page.split()) == set(wide.split())


def test_without_being_asked_for_nothing_is_added(data, capsys):
    assert not {"definitions", "bootstrap", "later"} & set(printed(capsys, 2, *FILES))


def test_intervals(data, capsys):
    found = printed(capsys, 2, *FILES, "--bootstrap", "30", "--seed", "5")
    direct = bootstrap(*arrays(), resamples=30, seed=5)
    assert found["figures"]["mAP"]["interval"] == pytest.approx([100 * v for v in direct.figures["mAP"]], abs=1e-9)
    assert set(found["bootstrap"]["intervals"]) == set(load_table(2).columns)
    assert found["bootstrap"]["resamples"] == 30 and found["bootstrap"]["seed"] == 5
    assert run(main(2), [*FILES, "--bootstrap", "30", "--row", "ResNet-101"]) == 1
    page = capsys.readouterr().out
    assert " to " in page and "95 % percentile intervals of 30 resamples of 61 images, seed 0" in page
    assert run(main(2), [*FILES, "--bootstrap", "30"]) == 1
    page = capsys.readouterr().out
    assert "  95 % from " in page and "  95 % to " in page


def test_figures_of_each_class(data, capsys):
    named = ["--class-names", "names.txt", "--baseline-scores", "base.txt"]
    assert run(main(2), [*FILES, "--per-class", "c.csv", "--picture", "p.png", *named]) == 1
    assert "figures of each class: c.csv" in capsys.readouterr().err
    rows = list(csv.DictReader(Path("c.csv").read_text().splitlines()))
    scores, labels = arrays()
    ap, before = evaluate(scores, labels)["AP"], evaluate(np.loadtxt("base.txt"), labels)["AP"]
    assert [row["name"] for row in rows] == [f"name {n}" for n in range(CLASSES)]
    assert [float(row["AP"]) for row in rows] == pytest.approx(list(ap), abs=1e-6)
    assert [float(row["improvement"]) for row in rows] == pytest.approx(list(ap - before), abs=1e-6)
    with Image.open("p.png") as improvement:
        size = improvement.size
    assert run(main(2), [*FILES, "--picture", "q.png"]) == 1
    with Image.open("q.png") as alone:
        assert alone.size != size


def test_a_long_path_does_not_widen_a_picture(data, capsys):
    deep = data.joinpath(*["a folder with a long name"] * 8, "scores.txt")
    deep.parent.mkdir(parents=True)
    deep.write_bytes((data / "scores.txt").read_bytes())
    for scores, picture in (("scores.txt", "short.png"), (deep, "deep.png")):
        assert run(main(2), ["--scores", str(scores), "--labels", "labels.txt", "--picture", picture]) == 1
    with Image.open("short.png") as short, Image.open("deep.png") as long:
        assert short.size == long.size


def test_baseline_scores_follow_the_index(data, capsys):
    savemat("index.mat", {"idx_final_test": np.array([INDEX], float)})
    options = [*FILES, "--index", "index.mat", "--baseline-scores", "base.txt", "--per-class", "c.csv"]
    assert run(main(1), options) == 1
    rows = np.array(INDEX) - 1
    wanted_ap = evaluate(np.loadtxt("base.txt")[rows], np.loadtxt("labels.txt")[rows])["AP"]
    found = [float(row["baseline_AP"] or "nan") for row in csv.DictReader(Path("c.csv").read_text().splitlines())]
    assert found == pytest.approx(list(wanted_ap), abs=1e-6, nan_ok=True)
    write_scores("base.txt", np.loadtxt("base.txt")[:30])
    assert run(main(1), options) == 2
    assert "base.txt: 30 images, 5 classes; expected 10 and 5" in capsys.readouterr().err


def test_baseline_scores_follow_an_index_that_only_moves_the_images(data, capsys):
    order = np.random.default_rng(3).permutation(IMAGES)
    savemat("index.mat", {"idx_final_test": (order + 1.0)[None]})
    options = [*FILES, "--index", "index.mat", "--baseline-scores", "base.txt", "--per-class", "c.csv"]
    assert run(main(1), options) == 1
    wanted_ap = evaluate(np.loadtxt("base.txt"), np.loadtxt("labels.txt"))["AP"]
    found = [float(row["baseline_AP"]) for row in csv.DictReader(Path("c.csv").read_text().splitlines())]
    assert found == pytest.approx(list(wanted_ap), abs=1e-6)


BAD = [
    (["--picture", "p.gif"], ["p.gif: a picture cannot be written as '.gif'; expected a name ending in .png"]),
    (["--per-class", "."], [".: is a folder"]),
    (["--per-class", "scores.txt"], ["scores.txt: is read by this run, and would be lost. Choose another name"]),
    (["--per-class", "x" * 300], ["cannot be written: File name too long"]),
    (["--per-class", "/dev/null"], ["/dev/null: is a device or a pipe"]),
    (
        ["--per-class", "c.csv", "--class-names", "names.txt", "--picture", "./names.txt"],
        ["names.txt: is read by this"],
    ),
    (["--row", ""], ["Table 2 has no row ''"]),
    (["--per-class", "x.png", "--picture", "x.png"], ["x.png: both --per-class and --picture"]),
    (["--per-class", "c.csv", "--class-names", "coco"], ["80 names; expected 5"]),
    (["--per-class", "c.csv", "--class-names", "absent"], ["absent: cannot read"]),
    (["--per-class", "c.csv", "--baseline-scores", "absent"], ["absent: cannot read"]),
    (["--class-names", "coco"], ["--class-names given, but not --per-class or --picture"]),
    (["--baseline-scores", "b"], ["--baseline-scores given, but not --per-class or --picture"]),
    (["--seed", "0"], ["--seed given, but not --bootstrap"]),
    (["--bootstrap", "1"], ["1 resamples, seed 0; expected 2 or more"]),
    (["--bootstrap", "0"], ["0 resamples, seed 0; expected 2 or more"]),
    (["--bootstrap", "9", "--seed", "-1"], ["9 resamples, seed -1; expected"]),
]


@pytest.mark.parametrize(("options", "messages"), BAD)
def test_bad_options_leave_no_file(data, capsys, options, messages):
    before = sorted(Path().iterdir())
    assert run(main(2), [*FILES, *options]) == 2
    error = capsys.readouterr().err
    assert all(message in error for message in messages) and sorted(Path().iterdir()) == before


def test_later_methods(data, capsys):
    assert printed(capsys, 2, *FILES, "--later")["later"]["ML-GCN (CVPR, 2019)"]["mAP"] == 83.0
    assert printed(capsys, 3, "--scores", "scores.txt", "--labels", "wider.txt", "--later")["later"] == {}
