"""Nets as plain PyTorch: the same numbers where the project is not; what has no plain form, named by layer."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from small_nets import conv, fully, inputs, layer, miniature

import port
from port.__main__ import main
from port.layers.plain_torch import RULES
from port.pytorch.export import write_program, write_source
from port.pytorch.units import common
from prototxt_gen.base.command import run
from prototxt_gen.base.errors import CaffeError, ExportError
from verify.parity.golden import find_cases, load_case, read_recording

GOLDEN = Path(__file__).parents[2] / "golden"
TOLERANCE = 1e-6  # the same operations in the same order, up to how a pooling or a scale is put; of the largest value
CASES = find_cases([GOLDEN / name for name in ("layers", "edges", "community")])

# what a stranger has: this file's folder is all that Python finds besides torch, safetensors and NumPy
STRANGER = """
import sys
sys.path[:] = [p for p in sys.path if not p.endswith("main") and "tests" not in p]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in str(f).lower()]
import numpy as np, torch
for name in ("port", "prototxt_gen", "verify", "onnx"):
    sys.modules[name] = None
sys.path.insert(0, ".")
given = {name: torch.from_numpy(array) for name, array in np.load("given.npz").items()}
import model
with torch.no_grad():
    for name, net in (("model", model.load()), ("program", torch.export.load("net.pt2").module())):
        np.savez(f"{name}.npz", **{name: value.numpy() for name, value in net(*given.values()).items()})
assert not [name for name in sys.modules if name.split(".")[0] in ("port", "prototxt_gen") and sys.modules[name]]
"""


def here(folder: Path, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same in this process, which is quicker."""
    spec = importlib.util.spec_from_file_location("written_model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.no_grad():
        return {name: value.numpy() for name, value in module.load()(*map(torch.from_numpy, given.values())).items()}


def assert_alike(found: dict[str, np.ndarray], net, given: dict[str, np.ndarray]) -> None:
    expected = port.run_blobs(net, given)
    made = {v.blob for node in net.caffe.nodes if node.layer.kind != "data" for v in node.tops}
    assert set(found) == {value.blob for value in net.caffe.outputs} & made
    for name, array in found.items():
        assert array.shape == expected[name].shape
        np.testing.assert_allclose(array, expected[name], atol=TOLERANCE * (np.abs(expected[name]).max() or 1), rtol=0)


def test_every_recorded_net_that_has_a_plain_form(tmp_path):
    seen, refused = set(), set()
    for case in CASES:
        recording = read_recording(case)
        _, net = load_case(recording)
        types = {type(node.layer) for node in net.caffe.nodes if node.layer.kind != "data"}
        try:
            write_source(net, tmp_path / "model.py")
        except ExportError as error:
            assert all(problem.layer or "computes nothing" in problem.found for problem in error.problems)
            refused |= types
            continue
        net.eval()
        given = {v.blob: np.asarray(recording.part("in")[v.blob], np.float32) for v in net.caffe.inputs}
        with np.errstate(invalid="ignore"):
            assert_alike(here(tmp_path, given), net, given)
        seen |= types
    assert len(seen) >= 20 and seen <= set(RULES), set(RULES) - seen
    assert refused - seen


def test_the_papers_net_in_miniature(tmp_path):
    prototxt = miniature("bvlc")
    net = port.load_net(prototxt, prototxt.with_suffix(".caffemodel"))
    lines = write_source(net, tmp_path / "model.py")
    text = (tmp_path / "model.py").read_text()
    assert lines == text.count("\n") < 170 and max(map(len, text.splitlines())) < 250
    assert "class Unit1(nn.Module):" in text and "self.att_conv1 = nn.Conv2d(" in text
    given = {"data": np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)}
    assert_alike(here(tmp_path, given), net, given)
    with safe_open(tmp_path / "model.safetensors", "np") as file:
        assert len(file.metadata()["caffe_caffemodel_sha256"]) == 64 and file.metadata()["format"] == "pt"


NET = (
    inputs(data=(1, 3, 9, 11))
    + conv("c-1", "data", "c", 4, 3)
    + layer("r", "ReLU", "c", "c", "relu_param { negative_slope: 0.3 }")
    + layer("p", "Pooling", "c", "class", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }")
    + layer("m", "Pooling", "c", "m", "pooling_param { kernel_size: 3 stride: 2 }")
    + layer("s", "Slice", "m", "s1 s2")
    + layer("j", "Concat", "s2 s1", "j")
    + fully("self", "j", "y", 6)
    + layer("z", "Softmax", "y", "torch")
)


