"""Element-wise layers, one number at a time (semantics 1.6 to 1.9, 1.13)."""

from __future__ import annotations

import math

import numpy as np

from .rules import Setting, axis_of, check, clear, legacy, places, rule


def each(x: np.ndarray, function) -> list[np.ndarray]:
    """One top: a function of every number."""
    top = np.zeros(x.shape)
    for at in places(x.shape):
        top[at] = function(float(x[at]))
    return [top]


def logistic(v: float) -> float:
    return 1 / (1 + math.exp(-v)) if v > 0 else math.exp(v) / (1 + math.exp(v))


@rule("ReLU")
def relu(s: Setting, x):
    slope = s.given("relu_param").get("negative_slope", 0.0)
    return each(x, lambda v: max(v, 0) + slope * min(v, 0))


@rule("PReLU")
def prelu(s: Setting, x):
    check(x.ndim >= 2)
    if s.given("prelu_param").get("channel_shared", False):
        slope = s.blob()
        return each(x, lambda v: v if v > 0 else slope * v)
    slope, top = s.blob(x.shape[1]), np.zeros(x.shape)
    for at in places(x.shape):
        top[at] = x[at] if x[at] > 0 else slope[at[1]] * x[at]
    return [top]


@rule("ELU")
def elu(s: Setting, x):
    alpha = s.given("elu_param").get("alpha", 1.0)
    return each(x, lambda v: v if v > 0 else alpha * (math.exp(v) - 1))


@rule("Sigmoid")
def sigmoid(s: Setting, x):
    return each(x, logistic)


@rule("TanH")
def tanh(s: Setting, x):
    return each(x, math.tanh)


@rule("AbsVal")
def absval(s: Setting, x):
    check(not s.case.in_place)
    return each(x, abs)


@rule("BNLL")
def bnll(s: Setting, x):
    return each(x, lambda v: v + math.log(1 + math.exp(-v)) if v > 0 else math.log(1 + math.exp(v)))


@rule("Power")
def power(s: Setting, x):
    p = s.given("power_param")
    exponent, scale, shift = (
        np.float64(p.get("power", 1.0)),
        p.get("scale", 1.0),
        np.float64(p.get("shift", 0.0)),
    )
    if exponent * scale == 0:
        return [np.full(x.shape, 1.0 if exponent == 0 else shift**exponent)]
    return each(x, lambda v: (shift + scale * v) ** exponent)


def base_of(p) -> float:
    base = p.get("base", -1.0)
    clear(base == -1 or base > 0)
    return math.e if base == -1 else base


@rule("Exp")
def exp(s: Setting, x):
    p = s.given("exp_param")
    return each(x, lambda v: base_of(p) ** (p.get("shift", 0.0) + p.get("scale", 1.0) * v))


@rule("Log")
def log(s: Setting, x):
    p = s.given("log_param")
    base = base_of(p)
    clear(base != 1)
    shift, scale = p.get("shift", 0.0), p.get("scale", 1.0)
    return each(x, lambda v: np.log(shift + scale * v) / math.log(base))


@rule("Threshold")
def threshold(s: Setting, x):
    least = s.given("threshold_param").get("threshold", 0.0)
    return each(x, lambda v: 1 if v > least else 0)


@rule("Swish")
def swish(s: Setting, x):
    beta = s.given("swish_param").get("beta", 1.0)
    return each(x, lambda v: v * logistic(beta * v))


@rule("Clip")
def clip(s: Setting, x):
    p = s.given("clip_param")
    clear(p.get("min") <= p.get("max"))
    return each(x, lambda v: min(max(v, p.get("min")), p.get("max")))


@rule("Dropout")
def dropout(s: Setting, x):
    check(0 < s.given("dropout_param").get("dropout_ratio", 0.5) < 1)
    check(not s.srn or x.ndim <= 4)
    return [x]


@rule("Softmax")
def softmax(s: Setting, x):
    axis = axis_of(s.given("softmax_param").get("axis", 1), x.ndim)
    return [shares(x, axis)]


def shares(x: np.ndarray, axis: int) -> np.ndarray:
    """Softmax, one position at a time."""
    top = np.zeros(x.shape)
    outer, inner = x.shape[:axis], x.shape[axis + 1 :]
    for before in places(outer):
        for after in places(inner):
            row = x[(*before, slice(None), *after)]
            terms = [math.exp(v - max(row)) for v in row]
            top[(*before, slice(None), *after)] = [t / sum(terms) for t in terms]
    return top


