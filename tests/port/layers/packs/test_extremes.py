"""Layers of packs without items or cells, and with fields and bottoms at the ends of what float32 holds."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
import torch
from pack_runs import Run, refused
from properties.nets import Word

from port.net import run_values
from prototxt_gen.base.errors import CaffeError

FILLER = {"weight_filler": {"type": "gaussian"}}
BIASES = {"biases": [1.0, 2.0, 2.0, 1.0], "mask": [0, 1], "num": 2, "num_class": 2, "anchors_scale": 32}


def fitting(run: Run) -> list[np.ndarray]:
    """The tops: the reference's, PyTorch's and, where all blobs hold values, ONNX Runtime's are the same."""
    tops, others = run.reference(), [run.torch]
    if all(prod(value.shape or ()) for value in run.graph.values):
        others.append(run.onnx)
    for found in (other() for other in others):
        for top, other in zip(tops, found, strict=True):
            assert top.shape == other.shape
            np.testing.assert_allclose(other, top, rtol=1e-5, atol=1e-6)
    return tops


@pytest.mark.parametrize(
    ("type", "fields", "shapes", "blobs", "top"),
    [
        ("CenterLoss", {"center_loss_param": {"num_output": 3, "axis": 1}}, [(0, 6), (0,)], [(3, 6)], ()),
        ("MarginInnerProduct", {"margin_inner_product_param": {"num_output": 3}}, [(0, 6), (0,)], [(3, 6)], (0, 3)),
        ("InnerDistance", {"inner_distance_param": {"num_output": 3}}, [(4, 0)], [(3, 0)], (4, 3)),
        ("InnerDistance", {"inner_distance_param": {"num_output": 3}}, [(0, 6)], [(3, 6)], (0, 3)),
    ],
)
@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
def test_without_items_or_values(type, fields, shapes, blobs, top, phase):
    run = Run(type, [np.zeros(s) for s in shapes], [np.ones(b) for b in blobs], fields=fields, phase=phase)
    assert fitting(run)[0].shape == top


@pytest.mark.parametrize("extents", [(0, 7), (4, 0), (0, 1)])
def test_regions_of_an_empty_map_are_0(extents):
    fields = {"psroi_pooling_param": {"spatial_scale": 0.5, "output_dim": 2, "group_size": 3}}
    run = Run("PSROIPooling", [np.zeros((2, 18, *extents)), [[0, 1, 2, 3, 4], [1, 0, 0, 9, 9]]], fields=fields)
    top = fitting(run)[0]
    assert top.shape == (2, 2, 3, 3)
    assert not top.any()


@pytest.mark.parametrize("type", ["Yolov3", "RegionLoss"])
def test_losses_of_no_maps(type):
    fields = {"biases": [1.0] * 10, "num_class": 2}
    fields = {"yolov3_param": {**BIASES}} if type == "Yolov3" else {"region_loss_param": fields}
    boxes = 2 if type == "Yolov3" else 5
    run = Run(type, [np.zeros((0, 7 * boxes, 3, 3)), np.zeros((0, 1, 300, 5))], fields=fields)
    for found in (run.reference(), run.torch()):
        assert found[0].shape == ()
        assert np.isnan(found[0])  # 0 / 0, as in C


def test_imresize_of_nothing_and_by_no_number():
    refused("an item or more", "ImResize", [np.zeros((0, 3, 4, 5))], fields={"imresize_param": {"factor": 2.0}})
    refused(
        "scales that leave", "ImResize", [np.zeros((2, 3, 4, 5))], fields={"imresize_param": {"start_scale": -3e38}}
    )
    for field in ("factor", "start_scale", "scale_gap"):
        for value in ("inf", "nan"):
            fields = {"imresize_param": {field: Word(value)}}
            refused("finite numbers", "ImResize", [np.zeros((1, 3, 4, 5))], fields=fields)


@pytest.mark.parametrize(
    ("type", "param"),
    [
        ("LargeMarginInnerProduct", "largemargin_inner_product_param"),
        ("MarginInnerProduct", "margin_inner_product_param"),
    ],
)
@pytest.mark.parametrize("power", [1.0, 0.5])
def test_lambda_where_c_divides_by_0(type, param, power):
    """base * 0^-power is infinite in C, and of what is below 0 a root is no number."""
    fields = {param: {"num_output": 3, "gamma": -1.0, "power": power, "iteration": 0}}
    run = Run(type, [np.ones((2, 4)), [0, 2]], [np.ones((3, 4))], fields=fields, tops=2, phase="TRAIN")
    for found in (run.reference(), run.torch(), run.onnx()):
        assert np.isinf(found[1]).all()
    fields[param]["iteration"] = 1
    run = Run(type, [np.ones((2, 4)), [0, 2]], [np.ones((3, 4))], fields=fields, tops=2, phase="TRAIN")
    assert [np.isnan(found[1]).all() for found in (run.reference(), run.torch())] == [power == 0.5] * 2


def test_a_margin_without_end_is_no_number():
    fields = {"label_specific_margin_param": {"margin_base": 0.3, "gamma": Word("-inf"), "iteration": 1}}
    run = Run("LabelSpecificMargin", [np.full((2, 3), 0.5), [0, 2]], [[1.0]], fields=fields, phase="TRAIN")
    for found in (run.reference(), run.torch(), run.onnx()):
        assert np.isnan(found[0]).sum() == 2
    x = torch.full((2, 3), 0.5, requires_grad=True)
    tops = run_values(run.net, {"bottom0": x, "bottom1": torch.tensor([0.0, 2.0])})
    tops["top0"].sum().backward()
    assert torch.isnan(x.grad).sum() == 2


