"""Layers of face nets against their rules in plain loops: values, gradients, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pack_runs import BACKWARD, FORWARD, Run, agree, near, refused
from properties.nets import LAYER, Word

from port.net import params, run_values

R = np.random.RandomState


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.float32(R(seed).standard_normal(shape))


def passes(run: Run, count: int) -> list[list[np.ndarray]]:
    """The tops of several training passes, one after the other."""
    found = []
    for _ in range(count):
        values = run_values(run.net, {f"bottom{i}": torch.tensor(x) for i, x in enumerate(run.inputs)})
        found.append([values[v.name].detach().numpy() for v in run.graph.node(LAYER).tops])
    return found


# -- Normalize ----------------------------------------------------------------------------------------------------
def normalised(x, kind):
    y, norms = np.zeros(x.shape), np.zeros((x.shape[0], 1, *x.shape[2:]))
    for n, _, i, j in np.ndindex(*norms.shape):
        column = [float(v) for v in x[n, :, i, j]]
        size = sum(abs(v) for v in column) + 1e-6 if kind == "L1" else math.sqrt(sum(v * v for v in column) + 1e-6)
        norms[n, 0, i, j] = size
        y[n, :, i, j] = [v / size for v in column]
    return y, norms


@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize("tops", [1, 2])
def test_normalize(kind, tops):
    x = normal(2, 3, 4, 5)
    run = Run("Normalize", [x], tops=tops, fields={"normalize_param": {"normalize_type": kind, "bp_norm": True}})
    run.holds(normalised(x, kind)[:tops], (13, 17, 23))
    run.stays_double()
    run.slopes_hold(normal(2, 3, 4, 5, seed=1))
    twice = [np.concatenate([x, -x])]
    agree(run.onnx(17, twice), run.reference(twice), FORWARD, "another batch")


def test_normalize_gives_four_axes():
    x = normal(3, 5)
    y, norms = normalised(x.reshape(3, 5, 1, 1), "L2")
    Run("Normalize", [x], tops=2, fields={"normalize_param": {"normalize_type": "L2"}}).holds([y, norms])


def test_the_norm_hands_a_gradient_down_only_when_asked():
    x, seed = normal(2, 3, 4, 5), normal(2, 1, 4, 5, seed=1)
    y, _ = normalised(x, "L2")
    run = Run("Normalize", [x], tops=2, fields={"normalize_param": {"bp_norm": True}})
    near(run.gradients(seed, top=1)[0][0], y * seed, BACKWARD)
    run = Run("Normalize", [x], tops=2, fields={"normalize_param": {"bp_norm": False}})
    assert run.gradients(seed, top=1)[0][0] is None


@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_a_fixed_gradient_is_not_divided_by_the_norm(kind):
    x, seed = normal(2, 3, 4, 5), normal(2, 3, 4, 5, seed=1)
    _, norms = normalised(x, kind)
    fields = {"normalize_param": {"normalize_type": kind}}
    plain = Run("Normalize", [x], fields=fields).gradients(seed)[0][0]
    fields["normalize_param"]["fix_gradient"] = True
    near(Run("Normalize", [x], fields=fields).gradients(seed)[0][0], plain * norms, BACKWARD)


def test_which_normalize_is_meant():
    x = normal(2, 3, 4, 5)
    assert Run("Normalize", [x], fields={"normalize_param": {"bp_norm": True}}).layer.pack == "face"
    assert Run("Normalize", [x], [[1.0]], fields={"norm_param": {"eps": 1e-5}}).layer.pack == "ssd"
    assert Run("Normalize", [x], dialect="srn").layer.pack == ""
    refused("L3", "Normalize", [x], fields={"normalize_param": {"normalize_type": "L3"}})


# -- label-specific layers ------------------------------------------------------------------------------------------
def label_specific(x, labels, own, other=lambda v: v):
    y = np.zeros(x.shape)
    for n in range(len(x)):
        for c in range(x.shape[1]):
            y[n, c] = own(float(x[n, c])) if c == labels[n] else other(float(x[n, c]))
    return y


LABELS = np.array([2, 0, 3, 2])


def specific(type, param, fields, x=None, **kwargs):
    x = normal(4, 5) if x is None else x
    return Run(type, [x, LABELS], fields={param: fields}, **{"phase": "TRAIN", "tops": 2, **kwargs})


def test_label_specific_add():
    x = normal(4, 5)
    x[0, 2] = 0.125
    run = specific("LabelSpecificAdd", "label_specific_add_param", {"bias": -0.5}, x)
    expected = label_specific(x, LABELS, lambda v: v - 0.5 if v > 0.5 else v)
    run.holds([expected, [-0.5]], (13, 17, 23))
    run.stays_double()
    run.slopes_hold(normal(4, 5, seed=1))
    assert run.gradients()[0][1] is None
    agree(
        specific("LabelSpecificAdd", "label_specific_add_param", {"bias": -0.5}, x, phase="TEST").torch()[:1],
        [x],
        0,
        "",
    )


def test_label_specific_add_changes_from_pass_to_pass():
    fields = {"bias_base": -0.25, "bias_gamma": -0.125, "bias_power": 2.0, "bias_min": -0.5, "iteration": 1}
    run = specific("LabelSpecificAdd", "label_specific_add_param", fields)
    for i, (_, bias) in enumerate(passes(run, 4)):
        wanted = min(max(-0.25 + (1 - 0.125 * (1 + i)) ** 2 - 1, -0.5), 0)
        near(bias, [wanted], FORWARD)


@pytest.mark.parametrize("changes", [{}, {"for_ip": True}, {"bias_fix": True, "negative_weight": 1.0}])
def test_label_specific_rescale(changes):
    x, f = normal(4, 5), {"positive_weight": 0.75, "negative_weight": 1.5, **changes}
    run = specific("LabelSpecificRescale", "label_specific_rescale_param", f, x)

    def own(v):
        return v if changes.get("for_ip") and v <= 0 else 0.75 * v + (0.25 if changes.get("bias_fix") else 0)

    expected = label_specific(x, LABELS, own, lambda v: v * f["negative_weight"])
    run.holds([expected, [0.75]], (13, 17, 23))
    run.slopes_hold(normal(4, 5, seed=1))
    for test, wanted in ((False, x), (True, expected)):
        tested = specific(
            "LabelSpecificRescale", "label_specific_rescale_param", {**f, "rescale_test": test}, x, phase="TEST"
        )
        agree(tested.torch()[:1], [wanted], FORWARD, "TEST")


def test_label_specific_rescale_changes_from_pass_to_pass():
    fields = {
        "positive_weight_base": 2.0,
        "gamma": 0.5,
        "power": 1.0,
        "positive_weight_min": 0.75,
        "positive_weight_max": 1.25,
    }
    run = specific("LabelSpecificRescale", "label_specific_rescale_param", fields)
    for i, (_, weight) in enumerate(passes(run, 4)):
        near(weight, [min(max(2 / (1 + 0.5 * (1 + i)), 0.75), 1.25)], FORWARD)


def test_label_specific_affine():
    x = np.float32(R(3).uniform(0.25, 3, (4, 5)))
    x[1, 0] = 3.125
    f = {
        "scale_base": 0.5,
        "scale_gamma": 0.5,
        "scale_max": 2.0,
        "bias_base": 0.25,
        "bias_gamma": 0.125,
        "bias_max": 1.0,
    }
    f |= {"power_base": 1.5, "power_gamma": 0.5, "iteration": 2}
    scale, bias, power = 0.5 * 2, 0.25 + 1.25 - 1, 1.5 / 2
    run = Run(
        "LabelSpecificAffine",
        [x, LABELS],
        [np.zeros(3)],
        tops=2,
        phase="TRAIN",
        fields={"label_specific_affine_param": f},
    )

    def bent(v):
        return min(v**power * scale * math.pi ** (1 - power) + bias, math.pi - 1e-4)

    run.holds([label_specific(x, LABELS, bent), [scale, bias, power]], (13, 17, 23))
    seed = normal(4, 5, seed=1)
    slope = label_specific(x, LABELS, lambda v: power * v ** (power - 1) * scale * math.pi ** (1 - power), lambda v: 1)
    (found, _), _ = Run(
        "LabelSpecificAffine", [x, LABELS], [np.zeros(3)], phase="TRAIN", fields={"label_specific_affine_param": f}
    ).gradients(seed)
    near(found, seed * slope, BACKWARD)


@pytest.mark.parametrize("fields", [{"margin_base": 20.0, "gamma": 0.0}, {}])
def test_label_specific_margin(fields):
    x = np.float32(R(3).uniform(-0.9, 0.9, (4, 5)))
    make = {"blobs": [[20.0]], "phase": "TRAIN", "fields": {"label_specific_margin_param": fields}}
    run = Run("LabelSpecificMargin", [x, LABELS], tops=2, **make)
    turn = math.radians(20)
    expected = label_specific(x, LABELS, lambda v: v * math.cos(turn) - math.sqrt(1 - v * v + 1e-12) * math.sin(turn))
    run.holds([expected, [20.0]], (13, 17, 23))
    one = Run("LabelSpecificMargin", [x, LABELS], **make)
    one.slopes_hold(normal(4, 5, seed=1))


def test_label_specific_margin_grows_and_is_stored():
    x = np.float32(R(3).uniform(-0.9, 0.9, (4, 5)))
    fields = {"label_specific_margin_param": {"margin_base": 5.0, "gamma": 2.0, "margin_max": 9.5}}
    run = Run("LabelSpecificMargin", [x, LABELS], [[5.0]], tops=2, phase="TRAIN", fields=fields)
    for i, (_, margin) in enumerate(passes(run, 4)):
        near(margin, [min(5 + 2 * i, 9.5)], FORWARD)
    near(params(run.net)[LAYER][0].numpy(), [9.5], FORWARD)


def test_label_specific_layers_refuse():
    x = normal(4, 5)
    refused("3 labels|labels for", "LabelSpecificAdd", [x, LABELS[:3]])
    for type, param, field, value in (
        ("LabelSpecificRescale", "label_specific_rescale_param", "power_on_positive", True),
        ("LabelSpecificAffine", "label_specific_affine_param", "auto_tune", True),
        ("LabelSpecificMargin", "label_specific_margin_param", "auto_tune", True),
        ("LabelSpecificMargin", "label_specific_margin_param", "type", Word("SOFT")),
    ):
        refused(field if field != "type" else "SOFT", type, [x, LABELS], fields={param: {field: value}})
    with pytest.raises(Exception, match="label 5"):
        specific("LabelSpecificAdd", "label_specific_add_param", {"bias": 1.0}).torch([x, np.float32([0, 5, 0, 0])])


# -- products and distances -------------------------------------------------------------------------------------------
def falls(kind: str, c: float) -> float:
    """cos(m t) of t = acos(c), going on downward: (-1)^k cos(m t) - 2 k, k the half turns of m t that are done."""
    m = ["SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE"].index(kind) + 1
    k = min(int(m * math.acos(c) / math.pi), m - 1)
    return (-1) ** k * math.cos(m * math.acos(c)) - 2 * k


KINDS = ["SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE"]


def product(x, w, labels, kind, mix, unit):
    y = np.zeros((len(x), len(w)))
    for i, j in np.ndindex(*y.shape):
        a, b = x[i].astype(np.float64), w[j].astype(np.float64)
        b = b / math.sqrt((b * b).sum()) if unit else b
        size = math.sqrt((a * a).sum() * (b * b).sum()) + (0 if unit else 1e-9)
        y[i, j] = (a * b).sum()
        if j == labels[i] and kind != "SINGLE":
            y[i, j] = (size * falls(kind, y[i, j] / size) + mix * y[i, j]) / (1 + mix)
    return y


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("type", ["MarginInnerProduct", "LargeMarginInnerProduct"])
def test_products_with_an_angle(type, kind):
    x, w, labels = normal(6, 3, 2), normal(4, 6, seed=1), np.array([0, 3, 2, 2, 1, 0])
    param = "margin_inner_product_param" if type[0] == "M" else "largemargin_inner_product_param"
    f = {
        "num_output": 4,
        "type": Word(kind),
        "base": 8.0,
        "gamma": 0.5,
        "power": 2.0,
        "iteration": 1,
        "lambda_min": 0.5,
    }
    mix = max(8 / (1 + 0.5 * 2) ** 2, 0.5)
    expected = product(x.reshape(6, 6), w, labels, kind, mix, type[0] == "M")
    run = Run(type, [x, labels], [w], tops=2, fields={param: f})
    run.holds([expected, [mix]], (13, 17, 23))
    run.stays_double()
    near(params(run.net)[LAYER][0].detach().numpy(), w, 0.0, "TEST leaves the weights")
    trained = Run(type, [x, labels], [w], tops=2, phase="TRAIN", fields={param: f})
    for i, (_, lambda_) in enumerate(passes(trained, 4)):
        near(lambda_, [max(8 / (1 + 0.5 * (2 + i)) ** 2, 0.5)], FORWARD)
    if type[0] == "M":
        near(params(trained.net)[LAYER][0].detach().numpy(), w / np.linalg.norm(w, axis=1)[:, None], FORWARD)


@pytest.mark.parametrize("kind", KINDS)
def test_large_margin_gradients_are_the_derivatives(kind):
    x, w = normal(5, 4), normal(3, 4, seed=1)
    f = {"num_output": 3, "type": Word(kind), "base": 0.5}
    run = Run("LargeMarginInnerProduct", [x, [0, 1, 2, 2, 1]], [w], fields={"largemargin_inner_product_param": f})
    run.slopes_hold(normal(5, 3, seed=2), blobs=[0])
    given = Run("LargeMarginInnerProduct", [x, [0, 1, 2, 2, 1], w], fields={"largemargin_inner_product_param": f})
    agree(given.torch(), run.reference(), FORWARD, "weights from a bottom")
    agree(given.onnx(), run.reference(), FORWARD, "weights from a bottom, ONNX")
    given.slopes_hold(normal(5, 3, seed=2), bottoms=[0, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_the_spheres_gradient(kind):
    """The label's part of x: slope * w + (f - cos * slope) / |x| * x at a coefficient length of 1; of w only x."""
    x, w, labels, seed = normal(5, 4), normal(3, 4, seed=1), [0, 1, 2, 2, 1], normal(5, 3, seed=2)
    w = np.float32(w / np.linalg.norm(w, axis=1)[:, None])
    f = {"num_output": 3, "type": Word(kind), "base": 0.5}
    run = Run("MarginInnerProduct", [x, labels], [w], fields={"margin_inner_product_param": f})
    (found, _), (of_w,) = run.gradients(seed)
    near(of_w, seed.T.astype(np.float64) @ x, BACKWARD)
    expected = np.zeros(x.shape)
    for i in range(5):
        for j in range(3):
            a, b = x[i].astype(np.float64), w[j].astype(np.float64)
            b = b / np.linalg.norm(b)
            size, part = np.linalg.norm(a), b
            if j == labels[i] and kind != "SINGLE":
                c = (a * b).sum() / size
                slope = (falls(kind, c + 1e-6) - falls(kind, c - 1e-6)) / 2e-6
                along = (falls(kind, c) - c * slope) / size
                part = ((slope * b + along * a) / math.hypot(slope, along) + 0.5 * b) / 1.5
            elif j == labels[i]:  # a length of 1 is what it has
                part = b
            expected[i] += seed[i, j] * part
    near(found, expected, BACKWARD)


