"""MultiBoxLoss against the forks' steps written out in plain loops, its gradient against differences, and ONNX."""

from __future__ import annotations

from math import exp, log, log1p

import numpy as np
import pytest
import torch
from box_rules import CODES, F, area, decode, overlap
from small_nets import inputs, layer

import port
from port.graph.reference import run_reference
from port.onnx.export import build_onnx
from port.onnx.session import run_onnx, session
from prototxt_gen.base.errors import NetError
from prototxt_gen.schema.text import parse_prototxt

TINY = float(np.finfo(F).tiny)


# -- the rule ---------------------------------------------------------------------------------------------------
def truths_of(label, case):
    """Item -> its ground truth in order: label, box, difficult."""
    found = {}
    for row in label.reshape(-1, 8):
        item, kind, difficult = int(row[0]), int(row[1]), bool(row[7])
        if item == -1 or (difficult and not case["use_difficult_gt"]):
            continue
        kind = 1 if case["num_classes"] == 2 and kind >= 2 else kind
        found.setdefault(item, []).append((kind, [float(v) for v in row[3:7]], difficult))
    return found


def match(boxes, truths, case):
    """The ground truth of every box, and its largest overlap, by the search for the best pair again and again."""
    rows, most, table = [-1] * len(boxes), [F(0)] * len(boxes), {}
    for i, box in enumerate(boxes):
        if case["ignore_cross_boundary_bbox"] and any(v < 0 or v > 1 for v in box):
            rows[i] = -2
            continue
        for j, (_, truth, _) in enumerate(truths):
            shared = overlap(box, [F(v) for v in truth])
            if shared > 1e-6:
                table[i, j] = shared
                most[i] = max(most[i], shared)
    pool = list(range(len(truths)))
    while pool:
        best, pair = -1, None
        for i in range(len(boxes)):
            for j in pool:
                if rows[i] == -1 and table.get((i, j), -1) > best:
                    best, pair = table[i, j], (i, j)
        if pair is None:
            break
        if case["ignore_difficult_gt"] and truths[pair[1]][2]:
            rows[pair[0]] = -2
            continue
        rows[pair[0]], most[pair[0]] = pair[1], best
        pool.remove(pair[1])
    if case["match_type"] == "PER_PREDICTION":
        for i in range(len(boxes)):
            best = -1
            for j in range(len(truths)):
                shared = table.get((i, j), -1)
                if rows[i] in (-1, "new") and shared >= F(case["overlap_threshold"]) and shared > best:
                    best, place = shared, j
            if best > -1:
                rows[i] = place
    return rows, most


def encode(code, anchor, spread, box):
    """Ground truth as a prediction of a prior box says it."""
    w, h = anchor[2] - anchor[0], anchor[3] - anchor[1]
    if code == "CENTER_SIZE":
        x = ((box[0] + box[2]) - (anchor[0] + anchor[2])) / 2 / w
        y = ((box[1] + box[3]) - (anchor[1] + anchor[3])) / 2 / h
        numbers = [x, y, log((box[2] - box[0]) / w), log((box[3] - box[1]) / h)]
    else:
        unit = [w, h, w, h] if code == "CORNER_SIZE" else [1] * 4
        numbers = [(b - a) / u for b, a, u in zip(box, anchor, unit, strict=True)]
    return [n / s for n, s in zip(numbers, spread, strict=True)]


def softmax_loss(row, label):
    top = max(row)
    return -log(max(exp(row[label] - top) / sum(exp(v - top) for v in row), TINY))


def logistic_loss(row, targets):
    return sum(max(v, 0) - v * t + log1p(exp(-abs(v))) for v, t in zip(row, targets, strict=True))


def box_loss(away, case):
    return sum(0.5 * v * v if case["loc_loss_type"] == "L2" or abs(v) < 1 else abs(v) - 0.5 for v in away)


