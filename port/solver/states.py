"""Solver states in both of Caffe's formats, told apart by content on reading and by suffix on writing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prototxt_gen.base.errors import Problem, WeightsError
from prototxt_gen.base.files import atomic_write

from ..caffemodel import SolverState, read_state, write_state
from ..weights.load import is_hdf5


def read_solver_state(path: str | Path) -> SolverState:
    """Read a .solverstate, binary or HDF5; raises WeightsError."""
    if not is_hdf5(path):
        return read_state(path)
    import h5py

    try:
        with h5py.File(path, "r") as file:
            held = file["history"]
            history = [np.asarray(held[str(i)], np.float32) for i in range(len(held))]
            name = file["learned_net"][()]
            text = name.decode() if isinstance(name, bytes) else str(name)
            return SolverState(int(file["iter"][()]), text, history, int(file["current_step"][()]))
    except (KeyError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise WeightsError(Problem(f"not a solver state: {error}", "HDF5 as Caffe writes it", file=path)) from None


def write_solver_state(path: str | Path, state: SolverState) -> None:
    """Write a .solverstate; HDF5 when the path ends in .h5 (semantics 6.6)."""
    if Path(path).suffix != ".h5":
        write_state(path, state)
        return
    import h5py

    with atomic_write(path) as file, h5py.File(file, "w") as out:
        out["iter"], out["current_step"] = np.int32(state.iter), np.int32(state.current_step)
        out["learned_net"] = np.bytes_(state.learned_net.encode())
        for i, array in enumerate(state.history):
            out[f"history/{i}"] = np.asarray(array, np.float32)
