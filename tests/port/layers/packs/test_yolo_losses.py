"""YOLO's losses against the forks' rules in plain loops, forward and the gradient that they hand back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pack_runs import BACKWARD, FORWARD, SAME_MATHS, Run, near, refused
from properties.nets import Word
from yolo_loops import in_lines, in_rows, labelled, overlap, sigmoid

from port.onnx.export import build_onnx
from prototxt_gen.base.errors import ExportError

BIASES = [10, 14, 23, 27, 37, 58, 81, 82, 135, 169, 344, 319]


def version3(x, label, f):
    """Loss and gradient of Yolov3, cell by cell."""
    n, _, high, wide = x.shape
    count, classes, scale, mask = f["num"], f["num_class"], f["anchors_scale"], f["mask"]
    logic, smooth = f.get("use_logic_gradient", False), f.get("label_smooth_eps", float(np.float32(0.1)))
    length, delta = 5 + classes, np.zeros(x.shape)
    said = np.vectorize(sigmoid)(x)
    for b in range(count):
        for c in (2, 3):
            said[:, b * length + c] = x[:, b * length + c]

    def shape(anchor):
        return BIASES[2 * anchor] / (wide * scale), BIASES[2 * anchor + 1] / (high * scale)

    def learn(item, b, row, column, truth):
        kind, tx, ty, tw, th = truth
        at = (item, slice(b * length, (b + 1) * length), row, column)
        mine, what = delta[at], said[at]
        aw, ah = shape(mask[b])
        weight = f.get("coord_scale", 5) * (2 - tw * th)
        mine[0] = -weight * (tx * wide - column - what[0])
        mine[1] = -weight * (ty * high - row - what[1])
        mine[2] = -weight * (math.log(tw / aw) - what[2])
        mine[3] = -weight * (math.log(th / ah) - what[3])
        mine[4] = -(1 - what[4]) * (f.get("object_scale", 1) if logic else 1)
        kind = 5 + int(kind)
        strength = f.get("class_scale", 1)
        if mine[kind] != 0:
            mine[kind] = -strength * (1 - smooth + 0.5 * smooth - what[kind])
        elif f.get("use_focal_loss", False):
            p = what[kind] + 1e-15
            grad = -(1 - p) * (2 * p * math.log(p) + p - 1)
            for c in range(5, length):
                mine[c] = -strength * ((c == kind) - what[c]) * 0.5 * grad
        else:
            for c in range(5, length):
                mine[c] = -strength * ((c == kind) * (1 - smooth) + 0.5 * smooth - what[c])

    for item in range(n):
        truths = [t for t in label[item, 0] if t[3] != 0]
        for row in range(high):
            for column in range(wide):
                for b in range(count):
                    v = said[item, b * length : (b + 1) * length, row, column]
                    aw, ah = shape(mask[b])
                    box = ((column + v[0]) / wide, (row + v[1]) / high, math.exp(v[2]) * aw, math.exp(v[3]) * ah)
                    best = max([0, *(overlap(box, t[1:]) for t in truths)])
                    delta[item, b * length + 4, row, column] = 0 if best > f["thresh"] else v[4]
        for truth in truths:
            row, column = int(truth[2] * high), int(truth[1] * wide)
            fits = [overlap((0, 0, *shape(a)), (0, 0, *truth[3:])) for a in range(len(BIASES) // 2)]
            best = fits.index(max(fits))
            passed = best
            if best in mask:
                passed = mask.index(best)
                learn(item, passed, row, column, truth)
            for anchor, fit in enumerate(fits):
                if (
                    anchor in mask
                    and anchor != passed
                    and fit > f.get("iou_thresh", 0.5)
                    and f.get("iou_thresh", 0.5) < 1
                ):
                    learn(item, mask.index(anchor), row, column, truth)
    loss, back = (delta**2).sum() / n, delta.copy()
    if logic:
        for c in range(x.shape[1]):
            if c % length not in (2, 3):
                back[:, c] *= said[:, c] * (1 - said[:, c])
    return loss, back / n


def version2(x, truths, f, strict):
    """Loss and gradient of RegionLoss; `strict`: Intel's."""
    n, _, side, _ = x.shape
    count, classes, biases = f["num"], f["num_class"], f["biases"]
    length, delta = 5 + classes, np.zeros(x.shape)

    def box_of(item, b, row, column):
        v = x[item, b * length : (b + 1) * length, row, column]
        w, h = math.exp(v[2]) * biases[2 * b] / side, math.exp(v[3]) * biases[2 * b + 1] / side
        return (column + sigmoid(v[0])) / side, (row + sigmoid(v[1])) / side, w, h

    for item in range(n):
        for row in range(side):
            for column in range(side):
                for b in range(count):
                    p = sigmoid(x[item, b * length + 4, row, column])
                    best = max([0, *(overlap(box_of(item, b, row, column), t[1:]) for t in truths[item])])
                    none = f.get("noobject_scale", 0.5) * p * p * (1 - p)
                    delta[item, b * length + 4, row, column] = 0 if best > f["thresh"] else none
        for kind, tx, ty, tw, th in truths[item]:
            row, column = int(ty * side), int(tx * side)
            fits = []
            for b in range(count):
                shape = [biases[2 * b] / side, biases[2 * b + 1] / side]
                if not f.get("bias_match", 1):
                    shape = box_of(item, b, row, column)[2:]
                fits.append(overlap((0, 0, *shape), (0, 0, tw, th)))
            b = fits.index(max(fits))
            at = (item, slice(b * length, (b + 1) * length), row, column)
            mine, v = delta[at], x[at]
            rescore = f.get("rescore", 1)
            weight = f.get("coord_scale", 5) * (1 if strict or rescore else 2 - tw * th)
            aims = [tx * side - column - sigmoid(v[0]), ty * side - row - sigmoid(v[1])]
            aims += [math.log(tw * side / biases[2 * b]) - v[2], math.log(th * side / biases[2 * b + 1]) - v[3]]
            for i, aim in enumerate(aims):
                aim = min(1, max(-1, aim)) if strict else aim
                slope = sigmoid(v[i]) * (1 - sigmoid(v[i])) if i < 2 else 1
                mine[i] = -weight * aim * slope
            p = sigmoid(v[4])
            wanted = overlap(box_of(item, b, row, column), (tx, ty, tw, th)) if rescore else 1
            lack = 2 * (1 - p) ** 3 if strict else wanted - p
            mine[4] = -f.get("object_scale", 1) * lack * p * (1 - p)
            power = [math.exp(s) for s in v[5:]]
            for c in range(classes):
                mine[5 + c] = -f.get("class_scale", 1) * ((c == int(kind)) - power[c] / sum(power))
    return (delta**2).sum() / (1 if strict else n), delta / n