def multibox(arrays, case) -> float:
    """The loss of a batch."""
    loc, conf, prior = (np.asarray(arrays[name], np.float64) for name in ("loc", "conf", "prior"))
    items, count, classes = len(loc), prior.shape[2] // 4, case["num_classes"]
    anchors, variances = prior[0].reshape(2, count, 4).tolist()
    spread = [[1.0] * 4] * count if case["encode_variance_in_target"] else variances
    keys = [0] if case["share_location"] else [c for c in range(classes) if c != case["background_label_id"]]
    everyone, positives, negatives, code = truths_of(arrays["label"], case), [], [], case["code_type"]
    for item in range(items):
        truths, logits = everyone.get(item), conf[item].reshape(count, classes).tolist()
        if not truths:
            continue
        preds = loc[item].reshape(count, -1, 4)
        held, rough = anchors, [[F(v) for v in box] for box in anchors]
        if "arm_loc" in arrays:
            moves = arrays["arm_loc"][item].reshape(count, 4).astype(np.float64)
            held = [decode(code, a, s, m) for a, s, m in zip(anchors, spread, moves, strict=True)]
            rough = [decode(code, a, s, m, F) for a, s, m in zip(anchors, spread, moves, strict=True)]
        per_key = {}
        for key in keys:
            if case["use_prior_for_matching"]:
                rows, most = match(rough, truths, case)
                if not case["share_location"]:
                    rows = [r if r > -1 and truths[r][0] == key else -1 for r in rows]
            else:
                boxes = [decode(code, a, s, p, F) for a, s, p in zip(anchors, spread, preds[:, key], strict=True)]
                own = [j for j, t in enumerate(truths) if case["share_location"] or t[0] == key]
                rows, most = match(boxes, [truths[j] for j in own], case)
                rows = [own[r] if r > -1 else r for r in rows]
            per_key[key] = rows
        lacking = {}
        for key, rows in per_key.items():
            for p, row in enumerate(rows):
                if row > -1:
                    wanted = encode(code, held[p], spread[p], truths[row][1])
                    away = [a - b for a, b in zip(preds[p, key].tolist(), wanted, strict=True)]
                    if case["bp_inside"]:
                        box = held[p]
                        if not case["use_prior_for_matching"]:
                            box = decode(code, held[p], spread[p], preds[p, key])
                        away = [0 if b < 0 or b > 1 else a for a, b in zip(away, box, strict=True)]
                    if case["encode_variance_in_target"]:
                        away = [a / v for a, v in zip(away, variances[p], strict=True)]
                    lacking[key, p] = box_loss(away, case)
        if case["mining_type"] != "NONE":
            rows, losses = per_key[0], []
            for p, row in enumerate(rows):
                label = truths[row][0] if row > -1 else case["background_label_id"]
                if case["conf_loss_type"] == "SOFTMAX":
                    losses.append(softmax_loss(logits[p], label))
                else:
                    losses.append(logistic_loss(logits[p], [c == label for c in range(classes)]))
                if case["mining_type"] == "HARD_EXAMPLE":
                    losses[-1] = float(F(losses[-1]) + F(lacking.get((0, p), 0)))
            losses = [F(v) for v in losses]
            able = [p for p in range(count) if rows[p] == -1 and most[p] < F(case["neg_overlap"])]
            limit = int(F(sum(r > -1 for r in rows)) * F(case["neg_pos_ratio"]))
            if case["mining_type"] == "HARD_EXAMPLE":
                able, limit = range(count), case["sample_size"]
            if "arm_conf" in arrays:
                sure = arrays["arm_conf"][item].reshape(count, 2)[:, 1]
                able = [p for p in able if sure[p] >= F(case["objectness_score"])]
            order = sorted(able, key=lambda p: -losses[p])
            if case["nms"] is not None:
                allowed, top = case["nms"]
                boxes = rough
                if not case["use_prior_for_nms"]:
                    boxes = [decode(code, a, s, m, F) for a, s, m in zip(anchors, spread, preds[:, 0], strict=True)]
                kept = []
                for p in order[:top]:
                    if area(boxes[p]) >= 1e-5 and all(overlap(boxes[p], boxes[q]) <= F(allowed) for q in kept):
                        kept.append(p)
                order = kept
            chosen = order[: min(limit, len(order))]
            negatives += [(item, p) for p in range(count) if rows[p] == -1 and p in chosen]
            if case["mining_type"] == "HARD_EXAMPLE":
                per_key[0] = [r if p in chosen else min(r, -1) for p, r in enumerate(rows)]
        for key, rows in per_key.items():
            positives += [(item, p, truths[r][0], lacking[key, p]) for p, r in enumerate(rows) if r > -1]
    return total_of(positives, negatives, conf.reshape(items, count, classes), case)