def distances(x, w, kind):
    y = np.zeros((len(x), len(w)))
    for i, j in np.ndindex(*y.shape):
        apart = x[i].astype(np.float64) - w[j]
        y[i, j] = np.abs(apart).sum() if kind == "L1" else (apart**2).sum()
    return y


@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize("unit", [False, True])
def test_inner_distance(kind, unit):
    x, w = normal(3, 2, 2), normal(5, 4, seed=1)
    f = {"num_output": 5, "distance_type": kind, "normalize": unit, "bias_term": True}
    run = Run("InnerDistance", [x], [w], fields={"inner_distance_param": f})
    used = w.astype(np.float64)
    used = used / np.sqrt((used**2).sum(1, keepdims=True) + 1e-6) if unit else used
    run.holds([distances(x.reshape(3, 4), used, kind)], (13, 17, 23))
    run.stays_double()
    run.slopes_hold(normal(3, 5, seed=2), blobs=[] if unit else [0])
    twice = [np.concatenate([x, -x])]
    agree(run.onnx(17, twice), run.reference(twice), FORWARD, "another batch")
    if unit:
        trained = Run("InnerDistance", [x], [w], phase="TRAIN", fields={"inner_distance_param": f})
        passes(trained, 1)
        near(params(trained.net)[LAYER][0].detach().numpy(), used, FORWARD, "written back")


