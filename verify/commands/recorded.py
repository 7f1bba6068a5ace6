"""What the commands share that replay recordings of real Caffe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prototxt_gen.base import command
from prototxt_gen.base.door import add_layers


def add(verbs: Any, name: str, about: str, description: str, what: str) -> Any:
    """Add a command that takes folders; returns its parser."""
    parser = verbs.add_parser(name, help=about, description=description)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help=f"folders with recorded {what}")
    add_layers(parser)
    return parser


def replay(cases: Sequence[Any], run: Callable[[Any], Any], unit: str) -> list[Any]:
    """The results of all cases, with a bar on a terminal."""
    from tqdm import tqdm

    return [run(case) for case in tqdm(cases, unit=unit, disable=not sys.stderr.isatty())]


def told(title: str, report: str, results: Sequence[Any]) -> int:
    """Print the report; returns the exit status, 1 when a case differs."""
    print(title)
    print(report)
    return command.OK if all(results) else command.CHECK_FAILED
