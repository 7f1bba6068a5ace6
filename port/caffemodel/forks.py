"""The net inside a caffemodel of any fork: a number means what its fork made of it, and the file names no fork."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from prototxt_gen.base.errors import Problem, WeightsError
from prototxt_gen.schema import descriptor, is_repeated
from prototxt_gen.schema.community import FORKS
from prototxt_gen.schema.dialect import DEFAULT
from prototxt_gen.schema.messages import native_names
from prototxt_gen.schema.printer import to_text
from prototxt_gen.schema.text import parse

from .model import Model

_FOR_ALL = {"transform_param", "loss_param", "include", "exclude", "param", "blobs"}
_OTHERWISE = {"Normalize": {"norm_param"}, "ReLU6": {"relu_param"}}  # settings that do not bear their type's name


def net_message(model: Model, dialect: str | None = None, fork: str | None = None) -> tuple[Any, str, str]:
    """The NetParameter of an open file without its blobs, its dialect, and the reason with the fork it was read as.

    Raises WeightsError where several forks read different nets in it; `fork` then declares one of `FORKS`.
    """
    if fork:
        return _in_dialect(model.message(fork), DEFAULT), DEFAULT, f"with {fork}'s field numbers, as given"
    hint, reason = model.dialect_hint()
    base = dialect or hint or DEFAULT
    if hint is None:
        reason = f"{DEFAULT} is the default: {reason}"
    plain = model.message(base)
    if not any(_strange(plain, base)):
        return plain, base, "as given" if dialect else reason
    return _as_fork(model, base)


def telling_forks(model: Model) -> list[str]:
    """The forks whose field numbers fit the net in an open file best; none where it is of Caffe's own fields alone."""
    base = model.dialect_hint()[0] or DEFAULT
    try:
        if not any(_strange(model.message(base), base)):
            return []
    except WeightsError:
        pass
    return _fitting(model)[0]


def _fitting(model: Model) -> tuple[list[str], int, dict[str, Any]]:
    """The forks that read a file with the fewest fields that they do not know, that number, and what each reads."""
    counts: dict[str, int] = {}
    nets: dict[str, Any] = {}
    for fork in FORKS:
        try:
            nets[fork] = model.message(fork)
        except WeightsError:
            continue
        counts[fork] = sum(1 for _ in _strange(nets[fork], fork))
    least = min(counts.values(), default=0)
    return [fork for fork in FORKS if counts.get(fork) == least], least, nets


def _as_fork(model: Model, base: str) -> tuple[Any, str, str]:
    """The net as the fork reads it that knows all its fields; several forks may read the same net in it."""
    best, least, nets = _fitting(model)
    if not best:
        return model.message(base), base, f"{base}, since no fork that is known can read it"
    read = {fork: _in_dialect(nets[fork], DEFAULT) for fork in best}
    first = read[best[0]]
    if any(net != first for net in read.values()):
        found = f"its field numbers fit {', '.join(best)}, which mean different fields by them"
        fix = f"declare the fork: --fork {best[0]}; the weights themselves load whatever the fork"
        raise WeightsError(Problem(found, "a fork that can be told", fix, file=model.path))
    left = f", but for {least} fields that none knows" if least else ""
    return first, DEFAULT, f"the field numbers are those of {' and '.join(best)}{left}"


def _in_dialect(net: Message, dialect: str) -> Any:
    """A net read with a fork's numbers, in a dialect's own messages: fields go over by name."""
    return parse(to_text(net), "NetParameter", dialect)


def _strange(message: Message, reader: str) -> Iterator[str]:
    """What a file of this reader's own Caffe would not have: unknown fields, foreign ones, settings of another type."""
    name = message.DESCRIPTOR.name
    yield from (f"field {field.field_number} of {name}" for field in UnknownFieldSet(message))
    native = native_names(reader) if reader not in FORKS else None
    if name == "LayerParameter" and (odd := _of_another(message)):
        yield odd
    for field, value in message.ListFields():
        if native is not None and (name, field.name) not in native:
            yield field.name
        if field.message_type is not None:
            for each in value if is_repeated(field) else [value]:
                yield from _strange(each, reader)


def _of_another(layer: Any) -> str:
    """The field that holds a layer's settings, where its type has settings of its own in some fork, and not these."""
    fields = descriptor("LayerParameter", DEFAULT).fields_by_name
    own = {name for name in fields if _bare(name) == layer.type.lower()} | _OTHERWISE.get(layer.type, set())
    held = [f.name for f, _ in layer.ListFields() if f.message_type is not None and f.name not in _FOR_ALL]
    return held[0] if own and held and not own.intersection(held) else ""


def _bare(field: str) -> str:
    return field.removesuffix("_param").replace("_", "")
