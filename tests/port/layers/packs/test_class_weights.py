"""SegNet's and ENet's weights of the classes in SoftmaxWithLoss, against the rule in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pack_runs import Run, refused

WEIGHTS = [0.5, 2.0, 0.25]
OPSETS = (13, 17, 22)


def weighted_loss(x, label, divide, ignored=None):
    total, counted = 0.0, 0
    n, _, h, w = x.shape
    for i, r, c in np.ndindex(n, h, w):
        of = int(label[i, 0, r, c])
        if of != ignored:
            shares = np.exp(x[i, :, r, c] - x[i, :, r, c].max())
            total -= WEIGHTS[of] * math.log(shares[of] / shares.sum())
            counted += 1
    return total / divide(counted, n)


@pytest.mark.parametrize(
    ("loss_param", "divide", "ignored"),
    [
        ({}, lambda counted, n: counted, None),
        ({"ignore_label": 3}, lambda counted, n: counted, 3),
        ({"ignore_label": 1, "normalize": False}, lambda counted, n: n, 1),
    ],
)
def test_terms_are_weighted_and_the_divisor_is_not(loss_param, divide, ignored):
    random = np.random.RandomState(4)
    label = random.randint(0, 4 if ignored == 3 else 3, (2, 1, 3, 4))
    fields = {"loss_param": {"weight_by_label_freqs": True, "class_weighting": WEIGHTS, **loss_param}}
    run = Run("SoftmaxWithLoss", [random.standard_normal((2, 3, 3, 4)), label], fields=fields)
    run.holds([weighted_loss(run.double()[0], label, divide, ignored)], OPSETS)
    run.slopes_hold()


def test_weights_without_the_switch_are_nothing():
    random = np.random.RandomState(5)
    inputs = [random.standard_normal((2, 3, 2, 2)), random.randint(0, 3, (2, 1, 2, 2))]
    plain = Run("SoftmaxWithLoss", inputs)
    Run("SoftmaxWithLoss", inputs, fields={"loss_param": {"class_weighting": WEIGHTS}}).holds(plain.reference())


def test_one_weight_a_class():
    inputs = [np.zeros((2, 4, 1, 1)), np.zeros((2, 1, 1, 1))]
    fields = {"loss_param": {"weight_by_label_freqs": True, "class_weighting": WEIGHTS}}
    refused("3 weights.*4, one a class", "SoftmaxWithLoss", inputs, fields=fields)
