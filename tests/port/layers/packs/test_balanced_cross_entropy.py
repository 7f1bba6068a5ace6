"""HED's SigmoidCrossEntropyLoss against its rule in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pack_runs import FORWARD, Run, agree, near, refused

HED = "bvlc+hed"


def balanced(x, target):
    loss, slope = 0.0, np.zeros(x.shape)
    for i, (scores, wanted) in enumerate(zip(x, target.reshape(x.shape), strict=True)):
        ones, nones = (wanted == 1).sum(), (wanted == 0).sum()
        for at in np.ndindex(*scores.shape):
            share = 1 / (1 + math.exp(-scores[at]))
            weight = {1.0: nones, 0.0: ones}.get(float(wanted[at]))
            slope[(i, *at)] = (share - wanted[at]) / len(x)
            if weight is not None:
                of = weight / (ones + nones)
                loss -= of * math.log(share if wanted[at] == 1 else 1 - share) / len(x)
                slope[(i, *at)] *= of
    return loss, slope


@pytest.mark.parametrize("values", [[0, 1], [0, 0, 0, 1], [0, 1, 0.5], [0, 1, 255]])
def test_edges_weigh_as_much_as_the_rest(values):
    random = np.random.RandomState(len(values))
    x, target = 3 * random.standard_normal((3, 1, 4, 5)), random.choice(values, (3, 1, 4, 5))
    run = Run("SigmoidCrossEntropyLoss", [x, target], dialect=HED)
    loss, slope = balanced(*run.double())
    run.holds([loss], (13, 17, 22))
    run.stays_double()
    found, none = run.gradients(2.0)[0]
    near(found, 2 * slope, FORWARD)
    assert none is None
    more = [np.concatenate([a, a[:1]]).astype(np.float32) for a in run.inputs]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


def test_an_image_of_one_kind_alone_costs_nothing_and_one_of_neither_is_nan():
    x = np.ones((1, 1, 2, 2))
    Run("SigmoidCrossEntropyLoss", [x, np.zeros((1, 4))], dialect=HED).holds([0.0])
    Run("SigmoidCrossEntropyLoss", [x, np.full((1, 4), 2)], dialect=HED).holds([np.nan])


def test_it_is_meant_only_where_the_net_is_of_hed():
    x, target = np.ones((1, 1, 2, 2)), np.zeros((1, 1, 2, 2))
    assert Run("SigmoidCrossEntropyLoss", [x, target]).reference()[0] == pytest.approx(4 * math.log(1 + math.e))
    refused("equal counts", "SigmoidCrossEntropyLoss", [x, target[:, :, :1]], dialect=HED)
