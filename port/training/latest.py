"""Which snapshot `--resume latest` takes: the newest that can be read whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prototxt_gen.base.errors import Problem, WeightsError

from ..solver.states import read_solver_state, weights_of
from ..weights.load import open_weights
from .side import read_side


def states(prefix: str) -> list[Path]:
    """The .solverstates under a prefix, the highest iteration first."""
    stem = Path(prefix)
    found: dict[int, Path] = {}
    for path in stem.parent.glob("*.solverstate*"):
        head, _, tail = path.name.removesuffix(".h5").removesuffix(".solverstate").rpartition("_iter_")
        if head == stem.name and tail.isdigit():
            found[int(tail)] = path
    return [found[iteration] for iteration in sorted(found, reverse=True)]


def latest_state(prefix: str) -> Path | None:
    """The .solverstate of the highest iteration under a prefix, whole or not."""
    return next(iter(states(prefix)), None)


def sound_state(prefix: str, restart_data: bool = False) -> tuple[Path | None, list[str]]:
    """The newest snapshot without damage, and what is wrong with those after it; raises WeightsError where all are.

    None where there is none. With `restart_data` the side file does not matter.
    """
    problems: list[Problem] = []
    for path in states(prefix):
        try:
            _read_whole(path, restart_data)
        except WeightsError as error:
            problems += error.problems
            continue
        return path, [f"{problem}: --resume latest goes back to {path}" for problem in problems]
    if problems:
        raise WeightsError(problems)
    return None, []


def _read_whole(path: Path, restart_data: bool) -> None:
    """Raise WeightsError when a state, its weights or its side file cannot be read to the end."""
    state = read_solver_state(path)
    if state.learned_net:
        with open_weights(weights_of(path, state.learned_net)) as model:
            for layer in model.layers:
                for blob in layer.blobs.values() if isinstance(layer.blobs, dict) else layer.blobs:
                    np.asarray(blob.data)  # HDF5 reads values only now
    if not restart_data:
        read_side(path)
