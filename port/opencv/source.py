"""A Caffe net's two files, from disk or from memory, and its conversions: from the cache, or made and checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from prototxt_gen.base.errors import CaffeError, NetError, Problem, UsageError
from prototxt_gen.base.files import read_bytes

from .cache import Form, load_form, store_form
from .convert import convert

Shapes = Mapping[str, tuple[int, ...]]
_BLOCK = 1 << 24  # bytes hashed at once


@dataclass(frozen=True)
class OneFile:
    """A file by its path or its content, which is a name for messages and a digest of what it holds."""

    name: str
    path: Path | None
    data: bytes
    digest: str


def open_source(given: Any, kind: str) -> OneFile | None:
    """A path or a buffer (bytes, bytearray, memoryview, uint8 array) as a file; None where none is given ("" too)."""
    if given is None or (isinstance(given, (str, bytes, bytearray)) and not given):
        return None
    if isinstance(given, (str, os.PathLike)):
        path = Path(given)
        return OneFile(str(path), path, b"", _digest_of(path))
    if isinstance(given, np.ndarray) and given.dtype != np.uint8:
        raise UsageError(Problem(f"the {kind} is an array of {given.dtype}", "a path, bytes or a uint8 array"))
    try:
        data = bytes(given) if not isinstance(given, np.ndarray) else given.tobytes()
    except (TypeError, ValueError):
        expected = "a path, bytes or a uint8 array"
        raise UsageError(Problem(f"the {kind} is of type {type(given).__name__}", expected)) from None
    return OneFile(f"({kind} in memory)", None, data, hashlib.sha256(data).hexdigest())


def _digest_of(path: Path) -> str:
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
    except OSError:
        read_bytes(path, NetError)  # raises with the file's name and the way out
    return found.hexdigest()


class Source:
    """Where the forms of one net come from; raises UsageError without a prototxt."""

    def __init__(self, prototxt: OneFile | None, caffemodel: OneFile | None, dialect: str | None, packs: Iterable[str]):
        if prototxt is None:
            raise UsageError(Problem("no prototxt is given", "a path, bytes or a uint8 array"))
        self.prototxt, self.caffemodel, self.dialect, self.packs = prototxt, caffemodel, dialect, tuple(packs)

    def form(self, shapes: Shapes, taps: tuple[str, ...]) -> Form:
        """The net for inputs of some shapes ({}: the file's own), with its outputs and some values more."""
        weights = self.caffemodel.digest if self.caffemodel else ""
        said = [self.prototxt.digest, weights, self.dialect, self.packs, sorted(shapes.items()), taps]
        if (form := load_form(said)) is not None:
            return form
        with self._files() as (prototxt, caffemodel):
            try:
                made = convert(prototxt, caffemodel, shapes, taps, self.dialect, self.packs)
            except CaffeError as error:
                raise type(error)([self._renamed(problem) for problem in error.problems]) from None
        return store_form(said, *made)

    @contextmanager
    def _files(self) -> Iterator[tuple[Path, Path | None]]:
        """Both as files on disk, for as long as they are read."""
        with TemporaryDirectory() as folder:
            paths = []
            for each, name in ((self.prototxt, "net.prototxt"), (self.caffemodel, "net.caffemodel")):
                path = None if each is None else each.path or Path(folder) / name
                if each is not None and each.path is None and path is not None:
                    path.write_bytes(each.data)
                paths.append(path)
            assert paths[0] is not None
            yield paths[0], paths[1]

    def _renamed(self, problem: Problem) -> Problem:
        """A problem of a file in memory without the name of the temporary one."""
        for each, name in ((self.prototxt, "net.prototxt"), (self.caffemodel, "net.caffemodel")):
            if each is not None and each.path is None and Path(problem.file).name == name:
                return replace(problem, file=each.name)
        return problem
