"""Damage to a release that looks like something else: the fault is named as what it is, and nothing is proved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_up_release import MEAN, as_published, made_up_release, resized
from scipy.io import loadmat, savemat

import port
from reference_weights import manifest
from verify.released.forms import fitted, single_values
from verify.released.net import NetOptions
from verify.released.run import check_release


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A release of MS-COCO, made once."""
    return made_up_release(tmp_path_factory.mktemp("judged") / "coco", "coco", 30)


@pytest.fixture
def coco(made, tmp_path):
    """One that a test may damage."""
    return made.copy(tmp_path)


def check(release, net=True):
    options = NetOptions(release.images, device="cpu", sample=6) if net else None
    return check_release(release.root, release.table, options, quiet=True)


def only(report):
    assert len(report.faults) == 1, [fault.lines() for fault in report.faults]
    assert report.status != 0
    return report.faults[0]


def change(path, edit, fmt="%.6f"):
    np.savetxt(path, edit(np.loadtxt(path)), fmt=fmt)


# -- the predictions -------------------------------------------------------------------------------------------
def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (lambda s: 100 / (1 + np.exp(-s)), "probabilities in percent"),
        (softmax, "softmax over the classes"),
        (lambda s: -s, "with the opposite sign"),
        (lambda s: s + 0.3, "times 1.0000, plus 0.3000"),
        (lambda s: 0.25 * s - 1, "times 0.2500, minus 1.0000"),
        (lambda s: s.round(2), "rounded to 2 decimals"),
    ],
)
def test_other_forms_of_the_scores_are_named(coco, form, words):
    change(coco.predictions, form)
    fault = only(check(coco))
    assert fault.kind == "form" and words in fault.text, fault


def test_without_a_net_probabilities_and_signs_are_seen(coco):
    logits = np.loadtxt(coco.predictions)
    for form in (lambda s: 1 / (1 + np.exp(-s)), lambda s: 100 / (1 + np.exp(-s))):
        np.savetxt(coco.predictions, form(logits), fmt="%.6f")
        fault = only(check(coco, net=False))
        assert fault.kind == "form" and fault.file == coco.predictions and "no score is below 0" in fault.text
    np.savetxt(coco.predictions, -logits, fmt="%.6f")
    fault = only(check(coco, net=False))
    assert fault.kind == "form" and fault.file == coco.predictions and "opposite sign" in fault.text


def test_a_single_value_is_no_decoder(coco):
    def one(scores):
        scores[20, 3] += 1
        return scores

    change(coco.predictions, one)
    fault = only(check(coco))
    assert fault.kind == "values" and fault.evidence[0].startswith("line 21, column 4: ")


def test_a_class_of_its_own_is_named(coco):
    def column(scores):
        scores[:, 7] = scores[::-1, 7]
        return scores

    change(coco.predictions, column)
    report = check(coco)
    assert [fault.kind for fault in report.faults] == ["values"] and "column 8 alone" in report.faults[0].text


def test_two_exchanged_columns_are_columns(coco):
    change(coco.predictions, lambda scores: scores[:, [*range(3), 5, 4, 3, *range(6, 80)]])
    report = check(coco)
    assert report.faults[0].kind == "columns" and "2 columns of the predictions" in report.faults[0].text


def test_the_same_scores_everywhere_are_damage(coco):
    change(coco.predictions, lambda scores: np.tile(scores[3], (30, 1)))
    fault = only(check(coco))
    assert fault.kind == "damaged" and fault.file == coco.predictions and "same scores" in fault.text


def test_a_line_that_stands_twice_blames_the_predictions_alone(coco):
    lines = coco.lines(coco.predictions)
    coco.rewrite(coco.predictions, [lines[0], *lines[:-1]])
    for net in (False, True):
        fault = only(check(coco, net))
        assert fault.kind == "order" and fault.file == coco.predictions
        assert "1 line further down" in "".join([fault.text, *fault.evidence])


def test_the_mean_in_the_wrong_order_is_named(coco):
    coco.predict(lambda path: as_published(path) + np.array(MEAN)[:, None, None] - np.array(MEAN[::-1])[:, None, None])
    fault = only(check(coco))
    assert fault.kind == "mean" and "in the order RGB: 123, 117, 104" in fault.text


def test_what_is_equal_or_differs_everywhere_is_no_single_value():
    scores = np.random.default_rng(0).normal(size=(6, 40))
    assert single_values(scores, scores, 1e-3) is None
    assert single_values(scores, scores + 0.1, 1e-3) is None
    noise = np.random.default_rng(1).normal(size=scores.shape) * 4e-4  # some of it beyond the tolerance
    assert single_values(scores, scores + noise, 1e-3) is None
    changed = scores.copy()
    changed[4, 11] = np.pi
    assert single_values(scores, changed, 1e-3).places.tolist() == [[4, 11]]
    few = scores[:1, :14].copy()
    few[0, 3] += 1
    assert single_values(scores[:1, :14], few, 1e-3).places.tolist() == [[0, 3]]
    assert next(text for text, _ in fitted(scores, scores.round(3))) == "rounded to 3 decimals"
    assert not any("rounded" in text for text, _ in fitted(scores, scores.round(6)))


# -- the labels and the list -----------------------------------------------------------------------------------
def test_labels_without_a_positive_are_damage(coco):
    change(coco.labels, lambda labels: labels * 0, fmt="%d")
    fault = only(check(coco, net=False))
    assert fault.kind == "damaged" and fault.file == coco.labels and "no label is 1" in fault.text


