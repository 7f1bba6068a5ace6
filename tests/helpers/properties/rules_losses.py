"""Losses and Accuracy, one location at a time (semantics 1.30 to 1.39)."""

from __future__ import annotations

import math

import numpy as np

from .rules import FLT_MIN, Setting, axis_of, check, clear, count, places, rule
from .rules_elementwise import shares

LEAST = 1e-20  # below it a probability counts as this


def agree(s: Setting, a, b) -> None:
    """Both bottoms have the same extent of axis 0; the fork reads it as `num`."""
    clear(a.ndim >= 1 and b.ndim >= 1)
    clear(not s.srn or (a.ndim <= 4 and b.ndim <= 4))
    check(len(a) == len(b))


def divided(s: Setting, total: float, p, full: int, valid: int, batch: int, default: str = "VALID") -> float:
    """A sum over the divisor that BVLC's `loss_param` chooses."""
    mode = p.get("normalization", {None: default, True: "VALID", False: "BATCH_SIZE"}[p.get("normalize")])
    return total / max(1, {"FULL": full, "VALID": valid, "BATCH_SIZE": batch, "NONE": 1}[mode])


@rule("SigmoidCrossEntropyLoss")
def sigmoid_cross_entropy(s: Setting, x, target):
    p = s.given("loss_param")
    agree(s, x, target)
    check(x.size == target.size)
    total, valid = 0.0, 0
    for v, t in zip(x.reshape(-1), target.reshape(-1), strict=True):
        if not s.srn and p.has("ignore_label") and int(t) == p.get("ignore_label"):
            continue
        total += max(v, 0) - v * t + math.log(1 + math.exp(-abs(v)))
        valid += 1
    if s.srn:
        return [total / len(x)]
    return [divided(s, total, p, x.size, valid, len(x), "BATCH_SIZE")]


def locations(shape, axis: int):
    """Every location outside the class axis, in order, as an index with a hole for the class."""
    for before in places(shape[:axis]):
        for after in places(shape[axis + 1 :]):
            yield (*before, slice(None), *after)


