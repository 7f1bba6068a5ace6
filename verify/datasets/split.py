"""What every data set is read into: splits, and the crops that have to be cut for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "test")
# As the command calls the data sets, and as the authors' files do.
KEYS = {"coco": "coco", "nus_wide": "nus_wide", "wider_attribute": "wider_att"}


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

    key: str  # of prototxt_gen.paper.DATASETS
    classes: Sequence[str]
    splits: dict[str, Split]
    image_root: Path
    annotations: dict[str, list[Path]]  # by split
    crops: dict[str, list[Crop]] = field(default_factory=dict)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)  # by split: what else decides the result
    selected: frozenset[str] = frozenset()  # splits that the index of accessible images restricts
