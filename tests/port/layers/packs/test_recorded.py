"""Every recorded case of other forks: forward in the reference, PyTorch and ONNX Runtime, backward where recorded."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import port
from verify.parity.compare import compare
from verify.parity.golden import FORWARD, find_cases, read_recording, run_case

FOLDER = Path(__file__).parents[3] / "golden" / "community"
CASES = find_cases([FOLDER])


def test_all_cases_are_here():
    assert len(CASES) >= 76


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recorded(case):
    result = run_case(case)
    assert result, result.error or [str(c) for group in result.comparisons.values() for c in group if not c]
    assert {"reference", "torch", "onnx"} <= set(result.comparisons)


@pytest.mark.parametrize("name", ["permute_0", "prior_box_1", "detection_output_1", "interp_3", "upsample_mask_2"])
def test_a_changed_recording_is_noticed(tmp_path, name):
    """The same case with one value moved by a hundredth of the largest, or with its first two values changed over."""
    folder = tmp_path / "synopsys"
    folder.mkdir()
    source = FOLDER / "synopsys" / name
    shutil.copy(source.with_suffix(".prototxt"), folder)
    arrays = dict(np.load(source.with_suffix(".npz")))
    top = [key for key in arrays if key.startswith("blob/")][-1]
    right = arrays[top]
    moved, swapped = right.copy().reshape(-1), right.copy().reshape(-1)
    moved[-1] += 0.01 * np.abs(right).max()
    other = np.flatnonzero(swapped != swapped[0])[0]
    swapped[[0, other]] = swapped[[other, 0]]
    for values in (moved, swapped, right * np.nan):
        np.savez(folder / f"{name}.npz", **{**arrays, top: values.reshape(right.shape)})
        assert not run_case(folder / f"{name}.prototxt")
    np.savez(folder / f"{name}.npz", **arrays)
    assert run_case(folder / f"{name}.prototxt")


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recorded_undeclared(case):
    """With the weights file as users have it, and nothing said of the fork: the file's field numbers tell it."""
    recording = read_recording(case)
    net = port.load_net(case, case.with_suffix(".caffemodel"), phase=recording.phase)
    blobs = port.run_blobs(net, recording.part("in"))
    for name, wanted in recording.part("blob").items():
        assert compare(blobs[name], wanted, FORWARD, name, nan=True)
