"""Reading inputs and writing outputs so that a user never meets a traceback or half a file."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import CaffeError, Problem
from .formats import CHECK, HEAD, PLAIN, refusal


def os_problem(path: str | Path, error: OSError, doing: str) -> Problem:
    """An operating system's refusal as a `Problem` that names the file and the way out."""
    hints = {
        FileNotFoundError: "check the path",
        IsADirectoryError: "name a file, not a folder",
        PermissionError: "check the permissions",
    }
    return Problem(f"cannot {doing}: {error.strerror or error}", file=path, fix=hints.get(type(error), ""))


def read_bytes(path: str | Path, error: type[CaffeError] = CaffeError) -> bytes:
    """The bytes of a file; raises `error` naming the file when it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as cause:
        raise error(os_problem(path, cause, "read")) from None


def read_head(path: str | Path, error: type[CaffeError] = CaffeError, size: int = HEAD) -> bytes:
    """The first bytes of a file; raises `error` naming the file when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError as cause:
        raise error(os_problem(path, cause, "read")) from None


def read_text(path: str | Path, error: type[CaffeError] = CaffeError) -> str:
    """The text (UTF-8, without a byte order mark) of a file; raises `error` for a missing or binary file."""
    data = read_bytes(path, error)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        found = f"byte {cause.start} is not UTF-8 text"
        problem = Problem(found, "a text file", "is this a binary file?", file=path)
        other = refusal(data[:HEAD], "a text file in UTF-8", path, own=PLAIN, fix=CHECK)
        raise error(other or problem) from None


def unwritable(path: str | Path, fix: str = "choose another name") -> list[Problem]:
    """What keeps `atomic_write` from writing a file, to be found before hours are spent; empty when nothing does."""
    path = Path(path)
    try:
        status = path.stat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as cause:
        if not isinstance(cause, NotADirectoryError):
            return [Problem(f"cannot be written: {getattr(cause, 'strerror', None) or cause}", fix=fix, file=path)]
    else:
        if stat.S_ISDIR(status.st_mode):
            return [Problem("is a folder", "the name of a file", fix, file=path)]
        if not stat.S_ISREG(status.st_mode):
            return [_device(path, fix)]
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return [Problem("cannot be written", "a writable folder", fix, file=path)]
    return []


def _device(path: Path, fix: str = "choose another name") -> Problem:
    return Problem("is a device or a pipe, which a whole file cannot replace", "the name of a file", fix, file=path)


def same_file(first: str | Path, second: str | Path) -> bool:
    """Whether two names are of one file that exists, by links too."""
    try:
        return os.path.samefile(first, second)
    except (OSError, ValueError):
        return False


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """A file that appears under its name only when it is complete; raises CaffeError (disk full, no folder).

    Devices and pipes (/dev/null, /dev/stdout) are refused: to rename a file over one would destroy it.
    """
    path = Path(path)
    encoding = None if "b" in mode else "utf-8"
    temporary = None
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise CaffeError(_device(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes private files
        os.replace(temporary, path)
        temporary = None
    except OSError as cause:
        raise CaffeError(os_problem(path, cause, "write")) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write a text file under its name at once or not at all."""
    with atomic_write(path, "w") as file:
        file.write(text)
