"""What the forks' YOLO losses share: boxes of maps, overlaps with the truth, and a gradient that is no derivative.

These losses add up the squares of numbers (here deltas) that the forks then hand back as the gradient: without the 2,
and without what the deltas themselves depend on.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch

from ..base import Misfit, show
from ..losses import Loss, over_items
from ..memory import Reads


class Truth(NamedTuple):
    """A labelled box: its class, its centre and its extents, all but the class in shares of the image."""

    label: int
    x: float
    y: float
    w: float
    h: float


class Deltas(torch.autograd.Function):
    """A given loss whose gradient is given as well."""

    @staticmethod
    def forward(ctx, x, loss, gradient):
        ctx.save_for_backward(gradient)
        return loss.clone()

    @staticmethod
    def backward(ctx, grad):
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None, None


class YoloLoss(Loss):
    """A map N x (boxes * (5 + classes)) x H x W against labelled boxes; the top is a scalar."""

    pack = "yolo"
    no_gradient = (1,)

    biases: tuple[float, ...] = ()
    num_class: int = 20

    @property
    def count(self) -> int:
        """Boxes of a cell."""
        raise NotImplementedError

    def top_shapes(self, x, label):
        if len(x) != 4:
            raise Misfit(f"a map of {len(x)} axes", "4: N, C, H, W", "bottom")
        if x[1] != self.count * (5 + self.num_class):
            found = f"{x[1]} channels for {self.count} boxes of {5 + self.num_class} values"
            raise Misfit(found, f"{self.count * (5 + self.num_class)}", "bottom")
        self.check(x, label)
        return ((),)

    def check(self, x, label):
        """Raise Misfit for fields and labels that do not fit the map."""
        raise NotImplementedError

    def of_rows(self, label: Any) -> bool:
        """Whether labels are SSD's rows, which another fork's rule goes with."""
        return False

    def truths(self, label: np.ndarray, items: int) -> list[list[Truth]]:
        """The labelled boxes of every item."""
        return [lines_of_item(rows, self.num_class) for rows in label.reshape(items, -1, 5)] if items else []

    def cells(self, x: Any) -> Any:
        """A bottom as N x boxes x values x cells (NumPy and torch)."""
        return x.reshape(x.shape[0], self.count, 5 + self.num_class, prod(x.shape[2:]))

    def deltas(self, cells: np.ndarray, truths: list[Truth], extent: tuple[int, ...], rows: bool) -> Any:
        """Of one item: the deltas, and what is handed back as the gradient; both boxes x values x cells."""
        raise NotImplementedError

    def delta_tensors(self, cells: torch.Tensor, truths: list[Truth], extent: tuple[int, ...], rows: bool) -> Any:
        """The same in torch."""
        raise NotImplementedError

    def reference(self, blobs, x, label):
        rows, truths = self.of_rows(label), self.truths(label, len(x))
        found = [self.deltas(c, t, x.shape[2:], rows) for c, t in zip(self.cells(x), truths, strict=True)]
        total = sum((delta * delta).sum() for delta, _ in found)
        return (np.asarray(float(total)) if rows else over_items(total, len(x)),)

    def forward(self, module, x, label):
        rows, extent = self.of_rows(label), tuple(x.shape[2:])
        truths = self.truths(label.detach().to("cpu", torch.float64).numpy(), len(x))
        if not len(x):
            return (x.sum() * (1 if rows else float("nan")),)
        with torch.no_grad():
            cells = self.cells(x.detach())
            found = [self.delta_tensors(c, t, extent, rows) for c, t in zip(cells, truths, strict=True)]
            loss = torch.stack([delta.square().sum() for delta, _ in found]).sum()
            gradient = torch.stack([back for _, back in found]).reshape(x.shape) / len(x)
        return (Deltas.apply(x, loss if rows else loss / len(x), gradient),)

    def onnx(self, graph, x, label):
        found = "labelled boxes that overwrite each other's cells, one after the other"
        raise Misfit(found, "a net in TEST phase: ONNX leaves open which of several writes counts", "type")

    def reads(self):
        return Reads()


def lines_of_item(rows: np.ndarray, classes: int) -> list[Truth]:
    """The boxes of lines [class, x, y, w, h] up to the first without a centre and a width."""
    found = []
    for line in rows:
        if line[1] == 0 and line[3] == 0:
            break
        found.append(truth_of(line, classes))
    return found


def truth_of(line: np.ndarray, classes: int) -> Truth:
    """A labelled box; raises Misfit for one that ends the forks' list, or makes them write beside their arrays."""
    label, x, y, w, h = line.tolist()
    if not -1 < label < classes:
        raise Misfit(f"the label {label:g} of a box", f"0 to {classes - 1}", "bottom")
    if not (0 < x <= 1 and 0 <= y <= 1 and w > 0 and h > 0):
        found = f"a labelled box at {x:g}, {y:g} of {w:g} x {h:g}"
        raise Misfit(found, "its centre within the image, and an area", "bottom")
    return Truth(int(label), x, y, w, h)


def cell_of(truth: Truth, extent: tuple[int, ...]) -> tuple[int, int, int]:
    """Column, row and place of the cell that holds a box's centre, in float32 as the forks have it."""
    high, wide = extent
    column, row = int(np.float32(truth.x) * np.float32(wide)), int(np.float32(truth.y) * np.float32(high))
    if row * wide + column >= high * wide:
        raise Misfit(f"a labelled box at {truth.x:g}, {truth.y:g}", "its centre within the map", "bottom")
    return column, row, row * wide + column


def overlap(a: np.ndarray, truth: tuple[float, ...]) -> np.ndarray:
    """Of boxes (... x 4: x, y, w, h) with one: the shared area over the joint one."""
    b = np.asarray(truth)
    low = np.maximum(a[..., :2] - a[..., 2:] / 2, b[:2] - b[2:] / 2)
    sides = np.minimum(a[..., :2] + a[..., 2:] / 2, b[:2] + b[2:] / 2) - low
    inside = np.where((sides < 0).any(-1), 0, sides.prod(-1))
    return inside / (a[..., 2] * a[..., 3] + b[2] * b[3] - inside)


def overlap_tensors(boxes: list[torch.Tensor], truths: list[Truth]) -> torch.Tensor:
    """The same in torch, of boxes (their x, y, w and h) with all truths: boxes' shape x truths."""
    b = boxes[0].new_tensor([t[1:] for t in truths]).unbind(1)
    x, y, w, h = (v[..., None] for v in boxes)
    wide = torch.minimum(x + w / 2, b[0] + b[2] / 2) - torch.maximum(x - w / 2, b[0] - b[2] / 2)
    high = torch.minimum(y + h / 2, b[1] + b[3] / 2) - torch.maximum(y - h / 2, b[1] - b[3] / 2)
    inside = torch.where((wide < 0) | (high < 0), 0, wide * high)
    return inside / (w * h + b[2] * b[3] - inside)


def best_shape(shapes: np.ndarray, truth: Truth) -> int:
    """Which of widths and heights (count x 2) overlaps a box's most when both have one centre."""
    centred = np.concatenate([np.zeros(shapes.shape), shapes], 1)
    return int(overlap(centred, (0, 0, truth.w, truth.h)).argmax())


def check_lines(x: tuple[int, ...], label: tuple[int, ...], lines: int = 300) -> None:
    """Raise Misfit unless the labels are `lines` lines of 5 an item."""
    if prod(label) != x[0] * lines * 5 or label[:1] != x[:1]:
        raise Misfit(f"{show(label)} labels for {show(x)}", f"{x[0]} x 1 x {lines} x 5", "bottom")
