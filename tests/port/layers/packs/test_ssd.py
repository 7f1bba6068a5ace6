"""SSD's Permute, PriorBox, Normalize and DetectionOutput against plain loops by the forks' rules."""

from __future__ import annotations

import itertools
from math import prod, sqrt

import numpy as np
import pytest
import torch
from box_rules import CODES, F, area, decode, overlap
from small_nets import inputs, layer

import port
from port.__main__ import main
from port.data import open_data
from port.graph.reference import run_reference
from port.net import param_arrays
from port.onnx.export import build_onnx
from port.onnx.session import run_onnx, session
from prototxt_gen.base.errors import DataError, ExportError, NetError
from prototxt_gen.schema.text import parse_prototxt


def load(text: str, **options):
    """A net from text, of bvlc with the pack ssd unless said otherwise."""
    return port.load_net(parse_prototxt(text, dialect=options.pop("dialect", "bvlc+ssd")), **options)


def one(kind: str, fields: str, phase: str = "TEST", **shapes) -> port.CaffeNet:
    """A net of one layer whose bottoms are all inputs; its top and name are `y`."""
    return load(inputs(**shapes) + layer("y", kind, " ".join(shapes), "y", fields), phase=phase)


def everywhere(net, arrays, wanted, tolerance=1e-11, **options) -> None:
    """The reference, PyTorch and ONNX Runtime give the top `y` that is wanted."""
    arrays = {name: np.asarray(a, F) for name, a in arrays.items()}
    scale = max(np.abs(wanted).max(), 1e-30) if wanted.size else 1
    found = {
        "reference": (run_reference(net.caffe, param_arrays(net), arrays)["y"], tolerance),
        "torch": (port.run_blobs(net, arrays)["y"], 5e-6),
        "onnx": (run_onnx(session(build_onnx(net, **options)), arrays)["y"], 5e-6),
    }
    for runtime, (values, allowed) in found.items():
        assert values.shape == wanted.shape, runtime
        np.testing.assert_allclose(values, wanted, rtol=0, atol=allowed * scale, err_msg=runtime)


def refused(kind: str, fields: str, said: str, phase: str = "TEST", **shapes) -> None:
    with pytest.raises(NetError, match=said):
        one(kind, fields, phase, **shapes)


# -- Permute ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((2, 3, 4, 5), (0, 2, 3, 1)),
        ((2, 3, 4, 5), (3,)),
        ((3, 2, 5), (1, 0)),
        ((2, 3, 1, 4, 2), (4, 1)),
        ((4,), (0,)),
        ((2, 3), ()),
    ],
)
def test_permute_moves_each_value_to_its_place(shape, order):
    axes = [*order, *(axis for axis in range(len(shape)) if axis not in order)]
    net = one("Permute", f"permute_param {{ {' '.join(f'order: {axis}' for axis in order)} }}", x=shape)
    x = np.random.default_rng(1).normal(size=shape).astype(F)
    wanted = np.empty([shape[axis] for axis in axes])
    for place in itertools.product(*map(range, shape)):
        wanted[tuple(place[axis] for axis in axes)] = x[place]
    everywhere(net, {"x": x}, wanted, 0)
    given = torch.tensor(x, requires_grad=True)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(2))
    (net(x=given)["y"] * weights).sum().backward()
    for place in itertools.product(*map(range, shape)):
        assert given.grad[place] == weights[tuple(place[axis] for axis in axes)]


def test_permute_refuses_what_the_forks_refuse():
    refused("Permute", "permute_param { order: 0 order: 4 }", "axis 4 of a blob with 4 axes", x=(2, 3, 4, 5))
    refused("Permute", "permute_param { order: 1 order: 1 }", "every axis once", x=(2, 3, 4, 5))


def test_a_permuted_batch_stays_free_in_onnx():
    net = one("Permute", "permute_param { order: 1 order: 0 }", x=(2, 3, 4))
    x = np.random.default_rng(3).normal(size=(5, 3, 4)).astype(F)
    found = run_onnx(session(build_onnx(net)), {"x": x})["y"]
    np.testing.assert_array_equal(found, x.transpose(1, 0, 2))


# -- Normalize ----------------------------------------------------------------------------------------------
NORMS = [
    ((2, 3, 4, 5), "across_spatial: false channel_shared: false"),
    ((3, 4, 2, 1), "across_spatial: true channel_shared: false eps: 0.25"),
    ((2, 5, 3), "across_spatial: false channel_shared: true eps: 0.5"),
    ((2, 3, 2, 4), "across_spatial: true eps: 0.25 add_eps_before_sqrt: false"),
    ((4, 6), "across_spatial: false"),
]
FILLER = 'scale_filler { type: "uniform" min: 0.5 max: 2 }'


def normalised(x, scale, across: bool, eps: float, outside: bool):
    """Each value over its norm, times its scale, and the norms."""
    y, norms = np.empty(x.shape), np.empty(x.shape)
    for place in itertools.product(*map(range, x.shape)):
        item = x[place[0]].astype(np.float64)
        squares = [v * v for v in (item.reshape(-1) if across else item[(slice(None), *place[2:])])]
        norms[place] = sqrt(sum(squares)) + eps if outside else sqrt(sum(squares) + eps)
        y[place] = x[place] / norms[place] * (scale if np.ndim(scale) == 0 else scale[place[1]])
    return y, norms


