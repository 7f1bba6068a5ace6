"""Scalars for TensorBoard, in its own file format, where the package is installed."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Mapping
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

VERSION = "brain.Event:2"


class Board:
    """An event file, written record by record at once.

    Not PyTorch's SummaryWriter: its writing thread ends the whole program when the disk is full. Here a disk that
    refuses silences the board alone.
    """

    def __init__(self, folder: Path, start: int):
        """`start`: what the folder holds of this and later iterations no longer counts."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # raises ImportError without the package
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary, self._records = Event, Summary, RecordWriter
        self._file: FileIO | None = None
        stamp = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.0"
        self.path = folder / f"events.out.tfevents.{stamp}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(self.path, "ab")
        except OSError as error:
            self._silence(error)
        self._write(Event(wall_time=time.time(), file_version=VERSION))
        self._write(Event(wall_time=time.time(), step=start, session_log=SessionLog(status=SessionLog.START)))

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add the scalars of an iteration, by tag."""
        entries = [self._summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(self._event(wall_time=time.time(), step=iteration, summary=self._summary(value=entries)))

    def _write(self, event: Any) -> None:
        if self._file is None:
            return
        record = BytesIO()
        self._records(record).write(event.SerializeToString())
        try:
            if self._file.write(record.getbuffer()) < record.tell():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._silence(error)

    def _silence(self, error: OSError) -> None:
        """Give up; half a record at the end is what TensorBoard expects of a program that was killed."""
        print(f"{self.path}: cannot write: {error.strerror or error}; training goes on", file=sys.stderr)
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
