"""The released files of one data set: found under the authors' names, read, and each held against the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.base.errors import CaffeError, DataError, Problem, Problems
from prototxt_gen.base.files import read_text
from prototxt_gen.paper import DATASETS
from reference_weights import manifest

from ..evaluation.scores import read_labels, read_scores
from ..tables import PublishedTable
from .faults import Fault, damaged

_MAX_LISTED = 20
MISSING_FIX = "--dry-run says where the file was published"


@dataclass
class Release:
    """What a folder holds for one table; what could not be read is None, and why is among the faults.

    `names`, `tags`, `labels` and `scores` have an entry per line of their files; `rows` are the lines that
    are evaluated, from 0.
    """

    root: Path
    table: PublishedTable
    paths: dict[str, Path]
    names: list[str] | None = None
    tags: NDArray[np.int64] | None = None  # labels per image, as the list has it
    labels: NDArray[np.int8] | None = None
    scores: NDArray[np.float64] | None = None
    rows: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    faults: list[Fault] = field(default_factory=list)
    remarks: tuple[str, ...] = ()  # on which images are evaluated

    @property
    def positives(self) -> NDArray[np.int64] | None:
        """Labels per image, as the label file has it."""
        return None if self.labels is None else np.asarray((self.labels == 1).sum(axis=1))


def read_release(root: Path, table: PublishedTable) -> Release:
    """Read every text file of a release that is there; what is wrong with any of them becomes a fault.

    Raises DataError only when `root` is no folder.
    """
    release = Release(root, table, manifest.paths(root, table.key))
    _recorded(release)
    release.scores = _read(release, "scores", read_scores)
    release.labels = _read(release, "labels", lambda path: read_labels(path, protocol=table.protocol))
    listed = _read(release, "image_list", read_list)
    if listed is not None:
        release.names, release.tags = listed
    _columns(release)
    _contents(release)
    lines = _lines(release)
    if lines:
        release.rows = np.arange(lines)
        _restrict(release, lines)
    return release


def read_list(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Names and numbers of tags of an image list; raises DataError naming the lines that are malformed."""
    lines = read_text(path, DataError).rstrip().splitlines()
    if not lines:
        raise DataError(Problem("the list is empty", "one image per line", file=path))
    pairs = []
    with Problems(DataError, file=path) as problems:
        for number, line in enumerate(lines, start=1):
            name, *tags = line.strip().rsplit(maxsplit=1) or [""]  # a tab will do
            if not tags or not tags[0].isdecimal():
                problems.add(f"'{line}'", line=number, expected="a path, a space and the number of tags")
            else:
                pairs.append((name, int(tags[0])))
        if len(problems.found) > _MAX_LISTED:
            left = len(problems.found) - _MAX_LISTED
            problems.found[_MAX_LISTED:] = [Problem(f"{left:,} more such lines", file=path)]
    return [name for name, _ in pairs], np.array([tags for _, tags in pairs])


def classes_of(count: int, other_than: str) -> str:
    """Which other data sets have so many classes, in words; "" if none has."""
    names = [data.name for key, data in DATASETS.items() if data.classes == count and key != other_than]
    return f"as {' and '.join(names)} has" if names else ""


def _recorded(release: Release) -> None:
    """Sizes and hashes, where the manifest has them."""
    for file in manifest.load(release.table.key):
        known = file.bytes is not None or file.sha256 is not None
        for found in manifest.inspect(file, release.root) if known else []:
            if found.mismatch:
                text = f"{found.bytes:,} bytes, sha256 {found.sha256}; {found.mismatch}"
                release.faults.append(Fault("damaged", text, found.path, fix="fetch the file again"))


def _read(release: Release, role: str, reader: Callable[[Path], Any]) -> Any:
    path = release.paths.get(role)
    if path is None:
        return None
    try:
        return reader(path)
    except CaffeError as error:
        release.faults.append(damaged(path, error))
        return None


def _columns(release: Release) -> None:
    """Labels and scores must have the data set's columns; a file that has others is not used."""
    want = release.table.classes
    for role in ("labels", "scores"):
        array = getattr(release, role)
        if array is None or array.shape[1] == want:
            continue
        text = f"{array.shape[1]} columns; expected {want}, the classes of {release.table.dataset}"
        whose = classes_of(array.shape[1], release.table.key)
        kind = "other data set" if whose else "damaged"
        release.faults.append(Fault(kind, f"{text}{'; ' if whose else ''}{whose}", release.paths[role]))
        setattr(release, role, None)


def _contents(release: Release) -> None:
    """Labels without a positive (or a negative), and the same scores for every image, are none; they are not used."""
    if release.labels is not None and not (release.labels == 1).any():
        text = "no label is 1, in any line"
        release.faults.append(Fault("damaged", text, release.paths["labels"], fix="fetch the file again"))
        release.labels = None
    if release.labels is not None and release.table.protocol == "wider" and not (release.labels == -1).any():
        text = "no label is -1: 0 stands for unspecified, so nothing would count as negative and every AP would be 1"
        fix = "labels of 0 and 1 are for training; the evaluation takes 1, -1 and 0"
        release.faults.append(Fault("damaged", text, release.paths["labels"], fix=fix))
        release.labels = None
    scores = release.scores
    if scores is not None and len(scores) > 1 and (scores == scores[0]).all():
        text = f"all {len(scores):,} lines have the same scores"
        release.faults.append(Fault("damaged", text, release.paths["scores"], fix="fetch the file again"))
        release.scores = None


def _lines(release: Release) -> int:
    """The number of images: that of most files; a file with another number is a fault and is not used."""
    held = {"image_list": release.names, "labels": release.labels, "scores": release.scores}
    counts = {role: len(values) for role, values in held.items() if values is not None}
    if not counts:
        return 0
    (most, votes), *_ = Counter(counts.values()).most_common()
    for role, count in counts.items():
        if count != most or (votes == 1 and len(counts) > 1):
            others = ", ".join(f"{release.paths[r].name} has {n:,}" for r, n in counts.items() if r != role)
            fix = "fetch the file again: the file with fewer lines may be cut off"
            release.faults.append(Fault("damaged", f"{count:,} lines; {others}", release.paths[role], fix=fix))
            if role == "image_list":
                release.names = release.tags = None
            else:
                setattr(release, role, None)
    return most if votes > 1 or len(counts) == 1 else 0


def _restrict(release: Release, lines: int) -> None:
    """NUS-WIDE is evaluated on the images of `idx_final_test` alone, indices from 1."""
    file = next((file for file in manifest.load(release.table.key) if file.role == "index"), None)
    if file is None:
        return
    from ..datasets.index import read_index  # NUS-WIDE alone needs it, and what reads MATLAB files

    index = _read(release, "index", lambda path: read_index(path, lines))
    if index is None:
        if "index" not in release.paths:
            text = f"which of the {lines:,} images are evaluated is not known"
            release.faults.append(Fault("missing", text, release.root / file.path, fix=MISSING_FIX))
        release.rows = np.zeros(0, np.intp)
    else:
        release.rows = index
        release.remarks += (f"{len(index):,} of {lines:,} images are evaluated, those of {file.path}",)
