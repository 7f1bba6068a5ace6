"""Deconvolution: any number of spatial axes, groups, dilation, several bottoms."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch.nn.functional as F

from .base import Misfit, register
from .convolution import Convolving
from .spatial import offsets, telling, window

_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@register
class Deconvolution(Convolving):
    """The transpose of Convolution, weights (C, num_output / group, ...); semantics 1.2 (deconv_layer)."""

    type = "Deconvolution"
    family = "weights"
    in_bfloat16 = True
    spreads = True

    def extents(self, lengths, kernel, stride, pad, dilation):
        """Output extents, s (L - 1) + d (k - 1) + 1 - 2 p."""
        return tuple(
            s * (n - 1) + d * (k - 1) + 1 - 2 * p
            for n, k, s, p, d in zip(lengths, kernel, stride, pad, dilation, strict=True)
        )

    def top_shapes(self, *bottoms):
        axis, sizes = self.checked(bottoms)
        spatial = self.extents(bottoms[0][axis + 1 :], *sizes)
        if any(extent < 1 for extent in spatial):
            raise Misfit(f"an output of {'x'.join(map(str, spatial))}", "a pad that leaves something", "pad")
        return tuple((*b[:axis], self.num_output or 0, *spatial) for b in bottoms)

    def blobs(self, *bottoms):
        axis, (kernel, *_) = self.checked(bottoms)
        return self.with_bias((bottoms[0][axis], (self.num_output or 0) // self.group, *kernel))

    def reference(self, blobs, *bottoms):
        def apply(x, weight, bias, kernel, stride, pad, dilation):
            lengths, out = x.shape[2:], self.extents(x.shape[2:], kernel, stride, pad, dilation)
            whole = tuple(o + 2 * p for o, p in zip(out, pad, strict=True))
            x = x.reshape(x.shape[0], self.group, x.shape[1] // self.group, prod(lengths))
            weight = weight.reshape(self.group, -1, *weight.shape[1:])
            y = np.zeros((x.shape[0], self.group, weight.shape[2], *whole))
            for at in offsets(kernel):
                part = weight[(..., *at)].transpose(0, 2, 1) @ x
                seen: Any = (..., *window(at, lengths, stride, dilation))
                y[seen] += part.reshape(*part.shape[:3], *lengths)
            inside: Any = tuple(slice(p, p + o) for p, o in zip(pad, out, strict=True))
            y = y[(Ellipsis, *inside)].reshape(x.shape[0], y.shape[1] * y.shape[2], *out)
            return y if bias is None else y + bias.reshape(-1, *[1] * len(out))

        return self.each(apply, blobs, bottoms)

    def forward(self, module, *bottoms):
        def apply(x, weight, bias, kernel, stride, pad, dilation):
            axes = len(kernel)
            if axes == 0:
                return apply(x[..., None], weight[..., None], bias, (1,), (1,), (0,), (1,))[..., 0]
            if axes not in _CONV_TRANSPOSE:
                raise Misfit(f"{axes} spatial axes", "at most 3 in PyTorch and ONNX", "bottom")
            stride, dilation = telling(self.longest(x.shape[2:], pad), kernel, stride, dilation)
            return _CONV_TRANSPOSE[axes](x, weight, bias, stride, pad, 0, self.group, dilation)

        return self.each(apply, module.blobs, bottoms)

    def onnx(self, graph, *bottoms):
        return self.onnx_each(graph, "ConvTranspose", bottoms, lambda _s, _k, _t, pad, _d: {"pads": (*pad, *pad)})

    def multiply_adds(self, bottoms, tops):
        """Weights that one input cell meets times input cells."""
        _, (kernel, *_) = self.checked(bottoms[:1])
        return sum(prod(bottom) * (self.num_output or 0) // self.group * prod(kernel) for bottom in bottoms)
