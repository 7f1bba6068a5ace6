"""InnerDistance: how far each item is from each of a number of centres, learned or given."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch

from ..base import BlobSpec, Layer, Misfit, canonical_axis, per_item, register, show
from ..values import check_places

EPS = 1e-6  # is added to a centre's sum of squares before it is normalised


def leading(graph, y: str, x: str, axis: int) -> str:
    """Items x outputs with the axes of a bottom before `axis` for the items, whatever their extents."""
    if axis == 1:
        return y
    shape = graph.constant([-1], np.int64)
    return graph.op("Reshape", y, graph.op("Concat", graph.extents(x, *range(axis)), shape, axis=0) if axis else shape)


class _Own(torch.autograd.Function):
    """Centres whose gradient comes from the items of their own label alone: scores' gradients are masked by it."""

    @staticmethod
    def forward(ctx, distance, free, mine):
        ctx.save_for_backward(mine)
        return distance.clone()

    @staticmethod
    def backward(ctx, grad):
        (mine,) = ctx.saved_tensors
        return grad, grad * mine, None


@register
class InnerDistance(Layer):
    """Sums of squared (L2) or absolute (L1) differences to `num_output` centres, the axes from `axis` on flattened.

    Centres are the blob (with `normalize` at length 1, in training for good), or a second bottom. With a third, labels,
    and update_center_only a centre's gradient comes from items of its own label alone. `bias_term` is not read
    (happynear's inner_distance_layer).
    """

    type = "InnerDistance"
    pack = "face"
    family = "weights"
    param = ("inner_distance_param",)
    bottom_count = (1, 3)
    no_gradient = (2,)

    num_output: int | None = None
    bias_term: bool = True
    weight_filler: Any = 0.0
    bias_filler: Any = 0.0
    axis: int = 1
    transpose: bool = False
    distance_type: str = "L2"
    normalize: bool = False
    update_center_only: bool = False

    def top_shapes(self, x, *more):
        axis = canonical_axis(self.axis, len(x))
        if self.transpose:
            raise Misfit("transpose", "false: the fork stores centres so, and reads them otherwise", "transpose")
        if self.distance_type not in ("L1", "L2"):
            raise Misfit(f"distance_type {self.distance_type}", "L1 or L2", "distance_type")
        if self.update_center_only != (len(more) == 2):
            raise Misfit(
                f"{1 + len(more)} bottoms", "3, with labels, for update_center_only alone", "update_center_only"
            )
        if more and (len(more[0]) < 1 or prod(more[0][1:]) != prod(x[axis:])):
            raise Misfit(f"centres {show(more[0])} for {show(x)}", f"{prod(x[axis:])} values each", "bottom")
        if more[1:] and prod(more[1]) != prod(x[:axis]):
            raise Misfit(f"{show(more[1])} labels", f"{prod(x[:axis])}", "bottom")
        if not more and not self.num_output:
            raise Misfit("no num_output, or 0", "1 or more", "num_output")
        return ((*x[:axis], more[0][0] if more else self.num_output),)

    def blobs(self, x, *more):
        inputs = prod(x[canonical_axis(self.axis, len(x)) :])
        return [] if more else [BlobSpec("weight", (self.num_output or 0, inputs), self.weight_filler)]

    def flat(self, x) -> Any:
        """A bottom as items x values (NumPy and torch)."""
        axis = canonical_axis(self.axis, x.ndim)
        return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))

    def reference(self, blobs, x, *more):
        rows, centres = self.flat(x), more[0] if more else blobs[0]
        if self.normalize and not more:
            centres = centres / np.sqrt((centres**2).sum(1, keepdims=True) + EPS)
            blobs[0][...] = centres if self.train else blobs[0]
        centres = per_item(centres)
        if more[1:]:
            check_places(more[1], len(centres), "label", bottom=2)
        apart = np.stack([rows - centre for centre in centres], 1)
        y = np.abs(apart).sum(2) if self.distance_type == "L1" else (apart**2).sum(2)
        return (y.reshape(*x.shape[: canonical_axis(self.axis, x.ndim)], len(centres)),)

    def forward(self, module, x, *more):
        rows = self.flat(x)
        centres = more[0] if more else module.blobs[0]
        if self.normalize and not more:
            with torch.no_grad():
                length = (centres.square().sum(1, keepdim=True) + EPS).sqrt()
                if self.train:
                    centres.div_(length)
            centres = centres if self.train else centres / length
        centres = per_item(centres)
        if more[1:]:
            check_places(more[1], len(centres), "label", bottom=2)
            y = self._distance(rows, centres.detach())
            own = torch.arange(len(centres), device=x.device) == more[1].detach().reshape(-1, 1).trunc()
            y = _Own.apply(y, self._distance(rows.detach(), centres), own)
        else:
            y = self._distance(rows, centres)
        return (y.reshape(*x.shape[: canonical_axis(self.axis, x.dim())], len(centres)),)

    def _distance(self, rows: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        apart = rows[:, None] - centres
        return apart.abs().sum(2) if self.distance_type == "L1" else apart.square().sum(2)

    def onnx(self, graph, x, *more):
        shape = graph.shape(x)
        values = prod(shape[canonical_axis(self.axis, len(shape)) :])
        if more:
            centres = graph.reshape(more[0], (1, -1, values))
        else:
            centres = graph.blob(0, (1, self.num_output, values))
            if self.normalize:
                total = graph.reduce("ReduceSumSquare", centres, (2,), keep=True)
                centres = graph.op("Div", centres, graph.op("Sqrt", graph.op("Add", total, graph.constant(EPS))))
        apart = graph.op("Sub", graph.reshape(x, (-1, 1, values)), centres)
        y = graph.reduce("ReduceL1" if self.distance_type == "L1" else "ReduceSumSquare", apart, (2,))
        return (leading(graph, y, x, canonical_axis(self.axis, len(shape))),)

    def multiply_adds(self, bottoms, tops):
        """Values of one item times centres."""
        return prod(tops[0]) * prod(bottoms[0][canonical_axis(self.axis, len(bottoms[0])) :])
