"""Writes the paper as Caffe files: `python -m prototxt_gen write | list | describe | diff | audit`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .command import parser, run, share_examples
from .commands import COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and carry out one command; returns the exit status."""
    options = arguments().parse_args(argv)
    return options.run(options)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    examples = "\n".join(verb.EXAMPLES for verb in COMMANDS)
    top = parser("python -m prototxt_gen", "Write the paper's nets and their training as Caffe files.", examples)
    verbs = top.add_subparsers(required=True, metavar="COMMAND")
    for verb in COMMANDS:
        verb.add(verbs)
    return share_examples(top)


if __name__ == "__main__":
    sys.exit(run(main))