@pytest.mark.parametrize(("shape", "fields"), NORMS)
def test_normalize_scales_unit_vectors(shape, fields):
    net = one("Normalize", f"norm_param {{ {fields} {FILLER} }}", x=shape)
    x = np.random.default_rng(4).normal(size=shape).astype(F)
    message = net.caffe.nodes[-1].message.norm_param
    scale = param_arrays(net)["y"][0].astype(np.float64)
    assert scale.shape == (() if message.channel_shared else (shape[1],))
    outside = message.across_spatial and not message.add_eps_before_sqrt
    wanted, norms = normalised(x, scale, message.across_spatial, message.eps, outside)
    everywhere(net, {"x": x}, wanted)

    # the gradient, each value by its own loop: the forks leave the scale out of the sum
    given = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    module = net.layer("y").double()
    weights = np.random.default_rng(5).normal(size=shape)
    (module(given) * torch.tensor(weights)).sum().backward()
    for place in itertools.product(*map(range, shape)):
        alike = [
            other
            for other in itertools.product(*map(range, shape))
            if other[0] == place[0] and (message.across_spatial or other[2:] == place[2:])
        ]
        total = sum(x[other] * weights[other] for other in alike)
        inner = weights[place] - x[place] * total / norms[place] ** 2
        factor = scale if scale.ndim == 0 else scale[place[1]]
        assert given.grad[place] == pytest.approx(factor * inner / norms[place], rel=1e-9, abs=1e-12)
    unit = wanted / (scale if scale.ndim == 0 else scale.reshape(1, -1, *[1] * (x.ndim - 2)))
    axes = tuple(axis for axis in range(x.ndim) if scale.ndim == 0 or axis != 1)
    np.testing.assert_allclose(module.blobs[0].grad.numpy(), (unit * weights).sum(axes), rtol=1e-9)


