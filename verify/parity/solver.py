"""Replays recorded training runs of real Caffe: losses, weights, history, and resuming from its snapshots."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from port.net import params
from port.solver import Solver, load_solver
from port.solver.nets import train_source
from prototxt_gen.base.errors import CaffeError
from prototxt_gen.schema import DIALECTS, read_prototxt

from .cases import find_recorded
from .compare import Comparison, compare
from .golden import Recording, read_arrays

# A good float32 implementation reaches 3e-7 and 4e-6 after 30 iterations; rounding differences feed back
# into the weights, so more room than a single forward pass needs.
LOSSES, WEIGHTS = 2e-6, 2e-5
RESUMED = 5  # iterations run on after resuming from Caffe's snapshot


@dataclass
class RunResult:
    """What became of one recorded training run."""

    name: str
    comparisons: dict[str, list[Comparison]] = field(default_factory=dict)  # losses, weights, history, resumed
    error: str = ""

    def __bool__(self) -> bool:
        checked = [c for group in self.comparisons.values() for c in group]
        return not self.error and bool(checked) and all(checked)


def find_runs(folders: list[Path]) -> list[Path]:
    """The solver files of all recorded runs below some folders; raises DataError."""
    expected = "NAME.solver.prototxt beside NAME.npz"
    return find_recorded(folders, ".solver.prototxt", lambda path: recording_of(path).exists(), expected)


def recording_of(solver: Path) -> Path:
    """The recording beside a solver file."""
    return solver.with_name(solver.name.replace(".solver.prototxt", ".npz"))


def start(solver_file: Path, recording: Recording) -> Solver:
    """A solver on the run's net, with its recorded initial weights."""
    net_file = solver_file.with_name(solver_file.name.replace(".solver.", ".net."))
    parsed = read_prototxt(net_file, dialect=recording.dialect)
    param = read_prototxt(solver_file, "SolverParameter", dialect=parsed.dialect).message
    net = train_source(param, parsed).load()
    held = params(net)
    with torch.no_grad():
        for layer, blobs in recording.blobs("init").items():
            for i, array in blobs.items():
                held[layer][i].copy_(torch.from_numpy(array))
    return load_solver(solver_file, net=net)


def run_recorded(solver_file: Path) -> RunResult:
    """Train as recorded and compare every mark; what cannot run is an error of that run."""
    result = RunResult(f"{solver_file.parent.name}/{solver_file.name.removesuffix('.solver.prototxt')}")
    try:
        dialect = next((part for part in reversed(solver_file.parts) if part in DIALECTS), None)
        recording = Recording(solver_file, read_arrays(recording_of(solver_file)), "TRAIN", dialect)
        solver = start(solver_file, recording)
        batches = [
            {"data": d, "label": t} for d, t in zip(*(recording.arrays[k] for k in ("data", "label")), strict=True)
        ]
        losses, marks = [], []
        for i, batch in enumerate(batches):
            losses.append(solver.step(batch))
            marks += _weights(solver, recording, f"iter{i + 1}")
        expected = recording.arrays["loss"]
        result.comparisons["losses"] = [compare(np.array(losses), expected, LOSSES, "losses")]
        result.comparisons["weights"] = marks
        result.comparisons["history"] = _history(solver, recording)
        result.comparisons["resumed"] = _resumed(solver, solver_file, recording, batches)
    except CaffeError as error:
        result.error = str(error)
    except Exception as error:  # a run must not hide the runs after it
        result.error = f"{type(error).__name__}: {error}"
    return result


def _weights(solver: Solver, recording: Recording, mark: str) -> list[Comparison]:
    held = params(solver.net)
    return [
        compare(held[layer][i].detach().numpy(), array, WEIGHTS, f"{mark} {layer}[{i}]")
        for layer, blobs in recording.blobs(mark).items()
        for i, array in blobs.items()
    ]


def _history(solver: Solver, recording: Recording) -> list[Comparison]:
    mine = [t.numpy() for group in solver.history for t in group]
    theirs = recording.part("history")
    checks = [
        compare(mine[int(i)], array, WEIGHTS, f"history[{i}]") for i, array in theirs.items() if int(i) < len(mine)
    ]
    for name, value in (("iter", solver.iter), ("current_step", solver.current_step)):
        checks.append(compare(np.array(value), recording.arrays[f"state_{name}"], 0.0, name))
    if len(mine) != len(theirs):
        checks.append(compare(np.array(len(mine)), np.array(len(theirs)), 0.0, "number of history blobs"))
    return checks


def _resumed(solver: Solver, solver_file: Path, recording: Recording, batches: list) -> list[Comparison]:
    """Resume from Caffe's own snapshot and go on beside the run that never stopped."""
    stem = solver_file.name.replace(".solver.prototxt", ".solverstate")
    state = next((p for p in (solver_file.with_name(stem + end) for end in ("", ".h5")) if p.exists()), None)
    if state is None:
        return []
    again = start(solver_file, recording)
    again.restore(state)
    checks = []
    for batch in batches[:RESUMED]:
        one, other = solver.step(batch), again.step(batch)
        # both start from weights that agree to WEIGHTS, so their losses can agree no better
        checks.append(compare(np.array(other), np.array(one), WEIGHTS, "loss after resuming"))
    return checks


def report(results: list[RunResult]) -> str:
    """The failures one by one, then the counts and the largest errors."""
    lines = []
    for result in results:
        reasons = [result.error] if result.error else [str(c) for g in result.comparisons.values() for c in g if not c]
        if not result:
            lines += [f"FAILED {result.name}: {reason}" for reason in reasons or ["nothing was compared"]]
    passed = sum(map(bool, results))
    lines.append(f"{len(results)} recorded runs, {passed} passed, {len(results) - passed} failed")
    for what in ("losses", "weights", "history", "resumed"):
        group = [(c.relative, r.name) for r in results if r for c in r.comparisons.get(what, [])]
        if group:
            worst, name = max(group)
            lines.append(f"  {what}: {len(group)} comparisons, largest relative error {worst:.1e} ({name})")
    return "\n".join(lines)
