"""Gradients: central differences of the float64 reference wherever a layer is smooth, Caffe's formulas elsewhere."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from properties.draws import MAKERS, cases
from properties.nets import LAYER, Bottom, Case, Word, by_blob, graph_of, net_of
from properties.repeatable import repeatable
from properties.rules import Refused, Setting, Unclear, judge

from port.layers import REGISTRY
from port.layers.base import dialects
from port.net import params, run_values
from verify.parity.compare import compare

# Relative to the gradient's largest value; float32 against float64.
TOLERANCE = 1e-5
STEP = 1e-4  # of the central differences: their own error is about its square
MOST = 40  # coordinates of one array that are differenced

# Layers without a gradient, and bottoms that never get one (semantics 1.13 to 1.39, 2.8).
NO_BACKWARD = {"Accuracy", "ArgMax", "Threshold", "DummyData", "Silence", "HDF5Output"}
NO_GRADIENT = {
    "BatchReindex": (1,),
    "ContrastiveLoss": (2,),
    "Crop": (1,),
    "Embed": (0,),
    "HingeLoss": (1,),
    "InfogainLoss": (1, 2),
    "LSTM": (1,),
    "LSTMUnit": (2,),
    "MultinomialLogisticLoss": (1,),
    "RNN": (1,),
    "ROIPooling": (1,),
    "SigmoidCrossEntropyLoss": (1,),
    "SoftmaxWithLoss": (1,),
}
# Caffe's gradient is another one than the derivative: these have formulas of their own below.
FORMULA = {
    "ContrastiveLoss": "it divides by d + 1e-4",
    "SmoothL1Loss": "the weights do not enter a second time",
    # MVN: eps counts as negligible; SoftmaxWithLoss: the floor of its logarithm does not show. Both below too.
}
# Where a gradient's terms cancel, what is left is their rounding. Terms are near 1/10 or more in all layers; those
# that divide by a deviation or a norm have larger ones, which cancel wholly where few values stand together.
LEAST = {"BN": 1.0, "BatchNorm": 1.0, "LRN": 1.0, "MVN": 10.0, "Normalize": 10.0, "Scale": 1.0}

TYPES = sorted(set(MAKERS) - NO_BACKWARD - FORMULA.keys())
COMBINATIONS = [(name, dialect) for name in TYPES for dialect in dialects(REGISTRY[name])]


def smooth(case: Case) -> Case:
    """The case with inputs away from ties and kinks."""
    bottoms = []
    for i, bottom in enumerate(case.bottoms):
        if bottom.kind in ("normal", "quantised", "infinite", "extreme", "spread"):
            bottom = replace(bottom, kind="spread", limit=i)
        elif bottom.kind == "unit" or (i == 0 and REGISTRY[case.type].kind == "loss"):  # probabilities
            bottom = replace(bottom, kind="positive")
        bottoms.append(bottom)
    fields = case.fields
    if case.type == "MVN":  # with a larger eps Caffe's gradient is not the derivative
        fields = {"mvn_param": {**fields.get("mvn_param", {}), "eps": 1e-9}}
    return replace(case, bottoms=tuple(bottoms), fields=fields)


def seeds_of(case: Case, tops: list[np.ndarray]) -> list[np.ndarray]:
    """A random gradient for each top; none for a mask, a loss's probabilities, an empty window's -FLT_MAX or NaN."""
    random = np.random.RandomState([case.seed, 7])
    seeds = [np.where(np.abs(top) < 1e30, 1.5 + random.standard_normal(top.shape), 0) for top in tops]
    if case.type == "Pooling" or REGISTRY[case.type].kind == "loss":
        seeds[1:] = [np.zeros(top.shape) for top in tops[1:]]
    return [seed.astype(np.float32) for seed in seeds]


def torch_gradients(case: Case, setting: Setting, seeds):
    """What autograd gives for every bottom and blob; None where nothing flows."""
    net = net_of(graph_of(case), setting.blobs)
    inputs = [torch.tensor(x, requires_grad=True) for x in case.inputs()]
    values = run_values(net, by_blob(net.caffe, inputs))
    tops = [values[v.name] for v in net.caffe.node(LAYER).tops]
    total = sum(
        (torch.where(torch.isfinite(t), t, 0) * torch.tensor(s)).sum() for t, s in zip(tops, seeds, strict=True)
    )
    if not total.requires_grad:
        return [None] * len(inputs), [None] * len(setting.blobs)
    total.backward()
    return [x.grad for x in inputs], [blob.grad for blob in params(net).get(LAYER, [])]


def differences(case: Case, setting: Setting, seeds, array: np.ndarray, move) -> tuple[list, np.ndarray]:
    """Coordinates of an array and the derivatives of the seeded sum there; `move` puts in a changed array."""
    layer = graph_of(case).node(LAYER).layer
    places = list(np.ndindex(*array.shape))
    random = np.random.RandomState([case.seed, 8])
    if len(places) > MOST:
        places = [places[i] for i in random.choice(len(places), MOST, replace=False)]

    def total(changed: np.ndarray) -> float:
        inputs, blobs = move(changed)
        with np.errstate(all="ignore"):
            tops = layer.reference([b.copy() for b in blobs], *inputs)
        return math.fsum(float(np.where(s != 0, s * t, 0).sum()) for s, t in zip(seeds, tops, strict=True))

    slopes = []
    for at in places:
        up, down = array.copy(), array.copy()
        up[at] += STEP
        down[at] -= STEP
        slopes.append((total(up) - total(down)) / (2 * STEP))
    return places, np.array(slopes)


def check(case: Case) -> str:
    """Every gradient of the layer is the derivative, or is missing where Caffe computes none."""
    case = smooth(case)
    try:
        setting, tops = judge(case)
    except (Refused, Unclear):
        return "refused"
    seeds = seeds_of(case, tops)
    if not any(seed.any() for seed in seeds):  # such as the fork's mean over no label at all
        return "nothing to go back from"
    inputs = [x.astype(np.float64) for x in case.inputs()]
    blobs = [b.astype(np.float64) for b in setting.blobs]
    grads, blob_grads = torch_gradients(case, setting, seeds)

    def agrees(found, array, move, what) -> None:
        places, expected = differences(case, setting, seeds, array, move)
        if not expected.size or (found is None and not expected.any()):
            return
        assert found is not None, what
        least = LEAST.get(case.type, 0.1)
        tolerance = TOLERANCE * max(1.0, least / (float(np.abs(expected).max()) or 1.0))
        result = compare(np.array([found[at] for at in places]), expected, tolerance, what)
        assert result, str(result)

    for i, x in enumerate(inputs):
        if i in NO_GRADIENT.get(case.type, ()) or case.bottoms[i].kind in ("labels", "flags", "none"):
            assert grads[i] is None or not grads[i].any(), f"bottom {i} has a gradient"
        else:
            agrees(grads[i], x, lambda a, i=i: ([*inputs[:i], a, *inputs[i + 1 :]], blobs), f"bottom {i}")
    specs = graph_of(case).node(LAYER).specs
    for j, blob in enumerate(blobs):
        frozen = case.type == "BN" and case.fields.get("bn_param", {}).get("frozen", False)
        if specs[j].statistic or frozen:
            assert blob_grads[j] is None, f"blob {j} has a gradient"
        else:
            agrees(blob_grads[j], blob, lambda a, j=j: (inputs, [*blobs[:j], a, *blobs[j + 1 :]]), f"blob {j}")
    return "differenced"


@pytest.mark.parametrize(("type", "dialect"), COMBINATIONS)
def test_gradients_are_the_derivatives(type, dialect):
    run(type, dialect, 5)


@pytest.mark.slow
@pytest.mark.parametrize(("type", "dialect"), COMBINATIONS)
def test_gradients_of_very_many_layers_are_the_derivatives(type, dialect):
    run(type, dialect, 100)


def run(type: str, dialect: str, examples: int) -> None:
    """Draw and check; the same layers every time."""

    @repeatable(examples)
    @given(case=cases(type, dialect))
    def holds(case):
        check(case)

    holds()


# -- Caffe's own formulas ---------------------------------------------------------------------------------------------
def back(case: Case, inputs, blobs=(), seed: np.ndarray | None = None):
    """The gradients of bottoms and blobs; `seed` is the first top's (1 where None)."""
    net = net_of(graph_of(case), [np.float32(b) for b in blobs])
    leaves = [torch.tensor(np.float32(x), requires_grad=True) for x in inputs]
    values = run_values(net, by_blob(net.caffe, leaves))
    top = values[net.caffe.node(LAYER).tops[0].name]
    (top * (1.0 if seed is None else torch.tensor(np.float32(seed)))).sum().backward()
    return [x.grad for x in leaves], [b.grad for b in params(net).get(LAYER, [])]


