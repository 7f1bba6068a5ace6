"""LMDB as Caffe lays it out: one unnamed database of key -> Datum, read in the byte order of the keys."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lmdb

from prototxt_gen.base.errors import DataError, Problem, UsageError
from prototxt_gen.base.files import os_problem
from prototxt_gen.base.formats import HEAD, refusal

from .pages import DamagedPages, Pages, Place

DATA, LOCK = "data.mdb", "lock.mdb"
LONGEST_KEY = 511  # bytes
_START = 1 << 26  # the first size of a new database; it doubles as it fills up, as Caffe's does

_DAMAGED = "the database is damaged or was not copied completely: copy it again, or create it anew"
_CONVERT = "convert it to LMDB"
_CREATE = "check the path; `python -m port lmdb create` makes one from an image list"


class Database:
    """A database open for reading: `keys` in order, `database[i]` the i-th record; raises DataError.

    Nothing is locked, mapped or written. It may be used in forked and spawned processes.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._pages: Pages | None = None
        self.keys: list[bytes] = []
        self._places: list[Place] = []
        with self._refusing_damage():
            for key, place in self._opened().records():
                self.keys.append(key)
                self._places.append(place)
        if not self.keys:
            raise DataError(Problem("the database is empty", "one record or more", _CREATE, file=self.path))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> bytes:
        with self._refusing_damage():
            place = self._places[index]
            return self._opened().read(place.offset, place.size)

    def name(self, index: int) -> str:
        """The key of a record in words."""
        return f"'{self.keys[index].decode('utf-8', 'backslashreplace')}'"

    def close(self) -> None:
        """Close the database; it opens again when it is used again."""
        if self._pages is not None:
            os.close(self._pages.descriptor)
        self._pages = None

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pages": None}

    def _opened(self) -> Pages:
        if self._pages is None:
            self._pages = _open(self.path)
        return self._pages

    @contextmanager
    def _refusing_damage(self) -> Iterator[None]:
        try:
            yield
        except DamagedPages as cause:
            raise DataError(Problem(f"cannot be read: {cause}", "an LMDB", _DAMAGED, file=self.path)) from None
        except OSError as cause:
            raise DataError(os_problem(self.path, cause, "read")) from None


def _file(path: Path) -> Path:
    """The file of a database; raises DataError where there is none to read."""
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            return path
    except FileNotFoundError:
        raise DataError(Problem("there is no such database", "an LMDB folder", _CREATE, file=path)) from None
    except OSError as cause:
        raise DataError(os_problem(path, cause, "read")) from None
    try:
        os.stat(path / DATA)
    except FileNotFoundError:
        level = os.path.exists(path / "CURRENT")
        kind, fix = ("a LevelDB", _CONVERT) if level else (f"a folder without {DATA}", _CREATE)
        raise DataError(Problem(f"this is {kind}", "an LMDB folder", fix, file=path)) from None
    except OSError as cause:
        raise DataError(os_problem(path, cause, "read")) from None
    return path / DATA


def _open(path: Path) -> Pages:
    file = _file(path)
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as cause:
        raise DataError(os_problem(file, cause, "read")) from None
    try:
        return Pages(descriptor)
    except (DamagedPages, OSError) as cause:
        head = os.pread(descriptor, HEAD, 0) if isinstance(cause, DamagedPages) else b""
        os.close(descriptor)
        problem = Problem(f"cannot be opened: {cause}", "an LMDB", _DAMAGED, file=path)
        other = refusal(head, "an LMDB", file, own=["lmdb", "text"], fixes={"leveldb": _CONVERT}, fix=_CREATE)
        raise DataError(other or problem) from None


@contextmanager
def new_database(path: str | Path) -> Iterator[Writer]:
    """A database that appears under its path only when it is complete; raises UsageError if that is taken."""
    path = Path(path)
    try:
        if path.exists():
            raise UsageError(Problem("already exists", fix="delete it, or choose another name", file=path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent) as folder:
            build = Path(folder) / "database"
            build.mkdir()
            writer = Writer(path, build)
            try:
                yield writer
            finally:
                writer.close()
            with suppress(FileNotFoundError):
                (build / LOCK).unlink()
            build.rename(path)
    except OSError as cause:
        raise DataError(os_problem(path, cause, "write")) from None


class Writer:
    """Puts records into a new database, many at once."""

    def __init__(self, path: Path, folder: Path):
        self.path = path
        try:
            self._env = lmdb.open(str(folder), map_size=_START, max_dbs=0)
        except lmdb.Error as cause:
            raise DataError(Problem(f"cannot be created: {cause}", file=path)) from None

    def put(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Add records (key, value) in one transaction; raises DataError for a key that is there, or a full disk."""
        records = list(records)
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    for key, value in records:
                        if not transaction.put(key, value, overwrite=False):
                            found = f"the key '{key.decode('utf-8', 'backslashreplace')}' stands twice"
                            raise DataError(Problem(found, "a key for each record", file=self.path))
                return
            except lmdb.MapFullError:
                self._env.set_mapsize(self._env.info()["map_size"] * 2)
            except lmdb.Error as cause:
                raise DataError(Problem(f"cannot be written: {cause}", fix=_space(self.path), file=self.path)) from None

    def close(self) -> None:
        """Write everything to the disk."""
        self._env.close()


def _space(path: Path) -> str:
    with suppress(OSError):
        return f"{shutil.disk_usage(path.parent).free:,} bytes are free on the disk"
    return ""
