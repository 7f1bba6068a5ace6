"""The order of scores and the places of the positives in it, beside NumPy's stable argsort."""

from __future__ import annotations

import numpy as np
import pytest

from verify.evaluation import ranking
from verify.evaluation.ranking import places_of_positives, stable_descending

MANY = 2 * ranking.FEW + 1013  # longer than where the shorter ways begin


def by_numpy(values: np.ndarray) -> np.ndarray:
    return np.argsort(-values, kind="stable")


def confidences(kind: str, size: int = MANY) -> np.ndarray:
    """Scores of one class, each kind with another difficulty."""
    random = np.random.default_rng(7)
    logits = random.normal(-3.0, 2.5, size)
    with np.errstate(over="ignore"):
        return {
            "distinct": lambda: 1 / (1 + np.exp(-logits)),
            "negative": lambda: logits,
            "two decimals": lambda: np.round(logits, 2),
            "whole": lambda: np.round(logits),
            "all equal": lambda: np.full(size, 0.25),
            "saturated": lambda: 1 / (1 + np.exp(-40 * logits)),
            # Some 2^64 apart, all but two of them equal in their first 48 bits.
            "far and near": lambda: np.concatenate(([-1e308, 1e308], 0.5 + logits[2:] * 1e-15)),
            "hardly different": lambda: 0.75 + random.integers(0, 6, size) * np.spacing(0.75),
            # Many equal values, and some that only their last bits tell apart.
            "ties and near": lambda: np.where(logits > -3, np.round(logits), -3 - random.integers(0, 6, size) * 1e-15),
            "zeros of both signs": lambda: np.where(logits > -3, -0.0, 0.0),
        }[kind]()


KINDS = (
    "distinct",
    "negative",
    "two decimals",
    "whole",
    "all equal",
    "saturated",
    "far and near",
    "hardly different",
    "ties and near",
    "zeros of both signs",
)


@pytest.mark.parametrize("size", [1009, MANY])
@pytest.mark.parametrize("kind", KINDS)
def test_stable_order_equals_numpys(kind, size):
    values = confidences(kind, size)
    assert np.array_equal(stable_descending(values), by_numpy(values))


@pytest.mark.parametrize("size", [1009, MANY])
@pytest.mark.parametrize("part", [0.0, 0.0005, 0.04, 0.6, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_positives_stand_where_numpys_order_has_them(kind, part, size):
    values = confidences(kind, size)
    positive = np.random.default_rng(8).random(size) < part
    assert np.array_equal(places_of_positives(values, positive), np.flatnonzero(positive[by_numpy(values)]))


@pytest.mark.parametrize("values", [[], [3.0], [0.0, -0.0, 0.0], [-np.inf, 1e308, np.inf, -1e-308, 5e-324, 0.0, -1.0]])
def test_few_and_extreme_values(values, monkeypatch):
    array = np.array(values, float)
    assert stable_descending(array).tolist() == by_numpy(array).tolist()
    assert places_of_positives(array, np.ones(array.size, bool)).tolist() == list(range(array.size))
    if array.size:
        monkeypatch.setattr(ranking, "FEW", 0)
        assert stable_descending(array).tolist() == by_numpy(array).tolist()
        assert places_of_positives(array, np.ones(array.size, bool)).tolist() == list(range(array.size))


def test_short_and_long_lists_take_different_ways(monkeypatch):
    """What the tests above compare is the long way: it sorts only a part of the list."""
    sorted_sizes = []

    def counting(values):
        sorted_sizes.append(values.size)
        return stable_descending(values)

    monkeypatch.setattr(ranking, "stable_descending", counting)
    values, positive = confidences("distinct"), np.random.default_rng(8).random(MANY) < 0.04
    places_of_positives(values, positive)
    places_of_positives(values[:99], positive[:99])
    assert sorted_sizes[0] < MANY / 4 and sorted_sizes[1] == 99


def test_the_order_of_equal_scores_is_seen():
    """The comparison fails for an order that is right but for its ties."""
    values = confidences("whole")
    backwards = values.size - 1 - by_numpy(values[::-1])
    assert np.array_equal(values[backwards], values[by_numpy(values)])
    assert not np.array_equal(backwards, by_numpy(values))