@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_inner_distance_to_given_centres(kind):
    x, w, labels, seed = normal(4, 3), normal(5, 3, seed=1), np.array([1, 4, 1, 0]), normal(4, 5, seed=2)
    run = Run("InnerDistance", [x, w], fields={"inner_distance_param": {"distance_type": kind}})
    run.holds([distances(x, w, kind)], (17,))
    run.slopes_hold(seed, bottoms=[0, 1])
    f = {"distance_type": kind, "update_center_only": True}
    own = Run("InnerDistance", [x, w, labels], fields={"inner_distance_param": f})
    own.holds([distances(x, w, kind)], (17,))
    mine = seed * (np.arange(5) == labels[:, None])
    found, _ = own.gradients(seed)
    near(found[0], run.gradients(seed)[0][0], BACKWARD)
    near(found[1], run.gradients(mine)[0][1], BACKWARD)


def test_products_and_distances_refuse():
    x, w = normal(4, 3), normal(5, 3)
    refused("no num_output", "InnerDistance", [x])
    refused("transpose", "InnerDistance", [x], fields={"inner_distance_param": {"num_output": 2, "transpose": True}})
    refused("distance_type L3", "InnerDistance", [x, w], fields={"inner_distance_param": {"distance_type": "L3"}})
    refused("3 bottoms", "InnerDistance", [x, w, np.zeros(4)])
    refused("values each", "InnerDistance", [x, w[:, :2]])
    refused("no num_output", "MarginInnerProduct", [x, np.zeros(4)])
    refused(
        "labels for", "MarginInnerProduct", [x, np.zeros(3)], fields={"margin_inner_product_param": {"num_output": 2}}
    )


