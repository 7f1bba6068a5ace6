"""The lines of the benchmarks' table, and processes that measure."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prototxt_gen.base.errors import CaffeError

ROOT = Path(__file__).resolve().parent.parent
NOISY = 1.5  # largest over smallest: measured once more

Nets = dict[str, Path]


@dataclass
class Row:
    """One line of the table: the samples of one figure, its target (an upper limit) if it has one."""

    what: str
    dialect: str
    unit: str
    samples: list[float]
    limit: float | None = None
    note: str = ""
    others: float | None = None  # the part of the cores that other processes used meanwhile

    @property
    def measured(self) -> float:
        """The median of the samples."""
        return statistics.median(self.samples)

    @property
    def met(self) -> bool | None:
        """Whether the median is under the target; None without one."""
        return None if self.limit is None else self.measured < self.limit


def child(*arguments: object) -> str:
    """What a command of this project prints, run by this Python; raises CaffeError when it fails."""
    line = [sys.executable, *map(str, arguments)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise CaffeError(f"{' '.join(line[1:])}: exit status {done.returncode}: {said}")
    return done.stdout


def step(*arguments: object) -> dict[str, Any]:
    """The figures of one step in a process of its own."""
    return json.loads(child("-m", "benchmarks.inside", *arguments))


def sampled(once: Callable[[], dict[str, Any]], repeats: int, **limits: float) -> dict[str, list[float]]:
    """Every figure's samples from `repeats` calls; as many again where a limit is missed or the figures scatter."""
    found = [once() for _ in range(repeats)]
    samples = {name: [figures[name] for figures in found] for name in found[0]}
    if any(statistics.median(samples[n]) >= x or max(samples[n]) > NOISY * min(samples[n]) for n, x in limits.items()):
        found += [once() for _ in range(repeats)]
    return {name: [figures[name] for figures in found] for name in found[0]}