@rule("Eltwise")
def eltwise(s: Setting, *bottoms):
    p = s.given("eltwise_param")
    operation, coeff = p.get("operation", "SUM"), p.many("coeff")
    check(len(bottoms) >= 2 and all(b.shape == bottoms[0].shape for b in bottoms))
    check(len(coeff) in (0, len(bottoms)) and not (coeff and operation == "PROD"))
    top = np.zeros(bottoms[0].shape)
    for at in places(top.shape):
        values = [float(b[at]) for b in bottoms]
        if operation == "SUM":
            top[at] = sum(c * v for c, v in zip(coeff or [1] * len(values), values, strict=True))
        else:
            top[at] = math.prod(values) if operation == "PROD" else max(values)
    return [top]


def spanned(s: Setting, param: str, bottoms):
    """First axis and shape of the operand of Scale and Bias."""
    p, x = s.given(param), bottoms[0]
    if len(bottoms) == 2:
        operand = bottoms[1]
        axis = axis_of(p.get("axis", 1), x.ndim) if operand.ndim else 0
        check(axis + operand.ndim <= x.ndim and x.shape[axis : axis + operand.ndim] == operand.shape)
        return axis, operand.shape
    axis, number = axis_of(p.get("axis", 1), x.ndim), p.get("num_axes", 1)
    check(number >= -1 and axis + number <= x.ndim)
    return axis, x.shape[axis:] if number == -1 else x.shape[axis : axis + number]


def along(at, axis: int, shape) -> tuple[int, ...]:
    """The part of an index that lies in the operand."""
    return tuple(at[axis : axis + len(shape)])


@rule("Scale")
def scale(s: Setting, *bottoms):
    axis, shape = spanned(s, "scale_param", bottoms)
    if s.given("scale_param").get("bias_term", False):
        axis_of(s.given("scale_param").get("axis", 1), bottoms[0].ndim)  # of the Bias layer inside
    x, top = bottoms[0], np.zeros(bottoms[0].shape)
    factor = bottoms[1] if len(bottoms) == 2 else s.blob(*shape)
    term = s.blob(*shape) if s.given("scale_param").get("bias_term", False) else np.zeros(shape)
    for at in places(x.shape):
        top[at] = x[at] * factor[along(at, axis, shape)] + term[along(at, axis, shape)]
    return [top]


@rule("Bias")
def bias(s: Setting, *bottoms):
    axis, shape = spanned(s, "bias_param", bottoms)
    x, top = bottoms[0], np.zeros(bottoms[0].shape)
    term = bottoms[1] if len(bottoms) == 2 else s.blob(*shape)
    for at in places(x.shape):
        top[at] = x[at] + term[along(at, axis, shape)]
    return [top]


def channel_values(x: np.ndarray) -> list[list[float]]:
    """All values of each channel (axis 1)."""
    values: list[list[float]] = [[] for _ in range(x.shape[1])]
    for at in places(x.shape):
        values[at[1]].append(float(x[at]))
    return values


def mean_of(values) -> float:
    return math.fsum(values) / len(values)


def variance_of(values) -> float:
    """Divided by the number of values, not by one less."""
    mean = mean_of(values)
    return math.fsum((v - mean) ** 2 for v in values) / len(values)


@rule("BatchNorm")
def batch_norm(s: Setting, x):
    p = s.given("batch_norm_param")
    check(x.ndim >= 2)
    sums, squares, weight = s.blob(x.shape[1]), s.blob(x.shape[1], positive=True), s.blob(1, positive=True)
    eps, kept = p.get("eps", 1e-5), p.get("moving_average_fraction", 0.999)
    if p.get("use_global_stats", not s.train):
        mean, variance = sums / weight[0], squares / weight[0]
    else:
        groups = channel_values(x)
        m = len(groups[0])
        mean, variance = np.array(list(map(mean_of, groups))), np.array(list(map(variance_of, groups)))
        s.after = {
            0: kept * sums + mean,
            1: kept * squares + variance * (m / (m - 1) if m > 1 else 1),
            2: kept * weight + 1,
        }
    top = np.zeros(x.shape)
    for at in places(x.shape):
        top[at] = (x[at] - mean[at[1]]) / math.sqrt(variance[at[1]] + eps)
    return [top]