# -- losses ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_center_loss(kind):
    x, centres, labels = normal(5, 3), normal(4, 3, seed=1), [1, 3, 1, 0, 1]
    apart = [x[i].astype(np.float64) - centres[c] for i, c in enumerate(labels)]
    total = sum(np.abs(a).sum() if kind == "L1" else (a**2).sum() / 2 for a in apart) / 5
    f = {"center_loss_param": {"num_output": 4, "distance_type": kind}}
    run = Run("CenterLoss", [x, labels], [centres], fields=f)
    run.holds([total], (13, 17, 23))
    run.stays_double()
    run.slopes_hold(2.0)
    pull = np.zeros((4, 3))
    for c in range(4):
        mine = [np.sign(a) if kind == "L1" else a for a, label in zip(apart, labels, strict=True) if label == c]
        pull[c] = -sum(mine, np.zeros(3)) / (1 + len(mine))
    near(run.gradients(2.0)[1][0], pull, BACKWARD)
    refused("no num_output", "CenterLoss", [x, labels])
    refused(
        "distance_type L0",
        "CenterLoss",
        [x, labels],
        fields={"center_loss_param": {"num_output": 4, "distance_type": "L0"}},
    )
    with pytest.raises(Exception, match="label 4"):
        run.torch([x, np.float32([4, 0, 0, 0, 0])])


