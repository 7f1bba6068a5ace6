"""Layers that rearrange, pick or add up (semantics 1.4, 1.10 to 1.12, 1.14 to 1.16)."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from .rules import Setting, Unclear, axis_of, check, clear, count, places, rule


@rule("InnerProduct")
def inner_product(s: Setting, x):
    p = s.given("inner_product_param")
    outputs = p.get("num_output", 0)
    clear(outputs > 0)
    axis = axis_of(p.get("axis", 1), x.ndim)
    lead, k = x.shape[:axis], count(x.shape[axis:])
    transposed = p.get("transpose", False)
    weight = s.blob(k, outputs) if transposed else s.blob(outputs, k)
    bias = s.blob(outputs) if p.get("bias_term", True) else np.zeros(outputs)
    top = np.zeros((count(lead), outputs))
    for m, row in enumerate(x.reshape(count(lead), k)):
        for o in range(outputs):
            top[m, o] = math.fsum(row * (weight[:, o] if transposed else weight[o])) + bias[o]
    return [top.reshape(*lead, outputs)]


def joining_axis(p, old: str, rank: int) -> int:
    """`axis`, or its deprecated twin, which counts from the front only."""
    check(not (p.has("axis") and p.has(old)))
    if p.has(old):
        check(p.get(old) < rank)
        return p.get(old)
    return axis_of(p.get("axis", 1), rank)


@rule("Concat")
def concat(s: Setting, *bottoms):
    check(len(bottoms) >= (2 if s.srn else 1))
    axis = joining_axis(s.given("concat_param"), "concat_dim", bottoms[0].ndim)
    check(len({b.ndim for b in bottoms}) == 1)
    check(len({b.shape[:axis] + b.shape[axis + 1 :] for b in bottoms}) == 1)
    shape = list(bottoms[0].shape)
    shape[axis] = sum(b.shape[axis] for b in bottoms)
    top, start = np.zeros(shape), 0
    for b in bottoms:
        for at in places(b.shape):
            top[(*at[:axis], at[axis] + start, *at[axis + 1 :])] = b[at]
        start += b.shape[axis]
    return [top]


@rule("Slice")
def slices(s: Setting, x):
    p = s.given("slice_param")
    check(s.tops >= (2 if s.srn else 1))
    axis = joining_axis(p, "slice_dim", x.ndim)
    points, extent = p.many("slice_point"), x.shape[axis]
    if points:
        check(len(points) == s.tops - 1)
    else:
        check(extent % s.tops == 0)
        points = [extent // s.tops * (i + 1) for i in range(s.tops - 1)]
    edges = [0, *points, extent]
    check(all(a < b for a, b in pairwise(edges)))
    tops = []
    for a, b in pairwise(edges):
        index = [slice(None)] * x.ndim
        index[axis] = slice(a, b)
        tops.append(x[tuple(index)])
    return tops


@rule("Reshape")
def reshape(s: Setting, x):
    p = s.given("reshape_param")
    check(s.srn or not s.case.in_place)
    dims = list(p.get("shape", {}).get("dim", []))
    start = p.get("axis", 0) if p.get("axis", 0) >= 0 else x.ndim + p.get("axis", 0) + 1
    number = p.get("num_axes", -1)
    check(0 <= start <= x.ndim and number >= -1)
    end = x.ndim if number == -1 else start + number
    check(end <= x.ndim)
    check(all(d >= -1 for d in dims) and dims.count(-1) <= 1)
    for i, d in enumerate(dims):
        if d == 0:
            check(start + i < x.ndim)
            dims[i] = x.shape[start + i]
    if -1 in dims:
        known = count(x.shape[:start]) * count(x.shape[end:]) * count(d for d in dims if d != -1)
        check(known and x.size % known == 0)
        dims[dims.index(-1)] = x.size // known
    shape = (*x.shape[:start], *dims, *x.shape[end:])
    check(count(shape) == x.size)
    return [x.reshape(shape)]


@rule("Flatten")
def flatten(s: Setting, x):
    p = s.given("flatten_param")
    check(s.srn or not s.case.in_place)
    start, end = axis_of(p.get("axis", 1), x.ndim), axis_of(p.get("end_axis", -1), x.ndim)
    check(start <= end)
    return [x.reshape(*x.shape[:start], count(x.shape[start : end + 1]), *x.shape[end + 1 :])]


@rule("ArgMax")
def argmax(s: Setting, x):
    p = s.given("argmax_param")
    k, values_too = p.get("top_k", 1), p.get("out_max_val", False)
    clear(x.ndim >= 1 and (not s.srn or x.ndim <= 4))

    def best(row):
        """(value, index) pairs, the largest first; of equal values the larger index first."""
        check(1 <= k <= len(row))
        return sorted(((float(v), i) for i, v in enumerate(row)), reverse=True)[:k]

    if p.has("axis"):
        axis = axis_of(p.get("axis"), x.ndim)
        top = np.zeros((*x.shape[:axis], k, *x.shape[axis + 1 :]))
        for before in places(x.shape[:axis]):
            for after in places(x.shape[axis + 1 :]):
                for j, (value, index) in enumerate(best(x[(*before, slice(None), *after)])):
                    top[(*before, j, *after)] = value if values_too else index
        return [top]
    top = np.zeros((len(x), 2 if values_too else 1, k))
    for n in range(len(x)):
        for j, (value, index) in enumerate(best(x[n].reshape(-1))):
            top[n, :, j] = (index, value) if values_too else index
    rank = 4 if s.srn else max(3, x.ndim)
    return [top.reshape(*top.shape, *[1] * (rank - 3))]


@rule("Reduction")
def reduction(s: Setting, x):
    p = s.given("reduction_param")
    operation = p.get("operation", "SUM")
    check(operation != "TOPK")
    axis = axis_of(p.get("axis", 0), x.ndim)
    top = np.zeros(x.shape[:axis])
    for at in places(x.shape[:axis]):
        row = x[at].reshape(-1)
        terms = {"ASUM": np.abs(row), "SUMSQ": row * row}.get(operation, row)
        top[at] = math.fsum(terms) * p.get("coeff", 1.0) / (len(row) if operation == "MEAN" else 1)
    return [top]


@rule("BatchReduction")
def batch_reduction(s: Setting, x):
    p = s.given("batch_reduction_param")
    inner = p.get("reduction_param", {})
    operation, levels = inner.get("operation", "SUM"), p.many("level") or [1]
    axis = axis_of(inner.get("axis", 0), x.ndim)
    extent = x.shape[axis]
    check(operation in ("SUM", "MEAN", "TOPK"))
    clear(all(level > 0 for level in levels))
    if operation == "TOPK":
        check(len(levels) == 1)
        clear(1 <= inner.get("k", 1) <= extent)
        pieces = [extent]
    elif levels == [1]:
        pieces = [extent]
    else:
        pieces = [level * level for level in levels]
        check(sum(pieces) == extent)
    tops, start = [], 0
    for length in pieces:
        top = np.zeros(x.shape[:axis] + x.shape[axis + 1 :])
        for before in places(x.shape[:axis]):
            for after in places(x.shape[axis + 1 :]):
                row = [float(v) for v in x[(*before, slice(start, start + length), *after)]]
                if operation == "TOPK":
                    row = sorted(row, reverse=True)[: inner.get("k", 1)]
                top[(*before, *after)] = sum(row) / (1 if operation == "SUM" else len(row))
        tops.append(top)
        start += length
    return [tops[0] if levels == [1] else np.stack(tops, axis)]


@rule("Tile")
def tile(s: Setting, x):
    p = s.given("tile_param")
    axis, tiles = axis_of(p.get("axis", 1), x.ndim), p.get("tiles", 0)
    check(tiles > 0)
    shape = list(x.shape)
    shape[axis] *= tiles
    top = np.zeros(shape)
    for at in places(shape):
        top[at] = x[(*at[:axis], at[axis] % x.shape[axis], *at[axis + 1 :])]
    return [top]


@rule("Crop")
def crop(s: Setting, x, like):
    p = s.given("crop_param")
    axis, offsets = axis_of(p.get("axis", 2), x.ndim), p.many("offset")
    clear(like.ndim == x.ndim)
    number = x.ndim - axis
    check(len(offsets) in (0, 1, number))
    offsets = offsets * (number if len(offsets) == 1 else 1) if offsets else [0] * number
    index = [slice(None)] * axis
    for i, start in enumerate(offsets):
        wanted = like.shape[axis + i]
        check(start + wanted <= x.shape[axis + i])
        index.append(slice(start, start + wanted))
    return [x[tuple(index)]]


@rule("Embed")
def embed(s: Setting, x):
    p = s.given("embed_param")
    outputs, rows = p.get("num_output", 0), p.get("input_dim", 0)
    clear(outputs > 0 and rows > 0)
    weight = s.blob(rows, outputs)
    bias = s.blob(outputs) if p.get("bias_term", True) else np.zeros(outputs)
    top = np.zeros((*x.shape, outputs))
    for at in places(x.shape):
        top[at] = weight[int(x[at])] + bias
    return [top]


@rule("Filter")
def filters(s: Setting, *bottoms):
    *data, selector = bottoms
    check(s.tops == len(data))
    clear(selector.ndim >= 1 and all(b.ndim >= 1 for b in data))
    check(count(selector.shape[1:]) == 1 and all(len(b) == len(selector) for b in data))
    kept = [n for n, flag in enumerate(selector.reshape(-1)) if flag != 0]
    if s.srn and not kept:
        raise Unclear("the fork divides by zero")
    return [np.array([b[n] for n in kept]).reshape(len(kept), *b.shape[1:]) for b in data]


@rule("BatchReindex")
def batch_reindex(s: Setting, x, index):
    check(index.ndim == 1)
    clear(x.ndim >= 1 and all(i < len(x) for i in index))
    return [np.array([x[int(i)] for i in index]).reshape(len(index), *x.shape[1:])]
