"""What the schema says about the fields of a message, and the text format's scalars as their values."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from ..base.errors import closest
from .messages import descriptor, is_repeated, schema_cache
from .syntax import Scalar, printable

_KINDS = {
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_MESSAGE: "message",
}

RANGES = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}

_BOOLS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}
_INTEGER = re.compile(r"(-?)(?:0[xX]([0-9a-fA-F]+)|0([0-7]+)|([1-9][0-9]*|0))")


@dataclass(frozen=True)
class FieldSpec:
    """One field of the schema; `kind` is message, enum or the name of a scalar type."""

    name: str
    kind: str
    repeated: bool
    required: bool
    message: str  # the message type of a block, otherwise ""
    enum: str  # the enum type, otherwise ""
    values: Mapping[str, int]  # of the enum


class BadValue(Exception):
    """A scalar that a field cannot hold: what was found, what was expected, the way out."""

    def __init__(self, found: str, expected: str, fix: str = ""):
        super().__init__(found)
        self.parts = {"found": found, "expected": expected, "fix": fix}


@schema_cache
def fields_of(message: str, dialect: str) -> dict[str, FieldSpec]:
    """The fields of a message in a dialect by name; raises UsageError for an unknown message or dialect."""
    return {field.name: _spec(field) for field in descriptor(message, dialect).fields}


def _spec(field: FieldDescriptor) -> FieldSpec:
    enum = field.enum_type
    required = getattr(field, "is_required", None)  # protobuf 6.30 and later
    if required is None:
        required = field.label == FieldDescriptor.LABEL_REQUIRED
    return FieldSpec(
        name=field.name,
        kind=_KINDS[field.type],
        repeated=is_repeated(field),
        required=bool(required),
        message=field.message_type.name if field.message_type else "",
        enum=enum.full_name.partition(".")[2] if enum else "",
        values={value.name: value.number for value in enum.values} if enum else {},
    )


def convert(spec: FieldSpec, scalar: Scalar) -> Any:
    """The Python value of a scalar in a field, by the rules of C++ protobuf; raises BadValue."""
    return _CONVERTERS[spec.kind](spec, scalar)


def shown(scalar: Scalar) -> str:
    """A scalar as it is quoted in messages."""
    text = printable(scalar.text)
    return f'the string "{text}"' if scalar.kind == "string" else f"'{text}'"


def _integer(spec: FieldSpec, scalar: Scalar) -> int:
    low, high = RANGES[spec.kind]
    expected = f"an integer from {low} to {high}"
    match = _INTEGER.fullmatch(scalar.text) if scalar.kind == "number" else None
    if not match:
        fix = "an integer with a leading 0 is octal" if re.fullmatch(r"-?0\d+", scalar.text) else ""
        raise BadValue(f"{shown(scalar)} is not an integer", expected, fix)
    sign, hexadecimal, octal, decimal = match.groups()
    digits, base = next((d, b) for d, b in ((hexadecimal, 16), (octal, 8), (decimal, 10)) if d)
    digits = digits.lstrip("0") or "0"
    # A 64-bit number has at most 22 digits; Python refuses to convert very many.
    value = int(digits, base) if len(digits) <= 22 else high + 1
    value = -value if sign else value
    if not low <= value <= high or (sign and low == 0):  # protobuf refuses even -0 there
        raise BadValue(f"{shown(scalar)} is out of range", expected)
    return value


def _float(spec: FieldSpec, scalar: Scalar) -> float:
    value = _double(spec, scalar)
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:  # as in Caffe
        return math.copysign(math.inf, value)


def _double(spec: FieldSpec, scalar: Scalar) -> float:
    text = scalar.text.lower()
    digits = text.removeprefix("-")
    if scalar.kind == "word" and digits in ("inf", "infinity", "nan"):
        return float(text)
    if scalar.kind != "number":
        raise BadValue(f"{shown(scalar)} is not a number", "a number")
    if digits.startswith("0x") or re.match(r"0\d", digits):
        fix = "remove the leading 0, which means octal" if not digits.startswith("0x") else ""
        raise BadValue(f"{shown(scalar)} is not a decimal number", "a decimal number", fix)
    return float(text.removesuffix("f"))


def _bool(spec: FieldSpec, scalar: Scalar) -> bool:
    if scalar.kind == "word" and scalar.text in _BOOLS:
        return _BOOLS[scalar.text]
    match = _INTEGER.fullmatch(scalar.text) if scalar.kind == "number" else None
    if match and not match[1] and (digits := "".join(match.groups("")).lstrip("0")) in ("", "1"):
        return digits == "1"
    raise BadValue(f"{shown(scalar)} is not a boolean", "true or false")


def _enum(spec: FieldSpec, scalar: Scalar) -> int:
    if scalar.kind == "word" and scalar.text in spec.values:
        return spec.values[scalar.text]
    if scalar.kind == "string":
        fix = "write it without quotes"
        if spec.enum == "V1LayerParameter.LayerType":
            fix = "quoted types belong in 'layer { }', not in 'layers { }'"
        raise BadValue(f"{shown(scalar)} is no value of {spec.enum}", names_of(spec), fix)
    if re.fullmatch(r"-?[0-9]{1,10}", scalar.text) and int(scalar.text) in spec.values.values():
        return int(scalar.text)
    hint = closest(scalar.text, spec.values)
    fix = hint if hint.startswith("did you mean") else ""
    raise BadValue(f"{shown(scalar)} is no value of {spec.enum}", names_of(spec), fix)


def names_of(spec: FieldSpec) -> str:
    """The values an enum field may have, for a message."""
    return f"one of {', '.join(spec.values)}"


def _text(spec: FieldSpec, scalar: Scalar) -> str:
    _check_quoted(spec, scalar)
    if not scalar.text.isascii():
        try:
            scalar.text.encode()
        except UnicodeEncodeError:
            raise BadValue(f"{shown(scalar)} is not UTF-8", "a string in UTF-8") from None
    return scalar.text


def _check_quoted(spec: FieldSpec, scalar: Scalar) -> None:
    if scalar.kind != "string":
        fix = f'write "{printable(scalar.text)}"'
        if spec.name == "type" and scalar.text.isupper():
            fix += ", unless this is meant to be 'layers { }', whose types are in capitals without quotes"
        raise BadValue(f"{shown(scalar)} is not in quotes", "a string in quotes", fix)


def _bytes(spec: FieldSpec, scalar: Scalar) -> bytes:
    _check_quoted(spec, scalar)
    return scalar.text.encode("utf-8", "surrogateescape")


def _block(spec: FieldSpec, scalar: Scalar) -> Any:
    raise BadValue(f"{shown(scalar)} is no block", f"a block {spec.name} {{ ... }}")


_CONVERTERS: dict[str, Callable[[FieldSpec, Scalar], Any]] = {
    **dict.fromkeys(RANGES, _integer),
    "float": _float,
    "double": _double,
    "bool": _bool,
    "enum": _enum,
    "string": _text,
    "bytes": _bytes,
    "message": _block,
}
