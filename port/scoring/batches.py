"""Images in batches through an engine: the next ones are read while others are computed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.base.errors import CaffeError, DataError, Problem

from .engines import Engine, Floats

Load = Callable[[Path], Floats]


@dataclass(frozen=True)
class Batch:
    """A stretch of the list, from image `start` on."""

    index: int
    start: int
    paths: Sequence[Path]


@dataclass(frozen=True)
class Scored:
    """The scores of a batch, (images, classes); a hole is a row whose image could not be read, and holds zeros."""

    index: int
    scores: NDArray[np.float32]
    holes: dict[int, str] = field(default_factory=dict)


def cut(images: Sequence[Path], size: int) -> list[Batch]:
    """All batches of a list; the boundaries depend on the list and the size alone."""
    starts = range(0, len(images), size)
    return [Batch(i, start, images[start : start + size]) for i, start in enumerate(starts)]


class _Stopped(Exception):
    """A batch that nobody waits for any more."""


class Pipeline:
    """Scores batches with an engine, in `engine.lanes` threads, while `workers` more read ahead.

    Every batch is filled up with zeros to `size` rows, so that its scores do not depend on where it stands. Use as
    a context; `finished` gives the results as they come, in no order.
    """

    def __init__(self, engine: Engine, batches: Sequence[Batch], size: int, load: Load, workers: int = 1):
        self.engine, self.size, self.load = engine, size, load
        self.left = len(batches)
        self._batches = batches
        self._stopping = threading.Event()
        self._lanes = threading.Semaphore(engine.lanes)
        self._results: queue.SimpleQueue[Future[Scored]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(min(engine.lanes + workers, max(len(batches), 1)), "score")

    def __enter__(self) -> Pipeline:
        self._using = self.engine.using()
        self._using.__enter__()
        for batch in self._batches:
            self._pool.submit(self._score, batch).add_done_callback(self._results.put)
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._pool.shutdown()
        self._using.__exit__(None, None, None)

    def stop(self) -> None:
        """Begin no further batch; those that are being computed are finished."""
        self._stopping.set()

    def finished(self, seconds: float) -> Iterator[Scored]:
        """The batches finished meanwhile, after a wait of at most `seconds` for the first one.

        Raises what went wrong in a batch: CaffeError in words for a user, others as they are.
        """
        while self.left:
            try:
                future = self._results.get(timeout=seconds)
            except queue.Empty:
                return
            seconds = 0
            self.left -= 1
            error = future.exception()
            if error is None:
                yield future.result()
            elif not isinstance(error, _Stopped):
                raise _understood(error)

    def _score(self, batch: Batch) -> Scored:
        block, holes = self._read(batch)
        with self._lanes:
            if self._stopping.is_set():
                raise _Stopped
            rows = self.engine.run(block)[: len(batch.paths)]
        for row in holes:
            rows[row] = 0
        if not np.isfinite(rows).all():
            row = int(np.argwhere(~np.isfinite(rows))[0][0])
            found = f"the net gives {rows[row][~np.isfinite(rows[row])][0]} for this image"
            raise DataError(Problem(found, "finite scores", "check the weights", file=batch.paths[row]))
        return Scored(batch.index, np.ascontiguousarray(rows, np.float32), holes)

    def _read(self, batch: Batch) -> tuple[Floats, dict[int, str]]:
        block = np.zeros((self.size, 3, self.engine.height, self.engine.width), np.float32)
        holes = {}
        for row, path in enumerate(batch.paths):
            if self._stopping.is_set():
                raise _Stopped
            try:
                block[row] = self.load(path)
            except DataError as error:
                holes[row] = reason(error)
        return block, holes


def reason(error: DataError) -> str:
    """Why an image could not be read, on one line without its name."""
    problem = error.problems[0]
    return " ".join(problem.found.split())


def _understood(error: BaseException) -> BaseException:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, CaffeError):
        return error
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text:
        return CaffeError(Problem(f"out of memory: {text}", fix="use a smaller --batch, or fewer --threads"))
    return error
