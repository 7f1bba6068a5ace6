"""Weights for any net without a download: its own fillers, statistics that fit them, the same bytes everywhere.

The fillers draw the weights. What training would have moved is then set layer by layer while two made-up
images run through the float64 reference: normalisation layers get the statistics of what reaches them, and
a weighted layer whose output would vanish or explode is scaled to unit deviation. Everything a filler made
constant is varied, so that no two channels are alike. Measured numbers are rounded far more coarsely than
sums differ between machines, which makes the file reproducible.

A net that is normalised but not trained is chaotic: rounding errors grow a hundredfold over 101 layers,
which no trained net does. Two properties of trained nets prevent it, and are given here too: biases behind
a normalisation as large as its slopes, and residual branches that are small beside their shortcut.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from port.graph.build import load_graph
from port.graph.graph import Graph, Node
from port.layers import Misfit
from port.module import build_module
from port.net import save_caffemodel
from port.weights.fillers import fill, stream
from prototxt_gen.base.errors import NetError, Problem, UsageError

PIXEL_DEVIATION = 65.0  # of a photograph minus its mean colour, in grey levels
WOBBLE = 0.1  # deviation of what a filler made constant
AFFINE_BIAS = 1.0  # the same for biases behind a normalisation
BRANCH = 0.3  # deviation of what is added to a shortcut
COUNT = 999.5  # BatchNorm's weight of the accumulated statistics, as after long training
BATCH = 2
DIGITS = 4  # kept of measured numbers


def rounded(values: np.ndarray | float) -> np.ndarray:
    """Values with DIGITS significant digits."""
    values = np.asarray(values, np.float64)
    safe = np.where(values == 0, 1, np.abs(values))
    unit = 10.0 ** (DIGITS - 1 - np.floor(np.log10(safe)))
    return np.where(values == 0, 0, np.rint(values * unit) / unit)


def made_up_input(shape: tuple[int, ...], random: np.random.RandomState) -> np.ndarray:
    """Random blobs of all sizes, as smooth as a photograph, for an image; plain noise for any other input."""
    shape = (BATCH, *shape[1:])
    if len(shape) != 4:
        return random.standard_normal(shape)
    total, size, cells = np.zeros(shape), 1, 0
    while size <= max(shape[2:]):
        grid = random.standard_normal((*shape[:2], -(-shape[2] // size), -(-shape[3] // size)))
        total += grid.repeat(size, 2).repeat(size, 3)[:, :, : shape[2], : shape[3]]
        size, cells = size * 2, cells + 1
    return total * (PIXEL_DEVIATION / cells**0.5)


def seeded_blobs(graph: Graph, seed: int) -> dict[tuple[int, int], np.ndarray]:
    """All blobs of a graph from a seed: (node index, blob index) -> float32 array; raises NetError."""
    values = {v.name: made_up_input(v.shape or (), stream(seed, v.blob, "input")) for v in graph.inputs}
    arrays: dict[tuple[int, int], np.ndarray] = {}
    branches = _branches(graph)
    weighted = [i for i, node in enumerate(graph.nodes) if node.specs]
    for i, node in enumerate(graph.nodes[: weighted[-1] + 1 if weighted else 0]):
        if node.layer.kind == "data":
            continue
        bottoms = [values[v.name] for v in node.bottoms]
        try:
            blobs = _seeded(node, bottoms, graph.dialect, seed, BRANCH if i in branches else 1.0)
            tops = node.layer.reference([blob.copy() for blob in blobs], *bottoms)
        except Misfit as misfit:
            raise NetError(Problem(file=graph.file, line=node.line, layer=node.name, **misfit.parts)) from None
        arrays |= {(i, j): blob.astype(np.float32) for j, blob in enumerate(blobs)}
        values |= {value.name: top for value, top in zip(node.tops, tops, strict=True)}
    return arrays


def _branches(graph: Graph) -> set[int]:
    """Indices of the layers that end a residual branch: summed with a blob that fewer weighted layers made."""
    depth = {v.name: 0 for v in graph.inputs}
    ends: set[str] = set()
    for node in graph.nodes:
        reached = [depth[v.name] for v in node.bottoms]
        if node.layer.sums_bottoms():
            ends |= {v.name for v in node.bottoms if depth[v.name] > min(reached)}
        depth |= {v.name: max(reached, default=0) + bool(node.specs) for v in node.tops}
    return {i for i, node in enumerate(graph.nodes) if any(v.name in ends for v in node.tops)}


def _seeded(node: Node, bottoms: list[np.ndarray], dialect: str, seed: int, deviation: float) -> list[np.ndarray]:
    """The blobs of one layer, as float64 that float32 holds exactly; its top deviates by about `deviation`."""
    blobs = [_filled(node, j, dialect, seed) for j in range(len(node.specs))]
    names = [spec.name for spec in node.specs]
    if "variance" in names:
        _set_statistics(blobs, names, bottoms[0], stream(seed, node.name, "statistics"))
    if names and names[0] in ("slope", "scale"):
        blobs[0] = blobs[0] * deviation
    elif "weight" in names and len(node.specs[0].shape) > 1:
        found = float(node.layer.reference([b.copy() for b in blobs], *bottoms)[0].std()) / deviation
        if not 0.5 <= found <= 2:
            blobs[0] = blobs[0] * (rounded(1 / found) if found else 1.0)
    return [blob.astype(np.float32).astype(np.float64) for blob in blobs]


def _filled(node: Node, index: int, dialect: str, seed: int) -> np.ndarray:
    """A blob by its filler; what is constant, varied."""
    spec = node.specs[index]
    values = fill(spec.filler, spec.shape, dialect, seed, node.name, index).astype(np.float64)
    if values.size > 1 and (values == values.flat[0]).all():
        affine = spec.name == "bias" and node.specs[0].name in ("slope", "scale")
        noise = stream(seed, node.name, f"{index} wobble").standard_normal(spec.shape)
        values = values + (AFFINE_BIAS if affine else WOBBLE) * noise
    return values


def _set_statistics(blobs: list[np.ndarray], names: list[str], x: np.ndarray, random: np.random.RandomState) -> None:
    """Mean and variance of what reaches a normalisation layer, off by about a tenth, as on other images."""
    axes = (0, *range(2, x.ndim))
    mean, variance = x.mean(axes), x.var(axes)
    variance = variance + 1e-3 * variance.mean() + 1e-5  # a channel that is silent here may not be elsewhere
    mean = mean + WOBBLE * np.sqrt(variance) * random.standard_normal(len(mean))
    variance = variance * random.uniform(1 - WOBBLE, 1 + WOBBLE, len(mean))
    count = np.array([COUNT]) if "count" in names else np.ones(1)
    for name, statistic in (("mean", mean), ("variance", variance)):
        blob = blobs[names.index(name)]
        blob[...] = rounded(statistic).reshape(blob.shape) * count
    if "count" in names:
        blobs[names.index("count")][...] = count


def parse_seed(argument: str) -> int:
    """The seed of `seed:7`; raises UsageError."""
    if not argument.isdecimal():
        raise UsageError(Problem(f"the seed '{argument}'", "a whole number of 0 or more, as in seed:7"))
    return int(argument)


def write_for_net(prototxt: Path, argument: str, output: Path) -> str:
    """Write seeded weights for a net as a .caffemodel; returns a line that says what was written."""
    seed = parse_seed(argument)
    graph = load_graph(prototxt)
    save_caffemodel(build_module(graph, seeded_blobs(graph, seed)), output)
    layers = [node for node in graph.nodes if node.specs]
    count = sum(int(np.prod(spec.shape)) for node in layers for spec in node.specs)
    return f"{output}: {len(layers)} layers, {count:,} values from seed {seed}, {output.stat().st_size:,} bytes"
