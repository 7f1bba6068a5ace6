"""The door for layers of one's own: the documented example through every command, and what is said of bad files."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from training_runs import write_databases

import port
from port.caffemodel import read_caffemodel
from port.layers.base import REGISTRY
from port.layers.host import PYTHON
from prototxt_gen.base import command, door
from prototxt_gen.base.errors import NetError, ParseError, UsageError
from prototxt_gen.builder import NetBuilder
from prototxt_gen.schema import dialect, messages

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "squash.py"

NET = """name: "squashed"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 11 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "squash" type: "Squash" bottom: "conv" top: "conv"
        squash_param { form: RATIO limit_filler { value: 2.5 } } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "y"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "squash2" type: "Squash" bottom: "y" top: "z" squash_param { per_channel: false } }
"""


@pytest.fixture(autouse=True)
def as_before():
    """Undo what a test registers."""
    types, python, rows = dict(REGISTRY), dict(PYTHON), list(messages._rows())
    added, files = dict(dialect.ADDED_TYPES), dict(door._opened)
    yield
    for known, before in ((REGISTRY, types), (PYTHON, python), (dialect.ADDED_TYPES, added), (door._opened, files)):
        known.clear()
        known.update(before)
    messages._rows()[:] = rows
    messages.forget()


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """A command of a program with --layers of the example: its output; it must end with 0."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)

    def start(program: str, verb: str, *arguments: object, layers: object = EXAMPLE, status: int = 0) -> str:
        main = importlib.import_module(f"{program}.__main__").main
        words = [verb, *map(str, arguments), *(["--layers", str(layers)] if layers else [])]
        found = command.run(main, words)
        out, err = capsys.readouterr()
        assert found == status and "Traceback" not in out + err, out + err
        return out if status == 0 else err

    return start


def net_files(call) -> list[str]:
    call("reference_weights", "seed", 3, "--prototxt", "net.prototxt", "--output", "net.caffemodel")
    return ["--prototxt", "net.prototxt", "--caffemodel", "net.caffemodel"]


def expected(images: np.ndarray) -> np.ndarray:
    """The net by hand, from the weights file."""
    with read_caffemodel("net.caffemodel") as model:
        held = {layer.name: [np.array(b.data, np.float64) for b in layer.blobs] for layer in model.layers}
    (weight, bias), (limit,), (matrix, offset), (single,) = (held[n] for n in ("conv", "squash", "fc", "squash2"))
    windows = np.lib.stride_tricks.sliding_window_view(images.astype(np.float64), (3, 3), (2, 3))
    x = np.einsum("nchwij,ocij->nohw", windows, weight) + bias[:, None, None]
    x = x / (1 + np.abs(x) / limit[:, None, None])
    y = x.reshape(len(x), -1) @ matrix.T + offset
    return single * np.tanh(y / single)


def test_the_page_shows_the_example_as_it_is():
    page = (ROOT / "docs" / "own_layers.md").read_text(encoding="utf-8")
    assert re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE) == [EXAMPLE.read_text(encoding="utf-8")]


def test_inspect_and_draw(call, tmp_path):
    out = call("port", "inspect", "net.prototxt", "--svg", "net.svg")
    (row,) = [line.split() for line in out.splitlines() if " squash " in line]
    assert row[1:5] == ["squash", "Squash", "form", "RATIO"] and row[-2:] == ["2x5x7x9", "5"]
    assert "unknown" not in out and "problems" not in out
    drawing = (tmp_path / "net.svg").read_text()
    assert "activation" in drawing and "unknown" not in drawing


def test_verify_net(call):
    out = call("verify", "net", *net_files(call), "--batch", 3)
    assert "opencv left out: its Caffe importer does not know the layers Squash" in out
    assert out.rstrip().endswith("PASS: all within 1e-05")


def test_export(call, tmp_path):
    call("port", "export", *net_files(call), "--output", "net.onnx")
    images = np.random.RandomState(1).standard_normal((4, 3, 9, 11)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["z"], {"data": images})[0], expected(images), rtol=1e-4, atol=1e-5)


