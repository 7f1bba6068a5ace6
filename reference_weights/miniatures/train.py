"""Training a miniature from seeds: the scenes, the files, each step from the weights of the one before."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from port.net import load_net, load_weights, save_caffemodel
from port.training import Options, Speed, train
from prototxt_gen.base.files import write_text
from prototxt_gen.nets import NetConfig, at_step, configure
from prototxt_gen.nets.solver import final_weights, solver_file
from prototxt_gen.nets.write import file_name, write_training

from ..shapes import write_dataset
from . import recipe

SPEED = Speed(channels_last=True)  # rounds differently, and is faster by a third


def train_miniature(
    network: str,
    output: str | Path,
    seed: int = 0,
    workers: int = 1,
    profile: str = recipe.PROFILE,
    say: Callable[[str], None] = print,
) -> int:
    """Train one of the paper's networks in small, by the paper's steps (3.4), and write its caffemodel.

    Files go to `output`/seed<seed>, or for another profile <profile>_seed<seed>; the scenes to
    `output`/datasets/shapes. Steps that are done, of this or another network, are not repeated; an interrupted
    one goes on from its last snapshot. Returns 0, or the number of the signal that stopped it. Raises UsageError
    for an unknown network or profile, CaffeError for the rest.
    """
    config = configure(network, **recipe.options(profile))
    root = Path(output)
    folder = root / (f"seed{seed}" if profile == recipe.PROFILE else f"{profile}_seed{seed}")
    scenes = root / "datasets" / recipe.DATASET
    say(str(write_dataset(scenes, train=recipe.TRAIN, test=recipe.TEST, seed=recipe.SCENES_SEED, progress=True)))
    write_training(folder, network, **recipe.options(profile))
    (folder / "snapshots").mkdir(exist_ok=True)
    weights: Path | None = None
    for step in (at_step(config, step) for step in config.network.steps):
        signal, weights = _run(root, folder, step, weights, seed, workers, say)
        if signal:
            return signal
    assert weights is not None
    say(f"wrote {_finish(folder, config, weights, seed)}")
    return 0


def _run(
    root: Path, folder: Path, config: NetConfig, weights: Path | None, seed: int, workers: int, say: Callable
) -> tuple[int, Path]:
    """One step: the signal that stopped it, and its weights."""
    assert config.step is not None
    result = folder / final_weights(config)
    if result.is_file():
        say(f"{result} is there already")
        return 0, result
    prefix = folder / "snapshots" / config.step.stem
    started = any(prefix.parent.glob(f"{prefix.name}_iter_*.solverstate"))  # which has the weights
    options = Options(
        weights=[str(weights.relative_to(root))] if weights and not started else [],
        resume="latest" if started else None,
        prefix=str(prefix.relative_to(root)),
        workers=workers,
        seed=seed,
        speed=SPEED,
    )
    solver = folder / solver_file(config.step)
    say(_command(solver.relative_to(root), options))
    begin = time.perf_counter()
    with contextlib.chdir(root):  # the data layers' paths start here
        signal = train(solver.relative_to(root), options)
    _add_time(prefix, time.perf_counter() - begin, fresh=not started)
    return signal, result


def _command(solver: Path, options: Options) -> str:
    """The same from a shell, in the folder that holds the scenes and the nets."""
    words = [f"--solver {solver}", f"--snapshot-prefix {options.prefix}"]
    words += [f"--weights {weights}" for weights in options.weights]
    words += [f"--resume {options.resume}"] if options.resume else []
    words += [f"--seed {options.seed}", f"--workers {options.workers}", "--channels-last"]
    return "\npython -m port train " + " ".join(words)


def _times(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.seconds")


def _add_time(prefix: Path, seconds: float, fresh: bool) -> None:
    """Keep how long a step took over all its runs."""
    file = _times(prefix)
    before = 0.0 if fresh or not file.is_file() else float(file.read_text())
    write_text(file, f"{before + seconds:.0f}\n")


def _finish(folder: Path, config: NetConfig, weights: Path, seed: int) -> Path:
    """The caffemodel of the test net, and beside it what made it."""
    prototxt = folder / file_name(config)
    net = load_net(prototxt)
    load_weights(net, weights)
    caffemodel = prototxt.with_name(prototxt.name.replace("_test.prototxt", ".caffemodel"))
    save_caffemodel(net, caffemodel)
    stems = [step.stem for step in config.network.steps]
    about: dict[str, Any] = {
        "network": config.network.name,
        "profile": config.profile.name,
        "seed": seed,
        "command": f"python -m reference_weights miniature --network {config.network.name} --seed {seed} --output DIR",
        "deviations from Caffe": "--channels-last",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "seconds": {stem: _seconds(folder / "snapshots" / stem) for stem in stems},
        "sha256": hashlib.sha256(caffemodel.read_bytes()).hexdigest(),
    }
    write_text(caffemodel.with_suffix(".json"), json.dumps(about, indent=2) + "\n")
    return caffemodel


def _seconds(prefix: Path) -> int | None:
    file = _times(prefix)
    return int(file.read_text()) if file.is_file() else None
