"""Update rules and learning-rate policies: the golden traces, and the ends of their range."""

from __future__ import annotations

import numpy as np
import pytest
from training_runs import quadratic

import port
from port.solver.rates import rate, step_counter
from prototxt_gen.base.errors import UsageError
from prototxt_gen.schema import message_class

# semantics: w0 = 1, momentum .9, weight_decay .005, these gradients and rates
GRADIENTS = (1, 0.5, -0.3, 0.7, 0.2)


@pytest.mark.parametrize(
    "rule, constant, expected",
    [
        ("SGD", False, 0.407586855),
        ("SGD", True, 0.341337711),
        ("Nesterov", False, 0.310015129),
        ("Nesterov", True, 0.195948204),
    ],
)
def test_the_rate_is_inside_the_history(tmp_path, rule, constant, expected):
    text = 'momentum: 0.9 weight_decay: 0.005 base_lr: 0.1 gamma: 0.1 lr_policy: "multistep" '
    text += f'type: "{rule}" ' + ("" if constant else "stepvalue: 2")
    solver = quadratic(tmp_path, text)
    for gradient in GRADIENTS:
        solver.step({"x": np.full((1, 1), gradient, np.float32)})
    assert port.params(solver.net)["w"][0].item() == pytest.approx(expected, abs=2e-7)


def test_adam(tmp_path):
    text = 'base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 momentum2: 0.999 delta: 0.01 weight_decay: 0.005 type: "Adam"'
    solver = quadratic(tmp_path, text)
    for gradient in GRADIENTS:
        solver.step({"x": np.full((1, 1), gradient, np.float32)})
    assert port.params(solver.net)["w"][0].item() == pytest.approx(
        0.701795786, abs=1e-6
    )  # the trace is float64, the weights float32


@pytest.mark.parametrize(
    "policy, expected",
    [
        ("step", (0.1, 0.1, 0.01, 0.001)),
        ("inv", (0.1, 0.0260847, 0.0165560, 0.0086850)),
        ("poly", (0.1, 0.0962261, 0.0924021, 0.0805927)),
        ("sigmoid", (4.5398e-6, 6.6929e-4, 0.05, 0.0999999695)),
        ("exp10", (0.1, 0.0316228, 0.01, 0.000316228)),
        ("fixed", (0.1, 0.1, 0.1, 0.1)),
    ],
)
def test_policies(policy, expected):
    param = message_class("SolverParameter", "srn")(
        lr_policy=policy, base_lr=0.1, gamma=0.1, power=0.75, stepsize=100, max_iter=1000
    )
    assert [rate(param, i) for i in (0, 50, 100, 250)] == pytest.approx(expected, rel=1e-5)


def test_multistep_moves_one_step_at_most():
    param = message_class("SolverParameter", "bvlc")(lr_policy="multistep", stepvalue=[3, 3, 5])
    step, seen = 0, []
    for i in range(8):
        step = step_counter(param, i, step)
        seen.append(step)
    assert seen == [0, 0, 0, 1, 2, 3, 3, 3]


def test_clipping_looks_at_the_sum_before_iter_size(tmp_path):
    solver = quadratic(tmp_path, 'base_lr: 1 lr_policy: "fixed" iter_size: 2 clip_gradients: 3')
    x = {"x": np.full((1, 1), 2, np.float32)}
    assert solver.step(x) == pytest.approx(2)  # the mean of the passes
    # 2 + 2 clipped to 3, then halved
    assert port.params(solver.net)["w"][0].item() == pytest.approx(1 - 1.5)


def test_batches_of_several_passes(tmp_path):
    solver = quadratic(tmp_path, 'base_lr: 1 lr_policy: "fixed" iter_size: 2')
    one, two = ({"x": np.full((1, 1), v, np.float32)} for v in (1, 3))
    assert solver.step([one, two]) == pytest.approx(2)
    assert port.params(solver.net)["w"][0].item() == pytest.approx(1 - 2)
    with pytest.raises(UsageError, match="1 batches for iter_size 2"):
        solver.step([one])


STATISTICS = """
input: "x" input_shape { dim: 4 dim: 3 }
layer { name: "a" type: "Scale" bottom: "x" top: "a" param { lr_mult: 0 } }
layer { name: "n" type: "BatchNorm" bottom: "a" top: "n" ENTRIES }
layer { name: "l" type: "Reduction" bottom: "n" top: "l" loss_weight: 1 reduction_param { operation: SUMSQ } }
"""


