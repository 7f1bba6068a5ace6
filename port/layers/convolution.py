"""Convolution, and what Deconvolution shares with it: any number of spatial axes, groups, dilation, several bottoms."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F

from .base import BlobSpec, Layer, Misfit, canonical_axis, register, same_shape
from .memory import Reads
from .spatial import (
    INT_MAX,
    conv_extent,
    end_pad,
    offsets,
    padded,
    per_axis,
    require,
    require_reach,
    same_pads,
    telling,
    window,
)

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class Convolving(Layer):
    """What both directions share: the fields of `convolution_param` and how they are read."""

    param: ClassVar[tuple[str, ...]] = ("convolution_param",)
    bottom_count: ClassVar[tuple[int, int | None]] = (1, None)
    top_count: ClassVar[tuple[int, int | None]] = (1, None)
    bias_axes: ClassVar[tuple[int, ...]] = ()  # extents of 1 before the bias's own
    spreads: ClassVar[bool] = False  # each input cell goes to many: the transpose

    num_output: int | None = None
    bias_term: bool = True
    pad: Any = ()
    kernel_size: Any = ()
    stride: Any = ()
    dilation: tuple[int, ...] = ()
    pad_h: int | None = None
    pad_w: int | None = None
    kernel_h: int | None = None
    kernel_w: int | None = None
    stride_h: int | None = None
    stride_w: int | None = None
    group: int = 1
    weight_filler: Any = 0.0
    bias_filler: Any = 0.0
    engine: str = "DEFAULT"
    axis: int = 1
    force_nd_im2col: bool = False

    def channel_axis(self, shape) -> int:
        if len(shape) != 4 and self.at.habits.convolves_planes_alone:
            raise Misfit(f"an input with {len(shape)} axes", "4 axes: the fork has 2-D convolution only", "bottom")
        return canonical_axis(self.axis, len(shape))

    def groups(self, channels: int) -> int:
        """Into how many groups that many input channels are divided."""
        return self.group

    @property
    def holes(self) -> tuple[str, Any, int | None, int | None]:
        """The distance between a kernel's cells: its field, and what that gives for all axes, or height and width."""
        return "dilation", self.dilation, None, None

    def sizes(self, axes: int):
        """kernel, stride, pad and dilation, one number per spatial axis."""
        kernel = per_axis("kernel_size", self.kernel_size, self.kernel_h, self.kernel_w, axes, None if axes else 1)
        stride = per_axis("stride", self.stride, self.stride_h, self.stride_w, axes, 1)
        pad = per_axis("pad", self.pad, self.pad_h, self.pad_w, axes, 0, alone=self.at.habits.half_a_pad_is_enough)
        dilation = per_axis(*self.holes, axes, 1)
        require("kernel_size", kernel, 1)
        require("stride", stride, 1)
        require(self.holes[0], dilation, 1)
        require("pad", pad, 0)
        return kernel, stride, pad, dilation

    def checked(self, bottoms):
        """Channel axis and sizes of one bottom; raises Misfit for what Caffe refuses."""
        if self.at.bottoms != self.at.tops:
            raise Misfit(f"{self.at.bottoms} bottoms and {self.at.tops} tops", "as many tops as bottoms", "top")
        same_shape(bottoms)
        axis = self.channel_axis(bottoms[0])
        channels, outputs = bottoms[0][axis], self.num_output
        if not outputs:
            raise Misfit("no num_output, or 0", "1 or more", "num_output")
        group = self.groups(channels)
        if group < 1 or channels % group or outputs % group:
            found = f"group {group} with {channels} input channels and num_output {outputs}"
            raise Misfit(found, "a group that divides both", "group")
        sizes = self.sizes(len(bottoms[0]) - axis - 1)
        require_reach(bottoms[0][axis + 1 :], sizes[0], sizes[2], sizes[3])
        return axis, sizes

    def with_bias(self, weight: tuple[int, ...]) -> list[BlobSpec]:
        specs = [BlobSpec("weight", weight, self.weight_filler)]
        if self.bias_term:
            specs.append(BlobSpec("bias", (*self.bias_axes, self.num_output or 0), self.bias_filler))
        return specs

    def each(self, apply, blobs, bottoms):
        """Apply to every bottom with its leading axes joined into one, and put them back."""
        weight, bias = blobs[0], blobs[1].reshape(-1) if self.bias_term else None
        tops = []
        for x in bottoms:
            axis, sizes = self.checked([tuple(x.shape)])
            if not prod(x.shape):
                tops.append(self.of_nothing(x, weight, bias, axis))
                continue
            y = apply(x.reshape(-1, *x.shape[axis:]), weight, bias, *sizes)
            tops.append(y.reshape(*x.shape[:axis], *y.shape[1:]))
        return tuple(tops)

    def longest(self, lengths, pad) -> tuple[int, ...]:
        """The longest stride that makes a difference: beyond it a single step is left."""
        if self.spreads:
            return tuple(1 if n == 1 else INT_MAX for n in lengths)
        return tuple(n + 2 * p + 1 for n, p in zip(lengths, pad, strict=True))

    def of_nothing(self, x, weight, bias, axis: int):
        """The top of a bottom without values: the bias alone; every gradient but the bias's is 0."""
        top = self.top_shapes(tuple(x.shape))[0]
        y = np.zeros(top) if isinstance(x, np.ndarray) else x.new_zeros(top)
        y = y + x.sum() + weight.reshape(-1)[:0].sum()
        return y if bias is None else y + bias.reshape(-1, *[1] * (len(top) - axis - 1))

    def buffers(self, *bottoms):
        """A padded copy, and the unfolded windows of one item."""
        axis, (kernel, stride, pad, dilation) = self.checked(bottoms[:1])
        out = self.top_shapes(*bottoms)[0][axis + 1 :]
        if self.spreads:
            unfolded, wide = bottoms[0][axis + 1 :], [n + 2 * p for n, p in zip(out, pad, strict=True)]
        else:
            unfolded, reach = out, map(end_pad, bottoms[0][axis + 1 :], out, kernel, stride, pad, dilation)
            wide = [n + p + max(p, e) for n, p, e in zip(bottoms[0][axis + 1 :], pad, reach, strict=True)]
        cells = max(bottoms[0][axis], self.num_output or 0)
        return prod(bottoms[0][:axis]) * cells * prod(wide) + cells * prod(kernel) * prod(unfolded)

    def onnx_each(self, graph, op, bottoms, pads_of):
        """One ONNX node per bottom, between reshapes where the channel axis is not 1 or there is no spatial axis."""
        tops: list[str] = []
        for x in bottoms:
            shape = graph.shape(x)
            axis, (kernel, stride, pad, dilation) = self.checked([shape])
            spatial = shape[axis + 1 :]
            plain = axis == 1 and spatial
            if not spatial:  # a window of one cell on one made-up axis
                spatial, kernel, stride, pad, dilation = (1,), (1,), (1,), (0,), (1,)
            weight = graph.blob(0, None if len(shape) > axis + 1 else (*graph.blob_shape(0), 1))
            inner = x if plain else graph.reshape(x, (-1, shape[axis], *spatial))
            pads = pads_of(spatial, kernel, stride, pad, dilation)
            stride, dilation = telling(self.longest(spatial, pad), kernel, stride, dilation)
            y = graph.op(
                op,
                inner,
                weight,
                *([graph.blob(1, (-1,))] if self.bias_term else []),
                kernel_shape=kernel,
                strides=stride,
                dilations=dilation,
                group=self.groups(shape[axis]),
                **pads,
            )
            tops.append(y if plain else graph.like_top(y, len(tops)))
        return tuple(tops)

    def multiply_adds(self, bottoms, tops):
        """Weights of one output cell times output cells."""
        axis, (kernel, *_) = self.checked(bottoms[:1])
        inputs = bottoms[0][axis] // self.groups(bottoms[0][axis])
        return sum(prod(top) * inputs * prod(kernel) for top in tops)

    def spares_top(self):
        return True

    def reads(self):
        return Reads(tuple(range(self.at.bottoms)))


