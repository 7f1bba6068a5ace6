"""Boxes of SSD: a prediction decoded by a prior box, and how far two boxes overlap.

What is decided by boxes (which are dropped, which belong to a ground truth) the forks decide in float32, so it is here:
a box that is rounded otherwise may fall on the other side of a threshold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..base import Array, Misfit, Shape, show
from .prior_box import extent

CORNER, CENTER_SIZE, CORNER_SIZE = "CORNER", "CENTER_SIZE", "CORNER_SIZE"


def prior_count(prior: Shape) -> int:
    """The number of boxes of a bottom 1 x 2 x 4K; raises Misfit for another form."""
    found = extent(prior, 2) // 4
    if (extent(prior, 1), extent(prior, 2), extent(prior, 3)) != (2, 4 * found, 1) or not prior[0]:
        raise Misfit(f"prior boxes of {show(prior)}", "1 x 2 x 4K: the boxes, and their variances", "bottom")
    return found


def require_hard(nms_param: Any) -> None:
    """Raise Misfit for the suppression of one fork that lowers scores where the others' leaves boxes out."""
    if nms_param is not None and nms_param.soft_nms:
        raise Misfit("soft_nms", "false: no rule of it is known here", "nms_param")


def require_channels(what: str, shape: Shape, wanted: int) -> None:
    """Raise Misfit unless each item of a bottom holds as many values, along its second axis."""
    if extent(shape, 1) != wanted or extent(shape, 2) * extent(shape, 3) != 1:
        raise Misfit(f"{what} of {show(shape)}", f"N x {wanted}, as the prior boxes and num_classes ask", "bottom")


def require_extents(code: str, prior: Any) -> None:
    """Raise Misfit where a prior box (last axis: its sides) has no extent, which only CORNER can decode."""
    if code != CORNER and not bool((prior[..., 2:] > prior[..., :2]).all()):
        raise Misfit("a prior box without extent", f"widths and heights above 0 for code_type {code}", "bottom")


def decoded(code: str, prior: Array, spread: Array | None, loc: Array) -> Array:
    """Boxes from predictions (last axis: 4) in the precision of `loc`; `spread`: the variances, where they apply."""
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = loc if spread is None else spread * loc
        xmin, ymin, xmax, ymax = np.moveaxis(prior, -1, 0)
        wide, high = xmax - xmin, ymax - ymin
        if code == CORNER:
            return prior + scaled
        if code == CORNER_SIZE:
            return prior + scaled * np.stack([wide, high, wide, high], -1)
        x = scaled[..., 0] * wide + (xmin + xmax) / 2
        y = scaled[..., 1] * high + (ymin + ymax) / 2
        wide = np.exp(scaled[..., 2].astype(np.float64)).astype(loc.dtype) * wide
        high = np.exp(scaled[..., 3].astype(np.float64)).astype(loc.dtype) * high
        return np.stack([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2], -1)


def decoded_tensor(code: str, prior: torch.Tensor, spread: torch.Tensor | None, loc: torch.Tensor) -> torch.Tensor:
    """`decoded` in torch."""
    scaled = loc if spread is None else spread * loc
    low, high = prior[..., :2], prior[..., 2:]
    size = high - low
    if code == CORNER:
        return prior + scaled
    if code == CORNER_SIZE:
        return prior + scaled * torch.cat([size, size], -1)
    centre = scaled[..., :2] * size + (low + high) / 2
    half = scaled[..., 2:].double().exp().to(loc) * size / 2
    return torch.cat([centre - half, centre + half], -1)


def overlaps(a: Array, b: Array) -> Array:
    """Intersection over union of float32 boxes that broadcast; 0 where they only touch, or one is turned inside out."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = sides[..., 0] * sides[..., 1]
    both = _area(a) + _area(b) - common
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((sides > 0).all(-1), common / both, np.float32(0))


def _area(box: Array) -> Array:
    sides = box[..., 2:] - box[..., :2]
    return np.where((sides < 0).any(-1), np.float32(0), sides[..., 0] * sides[..., 1])


def areas(box: torch.Tensor) -> torch.Tensor:
    """Width times height of boxes, 0 of those that are turned inside out."""
    sides = box[..., 2:] - box[..., :2]
    return torch.where((sides < 0).any(-1), 0, sides[..., 0] * sides[..., 1])


def overlap_tensor(a: torch.Tensor, b: torch.Tensor, area_a: torch.Tensor, area_b: torch.Tensor) -> torch.Tensor:
    """`overlaps` in torch, of boxes whose sides stand along the first axis, with the areas that are known."""
    wide = torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])
    high = torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])
    common = wide.clamp_(min=0) * high.clamp_(min=0)
    return torch.where(common > 0, common / (area_a + area_b - common), 0)


def left_over(boxes: torch.Tensor, valid: torch.Tensor, allowed: float, eta: float) -> torch.Tensor:
    """Of rows of boxes, best first, those that overlap none that is kept by more than is allowed; M x K.

    All rows advance together, each to its next box to keep. As the overlap that is allowed never grows, what is
    dropped once is dropped for good.
    """
    kept, rows = torch.zeros_like(valid), torch.arange(len(boxes), device=boxes.device)
    sides, size = boxes.permute(2, 0, 1).contiguous(), areas(boxes)
    ahead, worst = valid.clone(), torch.zeros_like(size)  # not yet decided; the largest overlap with what is kept
    limit = torch.full((len(boxes), 1), allowed, dtype=torch.float32, device=boxes.device)
    passed = 0  # places that all rows have behind them
    while len(rows):
        going = ahead.any(1)
        if not going.all():
            rows, size, worst, limit, ahead = (t[going] for t in (rows, size, worst, limit, ahead))
            sides = sides[:, going]
            continue
        first = ahead.to(torch.uint8).argmax(1, keepdim=True)
        kept[rows, passed + first[:, 0]] = True
        ahead.scatter_(1, first, False)
        overlap = overlap_tensor(sides.gather(2, first.expand(4, -1, 1)), sides, size.gather(1, first), size)
        if eta < 1:
            overlap = worst = torch.maximum(worst, overlap)
            limit = torch.where(limit > 0.5, limit * eta, limit)
        ahead &= overlap <= limit
        start = int(first.min())
        sides, size, worst, ahead = sides[:, :, start:], size[:, start:], worst[:, start:], ahead[:, start:]
        passed += start
    return kept
