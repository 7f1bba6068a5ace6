"""The solver of a training step, every number of its schedule with the arithmetic above it."""

from __future__ import annotations

from typing import Any

from ..base.errors import NetError, Problems
from ..builder import fill
from ..paper import Training
from ..schema.messages import message_class
from ..schema.printer import to_text
from .config import NetConfig, Step
from .header import solver_header
from .schedule import Schedule

SNAPSHOTS = "snapshots"  # a folder beside the solver

DISPLAY = 20  # iterations


def solver_text(config: NetConfig) -> str:
    """The solver prototxt of a configuration's step."""
    header = "\n".join(f"# {line}".rstrip() for line in solver_header(config).splitlines())
    groups = ["\n".join([*(f"# {line}" for line in notes), _text(config, fields)]) for notes, fields in _groups(config)]
    return "\n\n".join([header, *groups]) + "\n"


def trainval_file(step: Step) -> str:
    """The file name of a step's train_val net, as in the release."""
    return f"{step.stem}_trainval.prototxt"


def solver_file(step: Step) -> str:
    """The file name of a step's solver, as in the release."""
    return f"{step.stem}_solver.prototxt"


def final_weights(config: NetConfig) -> str:
    """The weights that a step leaves behind, beside its solver."""
    assert config.step is not None
    return f"{SNAPSHOTS}/{config.step.stem}_iter_{Schedule.of(config).max_iter}.caffemodel"


def _groups(config: NetConfig) -> list[tuple[list[str], dict[str, Any]]]:
    """Notes and fields, in the order of the file."""
    step, paper, schedule = config.step, Training(), Schedule.of(config)
    assert step is not None
    batch, epoch, stepsize, max_iter, test_interval, test_iter = schedule.arithmetic()
    method = {"solver_type": "SGD"} if config.dialect == "srn" else {"type": "SGD"}
    here = schedule.processor == "CPU"
    devices = {"device_id": list(range(config.gpus))} if config.dialect == "srn" and not here else {}
    divided = {"lr_policy": "step", "gamma": 1 / paper.rate_divisor, "stepsize": schedule.stepsize}
    if not schedule.even:
        divided |= {"lr_policy": "multistep", "stepvalue": list(schedule.stepvalues)}
        del divided["stepsize"]
    tests = {"test_interval": schedule.test_interval, "test_iter": [schedule.test_iter]}
    if config.dataset.recipe and step.number == 1:
        tests["test_initialization"] = False  # of a net from fillers, whose statistics are those of nothing
    return [
        ([], {"net": trainval_file(step)}),
        ([batch], {"iter_size": schedule.iter_size}),
        ([], {**method, "momentum": paper.momentum, "weight_decay": paper.weight_decay}),
        (
            [epoch, stepsize, max_iter],
            {"base_lr": schedule.rates[0], **divided, "max_iter": schedule.max_iter},
        ),
        ([test_interval, test_iter], tests),
        (
            ["a snapshot at the end of each rate" if schedule.even else "a snapshot after each epoch"],
            {
                "snapshot": schedule.stepsize if schedule.even else schedule.test_interval,
                "snapshot_prefix": f"{SNAPSHOTS}/{step.stem}",
            },
        ),
        ([], {"display": DISPLAY, "average_loss": DISPLAY}),
        ([], {"solver_mode": schedule.processor, **devices}),
    ]


def _text(config: NetConfig, fields: dict[str, Any]) -> str:
    """Some fields of a solver, in their order."""
    lines = []
    for name, value in fields.items():
        message = message_class("SolverParameter", config.dialect)()
        with Problems(NetError) as problems:
            fill(message, {name: value}, problems)
        lines.append(to_text(message).rstrip("\n"))
    return "\n".join(lines)
