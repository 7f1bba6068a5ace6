"""The definitions of other papers and libraries, against plain readings of them and against scikit-learn."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch

from prototxt_gen.base.errors import DataError, UsageError
from verify.evaluation.definitions import Definition, average_precisions, by_definition, grouped
from verify.metrics import evaluate

# Fractions from a few hundred float64 operations: a correct implementation is within 1e-14.
TOLERANCE = 1e-12


def example(decimals: int, protocol: str = "srn", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels, (101, 7); class 5 is never predicted, few decimals make ties."""
    random = np.random.default_rng([seed, decimals])
    share = np.array([0.4, 0.1, 0.6, 0.3, 0.02, 0.2, 0.5])
    labels = (random.random((101, 7)) < share).astype(int)
    labels[3, 4] = 1
    logits = np.round(random.normal(labels - 0.5, 1.5), decimals)
    logits[:, 5] -= 20
    if protocol == "wider":
        labels = np.where(labels == 1, 1, np.where(random.random(labels.shape) < 0.3, 0, -1))
    return logits, labels


def found(definitions: list[Definition], key: str) -> dict[str, float]:
    (only,) = [each.figures for each in definitions if each.key == key]
    return only


# -- plain readings -----------------------------------------------------------------------------------------
def curve(scores, positive):
    """Recall (a fraction) and precision after each image, the most confident first; Python's sort is stable."""
    points, tp = [], 0
    for count, i in enumerate(sorted(range(len(scores)), key=lambda i: -scores[i]), start=1):
        tp += bool(positive[i])
        points.append((Fraction(tp, int(sum(positive))), tp / count))
    return points


def at_recalls(points, steps):
    total = 0.0
    for step in range(steps + 1):
        total += max(precision for recall, precision in points if recall >= Fraction(step, steps))
    return total / (steps + 1)


def not_interpolated(scores, positive):
    points, last, total = curve(scores, positive), Fraction(0), 0.0
    for recall, precision in points:
        total += float(recall - last) * precision
        last = recall
    return total


def ties_together(scores, positive):
    last, total = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [bool(p) for s, p in zip(scores, positive, strict=True) if s >= threshold]
        recall = sum(chosen) / sum(positive)
        total += (recall - last) * sum(chosen) / len(chosen)
        last = recall
    return total


def by_hand(scores, positive):
    points = curve(scores, positive)
    return (
        None,  # the authors' own: test_metrics
        not_interpolated(scores, positive),
        ties_together(scores, positive),
        at_recalls(points, 100),
        at_recalls(points, 10),
    )


@pytest.mark.parametrize("decimals", [0, 1, 6])
@pytest.mark.parametrize("protocol", ["srn", "wider"])
def test_average_precisions_equal_plain_readings(decimals, protocol):
    logits, labels = example(decimals, protocol)
    definitions = by_definition(logits, labels, protocol)
    confidence = 1 / (1 + np.exp(-logits))
    wanted = []
    for column in range(labels.shape[1]):
        kept = labels[:, column] != 0 if protocol == "wider" else np.ones(len(labels), bool)
        wanted.append(by_hand(confidence[kept, column].tolist(), (labels[kept, column] == 1).tolist()))
    keys = ("ap.voc2012", "ap.not_interpolated", "ap.ties_together", "ap.coco_101", "ap.voc2007_11")
    assert [each.key for each in definitions][:5] == list(keys)
    for number, key in enumerate(keys[1:], start=1):
        mean = np.mean([row[number] for row in wanted])
        assert found(definitions, key)["mAP"] == pytest.approx(mean, abs=TOLERANCE), key
    assert found(definitions, "ap.voc2012")["mAP"] == evaluate(logits, labels, protocol)["mAP"]


def test_by_hand_on_four_images():
    """Positives at places 2, 3 and 4; the last is tied with the negative after it."""
    confidence, positive = np.array([0.9, 0.8, 0.7, 0.6, 0.6]), np.array([False, True, True, True, False])
    voc, mean, tied, coco, voc7 = average_precisions(confidence, positive)
    assert voc == voc7 == coco == pytest.approx(3 / 4)
    assert mean == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3)
    assert tied == pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3)


