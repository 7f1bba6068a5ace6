"""synopsys-caffe's reductions and arithmetic against their rules in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pack_runs import FORWARD, Run, agree, refused

OPSETS = (13, 17, 22)


def numbers(*shape, seed=0):
    return np.random.RandomState([seed, *shape]).standard_normal(shape)


RULES = {
    "ReduceSum": sum,
    "ReduceMean": lambda v: sum(v) / len(v),
    "ReduceMax": max,
    "ReduceMin": min,
    "ReduceProd": math.prod,
    "ReduceL1": lambda v: sum(map(abs, v)),
    "ReduceL2": lambda v: math.sqrt(sum(a * a for a in v)),
    "ReduceLogSumExp": lambda v: math.log(sum(map(math.exp, v))),
    "ReduceLogsumexp": lambda v: math.log(sum(map(math.exp, v))),
    "ReduceAll": lambda v: float(all(v)),
    "ReduceAny": lambda v: float(any(v)),
    "CountNonzero": lambda v: float(sum(a != 0 for a in v)),
}
LOGICAL = {"ReduceAll", "ReduceAny", "CountNonzero"}
PARAMS = {
    **{name: f"reduce_{name[6:].lower()}_param" for name in RULES},
    "CountNonzero": "count_nonzero_param",
}


def reduced(x, axes, keep, rule):
    """The values of every cell of the top, gathered one by one."""
    axes = [a % x.ndim for a in axes] or list(range(x.ndim))
    cells = {}
    for at in np.ndindex(*x.shape):
        cells.setdefault(tuple(0 if i in axes else n for i, n in enumerate(at)), []).append(float(x[at]))
    wide = np.zeros([1 if i in axes else n for i, n in enumerate(x.shape)])
    for at, values in cells.items():
        wide[at] = rule(values)
    return wide if keep else wide.reshape([n for i, n in enumerate(x.shape) if i not in axes])


@pytest.mark.parametrize(("axes", "keep"), [((1,), False), ((-1, 0), False), ((2, 1), True), ((), False), ((), True)])
@pytest.mark.parametrize("name", RULES)
def test_reductions(name, axes, keep):
    x = numbers(2, 3, 4)
    x = x * (np.random.RandomState(3).uniform(size=x.shape) < 0.7) if name in LOGICAL else x
    norm = name in ("ReduceL1", "ReduceL2")
    fields = {"axes" if norm else "axis": list(axes), "keepdims": int(keep) if norm else keep}
    run = Run(name, [x], fields={PARAMS[name]: fields})
    expected = reduced(run.double()[0], axes, keep, RULES[name])
    run.holds([expected], OPSETS if axes == (1,) else (17,))
    run.stays_double()
    if name not in LOGICAL:
        run.slopes_hold(numbers(*expected.shape, seed=1))
    more = [np.concatenate([run.inputs[0]] * 2)]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


def test_a_scalar_and_a_norm_that_keeps_its_axes():
    Run("ReduceSum", [np.float32(2.5)]).holds([2.5])
    run = Run("ReduceL1", [numbers(2, 3)])
    assert run.reference()[0].shape == (1, 1)


def test_what_reductions_refuse():
    x = numbers(2, 3)
    refused("each once", "ReduceSum", [x], fields={"reduce_sum_param": {"axis": [1, -1]}})
    refused("axis 2", "ReduceMax", [x], fields={"reduce_max_param": {"axis": [2]}})


PAIRS = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a / b,
    "Maximum": max,
    "Minimum": min,
    "Pow": lambda a, b: a**b,
    "FloorDiv": lambda a, b: math.floor(a / b),
    "FloorMod": lambda a, b: a - math.floor(a / b) * b,
}
SHAPES = [
    ((2, 3, 4), (2, 3, 4)),
    ((2, 3, 4), (3, 1)),
    ((4,), (2, 3, 1)),
    ((2, 1, 4), (1, 3, 1)),
    ((2, 3), ()),
    ((), (2, 3)),
]


def paired(a, b, rule):
    """The rule of every pair, the shapes aligned at the last axis."""
    rank = max(a.ndim, b.ndim)
    a, b = (v.reshape([1] * (rank - v.ndim) + list(v.shape)) for v in (a, b))
    out = np.zeros([max(m, n) for m, n in zip(a.shape, b.shape, strict=True)])
    for at in np.ndindex(*out.shape):
        mine = [v[tuple(0 if n == 1 else i for i, n in zip(at, v.shape, strict=True))] for v in (a, b)]
        out[at] = rule(*map(float, mine))
    return out


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("name", PAIRS)
def test_arithmetic(name, shapes):
    a, b = (numbers(*s, seed=i) for i, s in enumerate(shapes))
    if name == "Pow":
        a = np.abs(a) + 0.1
    if name in ("Div", "FloorDiv", "FloorMod"):
        b = np.where(b < 0, b - 0.3, b + 0.3)
    run = Run(name, [a, b])
    expected = paired(*run.double(), PAIRS[name])
    run.holds([expected], OPSETS if shapes == SHAPES[1] else (17,))
    run.stays_double()
    if not (name.startswith("Floor") and min(len(s) for s in shapes) == 0):
        run.slopes_hold(numbers(*expected.shape, seed=5), bottoms=(0, 1) if name != "FloorDiv" else ())


def test_a_product_with_a_blob():
    x, factor = numbers(2, 3, 4), numbers(3, 1, seed=1)
    run = Run("Mul", [x], [factor], fields={"mul_param": {"mul_shape": [3, 1]}})
    run.holds([paired(run.double()[0], run.blobs[0].astype(float), PAIRS["Mul"])], OPSETS)
    run.slopes_hold(numbers(2, 3, 4, seed=2), blobs=(0,))


def test_what_is_not_equal():
    a = np.round(numbers(3, 4))
    b = np.round(numbers(3, 4, seed=1))
    Run("NotEqual", [a, b]).holds([(a != b).astype(float)], OPSETS)
    run = Run("NotEqual", [a, np.float32(0)])
    run.holds([(a != 0).astype(float)], OPSETS)
    assert run.gradients()[0] == [None, None]
    refused("equal shapes", "NotEqual", [a, b[:1]])


def test_what_arithmetic_refuses():
    refused("equal or 1", "Add", [numbers(2, 3), numbers(2, 4)])
    refused("1 bottoms", "Sub", [numbers(2, 3)])
    refused("the top is the bottom", "Add", [numbers(2, 3), numbers(2, 3)], in_place=True)


FUNCTIONS = {
    "Sin": math.sin,
    "Atan": math.atan,
    "Floor": math.floor,
    "Ceil": math.ceil,
    "Round": round,
    "HardTanh": lambda v: min(max(v, -1.0), 1.0),
    "Softsign": lambda v: v / (1 + abs(v)),
    "ScaledTanH": lambda v: 1.5 * math.tanh(0.75 * v),
    "ThresholdedReLU": lambda v: v if v > 0.5 else 0.0,
    "XLU": lambda v: max(min(v if v > 0 else 0.25 * v, 1.25), -0.5),
}
FIELDS = {
    "ScaledTanH": {"scaled_tanh_param": {"alpha": 1.5, "beta": 0.75}},
    "ThresholdedReLU": {"thresholded_relu_param": {"alpha": 0.5}},
    "XLU": {"xlu_param": {"negative_slope": 0.25, "maximum": 1.25, "minimum": -0.5}},
}


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, in_place):
    x = 2 * numbers(3, 4, 5)
    x[0, 0, :4] = [0.5, 1.5, -0.5, 2.5] if name == "Round" else x[0, 0, :4]
    run = Run(name, [x], fields=FIELDS.get(name, {}), in_place=in_place)
    expected = [FUNCTIONS[name](float(v)) for v in run.inputs[0].reshape(-1)]
    run.holds([np.reshape(expected, x.shape)], (17,) if in_place else OPSETS)
    if name != "Round" and not in_place:
        run.slopes_hold(numbers(3, 4, 5, seed=1))


def test_bounds_that_are_not_taken():
    refused("2 bottoms", "XLU", [numbers(2, 3), np.ones(1)])
