"""FlowNet's layers against their rules in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pack_runs import BACKWARD, FORWARD, Run, agree, near, refused
from properties.nets import Word

from prototxt_gen.base.errors import NetError
from prototxt_gen.schema import message_class

OPSETS = (13, 17, 22)
F32 = np.float32


def numbers(*shape, seed=0):
    return np.random.RandomState([seed, *shape]).standard_normal(shape)


def other_batch(run):
    """The ONNX file of a batch holds for another one too."""
    more = [np.concatenate([x, x[:, :, ::-1], x * 0.5]).astype(F32) for x in run.inputs]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


# -- Resample ---------------------------------------------------------------------------------------------------------
def linear(d):
    return max(0.0, 1 - abs(d))


def cubic(d):
    d = abs(d)
    if d <= 1:
        return d * d * (1.5 * d - 2.5) + 1
    return d * (d * (-0.5 * d + 2.5) - 4) + 2 if d < 2 else 0.0


def resampled(x, out, kind, antialias):
    n, c, h, w = x.shape
    fy, fx = F32(h) / F32(out[0]), F32(w) / F32(out[1])
    wide = antialias and (fx > 1 or fy > 1)
    y = np.zeros((n, c, *out))
    for i in range(out[0]):
        for j in range(out[1]):
            row = F32(i) * fy + fx / F32(2) - F32(0.5)
            column = F32(j) * fx + fy / F32(2) - F32(0.5)
            if kind == "NEAREST":
                y[:, :, i, j] = x[:, :, math.floor(abs(row) + 0.5), math.floor(abs(column) + 0.5)]
                continue
            weigh = linear if kind == "LINEAR" else cubic
            ay, ax = (float(fy), float(fx)) if wide else (1.0, 1.0)
            total, sums = 0.0, 0.0
            for r in range(h):
                for s in range(w):
                    weight = weigh(float(row - F32(r)) / ay) * weigh(float(column - F32(s)) / ax)
                    total, sums = total + weight, sums + weight * x[:, :, r, s]
            y[:, :, i, j] = sums / total if total else 0
    return y


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("kind", ["NEAREST", "LINEAR", "CUBIC"])
@pytest.mark.parametrize(("size", "out"), [((4, 5), (9, 8)), ((9, 8), (4, 5)), ((6, 4), (5, 6)), ((3, 3), (3, 3))])
def test_resample(size, out, kind, antialias):
    fields = {"type": Word(kind), "height": out[0], "width": out[1], "antialias": antialias}
    run = Run("Resample", [numbers(2, 3, *size)], fields={"resample_param": fields})
    run.holds([resampled(run.double()[0], out, kind, antialias)], OPSETS)
    assert run.gradients()[0] == [None]
    run.stays_double()
    other_batch(run)


def test_resample_takes_the_size_of_a_second_bottom():
    run = Run("Resample", [numbers(2, 3, 4, 5), numbers(2, 1, 7, 6)])
    run.holds([resampled(run.double()[0], (7, 6), "LINEAR", True)])


def test_where_no_cell_weighs_anything_resample_gives_0():
    """Wide along one axis alone: the narrower weights of the other one miss every cell."""
    run = Run("Resample", [numbers(1, 1, 2, 9) + 3], fields={"resample_param": {"height": 8, "width": 3}})
    expected = resampled(run.double()[0], (8, 3), "LINEAR", True)
    assert (expected == 0).any()
    run.holds([expected])


@pytest.mark.parametrize(
    ("match", "fields", "shapes"),
    [
        ("height x width", {}, [(1, 1, 2, 2)]),
        ("height x width", {"height": 3}, [(1, 1, 2, 2)]),
        ("type AREA", {"type": Word("AREA"), "height": 3, "width": 3}, [(1, 1, 2, 2)]),
        ("factor 2", {"factor": 2, "height": 3, "width": 3}, [(1, 1, 2, 2)]),
        ("4 axes", {"height": 3, "width": 3}, [(2, 2)]),
        ("outside the map", {"type": Word("NEAREST"), "height": 2, "width": 9}, [(1, 1, 2, 2)]),
    ],
)
def test_resample_refuses(match, fields, shapes):
    refused(match, "Resample", [np.zeros(s) for s in shapes], fields={"resample_param": fields})


# -- Downsample -------------------------------------------------------------------------------------------------------
def downsampled(x, out):
    n, c, h, w = x.shape
    y = np.zeros((n, c, *out))
    for at in np.ndindex(*y.shape):
        value = weight = lost = 0.0
        row, column = (F32(i) / F32(o - 1) * F32(s - 1) for i, o, s in zip(at[2:], out, (h, w), strict=True))
        tall, wide = F32(h - 1) / F32(out[0] - 1), F32(w - 1) / F32(out[1] - 1)
        for r, s in np.ndindex(h, w):
            share = float(max(0, F32(1) - abs(F32(r) - row) / tall)) * float(
                max(0, F32(1) - abs(F32(s) - column) / wide)
            )
            if math.isnan(x[at[0], at[1], r, s]):
                lost += share
            else:
                value, weight = value + share * x[at[0], at[1], r, s], weight + share
        y[at] = math.nan if not weight or lost / weight > 0.5 else value / weight
    return y


@pytest.mark.parametrize(("size", "out"), [((9, 8), (4, 3)), ((5, 6), (5, 3)), ((4, 5), (2, 2)), ((4, 4), (5, 7))])
def test_downsample(size, out):
    x = numbers(2, 2, *size)
    x[0, 0, 1:3, 0] = np.nan
    x[1, 1, :, :3] = np.nan
    run = Run("Downsample", [x], fields={"downsample_param": {"top_height": out[0], "top_width": out[1]}})
    expected = downsampled(run.double()[0], out)
    assert np.isnan(expected).any()
    run.holds([expected], OPSETS)
    assert run.gradients()[0] == [None]
    other_batch(run)


def test_downsample_of_the_same_size_hands_on():
    run = Run("Downsample", [numbers(1, 2, 3, 4), numbers(1, 1, 3, 4)])
    run.holds([run.double()[0]])


def test_downsample_refuses():
    refused("top_height", "Downsample", [np.zeros((1, 1, 4, 4))])
    for size in ((1, 1, 4, 1), (1, 1, 4, 4)):
        fields = {"top_height": 1, "top_width": 3}
        refused("2 or more", "Downsample", [np.zeros(size)], fields={"downsample_param": fields})


# -- Accum ------------------------------------------------------------------------------------------------------------
def aligned(x, out):
    """One map at another size, corners on corners."""
    n, c, h, w = x.shape
    y = np.zeros((n, c, *out))
    for i in range(out[0]):
        for j in range(out[1]):
            row = F32(i) / F32(out[0] - 1) * F32(h - 1)
            column = F32(j) / F32(out[1] - 1) * F32(w - 1)
            r, s = min(int(row), h - 1), min(int(column), w - 1)
            a, b = float(row - F32(r)), float(column - F32(s))
            r2, s2 = min(r + 1, h - 1), min(s + 1, w - 1)
            upper = (1 - b) * x[:, :, r, s] + b * x[:, :, r, s2]
            y[:, :, i, j] = (1 - a) * upper + a * ((1 - b) * x[:, :, r2, s] + b * x[:, :, r2, s2])
    return y


ACCUMS = [
    ({}, [(2, 3, 4), (1, 6, 8)], (6, 8)),
    ({}, [(2, 3, 9), (1, 6, 8), (3, 1, 1)], (6, 9)),
    ({"top_height": 7, "top_width": 9}, [(2, 3, 4), (1, 6, 8)], (7, 9)),
    ({"top_height": 7, "top_width": 8}, [(2, 3, 4), (1, 6, 8)], (6, 8)),
    ({"size_divisible_by": 5}, [(2, 3, 4), (1, 6, 8)], (10, 10)),
    ({"size_divisible_by": 3}, [(2, 3, 4), (1, 6, 8)], (6, 8)),
    ({"have_reference": True}, [(2, 3, 4), (1, 6, 8), (4, 5, 2)], (5, 2)),
    ({}, [(2, 3, 4)], (3, 4)),
]


@pytest.mark.parametrize(("fields", "sizes", "out"), ACCUMS)
def test_accum(fields, sizes, out):
    bottoms = [numbers(2, *size, seed=i) for i, size in enumerate(sizes)]
    run = Run("Accum", bottoms, fields={"accum_param": fields} if fields else {})
    shown = run.double()[:-1] if fields.get("have_reference") else run.double()
    run.holds([np.concatenate([aligned(x, out) for x in shown], 1)], OPSETS)
    seed = numbers(2, sum(x.shape[1] for x in shown), *out, seed=9)
    run.slopes_hold(seed, range(len(shown)))
    run.stays_double()
    other_batch(run)


@pytest.mark.parametrize(
    ("match", "fields", "sizes"),
    [
        ("size_divisible_by 0", {"size_divisible_by": 0}, [(1, 2, 3, 4)]),
        ("beside the reference", {"have_reference": True}, [(1, 2, 3, 4)]),
        ("equal extents", {}, [(1, 2, 3, 4), (2, 2, 3, 4)]),
        ("2 or more", {}, [(1, 2, 1, 4)]),
        ("4 axes", {}, [(2, 3, 4)]),
    ],
)
def test_accum_refuses(match, fields, sizes):
    refused(match, "Accum", [np.zeros(s) for s in sizes], fields={"accum_param": fields})


# -- FlowWarp ---------------------------------------------------------------------------------------------------------
def warped(x, flow, fill):
    n, _, h, w = x.shape
    y = np.full(x.shape, fill)
    for item, i, j in np.ndindex(n, h, w):
        column, row = F32(j) + F32(flow[item, 0, i, j]), F32(i) + F32(flow[item, 1, i, j])
        if not (column >= 0 and row >= 0 and column < w and row < h):
            continue
        s, r = int(column), int(row)
        s2, r2 = min(s + 1, w - 1), min(r + 1, h - 1)
        a, b = float(column - F32(s)), float(row - F32(r))
        upper = (1 - a) * x[item, :, r, s] + a * x[item, :, r, s2]
        y[item, :, i, j] = (1 - b) * upper + b * ((1 - a) * x[item, :, r2, s] + a * x[item, :, r2, s2])
    return y


@pytest.mark.parametrize("fill", ["ZERO", "NOT_A_NUMBER"])
def test_flow_warp(fill):
    flow = numbers(2, 2, 5, 6) * 2
    flow[0, :, 0, 0] = (-0.0, 0.0)
    flow[0, :, 1, 1] = (np.nan, 0)
    flow[1, 0, 2, :] = np.arange(6)[::-1] - 0.25  # within a cell of the last column
    run = Run("FlowWarp", [numbers(2, 3, 5, 6), flow], fields={"flow_warp_param": {"fill_value": Word(fill)}})
    expected = warped(*run.double(), 0.0 if fill == "ZERO" else np.nan)
    run.holds([expected], OPSETS)
    more = [np.concatenate([x, x[::-1]]).astype(F32) for x in run.inputs]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


def test_flow_warps_gradients_are_the_derivatives():
    flow = np.random.RandomState(3).choice([-1.6, -0.4, 0.3, 1.7, 9], (2, 2, 4, 5))
    run, seed = Run("FlowWarp", [numbers(2, 3, 4, 5), flow]), numbers(2, 3, 4, 5, seed=2)
    found, _ = run.gradients(seed)
    near(found[0], run.differenced(0, seed), BACKWARD)
    # the reference rounds places to float32, so that steps are taken in the torch rule, in double precision
    x, places = (torch.from_numpy(v).requires_grad_() for v in run.double())
    assert torch.autograd.gradcheck(lambda *b: run.layer.forward(None, *b)[0], (x, places), eps=1e-6)
    rule = run.layer.forward(None, x, places)[0]
    (rule * torch.from_numpy(seed)).sum().backward()
    near(found[1], places.grad.numpy(), BACKWARD)


def test_flow_warp_refuses_a_flow_of_another_size():
    for shape in ((1, 3, 4, 4), (1, 2, 4, 5), (2, 2, 4, 4)):
        refused("a flow of", "FlowWarp", [np.zeros((1, 3, 4, 4)), np.zeros(shape)])


# -- ChannelNorm and Mean ---------------------------------------------------------------------------------------------
def test_channel_norm():
    x = numbers(2, 3, 4, 5)
    x[0, :, 1, 2] = 0
    run = Run("ChannelNorm", [x])
    expected = np.array(
        [[[[math.hypot(*run.double()[0][n, :, i, j]) for j in range(5)] for i in range(4)]] for n in range(2)]
    )
    run.holds([expected], OPSETS)
    found, _ = run.gradients(numbers(2, 1, 4, 5))
    assert not found[0][0, :, 1, 2].any()
    whole = Run("ChannelNorm", [numbers(2, 3, 4, 5, seed=4)])
    whole.slopes_hold(numbers(2, 1, 4, 5))
    other_batch(run)
    refused("4 axes", "ChannelNorm", [np.zeros((2, 3))])


@pytest.mark.parametrize("operation", ["ADD", "SUBTRACT"])
def test_mean_of_channels(operation):
    fields = {
        "operation": Word(operation),
        "value": [0.5, -2.0],
        "mean_scale": 3,
        "input_scale": 0.25,
        "output_scale": 2,
    }
    run = Run("Mean", [numbers(2, 4, 2, 3), numbers(1, 2, 3, 1)], fields={"mean_param": fields}, tops=2)
    sign = -1 if operation == "SUBTRACT" else 1
    expected = []
    for x in run.double():
        y = np.zeros(x.shape)
        for at in np.ndindex(*x.shape):
            y[at] = 2 * (0.25 * x[at] + 3 * sign * [0.5, -2.0][at[1] % 2])
        expected.append(y)
    run.holds(expected, OPSETS)
    assert run.gradients()[0] == [None, None]


def test_mean_of_a_file(tmp_path):
    mean, path = numbers(1, 2, 3, 4, seed=8).astype(F32), tmp_path / "mean.binaryproto"
    blob = message_class("BlobProto", "bvlc")(data=mean.reshape(-1).tolist())
    blob.shape.dim.extend(mean.shape)
    path.write_bytes(blob.SerializeToString())
    fields = {"mean_param": {"operation": Word("SUBTRACT"), "file": str(path)}}
    run = Run("Mean", [numbers(2, 4, 3, 4)], fields=fields)
    run.holds([run.double()[0] - np.float64(np.concatenate([mean, mean], 1))])
    refused("mean of 24 values", "Mean", [np.zeros((2, 4, 3, 5))], fields=fields)
    refused("cannot be read", "Mean", [np.zeros((1, 1, 1, 1))], fields={"mean_param": {"file": "nowhere"}})


def test_mean_refuses():
    for value in ([], [1.0, 2.0, 3.0]):
        refused("a mean for", "Mean", [np.zeros((1, 4, 2, 2))], fields={"mean_param": {"value": value}})
    refused("as many tops", "Mean", [np.zeros((1, 4, 2, 2))], fields={"mean_param": {"value": [1.0]}}, tops=2)


# -- Correlation ------------------------------------------------------------------------------------------------------
def correlated(a, b, kernel, stride, displacements, reach, pad, kind):
    """Patches of both maps compared cell by cell; cells outside are 0."""
    n, c, h, w = a.shape
    out = [math.ceil((s + 2 * p - 2 * r - (kernel - 1)) / stride) for s, p, r in zip((h, w), pad, reach, strict=True)]
    y = np.zeros((n, len(displacements), *out))

    def cell(x, item, channel, row, column):
        row, column = row - pad[0], column - pad[1]
        return x[item, channel, row, column] if 0 <= row < h and 0 <= column < w else 0.0

    for item, k, i, j in np.ndindex(*y.shape):
        total = 0.0
        for u, v, channel in np.ndindex(kernel, kernel, c):
            row, column = i * stride + reach[0] + u, j * stride + reach[1] + v
            first = cell(a, item, channel, row, column)
            second = cell(b, item, channel, row + displacements[k][0], column + displacements[k][1])
            total += first * second if kind == "MULTIPLY" else abs(first - second)
        y[item, k, i, j] = total / (kernel * kernel * c)
    return y


CORRELATIONS = [
    {"kernel_size": 1, "max_displacement": 2, "pad": 2},
    {"kernel_size": 3, "max_displacement": 2, "pad": 3, "stride_2": 2},
    {"kernel_size": 3, "max_displacement": 3, "pad": 2, "stride_1": 2, "stride_2": 2},
    {"kernel_size": 1, "max_displacement": 1, "stride_1": 3},
    {"kernel_size": 1, "max_displacement": 0, "pad": 1},
]


@pytest.mark.parametrize("kind", ["MULTIPLY", "SUBTRACT"])
@pytest.mark.parametrize("fields", CORRELATIONS)
def test_correlation(fields, kind):
    fields = {**fields, "correlation_type": Word(kind)}
    run = Run("Correlation", [numbers(2, 2, 6, 7), numbers(2, 2, 6, 7, seed=1)], fields={"correlation_param": fields})
    step, most, pad = fields.get("stride_2", 1), fields["max_displacement"], fields.get("pad", 0)
    steps = [s * step for s in range(-(most // step), most // step + 1)]
    places = [(dy, dx) for dy in steps for dx in steps]
    rest = (fields["kernel_size"], fields.get("stride_1", 1), places, (most, most), (pad, pad), kind)
    expected = correlated(*run.double(), *rest)
    run.holds([expected], OPSETS)
    run.stays_double()
    other_batch(run)


@pytest.mark.parametrize("kind", ["MULTIPLY", "SUBTRACT"])
@pytest.mark.parametrize("direction", [-1, 0, 1])
@pytest.mark.parametrize("fields", CORRELATIONS[:3])
def test_correlation1d(fields, kind, direction):
    fields = {**fields, "correlation_type": Word(kind), "single_direction": direction}
    run = Run("Correlation1D", [numbers(2, 2, 6, 7), numbers(2, 2, 6, 7, seed=1)], fields={"correlation_param": fields})
    step, most, pad = fields.get("stride_2", 1), fields["max_displacement"], fields.get("pad", 0)
    radius = most // step
    chosen = {-1: range(-radius - 1, 0), 0: range(-radius, radius + 1), 1: range(radius + 1)}[direction]
    places = [(0, s * step) for s in chosen]
    rest = (fields["kernel_size"], fields.get("stride_1", 1), places, (0, most), (0, pad), kind)
    expected = correlated(*run.double(), *rest)
    run.holds([expected], OPSETS)
    other_batch(run)


@pytest.mark.parametrize("kind", ["MULTIPLY", "SUBTRACT"])
@pytest.mark.parametrize("type", ["Correlation", "Correlation1D"])
def test_correlations_gradients_are_the_derivatives(type, kind):
    fields = {"kernel_size": 3, "max_displacement": 1, "pad": 1, "correlation_type": Word(kind)}
    run = Run(type, [numbers(1, 2, 3, 4), numbers(1, 2, 3, 4, seed=1)], fields={"correlation_param": fields})
    run.slopes_hold(numbers(*run.reference()[0].shape, seed=2), (0, 1))


@pytest.mark.parametrize(
    ("match", "fields"),
    [
        ("kernel_size None", {"max_displacement": 1}),
        ("kernel_size 2", {"kernel_size": 2, "max_displacement": 1}),
        ("max_displacement None", {"kernel_size": 1}),
        ("both above 0", {"kernel_size": 1, "max_displacement": 1, "stride_2": 0}),
        ("do_abs", {"kernel_size": 1, "max_displacement": 1, "do_abs": True}),
        ("a larger pad", {"kernel_size": 1, "max_displacement": 3}),
    ],
)
def test_correlation_refuses(match, fields):
    for kind in ("Correlation", "Correlation1D"):
        refused(match, kind, [np.zeros((1, 2, 5, 5))] * 2, fields={"correlation_param": fields})
    good = {"correlation_param": {"kernel_size": 1, "max_displacement": 1}}
    refused("equal shapes", "Correlation", [np.zeros((1, 2, 5, 5)), np.zeros((1, 3, 5, 5))], fields=good)


def test_correlation_in_one_direction():
    fields = {"kernel_size": 1, "max_displacement": 1}
    far = {"correlation_param": {**fields, "single_direction": 2}}
    refused("-1, 0 or 1", "Correlation1D", [np.zeros((1, 2, 5, 5))] * 2, fields=far)
    bare = {"correlation_param": {**fields, "single_direction": -1}}
    refused("pad 0", "Correlation1D", [np.zeros((1, 2, 5, 5))] * 2, fields=bare)
    refused("single_direction", "Correlation", [np.zeros((1, 2, 5, 5))] * 2, fields=bare)


# -- L1Loss -----------------------------------------------------------------------------------------------------------
def lost(u, fields):
    n, c = u.shape[:2]
    known = ~np.isnan(u)
    count = known.sum() / c if fields.get("normalize_by_num_entries") else n
    plateau, total = fields.get("plateau", 0), 0.0
    if not fields.get("l2_per_location"):
        for value in u[known]:
            total += abs(value) if abs(value) >= plateau else 0
        return total / count
    for item, i, j in np.ndindex(n, *u.shape[2:]):
        square = sum(v * v for v in u[item, :, i, j] if not math.isnan(v))
        square /= c if fields.get("l2_prescale_by_channels") else 1
        square = 0 if square < plateau * plateau else square
        total += math.sqrt(square + float(F32(fields.get("epsilon", 0.01))))
    return total / count


LOSSES = [
    {},
    {"normalize_by_num_entries": True},
    {"plateau": 0.5},
    {"l2_per_location": True},
    {"l2_per_location": True, "l2_prescale_by_channels": True, "epsilon": 0.25},
    {"l2_per_location": True, "normalize_by_num_entries": True, "plateau": 1.5},
]


@pytest.mark.parametrize("fields", LOSSES)
@pytest.mark.parametrize("bottoms", [1, 2])
@pytest.mark.parametrize("holes", [False, True])
def test_l1_loss(fields, bottoms, holes):
    arrays = [numbers(2, 3, 4, 5, seed=i) for i in range(bottoms)]
    if holes:
        arrays[-1][0, 1, 2:, 1] = np.nan
    run = Run("L1Loss", arrays, fields={"l1_loss_param": fields} if fields else {})
    u = run.double()[0] - run.double()[1] if bottoms == 2 else run.double()[0]
    run.holds([np.asarray(lost(u, fields))], OPSETS)
    if not holes:
        run.slopes_hold(2.0, range(bottoms))
    else:
        found, _ = run.gradients()
        assert all(np.isfinite(g).all() and not g[0, 1, 2:, 1].any() for g in found)
    more = [np.concatenate([x, x]).astype(F32) for x in run.inputs]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


def test_l1_loss_counts_by_default_and_its_gradient_at_0_is_that_of_a_decrease():
    run = Run("L1Loss", [[[0.0, 2.0]]])
    assert run.graph.nodes[-1].tops[0].loss_weight == 1
    assert run.gradients()[0][0].tolist() == [[-1.0, 1.0]]


def test_l1_loss_refuses():
    refused("different shapes", "L1Loss", [np.zeros((2, 3)), np.zeros((2, 4))])
    refused("axes", "L1Loss", [np.zeros(3)])
    refused("N, C, H, W", "L1Loss", [np.zeros((2, 3))], fields={"l1_loss_param": {"l2_per_location": True}})
    with pytest.raises(NetError):
        Run("L1Loss", [np.zeros((2, 3))] * 3)