def test_steps_of_recall_are_reached_exactly():
    """3 of 10 positives are a recall of 0.3, although 3 * 0.1 in floats is more."""
    confidence = np.linspace(1, 0, 30)
    positive = np.arange(30) < 3
    positive[-7:] = True
    points = curve(confidence.tolist(), positive.tolist())
    _, _, _, coco, voc7 = average_precisions(confidence, positive)
    assert voc7 == pytest.approx(at_recalls(points, 10)) == pytest.approx((4 + 7 * 10 / 30) / 11)
    assert coco == pytest.approx(at_recalls(points, 100))


@pytest.mark.parametrize("decimals", [0, 6])
def test_precision_recall_and_f1_equal_plain_readings(decimals):
    logits, labels = example(decimals)
    definitions = by_definition(logits, labels)
    p, truth = 1 / (1 + np.exp(-logits)), labels == 1

    def rates(chosen, wanted, never):
        found = sum(c and w for c, w in zip(chosen, wanted, strict=True))
        precision = found / sum(chosen) if sum(chosen) else never
        recall = found / sum(wanted) if sum(wanted) else 0.0
        return precision, recall, 2 * found / (sum(chosen) + sum(wanted))

    def classes(chosen, never):
        return np.array([rates(chosen[:, c].tolist(), truth[:, c].tolist(), never) for c in range(7)], object)

    zero, nothing = classes(p > 0.5, 0.0), classes(p > 0.5, None)
    known = [row[0] for row in nothing if row[0] is not None]
    assert len(known) == 6  # class 5 is never predicted
    sk = found(definitions, "all.never_zero")
    assert [sk["P-C"], sk["R-C"], sk["F1-C"]] == pytest.approx(list(zero.astype(float).mean(0)), abs=TOLERANCE)
    left = found(definitions, "all.never_left_out")
    assert left["P-C"] == pytest.approx(np.mean(known), abs=TOLERANCE)
    assert left["F1-C"] == pytest.approx(2 * left["P-C"] * left["R-C"] / (left["P-C"] + left["R-C"]), abs=TOLERANCE)
    gcn, half = found(definitions, "all.ml_gcn"), classes(p >= 0.5, 0.0).astype(float).mean(0)
    assert gcn["P-C"] == pytest.approx(half[0]) and gcn["R-C"] == pytest.approx(half[1])
    assert gcn["F1-C"] == pytest.approx(2 * half[0] * half[1] / (half[0] + half[1]))
    overall = rates((p >= 0.5).ravel().tolist(), truth.ravel().tolist(), 0.0)
    assert [gcn["P-O"], gcn["R-O"], gcn["F1-O"]] == pytest.approx(list(overall), abs=TOLERANCE)
    above = np.array([rates((p > 0.8)[:, c].tolist(), truth[:, c].tolist(), 1.0) for c in range(7)]).mean(0)
    assert [found(definitions, "all.above_0.8")[k] for k in ("P-C", "R-C", "F1-C")] == pytest.approx(list(above))
    images = np.array([rates((p > 0.5)[i].tolist(), truth[i].tolist(), 0.0) for i in range(101) if truth[i].any()])
    empty = [i for i in range(101) if not truth[i].any()]
    assert found(definitions, "image.mean")["R per image"] == pytest.approx(images[:, 1].sum() / 101)
    assert empty and len(images) + len(empty) == 101


def test_the_conventions_differ_where_they_should():
    logits, labels = example(6)
    definitions = by_definition(logits, labels)
    authors, never = found(definitions, "all.authors"), found(definitions, "all.never_zero")
    # Class 5 counts 1 with the authors and 0 with the others, one class of seven.
    assert authors["P-C"] - never["P-C"] == pytest.approx(1 / 7) and authors["P-O"] == pytest.approx(never["P-O"])
    harmonic = found(definitions, "all.harmonic")
    assert harmonic["P-C"] == authors["P-C"] and abs(harmonic["F1-C"] - authors["F1-C"]) > 0.01
    one = by_definition([[0.0, 1.0]], [[1, 1]])  # p = 0.5 exactly
    assert found(one, "all.ml_gcn")["R-C"] == 1.0 and found(one, "all.authors")["R-C"] == pytest.approx(0.5)


@pytest.mark.parametrize("threshold", [True, False])
@pytest.mark.parametrize("protocol", ["srn", "wider"])
def test_the_authors_rows_are_what_evaluate_returns(threshold, protocol):
    logits, labels = example(2, protocol)
    figures = evaluate(logits, labels, protocol, top3_threshold=threshold)
    marked: dict[str, float] = {}
    for each in by_definition(logits, labels, protocol, top3_threshold=threshold):
        if each.authors:
            marked |= each.figures
    assert marked == {name: value for name, value in figures.items() if isinstance(value, float)}


