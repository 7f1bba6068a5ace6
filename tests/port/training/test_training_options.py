"""What no Caffe has: the plateau schedule and the speed options."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from training_runs import (
    SIMPLE,
    assert_same,
    log_of,
    refusal,
    snapshot_arrays,
    weights,
    without,
    write_run,
    write_solver,
)

import port
from port.__main__ import main
from port.solver.states import read_solver_state
from port.training import Options, PlateauOptions, Speed, train
from port.training.speed import apply_speed

# ---- the plateau schedule


def test_plateau_from_test_to_test():
    from port.training.plateau import Plateau

    plateau = Plateau(1e-3, patience=2, threshold=0.1)
    seen = [(loss, plateau.tested(loss), plateau.rate) for loss in (1.0, 0.95, 0.8, 0.79, 0.78, 0.77, 0.5, 0.5, 0.5)]
    # 0.95 is no tenth below 1, 0.8 is; then two tests in a row bring nothing.
    assert [change for _, change, _ in seen] == [False, False, False, False, True, False, False, False, True]
    assert [rate for *_, rate in seen] == pytest.approx([1e-3] * 4 + [1e-4] * 4 + [1e-5])
    again = Plateau(7.0, patience=2, threshold=0.1)
    again.restore(json.loads(json.dumps(plateau.state())))
    assert not again.tested(0.5) and again.tested(0.5) and again.ended and again.rate == pytest.approx(1e-5)
    flat = Plateau(1e-3, patience=1)
    flat.tested(float("nan"))
    assert flat.tested(float("nan"))  # no number is no improvement
    late = Plateau(1e-3, patience=3)
    for loss in (float("nan"), float("inf"), 5.0, 4.0, 3.0, 2.0, 1.0):  # nor anything to fall below
        assert not late.tested(loss)
    assert late.best == 1


def test_plateau_in_a_run_resumed_or_not(tmp_path, capsys):
    more = 'base_lr: 0.001 max_iter: 40 test_interval: 2 snapshot: 9 display: 1 lr_policy: "fixed"'
    plateau = PlateauOptions(patience=2, threshold=0.5)
    train(write_run(tmp_path / "a", solver=more), Options(workers=0, plateau=plateau))
    said = capsys.readouterr().err
    assert "deviation from Caffe: --plateau" in said and "the rate is 0.0001 from iteration" in said
    last = max((tmp_path / "a" / "run").glob("*.solverstate"), key=lambda p: read_solver_state(p).iter)
    reached = read_solver_state(last).iter
    assert 9 < reached < 40 and "training ends" in said  # it ends when the smallest rate brings nothing more
    log = "\n".join(log_of(tmp_path / "a"))
    assert [float(v) for v in dict.fromkeys(re.findall(r"lr = (\S+)", log))] == [1e-3, 1e-4, 1e-5]
    solver = write_run(tmp_path / "b", solver=more)
    for path in (tmp_path / "a" / "run").glob("tiny_iter_9.*"):
        (tmp_path / "b" / "run").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "b" / "run")
    train(solver, Options(workers=0, plateau=plateau, resume="latest"))
    assert_same(*(snapshot_arrays(f / "run" / "tiny", reached) for f in (tmp_path / "a", tmp_path / "b")))


def test_plateau_needs_a_test_net(tmp_path, capsys):
    solver = write_run(tmp_path)
    solver.write_text(without(solver, "test_"))
    assert "--plateau without a test net" in refusal(capsys, "--solver", str(solver), "--plateau")


# ---- speed options


@pytest.mark.parametrize("flag", ["--channels-last", "--fused"])
@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_speed_options_compute_the_same_up_to_rounding(tmp_path, capsys, flag, dialect):
    solver = write_run(tmp_path / "a", dialect, drop=False)  # dropout draws in the order of the memory
    train(solver, SIMPLE)
    assert "deviation" not in capsys.readouterr().err
    other = write_run(tmp_path / "b", dialect, drop=False)
    assert main(["train", "--solver", str(other), "--workers", "0", flag]) == 0
    assert f"deviation from Caffe: {flag}" in capsys.readouterr().err
    one, two = (snapshot_arrays(f / "run" / "tiny", 12) for f in (tmp_path / "a", tmp_path / "b"))
    for name in one:  # 12 iterations of a net that amplifies rounding
        assert np.abs(one[name] - two[name]).max() < 2e-4 * max(np.abs(one[name]).max(), 0.01), name
    assert any(not np.array_equal(one[name], two[name]) for name in one)  # it was on


@pytest.mark.slow
def test_compiled_nets_compute_the_same_up_to_rounding(tmp_path):
    for name, more in (("a", []), ("b", ["--compile", "--channels-last", "--fused"])):
        solver = write_run(tmp_path / name, drop=False)
        assert main(["train", "--solver", str(solver), "--workers", "0", *more]) == 0
    one, two = (snapshot_arrays(tmp_path / name / "run" / "tiny", 12) for name in "ab")
    for name in one:
        assert np.abs(one[name] - two[name]).max() < 2e-4 * max(np.abs(one[name]).max(), 0.01), name


def test_amp_is_near(tmp_path, capsys):
    train(write_run(tmp_path / "a"), SIMPLE)
    assert main(["train", "--solver", str(write_run(tmp_path / "b")), "--workers", "0", "--amp"]) == 0
    assert "deviation from Caffe: --amp" in capsys.readouterr().err
    one, two = (snapshot_arrays(f / "run" / "tiny", 12)["conv[0]"] for f in (tmp_path / "a", tmp_path / "b"))
    assert not np.array_equal(one, two)
    np.testing.assert_allclose(one, two, atol=0.05)


SCALED = """
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { BIAS filler { value: 0.7 } } }
"""


@pytest.mark.parametrize("bias", ["bias_term: true bias_filler { value: 0.3 }", "bias_term: false"])
@pytest.mark.parametrize("stored", [True, False])
def test_fused_joins_batch_norm_and_scale(tmp_path, capsys, bias, stored):
    for name, more in (("a", []), ("b", ["--fused"])):
        solver = write_run(tmp_path / name, norm=False, drop=False)
        net = tmp_path / name / "net.prototxt"
        text = SCALED.replace("BIAS", bias)
        if stored:
            text = text.replace('top: "conv" }', 'top: "conv" batch_norm_param { use_global_stats: true eps: 1 } }', 1)
        before, relu, after = net.read_text().partition('layer { name: "relu"')
        net.write_text(before + text + relu + after)
        assert main(["train", "--solver", str(solver), "--workers", "0", *more]) == 0
        said = capsys.readouterr().err
        assert ("--fused: 1 BatchNorm layers and their Scale are computed at once" in said) == bool(more)
    one, two = (snapshot_arrays(tmp_path / name / "run" / "tiny", 12) for name in "ab")
    assert one.keys() == two.keys() and ("scale[1]" in one) == ("true" in bias)
    for name in one:
        assert np.abs(one[name] - two[name]).max() < 2e-4 * max(np.abs(one[name]).max(), 0.01), name
    assert np.ptp(one["scale[0]"]) > 1e-3  # it learned


@pytest.mark.parametrize(
    "old, new",
    [
        ('bottom: "conv" top: "conv" scale_param', 'bottom: "conv" top: "other" scale_param'),
        ("scale_param {", "scale_param { axis: 2"),
        ("scale_param {", "scale_param { num_axes: 2"),
    ],
)
def test_fused_leaves_other_scales_alone(tmp_path, capsys, old, new):
    solver = write_run(tmp_path, norm=False, drop=False, solver="max_iter: 2")
    net = tmp_path / "net.prototxt"
    before, relu, after = net.read_text().partition('layer { name: "relu"')
    text = SCALED.replace("BIAS", "").replace(old, new)
    more = 'layer { name: "s" type: "Silence" bottom: "other" }\n' if "other" in new else ""
    if more:  # the classifier reads the normalised blob too
        relu, after = "", after.partition("\n")[2]
    net.write_text(before + text + more + relu + after)
    assert main(["train", "--solver", str(solver), "--workers", "0", "--fused"]) == 0
    assert "computed at once" not in capsys.readouterr().err


def test_fused_refuses_other_rules(tmp_path, capsys):
    solver = write_run(tmp_path, solver='type: "Adam" momentum2: 0.99')
    assert "--fused with Adam" in refusal(capsys, "--solver", str(solver), "--fused", "--workers", "0")


SHARED_KERNELS = """
layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 dim: 5 dim: 7 }
        data_filler { type: "gaussian" } } }
