"""Ctrl-C and SIGTERM end training after the running iteration, SIGHUP asks for a snapshot, as in Caffe's program."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """What signals asked for since they were last looked at, while it is entered.

    A second one that asks to stop acts as if nobody listened, unless `patient`: torchrun sends several.
    """

    def __init__(self, patient: bool = False):
        self.patient = patient
        self.stop = 0  # the number of the signal that asked to stop
        self.snapshot = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        try:
            for number in (*STOPPING, signal.SIGHUP):
                self._old[number] = signal.signal(number, self._note)
        except ValueError:  # not in the main thread: the program around has its own ways
            self._old.clear()
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self.snapshot = True
            return
        self.stop = number
        if not self.patient:
            for each in STOPPING:
                signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
