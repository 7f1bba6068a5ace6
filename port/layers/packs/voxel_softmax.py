"""VoxelSoftmax: Softmax over the channels of every voxel."""

from __future__ import annotations

from ..base import Misfit, register
from ..softmax import Softmax


@register
class VoxelSoftmax(Softmax):
    """Softmax over axis 1 of N x C x length x H x W (C3D's voxel_wise_softmax_layer)."""

    type = "VoxelSoftmax"
    pack = "c3d"

    def top_shapes(self, x):
        if len(x) != 5:
            raise Misfit(f"an input with {len(x)} axes", "5: N, C, length, H, W", "bottom")
        return super().top_shapes(x)
