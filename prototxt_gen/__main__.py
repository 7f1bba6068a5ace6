"""Writes the paper as Caffe files: `python -m prototxt_gen write | list | diff` (and `describe`, `audit`: moved)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .base.command import dispatch, program, run
from .base.programs import start
from .commands import COMMANDS
from .commands.moved import MOVED


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and carry out one command; returns the exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0] in MOVED:  # options of other programs: argparse would take them for its own
        return start(MOVED[given[0]][0], [MOVED[given[0]][1], *given[1:]])
    return dispatch(arguments().parse_args(given))


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    return program("python -m prototxt_gen", "Write the paper's nets and their training as Caffe files.", COMMANDS)


if __name__ == "__main__":
    sys.exit(run(main))
