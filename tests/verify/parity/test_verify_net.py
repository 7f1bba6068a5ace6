"""Layer-by-layer parity of nets: it passes the paper's net in miniature, and notices every kind of sabotage."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from opencv_reader import READS_CAFFE, caffe_reader
from small_nets import conv, fully, inputs, layer, miniature

import port
from port.images import load_image, sample_images
from port.layers.pooling import Pooling
from prototxt_gen.base.command import run
from prototxt_gen.base.errors import NetError
from reference_weights.seed import write_for_net
from verify.__main__ import main
from verify.parity import net as parity_net
from verify.parity.net import TOLERANCE, net_inputs, verify_net
from verify.parity.runtimes import runtimes
from verify.parity.text import net_json, net_table

PHOTOGRAPHS = sample_images()[:3]


# -- the paper's net ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_every_blob_of_the_miniature_in_every_runtime(dialect, batch):
    prototxt = miniature(dialect)
    report = verify_net(prototxt, prototxt.with_suffix(".caffemodel"), images=PHOTOGRAPHS[:batch], batch=batch)
    assert report, net_table(report, every=False)
    assert report.dialect == dialect and report.tolerance == TOLERANCE == 1e-5
    assert report.inputs.startswith(f"data {batch}x3x224x224 photographs: astronaut.png")
    counts = {name: sum(name in row.comparisons for row in report.rows) for name in ("torch", "onnx", "opencv")}
    assert counts["torch"] == counts["onnx"] == len(report.rows) > 350
    if not READS_CAFFE:
        assert counts["opencv"] == 0 and "has no reader of Caffe files" in report.left_out["opencv"]
    elif dialect == "bvlc":
        # all but what OpenCV's importer has no layer of its own for
        assert counts["opencv"] >= len(report.rows) - 5 and not report.left_out
    else:
        assert counts["opencv"] == 0 and "fork's layers" in report.left_out["opencv"]
    outputs = [row for row in report.rows if row.output]
    assert [row.value for row in outputs] == ["y"] and outputs[0].shape == (batch, 80)
    assert all(0 < row.worst[1].scale < 1e6 for row in report.rows)  # no blob is 0 everywhere


# -- a small net, sabotaged ------------------------------------------------------------------------------------
NET = (
    inputs(data=(1, 3, 23, 31))
    + conv("conv1", "data", "conv1", 4, 3)
    + layer("bn1", "BatchNorm", "conv1", "conv1")
    + layer("scale1", "Scale", "conv1", "conv1", "scale_param { bias_term: true }")
    + layer("relu1", "ReLU", "conv1", "conv1")
    + layer("pool1", "Pooling", "conv1", "pool1", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }")
    + conv("conv2", "pool1", "conv2", 4, 1)
    + layer("sum", "Eltwise", "pool1 conv2", "sum")
    + layer("pool2", "Pooling", "sum", "pool2", "pooling_param { pool: AVE kernel_size: 4 stride: 3 pad: 1 }")
    + fully("fc", "pool2", "logits", 6)
)


@pytest.fixture
def small(tmp_path) -> tuple[Path, Path]:
    prototxt, caffemodel = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    prototxt.write_text(NET)
    write_for_net(prototxt, "3", caffemodel)
    return prototxt, caffemodel


@pytest.fixture
def sabotaged(small, monkeypatch):
    """Runs the comparison with one runtime wrapped: wrap(run, job) instead of run(job)."""

    def compare(runtime: str, wrap, **options):
        original = runtimes()[runtime]
        changed = replace(original, run=lambda job: wrap(original.run, job))
        monkeypatch.setitem(runtimes(), runtime, changed)
        return verify_net(*small, images=PHOTOGRAPHS[:1], **options)

    return compare


RUNTIMES = ("torch", "onnx", *(["opencv"] if READS_CAFFE else []))
each_runtime = pytest.mark.parametrize("runtime", ["torch", "onnx", pytest.param("opencv", marks=caffe_reader)])


def wrong_in(report) -> set[str]:
    return {name for row in report.rows for name, comparison in row.comparisons.items() if not comparison}


def test_the_small_net_passes(small):
    report = verify_net(*small, images=PHOTOGRAPHS[:1])
    assert report and report.first_divergent is None and not wrong_in(report)
    assert [row.value for row in report.rows] == [
        *("conv1@conv1", "conv1@bn1", "conv1@scale1", "conv1", "pool1", "conv2", "sum", "pool2", "logits")
    ]
    assert all(set(row.comparisons) == set(RUNTIMES) for row in report.rows)
    text = net_table(report)
    assert "PASS: all within 1e-05" in text and ">>>" not in text and text.count("  pass") == 9
    for name in RUNTIMES:
        assert f"{name}: 9 of 9 blobs against the float64 reference, largest relative error" in text


def test_opencv_without_a_reader_is_left_out(small, monkeypatch):
    monkeypatch.delattr(cv2.dnn, "readNetFromCaffe", raising=False)
    report = verify_net(*small, images=PHOTOGRAPHS[:1])
    assert report and report.left_out == {"opencv": f"OpenCV {cv2.__version__} has no reader of Caffe files; 4.x has"}
    assert report.left_out["opencv"] in net_table(report) and report.runtimes == ["torch", "onnx"]


@each_runtime
def test_other_weights_in_one_layer(sabotaged, runtime, small):
    """One weight of conv2, a thousandth off, in one runtime."""

    def wrap(run, job):
        other = copy.deepcopy(job.net)
        weight = port.params(other)["conv2"][0]
        with torch.no_grad():
            weight[2, 1] *= 1.001
        if runtime != "opencv":
            return run(replace(job, net=other))
        changed = job.prototxt.with_name("changed.caffemodel")
        port.save_caffemodel(other, changed)
        return run(replace(job, caffemodel=changed))

    report = sabotaged(runtime, wrap)
    assert not report and report.first_divergent.layer == "conv2"
    assert wrong_in(report) == {runtime}
    assert next(row.value for row in report.rows if not row) == "conv2"
    text = net_table(report)
    before, _, after = text.partition(">>> first divergent layer: 'conv2' (Convolution)\n")
    assert after.startswith("conv2 ") and "FAIL" not in before
    assert "FAIL: " in text and "first in layer 'conv2'" in text.splitlines()[-1]
    for name in RUNTIMES:  # what failed has its largest error in the summary too
        assert f"{name}: 9 of 9 blobs against the float64 reference, largest relative error " in text


@each_runtime
def test_red_and_blue_swapped(sabotaged, runtime):
    def wrap(run, job):
        return run(replace(job, inputs={k: v[:, ::-1] for k, v in job.inputs.items()}))

    report = sabotaged(runtime, wrap)
    assert not report and report.first_divergent.layer == "conv1" and wrong_in(report) == {runtime}


@each_runtime
def test_a_shift_of_one_pixel(sabotaged, runtime):
    def wrap(run, job):
        return run(replace(job, inputs={k: np.roll(v, 1, 3) for k, v in job.inputs.items()}))

    report = sabotaged(runtime, wrap)
    assert not report and report.first_divergent.layer == "conv1"


def test_average_pooling_with_another_divisor(small, monkeypatch):
    right = Pooling.forward

    def wrong(self, module, x):
        if self.pool != "AVE":
            return right(self, module, x)
        return (F.avg_pool2d(x, 4, 3, 1, ceil_mode=True, count_include_pad=False),)

    monkeypatch.setattr(Pooling, "forward", wrong)
    report = verify_net(*small, images=PHOTOGRAPHS[:1])
    assert not report and report.first_divergent.layer == "pool2" and wrong_in(report) == {"torch"}


def test_maximum_pooling_that_rounds_down(tmp_path, monkeypatch):
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(
        inputs(data=(1, 3, 24, 30)) + layer("p", "Pooling", "data", "p", "pooling_param { kernel_size: 3 stride: 2 }")
    )
    monkeypatch.setattr(Pooling, "forward", lambda self, module, x: (F.max_pool2d(x, 3, 2),))
    report = verify_net(prototxt, None, images=PHOTOGRAPHS[:1])
    assert not report and "shape 1x3x11x14, expected 1x3x12x15" in net_table(report)


def test_a_mistake_of_the_reference_shows_in_every_runtime(small, monkeypatch):
    right = parity_net.run_reference

    def wrong(*args):
        return {name: -value if name == "sum" else value for name, value in right(*args).items()}

    monkeypatch.setattr(parity_net, "run_reference", wrong)
    report = verify_net(*small, images=PHOTOGRAPHS[:1])
    assert report.first_divergent.layer == "sum" and wrong_in(report) == set(RUNTIMES)
    assert [row.value for row in report.rows if not row] == ["sum"]


@each_runtime
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity(sabotaged, runtime, bad):
    def wrap(run, job):
        found = run(job)
        found["pool2"] = np.where(
            np.arange(found["pool2"].size).reshape(found["pool2"].shape) == 17, bad, found["pool2"]
        )
        return found

    report = sabotaged(runtime, wrap)
    assert [row.value for row in report.rows if not row] == ["pool2"]
    assert f"{bad} at " in net_table(report)


def test_a_blob_that_a_runtime_does_not_compute(sabotaged):
    def without(name):
        return lambda run, job: {k: v for k, v in run(job).items() if k != name}

    report = sabotaged("torch", without("pool1"))
    assert [row.value for row in report.rows if not row] == ["pool1"] and "not computed" in net_table(report)
    report = sabotaged(RUNTIMES[-1], without("logits"))  # an output must always be there
    assert not report and not next(row for row in report.rows if row.value == "logits")


@caffe_reader
def test_opencv_may_lack_inner_blobs(sabotaged):
    report = sabotaged("opencv", lambda run, job: {k: v for k, v in run(job).items() if k != "pool1"})
    assert report and "opencv" not in next(row for row in report.rows if row.value == "pool1").comparisons


def test_a_runtime_that_cannot_run_is_an_error(sabotaged):
    def wrap(run, job):
        raise RuntimeError("out of registers")

    with pytest.raises(NetError, match="onnx cannot run the net: out of registers"):
        sabotaged("onnx", wrap)


def test_the_tolerance_decides(small):
    report = verify_net(*small, images=PHOTOGRAPHS[:1])
    worst = max(report.worst(name)[1].relative for name in RUNTIMES)
    assert 0 < worst < 2e-6
    assert verify_net(*small, images=PHOTOGRAPHS[:1], tolerance=worst)
    assert not verify_net(*small, images=PHOTOGRAPHS[:1], tolerance=worst / 2)


def test_a_net_without_blobs_to_compare_fails():
    from verify.parity.net import NetReport

    assert not NetReport("n", "bvlc", "", "", 1e-5, [])


# -- inputs -----------------------------------------------------------------------------------------------------
def test_no_two_images_of_a_batch_are_alike(small):
    net = port.load_net(*small)
    given, said = net_inputs(net, PHOTOGRAPHS[:2], 8)
    batch = given["data"]
    assert batch.shape == (8, 3, 23, 31) and batch.dtype == np.float32
    assert (batch[0] == load_image(PHOTOGRAPHS[0], 23, 31)).all()
    assert len({image.tobytes() for image in batch}) == 8
    assert said == "data 8x3x23x31 photographs: " + ", ".join(path.name for path in PHOTOGRAPHS[:2])


def test_other_inputs_are_random_and_without_photographs_all_are(small, tmp_path):
    text = inputs(image=(1, 3, 5, 7), more=(2, 3, 5, 7), vector=(4, 6))
    (tmp_path / "n.prototxt").write_text(
        text + "".join(layer(b, "ReLU", b, f"{b}2") for b in ("image", "more", "vector"))
    )
    net = port.load_net(tmp_path / "n.prototxt")
    given, said = net_inputs(net, PHOTOGRAPHS[:1], 3)
    assert {name: array.shape for name, array in given.items()} == {
        "image": (3, 3, 5, 7),
        "more": (3, 3, 5, 7),
        "vector": (3, 6),
    }
    assert said == "image 3x3x5x7 photographs: astronaut.png; more 3x3x5x7 random; vector 3x6 random"
    assert "photographs" not in net_inputs(net, [], 3)[1]
    report = verify_net(tmp_path / "n.prototxt", None, images=PHOTOGRAPHS[:1], batch=3)
    assert report and list(report.left_out) == ["opencv"]
    assert not READS_CAFFE or report.left_out["opencv"] == "it reads one caffemodel file, and none was given"


# -- the command ---------------------------------------------------------------------------------------------------
@pytest.fixture
def command(small, capsys):
    """Runs `python -m verify net`; returns its status, stdout and stderr."""

    def call(*arguments, caffemodel: Path | None = None):
        prototxt, weights = small
        argv = ["net", "--prototxt", str(prototxt), "--caffemodel", str(caffemodel or weights)]
        status = run(main, [*argv, *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return status, out, err

    return call


def test_the_command_passes_with_0(command, tmp_path):
    status, out, _ = command("--image", PHOTOGRAPHS[0], "--image", PHOTOGRAPHS[1], "--json", tmp_path / "r.json")
    assert status == 0 and "data 2x3x23x31 photographs: astronaut.png, chelsea.png" in out
    assert out.rstrip().splitlines()[-1] == "PASS: all within 1e-05"
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["passed"] is True and report["dialect"] == "bvlc" and report["tolerance"] == 1e-5
    assert [blob["blob"] for blob in report["blobs"]][-1] == "logits" and len(report["blobs"]) == 9
    assert report["blobs"][4] | {"runtimes": 0} == {
        "blob": "pool1",
        "layer": "pool1",
        "type": "Pooling",
        "shape": [2, 4, 11, 15],
        "runtimes": 0,
    }
    for blob in report["blobs"]:
        assert set(blob["runtimes"]) == set(RUNTIMES)
        assert all(r["passed"] and 0 <= r["relative"] < 1e-5 for r in blob["runtimes"].values())


def test_the_command_fails_with_1(command, monkeypatch, tmp_path):
    right = runtimes()["torch"]
    negative = replace(right, run=lambda job: right.run(replace(job, inputs={k: -v for k, v in job.inputs.items()})))
    monkeypatch.setitem(runtimes(), "torch", negative)
    status, out, _ = command("--image", PHOTOGRAPHS[0], "--failures-only", "--json", tmp_path / "r.json")
    assert status == 1 and ">>> first divergent layer: 'conv1' (Convolution)" in out
    assert "  pass\n" not in out and out.rstrip().endswith("first in layer 'conv1'")
    assert json.loads((tmp_path / "r.json").read_text())["passed"] is False
    status, out, _ = command("--tolerance", "1e-12", "--batch", "2")
    assert status == 1 and "data 2x3x23x31 random" in out


def test_json_holds_failures_without_a_figure(command, monkeypatch, tmp_path):
    right = runtimes()["torch"]
    nan = {"pool1": np.full((1, 4, 11, 15), np.nan)}
    monkeypatch.setitem(runtimes(), "torch", replace(right, run=lambda job: right.run(job) | nan))
    assert command("--json", tmp_path / "r.json")[0] == 1
    strict = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)  # no NaN or Infinity in JSON
    assert strict["blobs"][4]["runtimes"]["torch"]["passed"] is False
    assert "nan at (0, 0, 0, 0)" in strict["blobs"][4]["runtimes"]["torch"]["note"]


def test_bad_input_is_2(command, tmp_path):
    text = tmp_path / "photo.jpg"
    text.write_text("<html>404</html>")
    cases = [
        (("--image", text), {}, f"error: {text}: cannot be read"),
        (("--image", tmp_path / "absent.jpg"), {}, "there is no such file"),
        (("--batch", 0), {}, "--batch 0; expected 1 or more"),
        (("--tolerance", -1), {}, "--tolerance -1.0; expected a number above 0"),
        (("--tolerance", "nan"), {}, "--tolerance nan; expected a number above 0"),
        ((), {"caffemodel": text}, "error: "),
        ((), {"caffemodel": tmp_path / "absent.caffemodel"}, "error: "),
        ((), {"caffemodel": miniature("srn").with_suffix(".caffemodel")}, "the file has no such layer"),
        (("--dialect", "srn"), {}, "does not exist in the dialect 'srn'"),
    ]
    for arguments, options, says in cases:
        status, out, err = command(*arguments, **options)
        assert status == 2 and says in err and err.splitlines()[0].startswith("error: ") and not out


def test_the_reports_plain_data(small):
    report = verify_net(*small, images=PHOTOGRAPHS[:1])
    assert json.loads(json.dumps(net_json(report)))["passed"] is True
