"""Every recorded case of real Caffe, replayed; and proof that the replay notices what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from port.layers import REGISTRY
from prototxt_gen.base.command import run
from prototxt_gen.schema.text import read_prototxt
from prototxt_gen.schema.upgrade import upgrade_parsed
from verify.__main__ import main
from verify.parity.golden import BACKWARD, FORWARD, find_cases, read_recording, report, run_case

GOLDEN = Path(__file__).parents[2] / "golden"
FOLDERS = [GOLDEN / "layers", GOLDEN / "edges"]


def missing_types(case: Path) -> set[str]:
    """The layer types of a case that the port does not know (yet)."""
    dialect = next(part for part in reversed(case.parts) if part in ("bvlc", "srn"))
    parsed, _ = upgrade_parsed(read_prototxt(case, dialect=dialect))
    return {layer.type for layer in parsed.message.layer} - set(REGISTRY)


def label(case: Path) -> str:
    return "-".join(case.with_suffix("").parts[-3:])


CASES = find_cases(FOLDERS)
MISSING = {case: missing_types(case) for case in CASES}
SUPPORTED = [case for case in CASES if not MISSING[case]]


@pytest.mark.parametrize("case", SUPPORTED, ids=label)
def test_the_port_computes_what_caffe_computed(case):
    result = run_case(case)
    assert result, report([result])
    # nothing that was recorded is left out
    recording = read_recording(case)
    blobs, after = len(recording.part("blob")), len(recording.part("after"))
    gradients = len(recording.part("grad")) + len(recording.part("pgrad"))
    counts = {runtime: len(group) for runtime, group in result.comparisons.items()}
    assert counts == {
        "reference": blobs + after,
        "torch": blobs + after,
        "onnx": blobs,
        "gradient": gradients,
    }


def test_the_recorded_cases_are_all_here():
    assert len(CASES) == 254
    used = {layer.type for case in SUPPORTED for layer in read_prototxt(case, dialect=case.parts[-2]).message.layer}
    assert len(SUPPORTED) >= 144 and len(used) >= 18


def test_a_case_is_left_out_only_for_a_layer_type_that_is_not_known():
    for case in set(CASES) - set(SUPPORTED):
        result = run_case(case)
        assert not result and "is unknown" in result.error
        assert all(f"'{name}'" in result.error for name in MISSING[case])


# -- the replay can fail ------------------------------------------------------------------------------------
RUNTIMES = ("reference", "torch", "onnx")


@pytest.fixture
def changed(tmp_path):
    """Makes a copy of a case with some arrays changed: name -> function, new array, or None to remove it."""

    def make(changes: dict, case: str = "srn_head", folder: str = "layers", dialect: str = "bvlc") -> Path:
        source = GOLDEN / folder / dialect / f"{case}.prototxt"
        target = tmp_path / dialect / source.name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(source, target)
        with np.load(source.with_suffix(".npz")) as file:
            arrays = {name: file[name] for name in file.files}
        for name, change in changes.items():
            arrays[name] = change(arrays[name].copy()) if callable(change) else change
        arrays = {name: array for name, array in arrays.items() if array is not None}
        np.savez(target.with_suffix(".npz"), **arrays)
        return target

    return make


def failures(result) -> dict[str, list[str]]:
    """Runtime -> the names of what failed there."""
    groups = {runtime: [c.name for c in group if not c] for runtime, group in result.comparisons.items()}
    return {runtime: names for runtime, names in groups.items() if names}


def nudged(array, by: float = 1e-4):
    """One value, moved by a share of the largest one."""
    array[1, 4, 2, 3] += by * np.abs(array).max()
    return array


def with_nan(array):
    array[1, 4, 2, 3] = np.nan
    return array


def test_an_unchanged_copy_passes(changed):
    assert run_case(changed({}))


def test_a_change_within_the_tolerance_passes(changed):
    assert run_case(changed({"blob/attention": lambda x: nudged(x, FORWARD / 4)}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (nudged, "1.0e-04 of the largest value"),
        (with_nan, "expected nan (1 such values)"),
        (lambda x: x[:, ::-1], "allowed 5e-06"),
        (lambda x: x.transpose(0, 1, 3, 2), "allowed 5e-06"),
        (lambda x: np.roll(x, 1, axis=3), "allowed 5e-06"),
        (lambda x: np.roll(x, 1, axis=2), "allowed 5e-06"),
        (lambda x: x[::-1], "allowed 5e-06"),
        (lambda x: -x, "2.0e+00 of the largest value"),
        (lambda x: x[:, :, :, :-1], "shape 2x5x7x7, expected 2x5x7x6"),
        (lambda x: x[:, :0], "shape 2x5x7x7, expected 2x0x7x7"),
        (lambda x: np.zeros_like(x), "allowed 5e-06"),
        (lambda x: np.full_like(x, np.inf), "expected inf"),
    ],
    ids=["value", "nan", "channels", "transposed", "x", "y", "batch", "sign", "cut", "empty", "zero", "inf"],
)
def test_a_wrong_blob_fails_in_every_runtime_and_is_named(changed, change, says):
    result = run_case(changed({"blob/attention": change}))
    assert not result and not result.error
    assert failures(result) == {runtime: ["blob attention"] for runtime in RUNTIMES}
    text = report([result])
    assert text.startswith("FAILED bvlc/srn_head: reference: blob attention: ") and text.count(says) == 3
    assert "1 recorded cases, 1 ran, 0 passed, 1 failed" in text


def test_the_place_of_the_error_is_named(changed):
    assert "at (1, 4, 2, 3), allowed" in report([run_case(changed({"blob/attention": nudged}))])


def test_a_nan_that_caffe_computed_must_stand_in_the_same_place(changed):
    def replayed(blob):
        arrays = {"in/data": [[np.nan, 1, -1, 2]], "blob/e": [blob], "grad/data": None, "topdiff/e": None}
        changes = {name: np.float32(array) if array else None for name, array in arrays.items()}
        return run_case(changed(changes, case="power_base0", folder="edges"))

    assert replayed([np.nan, 1, 1, 4])
    assert not replayed([0, 1, 1, 4])
    assert not replayed([1, np.nan, 1, 4])
    assert not replayed([np.nan, 1, np.nan, 4])
    assert not replayed([np.nan, 1, np.inf, 4])


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("grad/data", lambda x: -x, "gradient of data"),
        ("grad/data", lambda x: x * 5, "gradient of data"),
        ("grad/y_cls", lambda x: x * (1 + 2 * BACKWARD), "gradient of y_cls"),
        ("pgrad/conv4/0", lambda x: x.transpose(0, 1, 3, 2), "gradient of conv4[0]"),
        ("pgrad/fc_sr/1", lambda x: x[::-1], "gradient of fc_sr[1]"),
    ],
)
def test_a_wrong_gradient_fails(changed, name, change, says):
    result = run_case(changed({name: change}))
    assert not result and failures(result) == {"gradient": [says]}


def test_statistics_after_forward_are_compared(changed):
    result = run_case(changed({"after/bn/1": lambda x: x * 1.001}, case="batchnorm_train"))
    expected = ["bn[1] after forward"]
    assert not result and failures(result) == {"reference": expected, "torch": expected}


def test_parameters_are_used(changed):
    result = run_case(changed({"param/conv4/0": lambda x: x.transpose(0, 1, 3, 2)}))
    assert not result and failures(result)["torch"][0] == "blob conv4"


def test_a_recorded_blob_that_the_net_lacks_fails(changed):
    result = run_case(changed({"blob/attention2": np.ones((2, 5, 7, 7), np.float32)}))
    assert failures(result) == {runtime: ["blob attention2"] for runtime in RUNTIMES}
    assert "not computed" in report([result])


def test_a_recorded_gradient_that_the_net_lacks_fails(changed):
    result = run_case(changed({"grad/dta": np.ones((2, 6, 7, 7), np.float32)}))
    assert not result and "gradient of dta: not computed" in report([result])
    result = run_case(changed({"pgrad/conv9/0": np.ones((2, 6), np.float32)}))
    assert not result and "gradient of conv9[0]: not computed" in report([result])
    result = run_case(changed({"after/conv1/7": np.ones((2, 6), np.float32)}))
    assert not result and "conv1[7] after forward: not computed" in report([result])


def test_a_missing_input_is_an_error_of_the_case(changed):
    result = run_case(changed({"in/y_cls": None}))
    assert not result and "y_cls" in result.error


def test_nothing_recorded_is_a_failure(changed):
    case = changed({"in/data": None})
    np.savez(case.with_suffix(".npz"))
    assert not run_case(case)
    with np.load(GOLDEN / "layers/bvlc/srn_head.npz") as file:
        inputs = {name: file[name] for name in file.files if name.startswith(("in/", "param/"))}
    np.savez(case.with_suffix(".npz"), **inputs)
    result = run_case(case)
    assert not result and "nothing was compared" in report([result])


def test_a_damaged_recording_is_an_error_of_the_case(changed):
    case = changed({})
    data = case.with_suffix(".npz").read_bytes()
    for bad in (
        b"",
        b"<html>not found</html>",
        data[: len(data) // 2],
        data[:200] + bytes(800) + data[1000:],
    ):
        case.with_suffix(".npz").write_bytes(bad)
        result = run_case(case)
        assert not result and result.error


# -- the command --------------------------------------------------------------------------------------------
def test_the_command_counts_and_exits_0_when_all_pass(changed, tmp_path, capsys):
    changed({})
    changed({}, case="bn_train", dialect="srn")
    assert run(main, ["golden", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "compared with recorded outputs of real Caffe" in out and "FAILED" not in out
    assert "2 recorded cases, 2 ran, 2 passed, 0 failed" in out
    assert "forward in onnx: 17 arrays, largest relative error" in out and "backward in torch: " in out


def test_the_command_exits_1_and_lists_what_failed_and_what_is_not_supported(changed, tmp_path, capsys):
    changed({"blob/y": lambda x: -x})
    changed({}, case="bn_train", dialect="srn")
    case = changed({}, case="relu", dialect="srn")
    case.write_text(case.read_text().replace('"ReLU"', '"Nonsense"'))
    assert run(main, ["golden", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "FAILED bvlc/srn_head: torch: blob y: 2.0e+00 of the largest value" in out
    assert "FAILED srn/relu: " in out and "the layer type 'Nonsense' is unknown" in out
    assert "3 recorded cases, 2 ran, 1 passed, 2 failed" in out


def test_the_command_exits_2_without_cases(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "absent"):
        assert run(main, ["golden", str(folder)]) == 2
        assert capsys.readouterr().err.startswith(f"error: {folder}: ")
