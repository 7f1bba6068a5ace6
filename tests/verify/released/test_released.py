"""A made-up release of the authors, proved as it is; and the fault named when one of its files is not right."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from made_up_release import MEAN, NUMBERS, ROW, as_published, made_up_release, resized

import port
from prototxt_gen.base.errors import DataError
from reference_weights import manifest
from verify.released.net import NetOptions
from verify.released.run import check_release
from verify.tables import load_table

SHIFTED = np.random.default_rng(5).permutation(30)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The release of a data set, made once."""
    folder = tmp_path_factory.mktemp("made")
    return lambda dataset: made_up_release(folder / dataset, dataset, 30)


@pytest.fixture
def coco(made, tmp_path):
    """A release of MS-COCO that a test may damage."""
    return made("coco").copy(tmp_path)


def check(release, net=True, **options):
    chosen = NetOptions(release.images, device="cpu", **options) if net else None
    return check_release(release.root, release.table, chosen, quiet=True)


def only(report):
    """The one fault of a report."""
    assert len(report.faults) == 1, [fault.lines() for fault in report.faults]
    return report.faults[0]


# -- as it should be -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dataset", NUMBERS)
def test_a_release_is_proved(made, dataset):
    release = made(dataset)
    report = check(release)
    assert report.faults == [] and report.status == 0, report.render("text")
    assert report.evaluation and report.figures and report.agreement and report.diagnosis is None
    assert len(report.agreement.rows) == report.evaluation.images == 30 and not report.agreement.is_sample
    # float32 beside float64, in a net without the calm of trained weights
    assert 0 < report.agreement.largest.max() < 2e-4
    assert len(report.same_figures) == len(release.table.rows[ROW]) == (3 if dataset == "wider_att" else 13)
    assert "dialect srn" in report.about and "yes, 30 of 30 images" in report.render("text")


def test_nus_wide_is_restricted_to_the_images_of_the_index(made, tmp_path):
    release = made("nus_wide").copy(tmp_path)
    report = check(release, net=False)
    assert report.status == 0 and report.evaluation.images == 30 and len(report.release.names) == 36
    assert "30 of 36 images" in report.render("text")
    release.index.unlink()
    report = check(release, net=False)
    assert report.status == 2 and report.evaluation is None
    assert only(report).kind == "missing" and only(report).file == release.index


def test_without_images_only_the_evaluation_is_proved(made):
    report = check(made("coco"), net=False)
    assert report.status == 0 and report.figures is None and report.agreement is None
    assert "the net is not run" in report.render("text")


def test_papers_figures_that_are_not_met_are_told_from_a_net_that_is_right(made):
    release = made("coco")
    report = check_release(release.root, load_table(2), NetOptions(release.images, device="cpu"), quiet=True)
    assert report.status == 1 and not report.evaluation and not report.figures and report.agreement
    assert report.faults == [] and len(report.same_figures) == 13
    text = report.render("text")
    assert "the authors' scores give the paper's figures: NO" in text
    assert "the labels or the evaluation, not in the net" in text and "not the test data of MS-COCO" in text


