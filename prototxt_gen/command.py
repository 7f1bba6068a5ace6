"""What every command of the project shares: exit statuses and errors without tracebacks."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from .errors import CaffeError

OK, CHECK_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def parser(program: str, description: str, examples: str = "") -> argparse.ArgumentParser:
    """An argument parser whose --help ends in examples."""
    epilog = f"examples:\n{examples}" if examples else None
    return argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def run(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status, 2 with the problems on stderr when the input was bad."""
    try:
        status = main(argv)
        sys.stdout.flush()
        return status
    except CaffeError as error:
        sys.stdout.flush()
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
