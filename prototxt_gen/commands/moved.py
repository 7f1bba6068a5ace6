"""Commands that measure nets, which the packages above do: known under this package's name, and started there."""

from __future__ import annotations

import argparse
from typing import Any

from ..base.programs import start

# Name -> the program and its command that it stands for.
MOVED = {"describe": ("port", "inspect"), "audit": ("verify", "audit")}

EXAMPLES = """\
  python -m prototxt_gen describe net.prototxt
  python -m prototxt_gen audit"""


def add(verbs: Any) -> None:
    """Add the commands; what follows their names is the other program's."""
    for name, (program, verb) in MOVED.items():
        about = f"the same as `python -m {program} {verb}`"
        parser = verbs.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.", add_help=False)
        parser.set_defaults(run=run, verb=name)
        parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Start the program that a command stands for; returns its exit status."""
    program, verb = MOVED[arguments.verb]
    return start(program, [verb, *arguments.arguments])
