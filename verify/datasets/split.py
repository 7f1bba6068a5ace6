"""What every data set is read into: splits, and the crops that have to be cut for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.paper import DataSet

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Request:
    """What is asked for: a data set below `root`, and which part of it."""

    dataset: str  # as the command calls it
    root: Path
    output: Path
    image_root: Path | None = None
    splits: tuple[str, ...] = SPLITS
    subset: str = "all"
    accessible: Path | None = None
    progress: bool = False


@dataclass(frozen=True)
class Split:
    """One split: image paths below the image root, with "/", and labels (images, classes): 1, 0 and perhaps -1."""

    name: str
    images: list[str]
    labels: NDArray[np.int8]
    notes: tuple[str, ...] = ()

    @property
    def tags(self) -> NDArray[np.int64]:
        """Positive labels of each image."""
        return (self.labels == 1).sum(1)

    @property
    def signed(self) -> bool:
        """Whether 0 means unspecified, and -1 negative."""
        return bool((self.labels < 0).any())

    def kept(self, keep: NDArray[Any], note: str) -> Split:
        """The images that a mask or index keeps, with a note on it."""
        images = np.array(self.images, dtype=object)[keep].tolist()
        return replace(self, images=images, labels=self.labels[keep], notes=(*self.notes, note))


@dataclass(frozen=True)
class Crop:
    """A rectangle of an image file, in whole pixels (left, top, right, bottom), and the name of its own file."""

    source: Path
    box: tuple[int, int, int, int]
    name: str


@dataclass(frozen=True)
class Loaded:
    """A data set as read: its classes in the order of the label columns, its splits, and its crops if it needs any."""

    source: Source
    classes: Sequence[str]
    splits: dict[str, Split]
    image_root: Path
    annotations: dict[str, list[Path]]  # by split
    crops: dict[str, list[Crop]] = field(default_factory=dict)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)  # by split: what else decides the result
    selected: frozenset[str] = frozenset()  # splits that the index of accessible images restricts

    @property
    def key(self) -> str:
        """What names the data set in files."""
        return self.source.key


@dataclass(frozen=True)
class Source:
    """A data set: how it is read, and what the commands have to know about it."""

    load: Callable[[Request], Loaded]
    classes: Sequence[str]  # in the order of the label columns
    facts: DataSet  # its figures in the paper (or where else it was described)
    signed: bool = False  # its labels are 1, -1 and 0 (unspecified)
    has_index: bool = False  # the authors' index of images that could be fetched applies to it
    crops: str = ""  # the folder of the crops that it is cut into, below the output folder

    @property
    def key(self) -> str:
        """What names the data set in the authors' files, and in ours."""
        return self.facts.key
