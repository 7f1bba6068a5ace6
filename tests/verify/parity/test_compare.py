"""The comparison that every proof rests on: it passes what is equal and fails everything else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.parity.compare import compare

SHAPE = (2, 5, 7, 11)


@pytest.fixture
def blob() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


def test_equal_arrays_pass(blob):
    result = compare(blob.copy(), blob, 1e-9, "conv1")
    assert result and result.absolute == result.relative == 0
    assert result.shape == SHAPE and result.scale == np.abs(blob).max()
    assert str(result) == "conv1: 0.0e+00 of the largest value (0.0e+00) at (0, 0, 0, 0)"


def spoilt(blob, at, value):
    copy = blob.copy()
    copy[at] = value
    return copy


SPOILS = [
    "channels",
    "two channels",
    "batch",
    "right",
    "down",
    "left",
    "upside down",
    "sign",
    "scale",
    "offset",
]
SPOILS += ["zero", "sorted", "mean", "one value", "layout"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x[:, ::-1],
        lambda x: x[:, [1, 0, 2, 3, 4]],
        lambda x: x[::-1],
        lambda x: np.roll(x, 1, axis=3),
        lambda x: np.roll(x, 1, axis=2),
        lambda x: np.roll(x, -1, axis=3),
        lambda x: x[:, :, ::-1],
        lambda x: -x,
        lambda x: x * 1.001,
        lambda x: x + 0.01,
        lambda x: np.zeros_like(x),
        lambda x: np.sort(x, axis=1),
        lambda x: x.mean((2, 3), keepdims=True) + 0 * x,
        lambda x: spoilt(x, (1, 4, 6, 10), 3.5),
        lambda x: x.reshape(2, 7, 5, 11).transpose(0, 2, 1, 3),
    ],
    ids=SPOILS,
)
def test_wrong_values_fail(blob, spoil):
    assert not compare(spoil(blob), blob, 1e-4)
    assert not compare(blob, spoil(blob).copy(), 1e-4)


def test_a_transposed_square_matrix_fails():
    matrix = np.arange(49.0).reshape(7, 7)
    result = compare(matrix.T, matrix, 1e-5, "fc")
    assert not result and result.absolute == 36 and result.relative == 36 / 48
    assert str(result) == "fc: 7.5e-01 of the largest value (3.6e+01) at (0, 6), allowed 1e-05"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_fail_on_either_side_and_on_both(blob, bad):
    at = (1, 3, 2, 9)
    wrong = spoilt(blob, at, bad)
    found = compare(wrong, blob, 1e30, "conv1")
    assert not found and f"{bad} at {at}, expected {blob[at]}" in str(found) and "(1 such values)" in str(found)
    expected = compare(blob, wrong, 1e30)
    assert not expected and "the expected blob has 1 values that are NaN or infinite" in str(expected)
    both = compare(wrong, wrong, 1e30)
    assert not both and not compare(np.full(3, bad), np.full(3, bad), 1e30)


def test_a_recorded_nan_must_stand_in_the_same_place(blob):
    at = (0, 2, 5, 1)
    recorded = spoilt(blob, at, np.nan)
    assert compare(recorded.copy(), recorded, 1e-9, nan=True)
    assert not compare(blob, recorded, 1e9, nan=True)
    assert not compare(spoilt(recorded, (0, 0, 0, 0), np.nan), recorded, 1e9, nan=True)
    assert not compare(spoilt(blob, at, np.inf), recorded, 1e9, nan=True)
    # the finite rest is still compared
    assert not compare(spoilt(recorded, (1, 1, 1, 1), 9), recorded, 1e-4, nan=True)
    assert compare(np.full(4, np.nan), np.full(4, np.nan), 0, nan=True)


def test_a_recorded_infinity_keeps_its_sign():
    recorded = np.array([1, np.inf, -np.inf, 4])
    assert compare(recorded.copy(), recorded, 0, nan=True)
    assert not compare(-recorded, recorded, 1e9, nan=True)
    assert not compare(np.array([1, 3e38, -np.inf, 4]), recorded, 1e9, nan=True)


def test_infinity_does_not_hide_behind_the_scale():
    assert not compare(np.array([1.0, np.inf]), np.array([1.0, 1e38]), 1e9)


@pytest.mark.parametrize("shape", [(0,), (2, 0, 7), (0, 5, 7, 11)])
def test_nothing_to_compare_fails(shape):
    result = compare(np.zeros(shape), np.zeros(shape), 1, "blob")
    assert not result and "nothing to compare" in str(result)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((2, 5), (5, 2)),
        ((2, 5), (2, 5, 1, 1)),
        ((1,), ()),
        ((), (1,)),
        ((2, 5), (1, 5)),
        ((10,), (2, 5)),
        ((0,), (3,)),
    ],
)
def test_shapes_must_be_equal_whatever_broadcasts(found, expected):
    result = compare(np.ones(found), np.ones(expected), 1, "blob")
    assert not result and result.relative == np.inf and "shape" in str(result) and "expected" in str(result)


def test_a_scalar_is_compared():
    assert compare(np.float32(2.5), np.float32(2.5), 1e-9)
    result = compare(np.float32(2.5), np.float32(2), 1e-9)
    assert not result and result.relative == 0.25 and result.where == ()


def test_where_all_of_it_is_0_the_difference_counts_by_itself():
    zero = np.zeros((3, 4))
    assert compare(zero, zero, 1e-5) and not compare(zero + 1e-4, zero, 1e-5) and compare(zero + 9e-6, zero, 1e-5)


def test_the_tolerance_is_of_the_largest_value_and_inclusive():
    expected = np.array([0.25, -8.0, 1.0])  # binary fractions, so that the boundary is exact
    step = 2.0**-10
    off = np.array([8 * step, 0, 0])
    assert compare(expected + off, expected, step)
    assert not compare(expected + off * (1 + 1e-9), expected, step)
    assert compare(expected, expected, 0) and not compare(expected + off, expected, 0)


def test_the_largest_difference_and_its_place_are_told(blob):
    wrong = spoilt(spoilt(blob, (0, 1, 2, 3), 90), (1, 4, 0, 8), -95)
    result = compare(wrong, blob, 1e-5)
    assert result.where == (1, 4, 0, 8) and result.absolute == pytest.approx(95 + blob[1, 4, 0, 8])
    assert result.relative == result.absolute / np.abs(blob).max()


def test_the_difference_is_taken_in_float64():
    assert not compare(np.array([2**24 + 2], np.float32), np.array([2**24], np.float32), 1e-8)
    assert not compare(np.float16([60000]), np.float16([-60000]), 1)  # the difference overflows float16
    assert not compare(np.uint8([3]), np.uint8([250]), 0.5)  # and would wrap in bytes


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2 * 5 * 7 - 1), st.floats(1e-3, 1e3), st.sampled_from([-1, 1]))
def test_one_wrong_value_anywhere_is_found(index, by, sign):
    expected = np.random.default_rng(1).standard_normal((2, 5, 7))
    found = expected.copy()
    found.flat[index] += sign * by
    result = compare(found, expected, 1e-4)
    assert not result and np.ravel_multi_index(result.where, found.shape) == index
