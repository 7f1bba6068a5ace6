"""LMDB's file, read strictly: where each record lies, page by page, each place checked against what is there.

LMDB's own library follows page numbers and sizes that the file claims, and a damaged file ends the process (of 300
damaged ones, 58 did). Nothing is mapped here either: a file that is cut while it is open gives an error.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEAD = 16  # bytes of a page's header
_BRANCH, _LEAF, _OVERFLOW, _META = 0x01, 0x02, 0x04, 0x08
_BIG, _SUB, _DUP = 0x01, 0x02, 0x04  # flags of a leaf's node
_NONE = 2**64 - 1  # the root of a tree without a page
_META_FORM = struct.Struct("<IIQQ")
_TREE_FORM = struct.Struct("<IHHQQQQQ")
_NODE = struct.Struct("<HHHH")
_DEEPEST = 32
_PAGE_SIZES = (1 << 8, 1 << 16)


class DamagedPages(ValueError):
    """What is wrong with an LMDB file, in words."""


@dataclass(frozen=True)
class Place:
    """Where a record's value lies in the file."""

    offset: int
    size: int


@dataclass(frozen=True)
class _Tree:
    entries: int
    root: int
    transaction: int
    page_size: int


class Pages:
    """An LMDB file by its descriptor; `records` gives keys in order with the places of their values."""

    def __init__(self, descriptor: int):
        """Read the newer of the two meta pages; raises DamagedPages."""
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        trees = [tree for tree in (self._meta(0), self._second_meta()) if tree]
        if not trees:
            raise DamagedPages("not an LMDB file: no meta page (version 1, 64 bits) is whole")
        self.tree = max(trees, key=lambda tree: tree.transaction)

    def read(self, offset: int, size: int) -> bytes:
        """A stretch of the file; raises DamagedPages where it is not there."""
        if offset + size > self.size:
            raise DamagedPages(f"{size:,} bytes at {offset:,} of a file of {self.size:,}")
        data = os.pread(self.descriptor, size, offset)
        if len(data) != size:
            raise DamagedPages(f"{len(data):,} of {size:,} bytes at {offset:,}: the file was cut meanwhile")
        return data

    def records(self) -> Iterator[tuple[bytes, Place]]:
        """All records in the order of their keys; raises DamagedPages."""
        seen: set[int] = set()
        count = 0
        for page in self._leaves(self.tree.root, 0, seen):
            for record in self._leaf(page):
                count += 1
                yield record
        if count != self.tree.entries:
            raise DamagedPages(f"{count:,} records, where its tree counts {self.tree.entries:,}")

    def _second_meta(self) -> _Tree | None:
        """The other meta page: one page further, whose size the first says, or any size where that is damaged."""
        first = self._meta(0)
        sizes = [first.page_size] if first else [1 << n for n in range(8, 17)]
        return next((tree for size in sizes if (tree := self._meta(size)) and tree.page_size == size), None)

    def _meta(self, offset: int) -> _Tree | None:
        size = _HEAD + _META_FORM.size + 2 * _TREE_FORM.size + 16
        if offset + size > self.size:
            return None
        data = self.read(offset, size)
        magic, version, _, _ = _META_FORM.unpack_from(data, _HEAD)
        at = _HEAD + _META_FORM.size
        page_size, *_ = _TREE_FORM.unpack_from(data, at)
        _, _, _, _, _, _, entries, root = _TREE_FORM.unpack_from(data, at + _TREE_FORM.size)
        (flags,) = struct.unpack_from("<H", data, 10)
        transaction = struct.unpack_from("<Q", data, at + 2 * _TREE_FORM.size + 8)[0]
        low, high = _PAGE_SIZES
        sound = magic == _MAGIC and version == _VERSION and flags & _META
        if not sound or not low <= page_size <= high or page_size & (page_size - 1):
            return None
        return _Tree(entries, root, transaction, page_size)

    def _leaves(self, number: int, depth: int, seen: set[int]) -> Iterator[bytes]:
        if number == _NONE:
            return
        if number in seen or depth > _DEEPEST:
            raise DamagedPages(f"page {number:,} is reached twice")
        seen.add(number)
        page = self.read(number * self.tree.page_size, self.tree.page_size)
        own, _, flags = struct.unpack_from("<QHH", page)
        if own != number:
            raise DamagedPages(f"page {number:,} calls itself {own:,}")
        if flags & _LEAF and not flags & (_BRANCH | _OVERFLOW | _META):
            yield page
        elif flags & _BRANCH and not flags & (_LEAF | _OVERFLOW | _META):
            for low, middle, high, _, _ in self._nodes(page):
                yield from self._leaves(low | middle << 16 | high << 32, depth + 1, seen)
        else:
            raise DamagedPages(f"page {number:,} is neither a branch nor a leaf")

    def _nodes(self, page: bytes) -> Iterator[tuple[int, int, int, bytes, int]]:
        """The four numbers of each node but the key's size, its key, and where in the page its value begins."""
        (lower,) = struct.unpack_from("<H", page, 12)
        if lower < _HEAD or lower > len(page) or lower % 2:
            raise DamagedPages("a page with an impossible number of records")
        for at in struct.unpack_from(f"<{(lower - _HEAD) // 2}H", page, _HEAD):
            if at < lower or at + _NODE.size > len(page):
                raise DamagedPages("a record outside its page")
            low, middle, flags, key = _NODE.unpack_from(page, at)
            start = at + _NODE.size + key
            if start > len(page):
                raise DamagedPages("a key outside its page")
            yield low, middle, flags, page[at + _NODE.size : start], start

    def _leaf(self, page: bytes) -> Iterator[tuple[bytes, Place]]:
        (number,) = struct.unpack_from("<Q", page)
        base = number * self.tree.page_size
        for low, high, flags, key, start in self._nodes(page):
            size = low | high << 16
            if flags & (_SUB | _DUP):
                raise DamagedPages("a database within the database, which Caffe's have not")
            if not flags & _BIG:
                if start + size > len(page):
                    raise DamagedPages("a value outside its page")
                yield key, Place(base + start, size)
                continue
            if start + 8 > len(page):
                raise DamagedPages("a value outside its page")
            (first,) = struct.unpack_from("<Q", page, start)
            offset = first * self.tree.page_size + _HEAD
            if offset + size > self.size:
                raise DamagedPages(f"a value of {size:,} bytes at {offset:,} of a file of {self.size:,}")
            yield key, Place(offset, size)
