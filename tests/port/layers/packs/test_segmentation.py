"""Interp, Upsample, SegNet's BN, SegAccuracy, FCN's Crop and data layers against their rules in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pack_runs import BACKWARD, FORWARD, Run, agree, near, refused
from properties.nets import Word
from small_nets import inputs, layer

from port.graph.build import build_graph
from port.graph.state import NetState
from port.graph.stored import Stored
from port.net import params
from prototxt_gen.base.errors import DataError, ExportError, NetError
from prototxt_gen.schema.text import parse_prototxt

OPSETS = (13, 17, 22)
F32 = np.float32


def numbers(*shape, seed=0):
    return np.random.RandomState([seed, *shape]).standard_normal(shape)


def other_batch(run, factor=2):
    """The ONNX file of a batch holds for another one too."""
    more = [np.concatenate([x + 0.25 * i for i in range(factor)]).astype(F32) for x in run.inputs]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


# -- Interp -----------------------------------------------------------------------------------------------------------
def interpolated(x, out):
    n, c, h, w = x.shape
    y = np.zeros((n, c, *out))
    steps = [F32(a - 1) / F32(b - 1) if b > 1 else F32(0) for a, b in zip((h, w), out, strict=True)]
    for i in range(out[0]):
        for j in range(out[1]):
            at = [steps[0] * F32(i), steps[1] * F32(j)]
            r, s = int(at[0]), int(at[1])
            r2, s2 = min(r + 1, h - 1), min(s + 1, w - 1)
            a, b = float(at[0] - F32(r)), float(at[1] - F32(s))
            upper = (1 - b) * x[:, :, r, s] + b * x[:, :, r, s2]
            lower = (1 - b) * x[:, :, r2, s] + b * x[:, :, r2, s2]
            y[:, :, i, j] = (1 - a) * upper + a * lower
    return y


INTERPS = [
    ({"zoom_factor": 3}, (5, 4), (13, 10)),
    ({"shrink_factor": 3}, (11, 8), (4, 3)),
    ({"shrink_factor": 2, "zoom_factor": 3}, (8, 7), (10, 10)),
    ({"height": 7, "width": 1}, (4, 5), (7, 1)),
    ({"height": 6, "width": 5, "shrink_factor": 2, "zoom_factor": 2}, (4, 7), (6, 5)),
    ({"height": 6, "width": 5, "zoom_factor": 2}, (4, 3), (7, 5)),
    ({"full_zoom_factor": 2}, (3, 5), (6, 10)),
    ({"height": 4, "width": 6}, (4, 6), (4, 6)),
    ({"height": 9, "width": 6}, (4, 6), (9, 6)),
    ({"height": 300, "width": 2}, (41, 3), (300, 2)),
]


@pytest.mark.parametrize(("fields", "size", "out"), INTERPS)
def test_interp_puts_corners_on_corners(fields, size, out):
    run = Run("Interp", [numbers(2, 3, *size)], fields={"interp_param": fields})
    run.holds([interpolated(run.double()[0], out)], OPSETS)
    if out[0] < 100:
        run.slopes_hold(numbers(2, 3, *out, seed=1))
    other_batch(run)


def test_interp_crops_first():
    run = Run(
        "Interp", [numbers(1, 2, 9, 8)], fields={"interp_param": {"zoom_factor": 2, "pad_beg": -1, "pad_end": -3}}
    )
    run.holds([interpolated(run.double()[0][:, :, 1:6, 1:5], (9, 7))], OPSETS)
    run.slopes_hold(numbers(1, 2, 9, 7))


def test_interp_takes_the_size_of_a_second_bottom():
    run = Run("Interp", [numbers(2, 3, 4, 5), numbers(2, 1, 7, 3)])
    run.holds([interpolated(run.double()[0], (7, 3))])
    assert run.gradients()[0][1] is None
    run.stays_double()


@pytest.mark.parametrize(
    ("match", "fields", "shapes"),
    [
        ("no size", {}, [(1, 1, 4, 4)]),
        ("no size", {"height": 3}, [(1, 1, 4, 4)]),
        ("shrink_factor 0", {"shrink_factor": 0}, [(1, 1, 4, 4)]),
        ("zoom_factor -1", {"zoom_factor": -1}, [(1, 1, 4, 4)]),
        ("pads 1 and 0", {"zoom_factor": 2, "pad_beg": 1}, [(1, 1, 4, 4)]),
        ("a cell or more left", {"zoom_factor": 2, "pad_beg": -2, "pad_end": -2}, [(1, 1, 4, 4)]),
        ("height 0", {"height": 0, "width": 3}, [(1, 1, 4, 4)]),
        ("3 axes", {"zoom_factor": 2}, [(1, 4, 4)]),
        ("one of the two", {"zoom_factor": 2}, [(1, 1, 4, 4), (1, 1, 2, 2)]),
        ("second bottom of 2 axes", {}, [(1, 1, 4, 4), (2, 2)]),
    ],
)
def test_interp_refuses(match, fields, shapes):
    refused(match, "Interp", [np.zeros(s) for s in shapes], fields={"interp_param": fields} if fields else {})


# -- Upsample ---------------------------------------------------------------------------------------------------------
def placed(x, mask, out):
    y = np.zeros((*x.shape[:2], out[0] * out[1]))
    for at in np.ndindex(*x.shape):
        y[(*at[:2], int(mask[at]))] = x[at]
    return y.reshape(*x.shape[:2], *out)


UPSAMPLES = [
    ({"scale": 3}, (2, 3), (6, 9)),
    ({}, (2, 3), (4, 6)),
    ({"scale": 2, "pad_out_h": True}, (2, 3), (3, 6)),
    ({"pad_out_w": True}, (2, 3), (4, 5)),
    ({"scale_h": 3, "scale_w": 2}, (2, 3), (6, 6)),
    ({"upsample_h": 5, "upsample_w": 7}, (2, 3), (5, 7)),
]


@pytest.mark.parametrize(("fields", "size", "out"), UPSAMPLES)
def test_upsample_puts_values_where_the_mask_says(fields, size, out):
    mask = np.random.RandomState(3).randint(0, out[0] * out[1], (2, 3, *size))
    mask[0, 0, 0, :2] = out[0] * out[1] - 1  # two values for one place: the later one stays
    run = Run("Upsample", [numbers(2, 3, *size), mask], fields={"upsample_param": fields} if fields else {})
    run.holds([placed(*run.double(), out)], OPSETS)
    other = Run("Upsample", [numbers(2, 3, *size)[:1], mask[:1]], fields={"upsample_param": fields} if fields else {})
    more = [np.concatenate([x] * 3) for x in other.inputs]
    agree(other.onnx(17, more), other.reference(more), FORWARD, "another batch")


def test_upsamples_gradient_is_read_at_the_places_of_the_mask():
    mask = np.random.RandomState(4).randint(0, 24, (2, 3, 2, 3))
    run, seed = (
        Run("Upsample", [numbers(2, 3, 2, 3), mask], fields={"upsample_param": {"scale": 2}}),
        numbers(2, 3, 4, 6),
    )
    expected = np.take_along_axis(seed.reshape(2, 3, 24), mask.reshape(2, 3, 6), 2).reshape(mask.shape)
    found, _ = run.gradients(seed)
    near(found[0], expected, BACKWARD)
    assert found[1] is None


@pytest.mark.parametrize("place", [24, -1, np.nan])
def test_upsample_refuses_places_outside(place):
    run = Run("Upsample", [numbers(1, 1, 2, 3), np.full((1, 1, 2, 3), place)], fields={"upsample_param": {"scale": 2}})
    for answer in (run.reference, run.torch):
        with pytest.raises(NetError, match="place in the mask"):
            answer()


@pytest.mark.parametrize(
    ("match", "fields", "shapes"),
    [
        ("scale 1", {"scale": 1}, [(1, 1, 2, 2)] * 2),
        ("pad_out with scale 3", {"scale": 3, "pad_out_h": True}, [(1, 1, 2, 2)] * 2),
        ("scale_h", {"scale_h": 2}, [(1, 1, 2, 2)] * 2),
        ("scale_h", {"scale_h": 2, "scale_w": 2, "scale": 2}, [(1, 1, 2, 2)] * 2),
        ("upsample_h 1", {"upsample_h": 1, "upsample_w": 4}, [(1, 1, 2, 2)] * 2),
        ("the same shape", {"scale": 2}, [(1, 1, 2, 2), (1, 1, 2, 3)]),
        ("the same shape", {"scale": 2}, [(2, 2), (2, 2)]),
        ("scale 0", {"scale": 0}, [(1, 1, 2, 2)]),
        ("2 axes", {"scale": 2}, [(2, 2)]),
        ("upsample_h", {"upsample_h": 2, "upsample_w": 4}, [(1, 1, 2, 2)]),
    ],
)
def test_upsample_refuses(match, fields, shapes):
    refused(match, "Upsample", [np.zeros(s) for s in shapes], fields={"upsample_param": fields})


@pytest.mark.parametrize("fields", [{"scale": 2}, {"scale": 3}, {"scale": 1}, {}])
def test_upsample_of_one_bottom_repeats(fields):
    run = Run("Upsample", [numbers(2, 3, 4, 5)], fields={"upsample_param": fields} if fields else {})
    scale, x = fields.get("scale", 1), run.double()[0]
    y = np.zeros((2, 3, 4 * scale, 5 * scale))
    for at in np.ndindex(*y.shape):
        y[at] = x[(*at[:2], at[2] // scale, at[3] // scale)]
    run.holds([y], OPSETS)
    run.slopes_hold(numbers(*y.shape, seed=1))
    run.stays_double()
    other_batch(run)


# -- SegNet's BN ------------------------------------------------------------------------------------------------------
def batch_normal(x, eps=1e-9):
    y = np.zeros_like(x)
    for c in range(x.shape[1]):
        values = x[:, c].reshape(-1)
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        y[:, c] = (x[:, c] - mean) / math.sqrt(variance + eps)
    return y


def bn(mode, shape, seed=0, **case):
    blobs = [numbers(1, shape[1], 1, 1, seed=i + 5) for i in range(2)]
    return Run("BN", [numbers(*shape, seed=seed) * 3 + 2], blobs, fields={"bn_param": {"bn_mode": Word(mode)}}, **case)


@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (4, 3), (1, 2, 1, 6)])
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_bn_in_learn_mode_has_the_batchs_statistics_whatever_the_phase(shape, phase):
    run = bn("LEARN", shape, phase=phase)
    scale, shift = (np.float64(b).reshape(1, -1, *[1] * (len(shape) - 2)) for b in run.blobs)
    run.holds([batch_normal(run.double()[0]) * scale + shift], OPSETS)
    run.slopes_hold(numbers(*shape, seed=3), (0,), (0, 1))
    run.stays_double()


def test_bn_in_inference_mode_scales_and_shifts():
    run = bn("INFERENCE", (2, 3, 4, 5))
    scale, shift = map(np.float64, run.blobs)
    run.holds([run.double()[0] * scale + shift], OPSETS)
    run.slopes_hold(numbers(2, 3, 4, 5, seed=3), (0,), (0, 1))
    run.stays_double()
    other_batch(run)


def test_bns_further_tops_are_the_statistics():
    run = bn("LEARN", (3, 2, 4, 5), tops=3)
    x = run.double()[0]
    statistics = [x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)]
    tops = [run.reference(), run.torch(), run.onnx()]
    for top in tops:
        agree(top[1:], statistics, FORWARD, "statistics")
    assert run.gradients(top=1)[0] == [None]


def test_a_channel_with_one_value_is_normal_at_0():
    run = bn("LEARN", (1, 3, 1, 1))
    run.holds([np.float64(run.blobs[1])])


@pytest.mark.parametrize(
    ("dialect", "fields", "stored", "kind"),
    [
        ("bvlc", 'scale_filler { type: "constant" }', None, "SegNetBN"),
        ("bvlc", 'shift_filler { type: "constant" }', 2, "SegNetBN"),
        ("bvlc", "bn_mode: LEARN", None, "SegNetBN"),
        ("bvlc+segnet", "", None, "SegNetBN"),
        ("+synopsys", "", None, "SegNetBN"),
        ("bvlc", "", 2, "SegNetBN"),
        ("srn", "frozen: true", 2, "SegNetBN"),
        ("+synopsys", 'slope_filler { type: "constant" } frozen: true', 2, "SegNetBN"),
        ("bvlc", "", None, "BN"),
        ("srn", "", None, "BN"),
        ("bvlc+segnet", "", 4, "BN"),
        ("bvlc+deeplab", 'slope_filler { type: "constant" } frozen: true', None, "BN"),
        ("+synopsys", 'slope_filler { type: "constant" }', None, "BN"),
        ("+synopsys", 'slope_filler { type: "constant" } icnet: false', None, "SegNetBN"),
        ("bvlc", 'slope_filler { type: "constant" } icnet: true', None, "IcnetBN"),
        ("+synopsys", "icnet: true", None, "IcnetBN"),
    ],
)
def test_which_bn_is_meant(dialect, fields, stored, kind):
    net = inputs(x=(1, 2, 3, 3)) + layer("b", "BN", "x", "y", f"bn_param {{ {fields} }}" if fields else "")
    counts = {"b": stored} if stored else {}
    graph = build_graph(parse_prototxt(net, dialect=dialect), NetState("TEST"), stored=lambda: Stored(counts))
    assert type(graph.nodes[-1].layer).__name__ == kind


def test_bn_refuses():
    refused("5", "BN", [np.zeros((1, 2, 3, 3, 3))], fields={"bn_param": {"bn_mode": Word("LEARN")}})
    refused("without a value", "BN", [np.zeros((0, 2, 3, 3))], fields={"bn_param": {"bn_mode": Word("LEARN")}})
    refused("INFERENCE", "BN", [np.zeros((1, 2))], fields={"bn_param": {"bn_mode": Word("INFERENCE")}}, tops=2)
    refused("bn_mode", "BN", [np.zeros((1, 2))], fields={"bn_param": {"bn_mode": Word("INFERENCE"), "icnet": True}})


@pytest.mark.parametrize(("phase", "frozen"), [("TEST", False), ("TRAIN", False), ("TRAIN", True)])
def test_bn_of_icnet_has_statistics_of_its_own(phase, frozen):
    """Synopsys' BN with icnet: slope * (x - mean) / sqrt(variance + eps) + bias, the blobs 1 x C x 1 x 1."""
    slope, bias, mean = (numbers(1, 3, 1, 1, seed=seed) for seed in (1, 2, 3))
    blobs = [slope, bias, mean, np.abs(numbers(1, 3, 1, 1, seed=4)) + 0.5]
    fields = {"bn_param": {"icnet": True, "eps": 0.25, **({"frozen": True} if frozen else {})}}
    run = Run("BN", [numbers(2, 3, 4, 5)], blobs, fields=fields, phase=phase)
    x = run.double()[0]
    if phase == "TRAIN" and not frozen:
        moments = [x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)]
    else:
        moments = [blob.astype(F32).astype(float) for blob in blobs[2:]]
    y = slope.astype(F32) * (x - moments[0]) / np.sqrt(moments[1] + 0.25) + bias.astype(F32)
    run.holds([y], OPSETS)
    assert [spec.shape for spec in run.graph.nodes[-1].specs] == [(1, 3, 1, 1)] * 4