def total_of(positives, negatives, logits, case) -> float:
    """Both losses over the divisor."""
    items, count, classes = logits.shape
    back, total = case["background_label_id"], 0.0
    labels = {(i, p): back + 1 if case["map_object_to_agnostic"] else label for i, p, label, _ in positives}
    if case["mining_type"] != "NONE":
        rows = [(place, labels[place[:2]], True) for place in positives] + [(p, back, True) for p in negatives]
        rows = [((i, p), label, set_one) for (i, p, *_), label, set_one in rows]
    else:
        rows = [((i, p), labels.get((i, p), back), False) for i in range(items) for p in range(count)]
    flat = np.full(items * count * classes, float(back))
    for (i, p), label in labels.items():
        flat[i * count + p * classes + label] = 1
    for (i, p), label, own in rows:
        row = logits[i, p].tolist()
        if case["conf_loss_type"] == "SOFTMAX":
            total += softmax_loss(row, label)
        else:
            targets = flat.reshape(items, count, classes)[i, p]
            total += logistic_loss(row, [1 if c == label else back for c in range(classes)] if own else targets)
    total += case["loc_weight"] * sum(loss for *_, loss in positives)
    sizes = {"VALID": len(positives), "FULL": items * count, "BATCH_SIZE": items, "NONE": 1}
    return total / max(sizes[case["normalization"]], 1)


# -- cases ------------------------------------------------------------------------------------------------------
def drawn(seed: int, **changed) -> tuple[dict, dict]:
    """Settings, and a batch whose ground truth lies near some prior boxes, with an item that may have none."""
    rng = np.random.default_rng(seed)
    pick = lambda *values: values[rng.integers(len(values))]  # noqa: E731
    mining = pick("NONE", "MAX_NEGATIVE", "MAX_NEGATIVE", "HARD_EXAMPLE")
    share = bool(mining != "NONE" or rng.integers(2))
    case = {
        "loc_loss_type": pick("L2", "SMOOTH_L1"),
        "conf_loss_type": pick("SOFTMAX", "LOGISTIC"),
        "loc_weight": pick(1.0, 0.5),
        "num_classes": int(rng.integers(2, 5)),
        "share_location": share,
        "match_type": pick("BIPARTITE", "PER_PREDICTION"),
        "overlap_threshold": pick(0.3, 0.5),
        "use_prior_for_matching": bool(rng.integers(3)),
        "background_label_id": pick(0, 0, 1),
        "use_difficult_gt": bool(rng.integers(2)),
        "neg_pos_ratio": pick(0.75, 3.0),
        "neg_overlap": pick(0.3, 0.5),
        "code_type": CODES[seed % 3],
        "ignore_cross_boundary_bbox": not rng.integers(4),
        "encode_variance_in_target": not rng.integers(3),
        "map_object_to_agnostic": False,
        "bp_inside": not rng.integers(3),
        "mining_type": mining,
        "sample_size": 5,
        "use_prior_for_nms": bool(rng.integers(2)),
        "ignore_difficult_gt": False,
        "objectness_score": 0.3,
        "normalization": pick("VALID", "VALID", "FULL", "BATCH_SIZE", "NONE"),
        "nms": None,
        "arms": 0,
    } | changed
    items, count, classes = int(rng.integers(1, 4)), int(rng.integers(4, 14)), case["num_classes"]
    if case["map_object_to_agnostic"]:
        case["num_classes"] = classes = 2
    centre, size = rng.uniform(0.2, 0.8, (count, 2)), rng.uniform(0.2, 0.6, (count, 2))
    prior = np.concatenate([centre - size / 2, centre + size / 2], 1)
    rows = []
    for _ in range(int(rng.integers(1, 7))):
        near = prior[rng.integers(count)] + rng.normal(0, 0.04, 4)
        others = [c for c in range(classes) if c != case["background_label_id"]]
        kind = pick(*others)
        if case["map_object_to_agnostic"]:
            case["background_label_id"], kind = 0, 1
        rows.append([rng.integers(-1, items), kind, 0, *near, rng.integers(2)])
    width = 1 if case["share_location"] else classes
    arrays = {
        "loc": rng.normal(0, 0.7, (items, count * 4 * width)),
        "conf": rng.normal(0, 1.5, (items, count * classes)),
        "prior": np.stack([prior, rng.uniform(0.05, 0.3, (count, 4))]).reshape(1, 2, -1),
        "label": np.array(rows).reshape(1, 1, -1, 8),
    }
    if case["arms"]:
        arrays["arm_conf"] = rng.uniform(0, 1, (items, 2 * count))
    if case["arms"] == 2:
        arrays["arm_loc"] = rng.normal(0, 0.3, (items, 4 * count))
    return case, {name: a.astype(F) for name, a in arrays.items()}


