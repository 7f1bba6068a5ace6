"""Caffe's messages in both dialects, built from two tables when first used, no generated code.

`fields.tsv` has the two Caffes of the dialects, `community.tsv` what other forks add: a text file may use all of it.
"""

from __future__ import annotations

import copyreg
import csv
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache, partial
from importlib import resources
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from ..base.errors import UsageError, closest
from .community import FORKS, fork_rows, union_rows

T = TypeVar("T")

DIALECTS = ("bvlc", "srn")
PHASES = ("TRAIN", "TEST")
PACKAGE = "caffe"

# Types that protobuf itself has.
SCALARS = {"float", "double", "int32", "int64", "uint32", "uint64", "bool", "string", "bytes"}
_COLUMNS = ("message", "kind", "name", "number", "label", "type", "packed", "default", "deprecated")
_FieldProto = descriptor_pb2.FieldDescriptorProto


@cache
def _rows() -> list[dict[str, str]]:
    text = resources.files(__package__).joinpath("fields.tsv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


# Messages that users have defined: what forks have under such a name is not meant.
_owned: set[str] = set()


def _add_field(message: descriptor_pb2.DescriptorProto, row: dict[str, str], enums: set[str]) -> None:
    field = message.field.add(name=row["name"], number=int(row["number"]))
    field.label = getattr(_FieldProto, f"LABEL_{row['label'].upper()}")
    kind = row["type"]
    if kind in SCALARS:
        field.type = getattr(_FieldProto, f"TYPE_{kind.upper()}")
    else:
        field.type = _FieldProto.TYPE_ENUM if kind in enums else _FieldProto.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"
    if row["default"]:
        field.default_value = row["default"]
    if row["packed"] == "1":
        field.options.packed = True
    if row["deprecated"] == "1":
        field.options.deprecated = True


def _dialect_rows(dialect: str) -> list[dict[str, str]]:
    return [row for row in _rows() if row["dialect"] == dialect]


def _schema_rows(dialect: str) -> list[dict[str, str]]:
    """A dialect with what all forks add to it; of a fork its own schema, with the numbers of its binary files."""
    if dialect in FORKS:
        return fork_rows(_dialect_rows(DIALECTS[0]), dialect)
    base = _dialect_rows(dialect)
    rows = [*base, *union_rows(base, _owned)]
    # what forks have taken over from the other dialect's Caffe, their table does not repeat
    lent, known = _dialect_rows(DIALECTS[1 - DIALECTS.index(dialect)]), {row["message"] for row in rows}
    missing = {row["type"] for row in rows if row["kind"] == "field"} - known
    return [*rows, *(row for row in lent if row["message"] in missing)]


def _file_proto(dialect: str) -> descriptor_pb2.FileDescriptorProto:
    """The whole schema of one dialect or fork as protobuf's own description of a .proto file."""
    fields: dict[str, list[dict[str, str]]] = defaultdict(list)
    values: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in _schema_rows(dialect):
        (fields if row["kind"] == "field" else values)[row["message"]].append(row)
    file = descriptor_pb2.FileDescriptorProto(name=f"caffe_{dialect}.proto", package=PACKAGE, syntax="proto2")
    messages: dict[str, Any] = {}
    # Every message first: an enum may be nested in a message that has no field of its own.
    owners = [name.rpartition(".")[0] for name in values]
    held = [row["type"] for rows in fields.values() for row in rows]  # a fork's message may have no field of its own
    bare = [kind for kind in held if kind not in SCALARS and kind not in values and kind not in fields]
    for name in dict.fromkeys([*fields, *filter(None, owners), *bare]):
        messages[name] = file.message_type.add(name=name)
    for name, rows in values.items():
        owner, _, short = name.rpartition(".")
        enum = (messages[owner] if owner else file).enum_type.add(name=short)
        for row in rows:
            enum.value.add(name=row["name"], number=int(row["number"]))
    for name, rows in fields.items():
        for row in rows:
            _add_field(messages[name], row, set(values))
    return file


_derived: list[Any] = []


def schema_cache(function: Callable[..., T]) -> Callable[..., T]:
    """functools.cache for what is worked out from the schema: forgotten when the schema grows."""
    cached = cache(function)
    _derived.append(cached)
    return cached


def forget() -> None:
    """Drop everything that was worked out from the schema."""
    for cached in _derived:
        cached.cache_clear()


@schema_cache
def _classes(dialect: str) -> dict[str, type[Message]]:
    # A pool of its own: both dialects use the package "caffe", as the files on disk do.
    pool = descriptor_pool.DescriptorPool()
    proto = _file_proto(dialect)
    pool.AddSerializedFile(proto.SerializeToString())
    if hasattr(message_factory, "GetMessageClass"):  # protobuf 4.22 and later
        make = message_factory.GetMessageClass
    else:
        make = message_factory.MessageFactory(pool).GetPrototype
    made = {m.name: make(pool.FindMessageTypeByName(f"{PACKAGE}.{m.name}")) for m in proto.message_type}
    for name, kind in made.items():  # such a class has no place in a module where pickle could look it up
        copyreg.pickle(kind, partial(_reduced, name, dialect))  # type: ignore[arg-type]
    return made


def _reduced(name: str, dialect: str, message: Message) -> tuple[Callable[..., Message], tuple[Any, ...]]:
    return _restored, (name, dialect, message.SerializeToString())


def _restored(name: str, dialect: str, data: bytes) -> Message:
    """A pickled message; raises UsageError where this process lacks the layers that it was made with."""
    return message_class(name, dialect).FromString(data)


def add_rows(rows: Iterable[dict[str, str]], owned: Iterable[str] = ()) -> None:
    """Extend the table: the schema is made anew when next used, and messages made earlier do not know the fields.

    `owned`: messages that hold what is added and nothing else, whatever a fork has under their name.
    """
    _rows().extend(rows)
    _owned.update(owned)
    forget()


def dialect_of(message: Message) -> str:
    """The dialect (or fork) in whose schema a message was made."""
    return message.DESCRIPTOR.file.name.removeprefix("caffe_").removesuffix(".proto")


@schema_cache
def native_names(dialect: str) -> frozenset[tuple[str, str]]:
    """(message, field) and (enum, value) that a dialect's own Caffe has, or a user has added: not only some fork."""
    return frozenset((row["message"], row["name"]) for row in _dialect_rows(dialect))


def field_row(
    message: str, name: str, number: int, kind: str, default: Any = None, repeated: bool = False
) -> dict[str, str]:
    """A row of the table for a field of either dialect."""
    text = str(default).lower() if isinstance(default, bool) else "" if default is None else str(default)
    label = "repeated" if repeated else "optional"
    values = (message, "field", name, str(number), label, kind, "0", text, "0")
    return dict(zip(_COLUMNS, values, strict=True))


def value_row(enum: str, name: str, number: int) -> dict[str, str]:
    """A row of the table for a value of an enum, which is named with its message: `PoolingParameter.PoolMethod`."""
    return dict(zip(_COLUMNS, (enum, "enum_value", name, str(number), "", "", "0", "", "0"), strict=True))


def message_class(name: str, dialect: str) -> Any:
    """The protobuf class of a Caffe message (`NetParameter`, ...) in `bvlc` or `srn`; raises UsageError.

    In a dialect it has the fields of all forks under numbers of no meaning; with the name of a fork (`FORKS`), those
    that the fork's binary files have.
    """
    if dialect not in DIALECTS and dialect not in FORKS:
        raise UsageError(f"there is no dialect '{dialect}'; choose one of: {', '.join(DIALECTS)}")
    classes = _classes(dialect)
    if name not in classes:
        raise UsageError(f"the dialect '{dialect}' has no message '{name}'; {closest(name, classes)}")
    return classes[name]


def descriptor(name: str, dialect: str) -> Descriptor:
    """The descriptor of a Caffe message: its fields with numbers, types and defaults."""
    return message_class(name, dialect).DESCRIPTOR


def message_names(dialect: str) -> list[str]:
    """The names of all messages of a dialect."""
    return list(_classes(dialect))


def is_repeated(field: FieldDescriptor) -> bool:
    """Whether a field may stand several times (protobuf 4 to 7 spell this differently)."""
    repeated = getattr(field, "is_repeated", None)
    return bool(repeated) if repeated is not None else field.label == FieldDescriptor.LABEL_REPEATED
