"""LpqLoss: FlowNet's loss with a power inside and one outside the sum over channels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from ..activations import Power
from ..base import Misfit, at_least, float32, register, same_shape
from ..losses import Loss, over_items
from ..memory import Reads


@register
class LpqLoss(Loss):
    """((|d| + p_epsilon)^p summed over channels + q_epsilon)^q, summed over locations; the forks' lpq_loss_layer.

    d is the difference of two bottoms, or one bottom; NaN in it counts as 0. The sum is divided by the batch, or with
    `normalize_by_num_entries` by the known values a channel.
    """

    type = "LpqLoss"
    pack = "flow"
    param = ("lpq_loss_param",)
    bottom_count = (1, 2)
    no_gradient = ()

    p: tuple[float, ...] = ()
    q: tuple[float, ...] = ()
    p_epsilon: float = 0.0
    q_epsilon: float = float32(0.01)
    l2_prescale_by_channels: bool = False
    normalize_by_num_entries: bool = False
    pq_episode_starts_at_iter: tuple[int, ...] = ()

    def top_shapes(self, *bottoms):
        at_least(2, bottoms[0])
        if len(bottoms[0]) > 4:
            raise Misfit(f"an input with {len(bottoms[0])} axes", "at most 4: N, C, H, W", "bottom")
        same_shape(bottoms)
        starts, field = self.pq_episode_starts_at_iter or (0,), "pq_episode_starts_at_iter"
        if len(self.p) != len(self.q) or len(self.p) != len(starts):
            found = f"{len(self.p)} values of p, {len(self.q)} of q, {len(self.pq_episode_starts_at_iter)} starts"
            raise Misfit(found, "equally many, or one p and one q", "p")
        if starts[0] or any(a >= b for a, b in pairwise(starts)):
            raise Misfit(f"starts at {', '.join(map(str, starts))}", "rising numbers from 0 on", field)
        if len(starts) > 1:
            found = f"p and q that change at iteration {starts[1]}"
            raise Misfit(found, "one p and one q: the layer does not see iterations", field)
        return ((),)

    @property
    def powers(self) -> tuple[Power, Power]:
        """What is done to every difference, and to every location's sum."""
        first = Power(at=self.at, power=self.p[0], shift=self.p_epsilon)
        return first, Power(at=self.at, power=self.q[0], shift=self.q_epsilon)

    def weight(self, channels: int) -> float:
        """Of every channel where they are summed."""
        return 1 / channels if self.l2_prescale_by_channels else 1.0

    def reference(self, blobs, *bottoms):
        difference = bottoms[0] - bottoms[1] if len(bottoms) == 2 else bottoms[0]
        count, channels = difference.shape[:2]
        known = ~np.isnan(difference)
        size = np.where(known, np.abs(difference), 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            summed = ((size + self.p_epsilon) ** self.p[0]).sum(1) * self.weight(channels)
            total = ((summed + self.q_epsilon) ** self.q[0]).sum()
        return (over_items(total, known.sum() / channels if self.normalize_by_num_entries else count),)

    def forward(self, module, *bottoms):
        difference = bottoms[0] - bottoms[1] if len(bottoms) == 2 else bottoms[0]
        count, channels = difference.shape[:2]
        known = ~torch.isnan(difference.detach())
        difference = torch.where(known, difference, 0)
        # the fork takes a difference of 0 for a negative one
        size, (first, second) = torch.where(difference > 0, difference, -difference), self.powers
        summed = first.forward(None, size)[0].sum(1) * self.weight(channels)
        total = second.forward(None, summed)[0].sum()
        return (total / (known.sum() / channels if self.normalize_by_num_entries else count),)

    def onnx(self, graph, *bottoms):
        channels, (first, second) = graph.shape(bottoms[0])[1], self.powers
        difference = graph.op("Sub", *bottoms) if len(bottoms) == 2 else bottoms[0]
        unknown = graph.op("IsNaN", difference)
        size = graph.op("Where", unknown, graph.constant(0.0), graph.op("Abs", difference))
        summed = graph.reduce("ReduceSum", first.onnx(graph, size)[0], (1,))
        summed = graph.op("Mul", summed, graph.constant(self.weight(channels)))
        total = graph.reduce("ReduceSum", second.onnx(graph, summed)[0])
        if not self.normalize_by_num_entries:
            return (graph.op("Div", total, graph.count(bottoms[0], 1)),)
        known = graph.reduce("ReduceSum", graph.op("Cast", graph.op("Not", unknown), to=1))
        return (graph.op("Div", total, graph.op("Div", known, graph.constant(float(channels)))),)

    def reads(self):
        return Reads()
