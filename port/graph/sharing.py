"""The `param` entries of a net: what Caffe refuses in them (Net::AppendParam; semantics 2.7 and 1.6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from prototxt_gen.base.errors import Problems
from prototxt_gen.schema.habits import Habits

from ..layers import BlobSpec, show

if TYPE_CHECKING:
    from .graph import Node

MULTIPLIERS = ("lr_mult", "decay_mult")


@dataclass
class Owner:
    """The first blob that bears a name, and the multipliers that it or its sharers spell out."""

    layer: str
    spec: BlobSpec
    multipliers: dict[str, float] = field(default_factory=dict)


def check_params(nodes: list[Node], habits: Habits, problems: Problems) -> None:
    """Complain about entries without a blob, statistics that would be learned, and blobs that cannot be shared."""
    owners: dict[str, Owner] = {}
    for node in nodes:
        if any(value.shape is None for value in node.tops):
            continue  # its blobs are not known; why is among the problems
        place = {"layer": node.name, "line": node.line, "field": "param"}
        entries = node.message.param
        if len(entries) > len(node.specs):
            problems.add(f"{len(entries)} entries", expected=f"at most {len(node.specs)}, one for each blob", **place)
        for spec, entry in zip(node.specs, entries, strict=False):
            if spec.statistic and habits.statistics_must_stay and entry.lr_mult != 0:
                found = f"lr_mult {entry.lr_mult:g} for the {spec.name}, which forward updates"
                problems.add(found, expected="lr_mult: 0", fix="write it, or leave the entries out", **place)
            if entry.name:
                owner = owners.setdefault(entry.name, Owner(node.name, spec))
                for found, expected in _conflicts(owner, spec, entry, habits):
                    where = f" as in layer '{owner.layer}'"
                    problems.add(f"'{entry.name}' {found}", expected=expected + where, **place)


def _conflicts(owner: Owner, spec: BlobSpec, entry: Any, habits: Habits) -> list[tuple[str, str]]:
    """What keeps a blob from sharing its owner's values: found and expected."""
    found = []
    if entry.share_mode == entry.PERMISSIVE:
        if prod(spec.shape) != prod(owner.spec.shape):
            found.append((f"has {prod(spec.shape)} values", f"{prod(owner.spec.shape)}"))
    elif spec.shape != owner.spec.shape:
        found.append((f"is {show(spec.shape)}", show(owner.spec.shape)))
    for name in MULTIPLIERS if habits.sharers_must_agree else ():
        if entry.HasField(name):
            first = owner.multipliers.setdefault(name, getattr(entry, name))
            if getattr(entry, name) != first:
                found.append((f"has {name} {getattr(entry, name):g}", f"{first:g}"))
    return found