def test_normalize_with_one_scale_has_the_gradient_of_its_formula():
    net = one("Normalize", f"norm_param {{ across_spatial: false {FILLER} }}", x=(2, 3, 2, 2))
    given = torch.randn((2, 3, 2, 2), generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    assert torch.autograd.gradcheck(net.layer("y").double(), (given.requires_grad_(),))


def test_which_normalize_is_meant():
    plain = inputs(x=(2, 3, 4, 5)) + layer("y", "Normalize", "x", "y")
    blobs = {
        "bvlc": 1,
        "srn": 0,
        "srn+ssd": 1,
        "srn+synopsys": 1,
    }
    for dialect, count in blobs.items():
        assert len(load(plain, dialect=dialect).caffe.nodes[-1].specs) == count, dialect
    fields = inputs(x=(2, 3, 4, 5)) + layer("y", "Normalize", "x", "y", "norm_param { eps: 0.1 }")
    assert len(load(fields, dialect="srn").caffe.nodes[-1].specs) == 1
    refused("Normalize", "", "2 to 4", x=(3,))


# -- PriorBox -----------------------------------------------------------------------------------------------
def boxes_of_cell(fields: dict) -> list[tuple[float, float]]:
    """Extents in pixels of the boxes of a cell, in the forks' order."""
    ratios = [1.0]
    for ratio in fields.get("aspect_ratio", ()):
        if all(abs(F(ratio) - F(old)) >= 1e-6 for old in ratios):
            ratios.append(float(F(ratio)))
            if fields.get("flip", True):
                ratios.append(float(F(1 / F(ratio))))
    found = []
    for place, low in enumerate(fields.get("min_size", ())):
        low, middle = int(low), []
        if "max_size" in fields:
            middle = [float(F(sqrt(low * int(fields["max_size"][place]))))]
        first, more = [(low, low)], [(side, side) for side in middle]
        roots = [np.sqrt(F(ratio)) for ratio in ratios if abs(ratio - 1) >= 1e-6]
        rest = [(float(F(low) * root), float(F(low) / root)) for root in roots]
        if fields.get("keras"):
            found += more + first + rest
        elif fields.get("tf"):
            found += first + rest + more
        else:
            found += first + more + rest
    if "box_width" in fields:
        found = list(zip(fields["box_width"], fields["box_height"], strict=True))
    return found


def prior_boxes(map_size, image_size, fields: dict) -> np.ndarray:
    """1 x 2 x 4K by the forks' loops."""
    high, wide = fields.get("img_h", image_size[0]), fields.get("img_w", image_size[1])
    high, wide = (fields["img_size"],) * 2 if "img_size" in fields else (high, wide)
    step_y, step_x = F(high) / F(map_size[0]), F(wide) / F(map_size[1])
    if "step" in fields:
        step_y = step_x = F(fields["step"])
    step_y, step_x = F(fields.get("step_h", step_y)), F(fields.get("step_w", step_x))
    offset, tops = F(fields.get("offset", 0.5)), []
    for row, column in itertools.product(range(map_size[0]), range(map_size[1])):
        x, y = float((F(column) + offset) * step_x), float((F(row) + offset) * step_y)
        for place, (w, h) in enumerate(boxes_of_cell(fields)):
            box = [(x - w / 2) / wide, (y - h / 2) / high, (x + w / 2) / wide, (y + h / 2) / high]
            if fields.get("tf") and place == 0 and w == 60:
                box = [box[0] + 0.05, box[1] + 0.05, box[2] - 0.05, box[3] - 0.05]
            if fields.get("yx_order"):
                box = [box[1], box[0], box[3], box[2]]
            tops += [min(max(v, 0.0), 1.0) for v in box] if fields.get("clip") else box
    spread = [float(F(v)) for v in fields.get("variance", (0.1,))]
    spread = spread * 4 if len(spread) == 1 else spread
    return np.array([[tops, spread * (len(tops) // 4)]])


def written(fields: dict) -> str:
    """Fields as text."""
    parts = []
    for name, value in fields.items():
        for one_value in value if isinstance(value, tuple) else (value,):
            parts.append(f"{name}: {str(one_value).lower()}")
    return " ".join(parts)


PRIORS = [
    {"min_size": (20,)},
    {"min_size": (20.9,), "max_size": (35.5,), "aspect_ratio": (2, 3), "variance": (0.1, 0.1, 0.2, 0.2)},
    {"min_size": (10, 14.5), "max_size": (15, 30), "aspect_ratio": (2, 0.5, 1), "clip": True},
    {"min_size": (7,), "aspect_ratio": (2, 0.5, 3), "flip": False, "variance": (0.3,), "offset": 0.25},
    {"min_size": (9,), "img_size": 64, "step": 5.5},
    {"min_size": (9,), "img_h": 50, "img_w": 70, "step_h": 9, "step_w": 7.25, "clip": True},
    {"box_width": (10.5, 3), "box_height": (4, 30), "yx_order": True},
    {"min_size": (60, 30), "max_size": (70, 45), "aspect_ratio": (2,), "tf": True},
    {"min_size": (12,), "max_size": (20,), "aspect_ratio": (3,), "keras": True, "yx_order": True},
]


@pytest.mark.parametrize("fields", PRIORS)
def test_prior_boxes_by_loops(fields):
    net = one("PriorBox", f"prior_box_param {{ {written(fields)} }}", x=(2, 3, 3, 5), image=(2, 3, 41, 62))
    arrays = {"x": np.zeros((2, 3, 3, 5)), "image": np.ones((2, 3, 41, 62))}
    everywhere(net, arrays, prior_boxes((3, 5), (41, 62), fields))


def test_faceboxes_anchors_are_denser_where_they_are_small():
    sizes = "min_size: 32 min_size: 64 min_size: 128"
    net = one("PriorBox", f"prior_box_param {{ {sizes} faceboxes: true }}", x=(1, 2, 2, 3), image=(1, 3, 64, 96))
    wanted = []
    for row, column in itertools.product(range(2), range(3)):
        for size, places, step in ((32, range(-2, 2), 8), (64, range(-1, 1), 16), (128, range(1), 0)):
            for i, j in itertools.product(places, places):
                x, y, reach = (column + 0.5) * 32 + j * step, (row + 0.5) * 32 + i * step, (size - 1) / 2
                wanted += [(x - reach) / 96, (y - reach) / 64, (x + reach) / 96, (y + reach) / 64]
    top = np.array([[wanted, [float(F(0.1))] * len(wanted)]])
    everywhere(net, {"x": np.zeros((1, 2, 2, 3)), "image": np.zeros((1, 3, 64, 96))}, top)
    assert top.shape[2] == 2 * 3 * 21 * 4


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("", "no min_size"),
        ("min_size: 0", "all above 0"),
        ("min_size: 5 max_size: 5", "greater ones"),
        ("min_size: 5 min_size: 6 max_size: 9", "as many"),
        ("min_size: 5 variance: 0.1 variance: 0.2", "1 or 4"),
        ("min_size: 5 variance: 0", "all above 0"),
        ("min_size: 5 img_size: 3 img_h: 3 img_w: 3", "one of the two forms"),
        ("min_size: 5 img_h: 3", "both above 0"),
        ("min_size: 5 step: 3 step_w: 3", "one of the two forms"),
        ("min_size: 5 step_w: 3", "both above 0"),
        ("min_size: 5 step: 0", "both above 0"),
        ("box_width: 5", "as many"),
        ("min_size: 32 faceboxes: true", "as the forks count them"),
        ("min_size: 256 faceboxes: true yx_order: true", "one of the forms"),
    ],
)
def test_prior_box_refuses_what_the_forks_refuse(fields, said):
    refused("PriorBox", f"prior_box_param {{ {fields} }}", said, x=(1, 2, 3, 4), image=(1, 3, 20, 20))


def test_prior_boxes_follow_the_images_extents_when_the_net_runs():
    net = one("PriorBox", "prior_box_param { min_size: 6 }", x=(1, 2, 3, 4), image=(1, 3, 20, 30))
    found = net(x=torch.zeros(5, 2, 2, 3), image=torch.zeros(5, 3, 18, 33))["y"].numpy()
    np.testing.assert_allclose(found, prior_boxes((2, 3), (18, 33), {"min_size": (6,)}), atol=1e-6)


# -- DetectionOutput ----------------------------------------------------------------------------------------
def left_over(boxes, scores, threshold, allowed, top, eta):
    """Indices of the boxes that are kept, best first."""
    order = sorted((i for i, s in enumerate(scores) if s > threshold), key=lambda i: -scores[i])
    kept, limit = [], F(allowed)
    for index in order if top is None else order[:top]:
        if all(overlap(boxes[index], boxes[old]) <= limit for old in kept):
            kept.append(index)
            if eta < 1 and limit > 0.5:
                limit = limit * F(eta)
    return kept


def detections(arrays, case: dict) -> np.ndarray:
    """The rows of a batch, by the forks' loops."""
    loc, conf, prior = (np.asarray(arrays[name], np.float64) for name in ("loc", "conf", "prior"))
    count, classes, code = prior.shape[2] // 4, case["classes"], case["code"]
    rows, anchors = [], prior[0, 0].reshape(count, 4)
    spread = np.ones((count, 4)) if case["encoded"] else prior[0, 1].reshape(count, 4)
    for item in range(len(loc)):
        shown = conf[item].reshape(count, classes).copy()
        if "arm_conf" in arrays:
            for p in range(count):
                if F(arrays["arm_conf"][item].reshape(count, 2)[p, 1]) < F(case["objectness"]):
                    shown[p] = [float(c == 0) for c in range(classes)]
        found = []
        for label in range(classes):
            if label == case["background"]:
                continue
            place, fine, rough = 0 if case["share"] else label, [], []
            for p in range(count):
                here = loc[item].reshape(count, -1, 4)[p, place]
                for kind, boxes in ((np.float64, fine), (F, rough)):
                    anchor = anchors[p]
                    if "arm_loc" in arrays:
                        anchor = decode(code, anchor, spread[p], arrays["arm_loc"][item].reshape(count, 4)[p], kind)
                    boxes.append(decode(code, anchor, spread[p], here, kind))
            scores = [F(s) for s in shown[:, label]]
            for index in left_over(rough, scores, case["threshold"], case["allowed"], case["top"], case["eta"]):
                found.append([item, label, shown[index, label], *fine[index]])
        if -1 < case["keep"] < len(found):
            best = sorted(range(len(found)), key=lambda i: -found[i][2])[: case["keep"]]
            found = [found[i] for i in sorted(best)]
        rows += found
    return np.array(rows or [[item, *[-1] * 6] for item in range(len(loc))], np.float64).reshape(1, 1, -1, 7)


def drawn(seed: int) -> tuple[dict, dict]:
    """A case: its settings, and bottoms with many equal scores and boxes that overlap."""
    rng = np.random.default_rng(seed)
    pick = lambda *values: values[rng.integers(len(values))]  # noqa: E731
    items, count = int(rng.integers(1, 4)), int(rng.integers(1, 30))
    case = {
        "classes": int(rng.integers(2, 5)),
        "share": bool(rng.integers(4)),
        "code": CODES[seed % 3],
        "encoded": not rng.integers(4),
        "threshold": pick(-np.inf, 0.05, 0.3),
        "allowed": F(pick(0.0, 0.2, 0.45, 0.7)),
        "top": pick(None, 3, 7, 100),
        "keep": pick(-1, 2, 9, 200),
        "eta": 1.0,
        "objectness": 0.4,
    }
    case["background"] = pick(0, 1, case["classes"], *((-1,) if not case["share"] else ()))
    centre, size = rng.uniform(0.2, 0.8, (count, 2)), rng.uniform(0.1, 0.5, (count, 2))
    prior = np.stack([np.concatenate([centre - size / 2, centre + size / 2], 1), rng.uniform(0.05, 0.3, (count, 4))])
    scores = rng.uniform(0, 1, (items, count * case["classes"]))
    arrays = {
        "loc": rng.normal(0, 0.7, (items, count * 4 * (1 if case["share"] else case["classes"]))),
        "conf": np.round(scores, 1) if rng.integers(2) else scores,
        "prior": prior.reshape(1, 2, -1),
    }
    if case["share"] and seed % 5 == 4:
        arrays["arm_conf"] = rng.uniform(0, 1, (items, 2 * count))
        if seed % 2 and case["code"] == "CENTER_SIZE":
            arrays["arm_loc"] = rng.normal(0, 0.5, (items, 4 * count))
    return case, {name: a.astype(F) for name, a in arrays.items()}


def output_fields(case: dict) -> str:
    """The case's detection_output_param."""
    nms = f"nms_threshold: {case['allowed']}" + (f" top_k: {case['top']}" if case["top"] is not None else "")
    nms += f" eta: {case['eta']}" if case["eta"] != 1 else ""
    text = f"num_classes: {case['classes']} background_label_id: {case['background']} code_type: {case['code']}"
    text += f" share_location: {str(case['share']).lower()} nms_param {{ {nms} }} keep_top_k: {case['keep']}"
    text += f" variance_encoded_in_target: {str(case['encoded']).lower()} objectness_score: {case['objectness']}"
    if case["threshold"] > -np.inf:
        case["threshold"] = F(case["threshold"])
        text += f" confidence_threshold: {case['threshold']}"
    return f"detection_output_param {{ {text} }}"


@pytest.mark.parametrize("seed", range(30))
def test_detections_by_loops(seed):
    case, arrays = drawn(seed)
    net = one("DetectionOutput", output_fields(case), **{name: a.shape for name, a in arrays.items()})
    everywhere(net, arrays, detections(arrays, case))


@pytest.mark.parametrize("seed", range(14))
def test_an_overlap_that_shrinks(seed):
    case, arrays = drawn(seed)
    case |= {"eta": F((0.8, 0.95)[seed % 2]), "allowed": F(0.9)}
    net = one("DetectionOutput", output_fields(case), **{name: a.shape for name, a in arrays.items()})
    everywhere(net, arrays, detections(arrays, case), opset=(13, 17, 18, 21)[seed % 4])


def test_nothing_found_is_a_row_for_each_item_of_the_batch():
    case, arrays = drawn(2)
    nothing = {**case, "threshold": 2.0}
    net = one("DetectionOutput", output_fields(nothing), **{name: a.shape for name, a in arrays.items()})
    items = len(arrays["loc"])
    wanted = np.array([[[[item, *[-1] * 6] for item in range(items)]]], np.float64)
    everywhere(net, arrays, wanted, 0)
    # in one item only: no row for it
    net = one("DetectionOutput", output_fields({**case, "threshold": 0.5}), **{n: a.shape for n, a in arrays.items()})
    arrays["conf"][0] = 0
    arrays["conf"][1:] = 0.9
    everywhere(net, arrays, detections(arrays, {**case, "threshold": 0.5}))
    assert 0 not in port.run_blobs(net, arrays)["y"][..., 0]


@pytest.mark.parametrize("changed", [{"keep": 0}, {"top": 0}, {"classes": 1, "background": 0}])
def test_settings_that_leave_nothing(changed):
    case, arrays = drawn(0)
    case |= changed
    if case["classes"] == 1:
        arrays["conf"] = arrays["conf"][:, : arrays["prior"].shape[2] // 4]
        case["share"], arrays["loc"] = True, arrays["loc"][:, : arrays["prior"].shape[2]]
    net = one("DetectionOutput", output_fields(case), **{name: a.shape for name, a in arrays.items()})
    everywhere(net, arrays, detections(arrays, case), 0)


def test_not_a_number_is_no_score():
    case, arrays = drawn(1)
    case |= {"threshold": 0.1, "top": 5, "keep": 4}
    arrays["conf"][:, ::3] = np.nan
    net = one("DetectionOutput", output_fields(case), **{name: a.shape for name, a in arrays.items()})
    everywhere(net, arrays, detections(arrays, case))


def test_detections_keep_double_precision():
    case, arrays = drawn(7)
    net = one("DetectionOutput", output_fields(case), **{name: a.shape for name, a in arrays.items()})
    found = net.layer("y")(*(torch.from_numpy(a).double() for a in arrays.values()))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), detections(arrays, case), rtol=0, atol=1e-12)


@pytest.mark.parametrize("opset", [13, 17, 18, 21, 23])
def test_detections_of_another_batch_size_in_every_opset(opset):
    """Prior boxes from a PriorBox, so that the batch is free."""
    text = inputs(map=(1, 2, 3, 4), image=(1, 3, 30, 40), loc=(1, 96), conf=(1, 72))
    text += layer("prior", "PriorBox", "map image", "prior", "prior_box_param { min_size: 9 max_size: 15 }")
    fields = "num_classes: 3 code_type: CENTER_SIZE keep_top_k: 7 confidence_threshold: 0.25 nms_param { top_k: 9 }"
    net = load(text + layer("y", "DetectionOutput", "loc conf prior", "y", f"detection_output_param {{ {fields} }}"))
    rng = np.random.default_rng(9)
    arrays = {
        "map": np.zeros((4, 2, 3, 4), F),
        "image": np.zeros((4, 3, 30, 40), F),
        "loc": rng.normal(size=(4, 96)).astype(F),
        "conf": np.round(rng.uniform(size=(4, 72)), 1).astype(F),
    }
    found = run_onnx(session(build_onnx(net, opset=opset)), arrays)["y"]
    wanted = run_reference(net.caffe, {}, arrays)["y"]
    assert found.shape == wanted.shape and len(set(wanted[0, 0, :, 0])) == 4
    np.testing.assert_allclose(found, wanted, atol=5e-6)


BOTTOMS = {"loc": (2, 24), "conf": (2, 18), "prior": (1, 2, 24)}


@pytest.mark.parametrize(
    ("fields", "changed", "said"),
    [
        ("", {}, "no num_classes"),
        ("num_classes: 3 background_label_id: -1", {}, "background_label_id -1 with share_location"),
        ("num_classes: 3 nms_param { nms_threshold: -0.1 }", {}, "nms_threshold -0.1"),
        ("num_classes: 3 nms_param { eta: 0 }", {}, "eta 0"),
        ("num_classes: 3", {"conf": (3, 18)}, "as many items"),
        ("num_classes: 3", {"loc": (2, 20)}, "predictions of boxes of 2x20"),
        ("num_classes: 4", {}, "scores of 2x18"),
        ("num_classes: 3", {"prior": (1, 1, 24)}, "prior boxes of 1x1x24"),
        ("num_classes: 3", {"prior": (1, 2, 25)}, "prior boxes of 1x2x25"),
        ("num_classes: 3", {"arm_conf": (2, 11), "arm_loc": (2, 24)}, "five bottoms"),
        ("num_classes: 3 tflite_detection: true", {}, "tflite_detection"),
        ("num_classes: 3 ratio_permute: true", {}, "ratio_permute"),
    ],
)
def test_detection_output_refuses_what_it_cannot_mean(fields, changed, said):
    refused("DetectionOutput", f"detection_output_param {{ {fields} }}", said, **{**BOTTOMS, **changed})


def test_what_is_shown_or_saved_beside_changes_nothing():
    beside = 'save_output_param { output_directory: "nowhere" label_map_file: "none" } visualize: true'
    case, arrays = drawn(3)
    shapes = {name: a.shape for name, a in arrays.items()} | {"image": (len(arrays["loc"]), 3, 9, 9)}
    net = one("DetectionOutput", output_fields(case).replace("num_classes", f"{beside} num_classes", 1), **shapes)
    everywhere(net, arrays | {"image": np.zeros(shapes["image"])}, detections(arrays, case))


def test_a_prior_box_without_extent_is_refused_when_it_comes():
    case, arrays = drawn(1)
    assert case["code"] == "CENTER_SIZE"
    net = one("DetectionOutput", output_fields(case), **{name: a.shape for name, a in arrays.items()})
    arrays["prior"][0, 0, 2] = arrays["prior"][0, 0, 0]
    for run in (lambda: port.run_blobs(net, arrays), lambda: run_reference(net.caffe, {}, arrays)):
        with pytest.raises(NetError, match="a prior box without extent"):
            run()


def test_an_empty_batch_has_no_detections():
    case, arrays = drawn(1)
    net = one("DetectionOutput", output_fields(case), **{name: a.shape for name, a in arrays.items()})
    empty = {name: a if name == "prior" else a[:0] for name, a in arrays.items()}
    assert port.run_blobs(net, empty)["y"].shape == run_reference(net.caffe, {}, empty)["y"].shape == (1, 1, 0, 7)


def test_thousands_of_prior_boxes(benchmark_seconds=3.0):
    """SSD300's 8732 prior boxes and 21 labels, four items; PyTorch against ONNX Runtime, row by row."""
    from time import perf_counter

    rng, count = np.random.default_rng(10), 8732
    centre, size = rng.uniform(0, 1, (count, 2)), rng.uniform(0.02, 0.3, (count, 2))
    prior = np.concatenate([centre - size / 2, centre + size / 2], 1).reshape(-1), np.tile([0.1, 0.1, 0.2, 0.2], count)
    score = np.exp(rng.normal(size=(4, count, 21)) + 4 * (np.arange(21) == 0))
    arrays = {
        "loc": rng.normal(size=(4, 4 * count)).astype(F),
        "conf": (score / score.sum(2, keepdims=True)).reshape(4, -1).astype(F),
        "prior": np.array([prior], F),
    }
    fields = "num_classes: 21 code_type: CENTER_SIZE keep_top_k: 200 confidence_threshold: 0.01 "
    fields += "nms_param { nms_threshold: 0.45 top_k: 400 }"
    net = one("DetectionOutput", f"detection_output_param {{ {fields} }}", **{n: a.shape for n, a in arrays.items()})
    start = perf_counter()
    found = port.run_blobs(net, arrays)["y"]
    assert perf_counter() - start < benchmark_seconds  # a tenth of it where nothing else runs
    wanted = run_onnx(session(build_onnx(net)), arrays)["y"]
    assert found.shape == wanted.shape == (1, 1, 800, 7)
    np.testing.assert_allclose(found, wanted, atol=5e-6)
    assert prod(found.shape) == found.size


# -- raw heads ----------------------------------------------------------------------------------------------
def test_raw_heads_are_what_detection_output_would_read(golden, tmp_path, capsys):
    case = golden / "community" / "synopsys" / "net_ssd_head.prototxt"
    weights = case.with_suffix(".caffemodel")
    net = port.load_net(case, weights, packs=["ssd"])
    port.export_onnx(net, tmp_path / "api.onnx", raw_heads=True)
    runner = session(tmp_path / "api.onnx")
    assert [output.name for output in runner.get_outputs()] == ["conf_f", "loc", "prior"]
    rng = np.random.default_rng(11)
    arrays = {
        "data": rng.normal(size=(3, 4, 6, 7)).astype(F),
        "image": rng.normal(size=(3, 3, 48, 56)).astype(F),
    }
    found, wanted = run_onnx(runner, arrays), port.run_blobs(net, arrays)
    for blob, values in found.items():
        np.testing.assert_allclose(values, wanted[blob], atol=5e-6 * np.abs(wanted[blob]).max())
    assert [value.name for value in net.caffe.outputs] == ["out"]  # the net itself is as it was

    options = ["export", "--prototxt", str(case), "--caffemodel", str(weights)]
    assert main([*options, "--raw-heads", "--output", str(tmp_path / "command.onnx")]) == 0
    assert (tmp_path / "command.onnx").read_bytes() == (tmp_path / "api.onnx").read_bytes()


def test_what_reads_detections_goes_with_them():
    text = inputs(**BOTTOMS) + layer("loc2", "Power", "loc", "loc2", "power_param { scale: 2 }")
    text += layer("d", "DetectionOutput", "loc2 conf prior", "d", "detection_output_param { num_classes: 3 }")
    net = load(text + layer("more", "Power", "d", "more", "power_param { shift: 1 }"))
    model = build_onnx(net, raw_heads=True)
    assert [node.name for node in model.graph.node] == ["loc2"]
    assert [value.name for value in model.graph.output] == ["loc2"]


def test_raw_heads_of_a_net_without_detections():
    net = one("Permute", "permute_param { order: 1 }", x=(2, 3))
    with pytest.raises(ExportError, match="no layer that makes detections"):
        build_onnx(net, raw_heads=True)


# -- DetectionEvaluate --------------------------------------------------------------------------------------
def in_pixels(box, size, resize):
    """A box in pixels of an image, and its area, in float32."""
    box, (high, wide), one = [F(v) for v in box], size, F(1)
    mode, tall, broad, high_to, wide_to = resize
    if mode == "FIT_LARGE_SIZE_AND_PAD":
        src, aspect = [F(0), F(0), one, one], F(wide) / F(high)
        if aspect > F(broad) / F(tall):
            src[1] = (F(tall) - F(broad) / aspect) / F(2) / F(tall)
            src[3] = one - src[1]
        else:
            src[0] = (F(broad) - F(tall) * aspect) / F(2) / F(broad)
            src[2] = one - src[0]
        if box[0] < src[2] and box[2] > src[0] and box[1] < src[3] and box[3] > src[1]:
            w, h = src[2] - src[0], src[3] - src[1]
            box = [(v - src[i % 2]) / (h if i % 2 else w) for i, v in enumerate(box)]
    if mode == "FIT_SMALL_SIZE" and high_to and wide_to:
        box = [v * F(high_to if i % 2 else wide_to) for i, v in enumerate(box)]
        box = [min(max(v, F(0)), F(high if i % 2 else wide)) for i, v in enumerate(box)]
        return box, area(box)
    box = [min(max(v, F(0)), one) * F(high if i % 2 else wide) for i, v in enumerate(box)]
    return box, F(0) if box[2] < box[0] or box[3] < box[1] else (box[2] - box[0] + one) * (box[3] - box[1] + one)


def pixel_overlap(a, b):
    """Intersection over union of boxes with areas, whose borders belong to them."""
    (box, size), (other, other_size) = a, b
    both = [F(0)] * 4
    if not (other[0] > box[2] or other[2] < box[0] or other[1] > box[3] or other[3] < box[1]):
        both = [max(box[0], other[0]), max(box[1], other[1]), min(box[2], other[2]), min(box[3], other[3])]
    w, h = both[2] - both[0] + F(1), both[3] - both[1] + F(1)
    return w * h / (size + other_size - w * h) if w > 0 and h > 0 else F(0)


def evaluated(found, truth, classes, back, threshold, difficult_counts, sizes=None, resize=("WARP", 0, 0, 0, 0)):
    """The rows, by the forks' loops."""
    real: dict = {}
    for row in truth:
        if row[0] == -1:
            break
        real.setdefault((int(row[0]), int(row[1])), []).append(row)
    rows = []
    for label in range(classes):
        if label != back:
            counted = [r for (_, kind), own in real.items() for r in own if kind == label]
            rows.append([-1, label, sum(1 for r in counted if difficult_counts or not r[7]), -1, -1])
    items = sorted({int(r[0]) for r in found if r[0] != -1})
    for item, label in sorted({(int(r[0]), int(r[1])) for r in found if r[0] != -1 and r[1] != -1}):
        own = [r for r in found if (r[0], r[1]) == (item, label)]
        boxes, visited = real.get((item, label), []), set()
        for row in sorted(own, key=lambda r: -r[2]) if boxes else own:
            best, place = F(-1), -1
            for j, box in enumerate(boxes):
                shared = overlap([F(v) for v in row[3:7]], [F(v) for v in box[3:7]])
                if sizes:
                    size = sizes[items.index(item) % len(sizes)]
                    shared = pixel_overlap(*(in_pixels(b[3:7], size, resize) for b in (row, box)))
                if shared > best:
                    best, place = shared, j
            hit, miss = 0, 1
            if best >= F(threshold):
                hit, miss = int(place not in visited), int(place in visited)
                if boxes[place][7] and not difficult_counts:
                    hit = miss = 0
                else:
                    visited.add(place)
            rows.append([item, label, float(row[2]), hit, miss])
    size = classes - 1 + sum(1 for r in found if r[1] != -1)
    return np.array(rows + [[0] * 5] * (size - len(rows)), np.float64).reshape(1, 1, -1, 5)


def judged_case(seed: int) -> tuple[dict, dict]:
    """Detections near ground truth, and what they are judged by."""
    rng = np.random.default_rng(seed)
    classes, back, difficult = 4, int(rng.integers(3)), bool(seed % 2)
    kinds = [c for c in range(classes) if c != back]
    truth, found = np.zeros((int(rng.integers(1, 9)), 8), F), np.full((int(rng.integers(1, 20)), 7), -1, F)
    corner = rng.uniform(0, 0.6, (len(truth), 2))
    truth[:, 0], truth[:, 1] = rng.integers(0, 3, len(truth)), rng.choice(kinds, len(truth))
    truth[:, 3:5], truth[:, 5:7], truth[:, 7] = corner, corner + 0.4, rng.integers(0, 2, len(truth))
    for row in found:
        near = truth[rng.integers(len(truth))]
        row[:2] = (near[0], near[1]) if rng.integers(4) else (rng.integers(0, 4), rng.choice(kinds))
        row[2], row[3:] = np.round(rng.uniform(), 1), near[3:7] + rng.normal(0, 0.05, 4)
        if not rng.integers(8):
            row[1:] = -1  # an item without detections
    if seed % 3 == 0:
        found[-1, 0] = -1
        truth[-1, 0] = -1
    return {"classes": classes, "back": back, "difficult_counts": difficult}, {"found": found, "truth": truth}


def judging_net(case, arrays, more: str = ""):
    fields = f"num_classes: {case['classes']} background_label_id: {case['back']} overlap_threshold: 0.4"
    fields += f" evaluate_difficult_gt: {str(case['difficult_counts']).lower()} {more}"
    shapes = {name: (1, 1, *a.shape) for name, a in arrays.items()}
    return one("DetectionEvaluate", f"detection_evaluate_param {{ {fields} }}", **shapes)


@pytest.mark.parametrize("seed", range(12))
def test_detections_are_judged_by_loops(seed):
    case, arrays = judged_case(seed)
    net, given = judging_net(case, arrays), {name: a[None, None] for name, a in arrays.items()}
    wanted = evaluated(**arrays, **case, threshold=0.4)
    np.testing.assert_allclose(run_reference(net.caffe, {}, given)["y"], wanted, rtol=0, atol=1e-11)
    np.testing.assert_allclose(port.run_blobs(net, given)["y"], wanted, rtol=0, atol=1e-6)
    with pytest.raises(ExportError, match="judged one after the other"):
        build_onnx(net)


RESIZES = [
    ("WARP", 0, 0, 0, 0),
    ("WARP", 30, 40, 0, 0),
    ("FIT_LARGE_SIZE_AND_PAD", 30, 40, 0, 0),
    ("FIT_SMALL_SIZE", 30, 40, 0, 0),
    ("FIT_SMALL_SIZE", 30, 40, 25, 18),
]


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("seed", range(3))
def test_detections_are_judged_in_pixels_of_the_images_that_a_file_lists(seed, resize, tmp_path):
    case, arrays = judged_case(seed)
    sizes = [(20, 31), (18, 9), (5, 5), (44, 12)]
    listed = tmp_path / "sizes.txt"
    listed.write_text("".join(f"image{i} {high} {wide}\n" for i, (high, wide) in enumerate(sizes)), encoding="utf-8")
    more = f'name_size_file: "{listed}"'
    if resize[1]:
        names = ("resize_mode", "height", "width", "height_scale", "width_scale")
        more += f" resize_param {{ {' '.join(f'{n}: {v}' for n, v in zip(names, resize, strict=True))} }}"
    net, given = judging_net(case, arrays, more), {name: a[None, None] for name, a in arrays.items()}
    wanted = evaluated(**arrays, **case, threshold=0.4, sizes=sizes, resize=resize)
    np.testing.assert_allclose(run_reference(net.caffe, {}, given)["y"], wanted, rtol=0, atol=1e-11)
    np.testing.assert_allclose(port.run_blobs(net, given)["y"], wanted, rtol=0, atol=1e-6)
    seen = len({r[0] for r in arrays["found"] if r[0] != -1}) % len(sizes)  # the next pass goes on with the next images
    wanted = evaluated(**arrays, **case, threshold=0.4, sizes=sizes[seen:] + sizes[:seen], resize=resize)
    np.testing.assert_allclose(port.run_blobs(net, given)["y"], wanted, rtol=0, atol=1e-6)


def test_a_file_of_sizes_that_is_not_there_is_missed_when_the_net_runs():
    case, arrays = judged_case(0)
    net = judging_net(case, arrays, 'name_size_file: "nowhere.txt"')
    for run in (lambda x: port.run_blobs(net, x), lambda x: run_reference(net.caffe, {}, x)):
        with pytest.raises(NetError, match=r"field 'name_size_file': the file cannot be read"):
            run({name: a[None, None] for name, a in arrays.items()})


@pytest.mark.parametrize(
    ("fields", "shapes", "said"),
    [
        ("", {}, "num_classes None"),
        ("num_classes: 3 background_label_id: 3", {}, "background_label_id 3 of 3"),
        ("num_classes: 3 overlap_threshold: 0", {}, "overlap_threshold 0"),
        ('num_classes: 3 name_size_file: "sizes" resize_param { height: 3 }', {}, "height 3, width 0"),
        ("num_classes: 3", {"found": (1, 2, 4, 7)}, "detections of 1x2x4x7"),
        ("num_classes: 3", {"truth": (1, 1, 4, 7)}, "ground truth of 1x1x4x7"),
    ],
)
def test_detection_evaluate_refuses_what_it_cannot_judge(fields, shapes, said):
    bottoms = {"found": (1, 1, 4, 7), "truth": (1, 1, 2, 8)} | shapes
    refused("DetectionEvaluate", f"detection_evaluate_param {{ {fields} }}", said, **bottoms)


def test_detections_of_the_background_are_refused_when_they_come():
    net = one(
        "DetectionEvaluate", "detection_evaluate_param { num_classes: 3 }", found=(1, 1, 2, 7), truth=(1, 1, 1, 8)
    )
    arrays = {"found": np.zeros((1, 1, 2, 7), F), "truth": np.ones((1, 1, 1, 8), F)}
    for run in (lambda: port.run_blobs(net, arrays), lambda: run_reference(net.caffe, {}, arrays)):
        with pytest.raises(NetError, match="a detection of the background's label 0"):
            run()


# -- AnnotatedData ------------------------------------------------------------------------------------------
SOURCE = 'data_param { source: "nowhere_lmdb" batch_size: 8 backend: LMDB }'
SIZE = "resize_param { prob: 1 resize_mode: WARP height: 300 width: 200 interp_mode: LINEAR }"
SAMPLER = "annotated_data_param { batch_sampler { max_sample: 1 } label_map_file: 'labels' }".replace("'", '"')


def annotated(fields: str, **options):
    text = layer("d", "AnnotatedData", "", "data label", fields) + layer("p", "Permute", "data", "p")
    return load(text + layer("s", "Silence", "label", ""), **options)


@pytest.mark.parametrize(
    ("transform", "shape"),
    [
        (f"{SIZE} mirror: true distort_param {{ hue_prob: 0.5 }} expand_param {{ prob: 0.5 }}", (8, 3, 300, 200)),
        (f"{SIZE} crop_size: 224", (8, 3, 224, 224)),
        ("crop_h: 90 crop_w: 80 force_gray: true", (8, 1, 90, 80)),
    ],
)
def test_annotated_data_has_the_shapes_that_its_fields_say(transform, shape):
    net = annotated(f"{SOURCE} transform_param {{ {transform} }} {SAMPLER}")
    assert {v.blob: v.shape for v in net.caffe.inputs} == {"data": shape, "label": (1, 1, 1, 8)}


def test_annotated_data_asks_for_shapes_that_only_the_data_knows():
    small = SIZE.replace("WARP", "FIT_SMALL_SIZE")
    for fields, said in (
        (f"{SOURCE} {SAMPLER}", "first image's size"),
        (f"{SOURCE} transform_param {{ {small} }}", "first image's size"),
        (f"transform_param {{ {SIZE} }}", "batch_size, which is missing"),
    ):
        with pytest.raises(NetError, match=said):
            annotated(fields)
    given = {"data": (2, 3, 50, 60), "label": (1, 1, 7, 8)}
    net = annotated(f"{SOURCE} {SAMPLER}", input_shapes=given)
    assert {v.blob: v.shape for v in net.caffe.inputs} == given


def test_nothing_reads_an_annotated_database():
    net = annotated(f"{SOURCE} transform_param {{ {SIZE} }}")
    with pytest.raises(DataError, match="AnnotatedData reads no data here"):
        open_data(net.caffe.nodes[0].message)