def loss_net(case, arrays, more: str = ""):
    """A net of one MultiBoxLoss in TRAIN phase."""
    own = [k for k in case if k not in ("normalization", "nms", "arms")]
    text = " ".join(f"{k}: {str(case[k]).lower() if isinstance(case[k], bool) else case[k]}" for k in own)
    if case["nms"] is not None:
        text += f" nms_param {{ nms_threshold: {case['nms'][0]} top_k: {case['nms'][1]} }}"
    fields = f"multibox_loss_param {{ {text} }} loss_param {{ normalization: {case['normalization']} }} {more}"
    shapes = {name: a.shape for name, a in arrays.items()}
    net = inputs(**shapes) + layer("y", "MultiBoxLoss", " ".join(shapes), "y", fields)
    return port.load_net(parse_prototxt(net, dialect="bvlc+ssd"), phase="TRAIN")


def compared(case, arrays) -> None:
    net, wanted = loss_net(case, arrays), multibox(arrays, case)
    assert float(run_reference(net.caffe, {}, arrays)["y"]) == pytest.approx(wanted, rel=1e-11)
    assert float(port.run_blobs(net, arrays)["y"]) == pytest.approx(wanted, rel=5e-6)
    found = run_onnx(session(build_onnx(net)), arrays)["y"]
    assert found.shape == () and float(found) == pytest.approx(wanted, rel=5e-6)


@pytest.mark.parametrize("seed", range(40))
def test_losses_by_loops(seed):
    compared(*drawn(seed))


