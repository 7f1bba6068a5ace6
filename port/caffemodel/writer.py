"""Writes .caffemodel files as Caffe's own C++ does: fields in order of their numbers, floats packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from prototxt_gen.base.errors import Problem, Problems, UsageError, WeightsError, closest
from prototxt_gen.base.files import atomic_write

from .layout import MAX_FILE_SIZE, MAX_RANK, Layout, layer_messages, layout
from .model import Blob, Model, ModelLayer
from .sniff import printable
from .wire import Scan, encode_header, encode_varint, value_bytes

Piece = bytes | memoryview | np.ndarray

# BlobProto (proto numbers)
_DATA, _SHAPE, _DOUBLE_DATA = 5, 7, 8
_WRITE_BLOCK = 1 << 22  # bytes


def write_net(path: str | Path, net_message: Any, blobs: Sequence[Sequence[np.ndarray | Blob]]) -> None:
    """Write a .caffemodel from a NetParameter of either dialect and each layer's blobs, as Caffe does.

    The layers of `net_message` carry no blobs; `blobs[i]` belongs to layer i. float32 arrays become `data`,
    float64 ones `double_data` (BVLC only). A blob of another file is taken as it stands there, byte for byte,
    legacy shape and gradient included. Everything is streamed, not copied. Raises UsageError or WeightsError
    before anything is written; WeightsError above 2 GiB - 1, which Caffe cannot read.
    """
    if getattr(net_message, "DESCRIPTOR", None) is None or net_message.DESCRIPTOR.name != "NetParameter":
        raise UsageError(f"write_net needs a NetParameter message, not {type(net_message).__name__}")
    arrays = [[b if isinstance(b, Blob) else np.asarray(b) for b in layer_blobs] for layer_blobs in blobs]
    _check_net(path, net_message, arrays)
    pieces = _net_pieces(net_message, arrays)
    _check_size(path, _size(pieces))
    with atomic_write(path) as file:
        for piece in pieces:
            _write_piece(file, piece)


def write_caffemodel(
    model: Model, path: str | Path, replace: Mapping[tuple[str | int, int], Any] | None = None
) -> None:
    """Write an open file again, byte for byte, but for the values in `replace` (see ModelFile.write)."""
    buffer = model._source.buffer
    _check_size(path, len(buffer))
    chosen = _chosen_blobs(model, replace or {})
    with atomic_write(path) as file:
        done = 0
        for blob, array in sorted(chosen, key=lambda pair: pair[0].span):
            for at, block in _patches(buffer, blob, array):
                _write_piece(file, buffer[done:at])
                file.write(block)
                done = at + len(block)
        _write_piece(file, buffer[done:])


def _check_net(path: str | Path, net: Any, arrays: list[list[np.ndarray | Blob]]) -> None:
    layers = list(net.layer) or list(net.layers)
    blob_fields = net.DESCRIPTOR.fields_by_name["layer"].message_type.fields_by_name["blobs"].message_type
    types = {"f4": "float32"} | ({"f8": "float64"} if "double_data" in blob_fields.fields_by_name else {})
    with Problems(WeightsError, path) as problems:
        if net.layer and net.layers:
            problems.add("it has layers of both formats", expected="`layer` only", fix="upgrade the net first")
        elif len(arrays) != len(layers):
            expected = f"one list for each of {len(layers)}"
            problems.add(f"blobs are given for {len(arrays)} layers", expected=expected)
        for layer, layer_arrays in zip(layers, arrays, strict=False):
            name = printable(layer.name)
            if layer.blobs:
                problems.add("it already carries blobs", expected="none in the message", layer=name)
            if not net.layer and layer.HasField("layer"):
                problems.add("it has the oldest format (V0)", fix="upgrade the net first", layer=name)
            for index, array in enumerate(layer_arrays):
                where = {"layer": name, "field": f"blobs[{index}]"}
                if array.dtype.str[1:] not in types:
                    expected = " or ".join(types.values()) + " in this dialect"
                    problems.add(f"type {array.dtype}", expected=expected, fix="convert it", **where)
                if len(array.shape) > MAX_RANK:
                    problems.add(f"{len(array.shape)} axes", expected=f"at most {MAX_RANK}", **where)


def _check_size(path: str | Path, size: int) -> None:
    if size > MAX_FILE_SIZE:
        found, expected = f"the file would have {size:,} bytes", f"at most {MAX_FILE_SIZE:,} (2 GiB - 1)"
        fix = "Caffe cannot read more (protobuf's limit): split the net, or leave large layers out"
        raise WeightsError(Problem(found, expected, fix, file=path))


def _size(pieces: Sequence[Piece]) -> int:
    return sum(piece.nbytes if isinstance(piece, np.ndarray) else len(piece) for piece in pieces)


def _net_pieces(net: Any, arrays: list[list[np.ndarray | Blob]]) -> list[Piece]:
    data = net.SerializeToString(deterministic=True)
    pieces: list[Piece] = []
    layer_arrays = iter(arrays)
    for number, _, at, begin, end in Scan(data).fields(0, len(data)):
        if number in layer_messages():
            where = layout(layer_messages()[number])
            body = _layer_pieces(data, where, begin, end, next(layer_arrays))
            pieces += [encode_header(number, _size(body)), *body]
        else:
            pieces.append(data[at:end])
    return pieces


def _layer_pieces(data: bytes, where: Layout, begin: int, end: int, arrays: list[np.ndarray | Blob]) -> list[Piece]:
    """The layer's message with the blobs between its fields of lower and of higher number."""
    cut = next((at for number, _, at, _, _ in Scan(data).fields(begin, end) if number > where.blobs), end)
    pieces: list[Piece] = [data[begin:cut]]
    for array in arrays:
        blob = _blob_pieces(array)
        pieces += [encode_header(where.blobs, _size(blob)), *blob]
    return [*pieces, data[cut:end]]


