"""The metrics against the authors' program, against a plain reading of the formulas, and on bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prototxt_gen.base.errors import DataError, UsageError
from verify.metrics import EPS, evaluate

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
# All figures are fractions, so the bound is absolute; a correct float64 implementation is within 1e-14.
TOLERANCE = 1e-9


def recorded(case: str) -> tuple[np.ndarray, np.ndarray, str]:
    arrays = []
    for name in ("scores.txt", "labels.txt"):
        path = GOLDEN / case / name
        arrays.append(np.loadtxt(path if path.exists() else f"{path}.gz"))
    return arrays[0], arrays[1], "wider" if case == "wider" else "srn"


def expected(case: str) -> dict[str, np.ndarray]:
    lines = (GOLDEN / case / "expected.tsv").read_text().splitlines()
    return {name: np.array(values, float) for name, *values in (line.split("\t") for line in lines)}


def worst_difference(figures: dict, wanted: dict[str, np.ndarray]) -> float:
    """The largest absolute difference; a NaN on one side only, or another length, is infinite."""
    assert wanted
    worst = 0.0
    for name, values in wanted.items():
        ours = np.atleast_1d(figures[name])
        if ours.shape != values.shape or (np.isnan(ours) != np.isnan(values)).any():
            return float("inf")
        worst = max(worst, float(np.nanmax(np.abs(ours - values), initial=0.0)))
    return worst


def test_all_recorded_cases_are_there():
    assert CASES == [
        "always_predicted", "coco_like", "never_predicted", "no_positive", "plain", "ties", "wider",
    ]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_equals_the_authors_program(case):
    scores, labels, protocol = recorded(case)
    wanted = expected(case)
    assert {"AP", "mAP", "F1-C", "F1-O"} <= set(wanted)
    assert worst_difference(evaluate(scores, labels, protocol), wanted) < TOLERANCE


@pytest.mark.parametrize("case", ["always_predicted", "never_predicted", "no_positive"])
@pytest.mark.parametrize("name", ["P_class", "R_class", "F1_class"])
def test_the_small_constants_stand_where_the_program_has_them(case, name):
    # Figures of about 1e-16 are nothing but these constants, so here the bound is relative to each figure.
    scores, labels, protocol = recorded(case)
    ours = evaluate(scores, labels, protocol)[name]
    np.testing.assert_allclose(ours, expected(case)[name], rtol=1e-12, atol=0)


@pytest.mark.parametrize("case", ["plain", "ties", "coco_like", "wider"])
@pytest.mark.parametrize("damage", ["columns swapped", "rows shifted", "sign", "another protocol"])
def test_the_comparison_notices_damage(case, damage):
    scores, labels, protocol = recorded(case)
    if damage == "columns swapped":
        scores = scores[:, [1, 0, *range(2, scores.shape[1])]]
    elif damage == "rows shifted":
        scores = np.roll(scores, 1, axis=0)
    elif damage == "sign":
        scores = -scores
    elif protocol == "wider":  # unspecified labels counted as negative ones
        labels = np.where(labels == 0, -1, labels)
    else:
        labels, protocol = labels.copy(), "wider"  # all negatives become unspecified
    assert worst_difference(evaluate(scores, labels, protocol), expected(case)) > 1e-3


# A second implementation, read off the paper and the formulas of the authors' program, with plain loops.
def plain_average_precision(confidence, positive, negative):
    order = sorted(range(len(confidence)), key=lambda i: -confidence[i])  # Python's sort is stable
    recall, precision, tp, fp = [0.0], [0.0], 0, 0
    for i in order:
        tp, fp = tp + positive[i], fp + negative[i]
        recall.append(tp / sum(positive))
        precision.append(tp / (tp + fp) if tp + fp else 0.0)
    recall, precision = [*recall, 1.0], [*precision, 0.0]
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))


def plain_f1(predicted, positive):
    tp = sum(a and b for a, b in zip(predicted, positive, strict=True)) + EPS
    p, r = tp / (sum(predicted) + EPS), tp / (sum(positive) + EPS) + EPS
    return 2 * p * r / (p + r), p, r


def plain_top3(row, threshold):
    best = sorted(range(len(row)), key=lambda c: -row[c])[:3]
    return [c in best and (not threshold or row[c] > 0.5) for c in range(len(row))]


@pytest.mark.parametrize("protocol", ["srn", "wider"])
@pytest.mark.parametrize("threshold", [True, False])
@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_equals_a_plain_reading_of_the_formulas(protocol, threshold, decimals):
    random = np.random.default_rng(decimals)
    images, classes = 97, 6
    scores = np.round(random.normal(-0.5, 2.0, (images, classes)), decimals)
    scores[:5] *= 40  # sigmoid saturates
    labels = random.choice([0, 1] if protocol == "srn" else [-1, 0, 1], (images, classes))
    figures = evaluate(scores, labels, protocol, top3_threshold=threshold)

    confidence = 1 / (1 + np.exp(-scores))
    positive, negative = labels == 1, labels == (0 if protocol == "srn" else -1)
    wanted: dict[str, object] = {
        "AP": [plain_average_precision(*(a[:, c].tolist() for a in (confidence, positive, negative)))
               for c in range(classes)]
    }  # fmt: skip
    wanted["mAP"] = np.mean(wanted["AP"])
    top3 = np.array([plain_top3(row, threshold) for row in confidence])
    for suffix, predicted in (("", confidence > 0.5), ("@3", top3)):
        per_class = np.array([plain_f1(predicted[:, c], positive[:, c]) for c in range(classes)])
        overall = plain_f1(predicted.ravel(), positive.ravel())
        for i, kind in enumerate(("F1", "P", "R")):
            wanted[f"{kind}-C{suffix}"] = per_class[:, i].mean()
            wanted[f"{kind}-O{suffix}"] = overall[i]
    arrays = {name: np.atleast_1d(np.array(value, float)) for name, value in wanted.items()}
    assert len(arrays) == 14
    assert worst_difference(figures, arrays) < TOLERANCE


def test_top3_of_one_image_by_hand():
    scores, labels = [[2.0, -1.0, 1.0, -2.0, -3.0]], [[1, 1, 0, 0, 1]]
    kept = evaluate(scores, labels, top3_threshold=False)  # the three best: 0, 2, 1; two of them right
    assert kept["P-O@3"] == pytest.approx(2 / 3) and kept["R-O@3"] == pytest.approx(2 / 3)
    dropped = evaluate(scores, labels)  # label 1 is below 0.5: 0 and 2 are left, one of them right
    assert dropped["P-O@3"] == pytest.approx(1 / 2) and dropped["R-O@3"] == pytest.approx(1 / 3)
    assert dropped["P-O"] == dropped["P-O@3"]


def test_top3_with_two_classes_takes_both():
    scores, labels = [[-1.0, -2.0], [-3.0, 1.0], [0.5, 2.0]], [[1, 0], [0, 1], [1, 1]]
    figures = evaluate(scores, labels, top3_threshold=False)
    assert figures["R-C@3"] == pytest.approx(1.0) and figures["P-O@3"] == pytest.approx(4 / 6)


def test_scores_are_ordered_by_the_sigmoid_not_the_logit():
    # Both sigmoids are 1 exactly, so the images keep their order although the second logit is larger.
    assert evaluate([[40.0], [50.0], [0.0]], [[1], [0], [0]])["AP"][0] == 1.0
    assert evaluate([[4.0], [5.0], [0.0]], [[1], [0], [0]])["AP"][0] == 0.5


def test_class_without_positives_is_nan_and_never_predicted_class_has_precision_one():
    figures = evaluate([[1.0, -1.0], [-1.0, -2.0], [2.0, -3.0]], [[0, 1], [0, 0], [0, 1]])
    assert np.isnan(figures["AP"][0]) and figures["AP"][1] > 0 and np.isnan(figures["mAP"])
    assert figures["P_class"][1] == 1.0 and 0 < figures["R_class"][1] < 1e-15


def test_unspecified_labels_count_as_negative_for_f1_only():
    scores, labels = [[3.0], [2.0], [1.0]], [[0], [1], [-1]]
    figures = evaluate(scores, labels, "wider")
    assert figures["AP"][0] == 1.0 and figures["P_class"][0] == pytest.approx(1 / 3)


def test_threads_change_nothing(monkeypatch):
    random = np.random.default_rng(6)
    logits, labels = random.normal(size=(211, 9)), random.integers(-1, 2, (211, 9))
    alone = evaluate(logits, labels, "wider")["AP"]
    monkeypatch.setattr("verify.metrics.WORTH_THREADS", 0)
    assert np.array_equal(evaluate(logits, labels, "wider")["AP"], alone)


def test_float32_and_lists_give_the_same_figures():
    random = np.random.default_rng(5)
    scores = random.normal(size=(41, 3)).astype(np.float32)
    labels = random.random((41, 3)) < 0.4
    first, second = evaluate(scores, labels), evaluate(scores.tolist(), labels.astype(float).tolist())
    assert worst_difference(first, {k: np.atleast_1d(v) for k, v in second.items()}) == 0.0


GOOD = ([[0.5, -1.0, 2.0], [1.0, 0.0, -2.0]], [[0, 1, 1], [1, 0, 0]])


def changed(which: int, row: int, column: int, value: float):
    arrays = [np.array(array, float) for array in GOOD]
    arrays[which][row, column] = value
    return arrays


@pytest.mark.parametrize(
    ("arrays", "protocol", "message"),
    [
        (changed(0, 1, 2, np.nan), "srn", "logit nan in row 2, column 3; expected a finite number"),
        (changed(0, 0, 1, -np.inf), "srn", "logit -inf in row 1, column 2"),
        (changed(1, 1, 0, 2), "srn", "label 2.0 in row 2, column 1; expected 0 or 1"),
        (changed(1, 1, 0, -1), "srn", "label -1.0 in row 2, column 1; expected 0 or 1 in protocol 'srn'"),
        (changed(1, 0, 2, 0.5), "wider", "label 0.5 in row 1, column 3; expected -1 or 0 or 1"),
        ((GOOD[0], [[0, 1], [1, 0]]), "srn", r"logits have the shape \(2, 3\), labels \(2, 2\)"),
        ((GOOD[0][:1], GOOD[1]), "srn", r"logits have the shape \(1, 3\), labels \(2, 3\)"),
        ((GOOD[0][0], GOOD[1][0]), "srn", r"logits have the shape \(3,\)"),
        ((np.empty((0, 3)), np.empty((0, 3))), "srn", r"logits have the shape \(0, 3\)"),
        ((np.empty((2, 0)), np.empty((2, 0))), "srn", r"labels have the shape \(2, 0\)"),
        (([["a", "b"]], [[0, 1]]), "srn", "must be arrays of numbers"),
    ],
)
def test_bad_input_is_refused(arrays, protocol, message):
    with pytest.raises(DataError, match=message):
        evaluate(*arrays, protocol)


def test_all_problems_are_named_at_once():
    scores, labels = changed(0, 1, 2, np.nan)[0], changed(1, 0, 0, 2)[1]
    with pytest.raises(DataError) as caught:
        evaluate(scores, labels)
    assert len(caught.value.problems) == 2


def test_unknown_protocol_is_refused():
    with pytest.raises(UsageError, match="no evaluation protocol 'widr'; did you mean 'wider'"):
        evaluate(*GOOD, "widr")
