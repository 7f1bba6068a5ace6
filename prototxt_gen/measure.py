"""Shapes and sizes of nets, from whichever installed package knows what layers mean.

Layers have a meaning in one place of this project, which imports this package and not the reverse: it
offers its function under the entry point group `prototxt_gen.measure`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points

from .errors import Problem, UsageError

GROUP = "prototxt_gen.measure"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Size:
    """Learned values, statistics that only forward moves, multiply-adds of one forward pass."""

    parameters: int = 0
    statistics: int = 0
    multiply_adds: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(
            self.parameters + other.parameters,
            self.statistics + other.statistics,
            self.multiply_adds + other.multiply_adds,
        )


@dataclass(frozen=True)
class Measured:
    """A net in one phase: blob -> shape of its last version, layer -> its tops' shapes and its size."""

    shapes: dict[str, Shape]
    tops: dict[str, list[Shape]]
    sizes: dict[str, Size]

    def size(self, parts: Mapping[str, str] | None = None, *wanted: str) -> Size:
        """The size of the whole net, or with `parts` (layer -> part) of the wanted parts."""
        sizes = (size for layer, size in self.sizes.items() if parts is None or parts.get(layer) in wanted)
        return sum(sizes, Size())


@dataclass(frozen=True)
class Request:
    """What to measure: the text of a net in a dialect and phase, the shapes of blobs only its data know."""

    text: str
    dialect: str
    phase: str = "TEST"
    input_shapes: Mapping[str, Shape] = field(default_factory=dict)
    file: str = ""


Measure = Callable[[Request], Measured]


def find_measure() -> Measure:
    """The installed function that measures nets; raises UsageError when there is none."""
    entries = list(entry_points(group=GROUP))
    fix = "install this project into the environment: pip install -e ."
    if not entries:
        raise UsageError(Problem("no installed package measures nets", fix=fix))
    try:
        return entries[0].load()
    except (ImportError, AttributeError) as cause:
        raise UsageError(Problem(f"the package that measures nets cannot be loaded: {cause}", fix=fix)) from None