@pytest.mark.parametrize("seed", range(8))
def test_hard_examples_that_are_compared_to_each_other(seed):
    mining = ("MAX_NEGATIVE", "HARD_EXAMPLE")[seed % 2]
    case, arrays = drawn(seed, nms=(0.3, (2, 50)[seed % 4 // 2]), mining_type=mining, share_location=True)
    compared(case, arrays)


@pytest.mark.parametrize("seed", range(8))
def test_ground_truth_that_is_difficult_waits(seed):
    case, arrays = drawn(seed, ignore_difficult_gt=True, use_difficult_gt=True)
    compared(case, arrays)


@pytest.mark.parametrize("seed", range(12))
def test_refined_prior_boxes(seed):
    case, arrays = drawn(seed, arms=1 + seed % 2, share_location=True)
    compared(case, arrays)


@pytest.mark.parametrize("seed", range(4))
def test_objects_of_any_label_are_one(seed):
    compared(*drawn(seed, map_object_to_agnostic=True, num_classes=2, background_label_id=0, share_location=True))


def test_equal_losses_and_overlaps_go_to_the_first():
    case, arrays = drawn(3, mining_type="MAX_NEGATIVE", share_location=True, use_prior_for_matching=True)
    case |= {"neg_pos_ratio": 1.0, "neg_overlap": 0.9, "code_type": "CENTER_SIZE", "ignore_cross_boundary_bbox": False}
    arrays["conf"][:] = 0.5  # all losses are one
    arrays["prior"][0, 0] = np.tile([0.25, 0.25, 0.75, 0.75], arrays["prior"].shape[2] // 4)  # all overlaps too
    compared(case, arrays)


def test_a_batch_without_ground_truth():
    for mining, wanted in (("MAX_NEGATIVE", 0), ("HARD_EXAMPLE", 0), ("NONE", None)):
        case, arrays = drawn(5, mining_type=mining, share_location=True)
        arrays["label"][..., 0] = -1
        compared(case, arrays)
        if wanted is not None:
            assert float(port.run_blobs(loss_net(case, arrays), arrays)["y"]) == wanted


@pytest.mark.parametrize(("flags", "kept"), [((0, 1), "conf"), ((1, 0), "loc"), ((0, 0), "")])
def test_what_propagate_down_rules_out_adds_nothing(flags, kept):
    case, arrays = drawn(8, mining_type="MAX_NEGATIVE", share_location=True)
    whole = multibox(arrays, case)
    boxes = whole - multibox(arrays, {**case, "loc_weight": 0})
    more = " ".join(f"propagate_down: {str(bool(flag)).lower()}" for flag in (*flags, 0, 0))
    net = loss_net(case, arrays, more)
    wanted = {"conf": whole - boxes, "loc": boxes, "": 0}[kept]
    assert float(run_reference(net.caffe, {}, arrays)["y"]) == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert float(port.run_blobs(net, arrays)["y"]) == pytest.approx(wanted, rel=5e-6)
    assert float(run_onnx(session(build_onnx(net)), arrays)["y"]) == pytest.approx(wanted, rel=5e-6)


@pytest.mark.parametrize("seed", range(24))
def test_the_gradient_is_that_of_the_reference(seed):
    """Differences of the float64 reference, at places drawn at random; PyTorch in float64."""
    case, arrays = drawn(seed, arms=(0, 0, 2)[seed % 3] * (seed % 2))
    if case["arms"]:
        case, arrays = drawn(seed, arms=2, share_location=True)
    net = loss_net(case, arrays)
    given = {
        name: torch.tensor(a.astype(np.float64), requires_grad=name in ("loc", "conf")) for name, a in arrays.items()
    }
    net.layer("y")(*given.values()).backward()
    rng, step = np.random.default_rng(seed), 1e-6
    for name in ("loc", "conf"):
        for place in rng.integers(arrays[name].size, size=6):
            ends = []
            for sign in (1, -1):
                moved = {n: a.astype(np.float64) for n, a in arrays.items()}
                moved[name].reshape(-1)[place] += sign * step
                ends.append(float(net.caffe.nodes[-1].layer.reference([], *moved.values())[0]))
            slope = (ends[0] - ends[1]) / (2 * step)
            found = float(given[name].grad.reshape(-1)[place])
            assert found == pytest.approx(slope, rel=1e-5, abs=1e-7), (name, place)
    assert given["prior"].grad is None and given["label"].grad is None


@pytest.mark.parametrize("opset", [13, 18, 23])
def test_another_batch_and_opset_in_onnx(opset):
    case, arrays = drawn(11, mining_type="MAX_NEGATIVE", share_location=True, use_prior_for_matching=True)
    net = loss_net(case, arrays)
    twice = {n: np.concatenate([a, a[::-1]]) if n in ("loc", "conf") else a for n, a in arrays.items()}
    found = run_onnx(session(build_onnx(net, opset=opset)), twice)["y"]
    assert float(found) == pytest.approx(multibox(twice, case), rel=5e-6)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num_classes": 0}, "num_classes 0"),
        ({"do_neg_mining": True}, "do_neg_mining True with mining_type NONE"),
        ({"mining_type": "MAX_NEGATIVE", "share_location": False}, "without share_location"),
        ({"background_label_id": 9}, "background_label_id 9"),
        ({"map_object_to_agnostic": True}, "map_object_to_agnostic with 3"),
        ({"mining_type": "HARD_EXAMPLE", "sample_size": 0, "share_location": True}, "sample_size 0"),
    ],
)
def test_settings_that_the_forks_refuse(changed, said):
    case, arrays = drawn(0, num_classes=3, conf_loss_type="SOFTMAX", mining_type="NONE")
    with pytest.raises(NetError, match=said):
        loss_net({**case, **changed}, arrays)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("conf", (9, 33), "as many items"),
        ("loc", (1, 7), "predictions of boxes of 1x7"),
        ("label", (1, 1, 3, 7), "ground truth of 1x1x3x7"),
        ("prior", (1, 1, 8), "prior boxes of 1x1x8"),
    ],
)
def test_bottoms_that_the_forks_refuse(name, shape, said):
    case, arrays = drawn(2)
    arrays[name] = np.zeros(shape, F)
    with pytest.raises(NetError, match=said):
        loss_net(case, arrays)


@pytest.mark.parametrize("label", [7, -3])
def test_a_label_without_scores_is_refused_where_it_is_matched(label):
    case, arrays = drawn(4, num_classes=3, mining_type="MAX_NEGATIVE", share_location=True, background_label_id=0)
    arrays["label"][..., 0], arrays["label"][..., 1], arrays["label"][..., 7] = 0, label, 0
    net = loss_net(case, arrays)
    for run in (lambda: port.run_blobs(net, arrays), lambda: run_reference(net.caffe, {}, arrays)):
        with pytest.raises(NetError, match=f"ground truth of label {label}"):
            run()
