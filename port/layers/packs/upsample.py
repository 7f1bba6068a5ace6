"""Upsample: SegNet's, by the mask of a pooling layer, and YOLO's, which repeats values."""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from ..base import Layer, Misfit, register, show
from ..values import check_places


class _Placed(torch.autograd.Function):
    """Rows of values put at rows of places, the last one where several meet; the forks' gradient gives each its own."""

    @staticmethod
    def forward(ctx, values, places, size):
        ctx.save_for_backward(places)
        order = torch.arange(values.shape[1], device=values.device).expand_as(places)
        last = torch.full((len(values), size), -1, device=values.device)
        last = last.scatter_reduce(1, places, order, "amax")
        return torch.where(last < 0, torch.zeros((), dtype=values.dtype), values.gather(1, last.clamp(min=0)))

    @staticmethod
    def backward(ctx, grad):
        (places,) = ctx.saved_tensors
        return grad.gather(1, places), None, None


@register
class MaskUpsample(Layer):
    """N x C x h x w values put where a mask of that shape says in N x C x H x W zeros (SegNet's upsample_layer).

    The mask is a MAX pooling's second top: flat indices into the larger map. The size is upsample_h x upsample_w, or
    scale times the extents, one less along an axis with pad_out.
    """

    type = "Upsample"
    pack = "segnet"
    family = "reshaping"
    param = ("upsample_param",)
    bottom_count = (2, 2)
    no_gradient = (1,)

    scale: int | None = None  # 2 where nothing is given
    scale_h: int | None = None
    scale_w: int | None = None
    pad_out_h: bool = False
    pad_out_w: bool = False
    upsample_h: int | None = None
    upsample_w: int | None = None

    @classmethod
    def claims(cls, message, context):
        """Two bottoms: values and their mask."""
        return len(message.bottom) == 2

    def size(self, x) -> tuple[int, int]:
        """Height and width of the top."""
        if self.upsample_h is not None and self.upsample_w is not None:
            if min(self.upsample_h, self.upsample_w) < 2:
                raise Misfit(f"upsample_h {self.upsample_h}, upsample_w {self.upsample_w}", "2 or more", "upsample_h")
            return self.upsample_h, self.upsample_w
        given = [s for s in (self.scale_h, self.scale_w) if s is not None]
        if given and (len(given) == 1 or self.scale is not None):
            raise Misfit("scale_h or scale_w alone, or beside scale", "both of them, or scale", "scale_h")
        high, wide = given or [2 if self.scale is None else self.scale] * 2
        return self._scaled(x[2], high, self.pad_out_h), self._scaled(x[3], wide, self.pad_out_w)

    def _scaled(self, length: int, scale: int, less: bool) -> int:
        if scale < 2:
            raise Misfit(f"scale {scale}", "2 or more", "scale")
        if less and scale != 2:
            raise Misfit(f"pad_out with scale {scale}", "scale 2", "pad_out_h")
        return length * scale - less

    def top_shapes(self, x, mask):
        if len(x) != 4 or mask != x:
            raise Misfit(f"{show(x)} values and a mask of {show(mask)}", "4 axes, the same shape", "bottom")
        return ((*x[:2], *self.size(x)),)

    def checked(self, x, mask) -> tuple[int, ...]:
        """The shape of the top; raises Misfit for a place outside of it."""
        shape = self.top_shapes(tuple(x.shape), tuple(mask.shape))[0]
        check_places(mask, prod(shape[2:]), "place in the mask")
        return shape

    def reference(self, blobs, x, mask):
        shape = self.checked(x, mask)
        y = np.zeros((prod(shape[:2]), prod(shape[2:])))
        for row, values, places in zip(y, x.reshape(len(y), -1), mask.reshape(len(y), -1).astype(int), strict=True):
            row[places] = values  # of equal places NumPy keeps the last
        return (y.reshape(shape),)

    def forward(self, module, x, mask):
        shape = self.checked(x, mask)
        rows = prod(shape[:2])
        values, places = (b.reshape(rows, prod(x.shape[2:])) for b in (x, mask.detach().long()))
        return (_Placed.apply(values, places, prod(shape[2:])).reshape(shape),)

    def onnx(self, graph, x, mask):
        shape = self.top_shapes(graph.shape(x), graph.shape(mask))[0]
        channels, places = shape[1], graph.op("Cast", mask, to=7)
        flat, places = (graph.reshape(value, (-1, channels, prod(graph.shape(x)[2:]))) for value in (x, places))
        size = graph.constant([channels, prod(shape[2:])], np.int64)
        zeros = graph.op("Expand", graph.constant(0.0), graph.op("Concat", graph.extents(x, 0), size, axis=0))
        return (graph.like_top(graph.op("ScatterElements", zeros, places, flat, axis=2), 0),)


@register
class RepeatUpsample(Layer):
    """Each cell of N x C x H x W repeated `scale` times along both axes (the YOLO forks' upsample_layer)."""

    type = "Upsample"
    pack = "yolo"
    family = "reshaping"
    param = ("upsample_param",)

    scale: int = 1

    @classmethod
    def claims(cls, message, context):
        """One bottom."""
        return len(message.bottom) == 1

    def top_shapes(self, x):
        if len(x) != 4:
            raise Misfit(f"an input with {len(x)} axes", "4 axes: N, C, H, W", "bottom")
        if self.scale < 1:
            raise Misfit(f"scale {self.scale}", "1 or more", "scale")
        return ((*x[:2], x[2] * self.scale, x[3] * self.scale),)

    def reference(self, blobs, x):
        return (x.repeat(self.scale, 2).repeat(self.scale, 3),)

    def forward(self, module, x):
        n, c, h, w = x.shape
        wide = x[:, :, :, None, :, None].expand(n, c, h, self.scale, w, self.scale)
        return (wide.reshape(n, c, h * self.scale, w * self.scale),)

    def onnx(self, graph, x):
        scales = graph.constant([1.0, 1.0, self.scale, self.scale], name="scales")
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return (graph.op("Resize", x, "", scales, **how),)
