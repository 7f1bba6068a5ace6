"""What face nets do to the score of the label's class alone: LabelSpecificAdd and LabelSpecificRescale.

Their numbers may change from one training pass to the next; the reference and ONNX give the first one, at `iteration`.
"""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

import numpy as np
import torch

from ..base import Layer, Misfit, at_least, per_item, register, show
from ..values import check_places


class LabelSpecific(Layer):
    """Scores of N items, a label each, whose score is changed where `active`; a second top has the numbers of that."""

    pack = "face"
    bottom_count = (2, 2)
    top_count = (1, 2)
    no_gradient = (1,)
    onnx_note = "the numbers of the first pass"
    numbers: ClassVar[int] = 1  # how many the second top has

    iteration: int = 0

    def top_shapes(self, x, label):
        at_least(1, x)
        if prod(label) != x[0]:
            raise Misfit(f"{show(label)} labels for {show(x)}", f"{x[0]}, one an item", "bottom")
        self.check()
        return (x, (self.numbers,))[: self.at.tops]

    def check(self) -> None:
        """Raise Misfit for fields that the fork's CPU does not know."""

    @property
    def active(self) -> bool:
        """Whether scores are changed at all."""
        return self.train

    def settings(self, iteration: int, blobs: Any) -> tuple[float, ...]:
        """The numbers of a pass."""
        raise NotImplementedError

    def changed(self, own: np.ndarray, others: np.ndarray, values: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
        """All scores, were they the label's, and were they others'."""
        raise NotImplementedError

    def changed_tensors(self, own: torch.Tensor, others: torch.Tensor, values: tuple[float, ...]) -> Any:
        """The same in torch, with the fork's gradient."""
        raise NotImplementedError

    def changed_onnx(self, graph, x: str, values: tuple[float, ...]) -> tuple[str, str]:
        """The same as ONNX nodes."""
        raise NotImplementedError

    def reference(self, blobs, x, label):
        values = self.settings(self.iteration, blobs)
        self.remember(blobs, values)
        y = x
        if self.active:
            rows = per_item(x)
            check_places(label, rows.shape[1], "label")
            mine = np.arange(rows.shape[1]) == np.trunc(label.reshape(-1, 1))
            own, others = self.changed(rows, rows, values)
            y = np.where(mine, own, others).reshape(x.shape)
        return (y, np.array(values))[: self.at.tops]

    def forward(self, module, x, label):
        passes = module.state.get("passes", 0)
        values = self.settings(self.iteration + passes, module.blobs)
        if self.train:
            module.state["passes"] = passes + 1
        self.remember(module.blobs, values)
        y = x
        if self.active:
            rows = per_item(x)
            check_places(label, rows.shape[1], "label")
            places = label.detach().reshape(-1, 1).long()
            own, others = self.changed_tensors(rows.gather(1, places), rows, values)
            y = others.scatter(1, places, own).reshape(x.shape)
        return (y, x.new_tensor(values))[: self.at.tops]

    def remember(self, blobs: Any, values: tuple[float, ...]) -> None:
        """Store what the fork stores."""

    def onnx(self, graph, x, label):
        values = self.settings(self.iteration, [graph.blob_value(i) for i in range(graph.blob_count())])
        y = x
        if self.active:
            classes = prod(graph.shape(x)[1:])
            flat = graph.op("Cast", graph.reshape(label, (-1,)), to=7)
            mine = graph.op("OneHot", flat, graph.constant([classes], np.int64), graph.constant([0.0, 1.0]))
            rows = graph.op("Flatten", x, axis=1)
            own, others = self.changed_onnx(graph, rows, values)
            y = graph.like_top(graph.op("Where", graph.op("Cast", mine, to=9), own, others), 0)
        return (y, graph.constant(values))[: self.at.tops]


def grown(gamma: float, iteration: int, power: float) -> float:
    """(1 + gamma * iteration) ^ power as C has it: infinite or no number where there is none."""
    with np.errstate(all="ignore"):
        return float(np.power(np.float64(1 + gamma * iteration), power))


@register
class LabelSpecificAdd(LabelSpecific):
    """In training, `bias` more for the label's score where that leaves it above 0 (the fork's label_specific_add).

    With bias_base the bias is bias_base + (1 + bias_gamma * iteration) ^ bias_power - 1, within bias_min and bias_max.
    """

    type = "LabelSpecificAdd"
    param = ("label_specific_add_param",)

    bias: float = 0.0
    transform_test: bool = False
    bias_base: float | None = None
    bias_gamma: float = 0.0
    bias_power: float = 1.0
    bias_min: float = 0.0
    bias_max: float = 0.0

    def settings(self, iteration, blobs):
        if self.bias_base is None or not self.train:
            return (self.bias,)
        bias = self.bias_base + grown(self.bias_gamma, iteration, self.bias_power) - 1
        return (min(max(bias, self.bias_min), self.bias_max),)

    def changed(self, own, others, values):
        return own + values[0] * (own > -values[0]), others

    def changed_tensors(self, own, others, values):
        return own + values[0] * (own > -values[0]).to(own.dtype), others

    def changed_onnx(self, graph, x, values):
        bias = graph.constant(values[0])
        above = graph.op("Greater", x, graph.constant(-values[0]))
        return graph.op("Where", above, graph.op("Add", x, bias), x), x


@register
class LabelSpecificRescale(LabelSpecific):
    """In training (or with rescale_test) the label's score times positive_weight, others times negative_weight.

    `for_ip`: the label's only where it is above 0; `bias_fix`: and 1 - positive_weight more. In training
    positive_weight_base makes positive_weight positive_weight_base * (1 + gamma * pass) ^ -power, within its bounds,
    the first pass being iteration + 1. The bounds of scores are not read (the fork's label_specific_rescale).
    """

    type = "LabelSpecificRescale"
    param = ("label_specific_rescale_param",)

    positive_weight: float = 1.0
    negative_weight: float = 1.0
    positive_lower_bound: float = 0.0
    negative_upper_bound: float = 0.0
    rescale_test: bool = False
    for_ip: bool = False
    positive_weight_base: float | None = None
    gamma: float = 0.0
    power: float = 1.0
    positive_weight_min: float | None = None
    positive_weight_max: float | None = None
    bias_fix: bool = False
    power_on_positive: bool = False

    def check(self):
        if self.power_on_positive:
            raise Misfit("power_on_positive", "false: the fork's CPU and GPU mean two things", "power_on_positive")

    @property
    def active(self):
        return self.train or self.rescale_test

    def settings(self, iteration, blobs):
        if self.positive_weight_base is None or not self.train:
            return (self.positive_weight,)
        weight = self.positive_weight_base * grown(self.gamma, iteration + 1, -self.power)
        weight = weight if self.positive_weight_min is None else max(weight, self.positive_weight_min)
        return (weight if self.positive_weight_max is None else min(weight, self.positive_weight_max),)

    def changed(self, own, others, values):
        new = own * values[0] + (1 - values[0]) * self.bias_fix
        return np.where(own > 0, new, own) if self.for_ip else new, others * self.negative_weight

    def changed_tensors(self, own, others, values):
        new = own * values[0] + (1 - values[0]) * self.bias_fix
        return torch.where(own > 0, new, own) if self.for_ip else new, others * self.negative_weight

    def changed_onnx(self, graph, x, values):
        new = graph.op("Mul", x, graph.constant(values[0]))
        new = graph.op("Add", new, graph.constant(1 - values[0])) if self.bias_fix else new
        new = graph.op("Where", graph.op("Greater", x, graph.constant(0.0)), new, x) if self.for_ip else new
        return new, graph.op("Mul", x, graph.constant(self.negative_weight))
