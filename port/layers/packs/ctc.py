"""Nets that read text: CtcLoss and LabelsequenceAccuracy (warpctc-caffe's)."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import numpy as np
import torch
import torch.nn.functional as F

from ..base import Array, Layer, Misfit, register, show
from ..losses import Loss, over_items
from ..values import check_places


def log_sum(*values: float) -> float:
    """The logarithm of a sum of exponentials."""
    most = max(values)
    return most if most == -np.inf else most + float(np.log(sum(np.exp(v - most) for v in values)))


def cost(logs: Array, label: list[int], blank: int) -> float:
    """-log of the chance that steps x classes spell a label, all paths summed up; 0 where there are too few steps."""
    if len(label) + sum(a == b for a, b in pairwise(label)) > len(logs):
        return 0.0
    path = [blank]
    for each in label:
        path += [each, blank]
    reached = [-np.inf] * len(path)
    for t, row in enumerate(logs):
        before = reached
        reached = [-np.inf] * len(path)
        for s, each in enumerate(path):
            if not t:
                reached[s] = float(row[each]) if s < 2 else -np.inf
                continue
            ways = before[max(s - 1, 0) : s + 1]
            if s > 1 and each not in (blank, path[s - 2]):
                ways = [before[s - 2], *ways]
            reached[s] = log_sum(*ways) + float(row[each])
    return -log_sum(*reached[-2:])


@register
class CtcLoss(Loss):
    """Connectionist temporal classification: -log of the chance of an item's label, over the items (ctc_loss_layer).

    Scores T x N x C of which the first time_step rows count; labels N x L from which blank_label is left out. An item
    whose label needs more steps than there are costs 0, as warp-ctc has it. The gradient is that of the sum.
    """

    type = "CtcLoss"
    onnx_note = "no: it sums over all paths"
    pack = "crnn"
    param = ("ctc_loss_param",)

    alphabet_size: int = 0
    time_step: int = 0
    blank_label: int = 0

    def top_shapes(self, x, label):
        if len(x) != 3 or len(label) < 2 or label[0] != x[1]:
            raise Misfit(f"{show(x)} and labels of {show(label)}", "T x N x C and N x L", "bottom")
        if self.alphabet_size != x[2]:
            raise Misfit(f"alphabet_size {self.alphabet_size} for {x[2]} classes", f"{x[2]}", "alphabet_size")
        if not 1 <= self.time_step <= x[0]:
            raise Misfit(f"time_step {self.time_step} of {x[0]} steps", f"1 to {x[0]}", "time_step")
        if not 0 <= self.blank_label < x[2]:
            raise Misfit(f"blank_label {self.blank_label} of {x[2]} classes", f"0 to {x[2] - 1}", "blank_label")
        return ((),)

    def words(self, label: Array) -> list[list[int]]:
        """The labels of every item without blanks; raises Misfit where no item has any."""
        check_places(label, self.alphabet_size, "label")
        rows = np.trunc(label).astype(int).reshape(len(label), prod(label.shape[1:]))
        words = [[v for v in row if v != self.blank_label] for row in rows.tolist()]
        if rows.size and not any(words):
            raise Misfit("labels that are all blank", "one that is not", "bottom")
        return words

    def reference(self, blobs, x, label):
        shifted = x - x.max(2, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(2, keepdims=True))
        words = self.words(label)
        costs = [cost(logs[: self.time_step, n], word, self.blank_label) for n, word in enumerate(words)]
        return (over_items(sum(costs), len(costs)),)

    def forward(self, module, x, label):
        words = self.words(label.detach().cpu().double().numpy())
        logs = torch.log_softmax(x[: self.time_step], 2)
        flat = torch.tensor([v for word in words for v in word], dtype=torch.long, device=x.device)
        steps, lengths = torch.full((len(words),), self.time_step), torch.tensor([len(word) for word in words])
        costs = F.ctc_loss(logs, flat, steps, lengths, self.blank_label, reduction="none", zero_infinity=True)
        total = costs.sum()
        return (total - (total - total / len(words)).detach(),)

    def onnx(self, graph, x, label):
        raise Misfit("a sum over all paths through a label", "no ONNX: a loss for training", "type")


@register
class LabelsequenceAccuracy(Layer):
    """The share of items N x T x C whose largest classes, repeats and blanks left out, are the label of N x L.

    labelsequence_accuracy_layer.
    """

    type = "LabelsequenceAccuracy"
    onnx_note = "no: it compares texts"
    pack = "crnn"
    kind = "metric"
    param = ("labelsequence_accuracy_param",)
    bottom_count = (2, 2)
    no_gradient = (0, 1)

    blank_label: int = 0

    def top_shapes(self, x, label):
        if len(x) != 3 or len(label) < 2 or label[0] != x[0]:
            raise Misfit(f"{show(x)} and labels of {show(label)}", "N x T x C and N x L", "bottom")
        return ((),)

    def reference(self, blobs, x, label):
        hits = 0
        for steps, row in zip(x.argmax(2).tolist(), np.trunc(label.reshape(len(label), -1)).tolist(), strict=True):
            before, read = self.blank_label, []
            for step in steps:
                if step not in (before, self.blank_label):
                    read.append(step)
                before = step
            hits += read == [v for v in row if v != self.blank_label]
        return (over_items(hits, len(x)),)

    def forward(self, module, x, label):
        (share,) = self.reference([], x.detach().cpu().numpy(), label.detach().cpu().numpy())
        return (torch.as_tensor(share, dtype=x.dtype, device=x.device),)

    def onnx(self, graph, x, label):
        raise Misfit("a comparison of texts", "no ONNX: it measures, leave it out of what is exported", "type")
