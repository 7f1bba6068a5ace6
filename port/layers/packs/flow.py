"""FlowNet's small layers: Accum, FlowWarp, ChannelNorm, Mean."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import numpy as np
import torch

from prototxt_gen.base.errors import CaffeError

from ..base import Layer, Misfit, register, show
from ..memory import Reads
from .sampling import Pairs, require_cells, sampled, sampled_onnx, sampled_torch


def four_axes(*bottoms) -> None:
    """Raise Misfit for bottoms that are not N x C x H x W."""
    if any(len(b) != 4 for b in bottoms):
        raise Misfit(", ".join(map(show, bottoms)), "4 axes: N, C, H, W", "bottom")


@register
class Accum(Layer):
    """Maps N x C_i x H_i x W_i at one size, side by side along the channels (flownet2's accum_layer).

    Bilinear, corners on corners. The size is the largest bottom's, or top_height x top_width (or the next multiple of
    size_divisible_by) if larger along both axes, or with have_reference that of a last bottom which is not shown.
    """

    type = "Accum"
    pack = "flow"
    known_to_opencv = True
    family = "joining"
    param = ("accum_param",)
    bottom_count = (1, None)

    top_height: int = 0
    top_width: int = 0
    size_divisible_by: int | None = None
    have_reference: bool = False

    def shown(self, bottoms) -> tuple:
        """The bottoms that go into the top."""
        return tuple(bottoms[:-1] if self.have_reference else bottoms)

    def size(self, bottoms) -> tuple[int, int]:
        """Height and width of the top."""
        if self.have_reference:
            return bottoms[-1][2:]
        high, wide = (max(b[axis] for b in bottoms) for axis in (2, 3))
        if self.size_divisible_by is None:
            own = (self.top_height, self.top_width)
        elif self.size_divisible_by:
            own = tuple(ceil(n / self.size_divisible_by) * self.size_divisible_by for n in (high, wide))
        else:
            raise Misfit("size_divisible_by 0", "1 or more", "size_divisible_by")
        return own if own[0] > high and own[1] > wide else (high, wide)

    def top_shapes(self, *bottoms):
        four_axes(*bottoms)
        shown = self.shown(bottoms)
        if not shown or sum(b[1] for b in shown) < 1:
            raise Misfit(f"{len(bottoms)} bottoms with a reference", "channels beside the reference", "have_reference")
        if len({b[0] for b in shown}) > 1:
            raise Misfit(", ".join(map(show, shown)), "equal extents of axis 0", "bottom")
        size = self.size(bottoms)
        require_cells(*shown)
        if min(size) < 2:
            raise Misfit(f"a top of {show(size)}", "extents of 2 or more: the fork divides by one less", "bottom")
        return ((shown[0][0], sum(b[1] for b in shown), *size),)

    @staticmethod
    def pairs(length: int, out: int) -> Pairs:
        """The neighbours of each sample along an axis."""
        share = np.arange(out, dtype=np.float32) / np.float32(out - 1)
        return Pairs.at(share * np.float32(length - 1), length)

    def reference(self, blobs, *bottoms):
        parts, size = list(self.shown(bottoms)), self.size([b.shape for b in bottoms])
        for axis, out in enumerate(size, 2):
            parts = [sampled(part, axis, self.pairs(part.shape[axis], out)) for part in parts]
        return (np.concatenate(parts, 1),)

    def forward(self, module, *bottoms):
        parts, size = list(self.shown(bottoms)), self.size([tuple(b.shape) for b in bottoms])
        for axis, out in enumerate(size, 2):
            parts = [sampled_torch(part, axis, self.pairs(part.shape[axis], out)) for part in parts]
        return (torch.cat(parts, 1),)

    def onnx(self, graph, *bottoms):
        shapes = list(map(graph.shape, bottoms))
        parts, size = list(self.shown(bottoms)), self.size(shapes)
        for i, shape in enumerate(self.shown(shapes)):
            for axis, out in enumerate(size, 2):
                if shape[axis] != out:
                    parts[i] = sampled_onnx(graph, parts[i], axis, self.pairs(shape[axis], out))
        return (parts[0] if len(parts) == 1 else graph.op("Concat", *parts, axis=1),)


@register
class FlowWarp(Layer):
    """N x C x H x W taken at x + flow, y + flow, bilinear; 0 or NaN outside 0 to W and H (flownet2's flow_warp_layer).

    The flow is N x 2 x H x W. Beyond the last cell its value stays.
    """

    type = "FlowWarp"
    known_to_opencv = True
    pack = "flow"
    family = "other"
    param = ("flow_warp_param",)
    bottom_count = (2, 2)

    fill_value: str = "ZERO"

    @property
    def outside(self) -> float:
        return 0.0 if self.fill_value == "ZERO" else float("nan")

    def top_shapes(self, x, flow):
        four_axes(x, flow)
        if flow != (x[0], 2, *x[2:]):
            raise Misfit(f"{show(x)} and a flow of {show(flow)}", f"{show((x[0], 2, *x[2:]))}", "bottom")
        return (x,)

    def reference(self, blobs, x, flow):
        n, _, h, w = x.shape
        flow = flow.astype(np.float32)  # the fork rounds places to float32, which decides what lies outside
        column = flow[:, 0] + np.arange(w, dtype=np.float32)
        row = flow[:, 1] + np.arange(h, dtype=np.float32)[:, None]
        with np.errstate(invalid="ignore"):
            inside = (column >= 0) & (row >= 0) & (column < w) & (row < h)
        column, row = (np.where(inside, place, 0).astype(np.float64) for place in (column, row))
        left, top = column.astype(int), row.astype(int)
        right, bottom = np.minimum(left + 1, w - 1), np.minimum(top + 1, h - 1)
        a, b = (column - left)[:, None], (row - top)[:, None]
        item = np.arange(n)[:, None, None]
        tl, tr, bl, br = (
            np.moveaxis(x[item, :, rows, columns], -1, 1)
            for rows, columns in ((top, left), (top, right), (bottom, left), (bottom, right))
        )
        y = (1 - a) * (1 - b) * tl + a * (1 - b) * tr + (1 - a) * b * bl + a * b * br
        return (np.where(inside[:, None], y, self.outside),)

    def forward(self, module, x, flow):
        n, c, h, w = x.shape
        column = flow[:, 0] + torch.arange(w, device=x.device)
        row = flow[:, 1] + torch.arange(h, device=x.device)[:, None]
        inside = (column >= 0) & (row >= 0) & (column < w) & (row < h)
        column, row = (torch.where(inside, place, 0) for place in (column, row))
        left, top = column.detach().long(), row.detach().long()
        right, bottom = (left + 1).clamp(max=w - 1), (top + 1).clamp(max=h - 1)
        flat, a, b = x.reshape(n, c, h * w), (column - left)[:, None], (row - top)[:, None]

        def corner(rows, columns):
            places = (rows * w + columns).reshape(n, 1, h * w).expand(n, c, h * w)
            return flat.gather(2, places).reshape(n, c, h, w)

        upper = (1 - a) * corner(top, left) + a * corner(top, right)
        lower = (1 - a) * corner(bottom, left) + a * corner(bottom, right)
        return (torch.where(inside[:, None], (1 - b) * upper + b * lower, self.outside),)

    def onnx(self, graph, x, flow):
        _, c, h, w = graph.shape(x)
        one, zero = graph.constant(1.0), graph.constant(0.0)
        sides = []
        for i, (length, along) in enumerate(((w, (1, 1, 1, w)), (h, (1, 1, h, 1)))):
            numbers = np.arange(length, dtype=np.float32).reshape(along)
            place = graph.op("Add", graph.slice(flow, [i], [i + 1], [1]), graph.constant(numbers, name="numbers"))
            low, end = graph.op("GreaterOrEqual", place, zero), graph.op("Less", place, graph.constant(float(length)))
            sides.append((place, graph.op("And", low, end), length))
        inside = graph.op("And", sides[0][1], sides[1][1])
        shares, cells = [], []
        for place, _, length in sides:
            place = graph.op("Where", inside, place, zero)
            low = graph.op("Floor", place)
            shares.append(graph.op("Sub", place, low))
            cells.append((low, graph.op("Min", graph.op("Add", low, one), graph.constant(float(length - 1)))))
        flat = graph.reshape(x, (-1, c, h * w))
        (left, right), (top, bottom) = cells
        rows = []
        for row in (top, bottom):
            ends = [self._corner(graph, flat, row, column, (c, h, w)) for column in (left, right)]
            rows.append(self._between(graph, ends, shares[0]))
        y = self._between(graph, rows, shares[1])
        return (graph.op("Where", inside, y, graph.constant(self.outside)),)

    @staticmethod
    def _corner(graph, flat, row, column, size):
        """The cells of N x C x H W at rows and columns, N x 1 x H x W each."""
        c, h, w = size
        places = graph.op("Add", graph.op("Mul", row, graph.constant(float(w))), column)
        places = graph.op("Cast", graph.reshape(places, (-1, 1, h * w)), to=7)
        places = graph.op("Expand", places, graph.constant([1, c, 1], np.int64))
        return graph.reshape(graph.op("GatherElements", flat, places, axis=2), (-1, c, h, w))

    @staticmethod
    def _between(graph, ends, share):
        """(1 - share) * ends[0] + share * ends[1]."""
        rest = graph.op("Sub", graph.constant(1.0), share)
        return graph.op("Add", graph.op("Mul", rest, ends[0]), graph.op("Mul", share, ends[1]))

    def reads(self):
        return Reads((0, 1))


class _ChannelNorm(torch.autograd.Function):
    """The root of the squares' sum over axis 1; the fork adds 1e-9 to what it divides by, so that 0 has gradient 0."""

    @staticmethod
    def forward(ctx, x):
        y = x.square().sum(1, keepdim=True).sqrt()
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return grad * x / (y + 1e-9)


@register
class ChannelNorm(Layer):
    """The L2 norm over the channels: N x C x H x W to N x 1 x H x W (flownet2's channel_norm_layer)."""

    type = "ChannelNorm"
    pack = "flow"
    family = "pooling"

    def top_shapes(self, x):
        four_axes(x)
        return ((x[0], 1, *x[2:]),)

    def reference(self, blobs, x):
        return (np.sqrt((x * x).sum(1, keepdims=True)),)

    def forward(self, module, x):
        return (_ChannelNorm.apply(x),)

    def onnx(self, graph, x):
        return (graph.reduce("ReduceL2", x, (1,), keep=True),)

    def reads(self):
        return Reads((0,), tops=(0,))


@register
class Mean(Layer):
    """output_scale * (input_scale * x + or - mean_scale * mean) for every bottom, no gradient (flownet2's mean_layer).

    The mean is one value a channel, used in turn, or a binaryproto of C' x H x W with C a multiple of C'.
    """

    type = "Mean"
    pack = "flow"
    family = "normalisation"
    param = ("mean_param",)
    bottom_count = top_count = (1, None)

    operation: str = "ADD"
    file: str | None = None
    value: tuple[float, ...] = ()
    mean_scale: float = 1.0
    input_scale: float = 1.0
    output_scale: float = 1.0

    def mean(self, x) -> np.ndarray:
        """What is added to a bottom, C x 1 x 1 or C x H x W, before output_scale."""
        factor = self.mean_scale * (-1 if self.operation == "SUBTRACT" else 1)
        own = self._from_file(x) if self.file is not None else np.asarray(self.value).reshape(-1, 1, 1)
        if not len(own) or x[1] % len(own):
            raise Misfit(f"{len(own)} channels of a mean for {show(x)}", "a divisor of the channels", "mean_param")
        return factor * np.tile(own, (x[1] // len(own), 1, 1))

    def _from_file(self, x) -> np.ndarray:
        from ...caffemodel import read_blob

        try:
            blob = read_blob(Path(self.file or ""))
        except CaffeError as error:
            raise Misfit(f"the mean cannot be read: {error}", field="file") from None
        mean = np.array(blob.data, np.float64)
        if mean.size % (x[2] * x[3]):
            raise Misfit(f"a mean of {mean.size} values for {show(x)}", "the bottom's height and width", "file")
        return mean.reshape(-1, *x[2:])

    def top_shapes(self, *bottoms):
        four_axes(*bottoms)
        if self.at.tops != len(bottoms):
            raise Misfit(f"{len(bottoms)} bottoms and {self.at.tops} tops", "as many tops as bottoms", "top")
        for bottom in bottoms:
            self.mean(bottom)
        return bottoms

    def reference(self, blobs, *bottoms):
        return tuple(self.output_scale * (self.input_scale * x + self.mean(x.shape)) for x in bottoms)

    def forward(self, module, *bottoms):
        means = [torch.from_numpy(self.mean(tuple(x.shape))).to(x) for x in bottoms]
        pairs = zip(bottoms, means, strict=True)
        return tuple(self.output_scale * (self.input_scale * x.detach() + mean) for x, mean in pairs)

    def onnx(self, graph, *bottoms):
        tops = []
        for x in bottoms:
            y = graph.op("Mul", x, graph.constant(self.input_scale))
            y = graph.op("Add", y, graph.constant(self.mean(graph.shape(x)), name="mean"))
            tops.append(graph.op("Mul", y, graph.constant(self.output_scale)))
        return tuple(tops)