# -- SegAccuracy ------------------------------------------------------------------------------------------------------
def measured(x, label, ignored):
    classes = x.shape[1]
    counts = [[0] * classes for _ in range(classes)]
    for n, h, w in np.ndindex(x.shape[0], *x.shape[2:]):
        truth = int(label[n, 0, h, w])
        if truth in ignored:
            continue
        best = max(range(classes), key=lambda c: (x[n, c, h, w], c))
        counts[truth][best] += 1
    total, hits = sum(map(sum, counts)), sum(counts[c][c] for c in range(classes))
    recalls = [counts[c][c] / sum(counts[c]) for c in range(classes) if sum(counts[c])]
    overlaps = []
    for c in range(classes):
        union = sum(counts[c]) + sum(row[c] for row in counts) - counts[c][c]
        overlaps.append(1.0 if union == counts[c][c] else counts[c][c] / union)
    return [hits / total if total else 0, sum(recalls) / len(recalls) if recalls else 0, sum(overlaps) / classes]


@pytest.mark.parametrize("ignored", [[], [255], [1, 255]])
@pytest.mark.parametrize("seed", range(3))
def test_seg_accuracy_counts(ignored, seed):
    random = np.random.RandomState(seed)
    x = random.randint(-2, 3, (2, 4, 5, 3)) / 2  # with ties
    label = random.choice([0, 1, 2, *ignored], (2, 1, 5, 3))
    run = Run("SegAccuracy", [x, label], fields={"seg_accuracy_param": {"ignore_label": ignored}})
    run.holds([np.reshape(measured(x, label, ignored), (1, 1, 1, 3))], OPSETS)
    more = [np.concatenate([b, b[:, :, ::-1]]).astype(F32) for b in run.inputs]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


