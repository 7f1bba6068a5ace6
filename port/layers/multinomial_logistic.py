"""MultinomialLogisticLoss: the loss of probabilities that some other layer made."""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from .base import per_item, register
from .classification import LOG_THRESHOLD, ProbabilityLoss
from .losses import Loss, over_items
from .memory import Reads
from .values import check_places


@register
class MultinomialLogisticLoss(Loss):
    """-log of the label's probability, mean over the batch; semantics 1.36 (multinomial_logistic_loss_layer)."""

    type = "MultinomialLogisticLoss"
    four_axes = (0, 1)

    def top_shapes(self, x, label):
        shapes = super().top_shapes(x, label)
        self.one_label_an_item(x, label)
        return shapes

    def reference(self, blobs, x, label):
        check_places(label, prod(x.shape[1:]), "label")
        p = per_item(x)[np.arange(len(x)), label.reshape(-1).astype(int)]
        return (over_items(-np.log(np.maximum(p, LOG_THRESHOLD)).sum(), len(x)),)

    def forward(self, module, x, label):
        check_places(label, prod(x.shape[1:]), "label")
        rows = per_item(x)
        target = torch.zeros_like(rows).scatter_(1, label.detach().reshape(-1, 1).long(), 1.0)
        return (ProbabilityLoss.apply(rows, target) / len(x),)

    def onnx(self, graph, x, label):
        column = graph.op("Cast", graph.reshape(label, (-1, 1)), to=7)
        p = graph.op("GatherElements", graph.op("Flatten", x, axis=1), column, axis=1)
        logs = graph.op("Log", graph.op("Max", p, graph.constant(LOG_THRESHOLD)))
        return (graph.op("Neg", graph.reduce("ReduceMean", logs)),)

    def reads(self):
        return Reads((0, 1))
