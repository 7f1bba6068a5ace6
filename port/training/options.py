"""What a training run can be told beside its solver file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from prototxt_gen.base.errors import Problem, Problems, UsageError
from prototxt_gen.schema.habits import habits

from ..processes.ranks import launched
from ..solver.nets import SolverFile
from .speed import Speed

LATEST = "latest"


@dataclass(frozen=True)
class PlateauOptions:
    """When the learning rate falls; `output` chooses what is watched, by default the test net's loss."""

    patience: int = 5
    threshold: float = 1e-3
    smallest: float = 1e-5
    factor: float = 0.1


@dataclass(frozen=True)
class Options:
    """Options of `train`; see `python -m port train --help`."""

    weights: Sequence[str | Path] = ()
    resume: str | Path | None = None  # a .solverstate, or "latest"
    prefix: str | None = None
    workers: int = 2
    seed: int | None = None
    device: str | None = None
    dialect: str | None = None
    restart_data: bool = False
    plateau: PlateauOptions | None = None
    speed: Speed = field(default_factory=Speed)


def check(options: Options, solver: SolverFile) -> None:
    """Raise UsageError with everything that Caffe would refuse, and all options that do not go together."""
    param = solver.param
    with Problems(UsageError, solver.file) as problems:
        if param.max_iter < 1:
            problems.add(f"max_iter {param.max_iter}", expected="1 or more", field="max_iter")
        if param.average_loss < 1:
            problems.add(f"average_loss {param.average_loss}", expected="1 or more", field="average_loss")
        if options.resume and options.weights:
            found, fix = "--weights and --resume", "give weights to finetune, or a snapshot to go on from"
            problems.add(found, expected="one of them", fix=fix, file="")
        if options.restart_data and not options.resume:
            problems.add("--restart-data without --resume", fix="leave it out: the data starts anew anyway", file="")
        if options.workers < 0:
            problems.add(f"--workers {options.workers}", expected="0 or more", file="")
        if options.seed is not None and options.seed < 0:
            problems.add(f"--seed {options.seed}", expected="0 or more", file="")
        if options.plateau and not any(param.test_iter[:1]):
            fix = "give the solver a test net with a loss (test_iter, test_interval)"
            problems.add("--plateau without a test net", fix=fix, field="test_iter")
        if options.plateau and (options.plateau.patience < 1 or not 0 < options.plateau.factor < 1):
            found = f"--plateau with patience {options.plateau.patience} and factor {options.plateau.factor:g}"
            problems.add(found, expected="1 test or more, and a factor between 0 and 1", file="")


def choose_device(options: Options, solver: SolverFile) -> torch.device:
    """The device as asked for; else a GPU where there is one and solver_mode is not CPU. Raises UsageError."""
    param, here = solver.param, torch.cuda.is_available()
    wanted = options.device or ("cuda" if here and param.solver_mode == param.GPU else "cpu")
    if wanted == "cpu":
        return torch.device("cpu")
    if not here:
        fix = "use --device cpu, or install a PyTorch build with CUDA"
        raise UsageError(Problem(f"--device {wanted}, and PyTorch finds no GPU", fix=fix))
    rank, _, local = launched()
    ids = list(param.device_id) if habits(solver.dialect).devices_by_rank else []
    number = ids[rank] if rank < len(ids) else local
    if number >= torch.cuda.device_count():
        found = f"GPU {number}, and there are {torch.cuda.device_count()}"
        raise UsageError(Problem(found, "one GPU for each process", field="device_id", file=solver.file))
    return torch.device("cuda", number)


def choose_prefix(options: Options, solver: SolverFile) -> tuple[str, str]:
    """The prefix of snapshots and records, and what there is to say about it."""
    given = options.prefix or solver.param.snapshot_prefix
    if given:
        return given, ""
    prefix = str(Path(solver.file).with_suffix(""))
    return prefix, f"snapshot_prefix is not set: '{prefix}' is used, after the solver file"
