"""The names of classes: a line each, as in synset_words.txt, or SSD's label map."""

from __future__ import annotations

import re
from pathlib import Path

from prototxt_gen.base.errors import DataError, Problem
from prototxt_gen.base.files import read_text

_SYNSET = re.compile(r"n\d{8}\s+(\S.*)")
_ITEM = re.compile(r"item\s*\{([^{}]*)\}")


def read_labels(path: str | Path, classes: int) -> list[str]:
    """The names of so many classes, one a line. Where all lines begin with a WordNet number it is left out, and what
    follows the first comma, as in Caffe's classify.py. Raises DataError for another number of lines.
    """
    lines = [line.strip() for line in read_text(path, DataError).rstrip().splitlines()]
    if len(lines) != classes:
        found = f"{len(lines)} lines"
        raise DataError(
            Problem(found, f"{classes}, one for each class of the net", "is this the net's list?", file=path)
        )
    named = [_SYNSET.fullmatch(line) for line in lines]
    return [match[1].split(",")[0] for match in named if match] if all(named) else lines


def read_label_map(path: str | Path, labels: int | None, first: int = 0) -> dict[int, str]:
    """Label -> name, from SSD's label map (a prototxt of items) or a list of lines.

    `labels`: how many the net knows, the background's included (None: unknown). A list has a line for each; or, where
    label 0 is the background (`first` 1), one for each but it. Raises DataError.
    """
    text = read_text(path, DataError)
    if items := _ITEM.findall(text):
        return dict(_item(path, item) for item in items)
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if labels is None or len(lines) == labels:
        return dict(enumerate(lines))
    if len(lines) == labels - first:
        return dict(enumerate(lines, first))
    expected = f"{labels}" + (f", or {labels - first} without the background" if first else "")
    raise DataError(Problem(f"{len(lines)} lines", expected, "is this the net's list?", file=path))


def _item(path: str | Path, text: str) -> tuple[int, str]:
    """An item of a label map; the name that is shown, or the short one."""
    number = re.search(r"\blabel\s*:\s*(-?\d+)", text)
    names = dict(re.findall(r"\b(name|display_name)\s*:\s*[\"']([^\"']*)[\"']", text))
    if not number or not names:
        raise DataError(Problem(f"an item {{{' '.join(text.split())}}}", "a name and a label", file=path))
    return int(number[1]), names.get("display_name") or names["name"]