def near(found, expected, what: str = "") -> None:
    result = compare(found.numpy(), np.asarray(expected, np.float64), TOLERANCE, what, nan=True)
    assert result, str(result)


def case_of(type: str, *shapes, dialect: str = "bvlc", tops: int = 1, phase: str = "TEST", **fields) -> Case:
    return Case(type, dialect, tuple(map(Bottom, shapes)), fields, tops=tops, phase=phase)


RANDOM = np.random.RandomState(5)
both_dialects = pytest.mark.parametrize("dialect", ["bvlc", "srn"])


@both_dialects
@pytest.mark.parametrize("across", [False, True])
def test_mvn_takes_eps_for_negligible(dialect, across):
    x, g = RANDOM.standard_normal((2, 3, 4, 5)), RANDOM.standard_normal((2, 3, 4, 5))
    expected = np.zeros(x.shape)
    for at in [(n, slice(None)) if across else (n, c) for n in range(2) for c in range(1 if across else 3)]:
        mean, deviation = x[at].mean(), x[at].std() + 0.25
        y = (x[at] - mean) / deviation
        expected[at] = (g[at] - g[at].mean() - y * (g[at] * y).mean()) / deviation
    fields = {"across_channels": across, "eps": 0.25}
    (found,), _ = back(case_of("MVN", x.shape, dialect=dialect, mvn_param=fields), [x], seed=g)
    near(found, expected)