def test_classes_without_a_positive():
    logits, labels = example(3)
    labels[:, [1, 4]] = 0
    definitions = by_definition(logits, labels)
    ap = evaluate(logits, labels)["AP"]
    assert np.isnan(found(definitions, "ap.voc2012")["mAP"]) and np.isnan(found(definitions, "ap.coco_101")["mAP"])
    assert found(definitions, "ap.voc2012.empty_left_out")["mAP"] == pytest.approx(np.nanmean(ap))
    assert found(definitions, "ap.voc2012.empty_zero")["mAP"] == pytest.approx(np.nansum(ap) / 7)
    assert all("2 such classes here" in d.text for d in definitions if d.key.startswith("ap.voc2012."))


def test_nothing_positive_and_nothing_predicted():
    definitions = by_definition([[-1.0, -2.0], [-3.0, -1.0]], [[0, 0], [0, 0]])
    assert np.isnan(found(definitions, "all.never_left_out")["P-C"])
    assert found(definitions, "all.never_zero") == dict.fromkeys(("F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O"), 0.0)
    assert np.isnan(found(definitions, "ap.voc2012.empty_left_out")["mAP"])


def test_keys_are_unique_and_groups_have_the_same_columns():
    definitions = by_definition(*example(2))
    assert len({each.key for each in definitions}) == len(definitions)
    assert [len(group) for group in grouped(definitions)] == [7, 6, 2, 1]


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="label 3"):
        by_definition([[1.0]], [[3]])
    with pytest.raises(UsageError, match="wider"):
        by_definition([[1.0]], [[1]], "widr")


def with_an_empty_class(decimals):
    """The example with one class that has no positive, as small test sets do."""
    logits, labels = example(decimals)
    labels = labels.copy()
    labels[:, 2] = 0
    return logits, labels


# Every figure beside which a library is named is what that library prints: on classes with positives, and without.
each_example = pytest.mark.parametrize("made", [example, with_an_empty_class], ids=["full", "an empty class"])


@each_example
@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_equals_scikit_learn(decimals, made):
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed; plain readings above are")
    logits, labels = made(decimals)
    p, chosen = 1 / (1 + np.exp(-logits)), logits > 0
    definitions = by_definition(logits, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the class without a positive
        ap = sklearn.average_precision_score(labels, p, average="macro")
    assert found(definitions, "ap.ties_together")["mAP"] == pytest.approx(ap, abs=TOLERANCE)
    for average, keys in (("macro", ("P-C", "R-C", "F1-C")), ("micro", ("P-O", "R-O", "F1-O"))):
        theirs = sklearn.precision_recall_fscore_support(labels, chosen, average=average, zero_division=0)[:3]
        ours = found(definitions, "all.never_zero")
        assert [ours[key] for key in keys] == pytest.approx(list(theirs), abs=TOLERANCE)
    theirs = sklearn.precision_recall_fscore_support(labels, chosen, average="samples", zero_division=0)[:3]
    ours = found(definitions, "image.mean")
    assert [ours[f"{k} per image"] for k in ("P", "R", "F1")] == pytest.approx(list(theirs), abs=TOLERANCE)


@each_example
@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_equals_torchmetrics(decimals, made):
    reason = "torchmetrics is not installed; plain readings above are"
    library = pytest.importorskip("torchmetrics.functional.classification", reason=reason)
    logits, labels = made(decimals)
    p, truth = torch.from_numpy(1 / (1 + np.exp(-logits))), torch.from_numpy(labels.astype(np.int64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ap = library.multilabel_average_precision(p, truth, num_labels=labels.shape[1], average="macro")
    # it divides in float32
    assert found(by_definition(logits, labels), "ap.ties_together")["mAP"] == pytest.approx(float(ap), abs=1e-6)


def test_only_definitions_that_a_test_holds_to_a_library_name_one():
    """And no other row does: a name beside a figure is a claim."""
    logits, labels = with_an_empty_class(1)
    named = {d.key for d in by_definition(logits, labels) if "scikit-learn" in d.used_by or "torchmetrics" in d.used_by}
    assert named == {"ap.ties_together", "all.never_zero", "image.mean"}
