"""The protobuf wire format, as far as Caffe files need it: fields are found in place, nothing is copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

VARINT, FIXED64, LENGTH, START_GROUP, END_GROUP, FIXED32 = range(6)
WIRE_NAMES = ("varint", "64-bit value", "length-delimited", "group", "end of group", "32-bit value")
MAX_FIELD_NUMBER = (1 << 29) - 1

# Python's objects for a field take up to 100 bytes and a microsecond. This allowance bounds memory and time
# for a file of nothing but tiny fields (30 MB, or the file size); 10,000 layers without weights pass.
_FREE_FIELDS = 1 << 18
_BYTES_PER_FIELD = 128
_MOST_FIELDS = 1 << 22

# number, wire type, start of the tag, start and end of the payload
Field = tuple[int, int, int, int, int]


class WireError(Exception):
    """Bytes that are not what the schema says; the reader adds file and layer."""

    def __init__(self, offset: int, found: str, expected: str = ""):
        super().__init__(found)
        self.offset, self.found, self.expected = offset, found, expected


def varint(buffer: Sequence[int], position: int, stop: int) -> tuple[int, int]:
    """The unsigned 64-bit integer at `position` and the position after it; raises WireError."""
    start, value, shift = position, 0, 0
    while position < stop:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
        if shift >= 70:
            raise WireError(start, "an integer of more than 10 bytes", "a varint")
    raise WireError(start, "an integer is cut off by the end", "a varint")


def signed(value: int, bits: int) -> int:
    """An int32 or int64 from its varint: the low bits, two's complement, as protobuf's C++ reads it."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


class Scan:
    """Walks over the fields of messages in `buffer`, with an allowance of fields for the whole of it."""

    def __init__(self, buffer):
        self.buffer = memoryview(buffer)
        self.layer = ""  # being read, for messages
        self._left = min(_FREE_FIELDS + len(buffer) // _BYTES_PER_FIELD, _MOST_FIELDS)

    def fields(self, start: int, stop: int) -> Iterator[Field]:
        """The fields of the message in [start, stop); a run of equal fixed-size fields comes as one field.

        Such a run is how unpacked floats are stored; `value_bytes` takes it apart. Raises WireError.
        """
        buffer, position = self.buffer, start
        while position < stop:
            at = position
            tag, position = varint(buffer, at, stop)
            number, wire = tag >> 3, tag & 7
            if not 0 < number <= MAX_FIELD_NUMBER:
                raise WireError(at, f"field number {number}", f"1 to {MAX_FIELD_NUMBER}")
            begin = position
            if wire == LENGTH:
                length, begin = varint(buffer, begin, stop)
                position = begin + length
            elif wire == VARINT:
                _, position = varint(buffer, begin, stop)
            elif wire in (FIXED32, FIXED64):
                position = begin + fixed_size(wire)
            else:
                what = WIRE_NAMES[wire] if wire < len(WIRE_NAMES) else "unknown"
                found = f"field {number} has wire type {wire} ({what})"
                raise WireError(at, found, "one that Caffe's schema uses: 0, 1, 2 or 5")
            if position > stop:
                found = f"field {number} claims {position - begin:,} bytes, {stop - begin:,} are left"
                raise WireError(at, found, "a field that ends inside its message")
            if wire in (FIXED32, FIXED64):
                position = _end_of_run(buffer, at, begin, position, stop)
            self.spend(1, at)
            yield number, wire, at, begin, position

    def spend(self, fields: int, at: int) -> None:
        """Take from the allowance, for what costs as much memory as that many fields; raises WireError."""
        self._left -= fields
        if self._left < 0:
            raise WireError(at, "too many fields", "no more than a net of this size can have")


def fixed_size(wire: int) -> int:
    """The bytes of one value of a fixed-size wire type."""
    return 4 if wire == FIXED32 else 8


def value_count(field: Field, size: int) -> int:
    """How many values of `size` bytes a packed field or a run of unpacked ones holds; raises WireError."""
    number, wire, at, begin, end = field
    if wire == LENGTH:
        count, rest = divmod(end - begin, size)
        if rest:
            raise WireError(at, f"field {number} packs {end - begin:,} bytes", f"a multiple of {size}")
        return count
    if wire not in (FIXED32, FIXED64) or fixed_size(wire) != size:
        raise wrong_type(field, f"packed or single {size}-byte values")
    return (end - at) // (begin - at + size)


def value_bytes(block: np.ndarray, field: Field, size: int) -> np.ndarray:
    """The values (count, size) as a view of `block`, the bytes of the whole field, tags left out."""
    _, wire, at, begin, _ = field
    if wire == LENGTH:
        return block[begin - at :].reshape(-1, size)
    return block.reshape(value_count(field, size), -1)[:, begin - at :]


def wrong_type(field: Field, expected: str) -> WireError:
    """The error for a field that the schema declares with another wire type."""
    number, wire, at, _, _ = field
    return WireError(at, f"field {number} is a {WIRE_NAMES[wire]}", expected)


def _end_of_run(buffer, at: int, begin: int, end: int, stop: int) -> int:
    """The end of the fields that follow the one in [at, end) with the same one-byte tag."""
    tag, step = buffer[at], end - at
    if begin - at != 1 or end + step > stop or buffer[end] != tag:
        return end
    block = 64
    while end + step <= stop:
        count = min(block, (stop - end) // step)
        tags = np.frombuffer(buffer, np.uint8, count * step, end)[::step]
        other = np.flatnonzero(tags != tag)
        if len(other):
            return end + int(other[0]) * step
        end += count * step
        block = min(block * 4, 1 << 20)
    return end


def encode_varint(value: int) -> bytes:
    """A non-negative integer as protobuf writes it."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_header(number: int, length: int) -> bytes:
    """Tag and length that precede a length-delimited payload."""
    return encode_varint(number << 3 | LENGTH) + encode_varint(length)
