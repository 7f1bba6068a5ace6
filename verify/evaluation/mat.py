"""MATLAB's .mat files of versions 4 and 5 to 7, read strictly: arrays of numbers, full or sparse, and nothing else.

SciPy's reader can end the process on a damaged file (its compiled part follows sizes that the file claims), so no byte
of a foreign file reaches it. What scores, labels and indexes take is little; every size here is checked against what
is there before anything is made of it. Cells, structs, texts and objects are passed over.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from math import prod

import numpy as np
from numpy.typing import NDArray

_HEADER = 128
_MOST = 1 << 31  # bytes that one element may unpack to
_MATRIX, _COMPRESSED = 14, 15
_STORED = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"},
    16: "u1",  # text in UTF-8: names
}
_SPARSE = 5
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 0x0800
_DEEPEST = 32  # axes
_OLD = {0: "f8", 1: "f4", 2: "i4", 3: "i2", 4: "u2", 5: "u1"}  # version 4: its precisions


class DamagedMat(ValueError):
    """What is wrong with a .mat file, in words."""


Element = tuple[int, bytes | memoryview]


def read_mat(data: bytes) -> dict[str, NDArray]:
    """Name -> array (axes as MATLAB has them) of a file's content; raises DamagedMat."""
    if len(data) >= _HEADER and data[126:128] in (b"IM", b"MI"):
        order = "<" if data[126:128] == b"IM" else ">"
        return dict(_arrays(memoryview(data)[_HEADER:], order))
    return dict(_old_arrays(memoryview(data)))


def _elements(data: memoryview, order: str) -> Iterator[Element]:
    """Type and content of the elements of a stretch, each within it."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise DamagedMat(f"{len(data) - at} bytes are left where an element would begin")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:  # a small element: type and size in four bytes, content in the next four
            kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if size > 4:
                raise DamagedMat(f"a small element of {size} bytes")
        else:
            start = at + 8
            after = start + size + (-size % 8 if kind != _COMPRESSED else 0)
        if start + size > len(data):
            raise DamagedMat(f"an element of {size:,} bytes, of which {max(len(data) - start, 0):,} are there")
        yield kind, data[start : start + size]
        at = after


def _arrays(data: memoryview, order: str, packed: bool = True) -> Iterator[tuple[str, NDArray]]:
    for kind, content in _elements(data, order):
        if kind == _COMPRESSED and packed:
            yield from _arrays(memoryview(_unpacked(content)), order, packed=False)
        elif kind == _MATRIX and len(content):
            found = _matrix(memoryview(content), order)
            if found is not None:
                yield found


def _unpacked(content: bytes | memoryview) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(content, _MOST)
    except zlib.error as cause:
        raise DamagedMat(f"a compressed element that cannot be unpacked ({cause})") from None
    if unpacker.unconsumed_tail:
        raise DamagedMat(f"a compressed element of more than {_MOST:,} bytes")
    if not unpacker.eof:
        raise DamagedMat("a compressed element that ends too early")
    return data


def _matrix(data: memoryview, order: str) -> tuple[str, NDArray] | None:
    """Name and array of a miMATRIX; None for what holds no real numbers."""
    parts = _elements(data, order)
    flags = _numbers(next(parts, None), order, "flags", "u4")
    if len(flags) != 2:
        raise DamagedMat("an array without its flags")
    kind = int(flags[0]) & 0xFF
    if kind not in _CLASSES and kind != _SPARSE:
        return None
    shape = tuple(int(n) for n in _numbers(next(parts, None), order, "dimensions", "i4"))
    if not 2 <= len(shape) <= _DEEPEST or min(shape) < 0:
        raise DamagedMat(f"an array of dimensions {shape}")
    name = bytes(_content(next(parts, None), "a name")).decode("utf-8", "replace")
    if int(flags[0]) & _COMPLEX:
        return None
    if kind == _SPARSE:
        return name, _sparse([_numbers(next(parts, None), order, f"'{name}'") for _ in range(3)], shape, name)
    values = _numbers(next(parts, None), order, f"'{name}'")
    if len(values) != prod(shape):
        raise DamagedMat(f"'{name}' has {len(values):,} values, its dimensions {shape} need {prod(shape):,}")
    return name, values.astype(np.dtype(_CLASSES[kind])).reshape(shape, order="F")


def _content(element: Element | None, what: str) -> bytes | memoryview:
    if element is None:
        raise DamagedMat(f"an array that ends before {what}")
    return element[1]


def _numbers(element: Element | None, order: str, what: str, only: str = "") -> NDArray:
    content = _content(element, what)
    assert element is not None
    stored = _STORED.get(element[0], "")
    if not stored or (only and stored != only):
        raise DamagedMat(f"{what} stored as type {element[0]}")
    kind = np.dtype(order + stored)
    if len(content) % kind.itemsize:
        raise DamagedMat(f"{what} of {len(content):,} bytes, no whole number of values")
    return np.frombuffer(content, kind)


def _sparse(parts: list[NDArray], shape: tuple[int, ...], name: str) -> NDArray:
    """A sparse matrix in full: rows, where each column begins, and values."""
    rows, begins, values = parts
    if len(shape) != 2 or prod(shape) * 8 > _MOST:
        raise DamagedMat(f"'{name}' is sparse, of dimensions {shape}")
    begins, ends = begins[:-1].astype(np.int64), begins[1:].astype(np.int64)
    count = int(ends[-1]) if len(ends) else 0
    fits = len(begins) == shape[1] and count <= min(len(rows), len(values)) and (begins <= ends).all()
    if (
        not fits
        or (len(begins) and begins[0] != 0)
        or (count and not 0 <= rows[:count].min() <= rows[:count].max() < shape[0])
    ):
        raise DamagedMat(f"'{name}' is sparse, and its places do not fit its dimensions {shape}")
    full = np.zeros(shape)
    full[rows[:count].astype(np.int64), np.repeat(np.arange(shape[1]), ends - begins)] = values[:count]
    return full


def _old_arrays(data: memoryview) -> Iterator[tuple[str, NDArray]]:
    """Version 4: a header of five integers, a name and the values, one matrix after the other."""
    order = "<" if len(data) >= 4 and struct.unpack_from("<i", data)[0] < 5000 else ">"
    at = 0
    while at < len(data):
        if len(data) - at < 20:
            raise DamagedMat(f"{len(data) - at} bytes are left where a matrix would begin")
        kind, high, wide, imaginary, letters = struct.unpack_from(f"{order}5i", data, at)
        machine, zero, precision, form = kind // 1000, kind // 100 % 10, kind // 10 % 10, kind % 10
        sound = kind >= 0 and machine in (0, 1) and not zero and precision in _OLD and form in (0, 1, 2)
        if not sound or imaginary not in (0, 1) or not 0 < letters < 4096 or min(high, wide) < 0:
            raise DamagedMat("no MATLAB file of version 4 to 7")
        stored = np.dtype(order + _OLD[precision])
        start = at + 20 + letters
        after = start + high * wide * stored.itemsize * (1 + imaginary)
        if after > len(data):
            raise DamagedMat(f"a matrix of {high:,} x {wide:,}, of which {max(len(data) - start, 0):,} bytes are there")
        name = bytes(data[at + 20 : start - 1]).decode("latin-1")
        if form == 0 and not imaginary:
            yield name, np.frombuffer(data, stored, high * wide, start).reshape((high, wide), order="F")
        at = after
