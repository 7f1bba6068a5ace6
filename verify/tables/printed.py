"""The figures of the paper's Tables 1 to 3 (4), and of later methods, in percent with one decimal as printed."""

from __future__ import annotations

import csv
from importlib import resources

# Table number -> its file, and the data set that its figures are of.
TABLES = {1: "table1_nus_wide.tsv", 2: "table2_coco.tsv", 3: "table3_wider_attribute.tsv"}

# Table number -> methods published after the paper on the same data set, as a later paper's table lists them.
LATER = {2: "later_methods_coco.tsv"}


def read_table(number: int) -> dict[str, dict[str, float]]:
    """Method -> column -> percent of one table; a figure the paper does not give is left out."""
    return _read(TABLES[number])


def read_later(number: int) -> dict[str, dict[str, float]]:
    """The same of the methods that came after the paper; empty where no such table is known."""
    return _read(LATER[number]) if number in LATER else {}


def _read(name: str) -> dict[str, dict[str, float]]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return {
        line.pop("method"): {column: float(value) for column, value in line.items() if value}
        for line in csv.DictReader(text.splitlines(), delimiter="\t")
    }
