"""Input: blobs that the caller provides."""

from __future__ import annotations

from typing import Any

from .base import Layer, Misfit, as_shape, register


@register
class Input(Layer):
    """Tops of given shapes, filled by the caller; semantics 1.16 (input_layer)."""

    type = "Input"
    family = "input"
    supplied = True
    param = ("input_param",)
    kind = "data"
    bottom_count = (0, 0)
    top_count = (1, None)

    shape: tuple[Any, ...] = ()

    def top_shapes(self):
        shapes = tuple(map(as_shape, self.shape))
        if len(shapes) not in (0, 1, self.at.tops):
            raise Misfit(f"{len(shapes)} shapes for {self.at.tops} tops", "one for all, or one each", "shape")
        if not shapes:
            raise Misfit(
                "no shape",
                "one for all tops, or one each",
                "shape",
                "write input_param { shape { dim: ... } }",
            )
        return shapes * self.at.tops if len(shapes) == 1 else shapes

    def reference(self, blobs):
        raise Misfit("an Input layer is not computed; its tops are given")

    def forward(self, module):
        raise Misfit("an Input layer is not computed; its tops are given")

    def onnx(self, graph):
        raise Misfit("an Input layer is not computed; its tops are given")
