"""Windows of forks: Pooling's further fields, Pooling3D of two kinds, depthwise convolutions, `hole`, C3D's layers."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from pack_runs import FORWARD, Run, near, refused
from properties.nets import Word

from prototxt_gen.base.errors import ExportError

FLT_MAX = float(np.finfo(np.float32).max)
OPSETS = (13, 17, 22)


def values(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal(shape)


def pooled(x, out, kernel, stride, pad, tail, method) -> np.ndarray:
    """Windows over the last axes, cell by cell; `method`: MAX, AVE, or AVE_EXC_PAD, which leaves the padding out."""
    top = np.zeros((*x.shape[:2], *out))
    for at in np.ndindex(*out):
        sides, counts = [], []
        for i, k, s, p, t, n in zip(at, kernel, stride, pad, tail, x.shape[2:], strict=True):
            start = i * s - p
            end = min(start + k, n + t)
            sides.append(range(max(start, 0), max(min(end, n), 0)))
            counts.append(min(end, n) - max(start, 0) if method == "AVE_EXC_PAD" else end - start)
        cells = [x[(..., *cell)] for cell in product(*sides)]
        if method == "MAX":
            best = np.full(x.shape[:2], -FLT_MAX)
            for cell in cells:
                best = np.where(cell > best, cell, best)
            top[(..., *at)] = best
        else:
            with np.errstate(invalid="ignore"):
                top[(..., *at)] = (np.sum(cells, 0) if cells else np.zeros(x.shape[:2])) / math.prod(counts)
    return top


def extents(n, k, s, p, t, floor, clip) -> int:
    exact = (n + p + t - k) / s
    out = int(math.floor(exact) if floor else math.ceil(exact)) + 1
    return out - 1 if clip and (out - 1) * s >= n + p else out


def check(run: Run, expected: np.ndarray, opsets=(17,)) -> None:
    run.holds([expected], opsets)
    run.stays_double()
    if (
        np.abs(np.nan_to_num(expected)).max() < FLT_MAX and not np.isnan(expected).any()
    ):  # else there are no differences
        run.slopes_hold(values(*expected.shape, seed=3))
    more = values(run.inputs[0].shape[0] + 2, *run.inputs[0].shape[1:], seed=9).astype(np.float32)
    near(run.onnx(inputs=[more])[0], run.reference([more])[0], FORWARD, "another batch")


# -- Pooling -----------------------------------------------------------------------------------------------------------
POOLINGS = [
    ({"kernel_size": 3, "stride": 2, "ceil_mode": False}, (12, 11)),
    ({"kernel_size": 3, "stride": 2, "ceil_mode": True}, (12, 11)),
    ({"kernel_size": 3, "stride": 2, "pad": 1, "ceil_mode": False}, (11, 10)),
    ({"kernel_h": 2, "kernel_w": 3, "stride_h": 3, "stride_w": 2, "torch_pooling": True}, (9, 10)),
    ({"kernel_size": 3, "stride": 2, "pad_t": 1, "pad_b": 2, "pad_l": 0, "pad_r": 1}, (8, 9)),
    ({"kernel_size": 3, "stride": 1, "pad_t": 2, "pad_l": 1, "pad_r": 4}, (4, 5)),
    ({"kernel_size": 3, "stride": 2, "pad_r": 1, "pad_b": 1, "ceil_mode": False}, (7, 8)),
    ({"kernel_size": 3, "stride": 2, "pad_type": 1}, (7, 8)),
    ({"kernel_size": 2, "stride": 3, "pad_type": 1}, (7, 9)),
    ({"kernel_h": 4, "kernel_w": 5, "pad_type": 1}, (5, 6)),
    ({"kernel_size": 2, "stride": 2, "pad_type": 0}, (5, 6)),
]


@pytest.mark.parametrize(("fields", "size"), POOLINGS)
@pytest.mark.parametrize("method", ["MAX", "AVE", "AVE_EXC_PAD"])
def test_pooling_with_the_fields_of_forks(fields, size, method):
    x = values(1, 2, *size)
    kernel = (fields.get("kernel_h") or fields["kernel_size"], fields.get("kernel_w") or fields["kernel_size"])
    stride = (fields.get("stride_h") or fields.get("stride", 1), fields.get("stride_w") or fields.get("stride", 1))
    pad, tail = ((fields.get(a, fields.get("pad", 0)), fields.get(b, fields.get("pad", 0))) for a, b in SIDES)
    floor = fields.get("ceil_mode") is False or "torch_pooling" in fields
    if fields.get("pad_type"):
        out = tuple(math.ceil(n / s) for n, s in zip(size, stride, strict=True))
        wide = [max((o - 1) * s + k - n, 0) for n, k, s, o in zip(size, kernel, stride, out, strict=True)]
        pad, tail = tuple(w // 2 for w in wide), tuple(w - w // 2 for w in wide)
    else:
        axes = zip(size, kernel, stride, pad, tail, strict=True)
        out = tuple(extents(*axis, floor, any(pad + tail)) for axis in axes)
    run = Run("Pooling", [x], fields={"pooling_param": {**fields, "pool": Word(method)}})
    check(run, pooled(run.double()[0], out, kernel, stride, pad, tail, method))


SIDES = (("pad_t", "pad_l"), ("pad_b", "pad_r"))


@pytest.mark.parametrize("method", ["MAX", "AVE", "AVE_EXC_PAD"])
def test_a_pad_as_wide_as_the_kernel(method):
    fields = {"kernel_size": 2, "stride": 1, "pad_t": 3, "pad_l": 2, "pool": Word(method)}
    run = Run("Pooling", [values(1, 2, 4, 5)], fields={"pooling_param": fields})
    expected = pooled(run.double()[0], (6, 6), (2, 2), (1, 1), (3, 2), (0, 0), method)
    run.holds([expected], OPSETS if method == "MAX" else ())
    if method != "MAX":
        with pytest.raises(ExportError, match="below the kernel"):
            run.onnx()


def test_the_padding_left_out_has_three_names():
    x = values(2, 3, 6, 7)
    own = {"kernel_size": 3, "stride": 2, "pad": 1}
    first, *others = (
        Run("Pooling", [x], fields={"pooling_param": {**own, **more}}).torch()[0]
        for more in (
            {"pool": Word("AVE_EXC_PAD")},
            {"pool": Word("AVE_TF")},
            {"pool": Word("AVE"), "avg_include_pad": False},
        )
    )
    assert all(np.array_equal(first, other) for other in others)
    plain = Run("Pooling", [x], fields={"pooling_param": {**own, "pool": Word("AVE")}}).torch()[0]
    assert not np.array_equal(first, plain)


def test_the_mask_counts_in_the_map_whatever_the_pads():
    fields = {"pooling_param": {"kernel_size": 2, "stride": 2, "pad_t": 1, "pad_r": 1}}
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    Run("Pooling", [x], fields=fields, tops=2).holds([[[[[1, 3], [9, 11]]]], [[[[1, 3], [9, 11]]]]], OPSETS)


def test_what_pooling_refuses():
    x = values(1, 1, 6, 6)
    for match, fields in [
        ("rounds down", {"kernel_size": 2, "ceil_mode": True, "round_mode": Word("FLOOR")}),
        ("two of pad", {"kernel_size": 2, "pad": 1, "pad_t": 1}),
        ("two of pad", {"kernel_size": 2, "pad": 1, "pad_type": 1}),
        ("two of pad", {"kernel_size": 2, "pad_type": 0, "pad_l": 1}),
        ("pad_type 2", {"kernel_size": 2, "pad_type": 2}),
        ("pool DEF", {"kernel_size": 2, "pool": Word("DEF")}),
        ("global_pooling with", {"global_pooling": True, "pad_type": 1}),
        ("global_pooling with", {"global_pooling": True, "pad_t": 1}),
        ("a pad with STOCHASTIC", {"kernel_size": 2, "pool": Word("STOCHASTIC"), "pad_t": 1}),
        ("output_scale", {"kernel_size": 2, "output_scale": 2.0}),
    ]:
        refused(match, "Pooling", [x], fields={"pooling_param": fields})


# -- Pooling3D, synopsys's ---------------------------------------------------------------------------------------------
def three(fields, one, each, default):
    return tuple(fields.get(name, fields.get(one, default)) for name in each)


VOLUMES = [
    ({"kernel_size": 2, "stride": 2}, (4, 6, 5)),
    ({"kernel_d": 2, "kernel_h": 3, "kernel_w": 1, "stride_d": 1, "stride_h": 2, "stride_w": 3}, (3, 6, 7)),
    ({"kernel_size": 3, "stride": 2, "pad": 1}, (4, 5, 6)),
    ({"kernel_size": 3, "stride": 2, "pad": 1, "ceil_mode": True}, (4, 5, 6)),
    ({"kernel_size": 2, "stride": 2, "ceil_mode": True}, (3, 4, 5)),
    ({"kernel_size": 3, "stride": 2, "pad_d1": 1, "pad_h0": 2, "pad_w0": 1, "pad_w1": 2}, (3, 4, 5)),
    ({"kernel_size": 2}, (2, 3, 4)),
    ({"global_pooling": True}, (2, 3, 4)),
]


@pytest.mark.parametrize(("fields", "size"), VOLUMES)
@pytest.mark.parametrize("method", ["MAX", "AVE", "AVE_EXC_PAD"])
def test_pooling_over_volumes(fields, size, method):
    kernel = (
        size if "global_pooling" in fields else three(fields, "kernel_size", ("kernel_d", "kernel_h", "kernel_w"), 0)
    )
    stride = three(fields, "stride", ("stride_d", "stride_h", "stride_w"), 1)
    pad = three(fields, "pad", ("pad_d0", "pad_h0", "pad_w0"), 0)
    tail = three(fields, "pad", ("pad_d1", "pad_h1", "pad_w1"), 0)
    floor = not fields.get("ceil_mode")
    axes = zip(size, kernel, stride, pad, tail, strict=True)
    out = tuple(extents(*axis, floor, any(pad + tail)) for axis in axes)
    run = Run("Pooling3D", [values(1, 2, *size)], fields={"pooling3d_param": {**fields, "pool": Word(method)}})
    check(run, pooled(run.double()[0], out, kernel, stride, pad, tail, method))


def test_what_pooling_over_volumes_refuses():
    x = values(1, 1, 3, 3, 3)
    for match, fields in [
        ("no kernel_size", {}),
        ("both kernel_size", {"kernel_size": 2, "kernel_d": 1}),
        ("2 of the three", {"kernel_d": 2, "kernel_h": 1}),
        ("1 of the three", {"kernel_size": 2, "stride_h": 1}),
        ("both pad", {"kernel_size": 2, "pad": 1, "pad_d0": 1}),
        ("global_pooling with a kernel", {"kernel_size": 2, "global_pooling": True}),
        ("stride 0", {"kernel_size": 2, "stride": 0}),
        ("smaller than the window", {"kernel_size": 4}),
        ("pool STOCHASTIC", {"kernel_size": 2, "pool": Word("STOCHASTIC")}),
    ]:
        refused(match, "Pooling3D", [x], fields={"pooling3d_param": fields})
    refused("4 axes", "Pooling3D", [x[0]], fields={"pooling3d_param": {"kernel_size": 2}})


# -- C3D ---------------------------------------------------------------------------------------------------------------
C3D_POOLINGS = [
    ({"kernel_size": 2, "kernel_depth": 1, "stride": 2}, (3, 6, 5)),
    ({"kernel_size": 3, "kernel_depth": 2, "stride": 2, "temporal_stride": 2}, (5, 8, 7)),
    ({"kernel_size": 3, "kernel_depth": 2, "stride": 2, "temporal_stride": 3, "pad": 1}, (6, 5, 8)),
    ({"kernel_size": 2, "kernel_depth": 2, "stride": 3, "temporal_stride": 1}, (2, 6, 4)),
]


@pytest.mark.parametrize("param", ["pooling_param", "pooling3d_param"])
@pytest.mark.parametrize(("fields", "size"), C3D_POOLINGS)
@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_pooling_over_time(param, fields, size, method):
    if method == "MAX" and "pad" in fields:
        refused("a pad with MAX", "Pooling3D", [values(1, 1, *size)], fields={param: fields})
        return
    kernel = (fields["kernel_depth"], fields["kernel_size"], fields["kernel_size"])
    stride = (fields.get("temporal_stride", 1), fields["stride"], fields["stride"])
    pad = (0, fields.get("pad", 0), fields.get("pad", 0))
    axes = zip(size, kernel, stride, pad, pad, strict=True)
    out = tuple(extents(*axis, floor=False, clip=False) for axis in axes)
    run = Run("Pooling3D", [values(1, 2, *size)], fields={param: {**fields, "pool": Word(method)}})
    check(run, pooled(run.double()[0], out, kernel, stride, pad, pad, method))


def test_equal_cells_each_get_the_whole_gradient():
    fields = {"pooling3d_param": {"kernel_size": 2, "kernel_depth": 1, "stride": 2}}
    grads, _ = Run("Pooling3D", [[[[[[0.0, 0.0], [-1.0, 0.0]]]]]], fields=fields).gradients(5.0)
    assert grads[0].tolist() == [[[[[5, 5], [0, 5]]]]]
    first = {"pooling3d_param": {"kernel_size": 2, "stride": 2}}
    grads, _ = Run("Pooling3D", [np.zeros((1, 1, 2, 2, 2))], fields=first).gradients(5.0)
    assert grads[0].reshape(-1).tolist() == [5] + [0] * 7  # synopsys's has no backward: as pooling in the plane


def correlated(x, weight, bias, stride, pad, dilation=(1, 1, 1), group=1) -> np.ndarray:
    """Cross-correlation over the last axes, cell by cell."""
    axes = len(stride)
    out = tuple(
        (n + 2 * p - (d * (k - 1) + 1)) // s + 1
        for n, k, s, p, d in zip(x.shape[2:], weight.shape[2:], stride, pad, dilation[:axes], strict=True)
    )
    wide = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in pad)])
    top = np.zeros((x.shape[0], len(weight), *out)) + bias.reshape(-1, *[1] * axes)
    inputs, outputs = x.shape[1] // group, len(weight) // group
    for o in range(len(weight)):
        for c, at in product(range(inputs), np.ndindex(*weight.shape[2:])):
            index = tuple(
                slice(a * d, a * d + (n - 1) * s + 1, s) for a, d, n, s in zip(at, dilation, out, stride, strict=False)
            )
            top[:, o] += weight[(o, c, *at)] * wide[(slice(None), o // outputs * inputs + c, *index)]
    return top


def test_a_field_of_forks_that_is_set_to_what_it_is_anyway_says_nothing():
    x, blobs = values(1, 1, 4, 4), [np.ones((1, 1, 2, 2)), np.zeros(1)]
    fields = {"kernel_size": 2, "num_output": 1}
    plain = Run("Convolution", [x], blobs, fields={"convolution_param": fields})
    more = {"input_scale": 1.0, "output_zero_point": 0, "saturate": Word("None"), "relu": False}
    run = Run("Convolution", [x], blobs, fields={"convolution_param": {**fields, **more}})
    assert np.array_equal(run.torch()[0], plain.torch()[0])


UNEVEN = [
    ({"kernel_size": 3, "stride": 2, "pad_t": 1, "pad_b": 2, "pad_l": 0, "pad_r": 1}, (8, 9)),
    ({"kernel_size": 3, "pad_t": 2, "pad_l": 4, "dilation": 2}, (5, 7)),
    ({"kernel_size": 3, "pad_b": 2, "pad_r": 4, "dilation": 2}, (5, 7)),
    ({"kernel_h": 2, "kernel_w": 7, "stride_h": 1, "stride_w": 2, "pad_l": 2, "pad_r": 3}, (4, 8)),
    ({"kernel_size": 1, "stride": 2, "pad_t": 1}, (4, 5)),
    ({"kernel_size": 3, "stride": 2, "pad_type": 1}, (7, 8)),
    ({"kernel_size": 2, "stride": 3, "pad_type": 1}, (7, 9)),
    ({"kernel_size": 3, "pad_type": 1, "dilation": 2}, (6, 5)),
    ({"kernel_size": 1, "pad_type": 1}, (4, 5)),
    ({"kernel_size": 3, "pad_type": 0, "pad": 1}, (4, 5)),
]


@pytest.mark.parametrize(("fields", "size"), UNEVEN)
@pytest.mark.parametrize("group", [1, 2])
def test_convolution_padded_side_by_side(fields, size, group):
    kernel, stride = (
        tuple(fields.get(f"{name}_{side}") or fields.get(one, 1) for side in "hw")
        for name, one in (("kernel", "kernel_size"), ("stride", "stride"))
    )
    dilation = (fields.get("dilation", 1),) * 2
    pad, tail = ([fields.get(name, fields.get("pad", 0)) for name in names] for names in SIDES)
    if fields.get("pad_type"):
        out = [math.ceil(n / s) for n, s in zip(size, stride, strict=True)]
        wide = [max((o - 1) * s + k - n, 0) for n, k, s, o in zip(size, kernel, stride, out, strict=True)]
        pad = [w // 2 for w in wide]
        reach = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(out, stride, dilation, kernel, strict=True)]
        tail = [r - n - p for r, n, p in zip(reach, size, pad, strict=True)]
    x, weight, bias = values(2, 4, *size), values(6, 4 // group, *kernel, seed=2), values(6, seed=3)
    fields = {**fields, "num_output": 6, "group": group}
    run = Run("Convolution", [x], [weight, bias], fields={"convolution_param": fields})
    before = [max(p, 0) for p in pad]
    wide = np.pad(run.double()[0], [(0, 0), (0, 0), *zip(before, [max(t, 0) for t in tail], strict=True)])
    weight, bias = (b.astype(np.float64) for b in run.blobs)
    expected = correlated(wide, weight, bias, stride, (0, 0), dilation, group)
    run.holds([expected], OPSETS)
    run.stays_double()
    run.slopes_hold(values(*expected.shape, seed=4), blobs=(0, 1))


def test_what_uneven_pads_refuse():
    x, blobs = values(1, 1, 4, 4), [np.ones((1, 1, 2, 2)), np.zeros(1)]
    for match, fields in [
        ("two of pad", {"kernel_size": 2, "pad": 1, "pad_t": 1}),
        ("two of pad", {"kernel_size": 2, "pad_h": 1, "pad_w": 0, "pad_type": 1}),
        ("two of pad", {"kernel_size": 2, "pad_type": 1, "pad_l": 1}),
        ("pad_type 2", {"kernel_size": 2, "pad_type": 2}),
        ("its fork forgets them", {"kernel_size": 1, "pad_r": 1}),
        ("input_scale", {"kernel_size": 2, "input_scale": 2.0}),
    ]:
        refused(match, "Convolution", [x], blobs, fields={"convolution_param": {**fields, "num_output": 1}})
    fields = {"convolution_param": {"kernel_size": 2, "pad_t": 1, "num_output": 1}}
    refused("on 3 spatial axes", "Convolution", [values(1, 1, 4, 4, 4)], blobs, fields=fields)


CONVOLUTIONS = [
    {"kernel_size": 3, "kernel_depth": 2, "pad": 1},
    {"kernel_size": 2, "kernel_depth": 3, "stride": 2, "temporal_stride": 2, "temporal_pad": 1},
    {"kernel_size": 1, "kernel_depth": 1, "filter_group": 2, "bias_term": False},
]


@pytest.mark.parametrize("param", ["convolution_param", "convolution3d_param"])
@pytest.mark.parametrize("fields", CONVOLUTIONS)
def test_convolution_over_time(param, fields):
    kernel = (fields["kernel_depth"], fields["kernel_size"], fields["kernel_size"])
    weight, bias = values(4, 2, *kernel, seed=4), values(4, seed=5) * fields.get("bias_term", True)
    blobs = [weight, bias.reshape(1, 1, 1, 1, 4)][: 1 + fields.get("bias_term", True)]
    run = Run("Convolution3D", [values(2, 2, 4, 5, 6)], blobs, fields={param: {**fields, "num_output": 4}})
    stride = (fields.get("temporal_stride", 1), *[fields.get("stride", 1)] * 2)
    pad = (fields.get("temporal_pad", 0), *[fields.get("pad", 0)] * 2)
    weight, bias = (np.float64(np.float32(v)) for v in (weight, bias))
    run.holds([correlated(run.double()[0], weight, bias, stride, pad)], OPSETS)
    run.slopes_hold(blobs=range(len(blobs)))
    more = values(3, 2, 4, 5, 6, seed=8).astype(np.float32)
    near(run.onnx(inputs=[more])[0], run.reference([more])[0], FORWARD, "another batch")


@pytest.mark.parametrize("param", ["convolution_param", "convolution3d_param"])
@pytest.mark.parametrize("fields", [*CONVOLUTIONS[:2], {"kernel_size": 2, "kernel_depth": 1, "stride": 3, "pad": 1}])
def test_deconvolution_over_time_is_its_transpose(param, fields):
    kernel = (fields["kernel_depth"], fields["kernel_size"], fields["kernel_size"])
    weight = values(3, 2, *kernel, seed=4)
    blobs = [weight, np.zeros((1, 1, 1, 1, 2))]
    run = Run("Deconvolution3D", [values(2, 3, 3, 4, 5)], blobs, fields={param: {**fields, "num_output": 2}})
    (top,) = run.reference()
    run.holds([top], (17,))
    stride = (fields.get("temporal_stride", 1), *[fields.get("stride", 1)] * 2)
    pad = (fields.get("temporal_pad", 0), *[fields.get("pad", 0)] * 2)
    other = values(*top.shape, seed=6)
    back = correlated(other, np.float64(np.float32(weight)), np.zeros(3), stride, pad)
    assert math.isclose((back * run.double()[0]).sum(), (other * top).sum(), rel_tol=1e-9), "an adjoint pair"
    run.slopes_hold(blobs=(0, 1))


def test_deconvolution_looks_for_its_bias_in_convolution_param():
    fields = {"num_output": 1, "kernel_size": 1, "kernel_depth": 1}
    blobs = [np.ones((1, 1, 1, 1, 1)), np.full((1, 1, 1, 1, 1), 2.0)]
    x = np.ones((1, 1, 1, 1, 1))
    Run("Deconvolution3D", [x], blobs, fields={"convolution3d_param": {**fields, "bias_term": False}}).holds([x + 2])
    both = {"convolution3d_param": fields, "convolution_param": {"bias_term": False}}
    Run("Deconvolution3D", [x], blobs[:1], fields=both).holds([x])


def test_what_convolution_over_time_refuses():
    x, own = values(1, 2, 3, 4, 5), {"num_output": 2, "kernel_size": 2, "kernel_depth": 2}
    for match, fields in [
        ("no kernel_size or no kernel_depth", {"num_output": 2, "kernel_size": 2}),
        ("dilation", {**own, "dilation": 2}),
        ("kernel_h", {**own, "kernel_h": 2}),
        ("group", {**own, "group": 2}),
        ("hole", {**own, "hole": 2}),
        ("filter_group 3", {**own, "filter_group": 3}),
        ("2 values of stride", {**own, "stride": [1, 2]}),
        ("does not fit", {**own, "kernel_depth": 5}),
    ]:
        refused(match, "Convolution3D", [x], fields={"convolution_param": fields})
    refused("4 axes", "Convolution3D", [x[0]], fields={"convolution3d_param": own})


# -- depthwise, hole ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("type", ["ConvolutionDepthwise", "DepthwiseConvolution"])
@pytest.mark.parametrize(("outputs", "more"), [(3, {}), (6, {"group": 3, "pad": 1, "stride": 2}), (3, {"dilation": 2})])
def test_every_channel_on_its_own(type, outputs, more):
    weight, bias = values(outputs, 1, 3, 3, seed=4), values(outputs, seed=5)
    fields = {"convolution_param": {"num_output": outputs, "kernel_size": 3, **more}}
    run = Run(type, [values(2, 3, 7, 6)], [weight, bias], fields=fields)
    weight, bias = (np.float64(np.float32(v)) for v in (weight, bias))
    sizes = [[more.get(name, default)] * 2 for name, default in (("stride", 1), ("pad", 0), ("dilation", 1))]
    run.holds([correlated(run.double()[0], weight, bias, *map(tuple, sizes), group=3)], OPSETS)
    run.slopes_hold(blobs=(0, 1))
    assert run.layer.multiply_adds([(2, 3, 7, 6)], [(2, 3, 5, 4)]) == 2 * 3 * 5 * 4 * 9


def test_a_depthwise_convolution_has_outputs_for_every_channel():
    fields = {"convolution_param": {"num_output": 4, "kernel_size": 1}}
    refused("group 3 with 3 input channels", "ConvolutionDepthwise", [values(1, 3, 4, 4)], fields=fields)


@pytest.mark.parametrize(("fields", "dilation"), [({"hole": 2}, (2, 2)), ({"hole_h": 1, "hole_w": 3}, (1, 3))])
def test_a_hole_is_a_dilation(fields, dilation):
    weight, bias = values(2, 3, 3, 2, seed=4), values(2, seed=5)
    more = {"num_output": 2, "kernel_h": 3, "kernel_w": 2, "pad": 2}
    run = Run("Convolution", [values(2, 3, 7, 6)], [weight, bias], fields={"convolution_param": {**more, **fields}})
    weight, bias = (np.float64(np.float32(v)) for v in (weight, bias))
    run.holds([correlated(run.double()[0], weight, bias, (1, 1), (2, 2), dilation)], OPSETS)
    assert "deeplab" in run.graph.packs


def test_a_hole_beside_a_dilation_is_refused():
    own = {"num_output": 2, "kernel_size": 3, "hole": 2}
    refused(
        "both dilation and hole",
        "Convolution",
        [values(1, 1, 9, 9)],
        fields={"convolution_param": {**own, "dilation": 2}},
    )
    refused(
        "both hole and a per-axis",
        "Convolution",
        [values(1, 1, 9, 9)],
        fields={"convolution_param": {**own, "hole_h": 2}},
    )
    refused("hole 0", "Convolution", [values(1, 1, 9, 9)], fields={"convolution_param": {**own, "hole": 0}})
    refused("hole", "Deconvolution", [values(1, 1, 9, 9)], fields={"convolution_param": own})


@pytest.mark.parametrize(
    ("type", "fields", "blobs", "top"),
    [
        ("Pooling3D", {"pooling3d_param": {"kernel_size": 2, "stride": 2}}, (), (0, 2, 1, 2, 2)),
        ("Pooling3D", {"pooling3d_param": {"kernel_size": 2, "kernel_depth": 1}}, (), (0, 2, 3, 3, 3)),
        ("Convolution3D", {"convolution3d_param": {"num_output": 1, "kernel_size": 2, "kernel_depth": 1}},
         (np.ones((1, 2, 1, 2, 2)), np.ones((1, 1, 1, 1, 1))), (0, 1, 3, 3, 3)),
    ],
)  # fmt: skip
def test_no_items(type, fields, blobs, top):
    run = Run(type, [np.zeros((0, 2, 3, 4, 4))], blobs, fields=fields)
    assert run.reference()[0].shape == run.torch()[0].shape == top


def test_nan_never_wins():
    x = np.full((1, 1, 2, 2, 2), np.nan)
    x[0, 0, 1, 1, 1] = -3
    for more in ({}, {"kernel_depth": 2}):
        Run("Pooling3D", [x], fields={"pooling3d_param": {"kernel_size": 2, **more}}).holds([[[[[[-3.0]]]]]], ())
