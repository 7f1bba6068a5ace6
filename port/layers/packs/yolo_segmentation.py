"""YoloSeg and SegmentationEvaluate: MobileNet-YOLO's loss for maps of classes, and how well these cover them."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..base import Layer, Misfit, at_least, register, show
from ..losses import Loss, over_items
from .yolo_loss import Deltas
from .yolo_output import sigmoid


@register
class YoloSeg(Loss):
    """Squares of object_scale * (sigmoid(x) - target) over the items, without the 2 in their gradient (yolo_seg).

    With a third bottom, N x classes pixel counts, a class's own pixels (target above 1/2) count 2 - s times, where s is
    its counts over the pixels that are left. `num_class` and `class_scale` are not read.
    """

    type = "YoloSeg"
    pack = "yolo"
    param = ("yolo_seg_param",)
    bottom_count = (2, 3)
    no_gradient = (1, 2)

    num_class: int = 0
    object_scale: float = 5.0
    class_scale: float = 1.0
    use_logic_gradient: bool = False
    use_hardsigmoid: bool = False

    def top_shapes(self, x, target, *counts):
        for field in ("use_logic_gradient", "use_hardsigmoid"):
            if getattr(self, field):
                raise Misfit(f"{field}", "false: the fork's CPU does not know it", field)
        at_least(1, x)
        if prod(x) != prod(target):
            raise Misfit(f"{show(x)} and {show(target)}", "equal counts", "bottom")
        if counts and (len(x) != 4 or target != x or prod(counts[0]) != x[0] * x[1]):
            raise Misfit(", ".join(map(show, (x, target, *counts))), "N x C x H x W twice, and N x C", "bottom")
        return super().top_shapes(x, target)

    def weight(self, target: Any, counts: tuple[Any, ...]) -> Any:
        """How much each pixel counts (NumPy and torch)."""
        if not counts:
            return self.object_scale
        n, classes, high, wide = target.shape
        own = counts[0].reshape(n, classes).sum(0)
        share = (own / (n * high * wide - own)).reshape(1, classes, 1, 1)
        return self.object_scale * (1 + (1 - share) * (target > 0.5))

    def reference(self, blobs, x, target, *counts):
        target = target.reshape(x.shape)
        off = (sigmoid(x) - target) * self.weight(target, counts)
        return (over_items((off * off).sum(), len(x)),)

    def forward(self, module, x, target, *counts):
        target = target.detach().reshape(x.shape)
        off = (x.detach().sigmoid() - target) * self.weight(target, tuple(c.detach() for c in counts))
        return (Deltas.apply(x, off.square().sum() / len(x), off / len(x)),)

    def onnx(self, graph, x, target, *counts):
        off = graph.op("Sub", graph.op("Sigmoid", x), graph.like(target, x))
        if counts:
            own = graph.reduce("ReduceSum", graph.reshape(counts[0], (-1, graph.shape(x)[1], 1, 1)), (0,), keep=True)
            pixels = graph.op("Mul", graph.count(x, 1), graph.constant(float(prod(graph.shape(x)[2:]))))
            share = graph.op("Div", own, graph.op("Sub", pixels, own))
            inside = graph.op("Greater", target, graph.constant(0.5))
            one = graph.constant(1.0)
            more = graph.op("Where", inside, graph.op("Sub", graph.constant(2.0), share), one)
            off = graph.op("Mul", off, more)
        off = graph.op("Mul", off, graph.constant(self.object_scale))
        return (graph.op("Div", graph.reduce("ReduceSumSquare", off), graph.count(x, 1)),)


@register
class SegmentationEvaluate(Layer):
    """Of the first items' maps, C x H x W: each class's pixels in both over those in either (the fork's layer).

    A pixel belongs to a class above `threshold`. Maps of two sizes the fork resizes by OpenCV, in bytes; here they are
    refused.
    """

    type = "SegmentationEvaluate"
    pack = "yolo"
    kind = "metric"
    param = ("segmentation_evaluate_param",)
    bottom_count = (2, 2)
    no_gradient = (0, 1)

    num_classes: int | None = None
    threshold: float = 0.5

    def top_shapes(self, x, target):
        if self.num_classes is None:
            raise Misfit("no num_classes", "a number", "num_classes")
        if len(x) != 4 or x[1:] != target[1:] or not x[0] or not target[0]:
            raise Misfit(f"{show(x)} and {show(target)}", "maps of equal extents", "bottom")
        return ((1, 1, 1, x[1]),)

    def reference(self, blobs, x, target):
        said, wanted = (a[0].reshape(a.shape[1], prod(a.shape[2:])) > self.threshold for a in (x, target))
        both = (said & wanted).sum(1)
        return ((both / np.maximum((said | wanted).sum(1), 1)).reshape(1, 1, 1, -1),)

    def forward(self, module, x, target):
        said, wanted = (a.detach()[0].flatten(1) > self.threshold for a in (x, target))
        both, either = (said & wanted).sum(1), (said | wanted).sum(1)
        return ((both.to(x.dtype) / either.clamp(min=1).to(x.dtype)).reshape(1, 1, 1, -1),)

    def onnx(self, graph, x, target):
        limit = graph.constant(self.threshold)
        said, wanted = (graph.op("Greater", graph.slice(a, [0], [1], [0]), limit) for a in (x, target))
        counts = (graph.op("Cast", graph.op(kind, said, wanted), to=1) for kind in ("And", "Or"))
        both, either = (graph.reduce("ReduceSum", c, (2, 3), keep=True) for c in counts)
        share = graph.op("Div", both, graph.op("Max", either, graph.constant(1.0)))
        return (graph.reshape(share, (1, 1, 1, graph.shape(x)[1])),)
