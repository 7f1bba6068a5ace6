"""The door for layers that are not ours: Python files given with --layers, and what installed packages offer.

Such a file registers layer types (`port.register`, `port.extend_schema`) when it is run, and from then on every
reader, writer and runtime of this process knows them. A package does the same in the module that it names under the
entry point group `GROUP`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from typing import Any

from .errors import CaffeError, Problem, UsageError

GROUP = "caffe_srn.layers"
WAY_OUT = "a layer type that is not Caffe's is taught with --layers FILE.py (in Python: port.register)"

_opened: dict[Path, Any] = {}  # file -> its module


def add_layers(parser: argparse._ActionsContainer) -> None:
    """--layers"""
    parser.add_argument(
        "--layers",
        action="append",
        default=[],
        type=Path,
        metavar="FILE.py",
        help="Python code that registers layer types which are not Caffe's; may be repeated",
    )


def open_files(paths: Iterable[Path]) -> None:
    """Run files that register layers, each once; raises UsageError saying what is wrong with which."""
    for path in paths:
        known = path.resolve()
        if known not in _opened:
            if not known.is_file():
                raise UsageError(Problem("there is no such file", "Python code that registers layers", file=path))
            _guarded(path, partial(_run, known))


def opened() -> list[Path]:
    """The files that were run, in their order."""
    return list(_opened)


def open_offered() -> None:
    """Import what installed packages offer; raises UsageError naming a package that cannot be imported."""
    for entry in entry_points(group=GROUP):
        package = entry.dist.name if entry.dist else entry.value
        _guarded(f"{entry.value} of the installed package {package}", entry.load)


def _run(path: Path) -> None:
    name = f"layers_{len(_opened)}_{path.stem}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:  # a name that does not end in .py
        raise UsageError(Problem("this is no Python file", "a name ending in .py", file=path))
    module = sys.modules[name] = module_from_spec(spec)  # known by name, so that its classes can be pickled
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _opened[path] = module


def _guarded(source: Path | str, act: Callable[[], Any]) -> None:
    """Whatever foreign code raises, as one problem with its place in that code."""
    try:
        act()
    except CaffeError as error:
        raise UsageError([_placed(each, source) for each in error.problems]) from None
    except (Exception, SystemExit) as cause:
        line = cause.lineno or 0 if isinstance(cause, SyntaxError) else _line(cause, source)
        said = str(cause.msg if isinstance(cause, SyntaxError) else cause).strip().splitlines()
        found = f"it cannot be run: {type(cause).__name__}" + (f": {said[0]}" if said else "")
        raise UsageError(Problem(found, "Python code that registers layers", file=source, line=line)) from None


def _placed(problem: Problem, source: Path | str) -> Problem:
    return Problem(problem.found, problem.expected, problem.fix, problem.file or source, problem.line)


def _line(cause: BaseException, source: Path | str) -> int:
    """The last line of the file that was running."""
    lines = [each.lineno for each in extract_tb(cause.__traceback__) if Path(each.filename) == Path(source).resolve()]
    return lines[-1] or 0 if lines else 0
