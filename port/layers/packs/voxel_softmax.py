"""C3D's layers of voxels: VoxelSoftmax and VoxelCustomLoss."""

from __future__ import annotations

import torch

from ..base import Misfit, register, show
from ..losses import Loss, over_items
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


class _Held(torch.autograd.Function):
    """The mean square of held differences; the gradient is they themselves over the items, whatever the loss weighs."""

    @staticmethod
    def forward(ctx, x, target):
        apart = (x - target).clamp(-1, 1)
        ctx.save_for_backward(apart)
        return apart.square().mean()

    @staticmethod
    def backward(ctx, grad):
        (apart,) = ctx.saved_tensors
        return apart / len(apart), None


@register
class VoxelCustomLoss(Loss):
    """The mean square of differences held between -1 and 1, N x C x length x H x W (C3D's voxel_custom_loss_layer).

    Its gradient is the held differences over the items: neither the derivative nor scaled by the loss's weight.
    """

    type = "VoxelCustomLoss"
    pack = "c3d"

    def top_shapes(self, x, target):
        if len(x) != 5 or x != target:
            raise Misfit(f"{show(x)} and {show(target)}", "two of N x C x length x H x W", "bottom")
        return ((),)

    def reference(self, blobs, x, target):
        apart = (x - target).clip(-1, 1)
        return (over_items((apart**2).sum(), x.size),)

    def forward(self, module, x, target):
        return (_Held.apply(x, target.detach()),)

    def onnx(self, graph, x, target):
        apart = graph.op("Sub", x, target)
        held = graph.op("Clip", apart, graph.constant(-1.0), graph.constant(1.0))
        return (graph.reduce("ReduceMean", graph.op("Mul", held, held)),)
