"""The processes of one run: the first hands out the batches, collects the scores and writes; the others compute.

They talk through torch's key-value store at the place that torchrun names, so no process group is needed, and a
process that is lost is noticed by its silence.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

from torch import distributed

from prototxt_gen.base.errors import CaffeError, Problem

PULSE = 2.0  # seconds between signs of life
SILENCE = 120.0  # seconds without any, after which a process counts as lost
MEETING = timedelta(minutes=30)  # for all to have read their nets
FAREWELL = 20.0  # seconds that the first waits for the others at the end

DONE, FAILED, STOPPED = "done", "failed", "stopped "  # by which signal


class LostMate(CaffeError):
    """Another process of the run has ended, or cannot be reached."""


class Mates:
    """This process among `world`; with one alone nothing is exchanged. Use as a context."""

    def __init__(self, rank: int = 0, world: int = 1):
        self.rank, self.world = rank, world
        self._store: Any = None
        self._sent = 0
        self._taken = [0] * world
        self._heard: dict[int, tuple[bytes, float]] = {}
        self._looked = 0.0
        self._quiet = threading.Event()

    @property
    def first(self) -> bool:
        """Whether this process collects and writes."""
        return self.rank == 0

    def __enter__(self) -> Mates:
        if self.world > 1:
            self._call(self._meet)
            threading.Thread(target=self._live, name="mates", daemon=True).start()
        return self

    def __exit__(self, kind: type | None, *rest: object) -> None:
        if self.world > 1:
            with suppress(LostMate):
                if self.first and kind is not None:
                    self.over(FAILED)
                self._call(lambda: self._store.set(f"bye/{self.rank}", b"1"))
                if self.first:  # it may keep the store: it goes last
                    limit = time.monotonic() + FAREWELL
                    while time.monotonic() < limit and not self.gone():
                        time.sleep(0.05)
            self._quiet.set()

    def _meet(self) -> None:
        store, _, _ = next(distributed.rendezvous("env://", self.rank, self.world, timeout=MEETING))
        self._store = distributed.PrefixStore("score", store)

    def _live(self) -> None:
        count = 0
        while not self._quiet.wait(PULSE if count else 0):
            count += 1
            try:
                self._store.set(f"alive/{self.rank}", str(count))
            except RuntimeError:
                return  # the main thread meets the same, and says so

    def tell(self, plan: Any) -> None:
        """The first: what the others need to begin, as JSON."""
        if self.world > 1:
            self._call(lambda: self._store.set("plan", json.dumps(plan).encode()))

    def plan(self) -> Any:
        """The others: wait for it. Raises LostMate when the first has given up."""
        while not self._has("plan"):
            if self.ended():
                raise LostMate(Problem("the first process of the run gave up", fix="see what it printed"))
            self.check()
            time.sleep(0.05)
        return json.loads(self._call(lambda: self._store.get("plan")))

    def send(self, record: bytes) -> None:
        """The others: give a batch to the first."""
        self._call(lambda: self._store.set(f"batch/{self.rank}/{self._sent}", record))
        self._sent += 1

    def received(self) -> Iterator[bytes]:
        """The first: what the others have sent since."""
        for rank in range(1, self.world):
            while self._has(key := f"batch/{rank}/{self._taken[rank]}"):
                record = self._value(key)
                with suppress(RuntimeError):  # not every kind of store can
                    self._store.delete_key(key)
                self._taken[rank] += 1
                yield record

    def over(self, how: str) -> None:
        """The first: tell the others that nothing more is wanted."""
        if self.world > 1:
            self._call(lambda: self._store.set("over", how.encode()))

    def ended(self) -> str:
        """What the first said at the end, or nothing yet."""
        return self._value("over").decode()

    def gone(self) -> bool:
        """Whether all others have left."""
        return all(self._has(f"bye/{rank}") for rank in range(1, self.world))

    def check(self) -> None:
        """Raise LostMate for a process that has left or been silent too long: the first looks at all, others at it."""
        now = time.monotonic()
        if self.world == 1 or now - self._looked < PULSE:
            return
        self._looked = now
        for rank in range(1, self.world) if self.first else (0,):
            if self.first and self._has(f"bye/{rank}"):
                raise LostMate(Problem(f"process {rank} of the run ended early", fix=_AGAIN))
            sign = self._value(f"alive/{rank}")
            if self._heard.get(rank, (None,))[0] != sign:
                self._heard[rank] = (sign, now)
            elif now - self._heard[rank][1] > SILENCE:
                raise LostMate(Problem(f"process {rank} of the run has been silent for {SILENCE:.0f} s", fix=_AGAIN))

    def _value(self, key: str) -> bytes:
        return self._call(lambda: self._store.get(key)) if self._has(key) else b""

    def _has(self, key: str) -> bool:
        return self.world > 1 and self._call(lambda: self._store.check([key]))

    def _call(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except RuntimeError as cause:
            reason = str(cause).strip().splitlines()[0]
            problem = Problem(f"the other processes of the run cannot be reached: {reason}", fix=_AGAIN)
            raise LostMate(problem) from None


_AGAIN = "see what it printed, and start all processes again: what was computed is kept"