@pytest.mark.parametrize("net", [False, True])
def test_exchanged_labels_are_not_in_another_order(coco, net):
    change(coco.labels, lambda labels: 1 - labels, fmt="%d")
    fault = only(check(coco, net))
    assert fault.kind == "form" and fault.file == coco.labels and "exchanged" in fault.text


def test_numbers_that_are_no_tags_do_not_put_the_list_in_another_order(coco):
    coco.rewrite(coco.list, [line.split()[0] + " 0" for line in coco.lines(coco.list)])
    for net in (False, True):
        fault = only(check(coco, net))
        assert fault.kind == "tags" and fault.file == coco.list and "30 of 30 lines" in fault.text


def test_shuffled_labels_are_told_beside_probabilities(coco):
    change(coco.predictions, lambda s: 1 / (1 + np.exp(-s)))
    coco.reorder(coco.labels, np.random.default_rng(5).permutation(30))
    report = check(coco)
    assert [(fault.kind, fault.file) for fault in report.faults] == [("form", None), ("order", coco.labels)]


def test_a_list_with_tabs_is_read(coco):
    coco.rewrite(coco.list, [line.replace(" ", "\t") for line in coco.lines(coco.list)])
    assert check(coco).status == 0


# -- the files and the images ----------------------------------------------------------------------------------
@pytest.mark.parametrize("place", [0.5, -1])
def test_a_hole_in_the_weights_is_no_decoder(coco, place):
    net = port.load_net(coco.prototxt, coco.caffemodel)
    weights = [(name, blobs[0].data) for name, blobs in port.params(net).items() if blobs[0].numel() > 1000]
    name, weight = weights[int(place * len(weights)) if place > 0 else -1]
    weight.view(-1)[200:500] = 0
    port.save_caffemodel(net, coco.caffemodel)
    fault = only(check(coco))
    assert fault.kind == "damaged" and fault.file == coco.caffemodel
    assert f"layer '{name}'" in fault.evidence[0] and "300 of " in fault.evidence[0]


def test_one_other_image_does_not_accuse_the_weights(coco):
    def other(scores):
        scores[11] = np.random.default_rng(2).normal(0, 3, 80)
        return scores

    change(coco.predictions, other)
    fault = only(check(coco))
    assert fault.kind == "images" and "29 of 30 images agree, so the net is right" in fault.text


def test_images_under_other_names_are_found(coco):
    names = [line.split()[0] for line in coco.lines(coco.list)]
    tags = [line.split()[1] for line in coco.lines(coco.list)]
    for other in (lambda n: n.replace("/", "\\"), lambda n: "home/data/" + n, lambda n: n.rpartition(".")[0] + ".JPG"):
        coco.rewrite(coco.list, [f"{other(name)} {n}" for name, n in zip(names, tags, strict=True)])
        fault = only(check(coco))
        assert fault.kind == "missing" and f"there is {names[0]}: the list has other paths" in fault.fix


def test_a_file_in_another_place_is_found(coco):
    deeper = coco.root / "models" / "trained" / coco.caffemodel.name
    deeper.parent.mkdir()
    coco.caffemodel.rename(deeper)
    fault = only(check(coco))
    assert fault.kind == "missing" and fault.file == coco.caffemodel and f"is it {deeper}?" in fault.fix
    coco.list.rename(coco.list.with_suffix(".lst"))
    missing = {file.role: file for file in manifest.missing(coco.root)}
    assert manifest.elsewhere(missing["image_list"], coco.root) == [coco.list.with_suffix(".lst")]
    assert manifest.elsewhere(replace(missing["image_list"], path="datasets/coco/other.txt"), coco.root) == []


def test_a_small_change_that_no_jpeg_decoder_made_is_not_called_one(coco):
    only_png = [i for i, line in enumerate(coco.lines(coco.list)) if ".png" in line]
    for path in (coco.list, coco.labels, coco.predictions):
        lines = coco.lines(path)
        coco.rewrite(path, [lines[i] for i in only_png])
    noise = np.random.default_rng(0)
    coco.predict(
        lambda path: 255 * resized(path)[::-1] - np.array(MEAN)[:, None, None] + noise.normal(0, 0.3, (3, 224, 224))
    )
    report = check(coco)
    assert "unexplained" in {fault.kind for fault in report.faults}, report.render("text")


@pytest.mark.parametrize("net", [False, True])
def test_without_its_index_nus_wide_is_not_run(tmp_path_factory, tmp_path, net):
    release = made_up_release(tmp_path_factory.getbasetemp() / "nus_wide", "nus_wide", 30).copy(tmp_path)
    rows = loadmat(release.index)["idx_final_test"]
    damages = {
        "missing": release.index.unlink,
        "damaged": lambda: release.index.write_text("1\n2\n"),
        "rows from 0": lambda: savemat(release.index, {"idx_final_test": rows - rows.min()}),
    }
    for words, damage in damages.items():
        damage()
        report = check(release, net)
        fault = only(report)
        assert words in f"{fault.kind} {fault.text}" and fault.file == release.index and report.status == 2
        assert report.evaluation is None and report.agreement is None and report.figures is None


def test_labels_of_0_and_1_are_none_where_0_is_unspecified(tmp_path_factory, tmp_path):
    release = made_up_release(tmp_path_factory.getbasetemp() / "wider_att", "wider_att", 30).copy(tmp_path)
    change(release.labels, lambda labels: labels == 1, fmt="%d")
    fault = only(check(release, net=False))
    assert fault.kind == "damaged" and fault.file == release.labels and "no label is -1" in fault.text