@pytest.mark.parametrize("row", [(np.nan, 1), (0, np.inf), (-np.inf, 1)])
def test_ground_truth_that_is_no_number_is_named(row):
    truth = np.array([[*row, 0, 0.1, 0.1, 0.4, 0.5, 0]]).reshape(1, 1, 1, 8)
    prior = np.tile([0.1, 0.1, 0.5, 0.5], 2).reshape(1, 2, 4)
    loss = Run(
        "MultiBoxLoss",
        [np.zeros((1, 4)), np.zeros((1, 3)), prior, truth],
        fields={"multibox_loss_param": {"num_classes": 3}},
    )
    found = np.array([0, 1, 0.5, 0.1, 0.1, 0.4, 0.5]).reshape(1, 1, 1, 7)
    fields = {"detection_evaluate_param": {"num_classes": 3}}
    evaluate = Run("DetectionEvaluate", [found, truth], fields=fields)
    found = found.copy()
    found[..., :2] = row
    other = Run("DetectionEvaluate", [found, np.zeros((1, 1, 1, 8)) + 1], fields=fields)
    for run, what in ((loss, "ground truth"), (evaluate, "of the truth"), (other, "of the detections")):
        for runtime in (run.reference, run.torch):
            with pytest.raises(CaffeError, match=what):
                runtime()


@pytest.mark.parametrize(("scale", "roi"), [(3e38, 5.0), (-3e38, 5.0), (1.0, 3e38)])
def test_regions_beyond_float32_are_refused(scale, roi):
    fields = {"psroi_pooling_param": {"spatial_scale": scale, "output_dim": 2, "group_size": 3}}
    run = Run("PSROIPooling", [np.zeros((2, 18, 4, 5)), [[0, 1, 2, roi, 4]]], fields=fields)
    for runtime in (run.reference, run.torch):
        with pytest.raises(CaffeError, match="reach"):
            runtime()
    fields["psroi_pooling_param"]["spatial_scale"] = Word("inf")
    refused("finite", "PSROIPooling", [np.zeros((2, 18, 4, 5)), [[0, 1, 2, roi, 4]]], fields=fields)


def test_proposals_of_an_image_without_extents_lie_at_0():
    """An im_info of zeros, as a net is first tried with: the forks hold boxes below W - 1 first, above 0 then."""
    fields = {"feat_stride": 16, "base_size": 16, "min_size": 0, "ratio": [1.0], "scale": [2.0]}
    fields = {"proposal_param": {**fields, "pre_nms_topn": 9, "post_nms_topn": 3, "nms_thresh": 0.7}}
    random = np.random.RandomState(0)
    run = Run("Proposal", [random.rand(1, 2, 3, 4), random.randn(1, 4, 3, 4), np.zeros((1, 4))], fields=fields)
    for found in (run.reference(), run.torch(), run.onnx()):
        assert found[0].shape[1] == 5
        assert not found[0].any()


def test_a_stride_beyond_integers_takes_the_first_place():
    fields = {"kernel_size": 1, "max_displacement": 2, "pad": 2, "stride_1": 2**32 - 1, "stride_2": 1}
    for type in ("Correlation", "Correlation1D"):
        random = np.random.RandomState(0)
        run = Run(type, [random.randn(1, 4, 5, 6), random.randn(1, 4, 5, 6)], fields={"correlation_param": fields})
        assert fitting(run)[0].shape[2:] == (1, 1)


@pytest.mark.parametrize("type", ["ReduceMax", "ReduceMin", "ReduceLogSumExp", "ReduceLogsumexp"])
def test_no_largest_value_of_none(type):
    param = {"ReduceMax": "reduce_max_param", "ReduceMin": "reduce_min_param"}.get(type)
    if param:
        fields = {param: {"axis": [1]}}
        refused("nothing to choose", type, [np.zeros((2, 0, 3))], fields=fields)
        assert Run(type, [np.zeros((0, 2, 3))], fields=fields).reference()[0].shape == (0, 3)
    refused("nothing to choose", type, [np.zeros((2, 0))])
    refused("nothing to choose", type, [np.zeros((0, 3))])


@pytest.mark.parametrize(
    "field", [{"ratio": [1.0, 0.0]}, {"ratio": [-1.0]}, {"ratio": [Word("nan")]}, {"nms_thresh": -1.0}]
)
def test_anchors_without_a_form_are_refused(field):
    fields = {"base_size": 16, "ratio": [1.0], "scale": [2.0], "nms_thresh": 0.7, **field}
    count = len(fields["ratio"])
    maps = [np.zeros((1, 2 * count, 3, 4)), np.zeros((1, 4 * count, 3, 4)), np.zeros((1, 4))]
    refused(next(iter(field)), "Proposal", maps, fields={"proposal_param": fields})


@pytest.mark.parametrize(("type", "param"), [("ROIAlign", "roi_align_param"), ("ROIPooling", "roi_pooling_param")])
@pytest.mark.parametrize(("scale", "edge"), [(3e38, 4), (-3e38, 4), (1, np.nan), (1, np.inf)])
def test_regions_refuse_places_beyond_float32(type, param, scale, edge):
    fields = {param: {"spatial_scale": float(scale), "pooled_h": 2, "pooled_w": 2}}
    run = Run(type, [np.zeros((2, 3, 4, 5)), [[0, 1, 2, 3, edge]]], fields=fields)
    for runtime in (run.reference, run.torch):
        with pytest.raises(CaffeError, match="region"):
            runtime()


@pytest.mark.parametrize(("type", "value"), [("ReduceAll", 1), ("ReduceAny", 0)])
def test_all_and_any_of_no_values(type, value):
    run = Run(type, [np.zeros((3, 0))])
    assert fitting(run)[0] == value