@register
class Convolution(Convolving):
    """Cross-correlation with zero padding; semantics 1.1 (base_conv_layer, conv_layer).

    The first DeepLab's fork calls its dilation `hole`; synopsys's pads the four sides of a plane on their own (`pad_t`,
    ...), or by `pad_type: 1` as "same", whatever the dilation.
    """

    type = "Convolution"
    family = "weights"
    in_bfloat16 = True

    hole: int | None = None
    hole_h: int | None = None
    hole_w: int | None = None
    pad_type: int | None = None
    pad_t: int = 0
    pad_b: int = 0
    pad_l: int = 0
    pad_r: int = 0

    @property
    def uneven(self) -> bool:
        """Whether the pads before and after the map may differ."""
        return bool(self.pad_type or self.pad_t or self.pad_b or self.pad_l or self.pad_r)

    def sizes(self, axes):
        kernel, stride, pad, dilation = super().sizes(axes)
        if self.pad_type not in (None, 0, 1):
            raise Misfit(f"pad_type {self.pad_type}", "0 (none), or 1 (as many windows as strides)", "pad_type")
        if not self.uneven:
            return kernel, stride, pad, dilation
        before, after = (self.pad_t, self.pad_l), (self.pad_b, self.pad_r)
        plain = self.pad not in (None, ()) or any(pad)
        if plain + any(before + after) + bool(self.pad_type) > 1:
            raise Misfit("two of pad, pad_t to pad_r and pad_type", "one of them", "pad")
        if axes != 2:
            raise Misfit(f"pads of four sides on {axes} spatial axes", "2", "pad")
        if any(before + after) and kernel == stride == (1, 1):
            raise Misfit("pad_t to pad_r with a kernel and a stride of 1", "none: its fork forgets them", "pad")
        require("pad", before + after, 0)
        return kernel, stride, before, dilation

    def laid(self, lengths, kernel, stride, pad, dilation):
        """The pads before the axes, and the output extents."""
        if self.pad_type:
            pad = tuple(same_pads(*axis)[0] for axis in zip(lengths, kernel, stride, strict=True))
            return pad, tuple(-(-n // s) for n, s in zip(lengths, stride, strict=True))
        if self.uneven:  # conv_extent adds the pad before once too often
            after = (self.pad_b, self.pad_r)
            lengths = tuple(n + a - p for n, a, p in zip(lengths, after, pad, strict=True))
        return pad, tuple(map(conv_extent, lengths, kernel, stride, pad, dilation))

    @property
    def holes(self):
        if self.hole is None and self.hole_h is None and self.hole_w is None:
            return super().holes
        if self.dilation:
            raise Misfit("both dilation and hole", "one of them", "hole")
        return "hole", self.hole, self.hole_h, self.hole_w

    def top_shapes(self, *bottoms):
        axis, sizes = self.checked(bottoms)
        _, spatial = self.laid(bottoms[0][axis + 1 :], *sizes)
        if any(extent < 1 for extent in spatial):
            raise Misfit(
                f"an input of {'x'.join(map(str, bottoms[0][axis + 1 :]))} that the kernel does not fit into",
                "an input (with its padding) at least as large as the kernel",
                "kernel_size",
            )
        return tuple((*b[:axis], self.num_output or 0, *spatial) for b in bottoms)

    def blobs(self, *bottoms):
        axis, (kernel, *_) = self.checked(bottoms)
        channels = bottoms[0][axis]
        return self.with_bias((self.num_output or 0, channels // self.groups(channels), *kernel))

    def reference(self, blobs, *bottoms):
        def apply(x, weight, bias, kernel, stride, pad, dilation):
            pad, out = self.laid(x.shape[2:], kernel, stride, pad, dilation)
            x = padded(x, pad, tuple(map(end_pad, x.shape[2:], out, kernel, stride, pad, dilation)))
            group = self.groups(x.shape[1])
            x = x.reshape(x.shape[0], group, x.shape[1] // group, *x.shape[2:])
            weight = weight.reshape(group, -1, *weight.shape[1:])
            y = np.zeros((x.shape[0], group, weight.shape[1], prod(out)))
            for at in offsets(kernel):
                cells = x[(..., *window(at, out, stride, dilation))]
                y += weight[(..., *at)] @ cells.reshape(*cells.shape[:3], prod(out))
            y = y.reshape(x.shape[0], y.shape[1] * y.shape[2], *out)
            return y if bias is None else y + bias.reshape(-1, *[1] * len(out))

        return self.each(apply, blobs, bottoms)

    def forward(self, module, *bottoms):
        def apply(x, weight, bias, kernel, stride, pad, dilation):
            axes = len(kernel)
            if axes == 0:
                return apply(x[..., None], weight[..., None], bias, (1,), (1,), (0,), (1,))[..., 0]
            if axes not in _CONV:
                raise Misfit(f"{axes} spatial axes", "at most 3 in PyTorch and ONNX", "bottom")
            pad, out = self.laid(x.shape[2:], kernel, stride, pad, dilation)
            stride, dilation = telling(self.longest(x.shape[2:], pad), kernel, stride, dilation)
            ends = tuple(map(end_pad, x.shape[2:], out, kernel, stride, pad, dilation))
            if self.uneven or any(e > p for e, p in zip(ends, pad, strict=True)):
                # Caffe's truncating division lets a kernel reach past the padding; torch would refuse
                x = F.pad(x, [n for p, e in zip(pad[::-1], ends[::-1], strict=True) for n in (p, e)])
                pad = (0,) * axes
            return _CONV[axes](x, weight, bias, stride, pad, dilation, self.groups(x.shape[1]))

        return self.each(apply, module.blobs, bottoms)

    def onnx(self, graph, *bottoms):
        def pads(spatial, kernel, stride, pad, dilation):
            pad, out = self.laid(spatial, kernel, stride, pad, dilation)
            ends = tuple(map(end_pad, spatial, out, kernel, stride, pad, dilation))
            return {"pads": (*pad, *(ends if self.uneven else map(max, ends, pad)))}

        return self.onnx_each(graph, "Conv", bottoms, pads)

    def window(self, bottom):
        _, (kernel, stride, _, dilation) = self.checked([bottom])
        return dilation[0] * (kernel[0] - 1) + 1, stride[0]

    def needs_plain_layout(self, bottom):
        # oneDNN's gradient of the weights of a strided 1x1 convolution writes beyond its memory with channels last,
        # fewer than 16 input channels and more than one thread (seen in PyTorch 2.13)
        if len(bottom) != 4:
            return False
        axis, (kernel, stride, *_) = self.checked([bottom])
        inputs = bottom[1] // self.groups(bottom[1])
        return axis == 1 and inputs < 16 and set(kernel) == {1} and max(stride) > 1