@rule("BN")
def bn(s: Setting, x):
    p = s.given("bn_param")
    clear(x.ndim >= 2)
    x4 = legacy(x)
    c = x4.shape[1]
    slope, offset, mean, variance = (s.blob(1, c, positive=i == 3) for i in range(4))
    if s.train and not p.get("frozen", False):
        groups = channel_values(x4)
        new_mean = np.array([list(map(mean_of, groups))])
        new_variance = np.array([list(map(variance_of, groups))])
        kept = p.get("momentum", 0.9)
        s.after = {2: kept * mean + (1 - kept) * new_mean, 3: kept * variance + (1 - kept) * new_variance}
        mean, variance = new_mean, new_variance
    top = np.zeros(x4.shape)
    for at in places(x4.shape):
        k = (0, at[1])
        top[at] = slope[k] * (x4[at] - mean[k]) / math.sqrt(variance[k] + p.get("eps", 1e-5)) + offset[k]
    return [top.reshape(x.shape)]


def groups_of(x4: np.ndarray, across: bool):
    """The index of every set of values that MVN and Normalize treat together."""
    for n in range(x4.shape[0]):
        for c in [slice(None)] if across else range(x4.shape[1]):
            yield (n, c)


@rule("MVN")
def mvn(s: Setting, x):
    p = s.given("mvn_param")
    clear(1 <= x.ndim <= 4)
    x4 = legacy(x)
    top = np.zeros(x4.shape)
    for at in groups_of(x4, p.get("across_channels", False)):
        values = [float(v) for v in x4[at].reshape(-1)]
        top[at] = x4[at] - mean_of(values)
        if p.get("normalize_variance", True):
            top[at] = top[at] / (math.sqrt(variance_of(values)) + p.get("eps", 1e-9))
    return [top.reshape(x.shape)]


@rule("Normalize")
def normalize(s: Setting, x):
    clear(1 <= x.ndim <= 4)
    x4 = legacy(x)
    top = np.zeros(x4.shape)
    for at in groups_of(x4, True):
        top[at] = x4[at] / math.sqrt(math.fsum(v * v for v in x4[at].reshape(-1)))
    return [top.reshape(x.shape)]


@rule("LRN")
def lrn(s: Setting, x):
    p = s.given("lrn_param")
    n, alpha, beta, k = p.get("local_size", 5), p.get("alpha", 1.0), p.get("beta", 0.75), p.get("k", 1.0)
    check(x.ndim == 4 and n % 2 == 1)
    half, top = n // 2, np.zeros(x.shape)
    for b, c, i, j in places(x.shape):
        if p.get("norm_region", "ACROSS_CHANNELS") == "ACROSS_CHANNELS":
            near = x[b, max(c - half, 0) : c + half + 1, i, j]
            base = k + alpha / n * float((near**2).sum())
        else:
            near = x[b, c, max(i - half, 0) : i + half + 1, max(j - half, 0) : j + half + 1]
            base = 1 + alpha / n**2 * float((near**2).sum())
        top[b, c, i, j] = x[b, c, i, j] * base**-beta
    return [top]


@rule("Split")
def split(s: Setting, x):
    check(not s.case.in_place)
    return [x] * s.tops


@rule("Gather", "Scatter")
def ranks(s: Setting, *bottoms):
    check(len(bottoms) == s.tops)
    return list(bottoms)


@rule("Silence")
def silence(s: Setting, *bottoms):
    return []


@rule("HDF5Output")
def hdf5_output(s: Setting, *bottoms):
    clear(len(bottoms) == 2)
    return []


@rule("Parameter")
def parameter(s: Setting):
    shape = s.given("parameter_param").get("shape")
    clear(shape is not None)
    return [s.blob(*shape.get("dim", []))]


@rule("DummyData")
def dummy_data(s: Setting):
    p = s.given("dummy_data_param")
    old = [p.many(name) for name in ("num", "channels", "height", "width")]
    shapes = [d.get("dim", []) for d in p.many("shape")]
    fillers = p.many("data_filler")
    check(len(fillers) in (0, 1, s.tops))
    if any(old):
        check(not shapes and all(len(v) in (1, s.tops) for v in old))
        shapes = [[v[0] if len(v) == 1 else v[i] for v in old] for i in range(s.tops)]
    check(len(shapes) in (1, s.tops))
    tops = []
    for i in range(s.tops):
        filler = (fillers[i] if len(fillers) > 1 else fillers[0]) if fillers else {}
        tops.append(np.full(shapes[i] if len(shapes) > 1 else shapes[0], np.float32(filler.get("value", 0.0))))
    return tops
