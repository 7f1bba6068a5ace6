"""What layers that propose regions share: anchors, boxes of deltas, and the best of them by NMS (py-faster-rcnn's).

A box is x1, y1, x2, y2 in pixels of the network's image, and one of x1 = x2 is a pixel wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

BASE = 16  # the side of the box that anchors are made of


def whole_anchors(base: int, ratios: Any, scales: Any) -> np.ndarray:
    """Anchors of all ratios (height over width) and scales, sides rounded before they are scaled; count x 4."""
    found = []
    for ratio in ratios:
        wide = np.floor(np.sqrt(base * base / ratio) + 0.5)
        high = np.floor(wide * ratio + 0.5)
        found += [(wide * scale, high * scale) for scale in scales]
    half = (np.array(found) - 1) / 2
    return (base - 1) / 2 + np.concatenate([-half, half], 1)


@dataclass(frozen=True)
class Proposing:
    """The rule: anchors, and how boxes are ordered, left out and cut."""

    anchors: np.ndarray
    stride: int
    before: int  # how many of the best NMS sees; 0 or less: all
    after: int  # how many of the best are left; 0 or less: all
    threshold: float
    least: float  # side of a box in pixels of the image, times its scale
    anchors_first: bool = False  # candidates stand anchor by anchor, not place by place
    later_first: bool = True  # which of equal scores goes first
    small: str = "dropped"  # what becomes of small boxes: "dropped", "zeroed", or "but the last" dropped
    whole_image: bool = False  # the image's extents are cut to integers

    def order(self, leading: int) -> tuple[int, ...]:
        """Axes of anchors x ... x rows x columns, so that candidates stand in the rule's order."""
        inner = tuple(range(1, leading))
        places = (leading, leading + 1)
        return (0, *places, *inner) if self.anchors_first else (*places, 0, *inner)

    def starts(self, high: int, wide: int) -> tuple[np.ndarray, np.ndarray]:
        """Centres (with the extra half pixel that the decoding has) and sizes of all candidates, count x 2 each."""
        size = self.anchors[:, 2:] - self.anchors[:, :2] + 1
        centre = self.anchors[:, :2] + size / 2
        shift = np.stack(np.meshgrid(np.arange(wide), np.arange(high)), 0) * self.stride  # 2 x rows x columns
        centre = np.broadcast_to(centre[:, :, None, None] + shift, (len(size), 2, high, wide))
        size = np.broadcast_to(size[:, :, None, None], centre.shape)
        return centre.transpose(self.order(2)).reshape(-1, 2), size.transpose(self.order(2)).reshape(-1, 2)

    def reference(self, scores: np.ndarray, deltas: np.ndarray, info: np.ndarray, scale: Any) -> Any:
        """Boxes and scores that one item proposes, best first; scores A x H x W, deltas 4A x H x W."""
        count, high, wide = scores.shape
        centre, size = self.starts(high, wide)
        deltas = deltas.reshape(count, 4, high, wide).transpose(self.order(2)).reshape(-1, 4)
        scores = scores.transpose(self.order(1)).reshape(-1)
        centre, half = centre + deltas[:, :2] * size, np.exp(deltas[:, 2:]) * size / 2
        edge = (np.trunc(info[1::-1]) if self.whole_image else info[1::-1]) - 1
        boxes = np.concatenate([np.maximum(np.minimum(c, edge), 0) for c in (centre - half, centre + half)], 1)
        large = (boxes[:, 2:] - boxes[:, :2] + 1 >= self.least * np.asarray(scale)).all(1)
        if self.small == "zeroed":
            scores = scores * large
        else:
            large[-1:] |= self.small == "but the last"
            boxes, scores = boxes[large], scores[large]
        order = np.argsort(scores, kind="stable")[::-1] if self.later_first else np.argsort(-scores, kind="stable")
        order = order[: self.before] if self.before > 0 else order
        kept: list[int] = []
        left = order
        while len(left) and not 0 < self.after <= len(kept):
            first, left = left[0], left[1:]
            kept.append(first)
            sides = np.minimum(boxes[first, 2:], boxes[left, 2:]) - np.maximum(boxes[first, :2], boxes[left, :2]) + 1
            shared = np.maximum(sides, 0).prod(1)
            area = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
            left = left[~(shared / (area[first] + area[left] - shared) > self.threshold)]
        return boxes[kept], scores[kept]

    def tensors(self, scores: torch.Tensor, deltas: torch.Tensor, info: torch.Tensor, scale: Any) -> Any:
        """The same in torch."""
        count, high, wide = scores.shape
        centre, size = (torch.from_numpy(a.copy()).to(scores) for a in self.starts(high, wide))
        deltas = deltas.unflatten(0, (count, 4)).permute(self.order(2)).reshape(-1, 4)
        scores = scores.permute(self.order(1)).reshape(-1)
        centre, half = centre + deltas[:, :2] * size, deltas[:, 2:].exp() * size / 2
        edge = (info[:2].trunc() if self.whole_image else info[:2]).flip(0) - 1
        boxes = torch.cat([torch.minimum(c, edge).clamp(min=0) for c in (centre - half, centre + half)], 1)
        large = (boxes[:, 2:] - boxes[:, :2] + 1 >= self.least * scale).all(1)
        if self.small == "zeroed":
            scores = scores * large
        else:
            large[-1:] |= self.small == "but the last"
            boxes, scores = boxes[large], scores[large]
        if self.later_first:
            boxes, scores = boxes.flip(0), scores.flip(0)
        order = scores.argsort(descending=True, stable=True)
        order = order[: self.before] if self.before > 0 else order
        boxes, scores = boxes[order], scores[order]
        kept = self._kept(boxes)
        return boxes[kept], scores[kept]

    def _kept(self, boxes: torch.Tensor) -> list[int]:
        """Which of falling boxes NMS leaves, and no more than are wanted."""
        area = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
        gone = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
        kept: list[int] = []
        for i in range(len(boxes)):
            if gone[i]:
                continue
            kept.append(i)
            if 0 < self.after <= len(kept):
                break
            low, top = torch.maximum(boxes[i, :2], boxes[i + 1 :, :2]), torch.minimum(boxes[i, 2:], boxes[i + 1 :, 2:])
            shared = (top - low + 1).clamp(min=0).prod(1)
            gone[i + 1 :] |= shared / (area[i] + area[i + 1 :] - shared) > self.threshold
        return kept

    def onnx(self, graph: Any, scores: str, deltas: str, info: str, scale: str, extent: tuple[int, int]) -> Any:
        """The same as ONNX nodes: scores 1 x A x H x W, deltas 1 x 4A x H x W, info a vector; boxes and scores."""
        high, wide = extent
        count = len(self.anchors)
        centre, size = self.starts(high, wide)
        deltas = graph.op("Transpose", graph.reshape(deltas, (count, 4, high, wide)), perm=self.order(2))
        deltas = graph.reshape(deltas, (-1, 4))
        scores = graph.op("Transpose", graph.reshape(scores, (count, high, wide)), perm=self.order(1))
        scores = graph.reshape(scores, (-1,))
        place, power = (graph.slice(deltas, [i], [i + 2], [1]) for i in (0, 2))
        place = graph.op("Add", graph.op("Mul", place, graph.constant(size)), graph.constant(centre))
        half = graph.op("Mul", graph.op("Exp", power), graph.constant(size / 2))
        edge = graph.op("Gather", info, graph.constant([1, 0], np.int64), axis=0)
        edge = graph.op("Floor", edge) if self.whole_image else edge
        edge = graph.op("Sub", edge, graph.constant(1.0))
        ends = [graph.op(kind, place, half) for kind in ("Sub", "Add")]
        boxes = graph.op(
            "Concat", *(graph.op("Max", graph.op("Min", e, edge), graph.constant(0.0)) for e in ends), axis=1
        )
        boxes, scores = self._chosen_onnx(graph, boxes, scores, scale, len(centre))
        if self.later_first:
            boxes, scores = (graph.slice(part, [-1], [-(2**31)], [0], [-1]) for part in (boxes, scores))
        if self.before > 0:
            most = graph.op("Min", graph.extents(scores, 0), graph.constant([self.before], np.int64))
            scores, best = graph.op("TopK", scores, most, axis=0, outputs=2)
            boxes = graph.op("Gather", boxes, best, axis=0)
        kept = self._kept_onnx(graph, boxes, scores)
        return graph.op("Gather", boxes, kept, axis=0), graph.op("Gather", scores, kept, axis=0)

    def _chosen_onnx(self, graph: Any, boxes: str, scores: str, scale: str, count: int) -> tuple[str, str]:
        low, top = (graph.slice(boxes, [i], [i + 2], [1]) for i in (0, 2))
        sides = graph.op("Add", graph.op("Sub", top, low), graph.constant(1.0))
        least = graph.op("Mul", scale, graph.constant(self.least))
        large = graph.op("Cast", graph.op("Not", graph.op("Less", sides, least)), to=1)
        large = graph.reduce("ReduceMin", large, (1,))
        if self.small == "zeroed":
            return boxes, graph.op("Mul", scores, large)
        if self.small == "but the last":
            large = graph.op("Max", large, graph.constant(np.arange(count) == count - 1))
        where = graph.reshape(graph.op("NonZero", large), (-1,))
        return graph.op("Gather", boxes, where, axis=0), graph.op("Gather", scores, where, axis=0)

    def _kept_onnx(self, graph: Any, boxes: str, scores: str) -> str:
        turned = graph.op("Gather", boxes, graph.constant([1, 0, 3, 2], np.int64), axis=1)
        turned = graph.op("Add", turned, graph.constant([0.0, 0, 1, 1]))  # so that a side is the difference
        kept = graph.op(
            "NonMaxSuppression",
            graph.op("Unsqueeze", turned, graph.constant([0], np.int64)),
            graph.reshape(scores, (1, 1, -1)),
            graph.constant(self.after if self.after > 0 else 2**31 - 1, np.int64),
            graph.constant(min(max(self.threshold, 0.0), 1.0)),
            graph.constant(np.finfo(np.float32).min),
        )
        return graph.reshape(graph.slice(kept, [2], [3], [1]), (-1,))
