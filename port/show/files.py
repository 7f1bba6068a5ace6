"""Files other than nets as text: weights, mean images, solver states, solvers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from prototxt_gen.base.columns import columns, fitted
from prototxt_gen.base.errors import CaffeError, Problems
from prototxt_gen.schema import is_repeated, read_tolerantly, upgrade_solver
from prototxt_gen.schema.printer import to_text
from prototxt_gen.schema.upgrade import SOLVER_TYPES

from ..caffemodel.sniff import printable
from ..layers import REGISTRY, show
from ..layers.foreign import Foreign, settings
from ..solver.nets import net_path
from ..solver.rates import FORK_FIELDS, NEEDED, check_policy, rate
from ..solver.states import read_solver_state
from ..weights.hdf5 import Hdf5Model
from ..weights.load import is_hdf5, open_weights
from ..weights.mean import read_mean

_LONGEST = 60  # characters of a list of bottoms or tops


def describe_weights(path: Path, width: int | None = None) -> str:
    """One line a layer of a weights file, binary or HDF5: name, type, bottoms, tops, blobs."""
    with open_weights(path) as model:
        dialect, reason = model.dialect_hint()
        rows: list[tuple[str, ...]] = [("layer", "type", "bottoms", "tops", "blobs", "values")]
        count, unknown, known = 0, 0, {*REGISTRY, ""}
        for layer in model.layers:
            blobs = layer.blobs if isinstance(layer.blobs, dict) else dict(enumerate(layer.blobs))
            values = sum(blob.count for blob in blobs.values())
            count += values
            shapes = [_blob_shape(blob) for blob in blobs.values()]
            if list(blobs) != list(range(len(blobs))):  # shared blobs are left out
                shapes = [f"{i}: {shape}" for i, shape in zip(blobs, shapes, strict=True)]
            unknown += layer.type not in known
            kind = printable(layer.type) + (" (unknown)" if layer.type not in known else "")
            names = [printable(layer.name), kind, *(_names(getattr(layer, what, [])) for what in ("bottoms", "tops"))]
            rows.append((*names, ", ".join(shapes), f"{values:,}" if values else ""))
        of = "HDF5 weights" if isinstance(model, Hdf5Model) else f"weights of '{printable(model.name)}'"
        lines = [f"{of}, dialect {dialect or 'unknown'} ({reason})"]
        rows = _without_empty(rows)
        lines += fitted(rows, (len(rows[0]) - 1,), width)
        lines.append(f"{len(model.layers)} layers, {count:,} values")
        if unknown:
            lines.append(f"layers of unknown type: {unknown}")
        return "\n".join(lines)


def _blob_shape(blob: Any) -> str:
    """A blob's shape, and what is unusual about it."""
    kind = getattr(blob, "dtype", np.dtype("f4"))
    return show(blob.shape) + (" (old form)" if blob.legacy else "") + (f" {kind}" if kind != np.float32 else "")


