"""TensorFlow's Pad and MirrorPad in synopsys-caffe."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..base import Layer, Misfit, at_least, register

MODES: dict[str, Any] = {"REFLECT": "reflect", "SYMMETRIC": "symmetric", "EDGE": "edge"}  # and what NumPy calls them


class _Padding(Layer):
    """Cells around the bottom, `paddings` before and behind every axis in turn."""

    pack = "synopsys"
    family = "reshaping"
    never_in_place = True

    paddings: tuple[int, ...] = ()
    constant_values: float = 0.0

    def pairs(self, rank: int) -> list[tuple[int, int]]:
        """Two numbers an axis; raises Misfit unless there are as many."""
        at_least(1, (0,) * rank)
        if len(self.paddings) != 2 * rank:
            raise Misfit(f"{len(self.paddings)} paddings", f"{2 * rank}, two for each axis", "paddings")
        return list(zip(self.paddings[::2], self.paddings[1::2], strict=True))

    def top_shapes(self, x):
        return (tuple(n + sum(pair) for n, pair in zip(x, self.pairs(len(x)), strict=True)),)

    def reference(self, blobs, x):
        return (np.pad(x, self.pairs(x.ndim), constant_values=self.constant_values),)

    def forward(self, module, x):
        sides = [n for pair in reversed(self.pairs(x.dim())) for n in pair]
        return (torch.nn.functional.pad(x, sides, value=self.constant_values),)

    def onnx(self, graph, x):
        before, behind = zip(*self.pairs(len(graph.shape(x))), strict=True)
        return (graph.pad(x, before, behind, self.constant_values),)


@register
class Pad(_Padding):
    """A constant around the bottom (pad_layer)."""

    type = "Pad"
    param = ("pad_param",)


@register
class MirrorPad(_Padding):
    """The bottom's own values around it: mirrored at its outermost cells (REFLECT) or behind them (SYMMETRIC), or the
    outermost ones (EDGE); a constant in any other mode (mirror_pad_layer)."""

    type = "MirrorPad"
    param = ("mirror_pad_param",)

    mode: str = "CONSTANT"

    def top_shapes(self, x):
        spare = {"REFLECT": 1, "SYMMETRIC": 0}.get(self.mode)
        for axis, (n, pair) in enumerate(zip(x, self.pairs(len(x)), strict=True)):
            if (spare is not None and max(pair) > n - spare) or (self.mode in MODES and max(pair) and not n):
                found = f"{max(pair)} cells beside axis {axis}, which has {n}"
                raise Misfit(found, f"at most {max(n - (spare or 0), 0)}", "paddings")
        return super().top_shapes(x)

    def reference(self, blobs, x):
        if self.mode not in MODES:
            return super().reference(blobs, x)
        return (np.pad(x, self.pairs(x.ndim), MODES[self.mode]),)

    def sources(self, shape: tuple[int, ...]) -> list[tuple[int, list[int]]]:
        """Axes that are padded, and which of its cells each of the top's comes from."""
        found = []
        for axis, (n, (before, behind)) in enumerate(zip(shape, self.pairs(len(shape)), strict=True)):
            if not before and not behind:
                continue
            places = np.arange(-before, n + behind)
            if self.mode == "REFLECT":
                places = (n - 1) - np.abs((n - 1) - np.abs(places))
            elif self.mode == "SYMMETRIC":
                places = np.where(places < 0, -1 - places, np.where(places >= n, 2 * n - 1 - places, places))
            found.append((axis, places.clip(0, n - 1).tolist()))
        return found

    def forward(self, module, x):
        if self.mode not in MODES:
            return super().forward(module, x)
        for axis, places in self.sources(tuple(x.shape)):
            x = x.index_select(axis, torch.tensor(places, device=x.device))
        return (x,)

    def onnx(self, graph, x):
        if self.mode not in MODES:
            return super().onnx(graph, x)
        shape = graph.shape(x)
        for axis, _ in self.sources(shape):
            if graph.follows_batch(x, axis):
                raise Misfit(f"cells beside axis {axis}, which is the batch", "a batch that is not padded", "paddings")
        for axis, places in self.sources(shape):
            x = graph.op("Gather", x, graph.constant(places, np.int64), axis=axis)
        return (x,)
