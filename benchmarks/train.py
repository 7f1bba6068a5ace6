"""What the training benchmarks time, in a process of its own: python -m benchmarks.train WHAT ... prints JSON.

`step NET.prototxt DIALECT ROUNDS`: iterations of the full-size net through the port and by hand, in turn, so that a
busy moment hits all of them. `data DATABASE ROUNDS`: batches from a database, and iterations of a miniature, in turn.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import port
from port.graph.count import layer_sizes, total
from port.graph.graph import Graph
from port.module import CaffeNet
from port.solver import Solver
from port.solver.nets import SolverFile, read_solver
from port.training import Speed
from port.training.feeds import open_feed
from port.training.speed import apply_speed
from prototxt_gen import write_training
from prototxt_gen.base.errors import CaffeError
from prototxt_gen.base.machine import cores

from .train_plain import PlainSRN, step_of

BATCH, SIDE, CLASSES = 8, 224, 80
OFTEN = 200
MINIATURE = 8  # width divisor of the net that data must keep up with
FAST = Speed(channels_last=True, amp=True, fused=True)
# The first two losses against those by hand: only to be sure that all do the same work.
AGREE = {"port": 1e-3, "plain": 0.0, "port, options": 2e-2, "plain, options": 2e-2}

Batch = dict[str, np.ndarray]


def use_all_cores() -> None:
    """As many threads as this process may use cores."""
    torch.set_num_threads(cores())


def solver_file(folder: str, dialect: str, **options: Any) -> SolverFile:
    """The paper's last step, in which the whole net is trained."""
    paths = write_training(folder, "ResNet-SRN", dialect=dialect, **options)
    return read_solver(next(path for path in paths if path.name.startswith("step_4") and "solver" in path.name))


def made(file: SolverFile, weights: Path | None, shapes: dict[str, tuple[int, ...]], speed: Speed) -> Solver:
    """A solver as `port train` sets it up."""
    net = file.train.load(weights, strict=False, seed=7, input_shapes=shapes)
    solver = Solver(file.param, file.dialect, net, file.file)
    apply_speed(solver, speed)
    return solver


def random_batch() -> Batch:
    """Pixels less their mean, and a few labels to each."""
    rng = np.random.default_rng(7)
    images = rng.normal(0, 60, (BATCH, 3, SIDE, SIDE)).astype(np.float32)
    return {"data": images, "label": (rng.random((BATCH, CLASSES, 1, 1)) < 0.04).astype(np.float32)}


