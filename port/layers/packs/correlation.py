"""Correlation and Correlation1D: FlowNet's and DispNet's comparison of two maps at displacements."""

from __future__ import annotations

from math import ceil

import numpy as np
import torch
import torch.nn.functional as F

from ..base import Layer, Misfit, register
from ..memory import Reads
from .flow import four_axes

Offset = tuple[int, int]  # along y and x


class _Correlating(Layer):
    """What both share: patches of a padded map against displaced ones, mean over patch and channels.

    A bottom is N x C x H x W, the top N x displacements x H' x W'. The gradient of SUBTRACT is that of the absolute
    difference; the fork takes the sign at another place.
    """

    pack = "flow"
    family = "other"
    param = ("correlation_param",)
    bottom_count = (2, 2)

    pad: int = 0
    kernel_size: int | None = None
    max_displacement: int | None = None
    stride_1: int = 1
    stride_2: int = 1
    do_abs: bool = False
    correlation_type: str = "MULTIPLY"

    def radius(self) -> int:
        """The number of displacements to one side."""
        return (self.max_displacement or 0) // self.stride_2

    def reach(self) -> Offset:
        """How far patches are displaced along y and x: what the top leaves out of the bottom at each end."""
        raise NotImplementedError

    def padding(self) -> Offset:
        """Cells of 0 around the bottom along y and x."""
        raise NotImplementedError

    def displacements(self) -> list[Offset]:
        """The displacement of each channel of the top."""
        raise NotImplementedError

    def top_shapes(self, a, b):
        four_axes(a, b)
        if a != b:
            raise Misfit(f"bottoms of {a} and {b}", "equal shapes", "bottom")
        if not self.kernel_size or self.kernel_size % 2 == 0 or self.max_displacement is None:
            found = f"kernel_size {self.kernel_size}, max_displacement {self.max_displacement}"
            raise Misfit(found, "an odd kernel and a displacement", "kernel_size")
        if min(self.stride_1, self.stride_2) < 1:
            raise Misfit(f"stride_1 {self.stride_1}, stride_2 {self.stride_2}", "both above 0", "stride_1")
        if self.do_abs:
            raise Misfit("do_abs", "false: the forks read it and do nothing", "do_abs")
        out = [
            ceil((n + 2 * pad - 2 * reach - (self.kernel_size - 1)) / self.stride_1)
            for n, pad, reach in zip(a[2:], self.padding(), self.reach(), strict=True)
        ]
        if min(out) < 1:
            raise Misfit(f"a neighbourhood larger than the padded {a[2]}x{a[3]}", "a larger pad", "max_displacement")
        return ((a[0], len(self.displacements()), *out),)

    def front(self) -> int:
        """Columns of 0 that are needed in front of the padding, where a patch starts before it."""
        return max(0, *(-self.reach()[1] - x for _, x in self.displacements()))

    def reference(self, blobs, a, b):
        top, size = self.top_shapes(a.shape, b.shape)[0], self.kernel_size or 0
        (high, wide), front = self.padding(), self.front()
        a, b = (np.pad(m, [(0, 0), (0, 0), (high, high), (wide + front, wide)]) for m in (a, b))
        y, (down, right) = np.zeros(top), self.reach()
        for channel, (dy, dx) in enumerate(self.displacements()):
            for row, column in np.ndindex(top[2:]):
                at = (row * self.stride_1 + down, column * self.stride_1 + right + front)
                first = a[:, :, at[0] : at[0] + size, at[1] : at[1] + size]
                at = (at[0] + dy, at[1] + dx)
                second = b[:, :, at[0] : at[0] + size, at[1] : at[1] + size]
                terms = first * second if self.correlation_type == "MULTIPLY" else np.abs(first - second)
                y[:, channel, row, column] = terms.mean((1, 2, 3))
        return (y,)

    def forward(self, module, a, b):
        (high, wide), (down, right), front = self.padding(), self.reach(), self.front()
        h, w = a.shape[2] + 2 * (high - down), a.shape[3] + 2 * (wide - right)
        a, b = (F.pad(m, (wide + front, wide, high, high)) for m in (a, b))
        first = a[:, :, down : down + h, right + front : right + front + w]
        parts = []
        for dy, dx in self.displacements():
            row, column = down + dy, right + front + dx
            second = b[:, :, row : row + h, column : column + w]
            terms = first * second if self.correlation_type == "MULTIPLY" else (first - second).abs()
            parts.append(terms.mean(1, keepdim=True))
        return (F.avg_pool2d(torch.cat(parts, 1), self.kernel_size or 0, min(self.stride_1, max(h, w))),)

    def onnx(self, graph, a, b):
        shape = graph.shape(a)
        (high, wide), (down, right), front = self.padding(), self.reach(), self.front()
        h, w = shape[2] + 2 * (high - down), shape[3] + 2 * (wide - right)
        a, b = (graph.pad(m, (0, 0, high, wide + front), (0, 0, high, wide), 0.0) for m in (a, b))
        first = graph.slice(a, [down, right + front], [down + h, right + front + w], [2, 3])
        parts = []
        for dy, dx in self.displacements():
            row, column = down + dy, right + front + dx
            second = graph.slice(b, [row, column], [row + h, column + w], [2, 3])
            multiply = self.correlation_type == "MULTIPLY"
            terms = graph.op("Mul", first, second) if multiply else graph.op("Abs", graph.op("Sub", first, second))
            parts.append(graph.reduce("ReduceMean", terms, (1,), keep=True))
        y = parts[0] if len(parts) == 1 else graph.op("Concat", *parts, axis=1)
        if self.kernel_size == 1 and self.stride_1 == 1:
            return (y,)
        size, stride = self.kernel_size, self.stride_1
        return (graph.op("AveragePool", y, kernel_shape=(size, size), strides=(stride, stride)),)

    def reads(self):
        return Reads((0, 1))


@register
class Correlation(_Correlating):
    """Patches of the first bottom against the second's, displaced along both axes (flownet2's correlation_layer)."""

    type = "Correlation"
    known_to_opencv = True

    def reach(self):
        return (self.max_displacement or 0,) * 2

    def padding(self):
        return (self.pad,) * 2

    def displacements(self):
        steps = [step * self.stride_2 for step in range(-self.radius(), self.radius() + 1)]
        return [(dy, dx) for dy in steps for dx in steps]


@register
class Correlation1D(_Correlating):
    """Patches of the first bottom against the second's, displaced along x alone (flownet2's correlation_layer1d).

    single_direction -1 looks to the left, one step farther than it should, 1 to the right, 0 both ways. Where the step
    too far leaves the padding, the fork's memory holds the end of the row above, which is 0 if the pad is as wide.
    """

    type = "Correlation1D"

    single_direction: int = 0

    def reach(self):
        return 0, self.max_displacement or 0

    def padding(self):
        return 0, self.pad

    def displacements(self):
        radius = self.radius()
        steps = {-1: range(-radius - 1, 0), 0: range(-radius, radius + 1), 1: range(radius + 1)}[self.single_direction]
        return [(0, step * self.stride_2) for step in steps]

    def top_shapes(self, a, b):
        if self.single_direction not in (-1, 0, 1):
            raise Misfit(f"single_direction {self.single_direction}", "-1, 0 or 1", "single_direction")
        shapes = super().top_shapes(a, b)
        if self.front() > self.pad:
            raise Misfit(f"pad {self.pad} with single_direction -1", f"{self.front()} or more", "pad")
        return shapes
