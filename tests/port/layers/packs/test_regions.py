"""ROIAlign, PSROIPooling, ROIPooling beside BVLC's layers, SmoothL1Loss and R-FCN's OHEM against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pack_runs import BACKWARD, FORWARD, Run, agree, near, refused
from properties.nets import Word

from prototxt_gen.base.errors import NetError

OPSETS = (13, 17, 22)
F32 = np.float32


def numbers(*shape, seed=0):
    return np.random.RandomState([seed, *shape]).standard_normal(shape)


def regions(count, items, seed=0, high=9, wide=11, scale=0.125):
    """[item, x1, y1, x2, y2], in pixels of an image; some beyond it, some turned around, some of one pixel."""
    random = np.random.RandomState(seed)
    rows = random.uniform(-20, 1.2 * max(high, wide) / scale, (count, 5)).round(1)
    rows[:, 0] = random.randint(0, items, count)
    rows[0, 3:] = rows[0, 1:3]
    rows[1, 1:] = [1, 2, wide / scale / 2, high / scale / 2]
    return rows


def away(x):
    """Rounded as C does."""
    return math.copysign(math.floor(abs(x) + 0.5), x)


# -- ROIAlign ---------------------------------------------------------------------------------------------------------
def largest_samples(x, rois, bins, scale):
    """Four samples of each bin; the memory behind a row is the next one, behind the blob a gap and the blob again."""
    _, channels, high, wide = x.shape
    taken = -(-(4 * x.size + 8) // 16) * 16 - 8  # bytes, in the allocator's pieces of 16, of which it has 8
    flat = np.concatenate([x.reshape(-1), np.zeros((taken - 4 * x.size) // 4 + 2), x.reshape(-1)])
    y = np.zeros((len(rois), channels, *bins))
    for n, c, i, j in np.ndindex(*y.shape):
        item, (x1, y1, x2, y2) = int(rois[n][0]), [F32(v) * F32(scale) for v in rois[n][1:]]
        steps = [max(b - a + F32(1), F32(1)) / F32(k) for a, b, k in ((y1, y2, bins[0]), (x1, x2, bins[1]))]
        edges = []
        for at, step, start, extent in ((i, steps[0], y1, high), (j, steps[1], x1, wide)):
            edges.append([min(max(F32(at + k) * step + start, F32(0)), F32(extent)) for k in (0, 1)])
        best = 0.0 if edges[0][1] <= edges[0][0] or edges[1][1] <= edges[1][0] else -math.inf
        for sx, sy in ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)):
            total, seen = 0.0, 0
            for r in range(math.ceil(edges[0][0]), math.floor(edges[0][1]) + 1):
                for s in range(math.ceil(edges[1][0]), math.floor(edges[1][1]) + 1):
                    if seen == 4:
                        break
                    seen += 1
                    share = 1.0
                    for sample, cell, start, end in ((sy, r, y1, y2), (sx, s, x1, x2)):
                        place = F32(0) if end == start else F32(2) * (F32(cell) - start) / (end - start) - F32(1)
                        place = min(max(place, F32(-1)), F32(1))
                        share *= float(max(F32(0), F32(1) - abs(F32(sample) - place)))
                    place = ((item * channels + c) * high + r) * wide + s
                    total += share * flat[place]
            best = max(best, total)
        y[n, c, i, j] = best
    return y


@pytest.mark.parametrize(("bins", "scale", "seed"), [((3, 3), 0.125, 0), ((2, 4), 0.125, 1), ((1, 5), 0.3, 2)])
def test_roi_align(bins, scale, seed):
    rois = regions(7, 2, seed, scale=scale)
    fields = {"roi_align_param": {"pooled_h": bins[0], "pooled_w": bins[1], "spatial_scale": scale}}
    run = Run("ROIAlign", [numbers(2, 3, 9, 11), rois], fields=fields)
    expected = largest_samples(run.double()[0], run.inputs[1], bins, scale)
    # the reference weighs in double precision throughout, the loops in single: two roundings of 6e-8 a factor
    near(run.reference()[0], expected, 3e-7)
    agree(run.torch(), [expected], FORWARD, "torch")
    for opset in OPSETS:
        agree(run.onnx(opset), [expected], FORWARD, "ONNX")
    more = [np.concatenate([b, b * 0.5 if b.ndim == 4 else b]).astype(F32) for b in run.inputs]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


def test_roi_aligns_gradient_is_that_of_its_largest_sample():
    fields = {"roi_align_param": {"pooled_h": 2, "pooled_w": 3, "spatial_scale": 0.125}}
    run = Run("ROIAlign", [numbers(1, 2, 5, 6), regions(4, 1, 3, 5, 6)], fields=fields)
    run.slopes_hold(numbers(4, 2, 2, 3))
    assert run.gradients()[0][1] is None


@pytest.mark.parametrize(
    ("match", "fields", "shapes"),
    [
        ("pooled_h 0", {"pooled_w": 2}, [(1, 1, 4, 4), (2, 5)]),
        ("5 numbers", {"pooled_h": 2, "pooled_w": 2}, [(1, 1, 4, 4), (2, 4)]),
        ("5 numbers", {"pooled_h": 2, "pooled_w": 2}, [(1, 4, 4), (2, 5)]),
    ],
)
def test_roi_align_refuses(match, fields, shapes):
    refused(match, "ROIAlign", [np.zeros(s) for s in shapes], fields={"roi_align_param": fields})


# -- PSROIPooling -----------------------------------------------------------------------------------------------------
def sensitive(x, rois, dim, group, scale):
    _, _, high, wide = x.shape
    y = np.zeros((len(rois), dim, group, group))
    for n, d, i, j in np.ndindex(*y.shape):
        item, (x1, y1, x2, y2) = int(rois[n][0]), [F32(away(v)) for v in rois[n][1:]]
        spans = []
        for at, low, high_corner, extent in ((i, y1, y2, high), (j, x1, x2, wide)):
            start, end = low * F32(scale), (high_corner + F32(1)) * F32(scale)
            size = max(end - start, F32(0.1)) / F32(group)
            edges = (math.floor(F32(at) * size + start), math.ceil(F32(at + 1) * size + start))
            spans.append(range(*(min(max(e, 0), extent) for e in edges)))
        cells = [x[item, (d * group + i) * group + j, r, s] for r in spans[0] for s in spans[1]]
        y[n, d, i, j] = sum(cells) / len(cells) if cells else 0
    return y


@pytest.mark.parametrize(("dim", "group", "scale", "seed"), [(2, 3, 0.125, 0), (4, 1, 0.125, 1), (1, 2, 0.0625, 2)])
def test_psroi_pooling(dim, group, scale, seed):
    fields = {"psroi_pooling_param": {"output_dim": dim, "group_size": group, "spatial_scale": scale}}
    rois = regions(7, 2, seed, scale=scale)
    rois[2, 1:] = [0.5, 1.5, 30.5, 41.5]  # halves round away from 0
    run = Run("PSROIPooling", [numbers(2, dim * group * group, 9, 11), rois], fields=fields)
    run.holds([sensitive(run.double()[0], run.inputs[1], dim, group, scale)], OPSETS)
    run.stays_double()
    more = [np.concatenate([b, b * 0.5 if b.ndim == 4 else b]).astype(F32) for b in run.inputs]
    more[1][-1, 0] = 3
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


def test_psroi_poolings_gradient_is_the_derivative():
    fields = {"psroi_pooling_param": {"output_dim": 2, "group_size": 2, "spatial_scale": 0.125}}
    run = Run("PSROIPooling", [numbers(2, 8, 4, 5), regions(5, 2, 4, 4, 5)], fields=fields)
    run.slopes_hold(numbers(5, 2, 2, 2))
    assert run.gradients()[0][1] is None


@pytest.mark.parametrize(
    ("match", "fields", "shapes"),
    [
        ("output_dim None", {"group_size": 2, "spatial_scale": 1}, [(1, 4, 4, 4), (2, 5)]),
        ("spatial_scale None", {"group_size": 2, "output_dim": 1}, [(1, 4, 4, 4), (2, 5)]),
        ("group_size -1", {"group_size": -1, "output_dim": 1, "spatial_scale": 1}, [(1, 4, 4, 4), (2, 5)]),
        ("which is 4", {"group_size": 2, "output_dim": 1, "spatial_scale": 1}, [(1, 5, 4, 4), (2, 5)]),
        ("5 numbers", {"group_size": 2, "output_dim": 1, "spatial_scale": 1}, [(1, 4, 4, 4), (2, 6)]),
    ],
)
def test_psroi_pooling_refuses(match, fields, shapes):
    refused(match, "PSROIPooling", [np.zeros(s) for s in shapes], fields={"psroi_pooling_param": fields})


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("PSROIPooling", {"psroi_pooling_param": {"group_size": 2, "output_dim": 1, "spatial_scale": 1}}),
        ("ROIAlign", {"roi_align_param": {"pooled_h": 2, "pooled_w": 2}}),
    ],
)
@pytest.mark.parametrize(("roi", "match"), [([2, 0, 0, 1, 1], "item 2"), ([0, np.nan, 0, 1, 1], "number of a region")])
def test_regions_of_no_item_and_without_a_place_are_refused(kind, fields, roi, match):
    run = Run(kind, [numbers(2, 4, 3, 3), [roi]], fields=fields)
    for answer in (run.reference, run.torch):
        with pytest.raises(NetError, match=match):
            answer()


# -- ROIPooling and SmoothL1Loss beside BVLC's layers -----------------------------------------------------------------
def test_roi_pooling_is_there_in_nets_of_bvlcs_dialect():
    fields = {"roi_pooling_param": {"pooled_h": 2, "pooled_w": 3, "spatial_scale": 0.5}}
    run = Run("ROIPooling", [numbers(2, 3, 6, 7), [[0, 0, 0, 9, 9], [1, 3, 2, 12, 11]]], fields=fields, dialect="bvlc")
    x = run.double()[0]
    assert run.reference()[0][0, 1, 0, 0] == x[0, 1, :3, :2].max()
    agree(run.torch(), run.reference(), FORWARD, "torch")
    agree(run.onnx(), run.reference(), FORWARD, "ONNX")
    refused("pooled_size", "ROIPooling", run.inputs, fields={"roi_pooling_param": {"pooled_size": [2, 2]}})


def smooth_l1(u, sigma2):
    return 0.5 * u * u * sigma2 if abs(u) < 1 / sigma2 else abs(u) - 0.5 / sigma2


@pytest.mark.parametrize("sigma", [None, 1.0, 3.0, 0.5])
@pytest.mark.parametrize("bottoms", [2, 3, 4])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2, 2)])
def test_smooth_l1_loss(sigma, bottoms, shape):
    arrays = [numbers(*shape, seed=i) for i in range(bottoms)]  # weights of both signs
    fields = {"smooth_l1_loss_param": {"sigma": sigma}} if sigma else {}
    run = Run("SmoothL1Loss", arrays, fields=fields)
    a, b, *weights = run.double()
    inside, outside = (weights + [np.ones(shape)] * 2)[:2]
    terms = [
        smooth_l1(i * (p - q), (sigma or 1.0) ** 2) * o
        for p, q, i, o in zip(*map(np.ravel, (a, b, inside, outside)), strict=True)
    ]
    run.holds([np.asarray(sum(terms) / shape[0])], OPSETS)
    run.slopes_hold(1.5, (0, 1))
    run.stays_double()
    assert run.graph.nodes[-1].tops[0].loss_weight == 1
    more = [np.concatenate([x, x]).astype(F32) for x in run.inputs]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


def test_the_srn_authors_smooth_l1_loss_is_another_one():
    shapes = [(3, 4)] * 3
    run = Run("SmoothL1Loss", [np.zeros(s) for s in shapes], dialect="srn")
    assert run.graph.nodes[-1].tops[0].loss_weight == 0
    fields = {"smooth_l1_loss_param": {"sigma": 1}}
    assert Run("SmoothL1Loss", [np.zeros(s) for s in shapes], dialect="srn", fields=fields).layer.pack == "faster_rcnn"


def test_smooth_l1_loss_refuses():
    refused("equal shapes", "SmoothL1Loss", [np.zeros((2, 3)), np.zeros((2, 4))])
    refused("equal shapes", "SmoothL1Loss", [np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 1))])
    refused("sigma 0", "SmoothL1Loss", [np.zeros((2, 3))] * 2, fields={"smooth_l1_loss_param": {"sigma": 0}})
    refused("abssum", "SmoothL1Loss", [np.zeros((2, 3))] * 2, fields={"smooth_l1_loss_param": {"abssum": False}})


# -- R-FCN's losses ---------------------------------------------------------------------------------------------------
DIVISORS = [
    ({}, "places"),
    ({"normalization": Word("FULL")}, "places"),
    ({"normalization": Word("VALID")}, "places"),
    ({"normalize": True}, "places"),
    ({"normalize": False}, "items"),
    ({"normalization": Word("BATCH_SIZE")}, "items"),
    ({"normalization": Word("NONE")}, 1),
    ({"normalization": Word("PRE_FIXED"), "pre_fixed_normalizer": 6.5}, 6.5),
    ({"normalization": Word("PRE_FIXED"), "pre_fixed_normalizer": 0.25}, 1),
]


@pytest.mark.parametrize(("fields", "divisor"), DIVISORS)
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2, 5)])
def test_smooth_l1_loss_ohem(fields, divisor, shape):
    arrays = [numbers(*shape, seed=i) * 2 for i in range(3)]
    run = Run("SmoothL1LossOHEM", arrays, fields={"loss_param": fields} if fields else {}, tops=2)
    a, b, weight = run.double()
    terms = np.vectorize(smooth_l1)(weight * (a - b), 1.0)
    places = math.prod(shape) // shape[1]
    count = {"places": places, "items": shape[0]}.get(divisor, divisor)
    each = terms.sum(1).reshape(shape[0], 1, *(shape[2:] or (1, 1)))
    run.holds([np.asarray(terms.sum() / count), each], OPSETS)
    found, _ = run.gradients()
    near(found[0], np.clip(weight * (a - b), -1, 1) / count, BACKWARD)  # the forks' gradient leaves the weight out
    near(found[1], -np.clip(weight * (a - b), -1, 1) / count, BACKWARD)
    assert found[2] is None
    assert run.gradients(top=1)[0] == [None] * 3


@pytest.mark.parametrize(("fields", "divisor"), DIVISORS)
@pytest.mark.parametrize("ignored", [None, -1, 1])
@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_softmax_with_loss_ohem(fields, divisor, ignored, dialect):
    if dialect == "srn" and any(isinstance(v, Word) for v in fields.values()):
        fields = {k: v for k, v in fields.items() if k == "normalize"}
        divisor = "places"
    random, shape = np.random.RandomState(4), (3, 4, 2, 2)
    label = random.choice([0, 1, 2, 3, -1 if ignored == -1 else 0], (3, 1, 2, 2))
    given = {**fields, **({} if ignored is None else {"ignore_label": ignored})}
    run = Run("SoftmaxWithLossOHEM", [numbers(*shape), label], fields={"loss_param": given}, tops=3, dialect=dialect)
    x = run.double()[0]
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    each, kept = np.zeros(label.shape), 0
    for n, i, j in np.ndindex(3, 2, 2):
        if (truth := label[n, 0, i, j]) != ignored:
            each[n, 0, i, j], kept = -math.log(p[n, truth, i, j]), kept + 1
    mode = fields.get("normalization", "VALID" if fields.get("normalize", True) else "BATCH_SIZE")
    count = {"places": max(kept, 1) if mode == "VALID" else 12, "items": 3}.get(divisor, divisor)
    run.holds([np.asarray(each.sum() / count), p, each], OPSETS)
    run.slopes_hold(2.0)
    assert run.gradients(top=2)[0] == [None, None]


def test_ohem_losses_refuse():
    refused("equal shapes", "SmoothL1LossOHEM", [np.zeros((2, 3)), np.zeros((2, 4))])
    refused("one a location", "SoftmaxWithLossOHEM", [np.zeros((2, 3)), np.zeros(3)])
    run = Run("SoftmaxWithLossOHEM", [np.zeros((2, 3)), np.full(2, 3)])
    with pytest.raises(NetError, match="the label 3"):
        run.torch()


# -- BoxAnnotatorOHEM -------------------------------------------------------------------------------------------------
def annotated(rois, loss, labels, weights, most, ignore):
    places = [(n, i, j) for n in range(len(rois)) for i in range(rois.shape[2]) for j in range(rois.shape[3])]
    kept, left = {}, {}
    for n, i, j in sorted(places, key=lambda at: -loss[at[0], 0, at[1], at[2]]):  # stable
        item = int(rois[n, 0, i, j])
        left[item] = left.get(item, most) - 1
        kept[n, i, j] = left[item] >= 0
    tops = np.full(labels.shape, float(ignore)), np.zeros(weights.shape)
    for n, i, j in places:
        if kept[n, i, j]:
            tops[0][n, 0, i, j], tops[1][n, :, i, j] = labels[n, 0, i, j], weights[n, :, i, j]
    return list(tops)


@pytest.mark.parametrize("most", [1, 3, 100])
@pytest.mark.parametrize("spatial", [(), (2, 3)])
def test_box_annotator_ohem(most, spatial):
    random, count = np.random.RandomState(most), 9
    wide = spatial or (1, 1)
    rois = random.uniform(0, 9, (count, 5, *wide))
    rois[:, 0] = random.choice([0, 2, 5], (count, *wide))  # items need not follow each other
    loss = random.randint(0, 4, (count, 1, *wide)) / 4  # with ties
    labels = random.randint(0, 5, (count, 1, *wide))
    weights = random.standard_normal((count, 8, *wide))
    arrays = [rois, loss, labels, weights]
    fields = {"box_annotator_ohem_param": {"roi_per_img": most, "ignore_label": -1}}
    given = [a.reshape(*a.shape[:2], *spatial) for a in arrays]
    run = Run("BoxAnnotatorOHEM", given, fields=fields, tops=2)
    arrays[3] = run.double()[3].reshape(weights.shape)
    run.holds(annotated(*arrays, most, -1), OPSETS)
    assert run.gradients()[0] == [None] * 4
    more = [np.concatenate([a, a]).astype(F32) for a in run.inputs]
    more[0][count:, 0] += 1
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


def test_box_annotator_ohem_refuses():
    good = [(4, 5), (4, 1), (4, 1), (4, 8)]
    fields = {"box_annotator_ohem_param": {"roi_per_img": 2}}
    refused("roi_per_img None", "BoxAnnotatorOHEM", [np.zeros(s) for s in good], tops=2)
    for i, shape in ((0, (4, 4)), (1, (4, 2)), (2, (3, 1)), (3, (4, 8, 2))):
        shapes = [*good[:i], shape, *good[i + 1 :]]
        refused("the same axes", "BoxAnnotatorOHEM", [np.zeros(s) for s in shapes], fields=fields, tops=2)