@pytest.mark.parametrize("kind", ["ORIGIN", "LINEAR", "ONEADDP"])
@pytest.mark.parametrize("loss", [{}, {"ignore_label": 1}, {"normalization": Word("BATCH_SIZE")}])
def test_focal_loss(kind, loss):
    x, label = normal(2, 4, 3), R(1).randint(0, 4, (2, 3))
    f = {"type": Word(kind), "gamma": 1.5, "alpha": 1.25}
    total, count = 0.0, 0
    for n in range(2):
        for s in range(3):
            if label[n, s] != loss.get("ignore_label"):
                power = np.exp(x[n, :, s].astype(np.float64))
                p = power[label[n, s]] / power.sum()
                total -= (1.25 + p if kind == "ONEADDP" else 1.25 - p) ** 1.5 * math.log(p)
                count += 1
    divisor = 2 if "normalization" in loss else count
    p = np.exp(x.astype(np.float64)) / np.exp(x.astype(np.float64)).sum(1, keepdims=True)
    run = Run("FocalLoss", [x, label], tops=2, fields={"focal_loss_param": f, "loss_param": loss})
    run.holds([total / divisor, p], (13, 17, 23))
    run.stays_double()
    Run("FocalLoss", [x, label], fields={"focal_loss_param": f, "loss_param": loss}).slopes_hold(2.0)


