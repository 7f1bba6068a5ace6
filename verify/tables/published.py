"""The tables as the paper prints them: methods, columns, percent with one decimal, and how they were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prototxt_gen.base.errors import UsageError, closest
from prototxt_gen.nets import NETWORKS
from prototxt_gen.paper import DATASETS

from .printed import TABLES, read_later, read_table

Figures = Mapping[str, float]

ROW = "ResNet-SRN"  # the paper's own net: what is compared unless a row is named
TOP3 = "@3"  # ends the columns that are of each image's three most confident labels


@dataclass(frozen=True)
class PublishedTable:
    """One table of the paper: method -> column -> percent; `key` names the data set in files and options."""

    number: int
    key: str
    dataset: str
    images: int  # test images behind the figures
    classes: int
    rows: Mapping[str, Figures]
    protocol: str = "srn"  # how labels are read: `metrics.PROTOCOLS`
    top3_threshold: bool = True  # whether labels below 0.5 are dropped from the top 3
    later: Mapping[str, Figures] = field(default_factory=dict)  # methods after the paper

    @property
    def columns(self) -> list[str]:
        """The columns in the paper's order; those of the top 3 end in "@3"."""
        fullest = max(self.rows, key=lambda name: len(self.rows[name]))
        return list(self.rows[fullest])

    def row(self, name: str) -> Figures:
        """The published figures of a method; raises UsageError naming the closest one."""
        if name not in self.rows:
            raise UsageError(f"Table {self.number} has no row '{name}'; {closest(name, self.rows)}")
        return self.rows[name]

    def quoted(self, name: str) -> bool:
        """Whether the paper took a row from elsewhere: nobody can reproduce it with what the paper describes."""
        return name not in NETWORKS


# Paper section 4.1. WIDER-Attribute has unspecified labels; on NUS-WIDE all of the top 3 count.
_TABLES = {1: ("nus_wide", "srn", False), 2: ("coco", "srn", True), 3: ("wider_att", "wider", True)}


def load_table(number: int) -> PublishedTable:
    """Table 1 (NUS-WIDE), 2 (MS-COCO) or 3 (WIDER-Attribute) of the paper; raises UsageError for another.

    The images of NUS-WIDE are those of the release, which are fewer than the paper's.
    """
    if number not in TABLES:
        raise UsageError(f"there is no Table {number}; choose one of: {', '.join(map(str, TABLES))}")
    key, protocol, threshold = _TABLES[number]
    data = DATASETS[key]
    images = data.released[1] if data.released else data.test_images
    rows, later = read_table(number), read_later(number)
    return PublishedTable(number, key, data.name, images, data.classes, rows, protocol, threshold, later)
