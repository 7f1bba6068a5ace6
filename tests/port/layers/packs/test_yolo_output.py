"""YOLO's detection outputs against their rules in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pack_runs import FORWARD, Run, agree, refused
from yolo_loops import overlap, sigmoid

from port.onnx.export import build_onnx

BIASES = [10, 14, 23, 27, 37, 58, 81, 82, 135, 169, 344, 319]


def rows_of(found: list[tuple], items: int, threshold: float) -> np.ndarray:
    """Detections (score, class, box) by falling score, without those that a better one covers."""
    found = sorted(found, key=lambda each: -each[0])
    gone: set[int] = set()
    for i in range(len(found)):
        for j in range(i + 1, len(found)):
            if i not in gone and overlap(found[i][2], found[j][2]) >= threshold:
                gone.add(j)
    rows = []
    for i, (score, label, (x, y, w, h)) in enumerate(found):
        if i not in gone:
            rows.append([0, label + 1, score, x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return np.array(rows or [[n, -1, -1, -1, -1, -1, -1] for n in range(items)])[None, None]


def version3(maps, fields) -> np.ndarray:
    found = []
    classes, count, mask = fields["num_classes"], fields["num_box"], fields["mask"]
    for t, x in enumerate(maps):
        n, _, high, wide = x.shape
        scale = fields["anchors_scale"][t]
        for item in range(n):
            for row in range(high):
                for column in range(wide):
                    for b in range(count):
                        v = x[item, b * (5 + classes) :, row, column]
                        anchor = mask[b + t * (len(mask) // len(maps))]
                        w = math.exp(v[2]) * BIASES[2 * anchor] / (wide * scale)
                        h = math.exp(v[3]) * BIASES[2 * anchor + 1] / (high * scale)
                        box = ((column + sigmoid(v[0])) / wide, (row + sigmoid(v[1])) / high, w, h)
                        for c in range(classes):
                            score = sigmoid(v[5 + c]) * sigmoid(v[4])
                            if score > fields["confidence_threshold"]:
                                found.append((score, c, box))
    return rows_of(found, len(maps[0]), fields["nms_threshold"])


def version2(maps, fields) -> np.ndarray:
    found = []
    classes, count, biases = fields["num_classes"], fields["num_box"], fields["biases"]
    for x in maps:
        n, channels, side, _ = x.shape
        for item in range(n):
            for row in range(side):
                for column in range(side):
                    for b in range(count):
                        v = x[item, b * (channels // count) :, row, column]
                        power = [math.exp(s) for s in v[5 : 5 + classes]]
                        best = power.index(max(power))
                        score = sigmoid(v[4]) * power[best] / sum(power)
                        w, h = (math.exp(v[2 + i]) * biases[2 * b + i] / side for i in (0, 1))
                        if score >= fields["confidence_threshold"]:
                            box = ((column + sigmoid(v[0])) / side, (row + sigmoid(v[1])) / side, w, h)
                            found.append((score, best, box))
    return rows_of(found, len(maps[0]), fields["nms_threshold"])


def third(seed: int, **changes):
    """Inputs and fields of a layer of version 3 with two maps."""
    random = np.random.RandomState(seed)
    fields = {"num_classes": 2 + seed % 3, "num_box": 3, "biases": BIASES, "mask": [3, 4, 5, 0, 1, 2]}
    fields |= {"anchors_scale": [32, 16], "mask_group_num": 2, "confidence_threshold": 0.25, "nms_threshold": 0.5}
    fields |= changes
    channels = fields["num_box"] * (5 + fields["num_classes"])
    shapes = [(1 + seed % 2, channels, 2, 3 + seed % 2), (1 + seed % 2, channels + seed % 2, 4, 3)]
    maps = [np.float32(random.standard_normal(s)) for s in shapes[: fields["mask_group_num"]]]
    return maps, fields


def second(seed: int, **changes):
    """Inputs and fields of a layer of version 2 with one map or two."""
    random = np.random.RandomState(seed)
    fields = {"num_classes": 3, "num_box": 2, "biases": [1.5, 1.25, 2.5, 3.0, 9, 9]}
    fields |= {"confidence_threshold": 0.25, "nms_threshold": 0.375, **changes}
    channels = 2 * (5 + fields["num_classes"] + seed % 2)
    maps = [np.float32(random.standard_normal((1 + seed % 3, channels, side, side))) for side in (3, 5)[: 1 + seed % 2]]
    return maps, fields


MADE = {"Yolov3DetectionOutput": (third, version3), "YoloDetectionOutput": (second, version2)}
PARAM = {"Yolov3DetectionOutput": "yolov3_detection_output_param", "YoloDetectionOutput": "yolo_detection_output_param"}
both = pytest.mark.parametrize("type", MADE)


def run_of(type: str, maps, fields) -> Run:
    return Run(type, maps, fields={PARAM[type]: fields})


@both
@pytest.mark.parametrize("seed", range(5))
def test_boxes_are_those_of_the_loops(type, seed):
    make, rule = MADE[type]
    maps, fields = make(seed)
    expected = rule(maps, fields)
    assert expected.shape[2] > 5
    run_of(type, maps, fields).holds([expected], (13, 17, 23))


@both
def test_nothing_found_is_one_row_an_item(type):
    make, _ = MADE[type]
    maps, fields = make(1, confidence_threshold=0.999)
    rows = np.full((1, 1, len(maps[0]), 7), -1.0)
    rows[0, 0, :, 0] = range(len(maps[0]))
    run_of(type, maps, fields).holds([rows], (13, 17, 23))


@both
def test_another_batch_and_other_rows_come_through_one_model(type):
    make, rule = MADE[type]
    maps, fields = make(1)
    run = run_of(type, maps, fields)
    more = [np.concatenate([x, -x, x * 0.5]) for x in maps]
    expected = rule(more, fields)
    agree(run.torch(more), [expected], FORWARD, "torch")
    agree(run.onnx(17, more), [expected], FORWARD, "ONNX")


@both
def test_scores_that_are_equal_stay_in_the_order_of_the_map(type):
    make, rule = MADE[type]
    maps, fields = make(1, nms_threshold=1.5)  # none is removed
    maps = [np.zeros_like(x) for x in maps]
    run_of(type, maps, fields).holds([rule(maps, fields)])


@both
def test_a_score_on_the_threshold(type):
    """Version 2 keeps it, version 3 does not."""
    make, _ = MADE[type]
    maps, fields = make(1, confidence_threshold=0.25, num_classes=2)
    maps = [np.zeros_like(x) for x in maps]  # 1/2 times 1/2
    run = run_of(type, maps, fields)
    rows = [answer[0].shape[2] for answer in (run.reference(), run.torch(), run.onnx())]
    assert len(set(rows)) == 1
    assert (run.reference()[0][0, 0, 0, 1] == -1) == (type == "Yolov3DetectionOutput")


@both
def test_values_that_are_no_numbers_are_never_found(type):
    make, _ = MADE[type]
    maps, fields = make(1)
    run = run_of(type, maps, fields)
    nothing = [np.full_like(x, np.nan) for x in maps]
    for answer in (run.reference(nothing), run.torch(nothing), run.onnx(17, nothing)):
        assert (answer[0][0, 0, :, 1:] == -1).all()


@both
def test_no_items_give_no_rows(type):
    make, _ = MADE[type]
    maps, fields = make(1)
    run = run_of(type, maps, fields)
    empty = [x[:0] for x in maps]
    assert run.torch(empty)[0].shape == run.reference(empty)[0].shape == (1, 1, 0, 7)


@both
def test_there_is_no_gradient(type):
    make, _ = MADE[type]
    run = run_of(type, *make(1))
    assert all(grad is None for grad in run.gradients()[0])


@both
def test_float64_stays(type):
    run_of(type, *MADE[type][0](1)).stays_double()


def test_refusals():
    cases = [
        ("num_classes", "third", {"num_classes": 0}),
        ("equal numbers", "third", {"mask_group_num": 1, "mask": [0, 1, 2]}),
        ("anchors_scale", "third", {"anchors_scale": [32]}),
        ("masks for 2", "third", {"mask": [0, 1, 2]}),
        ("biases for anchor 5", "third", {"biases": BIASES[:8]}),
        ("gaussian_box", "third", {"gaussian_box": True}),
        ("biases for anchor 1", "second", {"biases": [1.0, 2.0]}),
    ]
    for match, which, changes in cases:
        maps, fields = (third if which == "third" else second)(1)
        type = "Yolov3DetectionOutput" if which == "third" else "YoloDetectionOutput"
        refused(match, type, maps, fields={PARAM[type]: {**fields, **changes}})
    maps, fields = third(1)
    refused(
        "channels for 3 boxes",
        "Yolov3DetectionOutput",
        [m[:, :9] for m in maps],
        fields={PARAM["Yolov3DetectionOutput"]: fields},
    )
    refused(
        "as many items",
        "Yolov3DetectionOutput",
        [maps[0], maps[1][:1]],
        fields={PARAM["Yolov3DetectionOutput"]: fields},
    )
    maps, fields = second(0)
    refused("a square one", "YoloDetectionOutput", [maps[0][:, :, :2]], fields={PARAM["YoloDetectionOutput"]: fields})
    refused(
        "channels for 2 boxes", "YoloDetectionOutput", [maps[0][:, 1:]], fields={PARAM["YoloDetectionOutput"]: fields}
    )


@both
def test_onnx_wants_a_threshold_above_0(type):
    make, _ = MADE[type]
    run = run_of(type, *make(1, nms_threshold=0.0))
    with pytest.raises(Exception, match="above 0 in ONNX"):
        build_onnx(run.net)
