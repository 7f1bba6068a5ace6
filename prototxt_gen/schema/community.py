"""What the forks of Caffe add to the schema: the fields of each, with the numbers they have in its binary files.

A text file names its fields, so both dialects know those of all forks at once (`union_rows`). In a binary file a
number means what its fork made of it (`fork_rows`).
"""

from __future__ import annotations

import csv
from collections.abc import Container, Iterable, Iterator
from functools import cache
from importlib import resources

# Every fork of the table but the authors' own, which is a dialect; of clashing declarations the first one's is read.
FORKS = (
    "nvidia",
    "intel",
    "mobilenet_yolo",
    "synopsys",
    "happynear",
    "pspnet",
    "flownet2",
    "c3d",
    "faster_rcnn_fpn",
    "lrcn",
    "hed",
    "jolibrain",
    "deeplab_v1",
    "c3d_v1",
    "enet",
    "textboxes",
    "openpose",
    "crnn",
    "ristretto",
)

_FIRST_FREE = 1_000_000  # numbers that no Caffe has, for fields whose own number means something else here
_RESERVED = range(19_000, 20_000)  # protobuf's own

Row = dict[str, str]


@cache
def community_rows() -> tuple[Row, ...]:
    """The table: message (or enum), kind, name, number, label, type, default, and the forks that declare it so."""
    text = resources.files(__package__).joinpath("community.tsv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
    # A message inside another one (`A.B`) stands on its own here, as A_B: what it is called is in no file.
    nested = {
        name: name.replace(".", "_") for row in rows if "." in (name := row["message"]) and row["kind"] == "field"
    }
    return tuple(_completed(row, nested) for row in rows)


def _completed(row: Row, nested: dict[str, str]) -> Row:
    kind = row["type"].removeprefix("packed ")
    packed = kind != row["type"]
    label = "repeated" if packed else row["label"]
    more = {"message": nested.get(row["message"], row["message"]), "type": nested.get(kind, kind)}
    return {**row, **more, "label": label, "packed": str(int(packed)), "deprecated": "0"}


def forks_of(row: Row) -> list[str]:
    """The forks that declare a row."""
    return [fork for fork in row["forks"].split() if fork in FORKS]


@cache
def field_forks() -> dict[tuple[str, str], tuple[str, ...]]:
    """(message, field) -> the forks that have it, in the table's order; the field's number differs between them."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in community_rows():
        if row["kind"] == "field":
            found.setdefault((row["message"], row["name"]), []).extend(forks_of(row))
    return {key: tuple(dict.fromkeys(forks)) for key, forks in found.items()}


@cache
def field_defaults() -> dict[tuple[str, str], frozenset[str]]:
    """(message, field) -> its defaults, which may differ between the forks that have it."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in community_rows():
        if row["kind"] == "field":
            found.setdefault((row["message"], row["name"]), set()).add(row["default"])
    return {key: frozenset(defaults) for key, defaults in found.items()}


@cache
def value_forks() -> dict[tuple[str, str], tuple[str, ...]]:
    """(enum, value) -> the forks that have it."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in community_rows():
        if row["kind"] != "field":
            found.setdefault((row["message"], row["name"]), []).extend(forks_of(row))
    return {key: tuple(dict.fromkeys(forks)) for key, forks in found.items()}


def _first(row: Row) -> int:
    return min(FORKS.index(fork) for fork in forks_of(row))


def union_rows(base: Iterable[Row], owned: Container[str] = ()) -> Iterator[Row]:
    """The rows that all forks together add to a dialect's; none of a message in `owned`, which a user has defined.

    A field that two forks declare differently is read as the first of them has it, a list if it is one anywhere.
    """
    names: dict[str, set[str]] = {}
    numbers: dict[str, set[int]] = {}
    for row in base:
        names.setdefault(row["message"], set()).add(row["name"])
        numbers.setdefault(row["message"], set()).add(int(row["number"]))
    free = _FIRST_FREE
    lists = {(row["message"], row["name"]) for row in community_rows() if row["label"] == "repeated"}
    for row in sorted(filter(forks_of, community_rows()), key=_first):
        message, name, number = row["message"], row["name"], int(row["number"])
        known, taken = names.setdefault(message, set()), numbers.setdefault(message, set())
        if name in known or message in owned:
            continue
        if number in taken or number in _RESERVED:
            free += 1
            number = free
        known.add(name)
        taken.add(number)
        label = "repeated" if (message, name) in lists and row["kind"] == "field" else row["label"]
        yield {**row, "number": str(number), "label": label, "default": "" if label == "repeated" else row["default"]}


def fork_rows(base: Iterable[Row], fork: str) -> list[Row]:
    """The schema of one fork: the base's rows without names and numbers that the fork uses otherwise, and its own."""
    own = [row for row in community_rows() if fork in row["forks"].split()]
    enums = {row["message"] for row in own if row["kind"] != "field"}  # a fork's enum is listed whole
    names = {(row["message"], row["name"]) for row in own}
    numbers = {(row["message"], row["number"]) for row in own}
    kept = [
        row
        for row in base
        if (row["message"], row["name"]) not in names
        and (row["message"], row["number"]) not in numbers
        and row["message"] not in enums
    ]
    return [*kept, *own]
