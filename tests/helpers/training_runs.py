"""Tiny training runs for tests: databases of random images, nets of a few layers, a solver, and how to run them."""

from __future__ import annotations

import csv
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import port
from port.__main__ import main
from port.caffemodel import read_caffemodel
from port.data import image_datum, label_datum, new_database
from port.solver import Solver
from port.solver.states import read_solver_state
from port.training import Options
from prototxt_gen.base import command

SIMPLE = Options(workers=0)

COUNT, CLASSES = 23, 3  # items in the database, labels of each

BVLC_NET = """
name: "tiny"
layer {{ name: "images" type: "Data" top: "data" data_param {{ source: "{images}" backend: LMDB batch_size: 4 }}
        transform_param {{ crop_size: 5 mirror: true scale: 0.0078125 mean_value: 128 }} include {{ phase: TRAIN }} }}
layer {{ name: "truth" type: "Data" top: "label" data_param {{ source: "{labels}" backend: LMDB batch_size: 4 }}
        include {{ phase: TRAIN }} }}
layer {{ name: "images" type: "Data" top: "data" data_param {{ source: "{images}" backend: LMDB batch_size: 6 }}
        transform_param {{ crop_size: 5 scale: 0.0078125 mean_value: 128 }} include {{ phase: TEST }} }}
layer {{ name: "truth" type: "Data" top: "label" data_param {{ source: "{labels}" backend: LMDB batch_size: 6 }}
        include {{ phase: TEST }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param {{ num_output: 7 kernel_size: 3 weight_filler {{ type: "xavier" }} }} }}
{norm}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "drop" type: "Dropout" bottom: "conv" top: "conv" }}
layer {{ name: "fc" type: "InnerProduct" bottom: "conv" top: "y"
        inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SigmoidCrossEntropyLoss" bottom: "y" bottom: "label" top: "loss" loss_weight: 0.5 }}
"""
NORMS = {
    "bvlc": 'layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "conv" }',
    "srn": 'layer { name: "norm" type: "BN" bottom: "conv" top: "conv" bn_param { slope_filler { value: 1 } } }',
}
SOLVER = """net: "{net}" base_lr: 0.05 lr_policy: "step" stepsize: 8 gamma: 0.5 momentum: 0.9 weight_decay: 0.01
max_iter: 12 display: 2 average_loss: 3 test_iter: 3 test_interval: 4 snapshot: 5 snapshot_prefix: "{prefix}"
random_seed: 7
"""


def write_databases(folder: Path, count: int = COUNT) -> tuple[Path, Path]:
    """An image database (6 x 8 pixels) and one of labels, that a net can learn from."""
    rng = np.random.default_rng(5)
    images, labels = folder / "images", folder / "labels"
    pixels = [rng.integers(0, 256, (6, 8, 3)).astype(np.uint8) for _ in range(count)]
    rows = [(p.mean((0, 1)) > 127).astype(np.float32) for p in pixels]
    keys = [f"{i:08d}".encode() for i in range(count)]
    with new_database(images) as writer:
        writer.put(zip(keys, (image_datum(p, 0) for p in pixels), strict=True))
    with new_database(labels) as writer:
        writer.put(zip(keys, map(label_datum, rows), strict=True))
    return images, labels


def write_run(folder: Path, dialect: str = "bvlc", *, norm: bool = True, solver: str = "", drop: bool = True) -> Path:
    """Databases, net and solver in a folder; `solver`: more fields, later ones instead of the usual ones."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = write_databases(folder)
    text = BVLC_NET.format(images=images, labels=labels, norm=NORMS[dialect] if norm else "")
    if not drop:
        text = "".join(line + "\n" for line in text.splitlines() if '"drop"' not in line)
    (folder / "net.prototxt").write_text(text)
    return write_solver(folder, solver)


def write_solver(folder: Path, more: str = "", name: str = "solver.prototxt") -> Path:
    """A solver for the folder's net, its snapshots under <folder>/run/tiny."""
    usual = SOLVER.format(net=folder / "net.prototxt", prefix=folder / "run" / "tiny").split()
    fields = dict(zip(usual[::2], usual[1::2], strict=True))
    given = more.split()
    fields.update(zip(given[::2], given[1::2], strict=True))
    path = folder / name
    path.write_text("".join(f"{key} {value}\n" for key, value in fields.items()))
    return path


def weights(model: Path) -> dict[str, np.ndarray]:
    """All blobs of a caffemodel by layer and index."""
    with read_caffemodel(model) as held:
        blobs = {f"{layer.name}[{i}]": blob.data for layer in held.layers for i, blob in enumerate(layer.blobs)}
        return {name: np.array(data, np.float32) for name, data in blobs.items()}


def snapshot_arrays(prefix: Path, iteration: int) -> dict[str, np.ndarray]:
    """All numbers of a snapshot: weights, statistics, history."""
    stem = f"{prefix}_iter_{iteration}"
    found = weights(Path(f"{stem}.caffemodel"))
    state = read_solver_state(f"{stem}.solverstate")
    return found | {f"history[{i}]": np.array(h) for i, h in enumerate(state.history)}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """All numbers equal, bit for bit."""
    assert one.keys() == other.keys() and one
    different = [name for name in one if not np.array_equal(one[name], other[name], equal_nan=True)]
    assert not different


def forked(function: Any, *arguments: Any) -> int:
    """Start a function in a child process; returns its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    with suppress(BaseException):
        status = int(function(*arguments) or 0)
    os._exit(status)


def log_of(folder: Path) -> list[str]:
    """The lines of a run's log."""
    path = folder / "run" / "tiny.log"
    return path.read_text().splitlines() if path.exists() else []


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def without(solver: Path, start: str) -> str:
    """A solver's text without the fields whose names start so."""
    return "".join(line for line in solver.read_text().splitlines(True) if not line.startswith(start))


def refusal(capsys: Any, *arguments: str) -> str:
    """What the command says when it refuses."""
    assert command.run(main, ["train", *arguments]) == command.BAD_INPUT
    return capsys.readouterr().err


def ended(child: int) -> int:
    """The exit status of a child, negative for the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def quadratic(tmp_path: Path, text: str, dialect: str = "bvlc") -> Solver:
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
