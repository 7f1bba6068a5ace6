"""Printing: every message comes back, character for character as Caffe prints it."""

import random
import struct
from pathlib import Path

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor

from prototxt_gen.schema import DIALECTS, format_float, is_repeated, message_class, message_names, parse, to_text
from prototxt_gen.schema.printer import escape, format_double

LEGACY = Path(__file__).parents[2] / "golden" / "legacy"


def random_float(rng: random.Random) -> float:
    """A float32 of a random bit pattern, without NaN (which equals nothing)."""
    while (value := struct.unpack("<f", rng.randbytes(4))[0]) != value:
        pass
    return value


def random_double(rng: random.Random) -> float:
    while (value := struct.unpack("<d", rng.randbytes(8))[0]) != value:
        pass
    return value


def random_string(rng: random.Random) -> str:
    return "".join(rng.choices("aZ09 \n\t\r\"'\\#{}é😀\x00\x7f?", k=rng.randint(0, 9)))


DRAW = {
    FieldDescriptor.TYPE_FLOAT: lambda rng, field: random_float(rng),
    FieldDescriptor.TYPE_DOUBLE: lambda rng, field: random_double(rng),
    FieldDescriptor.TYPE_INT32: lambda rng, field: rng.randint(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: lambda rng, field: rng.randint(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: lambda rng, field: rng.randint(0, 2**32 - 1),
    FieldDescriptor.TYPE_BOOL: lambda rng, field: rng.random() < 0.5,
    FieldDescriptor.TYPE_STRING: lambda rng, field: random_string(rng),
    FieldDescriptor.TYPE_BYTES: lambda rng, field: rng.randbytes(rng.randint(0, 9)),
    FieldDescriptor.TYPE_ENUM: lambda rng, field: rng.choice([v.number for v in field.enum_type.values]),
}


def fill(message, rng: random.Random, share: float) -> None:
    """Set a random share of all fields, deep down, to random values; required fields always."""
    for field in message.DESCRIPTOR.fields:
        if rng.random() > share and message.DESCRIPTOR.name != "ClipParameter":
            continue
        for _ in range(rng.randint(1, 3) if is_repeated(field) else 1):
            if field.message_type is None:
                value = DRAW[field.type](rng, field)
                if is_repeated(field):
                    getattr(message, field.name).append(value)
                else:
                    setattr(message, field.name, value)
            else:
                child = getattr(message, field.name)
                child = child.add() if is_repeated(field) else child
                child.SetInParent()
                fill(child, rng, share)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_field_comes_back(dialect):
    rng = random.Random(20170721)
    for name in message_names(dialect):
        seen = set()
        for _ in range(24):
            message = message_class(name, dialect)()
            fill(message, rng, 0.4)
            seen |= {field.name for field, _ in message.ListFields()}
            text = to_text(message)
            assert parse(text, name, dialect) == message
            # An independent reader agrees on what the text means.
            assert text_format.Parse(text, message_class(name, dialect)()) == message
        assert len(seen) >= 0.9 * len(message.DESCRIPTOR.fields)


def test_floats_of_all_bit_patterns_come_back():
    rng = random.Random(3)
    values = [random_float(rng) for _ in range(4000)]
    values += [
        0.0,
        -0.0,
        3.4028234663852886e38,
        1e-45,
        0.01,
        0.1,
        1e10,
        16777216.0,
        float("inf"),
        float("-inf"),
    ]
    message = message_class("BlobProto", "bvlc")(data=values, double_data=[random_double(rng) for _ in range(2000)])
    back = parse(to_text(message), "BlobProto")
    assert back.SerializeToString() == message.SerializeToString()  # bits, so that -0 is not 0


@pytest.mark.parametrize(
    "value, text",
    [
        (0.01, "0.01"), (1.0, "1"), (-2.5, "-2.5"), (0.0, "0"), (-0.0, "-0"), (1e-4, "0.0001"),
        (1e-5, "1e-05"), (1e6, "1e+06"), (123456.0, "123456"), (1234567.0, "1234567"), (1 / 3, "0.333333343"),
        (0.1234567, "0.123456702"), (3.4028234663852886e38, "3.40282347e+38"),
        (float("inf"), "inf"), (float("-inf"), "-inf"), (float("nan"), "nan"),
    ],
)  # fmt: skip
def test_float_as_caffe_prints_it(value, text):
    assert format_float(struct.unpack("<f", struct.pack("<f", value))[0]) == text


def test_double_as_caffe_prints_it():
    assert [format_double(v) for v in (0.1, 1 / 3, 1e300, 2.0)] == [
        "0.1",
        "0.33333333333333331",
        "1e+300",
        "2",
    ]


def test_string_as_caffe_prints_it():
    assert escape("a\"b'c\\d\n\r\té\x01") == "a\\\"b\\'c\\\\d\\n\\r\\t\\303\\251\\001"


@pytest.mark.parametrize("path", sorted(LEGACY.glob("*.[bs]*.prototxt")), ids=lambda path: path.name)
def test_what_caffe_printed_comes_back_byte_for_byte(path):
    dialect = path.suffixes[0][1:]
    text = path.read_text()
    message = parse(text, "NetParameter", dialect, path.name)
    assert to_text(message) == text
    assert len(message.layer) > 1


def test_there_are_recorded_prints():
    assert len(list(LEGACY.glob("*.[bs]*.prototxt"))) == 12


def test_header_and_comments():
    message = parse('name: "n" layer { name: "a" } layer { name: "b" top: "c" }')
    text = to_text(message, header="Made by\n\na test", comments={1: "second\nlayer"})
    assert text == (
        "# Made by\n#\n# a test\n\n"
        'name: "n"\nlayer {\n  name: "a"\n}\n# second\n# layer\nlayer {\n  name: "b"\n  top: "c"\n}\n'
    )
    assert parse(text) == message


def test_empty_message():
    assert to_text(parse("")) == ""
    assert parse("") == message_class("NetParameter", "bvlc")()


def test_fields_are_printed_by_number():
    layer = parse('layer { type: "x" include { } name: "y" }').layer[0]
    assert to_text(layer) == 'name: "y"\ntype: "x"\ninclude {\n}\n'
