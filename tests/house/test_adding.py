"""One more layer, data set or runtime is one more file: each is added to a copy of the project, and used there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from house import PACKAGES, ROOT

TURN = '''"""Turn: the axes of a blob in another order."""

from __future__ import annotations

import numpy as np

from prototxt_gen.schema.extension import extend_schema

from .base import Layer, Misfit, register

extend_schema("turn_param", 9002, {"order": ("uint32[]", None)})


@register
class Turn(Layer):
    """Axis i of the top is axis order[i] of the bottom; axes that are not named follow in their order."""

    type = "Turn"
    family = "reshaping"
    param = ("turn_param",)

    order: tuple[int, ...] = ()

    def axes(self, rank):
        if len(set(self.order)) != len(self.order) or any(axis >= rank for axis in self.order):
            raise Misfit(f"order {self.order} of {rank} axes", "different axes of the bottom", "order")
        return (*self.order, *(axis for axis in range(rank) if axis not in self.order))

    def top_shapes(self, x):
        return (tuple(x[axis] for axis in self.axes(len(x))),)

    def reference(self, blobs, x):
        return (np.transpose(x, self.axes(x.ndim)).copy(),)

    def forward(self, module, x):
        return (x.permute(self.axes(x.dim())).contiguous(),)

    def onnx(self, graph, x):
        return (graph.op("Transpose", x, perm=self.axes(len(graph.shape(x)))),)
'''

PETS = '''"""A data set of two pictures."""

from __future__ import annotations

import numpy as np

from prototxt_gen.paper import DataSet

from ..split import Loaded, Request, Source, Split


def load(request: Request) -> Loaded:
    """Read it."""
    rows = [line.split() for line in (request.root / "pets.txt").read_text().splitlines()]
    labels = np.array([[int(word) for word in row[1:]] for row in rows], np.int8)
    splits = {name: Split(name, [row[0] for row in rows], labels) for name in request.splits}
    return Loaded(SOURCE, SOURCE.classes, splits, request.root, {name: [request.root / "pets.txt"] for name in splits})


SOURCE = Source(load, ("cat", "dog", "bird"), DataSet("pets", "Pets", 3, 2, 2))
'''

HALVES = '''"""The reference again, its inputs rounded to ten bits."""

from __future__ import annotations

from port.graph.reference import run_reference
from port.net import param_arrays

from .base import Arrays, Job, Runtime


def run(job: Job) -> Arrays:
    """Every value."""
    inputs = {name: value.astype("float16") for name, value in job.inputs.items()}
    return run_reference(job.net.caffe, param_arrays(job.net), inputs)


RUNTIME = Runtime("halves", 9, run, lambda job: "" if job.inputs else "it wants inputs")
'''

NET = """name: "permuted"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 7 } } }
layer { name: "turned" type: "Turn" bottom: "data" top: "turned" turn_param { order: 0 order: 3 } }
layer { name: "fc" type: "InnerProduct" bottom: "turned" top: "y"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The packages as they are, somewhere else."""
    folder = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        leave = shutil.ignore_patterns("__pycache__", "models")
        shutil.copytree(ROOT / package, folder / package, ignore=leave)
    (folder / "net.prototxt").write_text(NET)
    (folder / "plain.prototxt").write_text(
        NET.replace("Turn", "Flatten").replace("turn_param { order: 0 order: 3 }", "")
    )
    return folder


def run(folder: Path, *words: str, status: int = 0) -> str:
    """A command in the copy, which stands before the installed project on the path."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def seeded(folder: Path, net: str) -> list[str]:
    run(folder, "reference_weights", "seed", "1", "--prototxt", net, "--output", "net.caffemodel")
    return ["--prototxt", net, "--caffemodel", "net.caffemodel"]


def test_a_layer_type_is_one_file(copy):
    assert "the layer type 'Turn' is unknown" in run(copy, "port", "inspect", "net.prototxt")
    (copy / "port" / "layers" / "turn.py").write_text(TURN)
    (row,) = [line.split() for line in run(copy, "port", "inspect", "net.prototxt").splitlines() if " turned " in line][
        :1
    ]
    assert row[1:3] == ["turned", "Turn"] and "2x7x3x5" in row
    files = seeded(copy, "net.prototxt")
    out = run(copy, "verify", "net", *files, "--json", "report.json")
    assert "PASS: all within 1e-05" in out and {"torch", "onnx"} <= set(
        json.loads((copy / "report.json").read_text())["blobs"][0]["runtimes"]
    )
    run(copy, "port", "export", *files, "--output", "net.onnx")
    assert (copy / "net.onnx").stat().st_size > 1000


def test_a_data_set_is_one_file(copy):
    (copy / "pets.txt").write_text("a.jpg 1 0 1\nb.jpg 0 1 0\n")
    words = ["verify", "dataset", "pets", "--root", ".", "--output", "lists"]
    assert "invalid choice: 'pets'" in run(copy, *words, status=2)
    (copy / "verify" / "datasets" / "sets" / "pets.py").write_text(PETS)
    assert "Pets: 3 classes" in run(copy, *words)
    assert (copy / "lists" / "pets_test_label.txt").read_text() == "1 0 1\n0 1 0\n"
    assert (copy / "lists" / "pets_train_imglist.txt").read_text() == "a.jpg 2\nb.jpg 1\n"


def test_a_runtime_is_one_file(copy):
    """One column more; and it is compared: ten bits are not enough for the default tolerance."""
    files = seeded(copy, "plain.prototxt")
    assert "halves" not in run(copy, "verify", "net", *files)
    (copy / "verify" / "parity" / "runtimes" / "halves.py").write_text(HALVES)
    out = run(copy, "verify", "net", *files, status=1)
    assert "halves: 2 of 2 blobs against the float64 reference" in out and "FAIL" in out
    assert "PASS" in run(copy, "verify", "net", *files, "--tolerance", "0.001")
