"""Region proposals against py-faster-rcnn's rule, PVANet's and synopsys-caffe's, box by box."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pack_runs import FORWARD, SAME_MATHS, Run, agree, refused
from small_nets import conv, inputs, layer

import port
from port.graph.reference import reference_values
from port.net import run_blobs
from port.onnx.export import build_onnx
from port.onnx.session import run_onnx, session


def anchors_of(base, ratios, scales, once):
    """x1, y1, x2, y2 of every ratio and scale; `once`: rounded once, PVANet's way."""
    found = []
    for ratio in ratios:
        wide = math.sqrt(base * base / ratio)
        if not once:
            wide = math.floor(wide + 0.5)
        high = wide * ratio if once else math.floor(wide * ratio + 0.5)
        for scale in scales:
            w, h = wide * scale, high * scale
            if once:
                w, h = int(w / base - 1 + 0.5) + 1, int(h / base - 1 + 0.5) + 1
            found.append([(base - w) / 2, (base - h) / 2, (base + w) / 2 - 1, (base + h) / 2 - 1])
    return found


def proposed(scores, deltas, info, anchors, rule):
    """Boxes and scores of one item."""
    count, high, wide = len(anchors), *scores.shape[1:]
    places = [(i, j, a) for i in range(high) for j in range(wide) for a in range(count)]
    if rule["kind"] == "synopsys":
        places.sort(key=lambda at: (at[2], at[0], at[1]))
    boxes = []
    for at, (i, j, a) in enumerate(places):
        x1, y1, x2, y2 = anchors[a]
        w, h = x2 - x1 + 1, y2 - y1 + 1
        dx, dy, dw, dh = deltas[4 * a : 4 * a + 4, i, j].astype(np.float64)
        x, y = x1 + j * rule["stride"] + w / 2 + dx * w, y1 + i * rule["stride"] + h / 2 + dy * h
        w, h = w * math.exp(dw), h * math.exp(dh)
        edges = (info[1] - 1, info[0] - 1)
        box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        box = [min(max(v, 0), edges[k % 2]) for k, v in enumerate(box)]
        score = float(scores[count + a, i, j])
        if box[2] - box[0] + 1 < rule["least"] * rule["sx"] or box[3] - box[1] + 1 < rule["least"] * rule["sy"]:
            if rule["kind"] == "pva":
                score = 0.0
            elif rule["kind"] != "synopsys" or at != len(places) - 1:
                continue
        boxes.append((score, at if rule["kind"] != "pva" else -at, box))
    boxes.sort(key=lambda each: (-each[0], -each[1]))
    boxes = boxes[: rule["before"]] if rule["kind"] != "synopsys" else boxes
    kept = []
    for score, _, box in boxes:
        if all(overlap(box, other) <= rule["threshold"] for _, other in kept):
            kept.append((score, box))
    kept = kept[: rule["after"]]
    return np.array([b for _, b in kept]).reshape(-1, 4), np.array([s for s, _ in kept])


def overlap(a, b):
    area = [(v[2] - v[0] + 1) * (v[3] - v[1] + 1) for v in (a, b)]
    w, h = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(w, 0) * max(h, 0)
    return shared / (area[0] + area[1] - shared)


def maps(count, items=1, high=4, wide=5, seed=0):
    random = np.random.RandomState(seed)
    scores = random.permutation(np.linspace(0.01, 0.99, items * 2 * count * high * wide))
    return np.float32(scores).reshape(items, 2 * count, high, wide), np.float32(
        0.4 * random.standard_normal((items, 4 * count, high, wide))
    )


def with_items(found):
    """Regions and scores of several items."""
    regions = [np.concatenate([np.full((len(b), 1), n), b], 1) for n, (b, _) in enumerate(found)]
    return np.concatenate(regions), np.concatenate([s for _, s in found])


