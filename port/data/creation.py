"""Image and label databases from an image list and a label file, laid out as the authors' tool does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from prototxt_gen.base.errors import DataError, Problem, Problems, UsageError
from prototxt_gen.base.files import read_bytes, read_text
from prototxt_gen.base.machine import cores

from ..layers import show
from .database import LONGEST_KEY, new_database
from .datum import decode, encode, encoded_datum, image_datum, label_datum, stored_pixels
from .lists import Entry, read_list, shorten
from .paths import listed, located
from .transform import resize

ENCODINGS = ("jpg", "png")
LARGEST = 2**31 - 2**16  # bytes of pixels in a Datum: protobuf takes messages of less than 2 GiB
_CHUNK = 128  # images decoded side by side, and written in one transaction


@dataclass
class Created:
    """What `create` wrote."""

    images: Path
    labels: Path | None
    count: int
    classes: int = 0
    shapes: Counter[str] = field(default_factory=Counter)  # of the images, C x H x W -> how many
    counted: int = 0  # lines of the list whose integer is the number of positive labels, as in the authors' lists

    def __str__(self) -> str:
        shapes = ", ".join(f"{shape} ({count:,})" for shape, count in self.shapes.most_common(5))
        more = f" and {len(self.shapes) - 5} other sizes" if len(self.shapes) > 5 else ""
        lines = [f"{self.images}: {self.count:,} images, {shapes}{more}"]
        if len({shape.partition("x")[0] for shape in self.shapes}) > 1:
            lines.append("the files differ in channels: the Data layer needs force_color (or force_gray)")
        if self.labels:
            lines.append(f"{self.labels}: {self.count:,} rows of labels, {self.classes} classes")
        if 0 < self.counted < self.count:
            found = f"the list's integer is the number of positive labels in {self.counted:,} of {self.count:,} lines"
            lines.append(f"{found}: are list and labels in the same order?")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Form:
    """How an image is stored; `encoded` None: its pixels."""

    size: tuple[int, int] | None
    encoded: str | None
    grey: bool

    def datum(self, entry: Entry) -> tuple[str, bytes]:
        """The shape of an image in words, and its Datum; raises DataError."""
        with listed(entry.path):
            data = read_bytes(entry.path, DataError)
            if self.encoded == "" and not self.size and not self.grey:
                pixels = stored_pixels(data)
                return _shape(pixels), encoded_datum(data, entry.label)
            pixels = decode(data, cv2.IMREAD_GRAYSCALE if self.grey else cv2.IMREAD_COLOR)
            if self.size:
                pixels = resize(pixels, *self.size)
            if self.encoded is None:
                return _shape(pixels), image_datum(pixels, entry.label)
            return _shape(pixels), encoded_datum(encode(pixels, self.encoded or ENCODINGS[0]), entry.label)


def _shape(pixels: np.ndarray) -> str:
    """Channels, height and width in words, and the type where it is an unusual one."""
    shape = show((pixels.shape[2], *pixels.shape[:2]))
    return shape if pixels.dtype == np.uint8 else f"{shape} of {pixels.dtype}"


def create(
    images: str | Path,
    root: str | Path | None,
    output: str | Path,
    *,
    size: tuple[int, int] | None = None,
    encoded: str | None = None,
    grey: bool = False,
    labels: str | Path | None = None,
    label_output: str | Path | None = None,
    label_type: str = "float",
    shuffle: int | None = None,
    progress: bool = False,
) -> Created:
    """Write an LMDB of the images of a list (a path, a space, an integer), and one of their labels.

    `root`, with a slash, is glued before the paths; None: they stand as they are.
    Keys are the 8-digit index, "_" and the path, so that both are read in the order of the list, or of a
    shuffle with the seed `shuffle`. `size`: (height, width) to resize to. `encoded`: "" keeps the files' bytes
    (once resized: JPEG), "jpg" or "png" encodes anew, None stores pixels. `labels`: a file with a row of numbers
    for each image, stored as "float" or "uint8" under `label_output` (default: `output` + "_labels").
    Nothing appears unless all is well; raises DataError naming every bad line and image, UsageError.
    """
    if encoded not in (None, "", *ENCODINGS) or label_type not in ("float", "uint8"):
        raise UsageError(f"encoded {encoded!r}, label type {label_type!r}; see create's description")
    second = Path(label_output or f"{output}_labels")
    _check_options(size, Path(output), second, labels, label_output)
    entries = read_list(images, ".", "" if root is None else f"{root}/")
    rows = None if labels is None else _rows_of(labels, label_type, images, len(entries))
    _check_names(images, entries)
    turn = np.arange(len(entries)) if shuffle is None else np.random.default_rng(shuffle).permutation(len(entries))
    keys = [f"{place:08d}_{entries[i].name}".encode() for place, i in enumerate(turn)]
    made = Created(Path(output), None if rows is None else second, len(entries))
    with ExitStack() as stack:
        image_writer = stack.enter_context(new_database(output))
        if rows is not None:
            made.classes = rows.shape[1]
            made.counted = sum(int((row > 0).sum()) == entry.label for row, entry in zip(rows, entries, strict=True))
            writer = stack.enter_context(new_database(second))
            writer.put(zip(keys, (label_datum(rows[i]) for i in turn), strict=True))
        form = _Form(size, encoded, grey)
        chunks = _datums(images, [entries[i] for i in turn], form, progress)
        for start, datums in zip(range(0, len(keys), _CHUNK), chunks, strict=True):
            made.shapes.update(shape for shape, _ in datums)
            image_writer.put(zip(keys[start : start + _CHUNK], (datum for _, datum in datums), strict=True))
    return made


def _datums(
    source: str | Path, entries: Sequence[Entry], form: _Form, progress: bool
) -> Iterator[list[tuple[str, bytes]]]:
    """The Datums of all images, a chunk at a time; after the last, DataError naming all bad images."""

    def datum(entry: Entry) -> Any:
        try:
            with located(file=source, line=entry.line, field=entry.name):
                return form.datum(entry)
        except DataError as error:
            return error

    bar = tqdm(total=len(entries), unit="images", disable=None if progress else True)
    with bar, Problems(DataError, source) as problems, ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(entries), _CHUNK):
            results = list(pool.map(datum, entries[start : start + _CHUNK]))
            problems.found += [p for r in results if isinstance(r, DataError) for p in r.problems]
            bar.update(len(results))
            yield [("", b"") if isinstance(r, DataError) else r for r in results]
        shorten(problems, "images")


def _rows_of(labels: str | Path, kind: str, images: str | Path, count: int) -> np.ndarray:
    """The label rows of a list's images; raises DataError when there are not as many."""
    rows = read_label_rows(labels, kind)
    if len(rows) != count:
        found = f"{len(rows):,} rows for the {count:,} images of {images}"
        raise DataError(Problem(found, "a row for each image, in the same order", file=labels))
    return rows