layer { name: "a" type: "Convolution" bottom: "x" top: "y" param { name: "w" }
        convolution_param { num_output: 3 kernel_size: 2 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "b" type: "Convolution" bottom: "y" top: "z" param { name: "w" }
        convolution_param { num_output: 3 kernel_size: 2 bias_term: false } }
layer { name: "l" type: "Reduction" bottom: "z" top: "l" loss_weight: 1 reduction_param { operation: SUMSQ } }
"""


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_shared_kernels_stay_shared_channels_last(tmp_path, dialect):
    (tmp_path / "net.prototxt").write_text(SHARED_KERNELS)
    text = "max_iter: 4 test_interval: 0 base_lr: 0.001"
    solver = write_solver(tmp_path, text)
    solver.write_text(without(solver, "test_iter"))
    found = {}
    for name, speed in (("plain", Speed()), ("last", Speed(channels_last=True))):
        options = Options(workers=0, dialect=dialect, speed=speed, prefix=str(tmp_path / name))
        assert train(solver, options) == 0
        found[name] = weights(tmp_path / f"{name}_iter_4.caffemodel")
    for blob, values in found["plain"].items():
        np.testing.assert_allclose(found["last"][blob], values, rtol=0, atol=1e-5)
    assert np.array_equal(found["last"]["a[0]"], found["last"]["b[0]"])


STRIDED = """
input: "data" input_shape { dim: 3 dim: 8 dim: 28 dim: 26 }
layer { name: "narrow" type: "Convolution" bottom: "data" top: "n"
  convolution_param { num_output: 17 kernel_size: 1 stride: 2 weight_filler { type: "xavier" } } }
layer { name: "three" type: "Convolution" bottom: "data" top: "t"
  convolution_param { num_output: 4 kernel_size: 3 stride: 2 weight_filler { type: "xavier" } } }
"""


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_channels_last_leaves_narrow_strided_kernels_of_one_pixel_alone(tmp_path, dialect):
    """PyTorch's CPU kernel for the gradient of their weights writes beyond its memory in this layout."""
    (tmp_path / "net.prototxt").write_text(STRIDED)
    solver = port.load_solver(write_solver(tmp_path, "max_iter: 4 test_interval: 0 base_lr: 0.001"), dialect=dialect)
    apply_speed(solver, Speed(channels_last=True))
    last = {"memory_format": torch.channels_last}
    seen = {}
    for name in ("narrow", "three"):
        solver.net.layer(name).register_forward_pre_hook(lambda _, bottoms, name=name: seen.update({name: bottoms[0]}))
    solver.net(data=torch.rand(3, 8, 28, 26).contiguous(**last))
    assert {name: bottom.is_contiguous(**last) for name, bottom in seen.items()} == {"narrow": False, "three": True}
    assert solver.net.layer("narrow").weight.stride() == (8, 1, 1, 1)
    assert solver.net.layer("three").weight.is_contiguous(**last)