# -- a damaged file --------------------------------------------------------------------------------------------
def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def edit(path, old, new, count=1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def weights_with(release, value):
    """One weight of the release's net changed to `value`, in place."""
    net = port.load_net(release.prototxt, release.caffemodel)
    layer, blobs = next((name, blobs) for name, blobs in port.params(net).items() if blobs[0].dim() == 4)
    blobs[0].data.view(-1)[3] = value
    port.save_caffemodel(net, release.caffemodel)
    return layer


DAMAGE = {
    "prototxt": (lambda r: cut(r.prototxt), "prototxt", "damaged"),
    "prototxt of another Caffe": (lambda r: edit(r.prototxt, '"ReLU"', '"ReLOO"'), "prototxt", "reloo"),
    "weights cut off": (lambda r: cut(r.caffemodel), "caffemodel", "damaged"),
    "weights emptied": (lambda r: r.caffemodel.write_bytes(b""), "caffemodel", "empty"),
    "weights with NaN": (lambda r: weights_with(r, float("nan")), "caffemodel", "values such as nan"),
    "weights with a flipped bit": (lambda r: weights_with(r, 3e38), "caffemodel", "such as 3e+38"),
    "predictions cut off": (lambda r: cut(r.predictions), "predictions", "columns|lines"),
    "predictions short": (lambda r: r.rewrite(r.predictions, r.lines(r.predictions)[:-3]), "predictions", "27 lines"),
    "predictions with NaN": (
        lambda r: edit(r.predictions, r.lines(r.predictions)[4].split()[0], "nan"), "predictions", "'nan'",
    ),
    "labels with 2": (lambda r: edit(r.labels, "1", "2"), "labels", "is '2'"),
    "labels of a column less": (
        lambda r: r.rewrite(r.labels, [line[:-2] for line in r.lines(r.labels)]), "labels", "79 columns; expected 80",
    ),
    "list without numbers": (
        lambda r: r.rewrite(r.list, [line.split()[0] for line in r.lines(r.list)]), "list", "number of tags",
    ),
    "list short": (lambda r: r.rewrite(r.list, r.lines(r.list)[:-1]), "list", "29 lines"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_named(coco, name):
    damage, file, words = DAMAGE[name]
    damage(coco)
    of_net = file in ("prototxt", "caffemodel")
    report = check(coco, net=of_net)
    fault = only(report)
    assert fault.kind == "damaged" and fault.file == getattr(coco, file) and report.status == 2
    text = "\n".join(fault.lines())
    assert any(each in text.lower() for each in words.split("|")), text
    # what does not need the file is done all the same
    assert (report.evaluation is None) == (file in ("predictions", "labels"))
    assert report.figures is None


def test_several_damaged_files_are_all_named(coco):
    cut(coco.caffemodel)
    coco.labels.write_bytes(b"\xff\xfe")
    report = check(coco)
    assert {fault.file for fault in report.faults} == {coco.caffemodel, coco.labels} and report.status == 2


def test_a_recorded_hash_is_checked(coco, monkeypatch):
    recorded = tuple(replace(f, sha256="00") if f.path.endswith("coco_test_label.txt") else f for f in manifest.load())
    monkeypatch.setattr(manifest, "_released", lambda: recorded)
    fault = only(check(coco, net=False))
    assert fault.kind == "damaged" and fault.file == coco.labels and "sha256 00 expected" in fault.text


def test_another_data_sets_files_are_recognised(made, coco, tmp_path):
    other = made("wider_att")
    coco.caffemodel.write_bytes(other.caffemodel.read_bytes())
    fault = only(check(coco))
    assert fault.kind == "other data set" and fault.file == coco.caffemodel
    assert "the weights are for 14 classes; expected 80" in fault.text and "WIDER-Attribute" in fault.text
    coco.prototxt.write_bytes(other.prototxt.read_bytes())
    assert only(check(coco)).file == coco.prototxt
    coco.prototxt.write_bytes(made("coco").prototxt.read_bytes())
    coco.caffemodel.write_bytes(made("coco").caffemodel.read_bytes())
    coco.predictions.write_bytes(other.predictions.read_bytes())
    report = check(coco)
    assert only(report).file == coco.predictions and report.status == 2 and report.figures


def test_missing_files_and_images_are_named(coco):
    coco.caffemodel.unlink()
    report = check(coco)
    assert only(report).kind == "missing" and only(report).file == coco.caffemodel and report.evaluation
    for path in (coco.predictions, coco.labels, coco.list):
        path.unlink()
    with pytest.raises(DataError, match=r"coco_test_label\.txt: there is no such file; expected test labels"):
        check(coco)
    with pytest.raises(DataError, match="is not a folder"):
        check(replace(coco, root=coco.root / "nowhere"))


def test_a_wrong_image_root_is_named_with_the_right_one(coco):
    fault = only(check(replace(coco, images=coco.images / "val")))
    assert fault.kind == "missing" and "30 of the 30 images" in fault.text
    assert fault.fix == f"is it --image-root {coco.images}?"


def test_a_net_without_the_authors_scores_is_held_against_the_paper(coco):
    coco.predictions.unlink()
    report = check(coco)
    assert report.status == 0 and report.figures and report.agreement is None and report.evaluation is None
    assert "the net is not held against them" in report.render("text")


# -- files in different orders ---------------------------------------------------------------------------------
def test_a_shuffled_list_is_named(coco):
    coco.reorder(coco.list, SHIFTED)
    report = check(coco)
    fault = only(report)
    assert fault.kind == "order" and fault.file == coco.list and report.status == 1
    assert fault.text == "the image list is in another order than the predictions"
    moved = np.flatnonzero(np.arange(30) != SHIFTED)[0]
    name = coco.lines(coco.list)[moved].split()[0]
    assert any(
        f"line {moved + 1} of the list ({name}) has the scores of row {SHIFTED[moved] + 1}" in e for e in fault.evidence
    )
    assert report.evaluation and report.diagnosis.order.moved >= 15
    assert report.agreement.is_sample and report.figures is None


def test_a_sorted_list_and_a_shifted_one_are_told(coco):
    lines = coco.lines(coco.list)
    coco.rewrite(coco.list, lines[1:] + lines[:1])
    assert any("they stand 1 line further down" in e for e in only(check(coco)).evidence)
    by_name = sorted(range(30), key=lambda i: lines[i].split()[0])
    coco.rewrite(coco.list, lines)
    for path in (coco.predictions, coco.labels):
        coco.reorder(path, by_name)
    fault = only(check(coco))
    assert "the list sorted by name is in the order of the predictions" in fault.evidence


def test_two_swapped_lines_are_found(coco):
    order = np.arange(30)
    order[[3, 25]] = 25, 3
    coco.reorder(coco.list, order)
    report = check(coco)
    faults = [fault for fault in report.faults if fault.kind == "order"]
    assert [f.file for f in faults] == [coco.list] and report.status == 1
    assert report.agreement.differing.sum() == 2 and set(report.agreement.rows[report.agreement.worst(2)]) == {3, 25}
    assert "line 4 of the list" in "".join(faults[0].evidence) and "row 26" in "".join(faults[0].evidence)


def test_shuffled_predictions_are_named(coco):
    coco.reorder(coco.predictions, SHIFTED)
    fault = check(coco).faults[0]
    assert fault.kind == "order" and fault.file == coco.predictions


@pytest.mark.parametrize("net", [False, True])
def test_shuffled_labels_are_named(coco, net):
    coco.reorder(coco.labels, SHIFTED)
    report = check(coco, net)
    fault = only(report)
    assert fault.kind == "order" and fault.file == coco.labels and report.status == 1
    assert "do not go together" in "".join(fault.evidence)
    assert not report.evaluation and (not net or report.agreement)


def test_a_shuffled_list_is_seen_without_a_net(coco):
    coco.reorder(coco.list, SHIFTED)
    report = check(coco, net=False)
    fault = only(report)
    assert fault.kind == "order" and fault.file == coco.list and report.evaluation and report.status == 1
    assert "the same images in another order" in "".join(fault.evidence)


def test_shifted_labels_are_named(coco):
    lines = coco.lines(coco.labels)
    coco.rewrite(coco.labels, lines[1:] + lines[:1])
    fault = only(check(coco, net=False))
    assert (
        fault.kind == "order" and fault.file == coco.labels and "1 line further up than their predictions" in fault.text
    )


def test_columns_of_labels_in_another_order_are_named(coco):
    order = np.arange(80)
    order[[2, 5, 70]] = 5, 70, 2
    labels = np.loadtxt(coco.labels, dtype=int)[:, order]
    np.savetxt(coco.labels, labels, fmt="%d")
    report = check(coco)
    fault = only(report)
    assert fault.kind == "columns" and fault.file == coco.labels and report.status == 1
    assert "column 3 of the labels is column 6 of the predictions" in fault.evidence and report.agreement


def test_columns_of_predictions_in_another_order_are_named(coco):
    order = np.random.default_rng(3).permutation(80)
    np.savetxt(coco.predictions, np.loadtxt(coco.predictions)[:, order], fmt="%.6f")
    report = check(coco)
    assert {fault.kind for fault in report.faults} == {"columns"} and report.status == 1
    assert any("columns of the predictions are other classes than the net's" in f.text for f in report.faults)


# -- another preparation, another net --------------------------------------------------------------------------
def rgb(path):
    return as_published(path)[::-1]


def rgb_before_the_mean(path):
    return np.stack([plane * 255 - mean for plane, mean in zip(resized(path), MEAN, strict=True)])


def no_mean(path):
    return resized(path)[::-1] * 255


def other_resize(**options):
    return lambda path: np.stack(
        [plane * 255 - mean for plane, mean in zip(resized(path, **options)[::-1], MEAN, strict=True)]
    )


PREPARED = {
    "channels swapped, mean too": (rgb, "channels", "in the order RGB, the mean with them"),
    "channels swapped": (rgb_before_the_mean, "channels", "in the order RGB, the mean in the order BGR"),
    "no mean": (no_mean, "mean", "without the mean subtracted"),
    "0 to 1": (lambda path: resized(path)[::-1], "scale", "in 0 to 1, without the mean"),
    "mirrored": (lambda path: as_published(path)[:, :, ::-1], "mirrored", "mirrored left to right"),
    "smoothed": (other_resize(anti_aliasing=True, mode="reflect"), "resize", "with anti-aliasing"),
    "borders": (other_resize(mode="reflect"), "resize", "mirrored borders"),
}


@pytest.mark.parametrize("name", PREPARED)
def test_another_preparation_is_named(coco, name):
    prepare, kind, words = PREPARED[name]
    coco.predict(prepare)
    report = check(coco, sample=6)
    faults = report.faults
    assert [fault.kind for fault in faults] == [kind] and report.status == 1, report.render("text")
    assert words in faults[0].text and "of a sample of" in faults[0].evidence[0]
    assert report.agreement.is_sample and report.figures is None and not report.agreement


def test_probabilities_instead_of_logits_are_named(coco):
    coco.predict(as_published, lambda s: 1 / (1 + np.exp(-s)))
    report = check(coco, sample=8)
    assert [f.kind for f in report.faults] == ["form"]
    assert "as probabilities" in report.faults[0].text


def test_another_input_size_is_named(coco):
    edit(coco.prototxt, "dim: 224", "dim: 220", 2)
    report = check(coco, sample=6)
    assert [fault.kind for fault in report.faults] == ["size"]
    assert "224x224 instead of 220x220" in report.faults[0].text


def test_other_weights_are_no_known_fault(coco):
    net = port.load_net(coco.prototxt, coco.caffemodel)
    blobs = list(port.params(net).values())[-1]
    blobs[0].data *= 1.5
    port.save_caffemodel(net, coco.caffemodel)
    report = check(coco, sample=6)
    fault = only(report)
    assert fault.kind == "unexplained" and "other weights, or other images" in fault.text
    assert any("float64 reference" in e and "computes the same" in e for e in fault.evidence)


def test_differences_of_a_grey_level_are_told_from_faults(coco):
    def another_decoder(path):
        random = np.random.default_rng(len(path.name))
        return as_published(path) + random.integers(-1, 2, (3, 224, 224)) * 0.5

    coco.predict(another_decoder)
    report = check(coco, sample=6)
    assert "decoder" in {fault.kind for fault in report.faults}, report.render("text")


def test_two_faults_at_once_are_both_named(coco):
    coco.predict(rgb)
    coco.reorder(coco.list, SHIFTED)
    report = check(coco, sample=6)
    assert [fault.kind for fault in report.faults] == ["order", "channels"] and report.status == 1
    assert report.faults[0].file == coco.list and "the order RGB, the mean with them" in report.faults[1].text


def test_keep_going_runs_all_images(coco):
    coco.predict(rgb)
    report = check(coco, sample=8, keep_going=True)
    assert report.figures is not None and len(report.agreement.rows) == 30 and report.status == 1
    assert {f.kind for f in report.faults if f.file is None} == {"channels"}


def test_one_other_image_does_not_stop_the_run(coco, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(coco.images, images)
    names = [line.split()[0] for line in coco.lines(coco.list)]
    (images / names[7]).write_bytes((images / names[9]).read_bytes())
    report = check(replace(coco, images=images))
    assert report.agreement.differing.sum() == 1 and report.agreement.rows[report.agreement.worst(1)[0]] == 7
    assert report.figures is not None and report.status == 1 and only(report).kind == "images"
    assert names[7] in report.render("text").partition("the worst images")[2]