def holds(run: Run, loss: float, gradient: np.ndarray) -> None:
    near(run.reference()[0], loss, SAME_MATHS, "reference")
    near(run.torch()[0], loss, FORWARD, "torch")
    run.stays_double()
    found, _ = run.gradients(1.5)
    near(found[0], 1.5 * gradient, BACKWARD, "gradient")
    assert found[1] is None


THIRD = [
    {},
    {"use_logic_gradient": True, "object_scale": 2.5, "coord_scale": 1.5},
    {"use_focal_loss": True, "class_scale": 2.0},
    {"iou_thresh": 1.0, "label_smooth_eps": 0.0},
    {"iou_thresh": 0.1, "mask": [0, 1, 2], "noobject_scale": 3.0, "side": 99},
    {"mask": [5, 3, 4], "thresh": 0.9, "max_delta": 1.0, "accumulate": False, "iou_normalizer": 3.0},
]


@pytest.mark.parametrize("changes", THIRD)
@pytest.mark.parametrize("seed", range(3))
def test_yolov3(changes, seed):
    random = np.random.RandomState(seed)
    f = {"num": 3, "num_class": 2 + seed, "biases": BIASES, "mask": [2, 3, 4], "anchors_scale": 32, "thresh": 0.4}
    f |= changes
    x = np.float32(random.standard_normal((1 + seed, 3 * (5 + f["num_class"]), 3, 4 + seed)))
    boxes = labelled(random, len(x), f["num_class"])
    label = in_lines(boxes)
    run = Run("Yolov3", [x, label], fields={"yolov3_param": f})
    holds(run, *version3(x.astype(np.float64), label, {**f, **floats(f)}))


def floats(fields: dict) -> dict:
    """Fields as they arrive from the text."""
    return {k: float(np.float32(v)) for k, v in fields.items() if isinstance(v, float)}


