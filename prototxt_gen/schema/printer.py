"""Writing messages as prototxt, character for character as Caffe's own tools print them."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from .messages import is_repeated

_ESCAPES = {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", **{ord(c): "\\" + c for c in "\"'\\"}}
_ESCAPED = [_ESCAPES.get(byte, chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}") for byte in range(256)]


def to_text(message: Any, header: str = "", comments: Mapping[int, str] | None = None) -> str:
    """A message in protobuf's text format, fields in the order of their numbers as C++ protobuf prints them.

    `header` becomes comment lines on top, `comments[i]` comment lines before the i-th `layer` (or `layers`)
    entry. Unknown fields of a message read from a binary file are left out.
    """
    lines = _comment(header)
    if header and message.ListFields():
        lines.append("")
    lines += _lines(message, "", comments or {})
    return "\n".join(lines) + "\n" if lines else ""


def format_float(value: float) -> str:
    """A float32 as C++ protobuf prints it: 6 significant digits, or 9 where 6 would not give it back."""
    if not math.isfinite(value):
        return _non_finite(value)
    text = f"{value:.6g}"
    try:
        exact = struct.pack("<f", float(text)) == struct.pack("<f", value)
    except OverflowError:  # rounding the largest floats up to 6 digits leaves the range
        exact = False
    return text if exact else f"{value:.9g}"


def format_double(value: float) -> str:
    """A float64 as C++ protobuf prints it: 15 significant digits, or 17 where 15 would not give it back."""
    if not math.isfinite(value):
        return _non_finite(value)
    text = f"{value:.15g}"
    return text if float(text) == value else f"{value:.17g}"


def escape(text: str | bytes) -> str:
    """A string as C++ protobuf escapes it: what is not printable ASCII becomes octal bytes."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return "".join(map(_ESCAPED.__getitem__, data))


def _non_finite(value: float) -> str:
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _comment(text: str) -> list[str]:
    return [f"# {line}".rstrip() for line in text.splitlines()]


def _lines(message: Any, indent: str, comments: Mapping[int, str]) -> Iterator[str]:
    entry = 0
    for field, value in message.ListFields():
        show: Callable[[Any], str] = _SHOW.get(field.type, str)
        for item in value if is_repeated(field) else (value,):
            if field.type != FieldDescriptor.TYPE_MESSAGE:
                text = _enum_name(field, item) if field.type == FieldDescriptor.TYPE_ENUM else show(item)
                yield f"{indent}{field.name}: {text}"
                continue
            if field.name in ("layer", "layers") and comments:
                yield from _comment(comments.get(entry, ""))
                entry += 1
            yield f"{indent}{field.name} {{"
            yield from _lines(item, indent + "  ", {})
            yield f"{indent}}}"


def _enum_name(field: FieldDescriptor, number: int) -> str:
    value = field.enum_type.values_by_number.get(number)
    return value.name if value else str(number)


def _quoted(text: str | bytes) -> str:
    return f'"{escape(text)}"'


def _bool(value: bool) -> str:
    return "true" if value else "false"


_SHOW: dict[int, Callable[[Any], str]] = {
    FieldDescriptor.TYPE_FLOAT: format_float,
    FieldDescriptor.TYPE_DOUBLE: format_double,
    FieldDescriptor.TYPE_STRING: _quoted,
    FieldDescriptor.TYPE_BYTES: _quoted,
    FieldDescriptor.TYPE_BOOL: _bool,
}