def test_seg_accuracy_of_ignored_places_alone():
    run = Run(
        "SegAccuracy",
        [numbers(1, 3, 2, 2), np.full((1, 1, 2, 2), 255)],
        fields={"seg_accuracy_param": {"ignore_label": [255]}},
    )
    run.holds([[[[[0.0, 0.0, 1.0]]]]])


def test_seg_accuracy_without_reset_goes_on_counting():
    random = np.random.RandomState(1)
    x, label = random.standard_normal((2, 3, 4, 4)), random.randint(0, 3, (2, 1, 4, 4))
    run = Run("SegAccuracy", [x[:1], label[:1]], fields={"seg_accuracy_param": {"reset": False}})
    near(run.torch()[0], run.reference()[0], FORWARD)
    both = run.torch([x[1:].astype(F32), label[1:].astype(F32)])[0]
    near(both, np.reshape(measured(x, label, []), (1, 1, 1, 3)), FORWARD)
    with pytest.raises(ExportError, match="reset"):
        run.onnx()


def test_seg_accuracy_refuses():
    refused("labels", "SegAccuracy", [np.zeros((2, 3, 4, 4)), np.zeros((2, 1, 4, 3))])
    run = Run("SegAccuracy", [np.zeros((1, 3, 2, 2)), np.full((1, 1, 2, 2), 3)])
    for answer in (run.reference, run.torch):
        with pytest.raises(NetError, match="the label 3"):
            answer()


