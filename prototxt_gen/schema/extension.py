"""Messages for layer types of one's own: fields, nested messages and enums, said as Python values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..base.errors import Problems, UsageError
from .messages import DIALECTS, SCALARS, add_rows, descriptor, field_row, message_names, native_names, value_row

Kind = str | Mapping[str, Any] | Sequence[Any]
Fields = Mapping[str, tuple[Any, ...]]


def extend_schema(param: str, number: int, fields: Fields) -> None:
    """Give LayerParameter a message for a layer type of one's own, in both dialects; raises UsageError with all faults.

    `param` names it (`my_param`), `number` is its field number in the file that defined it. `fields` maps each
    field to its kind and default (None: none), and as a third its number where that is not the next one. A kind is

        "float", "int32", "bool", "string", ...    a scalar; "float[]" a repeated one
        "FillerParameter", "BlobShape[]", ...      a message of Caffe's own, or repeated
        ["SUM", "MAX"] or {"SUM": 1, "MAX": 4}     an enum, numbered from 0 or as given; its default is a name
        {"x": ("float", 0.0)}                      a message nested in this one
        [{"x": ("float", 0.0)}]                    the same, repeated

    Messages made earlier do not know the fields.
    """
    message = _camel(param).removesuffix("Param") + "Parameter"
    with Problems(UsageError) as problems:
        for dialect in DIALECTS:
            taken = descriptor("LayerParameter", dialect)
            other = taken.fields_by_name.get(param) or taken.fields_by_number.get(number)
            if other is not None and ("LayerParameter", other.name) in native_names(dialect):
                found = f"LayerParameter has the field {other.number} '{other.name}' already ({dialect})"
                problems.add(found, expected="a name and a number of its own", field=param)
            elif any(owner == message for owner, _ in native_names(dialect)):
                problems.add(f"there is a message {message} already ({dialect})", expected="another name", field=param)
        _check(fields, param, problems)
    rows = [field_row("LayerParameter", param, number, message), *_message(message, fields)]
    add_rows(
        ({"dialect": dialect, **row} for dialect in DIALECTS for row in rows), {row["message"] for row in rows[1:]}
    )


def _message(name: str, fields: Fields) -> Iterator[dict[str, str]]:
    """The rows of a message, and of those nested in it."""
    position = 0
    for field, (kind, default, *given) in fields.items():
        position = given[0] if given else position + 1
        if isinstance(kind, str):
            kind, repeated = kind.removesuffix("[]"), kind.endswith("[]")
            yield field_row(name, field, position, kind, default, repeated)
        elif (values := _values(kind)) is not None:
            enum = f"{name}.{_camel(field)}"
            yield from (value_row(enum, value, number) for value, number in values.items())
            yield field_row(name, field, position, enum, default)
        else:
            nested = name.removesuffix("Parameter") + _camel(field) + "Parameter"
            repeated = not isinstance(kind, Mapping)
            yield from _message(nested, kind[0] if not isinstance(kind, Mapping) else kind)
            yield field_row(name, field, position, nested, None, repeated)


def _values(kind: Kind) -> Mapping[str, int] | None:
    """Names and numbers of an enum; None for another kind."""
    if isinstance(kind, Mapping):
        return kind if kind and all(isinstance(value, int) for value in kind.values()) else None
    return dict(zip(kind, range(len(kind)), strict=True)) if all(isinstance(each, str) for each in kind) else None


def _check(fields: Any, path: str, problems: Problems) -> None:
    """Complain about every kind and default that cannot be meant."""
    if not isinstance(fields, Mapping) or not all(isinstance(f, tuple) and len(f) in (2, 3) for f in fields.values()):
        problems.add(f"{fields!r}", expected="a mapping: field -> (kind, default)", field=path)
        return
    messages = set.intersection(*(set(message_names(dialect)) for dialect in DIALECTS))
    for name, (kind, default, *_) in fields.items():
        place = f"{path}.{name}"
        if isinstance(kind, str):
            bare = kind.removesuffix("[]")
            if bare not in SCALARS and bare not in messages:
                expected = f"one of {', '.join(sorted(SCALARS))}, or a message of Caffe's"
                problems.add(f"the field type '{kind}' of '{name}'", expected=expected, field=place)
            elif default is not None and (kind.endswith("[]") or bare in messages):
                problems.add(f"the default {default!r}", expected="None: such a field has none", field=place)
        elif isinstance(kind, Mapping | Sequence) and kind:
            values = _values(kind)
            if values is None:
                _check(kind if isinstance(kind, Mapping) else kind[0], place, problems)
            elif default is not None and default not in values:
                problems.add(f"the default {default!r}", expected=f"one of {', '.join(values)}", field=place)
        else:
            problems.add(f"the field type {kind!r} of '{name}'", expected="a kind", field=place)


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