def _check_options(size: Any, output: Path, second: Path, labels: Any, label_output: Any) -> None:
    """Raise UsageError for options that do not go together."""
    if size and 3 * size[0] * size[1] > LARGEST:
        found = f"{size[0]:,}x{size[1]:,} (height x width)"
        raise UsageError(Problem(found, f"images of at most {LARGEST:,} bytes, what a Datum holds", field="resize"))
    if labels is None:
        if label_output is not None:
            raise UsageError(Problem("a label database without labels", fix="give the file of the labels too"))
        return
    first, other = output.resolve(), second.resolve()
    if first == other or first in other.parents or other in first.parents:
        found = f"{output} for images and {second} for labels"
        raise UsageError(Problem(found, "two databases side by side", "choose another name for one"))


def read_label_rows(path: str | Path, kind: str = "float") -> np.ndarray:
    """The rows of a label file, (images, classes), float32 or uint8; raises DataError naming all bad lines."""
    lines = read_text(path, DataError).rstrip().splitlines()
    rows: list[np.ndarray] = []
    with Problems(DataError, path) as problems:
        for number, line in enumerate(lines, start=1):
            try:
                with np.errstate(over="ignore"):  # infinity is refused below
                    row = np.array(line.split(), np.float32)
            except ValueError:
                problems.add(f"'{line[:80]}'", line=number, expected="numbers with spaces between them")
                continue
            if not row.size or not np.isfinite(row).all():
                problems.add(f"'{line[:80]}'", line=number, expected="finite numbers, one for each class")
            elif rows and row.size != rows[0].size:
                problems.add(f"{row.size} labels", line=number, expected=f"{rows[0].size}, as in the first row")
            elif kind == "uint8" and not np.array_equal(row, row.astype(np.uint8)):
                problems.add(f"'{line[:80]}'", line=number, expected="0 to 255", fix="store labels as floats")
            rows.append(row)
        shorten(problems)
        if not lines:
            problems.add("the file is empty", expected="a row of labels for each image")
    return np.stack(rows).astype(np.uint8 if kind == "uint8" else np.float32)


def _check_names(source: str | Path, entries: Sequence[Entry]) -> None:
    with Problems(DataError, source) as problems:
        for entry in entries:
            length = len(entry.name.encode()) + len("00000000_")
            if length > LONGEST_KEY or "\0" in entry.name:
                expected = f"a key of at most {LONGEST_KEY} bytes without NUL"
                problems.add(f"a key of {length} bytes", line=entry.line, expected=expected, fix="shorten the path")
        shorten(problems)