def test_score(call, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        pixels = np.random.RandomState(i).randint(0, 256, (9, 11, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    files = net_files(call)
    call("port", "score", *files, "--output", "scores.txt", "photos")
    images = np.stack([port.images.load_image(tmp_path / "photos" / f"{i}.png", 9, 11) for i in range(3)])
    np.testing.assert_allclose(np.loadtxt("scores.txt"), expected(images), atol=2e-5)  # six decimals


def test_train(call, tmp_path):
    images, labels = write_databases(tmp_path)
    data = (
        f'layer {{ name: "d" type: "Data" top: "data" transform_param {{ scale: 0.0078125 }}'
        f' data_param {{ source: "{images}" backend: LMDB batch_size: 4 }} }}\n'
        f'layer {{ name: "l" type: "Data" top: "label"'
        f' data_param {{ source: "{labels}" backend: LMDB batch_size: 4 }} }}\n'
    )
    text = data + "".join(NET.splitlines(keepends=True)[2:]).replace("num_output: 4", "num_output: 3")
    (tmp_path / "train.prototxt").write_text(text + layer_of_loss())
    (tmp_path / "solver.prototxt").write_text(
        'net: "train.prototxt" base_lr: 0.5 lr_policy: "fixed" max_iter: 4 snapshot_prefix: "run" random_seed: 1'
    )
    call("port", "train", "--solver", "solver.prototxt", "--workers", 0)
    with read_caffemodel(tmp_path / "run_iter_4.caffemodel") as model:
        held = {layer.name: [np.array(blob.data) for blob in layer.blobs] for layer in model.layers}
    assert held["squash"][0].shape == (5,) and (held["squash"][0] != 2.5).all(), "every limit has moved"
    assert np.isfinite(held["squash2"][0]).all() and held["squash2"][0].shape == (1,)


def layer_of_loss() -> str:
    return 'layer { name: "loss" type: "SigmoidCrossEntropyLoss" bottom: "z" bottom: "label" top: "loss" }\n'


def test_diff_and_upgrade_read_such_nets(call, tmp_path):
    (tmp_path / "other.prototxt").write_text(NET.replace("form: RATIO", "form: TANH"))
    call("prototxt_gen", "diff", "net.prototxt", "net.prototxt")
    assert "squash_param" in call("port", "upgrade", "net.prototxt")
    assert call("prototxt_gen", "diff", "net.prototxt", "other.prototxt", status=1) == ""


def test_the_builder_writes_them(call):
    door.open_files([EXAMPLE])
    net = NetBuilder("squashed", "srn")
    x = net.input("data", (2, 3, 9, 11))
    net.Squash("squash", x, form="RATIO", limit_filler={"type": "constant", "value": 2.5}, in_place=True)
    text = net.to_text()
    assert "squash_param {" in text and "form: RATIO" in text
    with pytest.raises(NetError, match="'SUM' is not a value of Form"):
        net.Squash("again", x, form="SUM")


def test_without_it_the_error_names_the_way_out(call):
    err = call("port", "inspect", "net.prototxt", layers=None)
    assert err.count("taught with --layers FILE.py") == 4 and "Did you mean" not in err  # two types, two fields
    with pytest.raises(ParseError, match=r"squash_param.*--layers FILE\.py"):
        port.load_net("net.prototxt")


BAD = {
    "syntax": ("class Squash(:\n", "it cannot be run: SyntaxError", ":1"),
    "error": ("\n\nraise KeyError('no such thing')\n", "it cannot be run: KeyError: 'no such thing'", ":3"),
    "exit": ("import sys\nsys.exit('never')\n", "it cannot be run: SystemExit: never", ":2"),
    "import": ("import nothing_of_the_kind\n", "ModuleNotFoundError", ":1"),
    "rules": (
        "import port\n\n@port.register\nclass A(port.UserLayer):\n    type = 'A'\n",
        "rules missing: top_shapes",
        "",
    ),
    "taken": ("import port\nport.extend_schema('a_param', 106, {})\n", "has the field 106", ""),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files(call, tmp_path, kind):
    text, message, place = BAD[kind]
    (tmp_path / "bad.py").write_text(text)
    err = call("port", "inspect", "net.prototxt", layers="bad.py", status=2)
    assert err.startswith("error: ") and message in err and f"bad.py{place}" in err


def test_files_that_are_no_python(call, tmp_path):
    assert "there is no such file" in call("port", "inspect", "net.prototxt", layers="gone.py", status=2)
    assert "a name ending in .py" in call("port", "inspect", "net.prototxt", layers="net.prototxt", status=2)


def test_a_file_is_run_once(call):
    door.open_files([EXAMPLE, EXAMPLE])
    door.open_files([EXAMPLE])
    assert door.opened()[-1] == EXAMPLE
    assert sys.modules[REGISTRY["Squash"].__module__].Squash is REGISTRY["Squash"], "found by name, as pickle does"


def test_what_a_package_offers(tmp_path, monkeypatch):
    """An installed package with the entry point: its module is imported, once, and a broken one is named."""
    package = tmp_path / "squash_package-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: squash-package\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(f"[{door.GROUP}]\nsquash = squash_package\n")
    (tmp_path / "squash_package.py").write_text(EXAMPLE.read_text())
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    door.open_offered()
    assert "Squash" in REGISTRY and "Squash" in dialect.layer_types("srn")
    monkeypatch.delitem(sys.modules, "squash_package")
    (tmp_path / "squash_package.py").write_text("import nothing_of_the_kind\n")
    importlib.invalidate_caches()
    with pytest.raises(UsageError, match="squash_package of the installed package squash-package: it cannot be run"):
        door.open_offered()


def test_messages_of_every_kind():
    port.extend_schema(
        "odd_param",
        9002,
        {
            "sizes": ("int32[]", None, 4),
            "mode": ({"LOW": 3, "HIGH": 7}, "HIGH"),
            "box": ({"x": ("float", 0.25), "y": ("float", None)}, None),
            "points": ([{"at": ("int32[]", None), "kind": (["A", "B"], "B")}], None),
            "shape": ("BlobShape", None, 12),
        },
    )
    for name in ("bvlc", "srn"):
        field = messages.descriptor("LayerParameter", name).fields_by_name["odd_param"]
        fields = field.message_type.fields_by_name
        assert {n: f.number for n, f in fields.items()} == {"sizes": 4, "mode": 5, "box": 6, "points": 7, "shape": 12}
        made = messages.message_class("LayerParameter", name)().odd_param
        assert made.mode == 7 and made.box.x == 0.25
        made.points.add(at=[1, 2])
        assert made.points[0].kind == 1 and not made.shape.dim


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"a": ("flaot", 0.0)}, "'flaot' of 'a'"),
        ({"a": (["X", "Y"], "Z")}, "the default 'Z'; expected one of X, Y"),
        ({"a": ("float[]", 1.0)}, "expected None: such a field has none"),
        ({"a": ({"b": ("quux", 1)}, None)}, r"field 'bad_param.a': the field type 'quux' of 'b'|field 'bad_param.a.b'"),
        ({"a": "float"}, "expected a mapping: field -> "),
        ({"a": (3, None)}, "the field type 3 of 'a'"),
    ],
)
def test_messages_that_cannot_be_meant(fields, message):
    with pytest.raises(UsageError, match=message):
        port.extend_schema("bad_param", 9003, fields)
    assert "bad_param" not in messages.descriptor("LayerParameter", "bvlc").fields_by_name


def test_all_faults_at_once():
    with pytest.raises(UsageError) as caught:
        port.extend_schema("bad_param", 9003, {"a": ("flaot", 0.0), "b": ("quux", 1), "c": (["X"], "Y")})
    assert len(caught.value.problems) == 3
