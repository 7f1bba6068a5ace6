"""MultiBoxLoss as the forks' loops in NumPy: matches, the hardest of the rest, and the loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base import FLT_MIN, Array, Misfit
from .boxes import decoded, overlaps, require_extents

F = np.float32
Matches = dict[int, list[int]]  # key -> for each prior box the row of its ground truth, -1 or -2


def loss_of(layer: Any, loc: Array, conf: Array, prior: Array, label: Array, *arm: Array) -> float:
    """The loss of a batch."""
    items, classes = len(loc), layer.classes
    anchors, spread = prior[0].reshape(2, -1, 4)
    count, truths = len(anchors), _truths(layer, label)
    logits, preds = conf.reshape(items, count, classes), loc.reshape(items, count, -1 if loc.size else 1, 4)
    used = None if layer.encode_variance_in_target else spread
    loc_total, matches, rows, targets = 0.0, 0, [], []
    every = np.full(items * count, layer.background_label_id)
    ones = np.zeros(items * count * classes, bool)
    for item in range(items):
        held = anchors
        if len(arm) == 2:
            held = decoded(layer.code_type, anchors, used, arm[1][item].reshape(-1, 4))
        own = [row for row in truths if row[0] == item]
        found, most = _matches(layer, preds[item], (anchors, spread, *(a[item].reshape(-1, 4) for a in arm[1:])), own)
        away = {
            (key, place): _away(layer, held[place], spread[place], preds[item, place, key], own[row][2:6])
            for key, index in found.items()
            for place, row in enumerate(index)
            if row > -1
        }
        _require_labels(layer, found, own)
        if layer.mines:
            sure = None if not arm else arm[0][item].reshape(count, 2)[:, 1] >= F(layer.objectness_score)
            negatives = _mine(layer, found, most, own, logits[item], away, sure, (preds[item], anchors, spread))
        for key, index in found.items():
            for place, row in enumerate(index):
                if row < 0:
                    continue
                matches += 1
                loc_total += _box_loss(layer, away[key, place])
                target = layer.background_label_id + 1 if layer.map_object_to_agnostic else int(own[row][1])
                every[item * count + place] = target
                ones[item * count + place * classes + target] = True
                rows.append(logits[item, place])
                targets.append(target)
        if layer.mines and found:
            rows += [logits[item, place] for place in negatives]
            targets += [layer.background_label_id] * len(negatives)
    if not layer.mines:
        rows, targets = list(logits.reshape(-1, classes)), list(every)
    if layer.mines or layer.conf_loss_type == "SOFTMAX":
        wanted = np.arange(classes) == np.array(targets).reshape(-1, 1)
    else:
        wanted = ones.reshape(-1, classes)  # the forks go on by a prior box, not by its labels, from item to item
    score_total = _score_loss(layer, np.array(rows).reshape(-1, classes), wanted, layer.background_label_id).sum()
    total = layer.loc_weight * loc_total * layer.counted[0] + score_total * layer.counted[1]
    return total / layer.divisor(items * count, max(matches, 1), items)


def _truths(layer: Any, label: Array) -> list[Array]:
    """The rows that count: item, label, box, difficult."""
    kept = []
    for row in label[0].reshape(-1, 8):
        item, kind, difficult = int(row[0]), int(row[1]), row[7] != 0
        if item == -1 or (difficult and not layer.use_difficult_gt):
            continue
        kind = 1 if layer.classes == 2 and kind >= 2 else kind
        kept.append(np.array([item, kind, *row[3:7], difficult]))
    return kept


def _matches(layer: Any, preds: Array, near: tuple[Array, ...], own: list[Array]) -> tuple[Matches, Array]:
    """What the prior boxes of an item match, and the largest overlap of each."""
    anchors, spread, *arm = (part.astype(F) for part in near)
    used = None if layer.encode_variance_in_target else spread
    found: Matches = {}
    most = np.zeros(len(anchors), F)
    if not own:
        return found, most
    if layer.use_prior_for_matching:
        boxes = decoded(layer.code_type, anchors, used, arm[0]) if arm else anchors
        rows, most = _match(layer, boxes, own)
        for key in layer.keys:
            same = [row if row > -1 and (layer.share_location or own[row][1] == key) else min(row, -1) for row in rows]
            found[key] = same
        return found, most
    for key in layer.keys:
        require_extents(layer.code_type, anchors)
        boxes = decoded(layer.code_type, anchors, used, preds[:, key].astype(F))
        mine = [i for i, row in enumerate(own) if layer.share_location or row[1] == key]
        rows, most = _match(layer, boxes, [own[i] for i in mine])
        found[key] = [mine[row] if row > -1 else row for row in rows]
    return found, most


def _match(layer: Any, boxes: Array, truths: list[Array]) -> tuple[list[int], Array]:
    """The ground truth of each box, best pairs first, then each box for itself; and each box's largest overlap."""
    rows, most = [-1] * len(boxes), np.zeros(len(boxes), F)
    pairs: dict[tuple[int, int], np.float32] = {}
    sides = np.array([truth[2:6] for truth in truths], F).reshape(-1, 4)
    for i, box in enumerate(boxes):
        if layer.ignore_cross_boundary_bbox and ((box < 0) | (box > 1)).any():
            rows[i] = -2
            continue
        shared = overlaps(box, sides).astype(F)
        for j in np.flatnonzero(shared > 1e-6).tolist():
            pairs[i, j] = shared[j]
            most[i] = max(most[i], shared[j])
    pool = set(range(len(truths)))
    for i, j in sorted(pairs, key=lambda pair: (-pairs[pair], pair)):
        if rows[i] != -1 or j not in pool:
            continue
        if layer.ignore_difficult_gt and truths[j][6]:
            rows[i] = -2
        else:
            rows[i], most[i] = j, pairs[i, j]
            pool.discard(j)
    if layer.match_type == "PER_PREDICTION":
        for i in range(len(boxes)):
            # whatever the threshold, a box that does not overlap is no candidate
            good = [j for j in range(len(truths)) if (i, j) in pairs and pairs[i, j] >= F(layer.overlap_threshold)]
            if rows[i] == -1 and good:
                rows[i] = max(good, key=lambda j: (pairs[i, j], -j))
    return rows, most