def step(prototxt: Path, dialect: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds per image of forward, backward and update, by competitor, of each round."""
    use_all_cores()
    batch = random_batch()
    images, labels = torch.from_numpy(batch["data"]), torch.from_numpy(batch["label"]).reshape(BATCH, CLASSES)
    shapes = {name: array.shape for name, array in batch.items()}
    runs: dict[str, Callable[[], float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = solver_file(folder, dialect)
        weights = prototxt.with_suffix(".caffemodel")
        products = products_of(file.train.load(seed=7, input_shapes=shapes).caffe)
        for name, speed in (("port", Speed()), ("port, options", FAST)):
            solver = made(file, weights, shapes, speed)
            plain = PlainSRN(CLASSES)
            copy_weights(solver.net, plain)
            by_hand = step_of(plain, fast=speed is FAST)
            runs[name] = lambda solver=solver: solver.step(batch)  # type: ignore[misc]
            runs[name.replace("port", "plain")] = lambda by_hand=by_hand: by_hand(images, labels)  # type: ignore[misc]
    compare({name: [run(), run()] for name, run in runs.items()})  # these warm up, too
    runs["products"], done = one_convolution()
    times = timed(runs, rounds, BATCH)
    times["products"] = [milliseconds * products / done for milliseconds in times["products"]]
    return times


def products_of(graph: Graph) -> int:
    """Multiply-adds of an iteration: forward, for the weights, and for the inputs of all but the first layer."""
    sizes = layer_sizes(graph)
    return 3 * total(sizes.values()).multiply_adds - sizes["conv1"].multiply_adds


def one_convolution() -> tuple[Callable[[], Any], int]:
    """The net's most frequent 3x3 convolution, which PyTorch computes at its best speed, often; its multiply-adds."""
    maps, filters = torch.randn(BATCH, 256, 14, 14), torch.randn(256, 256, 3, 3)

    def run() -> None:
        for _ in range(OFTEN):
            torch.nn.functional.conv2d(maps, filters, padding=1)

    run()  # warms up
    return run, OFTEN * maps[:, 0].numel() * filters.numel()


def timed(runs: dict[str, Callable[[], Any]], rounds: int, images: int) -> dict[str, list[float]]:
    """Milliseconds per image of all, in turn."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start) / images)
    return times


def compare(losses: dict[str, list[float]]) -> None:
    """Raise CaffeError when losses, before and after an update, are not those of the net by hand."""
    for name, found in losses.items():
        for i, (mine, theirs) in enumerate(zip(found, losses["plain"], strict=True)):
            if not abs(mine - theirs) <= AGREE[name] * abs(theirs) * (10 if i else 1) or not math.isfinite(mine):
                raise CaffeError(f"{name}: the losses {found} differ from the {losses['plain']} of the net by hand")


def copy_weights(net: CaffeNet, plain: PlainSRN) -> None:
    """Give the net by hand the weights of a Caffe net."""
    held = port.params(net)
    with torch.no_grad():
        for layer, module in counterparts(plain):
            if isinstance(module, torch.nn.BatchNorm2d):  # the fork has one layer for it, BVLC two
                layer = layer if len(held[layer]) == 4 else "scale" + layer.removeprefix("bn")
            for mine, theirs in zip((module.weight, module.bias), held[layer], strict=False):
                mine.copy_(theirs.reshape(mine.shape))


def counterparts(plain: PlainSRN) -> Iterator[tuple[str, Any]]:
    """Every layer with weights, and its module in the net by hand."""
    yield from (("conv1", plain.stem), ("bn_conv1", plain.stem_norm), (f"fc{CLASSES}", plain.classifier))
    for stage, units in enumerate(plain.stages, start=2):
        for i, unit in enumerate(units):  # type: ignore[arg-type]
            name = f"{stage}{'abc'[i]}" if len(units) < 4 else f"{stage}a" if not i else f"{stage}b{i}"  # type: ignore[arg-type]
            yield from ((f"res{name}_branch2a", unit.reduce), (f"bn{name}_branch2a", unit.reduce_norm))
            yield from ((f"res{name}_branch2b", unit.middle), (f"bn{name}_branch2b", unit.middle_norm))
            yield from ((f"res{name}_branch2c", unit.expand), (f"bn{name}", unit.norm))
            if unit.shortcut is not None:
                yield f"res{name}_branch1", unit.shortcut
    head = plain.head
    yield "conf_conv1", head.confidence
    yield from zip(("att_conv1", "att_conv2", "att_conv3"), head.attention[::2], strict=True)
    convolutions = [module for module in head.regularization if getattr(module, "weight", None) is not None]
    yield from zip(("sr_conv2", "sr_conv3", "sr_conv4", "sr_fc"), convolutions, strict=True)


def data(database: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds per image of loading with the paper's augmentation on one core, and of training a miniature on all.

    `database`: what `python -m reference_weights shapes` writes.
    """
    use_all_cores()
    with tempfile.TemporaryDirectory() as folder:
        file = solver_file(folder, "srn", classes=20, width_divisor=MINIATURE)
        for layer in file.train.parsed.message.layer:
            if layer.type == "Data":
                kind = "image" if layer.name == "data" else "label"
                layer.data_param.source = str(database / f"shapes_train_{kind}_lmdb")
        feed = open_feed(file.train, seed=7)
        solver = made(file, None, feed.shapes(), Speed())
    batch = feed.next()
    runs = {"load": feed.next, "train": lambda: solver.step(batch)}
    for run in runs.values():
        run()
    return timed(runs, rounds, len(batch["data"]))


def main(what: str, *arguments: str) -> None:
    """Measure one thing and print its figures as JSON."""
    if what == "step":
        prototxt, dialect, rounds = arguments
        figures = step(Path(prototxt), dialect, int(rounds))
    else:
        database, rounds = arguments
        figures = data(Path(database), int(rounds))
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
