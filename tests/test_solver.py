"""Caffe's solver: recorded runs, the golden traces, snapshots, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import port
from port.caffemodel import SolverState, read_state, write_state
from port.solver.rates import rate, step_counter
from port.solver.states import read_solver_state, write_solver_state
from prototxt_gen.errors import CaffeError, UsageError, WeightsError
from prototxt_gen.schema import message_class, parse
from verify.golden import Recording, read_arrays
from verify.solver import find_runs, recording_of, report, run_recorded, start

RUNS = find_runs([Path(__file__).parent / "golden" / "solver"])
NAMES = [f"{run.parent.name}-{run.name.split('.')[0]}" for run in RUNS]


@pytest.mark.parametrize("run", RUNS, ids=NAMES)
def test_a_recorded_run_is_repeated(run):
    result = run_recorded(run)
    assert result, report([result])
    assert set(result.comparisons) == {"losses", "weights", "history", "resumed"}
    assert all(result.comparisons.values())


def test_there_are_runs_of_both_dialects():
    assert {run.parent.name for run in RUNS} == {"bvlc", "srn"} and len(RUNS) == 19


@pytest.mark.parametrize("fault", ["loss", "iter30/fc/0", "history/0", "state_iter"])
def test_a_wrong_recording_fails(tmp_path, fault):
    folder = tmp_path / "bvlc"
    folder.mkdir()
    for path in RUNS[0].parent.glob("step_momentum_l2.*"):
        shutil.copy(path, folder)
    run = folder / "step_momentum_l2.solver.prototxt"
    arrays = read_arrays(recording_of(run))
    arrays[fault] = arrays[fault] * np.float32(1.001) + (1 if fault == "state_iter" else 0)
    np.savez(recording_of(run), **arrays)
    result = run_recorded(run)
    assert not result and "FAILED bvlc/step_momentum_l2" in report([result])


def quadratic(tmp_path, text, dialect="bvlc", gradient=1):
    """A net of one weight whose gradient is the input: loss = w * x."""
    net = tmp_path / "net.prototxt"
    net.write_text(
        'input: "x" input_shape { dim: 1 dim: 1 }\n'
        'layer { name: "w" type: "InnerProduct" bottom: "x" top: "y" loss_weight: 1'
        "  inner_product_param { num_output: 1 bias_term: false weight_filler { value: 1 } } }"
    )
    solver = tmp_path / "solver.prototxt"
    solver.write_text(f'net: "{net}"\n{text}\n')
    return port.load_solver(solver, dialect=dialect)


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


SHARED = """
input: "x" input_shape { dim: 2 dim: 3 }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "p" loss_weight: 1 param { name: "w" lr_mult: 1 }
        inner_product_param { num_output: 4 bias_term: false weight_filler { value: 1 } } }
layer { name: "b" type: "InnerProduct" bottom: "x" top: "q" loss_weight: 1 param { name: "w" }
        inner_product_param { num_output: 4 bias_term: false } }