def _require_labels(layer: Any, found: Matches, own: list[Array]) -> None:
    for row in (row for index in found.values() for row in index if row > -1):
        label = int(own[row][1])
        if not 0 <= label < layer.classes or (layer.mines and label == layer.background_label_id):
            raise Misfit(f"ground truth of label {label}", f"0 to {layer.classes - 1}, not the background's", "bottom")


def _away(layer: Any, anchor: Array, spread: Array, pred: Array, truth: Array) -> Array:
    """What a prediction lacks to its encoded ground truth."""
    require_extents(layer.code_type, anchor)
    size = np.tile(anchor[2:] - anchor[:2], 2)
    if layer.code_type == "CENTER_SIZE":
        move = ((truth[:2] + truth[2:]) - (anchor[:2] + anchor[2:])) / 2 / size[:2]
        code = np.concatenate([move, np.log((truth[2:] - truth[:2]) / size[2:])])
    else:
        code = (truth - anchor) / (size if layer.code_type == "CORNER_SIZE" else 1)
    away = (pred - code) / spread if layer.encode_variance_in_target else pred - code / spread
    if layer.bp_inside:
        box = anchor
        if not layer.use_prior_for_matching:
            box = decoded(layer.code_type, anchor, None if layer.encode_variance_in_target else spread, pred)
        away = np.where((box < 0) | (box > 1), 0, away)
    return away


def _box_loss(layer: Any, away: Array) -> float:
    size = np.abs(away)
    if layer.loc_loss_type == "SMOOTH_L1":
        return float(np.where(size < 1, size * size / 2, size - 0.5).sum())
    return float((size * size / 2).sum())


def _score_loss(layer: Any, rows: Array, wanted: Array, fill: int) -> Array:
    """The loss of each row of scores."""
    if layer.conf_loss_type == "SOFTMAX":
        share = np.exp(rows - rows.max(1, keepdims=True))
        return -np.log(np.maximum((share / share.sum(1, keepdims=True))[wanted], FLT_MIN))
    target = np.where(wanted, 1, fill)
    return (np.maximum(rows, 0) - rows * target + np.log1p(np.exp(-np.abs(rows)))).sum(1)


def _mine(layer, found: Matches, most: Array, own, logits, away, sure, near) -> list[int]:
    """The prior boxes without ground truth that count; of hard examples the other matches are taken back."""
    if not found:
        return []
    rows, hard = found[0], layer.mining_type == "HARD_EXAMPLE"
    labels = [layer.background_label_id if row < 0 else int(own[row][1]) for row in rows]
    loss = _score_loss(layer, logits, np.arange(layer.classes) == np.array(labels)[:, None], 0).astype(F)
    if hard:
        loss += np.array([_box_loss(layer, away[0, i]) if row > -1 else 0 for i, row in enumerate(rows)], F)
    able = [i for i, row in enumerate(rows) if hard or (row == -1 and most[i] < F(layer.neg_overlap))]
    able = [i for i in able if sure is None or sure[i]]
    limit = layer.sample_size if hard else int(F(sum(row > -1 for row in rows)) * F(layer.neg_pos_ratio))
    order = sorted(able, key=lambda i: -loss[i])
    if layer.suppression is not None:
        order = _apart(layer, order, near)
    chosen = set(order[: max(limit, 0)])
    negatives = [i for i, row in enumerate(rows) if row == -1 and i in chosen]
    if hard:
        found[0] = [-1 if row > -1 and i not in chosen else row for i, row in enumerate(rows)]
    return negatives


def _apart(layer: Any, order: list[int], near: tuple[Array, ...]) -> list[int]:
    """Of boxes in order those that are no smaller than the forks ask, without what overlaps one before."""
    allowed, top = layer.suppression
    preds, boxes, spread = (part.astype(F) for part in near)
    if not layer.use_prior_for_nms:
        require_extents(layer.code_type, boxes)
        boxes = decoded(layer.code_type, boxes, None if layer.encode_variance_in_target else spread, preds[:, 0])
    kept: list[int] = []
    for i in order[:top] if top > -1 else order:
        side = boxes[i, 2:] - boxes[i, :2]
        if (side < 0).any() or side[0] * side[1] < F(1e-5):
            continue
        if all(overlaps(boxes[i], boxes[j]) <= F(allowed) for j in kept):
            kept.append(i)
    return kept
