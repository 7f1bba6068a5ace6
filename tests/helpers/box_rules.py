"""Boxes number by number, by the forks' rules: decoded, measured, laid over one another."""

from __future__ import annotations

from math import exp

import numpy as np

F = np.float32
CODES = ("CORNER", "CENTER_SIZE", "CORNER_SIZE")


def decode(code, prior, spread, loc, kind=float):
    """One box by its four numbers, in a precision."""
    loc = [kind(v) * kind(s) for v, s in zip(loc, spread, strict=True)]
    x1, y1, x2, y2 = map(kind, prior)
    if code == "CORNER":
        return [x1 + loc[0], y1 + loc[1], x2 + loc[2], y2 + loc[3]]
    w, h = x2 - x1, y2 - y1
    if code == "CORNER_SIZE":
        return [x1 + loc[0] * w, y1 + loc[1] * h, x2 + loc[2] * w, y2 + loc[3] * h]
    x, y = loc[0] * w + (x1 + x2) / kind(2), loc[1] * h + (y1 + y2) / kind(2)
    w, h = kind(exp(loc[2])) * w, kind(exp(loc[3])) * h
    return [x - w / kind(2), y - h / kind(2), x + w / kind(2), y + h / kind(2)]


def area(box):
    return F(0) if box[2] < box[0] or box[3] < box[1] else (box[2] - box[0]) * (box[3] - box[1])


def overlap(a, b):
    """Intersection over union of two boxes of float32 numbers."""
    if b[0] > a[2] or b[2] < a[0] or b[1] > a[3] or b[3] < a[1]:
        return F(0)
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if not (w > 0 and h > 0):
        return F(0)
    return w * h / (area(a) + area(b) - w * h)