def _blob_pieces(array: np.ndarray | Blob) -> list[Piece]:
    """A BlobProto as `Blob::ToProto` fills it: a scalar has no shape, an empty blob no data."""
    if isinstance(array, Blob):
        return [array.message]
    shape: list[Piece] = []
    if array.ndim:
        dims = b"".join(map(encode_varint, array.shape))
        packed = encode_header(1, len(dims)) + dims
        shape = [encode_header(_SHAPE, len(packed)) + packed]
    is_double = array.dtype.itemsize == 8
    number = _DOUBLE_DATA if is_double else _DATA
    values: list[Piece] = [encode_header(number, array.nbytes), array] if array.size else []
    return shape + values if is_double else values + shape


def _write_piece(file: IO[bytes], piece: Piece) -> None:
    if not isinstance(piece, np.ndarray):
        for start in range(0, len(piece), _WRITE_BLOCK):
            file.write(piece[start : start + _WRITE_BLOCK])
        return
    # By rows, so that an array of another layout or byte order is never copied as a whole.
    rows = np.atleast_1d(np.squeeze(piece))
    step = max(1, _WRITE_BLOCK * len(rows) // piece.nbytes)
    for start in range(0, len(rows), step):
        file.write(np.ascontiguousarray(rows[start : start + step], piece.dtype.newbyteorder("<")).data)


def _chosen_blobs(model: Model, replace: Mapping[tuple[str | int, int], Any]) -> list[tuple[Blob, np.ndarray]]:
    """The blobs to replace, each with its new values in the stored type; raises WeightsError."""
    chosen: dict[Blob, np.ndarray] = {}
    with Problems(WeightsError, model.path) as problems:
        for (key, index), values in replace.items():
            where = {"layer": printable(str(key)), "field": f"blobs[{index}]"}
            layer = _find_layer(model, key, problems)
            if layer is None:
                continue
            if not 0 <= index < len(layer.blobs):
                problems.add(f"the layer has {len(layer.blobs)} blobs", expected=f"a blob {index}", **where)
                continue
            blob, array = layer.blobs[index], np.asarray(values)
            if array.dtype.kind != "f":
                problems.add(f"the new values are of type {array.dtype}", expected=str(blob.dtype), **where)
            elif _long_axes(array.shape) != _long_axes(blob.shape):
                problems.add(f"the new values have shape {array.shape}", expected=str(blob.shape), **where)
            elif blob in chosen:
                problems.add("it is replaced twice", expected="one array", **where)
            else:
                chosen[blob] = array.astype(blob.dtype, order="C", copy=False)
    return list(chosen.items())


def _long_axes(shape: tuple[int, ...]) -> list[int]:
    return [dim for dim in shape if dim != 1]


def _find_layer(model: Model, key: str | int, problems: Problems) -> ModelLayer | None:
    if isinstance(key, str):
        found = [layer for layer in model.layers if layer.name == key]
        hint = closest(key, {layer.name for layer in model.layers})
    else:
        found = model.layers[key : key + 1] if key >= 0 else []
        hint = f"it has {len(model.layers)} layers"
    if len(found) == 1:
        return found[0]
    name = printable(str(key))
    if found:
        problems.add(f"{len(found)} layers have this name", fix="give the layer's index", layer=name)
    else:
        problems.add("there is no such layer in the file", fix=hint, layer=name)
    return None


def _patches(buffer: memoryview, blob: Blob, array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The stretches of the file that hold the blob's values, with the new ones in place of the old."""
    new = array.reshape(-1).view(np.uint8).reshape(-1, array.itemsize)
    done = 0
    for field in blob.pieces():
        _, _, at, _, end = field
        block = np.frombuffer(buffer, np.uint8, end - at, at).copy()
        values = value_bytes(block, field, array.itemsize)
        values[...] = new[done : done + len(values)]
        done += len(values)
        yield at, block
