"""What a net has from forks of Caffe: layer types without rules here, and fields that are kept or refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

from prototxt_gen.base.door import WAY_OUT
from prototxt_gen.base.errors import NEARLY, Problems, closest
from prototxt_gen.schema.packs import forks_with

from ..layers import REGISTRY
from ..layers.foreign import settings
from .graph import Graph


def unknown_type(type: str, problems: Problems, place: dict[str, Any]) -> None:
    """Complain about a type without a class: which forks have it or what was meant, and the way out."""
    # a fork's own type often has a known one in its name: only what is nearly the same was meant
    forks, hint = forks_with(type), closest(type, REGISTRY, cutoff=NEARLY)
    known = f"not supported; forks that have it: {', '.join(forks)}"
    found = f"the layer type '{type}' is {known if forks else 'unknown'}"
    fix = hint if hint.startswith("did you mean") and not forks else WAY_OUT
    problems.add(found, fix=fix, **place)


def keep_settings(graph: Graph, message: Any, problems: Problems, place: dict[str, Any]) -> None:
    """The fields of forks that stand in a layer or in the net itself: kept where they change nothing, else refused."""
    type = getattr(message, "type", "")
    read = REGISTRY[type].param if type in REGISTRY else ()
    for entry in settings(message, graph.dialect):
        if entry.name in read:
            continue
        if entry.kept:
            graph.kept.append(entry)
        else:
            found = f"the field is {', '.join(entry.forks)}'s, changes the result, and is not supported"
            problems.add(found, fix="remove it if the result may differ", field=entry.name, **place)


def kept_notes(graph: Graph) -> list[str]:
    """One line for every field of forks that a net sets and that has no effect here, with the number of layers."""
    counts = Counter(entry for entry in graph.kept)
    return [
        f"kept, no effect here: {entry.message}.{entry.name} ({count} times; {', '.join(entry.forks)})"
        for entry, count in counts.items()
    ]
