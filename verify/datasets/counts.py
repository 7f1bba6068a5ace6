"""How a data set's figures compare with the paper's and the release's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prototxt_gen.base.columns import columns
from prototxt_gen.paper import DataSet

from .split import Loaded, Split

_POSITION = {"train": 0, "test": 1}


@dataclass(frozen=True)
class Counts:
    """Figures of the splits beside the paper's; true when images and classes are as many."""

    loaded: Loaded

    @property
    def paper(self) -> DataSet:
        return self.loaded.source.facts

    def expected(self, split: str) -> tuple[int, int | None]:
        """Images of a split in the paper, and in the release where it has fewer."""
        paper = (self.paper.training_images, self.paper.test_images)[_POSITION[split]]
        return paper, self.paper.released[_POSITION[split]] if self.paper.released else None

    @property
    def differences(self) -> list[str]:
        """What is not as in the paper (or the release), a sentence each."""
        found = []
        if len(self.loaded.classes) != self.paper.classes:
            found.append(f"{len(self.loaded.classes)} classes; the paper has {self.paper.classes}")
        for name, split in self.loaded.splits.items():
            paper, release = self.expected(name)
            count = len(split.images)
            # the index of accessible images belongs to the release alone
            allowed = [release] if name in self.loaded.selected else [paper, release]
            if count not in allowed:
                text = f"{name}: {count:,} images, {count - paper:+,} against the {paper:,} of the paper"
                found.append(
                    text + (f", {count - release:+,} against the {release:,} of the release" if release else "")
                )
        return found

    def __bool__(self) -> bool:
        return not self.differences

    def text(self) -> str:
        """A table, the mean number of labels, notes, and what differs."""
        head = ["split", "images", "paper", "release", "without label", "labels per image"]
        rows = [head, *(self._row(split) for split in self.loaded.splits.values())]
        lines = [f"{self.paper.name}: {len(self.loaded.classes)} classes (paper: {self.paper.classes})"]
        lines += columns(rows, right=range(1, len(head)))
        if self.paper.labels_per_image is not None:
            tags = np.concatenate([split.tags for split in self.loaded.splits.values()])
            lines.append(f"labels per image: {tags.mean():.2f} (paper: {self.paper.labels_per_image})")
        for split in self.loaded.splits.values():
            lines += [f"{split.name}: {note}" for note in split.notes]
        return "\n".join(lines + [f"DIFFERS: {text}" for text in self.differences])

    def _row(self, split: Split) -> list[str]:
        paper, release = self.expected(split.name)
        tags = split.tags
        return [
            split.name,
            f"{len(split.images):,}",
            f"{paper:,}",
            f"{release:,}" if release else "-",
            f"{int((tags == 0).sum()):,}",
            f"{tags.mean():.2f}",
        ]