@pytest.fixture
def load(tmp_path):
    def make(text: str, **options):
        (tmp_path / "n.prototxt").write_text(text)
        return port.load_net(tmp_path / "n.prototxt", **options)

    return make


def test_names_that_python_has_for_itself_and_any_batch(load, tmp_path):
    net = load(NET)
    write_source(net, tmp_path / "model.py")
    given = {"data": np.random.default_rng(3).standard_normal((3, 3, 9, 11)).astype(np.float32)}
    assert_alike(here(tmp_path, given), net, given)
    with torch.no_grad():
        net.layer("self").bias[0] += 1
    with pytest.raises(AssertionError):
        assert_alike(here(tmp_path, given), net, given)


def test_units_that_hand_on_two_values(load, tmp_path):
    unit = "".join(
        conv(f"a{i}", f"x{i} y{i}"[:2], f"a{i}", 3)
        + layer(f"t{i}", "TanH", f"a{i}", f"a{i}")
        + layer(f"e{i}", "Eltwise", f"a{i} y{i}", f"x{i + 1}", "eltwise_param { coeff: 0.5 coeff: -0.25 }")
        + layer(f"u{i}", "Sigmoid", f"x{i + 1}", f"u{i}")
        + layer(f"f{i}", "Eltwise", f"u{i} y{i}", f"y{i + 1}", "eltwise_param { operation: MAX }")
        for i in range(9)
    )
    net = load(inputs(x0=(1, 3, 4, 5), y0=(1, 3, 4, 5)) + unit)
    write_source(net, tmp_path / "model.py")
    assert "for unit in self." in (tmp_path / "model.py").read_text()
    random = np.random.default_rng(5)
    given = {name: random.standard_normal((2, 3, 4, 5)).astype(np.float32) for name in ("x0", "y0")}
    assert_alike(here(tmp_path, given), net, given)


def test_what_has_no_plain_form_is_all_listed_and_nothing_written(load, tmp_path):
    net = load(
        NET
        + layer("q", "MVN", "m", "q")
        + layer("b", "BatchNorm", "m", "b", "batch_norm_param { use_global_stats: false }")
    )
    with pytest.raises(ExportError) as caught:
        write_source(net, tmp_path / "model.py")
    assert [problem.layer for problem in caught.value.problems] == ["q", "b"]
    assert "MVN has no plain form in PyTorch" in str(caught.value)
    assert not (tmp_path / "model.py").exists() and not (tmp_path / "model.safetensors").exists()
    with pytest.raises(ExportError, match="expected a Python file"):
        write_source(net, tmp_path / "model.txt")
    (tmp_path / "d.safetensors").mkdir()
    with pytest.raises(CaffeError, match="is a folder"):
        write_source(load(NET), tmp_path / "d.py")


def test_a_model_and_a_program_where_the_project_is_not(load, tmp_path):
    net = load(NET)
    write_source(net, tmp_path / "model.py")
    write_program(net, tmp_path / "net.pt2")
    given = {"data": np.random.default_rng(3).standard_normal((1, 3, 9, 11)).astype(np.float32)}
    np.savez(tmp_path / "given.npz", **given)
    done = subprocess.run([sys.executable, "-I", "-c", STRANGER], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("model", "program"):
        assert_alike(dict(np.load(tmp_path / f"{name}.npz")), net, given)


def test_what_names_have_in_common():
    assert common(["res2a_b", "res3b12_b"]) == ("res_b", ["2a", "3b12"])
    assert common(["aa", "aaa"]) == ("aa", ["", "a"])
    assert common(["x", "y"]) == ("", ["x", "y"])


def test_the_command(load, tmp_path, capsys):
    port.save_caffemodel(load(NET), tmp_path / "n.caffemodel")
    files = ["export", *(f"--{kind}={tmp_path / 'n'}.{kind}" for kind in ("prototxt", "caffemodel"))]
    assert run(main, [*files, f"--output={tmp_path / 'model.py'}", "--format", "pytorch"]) == 0
    out = capsys.readouterr().out
    assert " lines\n" in out and "model.safetensors: " in out and (tmp_path / "model.safetensors").is_file()
    assert run(main, [*files, f"--output={tmp_path / 'm.py'}", "--opset", "12", "--cut", "m"]) == 2
    assert "--opset, --cut with format pytorch" in capsys.readouterr().err and not (tmp_path / "m.py").exists()
