"""Element-wise types of forks, and what forks add to ReLU, Dropout and Eltwise, against their rules value by value."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pack_runs import Run, near, refused
from properties.nets import LAYER, Word

from port.layers.base import Misfit
from prototxt_gen.base.errors import ExportError

OPSETS = (13, 17, 22)


def f32(value: float) -> float:
    return float(np.float32(value))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x)) if x < 30 else x


RULES = {
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: min(max(f32(alpha) * x + f32(beta), 0), 1),
    "HardSwish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "Softplus": softplus,
    "Mish": lambda x: x * math.tanh(softplus(x)),
    "SeLU": lambda x, **f: (
        f32(f.get("lambda", 1.05070102)) * (x if x > 0 else f32(f.get("alpha", 1.67326319)) * (math.exp(x) - 1))
    ),
    "Swish": lambda x, beta=1.0: x / (1 + math.exp(-f32(beta) * x)),
    "ReLU6": lambda x, negative_slope=0.0: min(max(x, 0) + f32(negative_slope) * min(x, 0), 6),
}
RULES["SeLu"] = RULES["SeLU"]
CASES = [
    ("HardSigmoid", "", {}),
    ("HardSigmoid", "hard_sigmoid_param", {"alpha": 0.37, "beta": 0.2}),
    ("HardSwish", "", {}),
    ("Softplus", "", {}),
    ("Mish", "", {}),
    ("SeLU", "", {}),
    ("SeLU", "selu_param", {"lambda": 1.3, "alpha": 0.7}),
    ("SeLu", "selu_param", {"alpha": 1.1}),
    ("Swish", "swish_param", {"beta": 1.7}),
    ("ReLU6", "", {}),
    ("ReLU6", "relu6_param", {"negative_slope": 0.1}),
]


@pytest.mark.parametrize(("type", "param", "fields"), CASES)
@pytest.mark.parametrize("shape", [(3, 2, 5, 4), (7,), (2, 3)])
def test_a_value_becomes_another_one(type, param, fields, shape):
    x = np.random.RandomState(len(shape)).standard_normal(shape) * 4
    x.reshape(-1)[:2] = (0, 7.5)
    run = Run(type, [x], fields={param: fields} if param else {})
    expected = [RULES[type](float(v), **fields) for v in run.double()[0].reshape(-1)]
    run.holds([np.reshape(expected, shape)], OPSETS)
    if type != "Softplus":  # PyTorch's is the identity from 20 on
        run.stays_double()


@pytest.mark.parametrize(("type", "param", "fields"), CASES)
def test_the_gradient_is_the_derivative(type, param, fields):
    random = np.random.RandomState(5)
    x = random.uniform(-8, 8, (2, 3, 5))
    seed = random.standard_normal(x.shape)
    Run(type, [x], fields={param: fields} if param else {}).slopes_hold(seed)


@pytest.mark.parametrize("type", ["Softplus", "Mish"])
def test_nothing_overflows(type):
    x = [-500.0, -90.0, 90.0, 500.0]
    Run(type, [x]).holds([[0.0, RULES[type](-90.0), 90.0, 500.0]])


# -- ReLU with bounds --------------------------------------------------------------------------------------------------
def bounded(x, negative_slope=0.0, relu6=False, maximum=0.0, minimum=0.0):
    y = max(x, 0) + f32(negative_slope) * min(x, 0)
    y = min(y, 6) if relu6 else y
    y = min(y, f32(maximum)) if maximum > 0 else y
    return max(y, f32(minimum)) if minimum != 0 else y


@pytest.mark.parametrize(
    "fields",
    [
        {"relu6": True},
        {"relu6": True, "negative_slope": 0.25},
        {"maximum": 2.5},
        {"maximum": 2.5, "relu6": True},
        {"maximum": 20.0, "relu6": True},
        {"maximum": -1.0},
        {"minimum": 0.5},
        {"minimum": -0.5, "negative_slope": 0.5},
        {"minimum": 3.0, "maximum": 2.0},
        {"relu6": False, "negative_slope": 0.0},
    ],
)
def test_relu_between_bounds(fields):
    random = np.random.RandomState(2)
    x = random.uniform(-9, 9, (2, 3, 4))
    run = Run("ReLU", [x], fields={"relu_param": fields})
    run.holds([np.vectorize(lambda v: bounded(v, **fields))(run.double()[0])], OPSETS)
    run.stays_double()
    run.slopes_hold(random.standard_normal(x.shape))


def test_at_a_bound_relu_has_no_gradient():
    grads, _ = Run("ReLU", [[5.0, 6.0, 7.0, 0.0, -1.0]], fields={"relu_param": {"relu6": True}}).gradients()
    assert grads[0].tolist() == [1, 0, 0, 0, 0]


def test_relu6_in_place_has_the_same_gradient():
    run = Run("ReLU6", [[5.0, 6.5, -1.0]], in_place=True)
    run.holds([[5.0, 6.0, 0.0]])
    assert run.gradients()[0][0].tolist() == [1, 0, 0]


# -- LogSoftmax --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("axis", [None, 0, 2, -1])
def test_log_softmax_never_falls_below_its_floor(axis):
    random = np.random.RandomState(3)
    x = random.standard_normal((3, 4, 5)) * 12
    fields = {} if axis is None else {"log_softmax_param": {"axis": axis}}
    run = Run("LogSoftmax", [x], fields=fields)
    at = 1 if axis is None else axis
    share = np.exp(run.double()[0] - run.double()[0].max(at, keepdims=True))
    share /= share.sum(at, keepdims=True)
    run.holds([np.log(np.maximum(share, float(np.float32(1e-20))))], OPSETS)
    run.stays_double()
    run.slopes_hold(random.standard_normal(x.shape))


def test_log_softmax_of_far_values():
    Run("LogSoftmax", [[[0.0, 100.0]]]).holds([[[math.log(f32(1e-20)), 0.0]]])
    refused("axis 4", "LogSoftmax", [np.zeros((2, 3))], fields={"log_softmax_param": {"axis": 4}})


# -- dropouts ----------------------------------------------------------------------------------------------------------
def within(share: float, expected: float, draws: int) -> bool:
    return abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / draws)


def drawn(type, x, fields, phase="TRAIN"):
    torch.manual_seed(1)
    run = Run(type, [x], fields=fields, phase=phase)
    return run, run.torch()[0]


def test_dropout_that_scales_in_test():
    fields = {"dropout_param": {"dropout_ratio": 0.3, "scale_train": False}}
    x = np.random.RandomState(1).standard_normal((3, 4))
    run = Run("Dropout", [x], fields=fields)
    run.holds([run.double()[0] * (1 - f32(0.3))], OPSETS)
    assert np.allclose(run.gradients()[0][0], 0.7)
    _, y = drawn("Dropout", np.ones((50, 60)), fields)
    assert set(np.unique(y)) == {0.0, 1.0}
    assert within(y.mean(), 0.7, y.size)


def test_dropout_that_scales_by_the_root():
    _, y = drawn("Dropout", np.ones((50, 60)), {"dropout_param": {"dropout_ratio": 0.75, "sqrt_scale": True}})
    assert set(np.round(np.unique(y), 6)) == {0.0, 2.0}
    assert within((y > 0).mean(), 0.25, y.size)
    run = Run("Dropout", [[1.0, 2.0]], fields={"dropout_param": {"sqrt_scale": True}})
    run.holds([[1.0, 2.0]])
    both = {"dropout_param": {"sqrt_scale": True, "scale_train": False}}
    refused("sqrt_scale", "Dropout", [[1.0]], fields=both)


def test_dropout_that_draws_in_test():
    fields = {"dropout_param": {"dropout_ratio": 0.2, "sample_weights_test": True}}
    run, y = drawn("Dropout", np.ones((50, 60)), fields, phase="TEST")
    assert set(np.unique(y)) == {0.0, np.float32(1.25)}
    assert within((y > 0).mean(), 0.8, y.size)
    with pytest.raises(Misfit, match="sample_weights_test"):
        run.layer.reference([], y)
    with pytest.raises(ExportError, match="sample_weights_test"):
        run.onnx()


@pytest.mark.parametrize("shape", [(40, 30, 3, 2), (40, 30), (20, 30, 4)])
def test_spatial_dropout_drops_channels(shape):
    fields = {"spatial_dropout_param": {"dropout_ratio": 0.25}}
    _, y = drawn("SpatialDropout", np.ones(shape), fields)
    cells = y.reshape(shape[0] * shape[1], -1)
    assert (cells == cells[:, :1]).all() and set(np.unique(y)) == {0.0, np.float32(4 / 3)}
    assert within((cells[:, 0] > 0).mean(), 0.75, len(cells))
    x = np.random.RandomState(1).standard_normal(shape)
    run = Run("SpatialDropout", [x], fields=fields)
    run.holds([run.double()[0]])
    refused("2 or more", "SpatialDropout", [[1.0]], fields=fields)


@pytest.mark.parametrize("type", ["SeLUDropout", "SeLuDropout"])
def test_selu_dropout_keeps_mean_and_variance(type):
    ratio, alpha = 0.2, -1.75809932
    fields = {"selu_dropout_param": {"dropout_ratio": ratio}}
    x = np.random.RandomState(1).standard_normal((100, 400))
    run, y = drawn(type, x, fields)
    a = ((1 - ratio) * (1 + alpha**2 * ratio)) ** -0.5
    b = -a * ratio * alpha
    kept = np.abs(y - (a * run.double()[0] + b)) < 1e-5
    assert np.abs(y[~kept] - (a * alpha + b)).max() < 1e-5
    assert within(kept.mean(), 1 - ratio, y.size)
    assert abs(y.mean()) < 0.02 and abs(y.var() - 1) < 0.03
    Run(type, [[1.0, -2.0]], fields=fields).holds([[1.0, -2.0]], OPSETS)
    with pytest.raises(ExportError, match="TEST phase"):
        run.onnx()
    refused("dropout_ratio 1", type, [[1.0]], fields={"selu_dropout_param": {"dropout_ratio": 1.0}})


# -- Eltwise -----------------------------------------------------------------------------------------------------------
def eltwise(operation, coeff, arrays):
    """The rule for one place."""
    if operation == "SUM":
        return sum(c * v for c, v in zip(coeff or [1] * len(arrays), arrays, strict=True))
    if operation == "DIV":
        return arrays[0] / arrays[1]
    top = arrays[0]
    for v in arrays[1:]:
        top = {"PROD": top * v, "MAX": max(top, v), "MIN": min(top, v)}[operation]
    return top


def spread(first, second, axis):
    """The second bottom at every place of the first."""
    made = np.zeros(first.shape)
    for at in np.ndindex(*first.shape):
        made[at] = second[at[axis : axis + second.ndim]]
    return made


@pytest.mark.parametrize(("operation", "count"), [("DIV", 2), ("MIN", 2), ("MIN", 4), ("MAX", 3)])
def test_eltwise_of_equal_shapes(operation, count):
    random = np.random.RandomState(count)
    xs = [random.uniform(0.5, 3, (2, 3, 4)) * random.choice([-1, 1], (2, 3, 4)) for _ in range(count)]
    run = Run("Eltwise", xs, fields={"eltwise_param": {"operation": Word(operation)}})
    run.holds([np.vectorize(lambda *v: eltwise(operation, [], v))(*run.double())], OPSETS)
    run.stays_double()
    run.slopes_hold(random.standard_normal((2, 3, 4)), range(count))


@pytest.mark.parametrize("operation", ["SUM", "PROD", "MAX", "MIN", "DIV"])
@pytest.mark.parametrize(("shape", "axis"), [((2,), 0), ((3, 4), 1), ((3,), -3), ((2, 3), None), ((), 2)])
def test_eltwise_spreads_the_second_bottom(operation, shape, axis):
    random = np.random.RandomState(7)
    first, second = random.uniform(0.5, 3, (2, 3, 4, 5)), random.uniform(0.5, 3, shape)
    xs = [first, second] + ([random.uniform(0.5, 3, first.shape)] if operation != "DIV" else [])
    coeff = [2.0, -0.5, 3.0] if operation == "SUM" else []
    fields = (
        {"operation": Word(operation)} | ({} if axis is None else {"axis": axis}) | ({"coeff": coeff} if coeff else {})
    )
    dialect = "bvlc+synopsys" if axis is None else "bvlc"
    run = Run("Eltwise", xs, fields={"eltwise_param": fields}, dialect=dialect)
    wide = [run.double()[0], spread(first, run.double()[1], (axis or 0) % 4), *run.double()[2:]]
    run.holds([np.vectorize(lambda *v: eltwise(operation, coeff, v))(*wide)])
    run.slopes_hold(random.standard_normal(first.shape), range(len(xs)))


def test_where_two_are_least_the_second_gets_the_gradient():
    fields = {"eltwise_param": {"operation": Word("MIN")}}
    grads, _ = Run("Eltwise", [[1.0, 2.0], [1.0, 3.0], [1.0, 2.0]], fields=fields).gradients()
    assert [g.tolist() for g in grads] == [[0, 1], [1, 0], [0, 0]]


def test_what_eltwise_refuses():
    a, b = np.ones((2, 3)), np.ones(2)

    def given(**fields):
        return {"eltwise_param": fields}

    refused("to divide", "Eltwise", [a, a, a], fields=given(operation=Word("DIV")))
    refused("coefficients of DIV", "Eltwise", [a, a], fields=given(operation=Word("DIV"), coeff=[1.0, 2.0]))
    refused("coefficients of MIN", "Eltwise", [a, a], fields=given(operation=Word("MIN"), coeff=[1.0, 2.0]))
    refused("operation SORT", "Eltwise", [a, a], fields=given(operation=Word("SORT")))
    refused("different shapes", "Eltwise", [a, b])
    refused("at axis 1 of 2x3", "Eltwise", [a, b], fields=given(axis=1))
    refused("axis 2", "Eltwise", [a, a], fields=given(axis=2))
    refused("coeff_blob", "Eltwise", [a, a], fields=given(coeff_blob=True))


def test_a_division_by_zero_is_what_the_runtimes_make_of_it():
    run = Run("Eltwise", [[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]], fields={"eltwise_param": {"operation": Word("DIV")}})
    run.holds([[np.inf, -np.inf, np.nan]])


# -- Axpy --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("more", [(), (1, 1)])
@pytest.mark.parametrize("spatial", [(4, 5), (), (6,)])
def test_axpy(more, spatial):
    random = np.random.RandomState(4)
    a, x, y = (random.standard_normal(s) for s in ((2, 3, *more), (2, 3, *spatial), (2, 3, *spatial)))
    run = Run("Axpy", [a, x, y])
    a, x, y = run.double()
    expected = np.zeros(x.shape)
    for at in np.ndindex(*x.shape):
        expected[at] = a[(*at[:2], *[0] * len(more))] * x[at] + y[at]
    run.holds([expected], OPSETS)
    run.stays_double()
    run.slopes_hold(random.standard_normal(x.shape), (0, 1, 2))
    near(run.onnx(inputs=[np.repeat(v, 2, 0) for v in run.inputs])[0], np.repeat(expected, 2, 0), 5e-6)


def test_what_axpy_refuses():
    x = np.ones((2, 3, 4, 4))
    refused("a scale of 2x4", "Axpy", [np.ones((2, 4)), x, x])
    refused("a scale of 2x3x1x2", "Axpy", [np.ones((2, 3, 1, 2)), x, x])
    refused("a scale of 2x3x1", "Axpy", [np.ones((2, 3, 1)), x, x])
    refused("to add", "Axpy", [np.ones((2, 3)), x, np.ones((2, 3, 4, 5))])
    refused("2 bottoms", "Axpy", [np.ones((2, 3)), x])


@pytest.mark.parametrize("more", [(2, 3), (2, 3, 1), (2, 3, 1, 1)])
@pytest.mark.parametrize(("spatial", "swapped"), [((4, 5), False), ((4, 5), True), ((7,), True), ((1, 1), False)])
def test_broadcast_mul(more, spatial, swapped):
    random = np.random.RandomState(4)
    x, scale = (random.standard_normal(s) for s in ((2, 3, *spatial), more))
    run = Run("BroadcastMul", [scale, x] if swapped else [x, scale])
    given = dict(zip(("scale", "x") if swapped else ("x", "scale"), run.double(), strict=True))
    y = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        y[place] = given["x"][place] * given["scale"].reshape(2, 3)[place[:2]]
    run.holds([y], OPSETS)
    run.stays_double()
    run.slopes_hold(random.standard_normal(x.shape), (0, 1))


def test_what_broadcast_mul_refuses():
    for a, b in (((2, 4), (2, 3, 4, 5)), ((2, 3, 1, 5), (2, 3, 4, 5)), ((2, 3, 4, 5), (2, 3, 4, 5)), ((3,), (3,))):
        refused("N x C x 1 x 1", "BroadcastMul", [np.ones(a), np.ones(b)])
    refused("1 bottoms", "BroadcastMul", [np.ones((2, 3))])


@pytest.mark.parametrize(("type", "shapes"), [("Mish", [(0, 3)]), ("Axpy", [(0, 3), (0, 3, 2, 2), (0, 3, 2, 2)])])
def test_no_items(type, shapes):
    run = Run(type, [np.zeros(s) for s in shapes])
    assert run.torch()[0].shape == run.reference()[0].shape == shapes[-1]
    assert run.graph.node(LAYER).layer.type == type


def test_nan_stays_where_it_is():
    x = [np.nan, 1.0, -2.0]
    for type in ("HardSigmoid", "HardSwish", "Softplus", "Mish", "SeLU", "ReLU6"):
        run = Run(type, [x])
        for top in (*run.reference(), *run.torch(), *run.onnx()):
            assert np.isnan(top).tolist() == [True, False, False], type
