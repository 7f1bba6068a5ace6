"""Our lists beside the authors': the same images, the same order, the same label columns, the same labels?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from port.data.lists import MOST_LISTED

from .authors import Released
from .columns import Order, column_order
from .split import Split

# By how many parts of a path, from its end, images are matched; 0: all.
_PARTS = {0: "path", 2: "folder and file name", 1: "file name"}


@dataclass
class Comparison:
    """What was found about one split: `same` holds what agrees, `differs` what does not; true when nothing differs."""

    split: str
    same: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    order: Order | None = None  # of the label columns, where they could be compared
    rows: list[int] = field(default_factory=list)  # our rows (from 0) whose labels differ

    def __bool__(self) -> bool:
        return bool(self.same) and not self.differs

    def text(self) -> str:
        """Lines for people."""
        lines = [f"{self.split}: {line}" for line in self.same]
        return "\n".join(lines + [f"{self.split}: DIFFERS: {line}" for line in self.differs])


def compare(split: Split, released: Released, classes: Sequence[str]) -> Comparison:
    """Compare a split with the authors' lists of it; label rows are compared of the images that both have.

    Images are matched by their path, else by its end (folder and file name, then the file name alone); where none
    matches, or the authors' image list is not there, rows are compared in order.
    """
    result = Comparison(split.name)
    pairs = _match(split.images, released.images, result)
    _tags(released, result)
    if released.labels is None:
        result.differs.append("their label file is not there, so labels are not compared")
        return result
    if released.labels.shape[1] != len(classes):
        result.differs.append(f"their label file has {released.labels.shape[1]} columns, ours {len(classes)}")
        return result
    if pairs is None:
        if len(split.images) != len(released.labels):
            result.differs.append(
                f"their label file has {len(released.labels):,} rows, ours {len(split.images):,},"
                " so labels are not compared"
            )
            return result
        pairs = np.tile(np.arange(len(split.images)), (2, 1))
    ours, theirs = split.labels[pairs[0]], released.labels[pairs[1]]
    if split.signed and not (theirs < 0).any():
        result.same.append("their labels are 0 and 1: ours are compared with unspecified as negative")
        ours = (ours == 1).astype(np.int8)
    _labels(ours, theirs, pairs[0], split.images, classes, result)
    return result


def _match(ours: list[str], theirs: list[str] | None, result: Comparison) -> NDArray[Any] | None:
    """Rows of ours and theirs that are of one image, (2, pairs); None when they cannot be told."""
    if theirs is None:
        result.differs.append("their image list is not there, so images are not compared, and labels row by row")
        return None
    for parts in _PARTS:
        mine, other = ([_end(name, parts) for name in names] for names in (ours, theirs))
        rows = {name: row for row, name in enumerate(other)}
        unique = len(set(mine)) == len(mine) and len(rows) == len(other)
        common = [row for row, name in enumerate(mine) if name in rows]
        if common and (unique or not parts):
            break
    else:
        found = f"no image of theirs has a path of ours ({theirs[0]}, {ours[0]})"
        result.differs.append(f"{found}; labels are compared row by row")
        return None
    if repeated := len(other) - len(rows):
        result.differs.append(f"their list names {repeated:,} images more than once")
    pairs = np.array([common, [rows[mine[row]] for row in common]])
    here = set(mine)
    _images(
        ours, theirs, set(range(len(ours))) - set(common), [n for n, e in enumerate(other) if e not in here], result
    )
    if parts:
        place = f"theirs is {theirs[pairs[1][0]]}, ours {ours[common[0]]}"
        result.same.append(f"images are matched by {_PARTS[parts]}: {place}")
    _image_order(ours, pairs, result)
    return pairs


def _image_order(ours: list[str], pairs: NDArray[Any], result: Comparison) -> None:
    """Say whether matched images stand in one order in both lists."""
    falls = np.flatnonzero(np.diff(pairs[1]) <= 0)
    if not falls.size:
        result.same.append("the images stand in the same order")
        return
    mine, theirs = pairs[:, falls[0] + 1]
    result.differs.append(
        f"the images stand in another order: {ours[mine]} is line {mine + 1} of ours, line {theirs + 1} of theirs;"
        " scores and labels must come from lists of one order"
    )


def _end(name: str, parts: int) -> str:
    return "/".join(name.split("/")[-parts:]) if parts else name


def _images(ours: list[str], theirs: list[str], mine: set[int], other: list[int], result: Comparison) -> None:
    """Say which images only one of the lists has."""
    if not mine and not other:
        result.same.append(f"the same {len(ours):,} images")
    for rows, names, whose in ((sorted(mine), ours, "ours"), (other, theirs, "theirs")):
        if rows:
            shown = ", ".join(names[row] for row in rows[:MOST_LISTED])
            more = f" and {len(rows) - MOST_LISTED:,} more" if len(rows) > MOST_LISTED else ""
            result.differs.append(f"{len(rows):,} images are in {whose} alone: {shown}{more}")


def _tags(released: Released, result: Comparison) -> None:
    """Whether the authors' own two files agree: tags are the positive labels of an image."""
    if released.tags is None or released.labels is None:
        return
    wrong = int((released.tags != (released.labels == 1).sum(1)).sum())
    if wrong:
        result.differs.append(f"in {wrong:,} lines of their image list the number of tags is not that of their labels")


def _labels(
    ours: NDArray[Any],
    theirs: NDArray[Any],
    rows: NDArray[Any],
    images: Sequence[str],
    classes: Sequence[str],
    result: Comparison,
) -> None:
    """Say how the labels of matched rows stand to each other."""
    order = result.order = column_order(ours, theirs)
    if not order.identity:
        moved = [f"{j} is our {k} ({classes[k]})" for j, k in enumerate(order.ours, start=0) if j != k]
        certainty = "exactly" if order.exact else "best, if not exactly"
        result.differs.append(
            f"their label columns have another order ({certainty}; columns from 0): their column " + ", ".join(moved)
        )
    if order.exact and not order.unique:
        result.same.append("some columns are equal in all images, so their order among themselves cannot be told")
    wrong = (ours[:, order.ours] != theirs).any(1)
    result.rows = rows[wrong].tolist()
    if not result.rows:
        kind = "the same labels" if order.identity else "the same labels once the columns are ordered"
        result.same.append(f"{kind} in all {len(ours):,} images compared")
        return
    result.differs.append(f"{len(result.rows):,} of {len(ours):,} rows of labels differ:")
    arranged = ours[:, order.ours]
    for row in np.flatnonzero(wrong)[:MOST_LISTED]:
        words = [
            f"{classes[order.ours[c]]} {arranged[row, c]} (theirs {theirs[row, c]})"
            for c in np.flatnonzero(arranged[row] != theirs[row])[:5]
        ]
        result.differs.append(f"  line {rows[row] + 1}, {images[rows[row]]}: {', '.join(words)}")
    if len(result.rows) > MOST_LISTED:
        result.differs.append(f"  and {len(result.rows) - MOST_LISTED:,} more")
    both = sum((Counter(map(bytes, arranged)) & Counter(map(bytes, theirs))).values())
    if both > len(ours) - len(result.rows):
        result.differs.append(f"without regard to order, {both:,} rows of labels are in both")
