"""Caffe's fillers in NumPy, the same numbers on every machine.

Every blob draws from a stream of its own, named by the seed, the layer and the blob's index, so that a
layer keeps its numbers when others come or go. The generator is the Mersenne twister, Caffe's own, in
NumPy's frozen `RandomState`; the draws are those distributions, not Caffe's bit streams (semantics 3.6).
"""

from __future__ import annotations

import hashlib
from math import ceil, isfinite, prod, sqrt
from typing import Any

import numpy as np

from prototxt_gen.schema.habits import habits

from ..layers.base import Misfit, show

Shape = tuple[int, ...]

OF_FORKS = ("gaussian_unitball", "identity")  # of forks for face nets
BY_ITEM = ("positive_unitball", "xavier", "msra", *OF_FORKS)  # what they draw depends on the extents of the first axes
KINDS = ("constant", "bilinear", "uniform", "gaussian", *BY_ITEM)


def stream(seed: int, layer: str, index: int | str) -> np.random.RandomState:
    """The random numbers of one blob."""
    digest = hashlib.sha256(f"{seed}/{layer}/{index}".encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4"))


def fan(filler: Any, shape: Shape) -> float:
    """The n of xavier and msra: fan_in = count / shape[0], fan_out = count / shape[1], or their mean."""
    count = prod(shape)
    fan_in = count / shape[0] if shape else 1
    fan_out = count / shape[1] if len(shape) > 1 else count
    return (fan_in, fan_out, (fan_in + fan_out) / 2)[filler.variance_norm]


def bilinear(shape: Shape, dialect: str) -> np.ndarray:
    """The interpolation kernel; not every Caffe places its centre in the middle (semantics 4)."""
    f = ceil(shape[3] / 2)
    centred = habits(dialect).centred_bilinear_filler
    centre = (shape[3] - 1 if centred else 2 * f - 1 - f % 2) / (2 * f)
    line = 1 - np.abs(np.arange(shape[3]) / f - centre)
    return np.broadcast_to(np.outer(line, line), shape)


def check_filler(filler: Any, shape: Shape, dialect: str) -> None:
    """Raise Misfit for a FillerParameter that Caffe refuses for a blob of `shape`; constants pass (semantics 4)."""
    if isinstance(filler, float | int):
        return
    kind = filler.type
    if kind not in KINDS:
        raise Misfit(f"the filler type '{kind}'", ", ".join(sorted(KINDS)), "filler")
    if filler.sparse != -1 and kind != "gaussian":
        raise Misfit(f"sparse {filler.sparse} with a {kind} filler", "a gaussian filler", "sparse")
    if kind == "gaussian":
        _check_gaussian(filler, shape)
    if kind == "uniform":
        _check_uniform(filler)
    if kind == "bilinear" and (len(shape) != 4 or shape[2] != shape[3]):
        raise Misfit(f"a bilinear filler for {show(shape)}", "a square kernel with 4 axes", "filler")
    if kind == "identity" and (len(shape) < 2 or shape[0] != shape[1]):
        raise Misfit(f"an identity filler for {show(shape)}", "two equal extents in front", "filler")
    # asked for is the extent of axis 0, or `num` and `channels`, which 5 axes do not have
    legacy = habits(dialect).legacy_fillers
    if kind in BY_ITEM and not shape and not legacy:
        raise Misfit(f"a {kind} filler for a blob without axes", "1 axis or more", "filler")
    if kind in BY_ITEM and len(shape) > 4 and legacy:
        raise Misfit(f"a {kind} filler for {show(shape)}", "at most 4 axes in the fork", "filler")


def _check_gaussian(filler: Any, shape: Shape) -> None:
    if not filler.std > 0:
        raise Misfit(f"std {filler.std:g} of a gaussian filler", "a number above 0", "filler")
    if filler.sparse >= 0 and not shape:
        raise Misfit("sparse for a blob without axes", "1 axis or more", "sparse")


def _check_uniform(filler: Any) -> None:
    if filler.min > filler.max:
        raise Misfit(f"min {filler.min:g} above max {filler.max:g}", "a min of at most max", "filler")
    if not isfinite(filler.max - filler.min):
        raise Misfit(f"min {filler.min:g} and max {filler.max:g}", "finite numbers", "filler")


def fill(filler: Any, shape: Shape, dialect: str, seed: int, layer: str, index: int) -> np.ndarray:
    """A new float32 array of `shape` as a FillerParameter (or a constant) asks; raises Misfit (semantics 4)."""
    if isinstance(filler, float | int):
        return np.full(shape, filler, np.float32)
    check_filler(filler, shape, dialect)
    if filler.type == "constant":
        return np.full(shape, filler.value, np.float32)
    if filler.type == "bilinear":
        return bilinear(shape, dialect).astype(np.float32)
    if not prod(shape):
        return np.zeros(shape, np.float32)
    return np.asarray(_MAKERS[filler.type](filler, shape, stream(seed, layer, index)), np.float32)


def _uniform(filler, shape, random):
    return random.uniform(filler.min, filler.max, shape)


def _gaussian(filler, shape, random):
    values = random.standard_normal(shape) * filler.std + filler.mean
    if filler.sparse >= 0:
        values = values * (random.uniform(size=shape) < filler.sparse / shape[0])
    return values


def _unitball(filler, shape, random):
    values = random.uniform(size=shape)
    return values / np.sum(values, tuple(range(1, len(shape))), keepdims=True) if shape else np.ones(())


def _gaussian_unitball(filler, shape, random):
    values = random.standard_normal(shape)
    return values / np.sqrt(np.sum(values * values, tuple(range(1, len(shape))), keepdims=True) + 1e-12)


def _identity(filler, shape, random):
    values = np.zeros(prod(shape))
    values[np.arange(shape[0]) * (shape[1] + 1)] = 1  # by place, whatever stands behind the first two axes
    return values.reshape(shape)


def _xavier(filler, shape, random):
    bound = sqrt(3 / fan(filler, shape))
    return random.uniform(-bound, bound, shape)


def _msra(filler, shape, random):
    return random.standard_normal(shape) * sqrt(2 / fan(filler, shape))


_MAKERS = {
    "uniform": _uniform,
    "gaussian": _gaussian,
    "positive_unitball": _unitball,
    "gaussian_unitball": _gaussian_unitball,
    "identity": _identity,
    "xavier": _xavier,
    "msra": _msra,
}
