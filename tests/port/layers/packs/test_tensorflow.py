"""TensorFlow's operators in synopsys-caffe against their rules in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pack_runs import FORWARD, Run, agree, refused

OPSETS = (13, 17, 22)
F32 = np.float32


def numbers(*shape, seed=0):
    return np.random.RandomState([seed, *shape]).standard_normal(shape)


def place(i, length, out, fields):
    """Where a sample stands, in float32."""
    step = F32(length - 1) / F32(out - 1) if fields.get("align_corners") and out > 1 else F32(length) / F32(out)
    if fields.get("pytorch_half_pixel") and out == 1:
        return F32(-0.5)
    if fields.get("half_pixel_centers") or fields.get("pytorch_half_pixel"):
        return (F32(i) + F32(0.5)) * step - F32(0.5)
    return F32(i) * step


def resized(x, out, fields, nearest):
    y = np.zeros((*x.shape[:2], *out))
    for at in np.ndindex(*out):
        cells = []
        for i, n, o in zip(at, x.shape[2:], out, strict=True):
            p = place(i, n, o, fields)
            if nearest:
                p = p + F32(0.5) if fields.get("half_pixel_centers") else p
                cell = min(math.floor(float(p) + (0.5 if fields.get("align_corners") else 0)), n - 1)
                cells.append([(cell, 1.0)])
            else:
                low = math.floor(p)
                share = float(p - F32(low))
                cells.append([(max(low, 0), 1 - share), (min(math.ceil(p), n - 1), share)])
        for r, a in cells[0]:
            for c, b in cells[1]:
                y[(..., *at)] += a * b * x[:, :, r, c]
    return y


SIZES = [((5, 4), (9, 7)), ((7, 9), (3, 4)), ((4, 6), (1, 6)), ((3, 1), (6, 5)), ((4, 4), (16, 16))]
MODES = [{}, {"align_corners": True}, {"half_pixel_centers": True}, {"pytorch_half_pixel": True}]


@pytest.mark.parametrize(("size", "out"), SIZES)
@pytest.mark.parametrize(("mode", "nearest"), [*((m, False) for m in MODES), *((m, True) for m in MODES[:3])])
def test_resizing(mode, nearest, size, out):
    type = "ResizeNearestNeighbor" if nearest else "ResizeBilinear"
    param = "resize_nearest_neighbor_param" if nearest else "resize_bilinear_param"
    fields = {**mode, "output_height": out[0], "output_width": out[1], "data_format": "NCHW"}
    x = numbers(2, 3, *size)
    run = Run(type, [x], fields={param: fields})
    expected = resized(run.double()[0], out, mode, nearest)
    run.holds([expected], OPSETS)
    run.slopes_hold(numbers(2, 3, *out, seed=1))
    last = Run(type, [x.transpose(0, 2, 3, 1)], fields={param: {k: v for k, v in fields.items() if k != "data_format"}})
    last.holds([expected.transpose(0, 2, 3, 1)])
    more = [np.concatenate([run.inputs[0]] * 2)]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


def test_a_size_may_be_a_scale():
    fields = {"scale_height": 1.5, "scale_width": 0.4, "data_format": "NCHW"}
    for type, param in (
        ("ResizeBilinear", "resize_bilinear_param"),
        ("ResizeNearestNeighbor", "resize_nearest_neighbor_param"),
    ):
        assert Run(type, [numbers(1, 2, 5, 6)], fields={param: fields}).reference()[0].shape == (1, 2, 7, 2)


def test_what_resizing_refuses():
    x = numbers(1, 2, 3, 4)
    for match, fields in [
        ("data_format NCHWD", {"data_format": "NCHWD"}),
        ("align_corners and half_pixel", {"align_corners": True, "half_pixel_centers": True}),
        ("both above 0", {"scale_height": 0.1}),
        ("input_scale", {"input_scale": 0.5}),
    ]:
        refused(match, "ResizeBilinear", [x], fields={"resize_bilinear_param": fields})
    refused("3 axes", "ResizeNearestNeighbor", [x[0]])


BLOCKS = [
    ((2, 3), [0, 0, 1, 0], (2, 4, 5, 3)),
    ((1, 2, 2), [0, 0, 2, 3, 2, 1], (1, 3, 5, 5)),
    ((2,), [1, 1], (3, 4, 2)),
]


@pytest.mark.parametrize(("blocks", "paddings", "shape"), BLOCKS)
def test_blocks_of_cells_become_items_and_come_back(blocks, paddings, shape):
    x = numbers(*shape)
    fields = {"space_to_batch_nd_param": {"block_shape": list(blocks), "paddings": paddings}}
    run = Run("SpaceToBatchND", [x], fields=fields)
    pads = list(zip(paddings[::2], paddings[1::2], strict=True))
    x = run.double()[0]
    wide = np.pad(x, [(0, 0), *pads, *[(0, 0)] * (x.ndim - 1 - len(pads))])
    items = [
        wide[(slice(None), *(slice(a, None, b) for a, b in zip(at, blocks, strict=True)))] for at in np.ndindex(*blocks)
    ]
    expected = np.concatenate(items)
    run.holds([expected], OPSETS)
    run.slopes_hold(numbers(*expected.shape, seed=1))
    more = [np.concatenate([run.inputs[0]] * 2)]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")
    fields = {"batch_to_space_nd_param": {"block_shape": list(blocks), "crops": paddings}}
    back = Run("BatchToSpaceND", [expected], fields=fields)
    back.holds([x], OPSETS)
    back.slopes_hold(numbers(*x.shape, seed=2))
    more = [np.concatenate([back.inputs[0]] * 2)]
    agree(back.onnx(17, more), back.reference(more), FORWARD, "another batch")


def test_what_blocks_refuse():
    x = numbers(2, 3, 4)
    for match, fields in [
        ("block_shape", {"paddings": [0, 0]}),
        ("3 paddings", {"block_shape": [2], "paddings": [0, 1, 0]}),
        ("multiples of 2", {"block_shape": [2], "paddings": [0, 0]}),
    ]:
        refused(match, "SpaceToBatchND", [x], fields={"space_to_batch_nd_param": fields})
    for match, fields in [
        ("2 items", {"block_shape": [3], "crops": [0, 0]}),
        ("a cell or more left", {"block_shape": [2], "crops": [3, 3]}),
    ]:
        refused(match, "BatchToSpaceND", [x], fields={"batch_to_space_nd_param": fields})
