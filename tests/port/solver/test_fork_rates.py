"""What forks add to learning rates, each against its rule in plain loops, and what of it is refused."""

from __future__ import annotations

import numpy as np
import pytest
from training_runs import quadratic

import port
from port.solver.rates import rate, step_counter
from prototxt_gen.base.errors import UsageError
from prototxt_gen.schema import message_class

DIALECTS = ("bvlc", "srn")


def param(dialect="bvlc", **fields):
    return message_class("SolverParameter", dialect)(**fields)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("policy", ["fixed", "exp", "inv", "poly", "step"])
def test_a_warm_up_goes_along_a_line_and_then_the_policy_holds(dialect, policy):
    plain = {"lr_policy": policy, "base_lr": 0.5, "gamma": 0.9, "power": 0.75, "stepsize": 3, "max_iter": 20}
    warm = param(dialect, **plain, warmup_iter=7, warmup_start_lr=0.125)
    for i in range(20):
        along = 0.125 + (0.5 - 0.125) * i / 7
        assert rate(warm, i) == pytest.approx(along if i < 7 else rate(param(dialect, **plain), i), rel=1e-12)


def test_steps_are_not_taken_while_the_rate_warms_up(tmp_path):
    text = 'base_lr: 1 lr_policy: "multistep" gamma: 0.5 stepvalue: 3 stepvalue: 6 warmup_iter: 4'
    solver = quadratic(tmp_path, text)
    expected = [0, 0.25, 0.5, 0.75, 0.5, 0.5, 0.25, 0.25]
    assert [solver.rate(i) for i in range(8)] == expected
    weight = 1.0
    for value in expected:
        solver.step({"x": np.ones((1, 1), np.float32)})
        weight -= value
        assert solver.last_rate == value
        assert port.params(solver.net)["w"][0].item() == pytest.approx(weight, abs=1e-6)
    assert step_counter(solver.param, 3, 0) == 0 and step_counter(solver.param, 4, 0) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_stages_have_rates_of_their_own(dialect, tmp_path):
    ends, values = [2, 5, 6], [0.5, 0.25, 2.0]
    stages = param(dialect, lr_policy="multifixed", stageiter=ends, stagelr=values)
    for i in range(12):
        stage = 0
        while stage < 2 and i > ends[stage]:
            stage += 1
        assert rate(stages, i) == values[stage]
    text = 'lr_policy: "multifixed" stageiter: 0 stagelr: 0.5 stageiter: 9 stagelr: 0.125'
    solver = quadratic(tmp_path, text, dialect)
    for value in (0.5, 0.125, 0.125):
        solver.step({"x": np.ones((1, 1), np.float32)})
        assert solver.last_rate == value


def test_poly_ends_at_the_least_rate():
    fields = {"lr_policy": "poly", "base_lr": 0.5, "power": 2, "max_iter": 10, "min_lr": 0.125}
    found = [rate(param(**fields), i) for i in range(11)]
    assert found == pytest.approx([0.125 + 0.375 * (1 - i / 10) ** 2 for i in range(11)], rel=1e-12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('base_lr: 1 lr_policy: "fixed" min_lr: 0.5', "min_lr.*the policy 'poly'"),
        ('base_lr: 1 lr_policy: "poly" power: 1 max_iter: 9 min_lr: 2', "min_lr.*0 to base_lr"),
        ('lr_policy: "multifixed" stageiter: 3', "stageiter.*1 stageiter, 0 stagelr"),
        ('lr_policy: "multifixed"', "stageiter.*0 stageiter, 0 stagelr"),
        ('lr_policy: "multifixed" stageiter: 3 stagelr: 1 warmup_iter: 2', "no base_lr"),
        (
            'base_lr: 1 lr_policy: "multistep" gamma: 1 stepvalue: 1 stepvalue: 2 warmup_iter: 3',
            "2 values of stepvalue within the warm-up",
        ),
        ('base_lr: 1 lr_policy: "fixed" rampup_interval: 5', "rampup_interval.*nvidia's"),
        ('base_lr: 1 lr_policy: "fixed" local_lr_auto: true', "local_lr_auto.*intel's"),
        ('base_lr: 1 lr_policy: "plateau" plateau_winsize: 5', "plateau_winsize"),
    ],
)
def test_what_is_refused(tmp_path, text, said):
    with pytest.raises(UsageError, match=said):
        quadratic(tmp_path, text)


def test_a_negative_rate_needs_no_least_one(tmp_path):
    assert quadratic(tmp_path, 'base_lr: -1 lr_policy: "fixed"').rate() == -1


def test_a_solver_of_a_net_at_hand_refuses_alike(tmp_path):
    solver = quadratic(tmp_path, 'base_lr: 1 lr_policy: "fixed"')
    (tmp_path / "other.prototxt").write_text('base_lr: 1 lr_policy: "fixed" larc: true')
    with pytest.raises(UsageError, match=r"larc.*nvidia's"):
        port.load_solver(tmp_path / "other.prototxt", solver.net)
