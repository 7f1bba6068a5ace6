"""Keeps what libraries print by themselves off the terminal: what matters of it is in our own messages."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_TALKATIVE = ("tifffile",)  # loggers that write to stderr where nobody has set them up


@contextmanager
def libraries_quiet() -> Iterator[None]:
    """Lines of libtiff, OpenCV and the like on file descriptor 2 go nowhere meanwhile; Python's sys.stderr stays.

    For whole commands, not for parts: descriptors belong to the process, not to a thread.
    """
    levels = {name: logging.getLogger(name).level for name in _TALKATIVE}
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings(), _descriptor_silent():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextmanager
def _descriptor_silent() -> Iterator[None]:
    ours = sys.stderr
    with suppress(OSError, ValueError, AttributeError):
        ours.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no such descriptor
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    if _writes_to_2(ours):
        sys.stderr = os.fdopen(
            os.dup(kept), "w", buffering=1, encoding=ours.encoding, errors=ours.errors or "backslashreplace"
        )
    try:
        yield
    finally:
        if sys.stderr is not ours:
            sys.stderr.close()
            sys.stderr = ours
        os.dup2(kept, 2)
        os.close(kept)


def _writes_to_2(stream: Any) -> bool:
    try:
        return stream.fileno() == 2
    except (OSError, ValueError, AttributeError):
        return False