# -- FCN's Crop -------------------------------------------------------------------------------------------------------
def conv(name, bottom, kernel, pad=0, stride=1, kind="Convolution"):
    fields = f"convolution_param {{ num_output: 2 kernel_size: {kernel} pad: {pad} stride: {stride} }}"
    return layer(name, kind, bottom, name, fields)


def pool(name, bottom, kernel=2, stride=2, pad=0):
    return layer(
        name, "Pooling", bottom, name, f"pooling_param {{ kernel_size: {kernel} stride: {stride} pad: {pad} }}"
    )


def fcn(pools, pad):
    """FCN of Long et al.: blocks of convolution and pooling, 7 x 7, and a deconvolution back to the image's scale."""
    net = inputs(data=(1, 3, 300, 260)) + conv("c1", "data", 3, pad) + layer("r1", "ReLU", "c1", "c1")
    net += pool("p1", "c1")
    for i in range(2, pools + 1):
        net += conv(f"c{i}", f"p{i - 1}", 3, 1) + pool(f"p{i}", f"c{i}")
    net += conv("fc6", f"p{pools}", 7) + layer("drop", "Dropout", "fc6", "fc6")
    scale = 2**pools
    return net + conv("up", "fc6", 2 * scale, 0, scale, "Deconvolution")


def cropped(net, dialect="bvlc+hed"):
    return build_graph(parse_prototxt(net, dialect=dialect), NetState("TEST")).nodes[-1]


