"""Ristretto's layers in simulated fixed-point numbers, against plain loops over exact fractions."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from pack_runs import FORWARD, Run, agree, near, refused
from properties.nets import Word

OPSETS = (13, 17, 22)
GRIDS = {"layer_in": (6, 2), "params": (5, 3), "layer_out": (8, 1)}
QUANTIZED = {f"{kind}_{of}": n for of, pair in GRIDS.items() for kind, n in zip(("bw", "fl"), pair, strict=True)}


def numbers(*shape, seed=0):
    return np.random.RandomState([seed, *shape]).standard_normal(shape)


def fixed(value, of):
    """A number on a grid: held, then to the nearest, halves away from 0."""
    bits, behind = GRIDS[of]
    units = Fraction(float(value)) * Fraction(2) ** behind
    units = min(max(units, Fraction(-(2 ** (bits - 1)))), Fraction(2 ** (bits - 1) - 1))
    size = floor(abs(units) + Fraction(1, 2))
    return float((size if units >= 0 else -size) / Fraction(2) ** behind)


def grid(x, of):
    return np.vectorize(lambda v: fixed(v, of))(np.asarray(x, np.float64))


def convolved(x, w, b):
    y = np.zeros((len(x), len(w), x.shape[2] - 1, x.shape[3] - 1))
    for n, k, r, c in np.ndindex(*y.shape):
        y[n, k, r, c] = (x[n, :, r : r + 2, c : c + 2] * w[k]).sum() + b[k]
    return y


def spread(x, w, b):
    y = np.zeros((len(x), w.shape[1], x.shape[2] + 1, x.shape[3] + 1)) + b[:, None, None]
    for n, k, r, c in np.ndindex(*x.shape):
        y[n, :, r : r + 2, c : c + 2] += x[n, k, r, c] * w[k]
    return y


def joined(x, w, b):
    return x.reshape(len(x), -1) @ w.T + b


TYPES = {
    "ConvolutionRistretto": ("convolution_param", {"num_output": 3, "kernel_size": 2}, (3, 2, 2, 2), convolved),
    "DeconvolutionRistretto": ("convolution_param", {"num_output": 3, "kernel_size": 2}, (2, 3, 2, 2), spread),
    "FcRistretto": ("inner_product_param", {"num_output": 3}, (3, 24), joined),
}


@pytest.mark.parametrize("name", TYPES)
def test_fixed_point(name):
    param, fields, shape, rule = TYPES[name]
    x = np.round(40 * numbers(2, 2, 3, 4)) / 16  # many of them half way between two of the grid
    w, b = numbers(*shape, seed=1), numbers(3, seed=2)
    run = Run(name, [x], [w, b], fields={param: fields, "quantization_param": QUANTIZED})
    x, (w, b) = grid(run.inputs[0], "layer_in"), (grid(v, "params") for v in run.blobs)
    plain = rule(x, w, b)
    expected = grid(plain, "layer_out")
    run.holds([expected], OPSETS)
    seed = numbers(*expected.shape, seed=3)
    found = run.gradients(seed)[0][0]  # that of the layer without rounding, at rounded values
    for at in [(0, 0, 0, 0), (1, 1, 2, 3), (0, 1, 1, 2)]:
        one = np.zeros(x.shape)
        one[at] = 1
        near(found[at], (seed * (rule(x + one, w, b) - plain)).sum(), 1e-5)
    more = [np.concatenate([run.inputs[0]] * 2)]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


def test_wide_numbers_leave_floats_nearly_alone():
    fields = {"inner_product_param": {"num_output": 3, "weight_filler": {"type": "xavier"}}}
    run = Run("FcRistretto", [numbers(2, 4)], [numbers(3, 4, seed=1), numbers(3, seed=2)], fields=fields)
    x, (w, b) = run.double()[0], run.blobs
    assert np.abs(run.reference()[0] - (x @ w.T + b)).max() < 1e-4


def test_what_is_refused():
    x = numbers(2, 4)
    for match, given, phase in [
        ("precision MINIFLOAT.*plain types", {"precision": Word("MINIFLOAT")}, "TEST"),
        ("at random.*plain types", {"rounding_scheme": Word("STOCHASTIC")}, "TEST"),
        ("at random", {}, "TRAIN"),
        ("bw_params 0", {"bw_params": 0}, "TEST"),
        ("2 fl_params", {"fl_params": [1, 2]}, "TEST"),
    ]:
        fields = {"inner_product_param": {"num_output": 3}, "quantization_param": given}
        refused(match, "FcRistretto", [x], fields=fields, phase=phase)
    refused("few bits.*the type `LRN`", "LRNRistretto", [x])


def test_the_numbers_are_no_setting_without_effect():
    fields = {"inner_product_param": {"num_output": 3}, "quantization_param": QUANTIZED}
    assert not Run("FcRistretto", [numbers(2, 4)], [numbers(3, 4), numbers(3)], fields=fields).graph.kept
    plain = Run("InnerProduct", [numbers(2, 4)], [numbers(3, 4), numbers(3)], fields=fields).graph.kept
    assert [entry.name for entry in plain] == ["quantization_param"]
