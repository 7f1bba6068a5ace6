"""From a LayerParameter to its layer: the class that is meant, its fields, and what Caffe refuses before any shape."""

from __future__ import annotations

from typing import Any

from prototxt_gen.schema import descriptor, is_repeated

from .base import REGISTRY, VARIANTS, Context, Layer, Misfit, field_names
from .foreign import foreign_fields


def layer_class(message: Any, context: Context) -> type[Layer]:
    """The class that a LayerParameter means: of several of one name the pack's that claims it.

    A pack's class is not asked where the dialect knows none of its fields.
    """
    known = message.DESCRIPTOR.fields_by_name
    for cls in VARIANTS.get(message.type, ()):
        if (not cls.param or any(name in known for name in cls.param)) and cls.claims(message, context):
            return cls
    return REGISTRY[message.type]


def make_layer(message: Any, context: Context) -> Layer:
    """The layer that a LayerParameter describes; raises Misfit for a field that the type does not take."""
    cls = layer_class(message, context)
    values = cls.read(message)
    unknown = set(values) - field_names(cls)
    foreign = foreign_fields(message, cls.param, unknown, context.dialect)
    for name in foreign:
        values.pop(name)
    refused = [entry for entry in foreign.values() if not entry.kept and cls.kind != "data"]
    if refused:
        names = ", ".join(sorted(entry.name for entry in refused))
        forks = ", ".join(dict.fromkeys(fork for entry in refused for fork in entry.forks))
        raise Misfit(f"the field changes what {cls.type} computes in {forks}, and is not supported", field=names)
    if unknown := unknown - set(foreign):
        raise Misfit(f"the field is not supported for {cls.type}", field=", ".join(sorted(unknown)))
    check_count("bottom", context.bottoms, cls.bottom_count)
    check_count("top", context.tops, cls.top_count)
    if context.in_place and cls.refuses_in_place(context):
        raise Misfit("the top is the bottom", f"two blobs: {cls.type} does not work in place", "top")
    return cls(at=context, **values)


def check_count(what: str, count: int, allowed: tuple[int, int | None]) -> None:
    """Raise Misfit unless a layer has as many bottoms or tops as its type takes."""
    least, most = allowed
    if count < least or (most is not None and count > most):
        wanted = str(least) if most == least else f"{least} or more" if most is None else f"{least} to {most}"
        raise Misfit(f"{count} {what}s", f"{wanted}", field=what)


def schema_default(param: str, field: str, dialect: str) -> Any:
    """The default that the schema gives a field (None when it gives none)."""
    message = descriptor("LayerParameter", dialect).fields_by_name[param].message_type
    found = message.fields_by_name[field]
    if is_repeated(found):
        return ()
    if not found.has_default_value:
        return None
    if found.enum_type is not None:
        return found.enum_type.values_by_number[found.default_value].name
    return found.default_value
