"""ReLU6 as a type of its own."""

from __future__ import annotations

from ..activations import ReLU
from ..base import register


@register
class ReLU6(ReLU):
    """ReLU held at 6; the forks' relu6_layer."""

    type = "ReLU6"
    pack = "mobile"
    param = ("relu6_param",)

    relu6: bool = True
