"""OpenPose's ImResize and Nms against their rules in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pack_runs import FORWARD, Run, agree, refused

from port.layers.packs.openpose import ImResize
from prototxt_gen.schema.text import parse_prototxt

OPSETS = (13, 17, 22)
F32 = np.float32


def cubic(a, b, c, d, t):
    """The curve through b and c whose slopes there are those of the chords around them."""
    return b + 0.5 * t * (c - a) + t * t * (a - 2.5 * b + 2 * c - 0.5 * d) + t**3 * (1.5 * (b - c) + 0.5 * (d - a))


def neighbours(i, length, out):
    """Four cells around a sample, and how far it is from the second."""
    scale = F32(length) / F32(out)
    offset = F32(F32(out) / F32(length) / 2 - 0.5)
    place = F32((F32(i) - offset) * scale)
    b = max(int(float(place) + 1e-5), 0)
    a, c = max(b - 1, 0), min(b + 1, length - 1)
    return (a, b, c, min(c + 1, length - 1)), float(place - F32(b))


def enlarged(x, out):
    y = np.zeros((x.shape[0], *out))
    for c, i, j in np.ndindex(*y.shape):
        rows, down = neighbours(i, x.shape[1], out[0])
        columns, across = neighbours(j, x.shape[2], out[1])
        y[c, i, j] = cubic(*(cubic(*(x[c, r, s] for s in columns), across) for r in rows), down)
    return y


def scales_joined(x, out, start, gap):
    """The mean of all scales, each without its border."""
    total = 0
    for n, item in enumerate(x):
        high, wide = (math.floor(F32(length // 2) * (1 - F32(start) + n * F32(gap))) for length in item.shape[1:])
        inner = item[:, high : item.shape[1] - high, wide : item.shape[2] - wide]
        total = total + enlarged(inner, out)
    return total[None] / len(x)


RESIZES = [
    ((1, 2, 4, 5), {"target_spatial_width": 17, "target_spatial_height": 12}, (12, 17)),
    ((1, 1, 6, 5), {"target_spatial_width": 5, "target_spatial_height": 6}, (6, 5)),
    ((1, 1, 9, 8), {"target_spatial_width": 3, "target_spatial_height": 4}, (4, 3)),
    ((1, 2, 1, 3), {"factor": 8}, (8, 24)),
    ((1, 1, 5, 7), {"factor": 1.5}, (7, 10)),
    ((3, 2, 10, 8), {"target_spatial_width": 16, "target_spatial_height": 20, "scale_gap": 0.15}, (20, 16)),
    ((2, 1, 8, 8), {"factor": 2, "start_scale": 0.75, "scale_gap": 0.3}, (16, 16)),
    ((4, 1, 6, 6), {"factor": 2, "scale_gap": 0.0}, (12, 12)),
]


@pytest.mark.parametrize(("shape", "fields", "out"), RESIZES)
def test_imresize(shape, fields, out):
    x = np.random.RandomState(3).standard_normal(shape)
    run = Run("ImResize", [x], fields={"imresize_param": fields})
    start, gap = fields.get("start_scale", 1.0), fields.get("scale_gap", 0.1)
    expected = scales_joined(run.double()[0], out, start, gap)
    assert expected.shape == (1, shape[1], *out)
    run.holds([expected], OPSETS)
    run.stays_double()
    assert run.gradients()[0] == [None]


def test_imresize_leaves_equal_maps_equal():
    run = Run("ImResize", [np.full((2, 1, 5, 5), 3.0)], fields={"imresize_param": {"factor": 3}})
    assert np.allclose(run.reference()[0], 3) and run.reference()[0].shape == (1, 1, 15, 15)


@pytest.mark.parametrize(
    ("shape", "fields", "why"),
    [
        ((2, 3, 4), {}, "3 axes"),
        ((1, 1, 4, 4), {"target_spatial_width": 0}, "both above 0"),
        ((1, 1, 4, 4), {"factor": 0.2}, "both above 0"),
        ((12, 1, 4, 4), {"scale_gap": 0.2}, "12 scales of 4x4|12 scales"),
        ((1, 1, 4, 4), {"start_scale": 2.0}, "1 scales"),
    ],
)
def test_imresize_refuses(shape, fields, why):
    refused(why, "ImResize", [np.zeros(shape)], fields={"imresize_param": fields})


# -- Nms --------------------------------------------------------------------------------------------------------------
def peaks(x, threshold, most, parts):
    n, c, high, wide = x.shape
    y = np.zeros((n, parts, most + 1, 3))
    memory = x.reshape(-1)
    for item, part in np.ndindex(n, parts):
        found = []
        for r in range(high):
            for s in range(wide):
                if r < 2 or s < 2 or r > high - 2 or s > wide - 2:
                    continue
                here = x[item, part, r, s]
                around = [x[item, part, r + i, s + j] for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
                if here > threshold and here > max(around):
                    found.append((r, s, here))
        y[item, part, 0, 0] = len(found)
        for k, (r, s, here) in enumerate(found[:most]):
            total = across = down = 0.0
            for i in range(-3, 4):
                for j in range(-3, 4):
                    if 0 < r + i < wide and 0 < s + j < wide:
                        place = ((item * c + part) * high + r + i) * wide + s + j
                        score = memory[place] if place < len(memory) else 0
                        if score > 0:
                            total, across, down = total + score, across + (s + j) * score, down + (r + i) * score
            y[item, part, k + 1] = (across / total, down / total, here)
    return y


NMS = [
    ((1, 3, 12, 14), {"num_parts": 2}),
    ((1, 4, 9, 9), {"num_parts": 4, "max_peaks": 2}),  # more peaks than rows
    ((2, 3, 14, 10), {"num_parts": 3, "threshold": 0.9}),  # taller than wide: rows are compared with the width
    ((1, 2, 8, 16), {"num_parts": 2}),  # wider than tall: a window runs into the next map, or past the last one
    ((1, 1, 5, 5), {"num_parts": 1, "max_peaks": 40}),  # more rows than cells
    ((1, 1, 3, 3), {"num_parts": 1}),  # too small for a peak
    ((3, 2, 11, 11), {"num_parts": 2, "threshold": -10.0}),
]


@pytest.mark.parametrize(("shape", "fields"), NMS)
def test_nms(shape, fields):
    x = np.random.RandomState(5).standard_normal(shape)
    run = Run("Nms", [x], fields={"nms_param": fields})
    rows, threshold = fields.get("max_peaks", 20), F32(fields.get("threshold", 0.5))
    expected = peaks(run.double()[0], threshold, rows, fields["num_parts"])
    if min(shape[2:]) > 5:
        assert expected[..., 0, 0].max() > 1
    run.holds([expected], OPSETS)
    assert run.gradients()[0] == [None]


def test_nms_of_another_batch():
    x = np.random.RandomState(6).standard_normal((2, 2, 10, 10))
    run = Run("Nms", [x], fields={"nms_param": {"num_parts": 2}})
    more = [np.concatenate([x, x[:1] * 0.5]).astype(F32)]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "a batch of 3")


def test_nms_of_flat_maps_finds_nothing():
    """A plateau has no peak: each cell must exceed all its neighbours."""
    x = np.ones((1, 1, 8, 8))
    x[0, 0, 4, 4:6] = 2
    run = Run("Nms", [x], fields={"nms_param": {"num_parts": 1}})
    run.holds([np.zeros((1, 1, 21, 3))])


@pytest.mark.parametrize(
    ("shape", "fields", "why"),
    [
        ((2, 3, 4), {}, "3 axes"),
        ((1, 14, 8, 8), {}, "14 channels for 15 parts"),
        ((2, 3, 8, 8), {"num_parts": 2}, "3 channels for 2 parts"),
        ((1, 3, 8, 8), {"num_parts": 2, "max_peaks": 0}, "both above 0"),
        ((1, 3, 8, 8), {"num_parts": 2, "num_peak": 7}, "num_peak"),
        ((1, 3, 8, 8), {"num_parts": 2, "top_k": 7}, "top_k"),
    ],
)
def test_nms_refuses(shape, fields, why):
    refused(why, "Nms", [np.zeros(shape)], fields={"nms_param": fields})


# -- the pack ---------------------------------------------------------------------------------------------------------
NET = """input: "image" input_shape { dim: 1 dim: 2 dim: 6 dim: 6 }
layer { name: "resize" type: "ImResize" bottom: "image" top: "resized"
  imresize_param { factor: 2 scale_gap: 0.3 start_scale: 1.0 } }
layer { name: "nms" type: "Nms" bottom: "resized" top: "joints"
  nms_param { max_peaks: 5 num_parts: 2 threshold: 0.05 } }
"""


def test_a_net_is_of_the_pack():
    parsed = parse_prototxt(NET)
    assert parsed.dialect == "bvlc" and list(parsed.packs) == ["openpose"]


def test_cells_left_out_at_either_end():
    layer = Run("ImResize", [np.zeros((1, 1, 4, 4))], fields={"imresize_param": {"factor": 1}}).layer
    assert isinstance(layer, ImResize) and [layer.cut(46, n) for n in range(4)] == [0, 2, 4, 6]