@both_dialects
@pytest.mark.parametrize("legacy", [False, True])
def test_contrastive_loss_divides_by_a_little_more_than_the_distance(dialect, legacy):
    a, b = RANDOM.standard_normal((5, 3)), RANDOM.standard_normal((5, 3))
    b[1], b[2] = a[1] + 1e-3, a[2]  # near, and the same
    a, b = (x.astype(np.float32).astype(np.float64) for x in (a, b))
    similar, expected = np.array([1, 0, 0, 0, 0]), np.zeros((5, 3))
    for n in range(5):
        d = math.sqrt(((a[n] - b[n]) ** 2).sum())
        if similar[n]:
            expected[n] = (a[n] - b[n]) / 5
        elif legacy and 2 - d * d > 0:
            expected[n] = -(a[n] - b[n]) / 5
        elif not legacy and 2 - d > 0:
            expected[n] = -(2 - d) / (d + 1e-4) * (a[n] - b[n]) / 5
    fields = {"margin": 2.0, "legacy_version": legacy}
    case = case_of("ContrastiveLoss", (5, 3), (5, 3), (5,), dialect=dialect, contrastive_loss_param=fields)
    (to_a, to_b, to_label), _ = back(case, [a, b, similar])
    near(to_a, expected)
    near(to_b, -expected)
    assert to_label is None


def test_smooth_l1_weights_do_not_enter_a_second_time():
    a, b, weight = (
        RANDOM.standard_normal((4, 3)),
        3 * RANDOM.standard_normal((4, 3)),
        RANDOM.uniform(0, 2, (4, 3)),
    )
    u = weight * (a - b)
    expected = np.where(np.abs(u) < 1, u, np.sign(u)) / 4
    case = case_of("SmoothL1Loss", (4, 3), (4, 3), (4, 3), dialect="srn")
    (to_a, to_b, to_weight), _ = back(case, [a, b, weight])
    near(to_a, expected)
    near(to_b, -expected)
    assert to_weight is None


@both_dialects
def test_the_floor_of_the_softmax_loss_does_not_show_in_its_gradient(dialect):
    x = np.array([[400.0, 0, -300], [-np.inf, 1, 2], [0, 90, -90], [5, 5, 5]])
    labels, ignored = np.array([2, 0, 2, 1]), 1
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    expected = (p - np.eye(3)[labels]) * (labels != ignored)[:, None] / 3
    case = case_of("SoftmaxWithLoss", (4, 3), (4,), dialect=dialect, loss_param={"ignore_label": ignored})
    (found, _), _ = back(case, [x, labels])
    near(found, expected)


