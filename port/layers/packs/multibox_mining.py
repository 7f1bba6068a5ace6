"""Which prior box gets which ground truth, and which others are hard enough to count: MultiBoxLoss in torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from ..base import FLT_MIN
from .boxes import areas, decoded_tensor, left_over, overlap_tensor, require_extents

LEAST = 1e-6  # a smaller overlap is none
SMALL = 1e-5  # boxes with less area are not chosen where boxes are compared to each other


@dataclass(frozen=True)
class Found:
    """Prior boxes by item, place and key (the label whose box is meant, 0 where all share it), their ground truth.

    `free`: for each item and place whether it has none and may have none, and the largest overlap; N x K.
    """

    item: torch.Tensor
    place: torch.Tensor
    key: torch.Tensor
    truth: torch.Tensor
    free: torch.Tensor
    overlap: torch.Tensor


def matched(layer: Any, preds: Any, anchors: Any, spread: Any, truths: Any, arm: Any) -> Found:
    """The matches of all items, by item, key and place; all in float32."""
    items, count = preds.shape[:2]
    used = None if layer.encode_variance_in_target else spread
    free = torch.ones((items, count), dtype=torch.bool, device=preds.device)
    overlap = torch.zeros((items, count), device=preds.device)
    parts = []
    for item in range(items):
        rows = (truths[:, 0] == item).nonzero()[:, 0]
        free[item] = len(rows) > 0  # without ground truth no prior box of an item counts where boxes are chosen
        if not len(rows):
            continue
        held = anchors if arm is None else decoded_tensor(layer.code_type, anchors, used, arm[item].float())
        whole = _match(layer, held, truths[rows].float()) if layer.use_prior_for_matching else None
        for key in layer.keys:
            if whole is None:
                require_extents(layer.code_type, anchors)
                boxes = decoded_tensor(layer.code_type, anchors, used, preds[item, :, key])
                own = rows if layer.share_location else rows[truths[rows, 1] == key]
                index, most = _match(layer, boxes, truths[own].float())
            else:
                (index, most), own = whole, rows
                if not layer.share_location:
                    index = torch.where(truths[own[index.clamp(min=0)], 1] == key, index, index.clamp(max=-1))
            place = (index > -1).nonzero()[:, 0]
            free[item] &= index == -1
            overlap[item] = most
            parts.append((torch.full_like(place, item), place, torch.full_like(place, key), own[index[place]]))
    empty = torch.zeros(0, dtype=torch.long, device=preds.device)
    item, place, key, truth = map(torch.cat, zip(*parts, strict=True)) if parts else [empty] * 4
    return Found(item, place, key, truth, free, overlap)


def _match(layer: Any, boxes: torch.Tensor, truths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each box the ground truth that it gets (-1: none; -2: it does not count), and its largest overlap."""
    index = torch.full((len(boxes),), -1, device=boxes.device)
    if not len(truths):
        return index, boxes.new_zeros(len(boxes))
    sides, real = boxes.T[:, :, None], truths[:, 2:6]
    shared = overlap_tensor(sides, real.T[:, None], areas(boxes)[:, None], areas(real))
    shared = torch.where(shared > LEAST, shared, 0)
    if layer.ignore_cross_boundary_bbox:
        across = ((boxes < 0) | (boxes > 1)).any(1)
        index[across] = -2
        shared[across] = 0
    most, first = shared.max(1).values, shared.argmax(1)
    left = shared.clone()
    for _ in range(left.numel()):
        best = int(left.argmax())
        place, truth = divmod(best, len(truths))
        if not left[place, truth] > 0:
            break
        left[place] = 0
        if layer.ignore_difficult_gt and truths[truth, 6]:
            index[place] = -2  # and the ground truth waits for the next box
            continue
        index[place] = truth
        most[place] = shared[place, truth]
        left[:, truth] = 0
    if layer.match_type == "PER_PREDICTION":
        good = (index == -1) & (most > 0) & (most >= layer.overlap_threshold)
        index = torch.where(good, first, index)
    return index, most


def mined(layer: Any, found: Found, near: tuple[Any, ...], logits: Any, sure: Any) -> tuple[Found, Found]:
    """The matches that count, and the prior boxes without ground truth that do."""
    hard = layer.mining_type == "HARD_EXAMPLE"
    label = torch.full(logits.shape[:2], layer.background_label_id, device=logits.device)
    labels = near[3][found.truth, 1].long()
    layer.require_label(labels)
    label[found.item, found.place] = labels
    loss = _score_loss(layer, logits.double(), label).float()
    if hard:
        loss[found.item, found.place] += layer.of_boxes(layer.apart(found, *near)).float()
    has = (near[3][:, 0] == torch.arange(len(logits), device=logits.device)[:, None]).any(1, keepdim=True)
    able = has.expand_as(loss) if hard else found.free & (found.overlap < layer.neg_overlap)
    able = able if sure is None else able & sure
    if hard:
        limit = torch.full_like(loss[:, 0], layer.sample_size, dtype=torch.long)
    else:
        positives = torch.bincount(found.item, minlength=len(logits)).float()
        limit = (positives * layer.neg_pos_ratio).long().clamp(min=0)
    chosen = _chosen(layer, able, loss, limit, near)
    item, place = (found.free & chosen).nonzero(as_tuple=True)
    others = replace(found, item=item, place=place)
    if hard:
        kept = chosen[found.item, found.place]
        found = replace(found, **{name: getattr(found, name)[kept] for name in ("item", "place", "key", "truth")})
    return found, others


def _score_loss(layer: Any, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The loss of each prior box's scores, N x K."""
    if layer.conf_loss_type == "SOFTMAX":
        share = logits.softmax(-1).gather(-1, label[..., None])[..., 0]
        return -share.clamp(min=FLT_MIN).log()
    own = logits.gather(-1, label[..., None])[..., 0]
    return torch.nn.functional.softplus(logits).sum(-1) - own


def _chosen(layer: Any, able: Any, loss: Any, limit: Any, near: tuple[Any, ...]) -> torch.Tensor:
    """Which of the able prior boxes have the greatest losses, up to each item's limit; of equal losses the first."""
    chosen = torch.zeros_like(able)
    for item in range(len(able)):
        order = able[item].nonzero()[:, 0]
        order = order[loss[item, order].sort(descending=True, stable=True).indices]
        if layer.suppression is not None:
            allowed, top = layer.suppression
            order = order[:top] if top > -1 else order
            preds, anchors, spread, _ = (part.float() for part in near)
            boxes = anchors[item]
            if not layer.use_prior_for_nms:
                used = None if layer.encode_variance_in_target else spread
                require_extents(layer.code_type, boxes)
                boxes = decoded_tensor(layer.code_type, boxes, used, preds[item, :, 0])
            order = order[areas(boxes[order]) >= SMALL]
            everything = torch.ones(1, len(order), dtype=torch.bool, device=order.device)
            order = order[left_over(boxes[order][None], everything, allowed, 1.0)[0]]
        chosen[item, order[: int(limit[item])]] = True
    return chosen
