"""Other programs of the project, run as programs: what a package may not import, it may still start.

Imports run one way, from the nets' text upwards. A command that people know under this package's name and that
needs the packages above (`audit` measures nets, `--weights` computes them) is theirs, and is started here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import Problem, UsageError

_ROOT = Path(__file__).resolve().parents[2]


def start(program: str, arguments: Sequence[str]) -> int:
    """Run `python -m PROGRAM ARGUMENTS` on this terminal; returns its exit status."""
    return subprocess.run(_call(program, arguments), env=_environment(), check=False).returncode


def answer(program: str, arguments: Sequence[str]) -> str:
    """What the program prints; raises UsageError with what it says is wrong."""
    done = subprocess.run(
        _call(program, arguments), env=_environment(), check=False, capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        said = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
        found = f"`python -m {program}` ended with status {done.returncode}: {done.stderr.strip()[-500:]}"
        raise UsageError([Problem(line) for line in said] or found)
    return done.stdout.strip()


def _call(program: str, arguments: Sequence[str]) -> list[str]:
    sys.stdout.flush()
    return [sys.executable, "-m", program, *arguments]


def _environment() -> dict[str, str]:
    """With this project on the path, also where it is not installed."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    return os.environ | {"PYTHONPATH": path, "PYTHONIOENCODING": sys.stdout.encoding or "utf-8"}
