"""CtcLoss against the sum over all paths, LabelsequenceAccuracy against its rule."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from pack_runs import FORWARD, Run, agree, near, refused

from port.layers.packs.ctc import cost
from prototxt_gen.base.errors import CaffeError, ExportError


def numbers(*shape, seed=0):
    return np.random.RandomState([seed, *shape]).standard_normal(shape)


def spelt(path, blank):
    """What a path through the classes spells: repeats once, then without blanks."""
    return [k for k, _ in itertools.groupby(path) if k != blank]


def by_paths(scores, word, blank):
    """-log of the chance of a word: every path is tried."""
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    total = 0.0
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        if spelt(path, blank) == word:
            total += math.prod(shares[t, k] for t, k in enumerate(path))
    return -math.log(total)


def fields(steps, classes, blank=0):
    return {"ctc_loss_param": {"alphabet_size": classes, "time_step": steps, "blank_label": blank}}


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("steps", [4, 5])
def test_the_loss_is_that_of_all_paths(blank, steps):
    x = numbers(5, 4, 3)
    others = [k for k in range(3) if k != blank]
    label = np.array(
        [[others[0], others[1], blank], [others[1], others[1], blank], [blank, others[0], blank], [blank] * 3]
    )
    run = Run("CtcLoss", [x, label], fields=fields(steps, 3, blank))
    words = [[k for k in row if k != blank] for row in label.tolist()]
    costs = [by_paths(run.double()[0][:steps, n], word, blank) for n, word in enumerate(words)]
    agree(run.reference(), [np.mean(costs)], 1e-11, "reference")
    agree(run.torch(), [np.mean(costs)], FORWARD, "torch")
    near(run.gradients(0.5)[0][0], 0.5 * 4 * run.differenced(0), 1e-5)  # of the sum, not the mean
    with pytest.raises(ExportError, match="loss for training"):
        run.onnx()


def test_a_label_that_needs_more_steps_costs_nothing():
    x, label = numbers(2, 2, 3), np.array([[1, 1], [1, 2]])
    run = Run("CtcLoss", [x, label], fields=fields(2, 3))
    expected = by_paths(run.double()[0][:, 1], [1, 2], 0) / 2
    agree(run.reference(), [expected], 1e-11, "reference")
    agree(run.torch(), [expected], FORWARD, "torch")
    assert not run.gradients()[0][0][:, 0].any()


def test_scores_of_any_size():
    assert cost(np.log(np.full((3, 2), 0.5)), [1], 0) == pytest.approx(-math.log(6 / 8))
    run = Run("CtcLoss", [300 * numbers(4, 1, 3), np.array([[1, 2]])], fields=fields(4, 3))
    agree(run.torch(), run.reference(), FORWARD, "torch")


def test_what_the_loss_refuses():
    x, label = numbers(4, 2, 3), np.ones((2, 3))
    for match, given in [
        ("alphabet_size 4", fields(4, 4)),
        ("time_step 5", fields(5, 3)),
        ("time_step 0", fields(0, 3)),
        ("blank_label 3", fields(4, 3, 3)),
    ]:
        refused(match, "CtcLoss", [x, label], fields=given)
    refused("T x N x C", "CtcLoss", [x, np.ones((3, 3))], fields=fields(4, 3))
    run = Run("CtcLoss", [x, label], fields=fields(4, 3))
    for match, wrong in [("all blank", np.zeros((2, 3))), ("the label 3", np.full((2, 3), 3.0))]:
        with pytest.raises(CaffeError, match=match):
            run.reference([x, wrong])


def test_accuracy_of_texts():
    paths = [[0, 1, 1, 0, 1], [2, 2, 2, 2, 2], [1, 2, 0, 0, 1], [0, 0, 0, 0, 0]]
    label = np.array([[1, 1, 0], [2, 2, 0], [1, 2, 1], [0, 0, 0]])
    run = Run("LabelsequenceAccuracy", [np.eye(3)[paths], label])
    hits = [spelt(p, 0) == [k for k in row if k] for p, row in zip(paths, label.tolist(), strict=True)]
    assert hits == [True, False, True, True]
    agree(run.reference(), [0.75], 1e-11, "reference")
    agree(run.torch(), [0.75], FORWARD, "torch")
    assert run.gradients()[0] == [None, None]
    refused("N x T x C", "LabelsequenceAccuracy", [np.eye(3), label])
    with pytest.raises(ExportError, match="measures"):
        run.onnx()