def run_statistics(tmp_path, entries, text):
    net, solver = tmp_path / "net.prototxt", tmp_path / "solver.prototxt"
    net.write_text(STATISTICS.replace("ENTRIES", entries))
    solver.write_text(f'net: "{net}" base_lr: 0.5 lr_policy: "fixed" {text}\n')
    run = port.load_solver(solver, dialect="bvlc")
    run.step({"x": np.arange(12, dtype=np.float32).reshape(4, 3) ** 2})
    return run


@pytest.mark.parametrize(
    "entries, decays",
    [
        ("", (1, 1, 1)),  # the layer forces lr_mult 0 on its statistics and leaves decay_mult as it is
        ("param { lr_mult: 0 decay_mult: 3 } param { lr_mult: 0 decay_mult: 0 }", (3, 0, 1)),
        ("param { lr_mult: 0 } param { lr_mult: 0 } param { lr_mult: 0 }", (0, 0, 0)),  # three are upgraded
    ],
)
def test_decay_of_statistics_reaches_their_history(tmp_path, entries, decays):
    run = run_statistics(tmp_path, entries, 'type: "AdaGrad" weight_decay: 0.25')
    for held, blob, decay in zip(run.history[0][1:], port.params(run.net)["n"], decays, strict=True):
        np.testing.assert_allclose(held, (0.25 * decay * blob.numpy()) ** 2, rtol=1e-6)
        assert blob.any()


@pytest.mark.parametrize("rule", ["SGD", "Nesterov", "AdaGrad", "Adam"])
def test_a_net_of_which_nothing_learns(tmp_path, rule):
    run = run_statistics(tmp_path, "", f'type: "{rule}" clip_gradients: 1')
    assert run.iter == 1 and run.last_rate == 0.5
    assert port.params(run.net)["a"][0].detach().tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "fields, iteration, expected",
    [
        ({"lr_policy": "sigmoid", "gamma": 1, "stepsize": 5000}, 0, 0.0),  # exp overflows
        ({"lr_policy": "sigmoid", "gamma": 1, "stepsize": 50}, 9000, 1.0),
        ({"lr_policy": "exp", "gamma": 2}, 4000, np.inf),
        ({"lr_policy": "poly", "power": 0.5, "max_iter": 10}, 11, np.nan),  # a root of a negative number
        ({"lr_policy": "poly", "power": 2, "max_iter": 10}, 11, 0.01),
        ({"lr_policy": "poly", "power": 2}, 0, np.nan),  # 0 / 0
        ({"lr_policy": "inv", "gamma": -1, "power": 1}, 1, np.inf),
        ({"lr_policy": "inv", "gamma": -1, "power": 0.5}, 3, np.nan),
        ({"lr_policy": "exp10", "stepsize": 1}, 4000, 0.0),
    ],
)
def test_rates_are_those_of_c_at_the_ends_of_the_range(fields, iteration, expected):
    param = message_class("SolverParameter", "srn")(base_lr=1, **fields)
    assert rate(param, iteration) == pytest.approx(expected, nan_ok=True)


def test_a_rate_that_is_no_number_is_refused(tmp_path):
    solver = quadratic(tmp_path, 'base_lr: 1 lr_policy: "poly" power: 0.5 max_iter: 2')
    x = {"x": np.full((1, 1), 1, np.float32)}
    for _ in range(3):
        solver.step(x)
    kept = port.params(solver.net)["w"][0].item()
    with pytest.raises(UsageError, match=r"lr_policy.*rate of iteration 3 is nan.*max_iter 2"):
        solver.step(x)
    assert solver.iter == 3 and port.params(solver.net)["w"][0].item() == kept


def test_rates_to_come_go_on_from_the_counter(tmp_path):
    text = 'base_lr: 1 lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 3 stepvalue: 9'
    solver = quadratic(tmp_path, text)
    solver.iter, solver.current_step = 5, 0  # a state of another policy's, as Caffe restores it
    expected = [0.5, 0.25, 0.25, 0.25, 0.125]
    assert [solver.rate(i) for i in range(5, 10)] == expected
    assert solver.rate(2) == 0.5 and solver.rate(0) == 1  # of what is past, as if from the start
    for value in expected:
        solver.step({"x": np.full((1, 1), 1, np.float32)})
        assert solver.last_rate == value
