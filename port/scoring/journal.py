"""The journal of a run, beside its output: every batch that was scored, so that a run cut off anywhere goes on.

A line of JSON says what the scores depend on; a record follows for each batch, in the order they were finished.
A record has a checksum: one that a kill or a full disk cut short is dropped, and its batch computed again.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from prototxt_gen.base.errors import CaffeError, Problem, UsageError
from prototxt_gen.base.files import os_problem

from .batches import Scored

KIND = "port score journal 1"
FLUSHED = 1.0  # seconds; what is lost when the machine itself fails, not only the run

_MARK = b"SCRD"
_HEAD = struct.Struct("<4sIIII")  # mark, batch, rows, columns, bytes of holes
_SUM = struct.Struct("<I")


def journal_path(output: str | Path) -> Path:
    """scores.txt -> scores.txt.part"""
    output = Path(output)
    return output.with_name(output.name + ".part")


def encode(scored: Scored) -> bytes:
    """A batch as a record."""
    holes = json.dumps(scored.holes).encode() if scored.holes else b""
    head = _HEAD.pack(_MARK, scored.index, *scored.scores.shape, len(holes))
    body = head + scored.scores.astype("<f4").tobytes() + holes
    return body + _SUM.pack(zlib.crc32(body))


def decode(data: bytes, start: int = 0) -> tuple[Scored, int] | None:
    """The record at a position and the position after it; None where there is no whole one."""
    if len(data) < start + _HEAD.size:
        return None
    mark, index, rows, columns, extra = _HEAD.unpack_from(data, start)
    values = start + _HEAD.size
    holes = values + 4 * rows * columns
    end = holes + extra
    if mark != _MARK or len(data) < end + _SUM.size:
        return None
    if zlib.crc32(data[start:end]) != _SUM.unpack_from(data, end)[0]:
        return None
    scores = np.frombuffer(data, "<f4", rows * columns, values).reshape(rows, columns).astype(np.float32)
    missing = {int(row): why for row, why in json.loads(data[holes:end] or b"{}").items()}
    return Scored(index, scores, missing), end + _SUM.size


class Journal:
    """An open journal; `held` has what it held, by batch. Use as a context.

    Raises UsageError for a journal of another run, naming everything that differs, and for one in use;
    CaffeError when the disk refuses.
    """

    def __init__(self, path: Path, facts: Mapping[str, str], restart: bool = False):
        self.path = path
        self.held: dict[int, Scored] = {}
        self._flushed = time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115  # closed by the context
        except OSError as cause:
            raise CaffeError(os_problem(path, cause, "write")) from None
        try:
            self._open(facts, restart)
        except BaseException:
            self._file.close()
            raise

    def _open(self, facts: Mapping[str, str], restart: bool) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            fix = "wait for it, or choose another --output"
            raise UsageError(Problem("another run is writing this journal", fix=fix, file=self.path)) from None
        data = self._file.read()
        line, newline, _ = data.partition(b"\n")
        end = 0
        if newline:
            before = self._facts(line)  # --restart drops journals, not other files
            if not restart:
                self._compare(before, facts)
                end = self._read(data, len(line) + 1)
        elif data and not self._header(facts).startswith(data):
            raise self._foreign()
        self._file.seek(end)
        self._file.truncate()
        if not end:
            self._append(self._header(facts))

    def _header(self, facts: Mapping[str, str]) -> bytes:
        return json.dumps({"kind": KIND, "facts": dict(facts)}).encode() + b"\n"

    def _facts(self, line: bytes) -> dict[str, str]:
        try:
            header = json.loads(line)
            known, before = header["kind"] == KIND, dict(header["facts"])
        except (ValueError, TypeError, KeyError):
            raise self._foreign() from None
        if not known:
            raise self._foreign()
        return before

    def _compare(self, before: Mapping[str, str], facts: Mapping[str, str]) -> None:
        problems = []
        for name in [*facts, *(name for name in before if name not in facts)]:
            was, now = before.get(name, "nothing"), facts.get(name, "nothing")
            if was != now:
                problems.append(Problem(f"{name}: was {was}, now {now}", file=self.path))
        if problems:
            found = f"the run that was interrupted had other {', '.join(p.found.split(':')[0] for p in problems)}"
            fix = "give what it had to go on with it, or --restart to drop what it computed"
            raise UsageError([*problems, Problem(found, fix=fix, file=self.path)])

    def _foreign(self) -> UsageError:
        fix = "move the file away, or choose another --output"
        return UsageError(Problem("is no journal of `port score` or `port features`", fix=fix, file=self.path))

    def _read(self, data: bytes, start: int) -> int:
        while (found := decode(data, start)) is not None:
            scored, start = found
            self.held[scored.index] = scored
        return start

    def add(self, scored: Scored) -> None:
        """Append a batch."""
        self._append(encode(scored))
        self.held[scored.index] = scored

    def _append(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
            if time.monotonic() - self._flushed > FLUSHED:
                self._sync()
        except OSError as cause:
            raise CaffeError(os_problem(self.path, cause, "write")) from None

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._flushed = time.monotonic()

    def remove(self) -> None:
        """Delete it: the output is there."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._sync()
        except OSError:  # the disk refused before, and that was said
            pass
        finally:
            self._file.close()
