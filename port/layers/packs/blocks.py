"""TensorFlow's blocks in synopsys-caffe: SpaceToBatchND and BatchToSpaceND, between which a convolution is dilated."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch

from ..base import Layer, Misfit, register, show


class _Blocks(Layer):
    """Blocks of cells along the axes behind the first one, which become items, or the reverse."""

    pack = "synopsys"
    family = "reshaping"

    block_shape: tuple[int, ...] = ()

    def pairs(self, name: str, values: tuple[int, ...], rank: int) -> list[tuple[int, int]]:
        """Two numbers an axis of a block; raises Misfit unless there are as many."""
        blocks = self.block_shape
        if not blocks or min(blocks) < 1 or len(blocks) >= rank:
            found = f"block_shape {', '.join(map(str, blocks)) or '()'} of an input with {rank} axes"
            raise Misfit(found, f"1 to {rank - 1} numbers above 0", "block_shape")
        if len(values) != 2 * len(blocks):
            raise Misfit(f"{len(values)} {name}", f"{2 * len(blocks)}, two for each of block_shape", name)
        return list(zip(values[::2], values[1::2], strict=True))

    def order(self, rank: int) -> list[int]:
        """Items, blocks and cells of every axis, and the rest: where each stands among blocks, items, cells, rest."""
        count = len(self.block_shape)
        mixed = [axis for i in range(count) for axis in (count + 1 + i, i)]
        return [count, *mixed, *range(2 * count + 1, rank + count)]


@register
class SpaceToBatchND(_Blocks):
    """Cells padded by `paddings` and dealt out: those at one place of their blocks are an item (space_to_batch_nd)."""

    type = "SpaceToBatchND"
    param = ("space_to_batch_nd_param",)

    paddings: tuple[int, ...] = ()

    def wide(self, x) -> tuple[int, ...]:
        """The padded shape."""
        pads = self.pairs("paddings", self.paddings, len(x))
        return (x[0], *(n + sum(p) for n, p in zip(x[1:], pads, strict=False)), *x[1 + len(pads) :])

    def top_shapes(self, x):
        wide, blocks = self.wide(x), self.block_shape
        cells = wide[1 : 1 + len(blocks)]
        if any(n % b for n, b in zip(cells, blocks, strict=True)):
            raise Misfit(
                f"{show(wide)} with its padding", f"multiples of {show(blocks)} behind the first axis", "paddings"
            )
        cells = tuple(n // b for n, b in zip(cells, blocks, strict=True))
        return ((x[0] * prod(blocks), *cells, *x[1 + len(blocks) :]),)

    def split(self, x) -> tuple[int, ...]:
        """The shape with an axis for every block, behind that of its cells; the first axis is -1."""
        top, blocks = self.top_shapes(x)[0], self.block_shape
        mixed = [n for pair in zip(top[1:], blocks, strict=False) for n in pair]
        return (-1, *mixed, *top[1 + len(blocks) :])

    def reference(self, blobs, x):
        pads = self.pairs("paddings", self.paddings, x.ndim)
        wide = np.pad(x, [(0, 0), *pads, *[(0, 0)] * (x.ndim - 1 - len(pads))])
        order = np.argsort(self.order(x.ndim))
        parts = (len(x), *self.split(x.shape)[1:])
        return (wide.reshape(parts).transpose(order).reshape(self.top_shapes(x.shape)[0]),)

    def forward(self, module, x):
        pads = self.pairs("paddings", self.paddings, x.dim())
        plain = [(0, 0)] * (x.dim() - 1 - len(pads))
        sides = [n for pair in reversed([*pads, *plain]) for n in pair]
        wide = torch.nn.functional.pad(x, sides)
        parts = (len(x), *self.split(tuple(x.shape))[1:])
        order = np.argsort(self.order(x.dim())).tolist()
        return (wide.reshape(parts).permute(order).reshape(self.top_shapes(tuple(x.shape))[0]),)

    def onnx(self, graph, x):
        shape = graph.shape(x)
        pads: Any = self.pairs("paddings", self.paddings, len(shape))
        pads = [(0, 0), *pads, *[(0, 0)] * (len(shape) - 1 - len(pads))]
        y = graph.pad(x, *(tuple(p[i] for p in pads) for i in (0, 1)), 0.0)
        y = graph.op("Transpose", graph.reshape(y, self.split(shape)), perm=np.argsort(self.order(len(shape))).tolist())
        return (graph.reshape(y, (-1, *self.top_shapes(shape)[0][1:])),)


@register
class BatchToSpaceND(_Blocks):
    """Items put together to blocks of cells, and cropped by `crops` (batch_to_space_nd)."""

    type = "BatchToSpaceND"
    param = ("batch_to_space_nd_param",)

    crops: tuple[int, ...] = ()

    def whole(self, x) -> tuple[int, ...]:
        """The shape before the crop."""
        self.pairs("crops", self.crops, len(x))
        blocks = self.block_shape
        if x[0] % prod(blocks):
            raise Misfit(f"{x[0]} items", f"a multiple of {prod(blocks)}, the cells of a block", "bottom")
        return (x[0] // prod(blocks), *(n * b for n, b in zip(x[1:], blocks, strict=False)), *x[1 + len(blocks) :])

    def top_shapes(self, x):
        whole, crops = self.whole(x), self.pairs("crops", self.crops, len(x))
        cells = tuple(n - sum(c) for n, c in zip(whole[1:], crops, strict=False))
        if min(cells) < 1:
            raise Misfit(f"{show(whole)} cropped by {', '.join(map(str, self.crops))}", "a cell or more left", "crops")
        return ((whole[0], *cells, *x[1 + len(crops) :]),)

    def kept(self, x) -> list[slice]:
        """What the crop leaves of the axes behind the first."""
        crops = self.pairs("crops", self.crops, len(x))
        return [slice(a, n - b) for n, (a, b) in zip(self.whole(x)[1:], crops, strict=False)]

    def _whole(self, x: Any, shape: tuple[int, ...], transposed: Any) -> Any:
        parts = (*self.block_shape, shape[0] // prod(self.block_shape), *shape[1:])
        y = transposed(x.reshape(parts), self.order(len(shape))).reshape(self.whole(shape))
        return y[(slice(None), *self.kept(shape))]

    def reference(self, blobs, x):
        return (self._whole(x, x.shape, np.transpose),)

    def forward(self, module, x):
        return (self._whole(x, tuple(x.shape), torch.permute),)

    def onnx(self, graph, x):
        shape = graph.shape(x)
        y = graph.reshape(x, (*self.block_shape, -1, *shape[1:]))
        y = graph.op("Transpose", y, perm=self.order(len(shape)))
        y = graph.reshape(y, (-1, *self.whole(shape)[1:]))
        kept = self.kept(shape)
        axes = list(range(1, len(kept) + 1))
        return (graph.slice(y, [k.start for k in kept], [k.stop for k in kept], axes),)
