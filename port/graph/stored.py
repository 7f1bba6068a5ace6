"""What a weights file tells of the net it was saved from, where the net's own text leaves that open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stored:
    """How many blobs the file has for each layer, and the pack of the only fork whose field numbers fit its net."""

    counts: Mapping[str, int] = field(default_factory=dict)
    packs: frozenset[str] = frozenset()
