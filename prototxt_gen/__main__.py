"""Writes the paper as Caffe files: `python -m prototxt_gen write | list | describe | diff | audit`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .command import parser, run
from .commands import COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and carry out one command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    return arguments.run(arguments)


def _parser() -> argparse.ArgumentParser:
    examples = "\n".join(verb.EXAMPLES for verb in COMMANDS)
    top = parser("python -m prototxt_gen", "Write the paper's nets and their training as Caffe files.", examples)
    verbs = top.add_subparsers(required=True, metavar="COMMAND")
    for verb in COMMANDS:
        verb.add(verbs)
    return top


if __name__ == "__main__":
    sys.exit(run(main))