"""


@pytest.mark.parametrize("dialect, decays", [("bvlc", 1), ("srn", 2)])
def test_shared_blobs_decay_once_in_bvlc_and_per_sharer_in_the_fork(tmp_path, dialect, decays):
    net, solver = tmp_path / "net.prototxt", tmp_path / "solver.prototxt"
    net.write_text(SHARED)
    solver.write_text(f'net: "{net}" base_lr: 0.5 lr_policy: "fixed" weight_decay: 0.25\n')
    run = port.load_solver(solver, dialect=dialect)
    assert len(run.history[0]) == (1 if dialect == "bvlc" else 2)
    run.step({"x": np.ones((2, 3), np.float32)})
    # gradient 2 + 2 from both layers; decay 0.25 * 1 once or twice
    expected = 1 - 0.5 * (4 + 0.25 * decays)
    for layer in "ab":
        np.testing.assert_allclose(port.params(run.net)[layer][0].detach(), np.full((4, 3), expected), rtol=1e-6)


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
def test_a_snapshot_resumes_where_it_stopped(tmp_path, form):
    run = next(r for r in RUNS if r.parent.name == "bvlc" and r.name.startswith("adam."))
    recording = Recording(run, read_arrays(recording_of(run)), "TRAIN", "bvlc")
    batches = [{"data": recording.arrays["data"][i], "label": recording.arrays["label"][i]} for i in range(9)]
    one = start(run, recording)
    one.param.snapshot_format = (
        one.param.DESCRIPTOR.fields_by_name["snapshot_format"].enum_type.values_by_name[form].number
    )
    for batch in batches[:5]:
        one.step(batch)
    model, state = one.snapshot(tmp_path / "run")
    suffix = ".h5" if form == "HDF5" else ""
    assert model.name == f"run_iter_5.caffemodel{suffix}" and state.name == f"run_iter_5.solverstate{suffix}"
    other = start(run, recording)
    other.restore(state)
    for batch in batches[5:]:
        assert other.step(batch) == one.step(batch)
    for mine, theirs in zip(port.params(one.net).values(), port.params(other.net).values(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_caffes_states_are_read_and_written_byte_for_byte(tmp_path):
    for run in RUNS:
        path = run.with_name(run.name.replace(".solver.prototxt", ".solverstate"))
        state = read_state(path)
        assert state.iter == 30 and state.history
        write_state(tmp_path / "again", state)
        assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_state_of_another_net_is_refused(tmp_path):
    run = RUNS[0]
    recording = Recording(run, read_arrays(recording_of(run)), "TRAIN", run.parent.name)
    solver = start(run, recording)
    state = SolverState(3, "", [np.zeros((2, 3))] * 2, 0)
    write_state(tmp_path / "x.solverstate", state)
    with pytest.raises(WeightsError, match="2 history blobs; expected 12"):
        solver.restore(tmp_path / "x.solverstate")
    assert solver.iter == 0
    with pytest.raises(WeightsError, match="field 1 is a length-delimited"):
        solver.restore(run.with_name(run.name.replace(".solver.prototxt", ".caffemodel")))


@pytest.mark.parametrize("name", ["s.solverstate", "s.solverstate.h5"])
def test_states_in_both_formats(tmp_path, name):
    state = SolverState(7, "a/b.caffemodel", [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32([2])], 4)
    write_solver_state(tmp_path / name, state)
    again = read_solver_state(tmp_path / name)
    assert (again.iter, again.learned_net, again.current_step) == (7, "a/b.caffemodel", 4)
    for a, b in zip(again.history, state.history, strict=True):
        np.testing.assert_array_equal(a, b)
    damaged = tmp_path / f"cut_{name}"
    damaged.write_bytes((tmp_path / name).read_bytes()[:-9])
    with pytest.raises(WeightsError):
        read_solver_state(damaged)


@pytest.mark.parametrize(
    "text, message",
    [
        ('base_lr: 1 lr_policy: "exp10" stepsize: 3', "the policy 'exp10'.*one of"),
        ('base_lr: 1 lr_policy: "stepearly"', "the policy 'stepearly'"),
        ('base_lr: 1 lr_policy: "step" gamma: 0.1', "no stepsize"),
        ('base_lr: 1 lr_policy: "step" gamma: 0.1 stepsize: 0', "stepsize 0; expected 1 or more"),
        ('base_lr: 1 lr_policy: "sigmoid" gamma: 0.1 stepsize: -3', "stepsize -3; expected 1 or more"),
        ('base_lr: 1 lr_policy: "exp" gamma: -0.5', "gamma -0.5; expected 0 or more"),
        ('base_lr: 1 lr_policy: "inv" gamma: 0.1', "no power .*Write power: 0, which Caffe takes"),
        ('base_lr: 1 lr_policy: "fixed" type: "RMSProp" rms_decay: 1', "rms_decay 1; expected .*below 1"),
        ('base_lr: 1 lr_policy: "fixed" type: "AdaGrad" momentum: 0.9', "momentum 0.9 with AdaGrad"),
        ('base_lr: 1 lr_policy: "fixed" type: "Lion"', "the solver type 'Lion'"),
        ('base_lr: 1 lr_policy: "fixed" regularization_type: "L3"', "'L3'; expected L1 or L2"),
    ],
)
def test_what_a_solver_refuses(tmp_path, text, message):
    with pytest.raises(CaffeError, match=message):
        quadratic(tmp_path, text)


def test_all_problems_at_once(tmp_path):
    with pytest.raises(UsageError) as caught:
        quadratic(tmp_path, 'base_lr: 1 lr_policy: "stepp" type: "Lion" iter_size: 0')
    assert len(caught.value.problems) == 3


def test_a_net_without_a_loss(tmp_path):
    net, solver = tmp_path / "net.prototxt", tmp_path / "solver.prototxt"
    net.write_text('input: "x" input_shape { dim: 2 dim: 3 } layer { name: "r" type: "ReLU" bottom: "x" top: "y" }')
    solver.write_text(f'net: "{net}" base_lr: 0.5 lr_policy: "fixed"')
    with pytest.raises(UsageError, match="no loss"):
        port.load_solver(solver).step({"x": np.ones((2, 3))})


def test_a_solver_names_its_net_beside_itself(tmp_path):
    (tmp_path / "net.prototxt").write_text(SHARED)
    (tmp_path / "solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.5 lr_policy: "fixed"')
    assert port.load_solver(tmp_path / "solver.prototxt").net.caffe.state.phase == "TRAIN"


def test_the_text_parser_knows_solvers():
    param = parse('base_lr: 0.01 lr_policy: "fixed"', "SolverParameter", "srn")
    assert param.base_lr == pytest.approx(0.01)


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
