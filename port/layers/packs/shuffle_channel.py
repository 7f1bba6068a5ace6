"""ShuffleChannel: the exchange between the groups of a ShuffleNet."""

from __future__ import annotations

from math import prod

from ..base import Layer, Misfit, at_least, register


@register
class ShuffleChannel(Layer):
    """Channels seen as group x (C / group) and transposed; the forks' shuffle_channel_layer.

    The top has 4 axes whatever the bottom has, missing ones with an extent of 1.
    """

    type = "ShuffleChannel"
    known_to_opencv = True
    pack = "mobile"
    family = "reshaping"
    param = ("shuffle_channel_param",)

    group: int = 1

    def top_shapes(self, x):
        at_least(2, x)
        if len(x) > 4:
            raise Misfit(f"an input with {len(x)} axes", "at most 4: N, C, H, W", "bottom")
        if self.group < 1 or x[1] % self.group:
            raise Misfit(f"group {self.group} of {x[1]} channels", "a number that divides them", "group")
        return ((*x, *[1] * (4 - len(x))),)

    def _parted(self, x) -> tuple[int, ...]:
        return x[0], self.group, x[1] // self.group, prod(x[2:])

    def reference(self, blobs, x):
        return (x.reshape(self._parted(x.shape)).transpose(0, 2, 1, 3).reshape(self.top_shapes(x.shape)[0]),)

    def forward(self, module, x):
        (top,) = self.top_shapes(tuple(x.shape))
        return (x.reshape(self._parted(tuple(x.shape))).transpose(1, 2).reshape(top),)

    def onnx(self, graph, x):
        parted = graph.reshape(x, (0, *self._parted(graph.shape(x))[1:]))
        return (graph.like_top(graph.op("Transpose", parted, perm=(0, 2, 1, 3)), 0),)
