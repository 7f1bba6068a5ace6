"""What reads the items of each data layer: item by index, each top's part of it transformed and in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from prototxt_gen.base.errors import DataError, Problem
from prototxt_gen.base.files import read_bytes

from .database import Database
from .datum import datum_values, decode, parse_datum
from .lists import Entry
from .paths import listed
from .transform import Tensor, Transformer, resize

Item = tuple[np.ndarray, ...]


class Reader(Protocol):
    """Items by index."""

    def __len__(self) -> int: ...

    def read(self, index: int, rng: np.random.Generator) -> Item:
        """One array for each top, without the batch axis; what is random is drawn from `rng`."""

    def place(self, index: int) -> dict[str, Any]:
        """Where an item comes from, as parts of a Problem."""

    def candidates(self, index: int) -> Iterator[tuple[Tensor, float]]:
        """Every first top that the rules can give for an item, with its probability."""


class Pictures:
    """Readers of items (height, width, channels) that a Transformer turns into the first top."""

    transformer: Transformer
    as_image = True

    def pixels(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, Any, bool]:
        """An item before the transformer, its label, and whether it is a decoded image."""
        raise NotImplementedError

    def read(self, index: int, rng: np.random.Generator) -> Item:
        pixels, label, as_image = self.pixels(index, rng)
        return self.transformer(pixels, rng, as_image), np.asarray(label, np.float32)

    def candidates(self, index: int) -> Iterator[tuple[Tensor, float]]:
        pixels, _, as_image = self.pixels(index, np.random.default_rng(0))
        return self.transformer.candidates(pixels, as_image)


class DatumReader(Pictures):
    """Data: the records of a database."""

    def __init__(self, database: Database, transformer: Transformer, color: int):
        self.database, self.transformer, self.color = database, transformer, color

    def __len__(self) -> int:
        return len(self.database)

    def pixels(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, Any, bool]:
        datum = parse_datum(self.database[index])
        return datum_values(datum, self.color), datum.label, datum.encoded

    def place(self, index: int) -> dict[str, Any]:
        return {"file": self.database.path, "field": f"record {self.database.name(index)}"}


class ImageReader(Pictures):
    """ImageData: the image files of a list, resized to `size` (height, width) unless that is (0, 0)."""

    def __init__(self, source: Path, entries: Sequence[Entry], transformer: Transformer, color: int, size: Any):
        self.source, self.entries, self.transformer = source, entries, transformer
        self.color, self.size = color, size

    def __len__(self) -> int:
        return len(self.entries)

    def pixels(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, Any, bool]:
        entry = self.entries[index]
        return read_image(entry.path, self.color, *self.size), entry.label, True

    def place(self, index: int) -> dict[str, Any]:
        entry = self.entries[index]
        return {"file": self.source, "line": entry.line, "field": entry.name}


class VideoReader(Pictures):
    """VideoData: frames or flow of a few segments of each video, channel by channel; semantics 5.5."""

    def __init__(self, source: Path, entries: Sequence[Entry], transformer: Transformer, param: Any, train: bool):
        self.source, self.entries, self.transformer, self.train = source, entries, transformer, train
        self.length, self.segments = param.new_length, param.num_segments
        self.size = (param.new_height, param.new_width)
        self.rgb = param.modality == param.RGB
        self.pattern = param.name_pattern or ("image_%04d.jpg" if self.rgb else "flow_%c_%04d.jpg")

    def __len__(self) -> int:
        return len(self.entries)

    def pixels(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, Any, bool]:
        entry = self.entries[index]
        frames = [start + i for start in self.starts(entry.numbers[0], rng) for i in range(1, self.length + 1)]
        color = cv2.IMREAD_COLOR if self.rgb else cv2.IMREAD_GRAYSCALE
        names = [name for frame in frames for name in self.names(frame)]
        planes = [read_image(entry.path / name, color, *self.size) for name in names]
        if any(plane.shape != planes[0].shape for plane in planes):
            raise DataError(Problem("frames of different sizes", "one size", "set new_height and new_width"))
        # A video has one Datum, so it is no image to the transformer; its label has four axes.
        return np.concatenate(planes, axis=2), [[[entry.label]]], False

    def starts(self, frames: int, rng: np.random.Generator) -> list[int]:
        """How many frames are passed over before each segment's first."""
        each = frames // self.segments
        if each < self.length:
            return [0] * self.segments
        if self.train:
            return [int(rng.integers(each - self.length + 1)) + i * each for i in range(self.segments)]
        return [(each - self.length + 1) // 2 + i * each for i in range(self.segments)]

    def names(self, frame: int) -> list[str]:
        """The files of one frame, counted from 1."""
        try:
            return [self.pattern % frame] if self.rgb else [self.pattern % (axis, frame) for axis in "xy"]
        except (TypeError, ValueError):
            expected = "a pattern like 'image_%04d.jpg'" if self.rgb else "a pattern like 'flow_%c_%04d.jpg'"
            raise DataError(Problem(f"'{self.pattern}'", expected, field="name_pattern")) from None

    def place(self, index: int) -> dict[str, Any]:
        entry = self.entries[index]
        return {"file": self.source, "line": entry.line, "field": entry.name}


class ArrayReader(Pictures):
    """MemoryData: arrays from the program, items (N, C, H, W) and labels (N,)."""

    def __init__(self, data: np.ndarray, labels: np.ndarray, transformer: Transformer):
        self.data, self.labels, self.transformer = data, labels, transformer

    def __len__(self) -> int:
        return len(self.data)

    def pixels(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, Any, bool]:
        return self.data[index].transpose(1, 2, 0), self.labels[index], False

    def place(self, index: int) -> dict[str, Any]:
        return {"field": f"item {index} of the arrays"}


def read_image(path: Path, color: int, height: int, width: int) -> np.ndarray:
    """An image file, uint8 (height, width, channels), BGR, resized unless the size is 0; raises DataError."""
    with listed(path):
        pixels = decode(read_bytes(path, DataError), color)
        return resize(pixels, height, width) if height and width else pixels
