"""SoftmaxWithLoss of DeepLab's first version: weights of classes from a file, several labels that do not count."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..base import FLT_MIN, Misfit, at_least, register, set_fields
from ..classification import last_axis, one_label_a_location
from ..losses import Loss
from ..softmax import softmax
from ..values import check_places

_LEAST = math.log(FLT_MIN)


@register
class WeightedSoftmaxLoss(Loss):
    """-log of the label's share along axis 1, weighted by the label, over the weights of all that count.

    `softmaxloss_param` is what tells it. The gradient of what does not count is 0; the fork leaves there what its
    memory held (softmax_loss_layer).
    """

    type = "SoftmaxWithLoss"
    pack = "deeplab"
    param = ("softmaxloss_param",)
    top_count = (1, 2)

    weight_source: str = ""
    ignored: tuple[int, ...] = ()  # the schema's `ignore_label`, which is a list here

    @classmethod
    def claims(cls, message, context):
        """By its fields, which no other fork has."""
        return message.HasField("softmaxloss_param")

    @classmethod
    def read(cls, message):
        values = set_fields(message, cls.param)
        return {"ignored" if name == "ignore_label" else name: value for name, value in values.items()}

    def top_shapes(self, x, label):
        at_least(2, x)
        one_label_a_location(x, label, 1)
        self.weights(x[1])
        super().top_shapes(x, label)
        return ((), x)[: self.at.tops]

    def weights(self, classes: int) -> np.ndarray:
        """The weight of each class: the numbers of the file, or 1."""
        if not self.weight_source:
            return np.ones(classes)
        try:
            found = np.array(Path(self.weight_source).read_text(encoding="utf-8").split(), np.float32)
        except (OSError, ValueError) as error:
            raise Misfit(f"the weights cannot be read: {error}", "numbers", "weight_source") from None
        if len(found) != classes or not (found >= 0).all():
            raise Misfit(f"{len(found)} weights", f"{classes}, one a class, none below 0", "weight_source")
        return found.astype(np.float64)

    def counted(self, x: Any, label: Any) -> tuple[Any, Any]:
        """Labels as places (0 where one does not count), and the weight of each."""
        flat = np.trunc(np.asarray(label, np.float64)).reshape(-1)
        kept = ~np.isin(flat, self.ignored)
        check_places(flat[kept], x.shape[1], "label")
        places = np.where(kept, flat, 0).astype(int)
        return places, self.weights(x.shape[1])[places] * kept

    def reference(self, blobs, x, label):
        p = softmax(x, 1)
        places, weight = self.counted(x, label)
        picked = last_axis(np.log(np.maximum(p, FLT_MIN)), 1)[np.arange(len(places)), places]
        with np.errstate(invalid="ignore"):
            loss = -(picked * weight).sum() / weight.sum()
        return (np.asarray(loss), p)[: self.at.tops]

    def forward(self, module, x, label):
        places, weight = (torch.from_numpy(a).to(x.device) for a in self.counted(x, label.detach().cpu().numpy()))
        weight = weight.to(x.dtype)
        logs = torch.log_softmax(last_axis(x, 1), 1).gather(1, places[:, None])[:, 0]
        held = logs + (logs.clamp(min=_LEAST) - logs).detach()  # the floor leaves the gradient alone
        loss = -(held * weight).sum() / weight.sum()
        return (loss, torch.softmax(x, 1))[: self.at.tops]

    def onnx(self, graph, x, label):
        shape = graph.shape(x)
        classes, order = shape[1], (0, *range(2, len(shape)), 1)
        flat = graph.op("Cast", graph.reshape(label, (-1,)), to=7)
        kept = None
        for number in self.ignored:
            differs = graph.op("Not", graph.op("Equal", flat, graph.constant(number, np.int64)))
            kept = differs if kept is None else graph.op("And", kept, differs)
        weight: Any = graph.constant(self.weights(classes))
        if kept is not None:
            flat = graph.op("Where", kept, flat, graph.constant(0, np.int64))
        weight = graph.op("Gather", weight, flat)
        if kept is not None:
            weight = graph.op("Mul", weight, graph.op("Cast", kept, to=1))
        p = graph.op("Softmax", x, axis=1)
        rows = graph.reshape(graph.op("Transpose", p, perm=order), (-1, classes))
        column = graph.op("Unsqueeze", flat, graph.constant([1], np.int64))
        picked = graph.reshape(graph.op("GatherElements", rows, column, axis=1), (-1,))
        terms = graph.op("Mul", graph.op("Log", graph.op("Max", picked, graph.constant(FLT_MIN))), weight)
        total = graph.op("Neg", graph.reduce("ReduceSum", terms))
        return (graph.op("Div", total, graph.reduce("ReduceSum", weight)), p)[: self.at.tops]
