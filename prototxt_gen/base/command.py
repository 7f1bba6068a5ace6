"""What every command of the project shares: exit statuses and errors without tracebacks."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from .door import open_files
from .errors import CaffeError, CaffeWarning, told
from .quiet import libraries_quiet

OK, CHECK_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
SIGNALLED = 128  # plus the signal's number: 130 after Ctrl-C, 143 after SIGTERM, as shells have it

EXAMPLES = "examples:"
MOST = 50  # problems that are printed; what is wrong in a hundred places is wrong in one way


class HelpFormatter(argparse.HelpFormatter):
    """Wraps each paragraph of a description by itself, and leaves examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(EXAMPLES):
            return text
        return "\n".join(super(HelpFormatter, self)._fill_text(line, width, indent) for line in text.splitlines())


def parser(program: str, description: str, examples: str = "") -> argparse.ArgumentParser:
    """An argument parser whose --help ends in examples."""
    epilog = f"{EXAMPLES}\n{examples}" if examples else None
    return argparse.ArgumentParser(prog=program, description=description, epilog=epilog, formatter_class=HelpFormatter)


def program(name: str, description: str, verbs: Sequence[Any]) -> argparse.ArgumentParser:
    """The command line of a program of several commands, each a module with EXAMPLES, `add` and `run`."""
    top = parser(name, description, "\n".join(verb.EXAMPLES for verb in verbs))
    actions = top.add_subparsers(required=True, metavar="COMMAND")
    for verb in verbs:
        verb.add(actions)
    return share_examples(top)


def share_examples(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Give every subcommand, once all are added, those of the parser's examples that call it; returns the parser."""
    calls = (parser.epilog or "").removeprefix(EXAMPLES + "\n").replace("\\\n", "\0").splitlines()
    for name, verb in subcommands(parser).items():
        own = [call for call in calls if f"{name} " in f"{call} "]
        verb.epilog = "\n".join([EXAMPLES, *own]).replace("\0", "\\\n") if own else None
        verb.formatter_class = HelpFormatter
    return parser


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """All subcommands and theirs, by how they are called after `python`: "-m port lmdb create"."""
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                found[verb.prog.removeprefix("python ")] = verb
                found |= subcommands(verb)
    return found


def dispatch(arguments: argparse.Namespace) -> int:
    """Carry out a parsed command, its layers known before, libraries silent where it says so; the exit status."""
    open_files(getattr(arguments, "layers", ()))
    with libraries_quiet() if getattr(arguments, "quiet", False) else nullcontext():
        return arguments.run(arguments)


def run(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status, 2 with the problems on stderr when the input was bad."""
    shown = warnings.showwarning
    warnings.showwarning = _noting(shown)
    try:
        return _run(main, argv)
    finally:
        warnings.showwarning = shown


def _noting(shown: Any) -> Any:
    """A `warnings.showwarning` that prints our own warnings as notes, one line each, and others as before."""

    def show(message: Any, category: Any, *place: Any, **more: Any) -> None:
        if issubclass(category, CaffeWarning):
            print(f"note: {message}", file=sys.stderr)
        else:
            shown(message, category, *place, **more)

    return show


def _run(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None) -> int:
    try:
        status = main(argv)
        sys.stdout.flush()
        return status
    except CaffeError as error:
        sys.stdout.flush()
        lines = told(error.problems)
        for line in lines[:MOST]:
            print(f"error: {line}", file=sys.stderr)
        if more := len(lines) - MOST if len(lines) > MOST else 0:
            print(f"error: and {more:,} more problems", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
