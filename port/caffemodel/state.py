"""Reads and writes .solverstate files (SolverState): iteration, name of the weights, momentum history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from prototxt_gen.base.errors import Problem, Problems, WeightsError
from prototxt_gen.base.files import atomic_write

from .reader import _integer, _map, _other_file, _scan_blob, _text, _wire_problem
from .sniff import STATE
from .wire import Scan, WireError, encode_header, encode_varint
from .writer import Piece, _blob_pieces, _check_size, _size, _write_piece

# SolverState (proto numbers)
_ITER, _LEARNED_NET, _HISTORY, _CURRENT_STEP = 1, 2, 3, 4


@dataclass
class SolverState:
    """What Caffe keeps of a training run: completed iterations, weights file, history, multistep's counter."""

    iter: int = 0
    learned_net: str = ""
    history: list[np.ndarray] = field(default_factory=list)
    current_step: int = 0


def read_state(path: str | Path) -> SolverState:
    """Read a binary .solverstate; raises WeightsError for a damaged file or another one.

    The history arrays are read-only views into the mapped file.
    """
    source = _map(path)
    # At first: models of others begin with a number and a name too, and their other fields would be passed over.
    if other := _other_file(source, STATE):
        raise WeightsError(other)
    scan, state, seen = Scan(source.buffer), SolverState(), set()
    try:
        with Problems(WeightsError, path) as problems:
            for entry in scan.fields(0, len(source.buffer)):
                number = entry[0]
                seen.add(number)
                if number == _ITER:
                    state.iter = _integer(scan, entry, 32)
                elif number == _LEARNED_NET:
                    state.learned_net = _text(scan, entry)
                elif number == _HISTORY:
                    blob, wrong = _scan_blob(source, scan, entry[3], entry[4])
                    if wrong:
                        problems.add(wrong, field=f"history[{len(state.history)}]")
                    else:
                        state.history.append(blob.data)
                elif number == _CURRENT_STEP:
                    state.current_step = _integer(scan, entry, 32)
    except WireError as error:
        raise WeightsError(_wire_problem(source, error, "", STATE)) from None
    if _ITER not in seen:
        fix = "name a .solverstate that Caffe or this project saved"
        raise WeightsError(Problem("it has no iteration number", "a SolverState", fix, file=path))
    return state


def write_state(path: str | Path, state: SolverState) -> None:
    """Write a binary .solverstate as Caffe does (Solver::SnapshotSolverStateToBinaryProto)."""
    name = state.learned_net.encode("utf-8", "surrogateescape")
    pieces: list[Piece] = [encode_varint(_ITER << 3) + encode_varint(state.iter)]
    pieces.append(encode_header(_LEARNED_NET, len(name)) + name)
    for array in history_arrays(state.history):
        blob = _blob_pieces(array)
        pieces += [encode_header(_HISTORY, _size(blob)), *blob]
    pieces.append(encode_varint(_CURRENT_STEP << 3) + encode_varint(state.current_step))
    _check_size(path, _size(pieces))
    with atomic_write(path) as file:
        for piece in pieces:
            _write_piece(file, piece)


def history_arrays(history: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The history as float32 arrays."""
    return [np.asarray(array, np.float32) for array in history]