def python_layer(tops="rois best", settings="'feat_stride': 16"):
    fields = f'python_param {{ module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "{settings}" }}'
    return layer("proposal", "Python", "scores deltas im_info", tops, fields)


@pytest.fixture
def few(monkeypatch):
    """Fewer boxes than py-faster-rcnn's, so that their limits show."""
    from port.layers.packs.proposal import ProposalLayer

    monkeypatch.setattr(ProposalLayer, "limits", {"TRAIN": (90, 12), "TEST": (60, 7)})


@pytest.mark.parametrize("settings", ["'feat_stride': 16", "{'feat_stride': 8, 'scales': [4, 8]}"])
@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
def test_the_python_layer(tmp_path, few, settings, phase):
    scales = (4, 8) if "scales" in settings else (8, 16, 32)
    count, stride = 3 * len(scales), 8 if "scales" in settings else 16
    scores, deltas = maps(count)
    info = np.float32([[60, 75, 0.75]])
    rule = {"kind": "python", "stride": stride, "least": 16, "sx": 0.75, "sy": 0.75, "threshold": 0.7}
    rule |= {"before": 60, "after": 7} if phase == "TEST" else {"before": 90, "after": 12}
    regions, best = with_items(
        [proposed(scores[0], deltas[0], info[0], anchors_of(16, (0.5, 1, 2), scales, False), rule)]
    )
    file = tmp_path / "net.prototxt"
    file.write_text(inputs(scores=scores.shape, deltas=deltas.shape, im_info=(1, 3)) + python_layer(settings=settings))
    net = port.load_net(file, phase=phase)
    given = {"scores": scores, "deltas": deltas, "im_info": info}
    expected = [regions, best[:, None]]
    values = dict(reference_values(net.caffe, {}, given, {}))
    agree([values["rois"], values["best"]], expected, SAME_MATHS, "reference")
    found = run_blobs(net, given)
    agree([found["rois"], found["best"]], expected, FORWARD, "torch")


@pytest.mark.parametrize("opset", [13, 17, 23])
def test_a_head_behind_the_python_layer(tmp_path, few, opset):
    """A small net, its proposals and what is done with them, in every runtime; one top, as in public nets."""
    text = (
        inputs(data=(1, 3, 4, 5), im_info=(1, 3))
        + conv("scores", "data", "raw", 18)
        + conv("deltas", "data", "deltas", 36)
    )
    text += layer("soft", "Sigmoid", "raw", "scores") + python_layer("rois")
    text += layer("scaled", "Power", "rois", "out", "power_param { scale: 0.5 }")
    text += layer("part", "Slice", "out", "item box", "slice_param { axis: 1 slice_point: 1 }")
    file = tmp_path / "net.prototxt"
    file.write_text(text)
    net = port.load_net(file)
    torch.manual_seed(0)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    given = {
        "data": np.float32(np.random.RandomState(1).standard_normal((1, 3, 4, 5))),
        "im_info": np.float32([[60, 75, 0.5]]),
    }
    weights = {name: [p.detach().numpy() for p in blobs] for name, blobs in port.params(net).items()}
    values = dict(reference_values(net.caffe, weights, given, {}))
    found = run_blobs(net, given)
    assert values["box"].shape == (7, 4) and values["box"].any()
    agree([found["box"]], [values["box"]], FORWARD, "torch")
    runner = session(build_onnx(net, opset=opset, blobs="all"))
    agree([run_onnx(runner, given)["box"]], [values["box"]], FORWARD, "ONNX")