@both_dialects
def test_the_multinomial_loss_divides_by_the_floor_below_it(dialect):
    p, labels = np.array([[0.5, 0.5], [1e-30, 1], [0, 1]]), np.array([1, 0, 0])
    case = case_of("MultinomialLogisticLoss", (3, 2), (3,), dialect=dialect)
    (found, _), _ = back(case, [p, labels])
    near(found, [[0, -1 / 1.5], [-1e20 / 3, 0], [-1e20 / 3, 0]])


def test_the_forks_infogain_loss_divides_by_the_probability():
    p, h = RANDOM.uniform(0.1, 1, (4, 3)), RANDOM.standard_normal((3, 3))
    labels = np.array([2, 0, 1, 2])
    case = case_of("InfogainLoss", (4, 3), (4,), (3, 3), dialect="srn")
    (found, _, to_matrix), _ = back(case, [p, labels, h])
    near(found, -h[labels] / (4 * p))
    assert to_matrix is None


# At a kink: bottom values and the slopes that Caffe computes there.
KINKS = [
    ("ReLU", {"relu_param": {"negative_slope": 0.5}}, [-1, 0, 2], [0.5, 0.5, 1], "both"),
    ("ReLU", {}, [-1, 0, 2], [0, 0, 1], "both"),
    ("AbsVal", {}, [-1, 0, 2], [-1, 0, 1], "both"),
    ("ELU", {"elu_param": {"alpha": 2.0}}, [0, 1], [2, 1], "bvlc"),
    ("Clip", {"clip_param": {"min": -1.0, "max": 1.0}}, [-2, -1, 0, 1, 2], [0, 1, 1, 1, 0], "bvlc"),
    ("Power", {"power_param": {"power": 3.0}}, [0, 2], [np.nan, 12], "both"),
    ("Power", {"power_param": {"power": 2.0}}, [0, 2], [0, 4], "both"),
    ("Power", {"power_param": {"power": 3.0, "shift": 1.0}}, [-1, 1], [np.nan, 12], "both"),
    ("Power", {"power_param": {"power": 0.0}}, [0, 2], [0, 0], "both"),
    ("Power", {"power_param": {"power": 3.0, "scale": 0.0}}, [0, 2], [0, 0], "both"),
]


@pytest.mark.parametrize(("type", "fields", "x", "slopes", "where"), KINKS)
def test_slopes_at_kinks(type, fields, x, slopes, where):
    g = 1 + np.arange(len(x))
    for dialect in ("bvlc", "srn") if where == "both" else (where,):
        (found,), _ = back(case_of(type, (len(x),), dialect=dialect, **fields), [np.array(x)], seed=g)
        near(found, g * np.array(slopes), f"{type}, {dialect}")


@both_dialects
def test_prelu_at_zero_takes_the_slope_and_gives_it_nothing(dialect):
    x, g = np.array([[-2.0, 0, 3], [1, 0, -1]]), np.array([[1.0, 2, 3], [4, 5, 6]])
    (found,), (slope,) = back(case_of("PReLU", (2, 3), dialect=dialect), [x], [[0.5, 0.25, -1]], seed=g)
    near(found, [[0.5, 0.5, 3], [4, 1.25, -6]])
    near(slope, [-2.0, 0, -6])


@both_dialects
def test_the_winner_of_a_tie_gets_the_whole_gradient(dialect):
    a, b, c = np.array([[1.0, 1, 2, 0]]), np.array([[1.0, 0, 2, 0]]), np.array([[1.0, 1, 2, 3]])
    case = case_of("Eltwise", (1, 4), (1, 4), (1, 4), dialect=dialect, eltwise_param={"operation": Word("MAX")})
    found, _ = back(case, [a, b, c], seed=[[1, 2, 3, 4]])
    # of the first two the second wins, a later one only if it is larger
    for grad, expected in zip(found, ([[0, 2, 0, 0]], [[1, 0, 3, 0]], [[0, 0, 0, 4]]), strict=True):
        near(grad, expected)


