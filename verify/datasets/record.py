"""What the output folder holds, as JSON: how each split was made, and the sha256 of its files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from prototxt_gen.base.errors import DataError, Problem, UsageError
from prototxt_gen.base.files import read_bytes, read_text, write_text

VERSION = 1  # another number, other files
_FIX = "choose another --output, or delete what is in this one"


class Record:
    """The file KEY_dataset.json of an output folder; tells this command's files from anybody else's."""

    def __init__(self, folder: Path, key: str):
        """Open the record of a folder, a new one if there is none; raises DataError for a file that is none."""
        self.folder, self.key = folder, key
        self.path = folder / f"{key}_dataset.json"
        self.splits: dict[str, Any] = {}
        if self.path.exists():
            try:
                self.splits = json.loads(read_text(self.path, DataError))["splits"]
                if not all(isinstance(each["settings"], dict) for each in self.splits.values()):
                    raise TypeError
            except (ValueError, KeyError, TypeError, AttributeError):
                raise DataError(Problem("this is no record of such a folder", fix=_FIX, file=self.path)) from None

    def check(self, split: str, settings: dict[str, Any], files: dict[Path, str], others: list[Path]) -> None:
        """Raise UsageError when the folder has this split made otherwise, or files that are not this command's.

        `files`: texts to be written; `others`: folders and databases.
        """
        there = self.splits.get(split)
        if there is not None:
            if there["settings"] != settings:
                differ = [key for key in settings if there["settings"].get(key) != settings[key]]
                found = f"split '{split}' is here already, made otherwise: {', '.join(differ) or 'other settings'}"
                raise UsageError(Problem(found, "the same annotations and options", _FIX, file=self.path))
            return
        foreign = [path for path, text in files.items() if path.exists() and not _same(path, text)]
        foreign += [path for path in others if path.exists()]
        if foreign:
            found = "there is such a file already, and this command did not write it"
            raise UsageError(Problem(found, fix=_FIX, file=path) for path in foreign)

    def begin(self, split: str, settings: dict[str, Any]) -> None:
        """Say that a split is being made."""
        entry = self.splits.setdefault(split, {"settings": settings})
        entry["complete"] = False
        self._save()

    def databases(self, split: str) -> bool:
        """Whether the databases of a split were made of the lists that are there."""
        entry = self.splits.get(split, {})
        return bool(entry.get("databases")) and entry.get("files") == entry["databases"]

    def finish(self, split: str, facts: dict[str, Any], files: list[Path]) -> None:
        """Say that a split is complete, with the sha256 of its files."""
        entry = self.splits[split]
        digests = {path.name: sha256(path) for path in files}
        entry |= {**facts, "files": digests, "complete": True}
        self._save()

    def made_databases(self, split: str, done: bool) -> None:
        """Say whether the databases of a split are complete."""
        entry = self.splits[split]
        entry["databases"] = dict(entry["files"]) if done else {}
        self._save()

    def _save(self) -> None:
        data = {"dataset": self.key, "version": VERSION, "splits": dict(sorted(self.splits.items()))}
        write_text(self.path, json.dumps(data, indent=1, sort_keys=True) + "\n")


def sha256(path: Path) -> str:
    """The sha256 of a file; raises DataError."""
    return hashlib.sha256(read_bytes(path, DataError)).hexdigest()


def _same(path: Path, text: str) -> bool:
    return path.is_file() and read_bytes(path, DataError) == text.encode()
