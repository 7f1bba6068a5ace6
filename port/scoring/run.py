"""A scoring run: from a list of images to a scores file, in one process or several, in one go or many."""

from __future__ import annotations

import logging
import os
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.base.errors import DataError, Problem, UsageError
from prototxt_gen.base.machine import free_memory

from ..images import AUTHORS
from ..processes.progress import ScoringProgress
from ..processes.ranks import launched
from ..processes.signals import Signals
from .batches import Batch, Pipeline, Scored, cut
from .compare import difference
from .compute import batch_size, default_workers, fit_lanes, loader, make_engine
from .files import left_out_path, unreadable, write_left_out, write_scores
from .fingerprint import fingerprint
from .journal import Journal, decode, encode, journal_path
from .mates import DONE, FAREWELL, STOPPED, LostMate, Mates
from .options import Options, check, read_images

_LOCAL_FACTS = ("image root",)  # what may differ between machines
_WAIT = 0.2  # seconds


def score(options: Options) -> int:
    """Score images as options say; returns the number of the signal that ended the run early, or 0.

    Writes the scores, all or nothing, and while it runs a journal beside them, from which the same call goes on.
    Raises CaffeError with everything that is wrong; unreadable images at the end, as DataError. Under torchrun all
    processes call it and share the batches.
    """
    return begin(options, make_engine, Run)


def begin(options: Options, make: Callable[..., tuple[Any, list[str]]], kind: type[Run]) -> int:
    """A run of some kind, with the engine that `make` makes (as `make_engine` does): the same as `score`."""
    check(options)
    # Remarks on odd EXIF data, palettes and tags would break up the progress bar; the unreadable is said at the end.
    warnings.filterwarnings("ignore", module="PIL")
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    rank, world, local = launched()
    images = read_images(options)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world))  # processes on this machine
    engine, notes = make(options, local, here)
    size = batch_size(engine, options.batch, len(images))
    if options.threads is None:
        fit_lanes(engine, size, free_memory(), here)
    facts = fingerprint(options, engine, images, size)
    run = kind(options, engine, images, cut(images, size), size)
    with Mates(rank, world) as mates:
        if not mates.first:
            return run.help(mates, facts)
        print("\n".join(notes), flush=True)
        with Journal(journal_path(options.output), facts, options.restart) as journal:
            return run.lead(mates, journal, facts)


class Ends(Signals):
    """The signals that end a run: also the one of a closed terminal, unless nohup has it ignored."""

    def __init__(self, patient: bool = False):
        super().__init__(patient)
        self._hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN

    def __enter__(self) -> Ends:
        super().__enter__()
        return self

    @property
    def asked(self) -> int:
        """The number of the signal that asks to stop, or 0."""
        return self.stop or (signal.SIGHUP if self.snapshot and self._hangs_up else 0)


