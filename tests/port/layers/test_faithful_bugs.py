"""Caffe's own defects: off by default, computed as that Caffe did behind one switch."""

from pathlib import Path

import numpy as np
import pytest
import torch

import port
from verify.parity.golden import run_case

DEFECTS = sorted((Path(__file__).parents[2] / "golden" / "defects").rglob("*.prototxt"))


@pytest.mark.parametrize("case", DEFECTS, ids=lambda p: p.stem)
def test_recorded_defects_only_behind_the_switch(case):
    assert run_case(case, faithful_bugs=True)
    plain = run_case(case)
    assert not plain and all(plain.comparisons["torch"]) and not all(plain.comparisons["gradient"])


def test_there_are_recorded_defects():
    assert len(DEFECTS) == 2


CONCAT = """
input: "a" input_shape { dim: 2 dim: 3 }
input: "b" input_shape { dim: 2 dim: 4 }
input: "c" input_shape { dim: 2 dim: 5 }
layer { name: "join" type: "Concat" bottom: "a" bottom: "b" bottom: "c" top: "y" }

"""


@pytest.mark.parametrize("dialect, bugs, shifted", [("srn", False, 0), ("srn", True, 3), ("bvlc", True, 0)])
def test_concat_skips_a_bottom_without_moving_on(tmp_path, dialect, bugs, shifted):
    path = tmp_path / "net.prototxt"
    path.write_text(CONCAT)
    net = port.load_net(path, dialect=dialect, faithful_bugs=bugs)
    a, b, c = torch.randn(2, 3), torch.randn(2, 4, requires_grad=True), torch.randn(2, 5, requires_grad=True)
    seed = torch.arange(24.0).reshape(2, 12)
    (net(a=a, b=b, c=c)["y"] * seed).sum().backward()
    np.testing.assert_array_equal(b.grad, seed[:, 3 - shifted : 7 - shifted])
    np.testing.assert_array_equal(c.grad, seed[:, 7 - shifted : 12 - shifted])


@pytest.mark.parametrize("shift, factor", [(2.0, 1.0), (3.0, -1.0), (0.5, 0.0)])
def test_exp_with_a_shift_in_the_fork(tmp_path, shift, factor):
    path = tmp_path / "net.prototxt"
    path.write_text(
        'input: "x" input_shape { dim: 2 dim: 3 }'
        f'layer {{ name: "e" type: "Exp" bottom: "x" top: "y" exp_param {{ shift: {shift} }} }}'
    )
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    right = port.run_blobs(port.load_net(path, dialect="srn"), {"x": x})["y"]
    wrong = port.run_blobs(port.load_net(path, dialect="srn", faithful_bugs=True), {"x": x})["y"]
    np.testing.assert_allclose(right, np.exp(x + shift), rtol=1e-6)
    np.testing.assert_allclose(wrong, factor * np.exp(x), rtol=1e-6)
