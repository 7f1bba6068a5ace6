"""What the tests of YOLO's layers share: overlaps in plain numbers, and labelled boxes."""

from __future__ import annotations

import math

import numpy as np


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def overlap(a, b) -> float:
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2) for i in (0, 1)
    ]
    inside = 0 if min(sides) < 0 else sides[0] * sides[1]
    return inside / (a[2] * a[3] + b[2] * b[3] - inside)


def labelled(random, items: int, classes: int, most: int = 4):
    """Boxes of every item: class, x, y, w, h in float32; two of them in one cell."""
    found = []
    for _ in range(items):
        rows = [
            [random.randint(classes), *random.uniform(0.1, 0.9, 2), *random.uniform(0.05, 0.8, 2)]
            for _ in range(random.randint(0, most + 1))
        ]
        rows += [[random.randint(classes), *rows[0][1:3], *random.uniform(0.05, 0.8, 2)]] if rows else []
        found.append(np.float32(rows).reshape(-1, 5).astype(np.float64))
    return found


def in_lines(boxes) -> np.ndarray:
    label = np.zeros((len(boxes), 1, 300, 5))
    for item, rows in enumerate(boxes):
        label[item, 0, : len(rows)] = rows
    return label


def in_rows(boxes, random) -> np.ndarray:
    """SSD's rows in random order of items, with one that belongs to none."""
    rows = [[-1, 1, 0, 0.1, 0.1, 0.2, 0.2, 0]]
    for item, lines in enumerate(boxes):
        for kind, x, y, w, h in lines:
            rows.append([item, kind + 1, 0, x - w / 2, y - h / 2, x + w / 2, y + h / 2, random.randint(2)])
    return np.float32(rows)[None, None]