def test_fcn_32s_is_cropped_by_19():
    node = cropped(fcn(5, 100) + layer("score", "Crop", "up data", "score"))
    assert node.layer.offset == (19, 19)
    assert node.tops[0].shape == (1, 2, 300, 260)
    assert cropped(fcn(5, 100) + layer("score", "Crop", "up data", "score"), "bvlc").layer.offset == ()


@pytest.mark.parametrize("pack", ["hed", "lrcn"])
def test_a_skip_is_aligned_with_the_way_around_it(pack):
    """b is 4 cells farther (pad 6 less half of 5 - 1), q half of b less 1/2, up twice q and 3/2: 5 cells farther."""
    net = inputs(data=(1, 1, 40, 44)) + conv("a", "data", 3, 5) + pool("p", "a") + layer("r", "ReLU", "p", "p")
    net += conv("b", "p", 5, 6) + pool("q", "b") + conv("up", "q", 4, 0, 2, "Deconvolution") + conv("side", "p", 1)
    node = cropped(net + layer("crop", "Crop", "up side", "crop"), f"bvlc+{pack}")
    assert node.layer.offset == (5, 5)
    assert node.tops[0].shape == (1, 2, 24, 26)


def test_crop_behind_crop_and_with_fields():
    net = fcn(2, 40) + layer("one", "Crop", "up data", "one") + layer("two", "Crop", "one data", "two")
    assert cropped(net).layer.offset == (0, 0)  # the first crop has aligned them
    net = fcn(2, 40) + layer("one", "Crop", "up data", "one", "crop_param { axis: 2 offset: 3 }")
    assert cropped(net).layer.offset == (3,)


