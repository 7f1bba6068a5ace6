"""Solver states in both of Caffe's formats, told apart by content on reading and by suffix on writing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from prototxt_gen.base.errors import Problem, WeightsError
from prototxt_gen.base.files import atomic_write

from ..caffemodel import SolverState, read_state, write_state
from ..weights.load import is_hdf5

_EXPECTED = "a solver state, HDF5 as Caffe writes it"


def read_solver_state(path: str | Path) -> SolverState:
    """Read a .solverstate, binary or HDF5; raises WeightsError."""
    if not is_hdf5(path):
        return read_state(path)
    import h5py

    from ..weights.datasets import values
    from ..weights.hdf5 import content

    what = ""
    try:
        with h5py.File(path, "r") as file:
            what = "" if "iter" in file else content(file)
            held = file["history"]
            history = [np.asarray(values(held[str(i)]), np.float32) for i in range(len(held))]
            name = file["learned_net"][()]
            text = name.decode() if isinstance(name, bytes) else str(name)
            counters = (int(np.asarray(file[each][()]).item()) for each in ("iter", "current_step"))
            iteration, step = counters
            return SolverState(iteration, text.rstrip("\0"), history, step)
    except (KeyError, OSError, ValueError, TypeError, RuntimeError) as error:
        found = f"this is {what}" if what else f"not a solver state: {error}"
        fix = "name the .solverstate.h5 of the same iteration" if what == "weights" else ""
        raise WeightsError(Problem(found, _EXPECTED, fix, file=path)) from None


def _write_string(file: Any, name: str, text: str) -> None:
    """A string as H5LTmake_dataset_string writes it: its length and the closing NUL, which Caffe reads up to."""
    import h5py

    data = text.encode() + b"\0"
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(data))
    kind.set_strpad(h5py.h5t.STR_NULLTERM)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(data, f"S{len(data)}"), mtype=kind)


def write_solver_state(path: str | Path, state: SolverState) -> None:
    """Write a .solverstate; HDF5 when the path ends in .h5 (semantics 6.6)."""
    if Path(path).suffix != ".h5":
        write_state(path, state)
        return
    import h5py

    with atomic_write(path) as file, h5py.File(file, "w") as out:
        for name, number in (("iter", state.iter), ("current_step", state.current_step)):
            out[name] = np.array([number], np.int32)  # one value on one axis, as H5LTmake_dataset_int writes it
        _write_string(out, "learned_net", state.learned_net)
        for i, array in enumerate(state.history):
            out[f"history/{i}"] = np.asarray(array, np.float32)


def weights_of(state: Path, named: str) -> Path:
    """The weights file that a state names: as it stands, or beside the state. Raises WeightsError."""
    for candidate in (Path(named), state.parent / named, state.parent / Path(named).name):
        if candidate.exists():
            return candidate
    beside = state.with_name(state.name.replace(".solverstate", ".caffemodel"))
    if beside.exists():
        return beside
    raise WeightsError(
        Problem(f"the weights '{named}' that it names are not there", fix="put them beside it", file=state)
    )