@pytest.mark.parametrize("seed", range(3))
def test_synopsys(seed):
    fields = {"anchor_scale": 1 if seed == 1 else 3, "anchor_ratio": 3 if seed else 1, "max_rois": 6 + seed}
    fields |= {"rpn_min_size": 20.0, "rpn_nms_thresh": 0.5, "feat_stride": 12}
    ratios, scales = (0.5, 1, 2) if seed else (1,), (32,) if seed == 1 else (8, 16, 32)
    scores, deltas = maps(len(ratios) * len(scales), seed=seed)
    info = np.float32([[60.5, 75.5, 0.75]])
    rule = {"kind": "synopsys", "stride": 12, "least": 20, "sx": 0.75, "sy": 0.75, "threshold": 0.5, "after": 6 + seed}
    anchors = anchors_of(16, ratios, scales, False)
    regions, best = with_items([proposed(scores[0], deltas[0], np.trunc(info[0]), anchors, rule)])
    run = Run("Proposal", [scores, deltas, info], tops=2, fields={"proposal_param": fields})
    run.holds([regions, best[:, None]], (13, 17, 23))
    run.stays_double()
    assert all(grad is None for grad in run.gradients()[0])


@pytest.mark.parametrize("items", [1, 3])
def test_pvanet(items):
    fields = {"ratio": [0.5, 1.5], "scale": [24.0, 60.0, 108.0], "base_size": 12, "min_size": 10, "feat_stride": 14}
    fields |= {"pre_nms_topn": 70, "post_nms_topn": 9, "nms_thresh": 0.6}
    scores, deltas = maps(6, items, seed=items)
    info = np.float32([[60, 75, 0.75, 1.5]])
    rule = {"kind": "pva", "stride": 14, "least": 10, "sx": 1.5, "sy": 0.75, "before": 70, "after": 9}
    rule |= {"threshold": float(np.float32(0.6))}
    anchors = anchors_of(12, (0.5, 1.5), (24, 60, 108), True)
    found = [proposed(s, d, info[0], anchors, rule) for s, d in zip(scores, deltas, strict=True)]
    run = Run("Proposal", [scores, deltas, info], tops=2, fields={"proposal_param": fields})
    run.holds(with_items(found), (13, 17, 23) if items == 1 else ())
    assert len({float(s) for s in run.reference()[1]}) > 3
    if items > 1:
        with pytest.raises(Exception, match="1 in ONNX"):
            build_onnx(run.net)


def test_nothing_is_large_enough():
    scores, deltas = maps(9)
    scores, deltas = scores[:, :, :1, :1], deltas[:, :, :1, :1]
    run = Run("Proposal", [scores, deltas, [[4, 4, 9.0]]], tops=2)
    for answer in (run.reference(), run.torch(), run.onnx()):
        assert answer[0].shape == (1, 5)  # the last, which is never too small


def test_refusals(tmp_path):
    scores, deltas = maps(9)
    info = np.float32([[60, 75, 1]])
    refused("2A|18 x H", "Proposal", [scores[:, 1:], deltas, info])
    refused("1: the fork looks at one", "Proposal", [np.concatenate([scores] * 2), np.concatenate([deltas] * 2), info])
    refused(
        "0 scales",
        "Proposal",
        [scores[:, :0], deltas[:, :0], [[1, 1, 1, 1]]],
        fields={"proposal_param": {"ratio": [1.0]}},
    )
    refused(
        "4 numbers",
        "Proposal",
        [scores[:, :2], deltas[:, :4], info],
        fields={"proposal_param": {"ratio": [1.0], "scale": [8.0]}},
    )
    for settings, match in (
        ("'stride': 16", "stride"),
        ("'scales': [8]", "a feat_stride"),
        ("'feat_stride': big", "a number"),
    ):
        file = tmp_path / "net.prototxt"
        file.write_text(
            inputs(scores=(1, 18, 4, 5), deltas=(1, 36, 4, 5), im_info=(1, 3)) + python_layer("rois", settings)
        )
        with pytest.raises(Exception, match=match):
            port.load_net(file)
    file.write_text(inputs(scores=(2, 18, 4, 5), deltas=(2, 36, 4, 5), im_info=(1, 3)) + python_layer("rois"))
    with pytest.raises(Exception, match="one image"):
        port.load_net(file)
