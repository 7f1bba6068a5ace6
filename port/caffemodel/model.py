"""What a weights file holds: layers and blobs that point into the mapped file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from google.protobuf.message import DecodeError

from prototxt_gen.base.errors import Problem, UsageError, WeightsError
from prototxt_gen.schema.messages import message_class

from . import dialect as _dialect
from .layout import Layout, layer_messages, layout
from .sniff import printable
from .wire import LENGTH, Field, Scan, encode_header, value_bytes, value_count

Span = tuple[int, int]


class Source:
    """A mapped file; views of its data stay valid after `close`, new ones are refused."""

    def __init__(self, path: str | Path, buffer):
        self.path = Path(path)
        self._buffer: memoryview | None = memoryview(buffer)

    @property
    def buffer(self) -> memoryview:
        if self._buffer is None:
            raise UsageError(Problem("the weights file is closed", fix="read its blobs first", file=self.path))
        return self._buffer

    def close(self) -> None:
        # The map itself goes when the last array that looks into it does.
        self._buffer = None


class Values:
    """Where the numbers of one repeated field lie: side by side from `offset`, or scattered (offset -1)."""

    __slots__ = ("count", "dtype", "gathered", "number", "offset")

    def __init__(self, number: int, dtype: str):
        self.number, self.dtype = number, np.dtype(dtype)
        self.count, self.offset = 0, -1
        self.gathered: np.ndarray | None = None

    def add(self, field: Field) -> None:
        """Count the values of one more field; raises WireError."""
        _, wire, _, begin, _ = field
        found = value_count(field, self.dtype.itemsize)
        if found:
            side_by_side = self.count == 0 and (wire == LENGTH or found == 1)
            self.offset = begin if side_by_side else -1
            self.count += found


class Blob:
    """One stored parameter (Caffe's BlobProto, semantics of `Blob::FromProto`).

    `shape`: the stored dimensions; `legacy`: they are num, channels, height, width, an absent one being 0, and in files
    of C3D's first version the length after the channels.
    A blob without any shape is a scalar () with one value, (0,) with none. `dtype`: float32, float64
    where the file has double_data, or what NVIDIA's raw_data has (float16). `span`: the message's bytes in the file.
    """

    __slots__ = ("_data", "_diff", "_source", "legacy", "shape", "span")

    def __init__(
        self,
        source: Source,
        span: Span,
        shape: tuple[int, ...],
        legacy: bool,
        data: Values,
        diff: Values | None,
    ):
        self._source, self.span = source, span
        self.shape, self.legacy = shape, legacy
        self._data, self._diff = data, diff

    @property
    def dtype(self) -> np.dtype:
        return self._data.dtype

    @property
    def count(self) -> int:
        """The number of values."""
        return self._data.count

    @property
    def data(self) -> np.ndarray:
        """The values in `shape`, read-only: a view into the file, which need not be aligned in memory.

        Values stored one by one or in pieces are gathered once, on the first call.
        """
        return self._array(self._data)

    @property
    def diff(self) -> np.ndarray | None:
        """The stored gradient, like `data`, or None."""
        return None if self._diff is None else self._array(self._diff)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether Caffe loads this blob into `shape` (`ShapeEquals`): a legacy one is right-aligned in 4 (C3D: 5)."""
        if not self.legacy:
            return self.shape == tuple(shape)
        return self.shape == (1,) * (len(self.shape) - len(shape)) + tuple(shape)

    @property
    def message(self) -> memoryview:
        """The bytes of the stored BlobProto, a view into the file."""
        return self._source.buffer[slice(*self.span)]

    def pieces(self) -> Iterator[Field]:
        """The fields of the file that hold `data`."""
        return self._fields(self._data)

    def _fields(self, values: Values) -> Iterator[Field]:
        for field in Scan(self._source.buffer).fields(*self.span):
            if field[0] == values.number:
                yield field

    def _array(self, values: Values) -> np.ndarray:
        if values.offset >= 0:
            flat = np.frombuffer(self._source.buffer, values.dtype, values.count, values.offset)
        else:
            if values.gathered is None:
                values.gathered = self._gather(values)
            flat = values.gathered
        return flat.reshape(self.shape)

    def _gather(self, values: Values) -> np.ndarray:
        flat = np.empty(values.count, values.dtype)
        size = values.dtype.itemsize
        rows, done = flat.view(np.uint8).reshape(-1, size), 0
        for field in self._fields(values):
            _, _, at, _, end = field
            found = value_bytes(np.frombuffer(self._source.buffer, np.uint8, end - at, at), field, size)
            rows[done : done + len(found)] = found
            done += len(found)
        flat.setflags(write=False)
        return flat

    def __repr__(self) -> str:
        return f"Blob({self.shape}, {self.dtype}{', legacy' if self.legacy else ''})"


class ModelLayer:
    """One layer of the file: `name`, `type` (of old files too: today's string), `bottoms`, `tops`, `blobs`.

    `phase` is "TRAIN", "TEST" or None; `telling`: the field numbers seen that one dialect alone has.
    """

    __slots__ = (
        "_layout",
        "_source",
        "blobs",
        "bottoms",
        "name",
        "phase",
        "span",
        "telling",
        "tops",
        "type",
    )

    def __init__(self, source: Source, span: Span, layer_layout: Layout):
        self._source, self.span, self._layout = source, span, layer_layout
        self.name, self.type = "", ""
        self.bottoms: list[str] = []
        self.tops: list[str] = []
        self.blobs: list[Blob] = []
        self.phase: str | None = None
        self.telling: frozenset[int] = frozenset()

    def message(self, dialect: str) -> Any:
        """The layer's definition without blobs: LayerParameter, or V1LayerParameter in an old file.

        Raises WeightsError where the bytes are not such a message, UsageError for an unknown dialect.
        """
        data = without_blobs(Scan(self._source.buffer), self._layout, *self.span)
        return _parse(self._source.path, message_class(self._layout.message, dialect), data, self.name)

    def __repr__(self) -> str:
        return f"ModelLayer({self.name!r}, {self.type!r}, blobs={self.blobs})"


class Model:
    """What an open .caffemodel holds: `path`, the net's `name`, `layers` in file order, net-level `inputs`."""

    def __init__(self, source: Source, name: str, layers: list[ModelLayer], inputs: list[str]):
        self._source = source
        self.name, self.layers, self.inputs = name, layers, inputs

    @property
    def path(self) -> Path:
        return self._source.path

    def message(self, dialect: str) -> Any:
        """The whole NetParameter without blobs; raises WeightsError, UsageError."""
        scan, parts = Scan(self._source.buffer), []
        for number, _, at, begin, end in scan.fields(0, len(scan.buffer)):
            if number in layer_messages():
                stripped = without_blobs(scan, layout(layer_messages()[number]), begin, end)
                parts += [encode_header(number, len(stripped)), stripped]
            else:
                parts.append(bytes(scan.buffer[at:end]))
        return _parse(self.path, message_class("NetParameter", dialect), b"".join(parts))

    def dialect_hint(self) -> tuple[str | None, str]:
        """The dialect that the layers speak for, or None, and the reason."""
        return _dialect.dialect_hint(self.layers)

    def close(self) -> None:
        """Let the file go; arrays already taken from it stay valid."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, name={self.name!r}, {len(self.layers)} layers)"


def without_blobs(scan: Scan, layer_layout: Layout, start: int, stop: int) -> bytes:
    """The bytes of a layer message without its blobs, also those of a V0 layer inside."""
    parts = []
    for number, _, at, begin, end in scan.fields(start, stop):
        if layer_layout.nested and number == layer_layout.nested:
            inner = without_blobs(scan, layout("V0LayerParameter"), begin, end)
            parts += [encode_header(number, len(inner)), inner]
        elif number != layer_layout.blobs:
            parts.append(bytes(scan.buffer[at:end]))
    return b"".join(parts)


def _parse(path: Path, kind: type, data: bytes, layer: str = "") -> Any:
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        found = f"not a valid {message.DESCRIPTOR.name}: {error}"
        fix = "the file is damaged, or of another fork; its blobs can still be read"
        raise WeightsError(Problem(found, fix=fix, file=path, layer=printable(layer))) from None
    return message
