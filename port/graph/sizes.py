"""How large a net's blobs are: what Caffe's integers hold, and what this machine's memory does."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from prototxt_gen.base.errors import CaffeWarning, NetError, Problem
from prototxt_gen.base.machine import free_memory
from prototxt_gen.schema.habits import habits

from ..layers import BlobSpec, Misfit, Shape, show
from .graph import Graph, Node, Value

MOST = 2**31 - 1  # INT_MAX: what Caffe counts the values of a blob with
_NEVER_MORE = 64 * 2**20  # bytes that every machine has; below them nobody asks the system
_MUCH = 2 * 2**30  # bytes that are not taken without a word
_DRAWING = 28  # bytes a value while a filler draws: three arrays in double precision, one in single


def require_sizes(shapes: Iterable[Shape], dialect: str, what: str = "the shape") -> None:
    """Raise Misfit for what Blob::Reshape refuses: too many axes, a negative extent, or more values than INT_MAX."""
    most_axes = habits(dialect).most_axes
    for shape in shapes:
        if len(shape) > most_axes:
            raise Misfit(f"{what} {show(shape)} with {len(shape)} axes", f"{most_axes} at most", "shape")
        if any(extent < 0 for extent in shape):
            raise Misfit(f"{what} {show(shape)}", "extents of 0 or more", "shape")
        count = 1
        for extent in shape:
            if extent > MOST:
                raise Misfit(f"{what} {show(shape)} with the extent {extent}", f"{MOST} at most, in Caffe", "shape")
            count *= extent
            if count > MOST:
                raise Misfit(f"{what} {show(shape)}, {prod(shape)} values", f"{MOST} at most, in Caffe", "shape")


def require_parameters(specs: Iterable[BlobSpec], dialect: str) -> None:
    """The same for the parameters of a layer."""
    for spec in specs:
        require_sizes([spec.shape], dialect, f"its {spec.name}:")


def parameter_bytes(graph: Graph, loaded: Collection[tuple[int, int]] = ()) -> int:
    """What the net's parameters take while they are made; `loaded` (layer, blob) are not drawn."""
    counts = {(i, j): prod(spec.shape) for i, node in enumerate(graph.nodes) for j, spec in enumerate(node.specs)}
    return 4 * sum(counts.values()) + _DRAWING * max((n for slot, n in counts.items() if slot not in loaded), default=0)


def pass_values(graph: Graph, inputs: Mapping[str, Any]) -> int:
    """Values of all blobs in one pass over these inputs, and of what the hungriest layer needs besides."""
    sizes = list(map(prod, _shapes(graph.values)))
    total = sum(sizes) + max((3 * max(sizes, default=0), *map(_work, graph.nodes)))
    grown = Fraction(1)  # by how much an input is larger than the file says
    for value in graph.inputs:
        declared, given = prod(value.shape or ()), inputs.get(value.blob)
        if declared and given is not None:
            grown = max(grown, Fraction(given.numel() if hasattr(given, "numel") else np.size(given), declared))
    return int(total * grown)


class LargeMemoryWarning(CaffeWarning):
    """A net that needs so much memory that nobody should be surprised by it."""


def require_memory(graph: Graph, needed: int, what: str) -> None:
    """Raise NetError where memory does not hold so many bytes; warn (LargeMemoryWarning) above 2 GiB."""
    if needed <= _NEVER_MORE:
        return
    free = free_memory()
    if free is not None and needed > free:
        found = f"{what} would need about {_gib(needed)} of memory, and {_gib(free)} are free"
        fix = "use a smaller batch, or smaller blobs"
        raise NetError(Problem(found, fix=fix, file=graph.file, layer=_largest(graph)))
    if needed > _MUCH:
        place = graph.file or graph.name
        text = f"{place}: {what} take about {_gib(needed)} of memory, most of it in layer '{_largest(graph)}'"
        warnings.warn(text, LargeMemoryWarning, stacklevel=3)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 // 10 else f"{count / 2**20:.0f} MiB"


def _largest(graph: Graph) -> str:
    """The layer that needs most: for a top, a parameter or its own work."""
    sizes: dict[str, int] = {}
    for node in graph.nodes:
        counts = map(prod, (*_shapes(node.tops), *(spec.shape for spec in node.specs)))
        sizes[node.name] = max(_work(node), *counts, sizes.get(node.name, 0))
    return max(sizes, key=lambda name: sizes[name], default="")


def _shapes(values: list[Value]) -> list[Shape]:
    return [value.shape or () for value in values]


def _work(node: Node) -> int:
    """Values that a layer needs for its own work."""
    known = node.layer.kind != "data" and all(v.shape is not None for v in node.bottoms)
    return node.layer.buffers(*_shapes(node.bottoms)) if known else 0
