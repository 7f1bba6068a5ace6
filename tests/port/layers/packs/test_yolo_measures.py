"""EvalDetection, YoloSeg and SegmentationEvaluate against their rules in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pack_runs import BACKWARD, FORWARD, SAME_MATHS, Run, agree, near, refused
from properties.nets import Word
from yolo_loops import in_rows, labelled, overlap, sigmoid

from port.onnx.export import build_onnx
from prototxt_gen.base.errors import ExportError

BIASES = [1.25, 1.5, 3, 2, 0.5, 2.5, 4, 4.5, 2, 1]


def evaluated(x, rows, f):
    """The top of EvalDetection, box by box."""
    n, _, side, _ = x.shape
    classes = f["num_class"]
    top = np.zeros((n, classes + side * side * 20))
    for item in range(n):
        truths: dict[int, list] = {}
        for i, kind, _, x1, y1, x2, y2, _ in rows:
            if i == item:
                truths.setdefault(int(kind) - 1, []).append(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))
        for kind, boxes in truths.items():
            top[item, kind] = len(boxes)
        found = []
        for row in range(side):
            for column in range(side):
                for b in range(5):
                    v = x[item, b * (5 + classes) : (b + 1) * (5 + classes), row, column]
                    power = [math.exp(s) for s in v[5:]]
                    share, trust = max(power) / sum(power), sigmoid(v[4])
                    score = {"OBJ": trust, "PROB": share, "MULTIPLY": trust * share}[f["score_type"]]
                    box = [(column + sigmoid(v[0])) / side, (row + sigmoid(v[1])) / side]
                    box += [math.exp(v[2 + i]) * BIASES[2 * b + i] / side for i in (0, 1)]
                    found.append((score, power.index(max(power)), box))
        found.sort(key=lambda each: -each[0])
        kept = []
        for each in found:
            if f["nms"] >= 0 and all(overlap(other[2], each[2]) < f["nms"] for other in kept):
                kept.append(each)
        lines = []
        for kind in range(classes):
            taken = set()
            for score, label, box in kept:
                if label != kind or score < 0.005:
                    continue
                shared = [overlap(box, t) for t in truths.get(kind, [])]
                right = wrong = 0
                if not shared:
                    wrong = 1
                elif max(shared) >= f["threshold"]:
                    best = shared.index(max(shared))
                    right, wrong = int(best not in taken), int(best in taken)
                    taken.add(best)
                lines += [label, score, right, wrong]
        top[item, classes : classes + len(lines)] = lines
    return top


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("score", ["MULTIPLY", "OBJ", "PROB"])
def test_eval_detection(seed, score):
    random = np.random.RandomState(seed)
    f = {"side": 3 + seed % 2, "num_class": 2 + seed, "num_object": 5, "nms": 0.4375 if seed else -1.0}
    f |= {"threshold": 0.25, "biases": BIASES, "score_type": score}
    x = np.float32(random.standard_normal((2, 5 * (5 + f["num_class"]), f["side"], f["side"])))
    rows = in_rows(labelled(random, 2, f["num_class"], 6), random)
    expected = evaluated(x.astype(np.float64), rows[0, 0].astype(np.float64), f)
    run = Run("EvalDetection", [x, rows], fields={"eval_detection_param": {**f, "score_type": Word(score)}})
    agree(run.reference(), [expected], SAME_MATHS, "reference")
    agree(run.torch(), [expected], FORWARD, "torch")
    run.stays_double()
    assert all(grad is None for grad in run.gradients()[0])
    assert f["nms"] < 0 or expected[:, f["num_class"] :].any()
    with pytest.raises(ExportError, match="one after the other"):
        build_onnx(run.net)


def test_eval_detection_refuses():
    x, rows = np.zeros((1, 35, 3, 3)), np.full((1, 1, 2, 8), -1.0)
    f = {"side": 3, "num_class": 2, "num_object": 5, "biases": BIASES}

    def no(match, x=x, rows=rows, **changes):
        refused(match, "EvalDetection", [x, rows], fields={"eval_detection_param": {**f, **changes}})

    no("num_object 2", num_object=2)
    no("9 biases", biases=BIASES[:9])
    no("a map of 35x3x3", side=4)
    no("1x1x2x7 labels", rows=rows[..., :7])
    wrong = rows.copy()
    wrong[0, 0, 1, :2] = 0, 3
    with pytest.raises(Exception, match="label 3"):
        Run("EvalDetection", [x, wrong], fields={"eval_detection_param": f}).torch()


@pytest.mark.parametrize("counted", [False, True])
def test_yolo_seg(counted):
    random = np.random.RandomState(3)
    x, target = random.standard_normal((2, 3, 4, 5)), random.uniform(0, 1, (2, 3, 4, 5))
    x, target = np.float32(x), np.float32(target)
    counts = np.float32(random.randint(1, 15, (2, 3)))
    off = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(*x.shape):
        weight = 2.5
        if counted and target[n, c, i, j] > 0.5:
            own = float(counts[0, c] + counts[1, c])
            weight *= 2 - own / (2 * 20 - own)
        off[n, c, i, j] = weight * (sigmoid(float(x[n, c, i, j])) - float(target[n, c, i, j]))
    bottoms = [x, target, counts.reshape(2, 3, 1, 1)] if counted else [x, target.reshape(2, 60)]
    run = Run("YoloSeg", bottoms, fields={"yolo_seg_param": {"object_scale": 2.5, "num_class": 7, "class_scale": 9.0}})
    run.holds([(off**2).sum() / 2], (13, 17, 23))
    run.stays_double()
    found, _ = run.gradients(3.0)
    near(found[0], 3 * off / 2, BACKWARD)
    assert found[1] is None
    twice = [np.concatenate([b, b]) for b in bottoms]
    agree(run.onnx(17, twice), run.reference(twice), FORWARD, "another batch")


def test_yolo_seg_refuses():
    x = np.zeros((2, 3, 4, 5))
    refused("use_hardsigmoid", "YoloSeg", [x, x], fields={"yolo_seg_param": {"use_hardsigmoid": True}})
    refused("use_logic_gradient", "YoloSeg", [x, x], fields={"yolo_seg_param": {"use_logic_gradient": True}})
    refused("equal counts", "YoloSeg", [x, x[:, :2]])
    refused("N x C", "YoloSeg", [x, x, np.zeros((2, 4))])


def test_segmentation_evaluate():
    random = np.random.RandomState(4)
    x, target = np.float32(random.uniform(0, 1, (2, 3, 4, 5))), np.float32(random.randint(0, 2, (2, 3, 4, 5)))
    x[0, 1], target[0, 1] = 0, 0  # nothing in either
    expected = []
    for c in range(3):
        both = either = 0
        for i in range(4):
            for j in range(5):
                said, wanted = x[0, c, i, j] > 0.375, target[0, c, i, j] > 0.375
                both, either = both + (said and wanted), either + (said or wanted)
        expected.append(both / either if both else 0)
    fields = {"segmentation_evaluate_param": {"num_classes": 3, "threshold": 0.375}}
    run = Run("SegmentationEvaluate", [x, target], fields=fields)
    run.holds([np.reshape(expected, (1, 1, 1, 3))], (13, 17, 23))
    run.stays_double()
    refused("no num_classes", "SegmentationEvaluate", [x, target])
    refused("equal extents", "SegmentationEvaluate", [x, target[..., :4]], fields=fields)
    assert not torch.tensor(run.torch()[0]).requires_grad