def test_triplet_loss():
    a, p, n = normal(5, 3), normal(5, 3, seed=1), normal(5, 3, seed=2)
    terms = [
        max(0, 0.5 + ((x - y) ** 2).sum() - ((x - z) ** 2).sum())
        for x, y, z in zip(*np.float64([a, p, n]), strict=True)
    ]
    run = Run("TripletLoss", [a, p, n], fields={"triplet_loss_param": {"margin": 0.5}})
    assert 0 in terms
    run.holds([sum(terms) / 10], (13, 17, 23))
    run.slopes_hold(2.0, bottoms=[0, 1, 2])
    refused("N x C", "TripletLoss", [np.zeros((2, 3, 2))] * 3)


# -- ChannelScale -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("do", [(True, True, True), (False, True, True), (True, False, True), (True, True, False)])
def test_channel_scale(do):
    x, scale, seed = normal(2, 3, 4, 5), normal(2, 1, 4, 5, seed=1), normal(2, 3, 4, 5, seed=2)
    f = dict(zip(("do_forward", "do_backward_feature", "do_backward_scale"), do, strict=True))
    run = Run("ChannelScale", [x, scale], fields={"channel_scale_param": f})
    run.holds([x * np.float64(scale) if do[0] else x], (13, 17, 23))
    run.stays_double()
    to_x, to_scale = run.gradients(seed)[0]
    near(to_x, seed * np.float64(scale) if do[1] else seed, BACKWARD)
    near(to_scale, (seed * np.float64(x)).sum(1, keepdims=True) * do[2], BACKWARD)


def test_channel_scale_of_one_number():
    x, scale = normal(2, 3, 4, 5), np.abs(normal(2, 1, 4, 5, seed=1)) + 1
    f = {"channel_scale_param": {"global_scale": True, "max_global_scale": 1.75}}
    tested = Run("ChannelScale", [x, scale], [[1.5]], tops=2, fields=f)
    tested.holds([np.float64(x) * 1.5, [1.5]], (13, 17, 23))
    trained = Run("ChannelScale", [x, scale * 0.5], [[-1.0]], tops=2, phase="TRAIN", fields=f)
    size = float((scale * 0.5).astype(np.float64).mean())
    wanted = size
    for _, one in passes(trained, 3):
        near(one, [min(wanted, 1.75)], FORWARD)
        wanted = 0.99 * min(wanted, 1.75) + 0.01 * size
    refused("a second top", "ChannelScale", [x, scale], tops=2)
    refused("N x 1", "ChannelScale", [x, scale[:, :, :2]])