@dataclass
class Run:
    """A run whose files are read: what `lead` does in the first process, and `help` in the others."""

    options: Options
    engine: Any
    images: list[Path]
    batches: list[Batch]
    size: int
    compares: ClassVar[bool] = True  # says what another way to resize than the authors' changes

    def loader(self) -> Callable[[Path], Any]:
        """What reads an image for the engine."""
        return loader(self.engine, self.options.mean, self.options.resize)

    def lead(self, mates: Mates, journal: Journal, facts: dict[str, str]) -> int:
        """The first process: hand out, compute, collect, write."""
        options = self.options
        pending = self._pending(journal)
        print(f"{len(self.images)} images in {len(self.batches)} batches of {self.size}", end="")
        print(f"; {len(journal.held)} are in {journal.path} already" if journal.held else "", flush=True)
        if options.resize != AUTHORS and not journal.held and self.compares:
            print(difference(self.engine, self.images, options.resize, options.mean), flush=True)
        mates.tell({"facts": facts, "pending": pending})
        done = sum(len(self.batches[index].paths) for index in journal.held)
        with Ends(patient=mates.world > 1) as signals, self._pipeline(share(pending, 0, mates.world)) as pipeline:
            progress = ScoringProgress(done, len(self.images))
            try:
                stopped = self._collect(pipeline, mates, signals, journal, progress)
            finally:
                progress.close()
        if stopped:
            counted = f"{progress.now} of {len(self.images)} images are in {journal.path}"
            print(f"stopped: {counted}; the same command goes on from there", flush=True)
            return stopped
        self._finish(journal)
        mates.over(DONE)
        return 0

    def _collect(
        self, pipeline: Pipeline, mates: Mates, signals: Ends, journal: Journal, progress: ScoringProgress
    ) -> int:
        """Write down what is finished until nothing is missing; returns the signal that ended it earlier, or 0."""
        stopped, limit = 0, 0.0
        while len(journal.held) < len(self.batches):
            for scored in self._collected(pipeline, mates):
                journal.add(scored)
                progress.moved(len(scored.scores))
            if not stopped and (stopped := signals.asked) and len(journal.held) < len(self.batches):
                progress.say(f"{signal.Signals(stopped).name}: finishing the batches that are being computed")
                pipeline.stop()
                mates.over(f"{STOPPED}{stopped}")
                limit = time.monotonic() + FAREWELL
            elif stopped and not pipeline.left and (mates.gone() or time.monotonic() > limit):
                break
            elif not stopped:
                mates.check()
        return stopped if len(journal.held) < len(self.batches) else 0

    def help(self, mates: Mates, facts: dict[str, str]) -> int:
        """Another process: compute what the first says."""
        plan = mates.plan()
        problems = [
            Problem(f"{name}: {facts.get(name)} in process {mates.rank}, {value} in the first")
            for name, value in plan["facts"].items()
            if facts.get(name) != value and name not in _LOCAL_FACTS
        ]
        if problems:
            raise UsageError([*problems, Problem("the processes of a run must score the same, in the same way")])
        mine = share(plan["pending"], mates.rank, mates.world)
        with Ends(patient=True) as signals, self._pipeline(mine) as pipeline:
            while pipeline.left:
                for scored in pipeline.finished(_WAIT):
                    mates.send(encode(scored))
                if signals.asked or mates.ended():
                    pipeline.stop()
                mates.check()
            while not (ended := mates.ended()) and not signals.asked:
                mates.check()
                time.sleep(_WAIT)
        if stopped := signals.asked:
            return stopped
        if ended.startswith(STOPPED):
            return int(ended.removeprefix(STOPPED))
        if ended != DONE:
            raise LostMate(Problem("the first process of the run gave up", fix="see what it printed"))
        return 0

    def _pipeline(self, indices: list[int]) -> Pipeline:
        workers = self.options.workers or default_workers(self.engine)
        batches = [self.batches[index] for index in indices]
        return Pipeline(self.engine, batches, self.size, self.loader(), workers)

    def _collected(self, pipeline: Pipeline, mates: Mates) -> list[Scored]:
        """What this process and the others have finished meanwhile."""
        found = list(pipeline.finished(_WAIT))
        if not found and not pipeline.left:
            time.sleep(_WAIT)
        for record in mates.received():
            whole = decode(record)
            assert whole is not None
            found.append(whole[0])
        return found

    def _pending(self, journal: Journal) -> list[int]:
        """The batches to compute: those not held, and those with an image that can be read now."""
        load = self.loader()
        for scored in list(journal.held.values()):
            paths = self.batches[scored.index].paths
            if any(_readable(load, paths[row]) for row in scored.holes):
                del journal.held[scored.index]
        return [batch.index for batch in self.batches if batch.index not in journal.held]

    def _finish(self, journal: Journal) -> None:
        """Write the scores, or raise DataError with the images that cannot be read; the journal then stays."""
        output = self.options.output
        holes: dict[int, str] = {}
        scores = np.empty((len(self.images), self.engine.classes), np.float32)
        for batch in self.batches:
            scored = journal.held[batch.index]
            scores[batch.start : batch.start + len(batch.paths)] = scored.scores
            holes |= {batch.start + row: why for row, why in scored.holes.items()}
        if holes and (not self.options.allow_unreadable or len(holes) == len(self.images)):
            fix = "mend them and run the same command: only their batches are computed; or give --allow-unreadable"
            raise DataError(unreadable(holes, self.images, fix))
        kept = np.delete(scores, sorted(holes), axis=0)
        write_left_out(output, self.images, holes)
        print(self.write(kept, [image for i, image in enumerate(self.images) if i not in holes]))
        journal.remove()
        if holes:
            print(f"{len(holes)} images cannot be read and have no row: {left_out_path(output)} lists them", flush=True)

    def write(self, rows: NDArray[np.float32], images: list[Path]) -> str:
        """Write the output, a row for each of these images; returns what to say of it."""
        output = self.options.output
        write_scores(output, rows)
        return f"wrote {output}: {len(rows)} images, {self.engine.classes} scores each, of '{self.engine.output}'"


def share(pending: list[int], rank: int, world: int) -> list[int]:
    """The batches of one process: contiguous ones, as many as the others have, or one more."""
    return pending[rank * len(pending) // world : (rank + 1) * len(pending) // world]


def _readable(load: Any, path: Path) -> bool:
    try:
        load(path)
    except DataError:
        return False
    return True
