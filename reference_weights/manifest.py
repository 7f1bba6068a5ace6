"""The released files as data (`manifest.toml`), and what of them a folder holds."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from prototxt_gen.base.errors import DataError, Problem, UsageError, closest
from prototxt_gen.base.files import os_problem

_DEPTH = 3  # folders below a root that are looked into for a file that is not in its place
_SHOWN = 3


@dataclass(frozen=True)
class Archive:
    """One download: what it is, where the authors published it, and the folder it is unpacked to."""

    key: str
    what: str
    unpack_to: str
    page: str
    drive_id: str
    resource_key: str
    baidu: str = ""

    @property
    def drive_url(self) -> str:
        """The Google Drive address; without the resource key Drive refuses files this old."""
        return f"https://drive.google.com/open?id={self.drive_id}&resourcekey={self.resource_key}"


@dataclass(frozen=True)
class ReleasedFile:
    """One released file, or a group of files where the path has wildcards or ends in "/" (names unknown)."""

    path: str
    archive: Archive
    dataset: str  # nus_wide, coco, wider_att, or "all"
    role: str
    purpose: str
    contents: str = ""
    bytes: int | None = None  # None: unknown until somebody records it
    sha256: str | None = None

    @property
    def named(self) -> bool:
        """Whether the authors' name for it is known, so that a folder can be checked for it."""
        return not self.path.endswith("/")

    def below(self, root: str | Path) -> list[Path]:
        """The files under `root` that are this one; empty when it is missing."""
        if not self.named:
            return []
        return sorted(path for path in Path(root).glob(self.path) if path.is_file())


@dataclass(frozen=True)
class Found:
    """A file that is present: size in bytes, hash, and what contradicts the manifest ("" if nothing)."""

    path: Path
    bytes: int
    sha256: str
    mismatch: str


@cache
def _manifest() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("manifest.toml").read_text(encoding="utf-8"))


@cache
def _released() -> tuple[ReleasedFile, ...]:
    manifest = _manifest()
    archives = {key: Archive(key, page=manifest["page"], **entry) for key, entry in manifest["archives"].items()}
    entries = [
        {
            **entry,
            "dataset": dataset,
            **{field: entry[field].format(d=dataset, **about) for field in ("path", "purpose", "contents")},
        }
        for dataset, about in manifest["datasets"].items()
        for entry in manifest["per_dataset"]
    ]
    entries += manifest["files"]
    return tuple(ReleasedFile(**{**entry, "archive": archives[entry["archive"]]}) for entry in entries)


def datasets() -> list[str]:
    """The keys of the data sets: nus_wide, coco, wider_att."""
    return list(_manifest()["datasets"])


def images_from(dataset: str) -> str:
    """Where the images of a data set come from."""
    return str(_manifest()["datasets"][dataset]["images_from"])


def load(dataset: str | None = None) -> list[ReleasedFile]:
    """Every released file, or those of one data set; raises UsageError for an unknown one."""
    if dataset is not None and dataset not in datasets():
        raise UsageError(f"there is no data set '{dataset}'; {closest(dataset, datasets())}")
    return [file for file in _released() if dataset in (None, file.dataset)]


def missing(root: str | Path, dataset: str | None = "coco") -> list[ReleasedFile]:
    """The released files of a data set (None: all) that are not under `root` by the authors' names.

    Files whose names are unknown cannot be looked for and are left out. Raises DataError when `root` is no
    folder.
    """
    _folder(root)
    return [file for file in load(dataset) if file.named and not file.below(root)]


def paths(root: str | Path, dataset: str = "coco") -> dict[str, Path]:
    """Role (prototxt, caffemodel, image_list, labels, scores, ...) -> path, of the files under `root`."""
    _folder(root)
    return {file.role: found[0] for file in load(dataset) if (found := file.below(root))}


def elsewhere(file: ReleasedFile, root: str | Path) -> list[Path]:
    """Files in `root` or up to three folders below it that may be a missing one: of its name, or its name's stem.

    So is found what was unpacked one folder too deep, or not sorted into folders, or bears another ending.
    """
    wanted = Path(file.path)
    if not file.named or "*" in wanted.name:
        return []
    found = []
    for folder, folders, names in os.walk(root):
        depth = len(Path(folder).relative_to(root).parts)
        folders[:] = sorted(folders) if depth < _DEPTH else []
        found += [Path(folder, name) for name in names if os.path.splitext(name)[0].lower() == wanted.stem.lower()]
    return sorted(found, key=lambda path: (path.name != wanted.name, path))[:_SHOWN]


def describe(files: Sequence[ReleasedFile]) -> str:
    """The files under the archive they come in, with its addresses; for people."""
    lines = []
    for archive in dict.fromkeys(file.archive for file in files):
        lines += ["", f"{archive.what}; unpack to {archive.unpack_to}/", f"  page   {archive.page}"]
        lines += [f"  Drive  {archive.drive_url}"]
        lines += [f"  Baidu  {archive.baidu}"] if archive.baidu else []
        for file in files:
            if file.archive is archive:
                lines.append(f"    {file.path}")
                lines.append(f"        {file.purpose}{'; ' if file.contents else ''}{file.contents}")
    return "\n".join(lines[1:])


def inspect(file: ReleasedFile, root: str | Path) -> list[Found]:
    """Size and hash of the files under `root` that are this one; raises DataError when one cannot be read."""
    found = []
    for path in file.below(root):
        try:
            with path.open("rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
            size = path.stat().st_size
        except OSError as cause:
            raise DataError(os_problem(path, cause, "read")) from None
        mismatch = []
        if file.bytes not in (None, size):
            mismatch.append(f"{file.bytes:,} bytes expected")
        if file.sha256 not in (None, digest):
            mismatch.append(f"sha256 {file.sha256} expected")
        if size == 0:
            mismatch.append("the file is empty")
        found.append(Found(path, size, digest, ", ".join(mismatch)))
    return found


def _folder(root: str | Path) -> None:
    if not Path(root).is_dir():
        raise DataError(Problem("is not a folder", "the root that holds models/, datasets/, ...", file=root))