@pytest.mark.parametrize(
    ("match", "net"),
    [
        ("do not come from one blob", inputs(a=(1, 1, 9, 9), b=(1, 1, 4, 4)) + layer("c", "Crop", "a b", "c")),
        ("one scale", inputs(a=(1, 1, 9, 9)) + pool("p", "a") + layer("c", "Crop", "a p", "c")),
        ("one scale", inputs(a=(1, 1, 9, 9)) + conv("p", "a", 3) + layer("c", "Crop", "p a", "c")),
        (
            "Tile",
            inputs(a=(1, 1, 9, 9))
            + layer("t", "Tile", "a", "t", "tile_param { tiles: 2 }")
            + layer("c", "Crop", "a t", "c"),
        ),
        ("height and width", inputs(a=(1, 9), b=(1, 9)) + layer("c", "Crop", "a b", "c")),
        (
            "global pooling",
            inputs(a=(1, 1, 9, 9))
            + layer("p", "Pooling", "a", "p", "pooling_param { global_pooling: true }")
            + layer("c", "Crop", "a p", "c"),
        ),
    ],
)
def test_crop_refuses_what_cannot_be_aligned(match, net):
    with pytest.raises(NetError, match=match):
        cropped(net)


# -- data layers ------------------------------------------------------------------------------------------------------
def data_net(kind, tops, fields):
    return layer("d", kind, "", tops, fields) + layer("s", "Silence", tops, "")


@pytest.mark.parametrize(
    ("kind", "tops", "fields", "shapes"),
    [
        (
            "DenseImageData",
            "a b",
            'dense_image_data_param { source: "l" batch_size: 4 new_height: 6 new_width: 8 shuffle: true }',
            [(4, 3, 6, 8), (4, 1, 6, 8)],
        ),
        (
            "DenseImageData",
            "a b",
            'dense_image_data_param { source: "l" batch_size: 2 crop_height: 5 crop_width: 3 is_color: false }',
            [(2, 1, 5, 3), (2, 1, 5, 3)],
        ),
        (
            "ImageSegData",
            "a b c",
            'image_data_param { source: "l" batch_size: 2 label_type: PIXEL } transform_param { crop_size: 7 }',
            [(2, 3, 7, 7), (2, 1, 7, 7), (2, 1, 1, 2)],
        ),
        (
            "ImageSegData",
            "a b",
            'image_data_param { source: "l" batch_size: 2 } transform_param { crop_width: 7 crop_height: 5 }',
            [(2, 3, 5, 7), (2, 1, 5, 7)],
        ),
    ],
)
def test_a_data_layers_shapes_follow_from_its_fields(kind, tops, fields, shapes):
    graph = build_graph(parse_prototxt(data_net(kind, tops, fields)), NetState("TRAIN"))
    assert [value.shape for value in graph.inputs] == shapes


def test_a_data_layer_without_a_size_is_given_one():
    from port.data import open_data

    net = parse_prototxt(data_net("ImageSegData", "a b", 'image_data_param { source: "l" batch_size: 2 }'))
    with pytest.raises(NetError, match="the first image's size"):
        build_graph(net, NetState("TRAIN"))
    given = {"a": (2, 3, 4, 4), "b": (2, 1, 4, 4)}
    graph = build_graph(net, NetState("TRAIN"), input_shapes=given)
    assert [value.shape for value in graph.inputs] == list(given.values())
    with pytest.raises(DataError, match="ImageSegData reads no data here"):
        open_data(graph.net.layer[0], "TRAIN", "bvlc")


def test_a_segnet_trains():
    """A pooling's mask, Upsample and BN together: the loss falls."""
    net = inputs(data=(2, 3, 8, 8), label=(2, 1, 8, 8)) + conv("c1", "data", 3, 1)
    net = net.replace("num_output: 2", 'num_output: 2 weight_filler { type: "xavier" }')
    net += layer("bn", "BN", "c1", "n1", 'bn_param { scale_filler { type: "constant" value: 1 } }')
    net += layer("pool", "Pooling", "n1", "p1 m1", "pooling_param { kernel_size: 2 stride: 2 }")
    net += layer("up", "Upsample", "p1 m1", "u1", "upsample_param { scale: 2 }")
    net += conv("out", "u1", 3, 1).replace("num_output: 2", 'num_output: 2 weight_filler { type: "xavier" }')
    net += layer("loss", "SoftmaxWithLoss", "out label", "loss")
    from port.module import build_module

    module = build_module(build_graph(parse_prototxt(net), NetState("TRAIN")), seed=3)
    x = torch.tensor(numbers(2, 3, 8, 8), dtype=torch.float32)
    label = (x[:, :1] > 0).float()
    blobs = [b for own in params(module).values() for b in own if b.requires_grad]
    optimizer = torch.optim.SGD(blobs, 0.5)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = module(data=x, label=label)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
