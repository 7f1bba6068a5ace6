"""LpqLoss against its rule in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from pack_runs import FORWARD, Run, near, refused

SETTINGS = [
    {"p": 1.0, "q": 1.0},
    {"p": 2.0, "q": 0.5},
    {"p": 0.4, "q": 0.2, "p_epsilon": 0.05, "q_epsilon": 0.3},
    {"p": 1.5, "q": 1.0, "l2_prescale_by_channels": True, "q_epsilon": 0.0},
    {"p": 2.0, "q": 0.3, "normalize_by_num_entries": True, "pq_episode_starts_at_iter": 0},
]


def rule(bottoms, fields) -> float:
    d = bottoms[0] - bottoms[1] if len(bottoms) == 2 else bottoms[0]
    inner, outer = (float(np.float32(fields.get(n, v))) for n, v in (("p_epsilon", 0.0), ("q_epsilon", 0.01)))
    p, q = (float(np.float32(fields[n])) for n in "pq")
    total, known = 0.0, 0
    for at in np.ndindex(d.shape[0], *d.shape[2:]):
        summed = 0.0
        for c in range(d.shape[1]):
            value = d[(at[0], c, *at[1:])]
            known += not np.isnan(value)
            summed += ((0.0 if np.isnan(value) else abs(value)) + inner) ** p
        summed /= d.shape[1] if fields.get("l2_prescale_by_channels") else 1
        total += (summed + outer) ** q
    return total / (known / d.shape[1] if fields.get("normalize_by_num_entries") else len(d))


@pytest.mark.parametrize("fields", SETTINGS)
@pytest.mark.parametrize("count", [1, 2])
def test_lpq_loss(fields, count):
    random = np.random.RandomState(count)
    bottoms = [random.standard_normal((3, 2, 4, 5)) for _ in range(count)]
    run = Run("LpqLoss", bottoms, fields={"lpq_loss_param": fields})
    run.holds([rule(run.double(), fields)], (13, 17, 22))
    run.stays_double()
    run.slopes_hold(bottoms=range(count))
    more = [np.concatenate([x, x[:2] + 1]) for x in run.inputs]
    near(run.onnx(inputs=more)[0], rule([x.astype(np.float64) for x in more], fields), FORWARD, "another batch")


@pytest.mark.parametrize("fields", [SETTINGS[0], SETTINGS[2], SETTINGS[4]])
def test_what_is_unknown_counts_as_nothing(fields):
    random = np.random.RandomState(5)
    bottoms = [random.standard_normal((2, 3, 2, 4)) for _ in range(2)]
    bottoms[1][random.uniform(size=bottoms[1].shape) < 0.3] = np.nan
    run = Run("LpqLoss", bottoms, fields={"lpq_loss_param": fields})
    run.holds([rule(run.double(), fields)])
    grads, _ = run.gradients()
    assert (grads[0][np.isnan(bottoms[1])] == 0).all() and (grads[0][~np.isnan(bottoms[1])] != 0).all()


def test_no_difference_counts_as_a_negative_one():
    grads, _ = Run("LpqLoss", [np.zeros((1, 1, 1, 1))], fields={"lpq_loss_param": SETTINGS[0]}).gradients()
    assert grads[0].item() == -1


def test_what_lpq_loss_refuses():
    x = np.ones((2, 3, 4, 4))
    for match, fields in [
        ("0 values of p", {}),
        ("2 values of p, 1 of q", {"p": [1.0, 2.0], "q": 1.0}),
        ("change at iteration 50", {"p": [1.0, 2.0], "q": [1.0, 2.0], "pq_episode_starts_at_iter": [0, 50]}),
        ("starts at 0, 0", {"p": [1.0, 2.0], "q": [1.0, 2.0], "pq_episode_starts_at_iter": [0, 0]}),
        ("starts at 3", {"p": 1.0, "q": 1.0, "pq_episode_starts_at_iter": 3}),
    ]:
        refused(match, "LpqLoss", [x, x], fields={"lpq_loss_param": fields})
    refused("different shapes", "LpqLoss", [x, x[:, :2]], fields={"lpq_loss_param": SETTINGS[0]})
    refused("5 axes", "LpqLoss", [x[None]], fields={"lpq_loss_param": SETTINGS[0]})