def _names(names: list[str]) -> str:
    text = ", ".join(map(printable, names))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _without_empty(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The table without columns that say nothing."""
    kept = [i for i in range(len(rows[0])) if i in (0, len(rows[0]) - 1) or any(row[i] for row in rows[1:])]
    return [tuple(row[i] for i in kept) for row in rows]


def describe_mean(path: Path) -> str:
    """A mean image: its shape, and the mean and range of each channel."""
    mean = read_mean(path)
    rows: list[tuple[str, ...]] = [("channel", "mean", "least", "greatest")]
    rows += [(str(i), *(f"{f(plane):.4f}" for f in (np.mean, np.min, np.max))) for i, plane in enumerate(mean)]
    lines = [f"mean image {show(mean.shape)} (channels, height, width), both dialects"]
    return "\n".join([*lines, *columns(rows, right=(0, 1, 2, 3))])


def describe_state(path: Path) -> str:
    """A solver state: iteration, weights, momentum history."""
    state = read_solver_state(path)
    dialect = "bvlc (the fork has no HDF5)" if is_hdf5(path) else "unknown (both write the same)"
    rows = [("history", "shape", "largest")]
    for i, blob in enumerate(state.history):
        rows.append((str(i), show(blob.shape), f"{np.abs(blob).max():.3e}" if blob.size else ""))
    values = sum(blob.size for blob in state.history)
    return "\n".join(
        [
            f"solver state after iteration {state.iter}, counter of rate steps {state.current_step}, dialect {dialect}",
            f"weights: {printable(state.learned_net) or 'not named'}",
            *columns(rows, right=(0, 2)),
            f"{len(state.history)} blobs, {values:,} values",
        ]
    )


# Fields whose defaults people should know, in the order in which they matter.
_SHOWN = """
    type solver_type base_lr lr_policy gamma power stepsize stepvalue max_iter momentum momentum2 rms_decay
    delta weight_decay regularization_type clip_gradients iter_size display average_loss test_iter
    test_interval test_initialization snapshot snapshot_prefix snapshot_format random_seed solver_mode
"""
_ONLY_WITH_POLICY = {"gamma", "power", "stepsize"}
_ONLY_FOR = {"momentum2": {"Adam"}, "rms_decay": {"RMSProp"}, "delta": {"AdaGrad", "RMSProp", "AdaDelta", "Adam"}}
_NET_FILES = ("net", "train_net", "test_net")


def describe_solver(path: Path, dialect: str | None = None, width: int | None = None) -> str:
    """A solver: its fields, the defaults that matter, its nets and whether they are there."""
    parsed, problems = read_tolerantly(path, "SolverParameter", dialect)
    try:
        solver, notes = upgrade_solver(parsed.message, parsed.dialect, path)
    except CaffeError as error:
        solver, notes, problems = parsed.message, [], [*problems, *error.problems]
    rows = [("field", "value", "")]
    for name in _NET_FILES:
        for file in _items(solver, name):
            rows.append((name, printable(file), _whereabouts(path, file)))
    for name in _SHOWN.split():
        rows += _field_rows(solver, name)
    shown = {*_SHOWN.split(), *_NET_FILES}
    foreign = {entry.name: entry for entry in settings(solver, parsed.dialect) if entry.name not in FORK_FIELDS}
    for field, _ in solver.ListFields():
        if field.name not in shown:
            entry = foreign.get(field.name)
            rows.append((field.name, _value(solver, field), _of_a_fork(entry) if entry else ""))
    lines = [f"solver, dialect {parsed.dialect} ({parsed.reason})", *(f"  {note}" for note in notes)]
    lines += fitted(rows, (), width)
    if all(entry.kept for entry in foreign.values()):
        lines += _rates(solver, parsed.dialect)
    if problems:
        lines += [f"problems: {len(problems)}", *(f"  {problem}" for problem in problems)]
    return "\n".join(lines)


def _of_a_fork(entry: Foreign) -> str:
    """What a solver's field that only forks have means here."""
    return "no effect here" if entry.kept else f"of {', '.join(entry.forks)}; not supported, changes the training"


def _items(message: Any, name: str) -> list[Any]:
    value = getattr(message, name)
    return list(value) if is_repeated(message.DESCRIPTOR.fields_by_name[name]) else [value] if value else []


def _old_type(solver: Any) -> str:
    """The fork's solver_type under bvlc's name."""
    values = solver.DESCRIPTOR.fields_by_name["solver_type"].enum_type.values_by_number
    return SOLVER_TYPES[values[solver.solver_type].name]


def _has_type(solver: Any) -> bool:
    return "type" in solver.DESCRIPTOR.fields_by_name


def _whereabouts(solver: Path, named: str) -> str:
    """Whether a net file is there, as load_solver looks for it, and its dialect."""
    file = net_path(str(solver), named)
    if not file.is_file():
        return "not found from here"
    where = "found" if file == Path(named) else "found beside the solver"
    try:
        return f"{where}, dialect {read_tolerantly(file, 'NetParameter')[0].dialect}"
    except CaffeError:
        return f"{where}, but not a net"


def _rates(solver: Any, dialect: str) -> list[str]:
    """The learning rate at the start, in the middle and at the end, where the policy can be followed."""
    problems = Problems(CaffeError)
    check_policy(solver, dialect, problems)
    if problems.found or solver.max_iter <= 0:
        return []
    said = []
    for at in (0, solver.max_iter // 2, solver.max_iter):
        step = sum(value <= at for value in solver.stepvalue)
        said.append(f"{rate(solver, at, step):.4g} at iteration {at:,}")
    return ["learning rate: " + ", ".join(said)]


def _field_rows(solver: Any, name: str) -> list[tuple[str, str, str]]:
    field = solver.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        return []
    given = bool(getattr(solver, name)) if is_repeated(field) else solver.HasField(name)
    if given:
        return [(name, _value(solver, field), "")]
    kind = solver.type if _has_type(solver) else _old_type(solver)
    if name in _ONLY_WITH_POLICY and name not in NEEDED.get(solver.lr_policy, ()):
        return []
    if is_repeated(field) or kind not in _ONLY_FOR.get(name, {kind}) or (name == "solver_type" and _has_type(solver)):
        return []
    return [(name, _value(solver, field) or "none", "default")]


def _value(message: Any, field: Any) -> str:
    """A field as the text format writes it, on one line."""
    single = type(message)()
    value = getattr(message, field.name)
    if is_repeated(field):
        getattr(single, field.name).extend(value)
        if field.message_type is None:
            return ", ".join(line.partition(": ")[2] for line in to_text(single).splitlines())
    elif field.message_type is not None:
        getattr(single, field.name).CopyFrom(value)
    else:
        setattr(single, field.name, value)
    text = " ".join(to_text(single).split())
    return text.partition(": ")[2] if field.message_type is None else text[len(field.name) + 1 :]
