"""UpsampleDarknet: every cell of a map made stride x stride cells."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from ..base import Layer, Misfit, register


@register
class UpsampleDarknet(Layer):
    """Nearest neighbours, `stride` times as high and wide; the forks' upsample_darknet_layer."""

    type = "UpsampleDarknet"
    pack = "yolo"
    family = "reshaping"
    param = ("upsample_darknet_param",)

    stride: int = 1

    def top_shapes(self, x):
        if len(x) != 4:
            raise Misfit(f"an input with {len(x)} axes", "4 axes: N, C, H, W", "bottom")
        if self.stride < 1:
            raise Misfit(f"stride {self.stride}", "1 or more", "stride")
        return ((*x[:2], x[2] * self.stride, x[3] * self.stride),)

    def reference(self, blobs, x):
        return (x.repeat(self.stride, 2).repeat(self.stride, 3),)

    def forward(self, module, x):
        if not x.numel():  # interpolate refuses what has no values
            return (x.reshape(self.top_shapes(tuple(x.shape))[0]),)
        return (F.interpolate(x, scale_factor=self.stride, mode="nearest"),)

    def onnx(self, graph, x):
        scales = graph.constant([1, 1, self.stride, self.stride], np.float32, "scales")
        modes = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        return (graph.op("Resize", x, "", scales, **modes),)
