"""Caffe's solver: recorded runs, the golden traces, snapshots, and what is refused."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from training_runs import quadratic

import port
from port.caffemodel import SolverState, read_state, write_state
from port.solver.states import read_solver_state, write_solver_state
from prototxt_gen.base.errors import CaffeError, UsageError, WeightsError
from prototxt_gen.schema import parse
from verify.parity.golden import Recording, read_arrays
from verify.parity.solver import find_runs, recording_of, report, run_recorded, start

RUNS = find_runs([Path(__file__).parents[2] / "golden" / "solver"])
NAMES = [f"{run.parent.name}-{run.name.split('.')[0]}" for run in RUNS]


@pytest.mark.parametrize("run", RUNS, ids=NAMES)
def test_a_recorded_run_is_repeated(run):
    result = run_recorded(run)
    assert result, report([result])
    assert set(result.comparisons) == {"losses", "weights", "history", "resumed"}
    assert all(result.comparisons.values())


def test_there_are_runs_of_both_dialects():
    assert {run.parent.name for run in RUNS} == {"bvlc", "srn"} and len(RUNS) == 21


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
@pytest.mark.parametrize("kind", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_a_snapshot_resumes_where_it_stopped(tmp_path, kind, form):
    recorded = next(r for r in RUNS if r.parent.name == "bvlc" and r.name.startswith("adam."))
    for path in recorded.parent.glob("adam.*"):
        shutil.copy(path, tmp_path)
    run = tmp_path / recorded.name
    momentum = "momentum: 0.9" if kind in ("SGD", "Nesterov", "Adam", "AdaDelta") else ""
    text = run.read_text().replace('type: "Adam"', f'type: "{kind}"')
    run.write_text(re.sub(r"momentum2?: *[.0-9]+", "", text) + f"\n{momentum} rms_decay: 0.9\n")
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
    paths = [run.with_name(run.name.replace(".solver.prototxt", ".solverstate")) for run in RUNS]
    binary = [path for path in paths if path.exists()]
    assert len(binary) == len(RUNS) - 1
    for path in binary:
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
    with pytest.raises(WeightsError, match=r"this is a \.caffemodel; expected .*Name the \.solverstate"):
        solver.restore(run.with_name(run.name.replace(".solver.prototxt", ".caffemodel")))


CAFFES = Path(__file__).parents[2] / "golden" / "solver" / "bvlc" / "adam_shared_hdf5.solver.prototxt"


def forms(path) -> dict[str, tuple]:
    """What HDF5 says of everything in a file: classes, sizes, forms of strings, byte orders, spaces, shapes."""
    found = {}

    def visit(name, item):
        if not isinstance(item, h5py.Dataset):
            found[name] = ("group",)
            return
        kind, space = item.id.get_type(), item.id.get_space()
        form = (kind.get_class(), kind.get_size(), item.shape, item.maxshape, space.get_simple_extent_type())
        if kind.get_class() == h5py.h5t.STRING:
            found[name] = (*form, kind.get_strpad(), kind.get_cset(), bool(kind.is_variable_str()))
        else:
            found[name] = (*form, kind.get_order(), item.id.get_create_plist().get_layout())

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def test_hdf5_states_and_weights_have_the_form_of_caffes(tmp_path):
    """Read, resumed from, written again: every type, shape and string as real Caffe wrote it; values bit for bit."""
    theirs = {kind: CAFFES.with_name(f"adam_shared_hdf5.{kind}.h5") for kind in ("solverstate", "caffemodel")}
    state = read_solver_state(theirs["solverstate"])
    assert (state.iter, state.current_step, state.learned_net) == (30, 3, "snap_iter_30.caffemodel.h5")
    solver = start(CAFFES, Recording(CAFFES, read_arrays(recording_of(CAFFES)), "TRAIN", "bvlc"))
    shutil.copy(theirs["caffemodel"], tmp_path / "snap_iter_30.caffemodel.h5")
    shutil.copy(theirs["solverstate"], tmp_path / "snap_iter_30.solverstate.h5")
    solver.restore(tmp_path / "snap_iter_30.solverstate.h5")
    model, ours = solver.snapshot(str(tmp_path / "ours"))
    for mine, other in ((model, theirs["caffemodel"]), (ours, theirs["solverstate"])):
        expected = forms(other)
        if "learned_net" in expected:  # the path of the weights is as long as it is
            write_solver_state(mine, replace(read_solver_state(mine), learned_net="snap_iter_30.caffemodel.h5"))
        assert forms(mine) == expected
        with h5py.File(mine) as a, h5py.File(other) as b:
            for name, form in expected.items():
                assert form == ("group",) or (np.asarray(a[name][()]) == np.asarray(b[name][()])).all(), name


def test_another_form_is_noticed(tmp_path):
    state = read_solver_state(CAFFES.with_name("adam_shared_hdf5.solverstate.h5"))
    write_solver_state(tmp_path / "s.h5", state)
    right = forms(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        del file["iter"]
        file["iter"] = np.int32(30)
    assert {name for name, form in forms(tmp_path / "s.h5").items() if right[name] != form} == {"iter"}


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
        ('lr_policy: "fixed"', "no base_lr .*Write base_lr: 0, which Caffe takes"),
        ('base_lr: 1 lr_policy: "inv" gamma: 0.1', "no power .*Write power: 0, which Caffe takes"),
        ('base_lr: 1 lr_policy: "fixed" type: "RMSProp" rms_decay: 1', "rms_decay 1 with RMSProp; expected .*below 1"),
        ('base_lr: 1 lr_policy: "fixed" type: "Adam" momentum: 1', "momentum 1 with Adam; expected .*below 1"),
        ('base_lr: 1 lr_policy: "fixed" type: "Adam" momentum2: 1.5', "momentum2 1.5 with Adam"),
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


@pytest.mark.parametrize("given, passes", [("train_state { stage: 'aux' }", True), ("", False)])
def test_a_recorded_run_is_in_the_solvers_state(tmp_path, given, passes):
    folder = tmp_path / "bvlc"
    folder.mkdir()
    for path in RUNS[0].parent.glob("fixed_plain.*"):
        shutil.copy(path, folder)
    net, run = folder / "fixed_plain.net.prototxt", folder / "fixed_plain.solver.prototxt"
    text = net.read_text()
    net.write_text(text.replace('name: "loss_aux"', 'name: "loss_aux" include { stage: "aux" }'))
    run.write_text(run.read_text() + given)
    assert net.read_text() != text and bool(run_recorded(run)) == passes


def test_a_recorded_run_resumes_from_hdf5_too(tmp_path):
    folder = tmp_path / "bvlc"
    folder.mkdir()
    for path in RUNS[0].parent.glob("adam.*"):
        shutil.copy(path, folder)
    binary = folder / "adam.solverstate"
    state = read_solver_state(binary)
    state.learned_net = "adam.caffemodel"
    write_solver_state(folder / "adam.solverstate.h5", state)
    binary.unlink()
    result = run_recorded(folder / "adam.solver.prototxt")
    assert result and len(result.comparisons["resumed"]) == 5