@rule("SoftmaxWithLoss")
def softmax_with_loss(s: Setting, x, label):
    p = s.given("loss_param")
    axis = axis_of(s.given("softmax_param").get("axis", 1), x.ndim)
    agree(s, x, label)
    check(label.size == x.size // x.shape[axis])
    share = shares(x, axis)
    total, valid = 0.0, 0
    for at, wanted in zip(locations(x.shape, axis), label.reshape(-1), strict=True):
        if p.has("ignore_label") and int(wanted) == p.get("ignore_label"):
            continue
        total -= math.log(max(share[at][int(wanted)], FLT_MIN))
        valid += 1
    batch = count(x.shape[:axis])
    if s.srn:
        loss = np.float64(total) / np.float64(valid if p.get("normalize", True) else batch)
    else:
        loss = divided(s, total, p, label.size, valid, batch)
    return [loss, share][: s.tops]


@rule("EuclideanLoss")
def euclidean(s: Setting, a, b):
    agree(s, a, b)
    check(count(a.shape[1:]) == count(b.shape[1:]))
    return [math.fsum((u - v) ** 2 for u, v in zip(a.reshape(-1), b.reshape(-1), strict=True)) / (2 * len(a))]


@rule("HingeLoss")
def hinge(s: Setting, x, label):
    agree(s, x, label)
    clear(label.size == len(x))
    total = 0.0
    for row, wanted in zip(x.reshape(len(x), -1), label.reshape(-1), strict=True):
        for j, v in enumerate(row):
            h = max(0, 1 + (-v if j == int(wanted) else v))
            total += h if s.given("hinge_loss_param").get("norm", "L1") == "L1" else h * h
    return [total / len(x)]


@rule("InfogainLoss")
def infogain(s: Setting, x, label, h):
    p = s.given("loss_param")
    agree(s, x, label)
    check(s.srn or not p.has("normalize"))
    if s.srn:
        check(s.tops == 1)
        clear(label.size == len(x))
        classes = count(x.shape[1:])
        check(h.size == classes * classes)
        matrix, total = h.reshape(classes, classes), 0.0
        for row, wanted in zip(x.reshape(len(x), -1), label.reshape(-1), strict=True):
            total -= sum(matrix[int(wanted), k] * math.log(max(row[k], LEAST)) for k in range(classes))
        return [total / len(x)]
    axis = axis_of(s.given("infogain_loss_param").get("axis", 1), x.ndim)
    classes = x.shape[axis]
    check(label.size == x.size // classes and h.size == classes * classes)
    share, matrix = shares(x, axis), h.reshape(classes, classes)
    total, valid = 0.0, 0
    for at, wanted in zip(locations(x.shape, axis), label.reshape(-1), strict=True):
        if p.has("ignore_label") and int(wanted) == p.get("ignore_label"):
            continue
        total -= sum(matrix[int(wanted), k] * math.log(max(share[at][k], LEAST)) for k in range(classes))
        valid += 1
    return [divided(s, total, p, label.size, valid, count(x.shape[:axis])), share][: s.tops]


@rule("MultinomialLogisticLoss")
def multinomial(s: Setting, x, label):
    agree(s, x, label)
    clear(label.size == len(x))
    rows = x.reshape(len(x), -1)
    return [-sum(math.log(max(rows[n, int(k)], LEAST)) for n, k in enumerate(label.reshape(-1))) / len(x)]


@rule("ContrastiveLoss")
def contrastive(s: Setting, a, b, similar):
    p = s.given("contrastive_loss_param")
    agree(s, a, b)
    clear(a.ndim >= 2 and b.ndim >= 2 and similar.ndim >= 1 and a.shape == b.shape)
    clear(similar.size == len(a) == len(similar) and count(a.shape[2:]) == 1)
    margin, total = p.get("margin", 1.0), 0.0
    for u, v, same in zip(a.reshape(len(a), -1), b.reshape(len(b), -1), similar.reshape(-1), strict=True):
        square = math.fsum((u - v) ** 2)
        if same != 0:
            total += square
        elif p.get("legacy_version", False):
            total += max(margin - square, 0)
        else:
            total += max(margin - math.sqrt(square), 0) ** 2
    return [total / (2 * len(a))]


@rule("SmoothL1Loss")
def smooth_l1(s: Setting, a, b, *weight):
    agree(s, a, b)
    clear(a.shape == b.shape and all(w.shape == b.shape for w in weight))
    total = 0.0
    for at in places(a.shape):
        u = (weight[0][at] if weight else 1) * (a[at] - b[at])
        total += 0.5 * u * u if abs(u) < 1 else abs(u) - 0.5
    return [total / len(a)]


@rule("Accuracy")
def accuracy(s: Setting, x, label):
    p = s.given("accuracy_param")
    k = p.get("top_k", 1)
    axis = axis_of(p.get("axis", 1), x.ndim)
    check(label.size == x.size // x.shape[axis])
    check(k <= x.shape[axis])
    clear(k >= 1 and not (s.srn and x.ndim > 4))
    check(s.tops == 1 or not s.srn)
    hits = np.zeros(x.shape[axis])
    seen = np.zeros(x.shape[axis])
    for at, wanted in zip(locations(x.shape, axis), label.reshape(-1), strict=True):
        if p.has("ignore_label") and int(wanted) == p.get("ignore_label"):
            continue
        row, wanted = [float(v) for v in x[at]], int(wanted)
        if s.srn:
            order = sorted(((v, j) for j, v in enumerate(row)), reverse=True)
            hit = wanted in [j for _, j in order[:k]]
        else:
            hit = sum(v >= row[wanted] for v in row) - 1 < k
        hits[wanted] += hit
        seen[wanted] += 1
    empty = np.nan if s.srn else 0.0
    share = hits.sum() / seen.sum() if seen.sum() else empty
    return [share, hits / np.maximum(seen, 1)][: s.tops]