SECOND = [
    {},
    {"rescore": 0, "object_scale": 5.0},
    {"bias_match": 0, "noobject_scale": 1.0, "class_scale": 1.5},
    {"thresh": 0.01, "coord_scale": 1.0, "jitter": 0.5, "absolute": 0, "random": 0, "softmax": 0},
]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("changes", SECOND)
@pytest.mark.parametrize("seed", range(2))
def test_region_loss(changes, seed, strict):
    random = np.random.RandomState(10 + seed)
    biases = [1.25, 1.5, 3, 2, 0.5, 2.5, 4, 4.5, 2, 1]
    f = {"num": 3 + seed, "num_class": 3, "biases": biases, "thresh": 0.4, "side": 4 + seed, **changes}
    x = np.float32(random.standard_normal((1 + seed, f["num"] * 8, 4 + seed, 4 + seed)))
    boxes = labelled(random, len(x), 3)
    label = in_rows(boxes, random) if strict else in_lines(boxes)
    run = Run("RegionLoss", [x, label], fields={"region_loss_param": f})
    if strict:
        rows = label[0, 0].astype(np.float64)
        boxes = [
            [(k - 1, (a + c) / 2, (b + d) / 2, c - a, d - b) for i, k, _, a, b, c, d, _ in rows if i == item]
            for item in range(len(x))
        ]
    holds(run, *version2(x.astype(np.float64), boxes, {**f, **floats(f)}, strict))


def test_no_box_at_all():
    x = np.zeros((2, 14, 3, 3), np.float32)
    f = {"num": 2, "num_class": 2, "biases": BIASES, "mask": [0, 1]}
    run = Run("Yolov3", [x, np.zeros((2, 1, 300, 5))], fields={"yolov3_param": f})
    holds(run, 2 * 9 * 2 * 0.25 / 2, np.float64(np.arange(14) % 7 == 4).reshape(1, -1, 1, 1) * np.full(x.shape, 0.25))


def third(**changes):
    f = {"num": 2, "num_class": 2, "biases": BIASES, "mask": [0, 1], **changes}
    return {"yolov3_param": f}


def second(**changes):
    f = {"num": 2, "num_class": 2, "biases": BIASES, "side": 3, **changes}
    return {"region_loss_param": f}


MAP, LINES, ROWS = np.zeros((2, 14, 3, 3)), np.zeros((2, 1, 300, 5)), np.full((1, 1, 2, 8), -1.0)


def test_refusals():
    refused("13 channels", "Yolov3", [MAP[:, :13], LINES], fields=third())
    refused("labels for", "Yolov3", [MAP, LINES[:, :, :30]], fields=third())
    refused(
        "iou_loss GIOU",
        "Yolov3",
        [MAP, LINES],
        fields={"yolov3_param": {**third()["yolov3_param"], "iou_loss": Word("GIOU")}},
    )
    refused("1 masks", "Yolov3", [MAP, LINES], fields=third(mask=[0]))
    refused("two for every mask", "Yolov3", [MAP, LINES], fields=third(mask=[0, 6]))
    refused("4 biases", "RegionLoss", [MAP, LINES], fields=second(biases=[1, 2, 3, 4]))
    refused("coords 5", "RegionLoss", [MAP, LINES], fields=second(coords=5))
    refused("a map of 3x3", "RegionLoss", [MAP, ROWS], fields=second(side=4))
    refused("a map of 3x4", "RegionLoss", [np.zeros((2, 14, 3, 4)), LINES], fields=second())
    refused("softmax_tree", "RegionLoss", [MAP, ROWS], fields=second(softmax_tree="tree.txt"))
    refused("class_map", "RegionLoss", [MAP, ROWS], fields=second(class_map="map.txt"))


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ([2, 0.5, 0.5, 0.1, 0.1], "label 2"),
        ([0, 1.5, 0.5, 0.1, 0.1], "centre within the image"),
        ([0, 0.5, 0.5, 0.1, 0], "an area"),
        ([0, 0.5, 0.5, 0, 0.1], "an area"),
        ([0, 0.5, 1.0, 0.1, 0.1], "centre within the map"),
        ([np.nan, 0.5, 0.5, 0.1, 0.1], "label nan"),
    ],
)
def test_labels_that_the_forks_would_write_elsewhere_for(line, match):
    label = LINES.copy()
    label[1, 0, 0] = line
    run = Run("Yolov3", [MAP, label], fields=third())
    for answer in (run.reference, run.torch):
        with pytest.raises(Exception, match=match):
            answer()


def test_a_row_of_an_item_that_is_not_there():
    rows = np.array([[[[2, 1, 0, 0.1, 0.1, 0.2, 0.2, 0]]]])
    with pytest.raises(Exception, match="item 2"):
        Run("RegionLoss", [MAP, rows], fields=second()).torch()


def test_there_is_no_onnx_form():
    with pytest.raises(ExportError, match="overwrite each other"):
        build_onnx(Run("Yolov3", [MAP, LINES], fields=third()).net)
