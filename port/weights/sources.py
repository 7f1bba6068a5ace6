"""Where a net came from: its files with their SHA-256, and the versions that made an export of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

CHUNK = 1 << 22  # bytes read at a time
CHANGED = "unknown: the file changed after it was read"
NONE = "none"


@dataclass(frozen=True)
class Source:
    """A file as it was when it was read: its role (prototxt, caffemodel), and what tells whether it still is that."""

    role: str
    path: str
    stamp: tuple[int, int] | None  # size in bytes, time of change in ns; None: it could not be asked

    @property
    def sha256(self) -> str:
        """The digest in hexadecimal, or that the file is no longer the one that was read."""
        if self.stamp is None or _stamp(self.path) != self.stamp:
            return CHANGED
        digest = hashlib.sha256()
        try:
            with open(self.path, "rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
        except OSError:
            return CHANGED
        return digest.hexdigest() if _stamp(self.path) == self.stamp else CHANGED


def sources(role: str, paths: Iterable[str | Path]) -> list[Source]:
    """The files of a role, as they are now; hashed only when somebody asks."""
    return [Source(role, str(Path(path).absolute()), _stamp(path)) for path in paths]


def _stamp(path: str | Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def file_facts(found: Iterable[Source]) -> dict[str, str]:
    """Names and digests by role: `caffe_prototxt`, `caffe_prototxt_sha256`, and so on; several files as a comma list.

    A digest is of the file that was read; weights that were changed in memory since then are not noticed.
    """
    facts: dict[str, str] = {}
    found = list(found)
    for role in ("prototxt", "caffemodel"):
        files = [source for source in found if source.role == role]
        facts[f"caffe_{role}"] = ",".join(Path(source.path).name for source in files) or NONE
        facts[f"caffe_{role}_sha256"] = ",".join(source.sha256 for source in files) or NONE
    return facts


def versions(*packages: str) -> dict[str, str]:
    """Versions of this project and of some packages, as `caffe-srn_version` and so on."""
    return {f"{name}_version": _version(name) for name in ("caffe-srn", *packages)}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a copy of the sources
        return "not installed"


def provenance(net: Any, *packages: str) -> dict[str, str]:
    """What an export says of its origin: files and digests, dialect, packs, phase, versions; all of it text."""
    graph, report = net.caffe, getattr(net, "report", None)
    facts = {
        "caffe_dialect": graph.dialect,
        "caffe_packs": ",".join(sorted(graph.packs)) or NONE,
        "caffe_phase": graph.state.phase,
        **file_facts(getattr(report, "sources", ())),
        **versions(*packages),
    }
    if graph.state.stages:
        facts["caffe_stages"] = ",".join(graph.state.stages)
    if graph.faithful_bugs:
        facts["caffe_faithful_bugs"] = "true"
    return facts