@both_dialects
def test_the_first_maximum_of_a_window_gets_the_gradient(dialect):
    x = np.array([[1.0, 1, 0, 3], [1, 1, 3, 3], [2, 0, 0, 0], [2, 2, 0, 0]]).reshape(1, 1, 4, 4)
    case = case_of("Pooling", x.shape, dialect=dialect, pooling_param={"kernel_size": 2, "stride": 2})
    (found,), _ = back(case, [x], seed=np.array([[1, 2], [3, 4]]).reshape(1, 1, 2, 2))
    near(found[0, 0], [[1, 0, 0, 2], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]])


def test_the_first_maximum_of_a_region_gets_the_gradient():
    x, rois = np.ones((1, 1, 2, 3)), np.array([[0, 0, 0, 2, 1]])
    case = case_of("ROIPooling", x.shape, rois.shape, dialect="srn", roi_pooling_param={"pooled_h": 1, "pooled_w": 1})
    (found, _), _ = back(case, [x, rois], seed=np.full((1, 1, 1, 1), 7))
    near(found[0, 0], [[7, 0, 0], [0, 0, 0]])


@both_dialects
def test_a_product_by_quotients_has_no_gradient_at_zero(dialect):
    a, b = np.array([[0.0, 2]]), np.array([[3.0, 4]])
    for stable, expected in ((True, [[3, 4]]), (False, [[np.nan, 4]])):
        fields = {"operation": Word("PROD"), "stable_prod_grad": stable}
        found, _ = back(case_of("Eltwise", (1, 2), (1, 2), dialect=dialect, eltwise_param=fields), [a, b])
        near(found[0], expected)


@both_dialects
def test_the_hinge_loss_has_no_gradient_at_its_kink(dialect):
    x, label = np.array([[1.0, -1, 0.5]]), np.array([0])
    (found, _), _ = back(case_of("HingeLoss", (1, 3), (1,), dialect=dialect), [x, label])
    near(found, [[0, 0, 1]])


def test_what_filter_drops_gets_no_gradient():
    x, g = RANDOM.standard_normal((4, 3)), RANDOM.standard_normal((2, 3))
    (found, _), _ = back(case_of("Filter", (4, 3), (4,)), [x, np.array([0, 1, 0, -2])], seed=g)
    near(found, np.stack([0 * g[0], g[0], 0 * g[0], g[1]]))


def test_only_the_largest_entries_of_topk_get_a_gradient():
    x = np.array([[3.0, 1, 2, 5], [0, 4, 1, 2]])
    fields = {"reduction_param": {"operation": Word("TOPK"), "k": 2, "axis": 1}}
    (found,), _ = back(case_of("BatchReduction", (2, 4), dialect="srn", batch_reduction_param=fields), [x], seed=[2, 6])
    near(found, [[1, 0, 0, 1], [0, 3, 0, 3]])


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("frozen", [False, True])
def test_bn_with_stored_statistics_goes_back_as_a_linear_map(phase, frozen):
    x, g = RANDOM.standard_normal((2, 3, 4)), RANDOM.standard_normal((2, 3, 4))
    slope, bias, mean, variance = RANDOM.uniform(0.5, 2, (4, 1, 3))
    case = case_of("BN", x.shape, dialect="srn", phase=phase, bn_param={"frozen": frozen})
    (found,), (to_slope, to_bias, *rest) = back(case, [x], [slope, bias, mean, variance], seed=g)
    assert rest == [None, None]
    if phase == "TEST" or frozen:
        near(found, g * (slope / np.sqrt(variance + 1e-5)).reshape(1, 3, 1))
    if frozen:
        assert to_slope is None and to_bias is None
    else:
        near(to_bias, g.sum((0, 2))[None])


@both_dialects
def test_layers_without_backward_stop_the_gradient(dialect):
    cases_without = [
        case_of("Threshold", (2, 3), dialect=dialect),
        case_of("ArgMax", (2, 3), dialect=dialect),
        case_of("Accuracy", (2, 3), (2,), dialect=dialect),
    ]
    for case in cases_without:
        net = net_of(graph_of(case), [])
        inputs = [torch.zeros(b.shape, requires_grad=True) for b in case.bottoms]
        values = run_values(net, by_blob(net.caffe, inputs))
        assert not any(values[v.name].requires_grad for v in net.caffe.node(LAYER).tops), case.type
