"""Fields that face nets add to Caffe's types, their small layers and general losses, against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pack_runs import FORWARD, Run, agree, near, refused
from properties.nets import Word

from port.net import params
from prototxt_gen.base.errors import ExportError

OPSETS = (13, 17, 22)


def numbers(*shape, seed=0):
    return np.random.RandomState([seed, *shape]).standard_normal(shape)


def dot_rows(x, rows, bias=None):
    flat = x.reshape(len(x), -1)
    y = np.zeros((len(flat), len(rows)))
    for i, j in np.ndindex(*y.shape):
        y[i, j] = sum(a * b for a, b in zip(flat[i], rows[j].reshape(-1), strict=True)) + (
            bias[j] if bias is not None else 0
        )
    return y


@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
def test_normalised_weights(phase):
    x, weight, bias = numbers(3, 2, 4), numbers(5, 8, seed=1), numbers(5, seed=2)
    fields = {"inner_product_param": {"num_output": 5, "normalize": True}}
    run = Run("InnerProduct", [x], [weight, bias], fields=fields, phase=phase)
    rows = np.array([w / math.sqrt(sum(v * v for v in w) + 1e-6) for w in run.blobs[0].astype(float)])
    run.holds([dot_rows(run.double()[0], rows, run.blobs[1].astype(float))], OPSETS)
    seed = numbers(3, 5, seed=3)
    found, of_blobs = run.gradients(seed)
    near(found[0], (seed @ rows).reshape(x.shape), 1e-5)
    near(of_blobs[0], seed.T @ run.double()[0].reshape(3, -1), 1e-5)  # as if the rows had always been so
    near(of_blobs[1], seed.sum(0), 1e-5)
    stored = next(iter(params(run.net).values()))[0].detach().numpy()
    near(stored, rows if phase == "TRAIN" else run.blobs[0], 1e-6)
    more = [np.concatenate([run.inputs[0]] * 2)]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


def test_a_second_bottom_as_rows():
    run = Run(
        "InnerProduct", [numbers(3, 2, 4), numbers(5, 8, seed=1)], fields={"inner_product_param": {"bias_term": False}}
    )
    run.holds([dot_rows(*run.double())], OPSETS)
    run.slopes_hold(numbers(3, 5, seed=2), bottoms=(0, 1))
    for match, fields in [("bias_term", {}), ("transpose", {"bias_term": False, "transpose": True})]:
        refused(match, "InnerProduct", [numbers(3, 4), numbers(5, 4)], fields={"inner_product_param": fields})
    fields = {"inner_product_param": {"bias_term": False}}
    refused("4 values an item", "InnerProduct", [numbers(3, 4), numbers(5, 3)], fields=fields)
    fields = {"inner_product_param": {"num_output": 2, "normalize": True, "transpose": True}}
    refused("normalize of transposed", "InnerProduct", [numbers(3, 4)], fields=fields)


@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
def test_held_factors(phase):
    x, factor, bias = numbers(2, 3, 4), np.array([-0.5, 0.75, 2.0]), numbers(3, seed=2)
    fields = {"scale_param": {"min_value": 0.25, "max_value": 1.5, "bias_term": True}}
    run = Run("Scale", [x], [factor, bias], fields=fields, phase=phase)
    held = np.array([0.25, 0.75, 1.5])
    wide = run.double()[0]
    run.holds([wide * held[:, None] + run.blobs[1].astype(float)[:, None]], OPSETS)
    seed = numbers(2, 3, 4, seed=3)
    found, of_blobs = run.gradients(seed)
    near(found[0], seed * held[:, None], 1e-5)
    near(of_blobs[0], (seed * wide).sum((0, 2)), 1e-5)
    stored = next(iter(params(run.net).values()))[0].detach().numpy()
    near(stored, held if phase == "TRAIN" else factor, 1e-6)
    refused("second bottom", "Scale", [x, numbers(3)], fields={"scale_param": {"min_value": 0}})


def ranked(scores, labels, top_k, least, weights=None):
    """Hits by sorting pairs of score and class, as the fork does."""
    hits, counted = [], []
    for i, label in enumerate(labels):
        if weights is not None and weights[i] == 0:
            continue
        order = sorted(((s, c) for c, s in enumerate(scores[i])), reverse=not least)
        hits.append(int(label) in [c for _, c in order[:top_k]])
        counted.append(int(label))
    return hits, counted


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize(("least", "weighted"), [(True, False), (True, True), (False, True)])
def test_accuracy_of_face_nets(top_k, least, weighted):
    scores = np.round(numbers(12, 4))
    labels, weights = np.arange(12) % 4, np.arange(12) % 3
    fields = {"accuracy_param": {"top_k": top_k, "min_is_better": least}}
    inputs = [scores, labels, weights][: 2 + weighted]
    run = Run("Accuracy", inputs, fields=fields, tops=2)
    hits, counted = ranked(scores, labels, top_k, least, weights if weighted else None)
    each = [np.mean([h for h, c in zip(hits, counted, strict=True) if c == k] or [0]) for k in range(4)]
    run.holds([np.mean(hits), each], OPSETS)


def test_accuracy_over_a_denominator():
    scores, labels = numbers(6, 3), np.arange(6) % 3
    run = Run("Accuracy", [scores, labels], fields={"accuracy_param": {"denominator": 4}})
    run.holds([sum(s.argmax() == k for s, k in zip(scores, labels, strict=True)) / 4], OPSETS)
    refused("another fork", "Accuracy", [scores, labels, labels], fields={"accuracy_param": {"denominator": 4}})


SMALL = {
    "Truncation": ({"truncation_param": {"lower_bound": -0.5, "upper_bound": 0.75}}, lambda v: min(max(v, -0.5), 0.75)),
    "SoftTruncation": ({"soft_truncation_param": {"c": 1.5}}, lambda v: 1 - math.exp(-v / 1.5)),
    "Cosine": ({}, math.cos),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_ones(name):
    fields, rule = SMALL[name]
    run = Run(name, [numbers(3, 4)], fields=fields)
    run.holds([np.vectorize(rule)(run.double()[0])], OPSETS)
    run.stays_double()
    run.slopes_hold(numbers(3, 4, seed=1))


def test_arccos():
    x = np.linspace(-0.9, 0.995, 12).reshape(3, 4)
    run = Run("Arccos", [x])
    run.holds([np.vectorize(math.acos)(run.double()[0])], OPSETS)
    near(run.gradients()[0][0], -1 / np.sqrt(1 - np.minimum(run.double()[0], 0.99) ** 2), 1e-5)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2, 2)])
def test_affine(shared, shape):
    count = () if shared else (shape[1],)
    run = Run(
        "EltwiseAffine",
        [numbers(*shape)],
        [numbers(*count, seed=1), numbers(*count, seed=2)],
        fields={"eltwise_affine_param": {"channel_shared": shared}},
    )
    x, (slope, bias) = run.double()[0], [b.astype(float) for b in run.blobs]
    y = np.zeros(shape)
    for at in np.ndindex(*shape):
        c = () if shared else at[1]
        y[at] = x[at] * slope[c] + bias[c]
    run.holds([y], OPSETS)
    run.slopes_hold(numbers(*shape, seed=3), blobs=(0, 1))


@pytest.mark.parametrize("operation", ["PROD", "SUM", "MAX"])
def test_pairs(operation):
    fields = {"operation": Word(operation), **({"coeff": [0.5, -2.0]} if operation == "SUM" else {})}
    run = Run("Pairwise", [numbers(3, 4), numbers(2, 4, seed=1)], fields={"pairwise_param": fields})
    a, b = run.double()
    rule = {"PROD": lambda u, v: u * v, "SUM": lambda u, v: 0.5 * u - 2 * v, "MAX": max}[operation]
    y = np.zeros((3, 2, 4))
    for m, n, k in np.ndindex(*y.shape):
        y[m, n, k] = rule(a[m, k], b[n, k])
    run.holds([y], OPSETS)
    run.slopes_hold(numbers(3, 2, 4, seed=2), bottoms=(0, 1))
    refused("as many channels", "Pairwise", [numbers(3, 4), numbers(2, 5)])


def test_gram():
    run = Run("Gram", [numbers(2, 3, 2, 4)])
    x = run.double()[0].reshape(2, 3, 8)
    y = np.zeros((2, 3, 3, 1))
    for n, i, j in np.ndindex(2, 3, 3):
        y[n, i, j, 0] = sum(a * b for a, b in zip(x[n, i], x[n, j], strict=True)) / 24
    run.holds([y], OPSETS)
    run.slopes_hold(numbers(2, 3, 3, 1, seed=1))
    more = [np.concatenate([run.inputs[0]] * 2)]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


def triplet(x, label, f, weight=None):
    """Loss, means and gradient in loops."""
    num, dim = x.shape
    loss, slopes, close_sum, far_sum = 0.0, np.zeros(x.shape), 0.0, 0.0
    for i in range(num):
        k = int(label[i])
        own = x[i, k]
        close_sum += own
        terms = {j: max(0.0, own + f["margin"] - x[i, j]) * f["negative_weight"] for j in range(dim) if j != k}
        far_sum += sum(x[i, j] for j in terms)
        if f["hardest_only"]:
            best = max(terms, key=lambda j: (terms[j], -j))
            terms = {j: v if j == best else 0.0 for j, v in terms.items()}
        blocked = f["positive_first"] and own > f["positive_upper_bound"]
        terms = {j: 0.0 if blocked else v for j, v in terms.items()}
        loss += sum(terms.values())
        for j, v in terms.items():
            slopes[i, j] = -f["negative_weight"] if v > 0 else 0.0
        if blocked or f["add_center_loss"] or any(v > 0 for v in terms.values()):
            slopes[i, k] = f["positive_weight"]
        if weight is not None:
            slopes[i] *= weight[i]
    return loss / num, [close_sum / num, far_sum / num / (dim - 1)], slopes / num


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("hardest", [False, True])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("center", [False, True])
def test_general_triplet(weighted, hardest, first, center):
    x, label = np.abs(numbers(6, 4)), np.arange(6) % 4
    weight = np.abs(numbers(6, seed=1))
    f = {
        "margin": 0.25,
        "hardest_only": hardest,
        "positive_first": first,
        "positive_upper_bound": 0.75,
        "add_center_loss": center,
        "positive_weight": 0.5,
        "negative_weight": 1.5,
    }
    inputs = [x, label, weight][: 2 + weighted]
    run = Run("GeneralTripletLoss", inputs, fields={"general_triplet_loss_param": f}, tops=2)
    loss, means, slopes = triplet(run.double()[0], label, f, run.double()[2] if weighted else None)
    agree(run.reference(), [loss, means], 1e-11, "reference")
    agree(run.torch(), [loss, means], FORWARD, "torch")
    near(run.gradients(2.0)[0][0], 2 * slopes, 1e-5)
    with pytest.raises(ExportError, match="loss for training"):
        run.onnx()


def contrastive(x, label, f, given=None):
    """Loss, means and gradient in loops, the place of the largest other found as the fork finds it."""
    x = x if given is None else given
    num, dim = x.shape
    loss, slopes, near_sum, far_sum, pushed = 0.0, np.zeros(x.shape), 0.0, 0.0, 0.0
    for i in range(num):
        k, terms, best = int(label[i]), np.zeros(dim), 0
        pull = min(f["positive_outlier_thresh"], max(0.0, x[i, k] - f["positive_margin"]))
        near_sum += pull
        for j in range(dim):
            if j == k:
                terms[j] = pull * f["positive_weight"]
            elif x[i, j] < f["negative_margin"]:
                gap = f["negative_margin"] - x[i, j]
                terms[j] = (math.exp(-x[i, j]) if f["exp_negative_weight"] else gap) * f["negative_weight"]
                far_sum += gap
                best = j if f["max_negative_only"] and terms[j] > terms[best] else best
        blocked = f["positive_first"] and x[i, k] > f["positive_upper_bound"]
        for j in range(dim):
            kept = not blocked and not (f["max_negative_only"] and j != best)
            loss += terms[j] if j == k or kept else 0.0
            if j == k:
                inside = f["positive_margin"] < x[i, k] < f["positive_outlier_thresh"]
                slopes[i, k] = f["positive_weight"] if blocked or inside else 0.0
            elif kept and x[i, j] < f["negative_margin"]:
                slopes[i, j] = -f["negative_weight"] * (math.exp(-x[i, j]) if f["exp_negative_weight"] else 1)
                pushed -= slopes[i, j]
    if "normalize_negative" in f and (excess := pushed / f["normalize_negative"] / num) > f["positive_weight"]:
        for i, j in np.ndindex(*x.shape):
            slopes[i, j] /= excess if j != int(label[i]) else 1
    return loss / num, [near_sum / num, far_sum / num / (dim - 1)], slopes / num


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("most", [False, True])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("exp", [False, True])
def test_general_contrastive(given, most, first, exp):
    x, label, other = np.abs(numbers(6, 4)), np.arange(6) % 4, np.abs(numbers(6, 4, seed=1))
    f = {
        "positive_margin": 0.125,
        "negative_margin": 1.25,
        "positive_weight": 0.5,
        "negative_weight": 1.5,
        "positive_outlier_thresh": 1.0,
        "positive_first": first,
        "positive_upper_bound": 0.75,
        "max_negative_only": most,
        "exp_negative_weight": exp,
        **({"normalize_negative": 0.5} if given else {}),
    }
    inputs = [x, label, other][: 2 + given]
    run = Run("GeneralContrastiveLoss", inputs, fields={"general_contrastive_loss_param": f}, tops=2)
    loss, means, slopes = contrastive(run.double()[0], label, f, run.double()[2] if given else None)
    agree(run.reference(), [loss, means], 1e-11, "reference")
    agree(run.torch(), [loss, means], FORWARD, "torch")
    near(run.gradients(2.0)[0][0], 2 * slopes, 1e-5)


def test_what_general_losses_refuse():
    x, label = numbers(3, 4), np.zeros(3)
    for match, fields in [
        ("square", {"square": True}),
        ("add_intra_mae", {"add_intra_mae": True}),
        ("0 or more", {"negative_weight": -1}),
    ]:
        refused(match, "GeneralContrastiveLoss", [x, label], fields={"general_contrastive_loss_param": fields})
    refused("1 classes", "GeneralTripletLoss", [x[:, :1], label])
    refused("3 values", "GeneralTripletLoss", [x, label, x])
