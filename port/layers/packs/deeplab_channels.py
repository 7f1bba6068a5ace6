"""DeepLab's small layers: Padding, BiasChannel, UniqueLabel, DominantChannel."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch

from ..base import Layer, Misfit, at_most_4, register, show
from ..values import check_places


def _maps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape as N x C x H x W; raises Misfit for more axes."""
    at_most_4(shape)
    return (*shape, *[1] * (4 - len(shape)))


@register
class Padding(Layer):
    """N x C x H x W with pad_beg zeros before and pad_end behind rows and columns, or as many cells fewer."""

    type = "Padding"
    pack = "deeplab"
    family = "reshaping"
    param = ("padding_param",)
    never_in_place = True

    pad_beg: int = 0
    pad_end: int = 0

    def top_shapes(self, x):
        if self.pad_beg * self.pad_end < 0:
            raise Misfit(f"pad_beg {self.pad_beg}, pad_end {self.pad_end}", "both positive or both negative", "pad_beg")
        maps = _maps(x)
        top = (*maps[:2], *(n + self.pad_beg + self.pad_end for n in maps[2:]))
        if min(top[2:]) < 1:
            raise Misfit(f"a top of {show(top)}", "a row and a column or more", "pad_beg")
        return (top,)

    def reference(self, blobs, x):
        y = x.reshape(_maps(x.shape))
        if min(self.pad_beg, self.pad_end) < 0:
            high, wide = (slice(-self.pad_beg, n + self.pad_end) for n in y.shape[2:])
            return (y[:, :, high, wide],)
        sides = (self.pad_beg, self.pad_end)
        return (np.pad(y, [(0, 0), (0, 0), sides, sides]),)

    def forward(self, module, x):
        y = x.reshape(_maps(tuple(x.shape)))
        return (torch.nn.functional.pad(y, [self.pad_beg, self.pad_end] * 2),)

    def onnx(self, graph, x):
        maps = _maps(graph.shape(x))
        y = x if len(graph.shape(x)) == 4 else graph.reshape(x, (-1, *maps[1:]))
        before, behind = (0, 0, self.pad_beg, self.pad_beg), (0, 0, self.pad_end, self.pad_end)
        return (graph.pad(y, before, behind, 0.0),)


@register
class BiasChannel(Layer):
    """Scores with fg_bias more for an item's labels, bg_bias more for label 0 (DeepLab's bias_channel_layer).

    Labels N x L of an item, -1 and ignore_label meaning none; what an item names twice it gets twice. With PIXEL a
    label for every cell; where there is a background_label, or a bg_bias that was set, its scores get bg_bias at every
    labelled cell, and its own cells nothing more.
    """

    type = "BiasChannel"
    pack = "deeplab"
    family = "other"
    param = ("bias_channel_param",)
    bottom_count = (2, 2)
    no_gradient = (1,)
    never_in_place = True

    bg_bias: float | None = None
    fg_bias: float = 2.0
    ignore_label: tuple[int, ...] = ()
    label_type: str = "IMAGE"
    background_label: int | None = None

    def top_shapes(self, x, label):
        maps, given = _maps(x), _maps(label)
        if min(self.ground, self.fg_bias) < 0:
            raise Misfit(f"bg_bias {self.ground:g}, fg_bias {self.fg_bias:g}", "0 or more", "bias_channel_param")
        wanted = (maps[0], 1, *maps[2:]) if self.label_type == "PIXEL" else (maps[0], given[1], 1, 1)
        if given != wanted or not prod(given[1:]):
            raise Misfit(f"labels of {show(label)} for {show(x)}", show(wanted), "bottom")
        if self.background is not None and not 0 <= self.background < maps[1]:
            raise Misfit(f"background_label {self.background}", f"0 to {maps[1] - 1}", "background_label")
        return (maps,)

    @property
    def ground(self) -> float:
        """What the background gets."""
        return 1.0 if self.bg_bias is None else self.bg_bias

    @property
    def background(self) -> int | None:
        """The label of the background among labels of cells."""
        if self.label_type != "PIXEL" or (self.background_label is None and self.bg_bias is None):
            return None
        return self.background_label or 0

    def counted(self, label: Any, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels as integers, N x L or N x cells, and which of them count; raises Misfit for one that is none."""
        values = np.trunc(np.asarray(label, np.float64)).astype(int)
        values = values.reshape(len(values), prod(values.shape[1:]))
        kept = ~np.isin(values, (-1, *self.ignore_label))
        check_places(np.where(kept, values, 0), channels, "label")
        return np.where(kept, values, 0), kept

    def added(self, shape: tuple[int, ...], label: Any) -> np.ndarray:
        """What every score gets more."""
        maps = _maps(shape)
        more = np.zeros((maps[0], maps[1], prod(maps[2:])))
        values, kept = self.counted(label, maps[1])
        for item, place in np.argwhere(kept):
            mine = values[item, place]
            if self.label_type != "PIXEL":
                more[item, mine] += self.fg_bias if mine else self.ground
                continue
            if self.background is not None:
                more[item, self.background, place] += self.ground
            if mine != self.background:
                more[item, mine, place] += self.fg_bias
        return more.reshape(maps)

    def reference(self, blobs, x, label):
        return (x.reshape(_maps(x.shape)) + self.added(x.shape, label),)

    def forward(self, module, x, label):
        more = torch.from_numpy(self.added(tuple(x.shape), label.detach().cpu().numpy()))
        return (x.reshape(more.shape) + more.to(x),)

    def onnx(self, graph, x, label):
        maps = _maps(graph.shape(x))
        values = graph.op("Cast", graph.op("Cast", graph.op("Flatten", label, axis=1), to=6), to=1)
        channels = graph.constant(np.arange(maps[1]).reshape(maps[1], 1))
        wide = graph.op("Unsqueeze", values, graph.constant([1], np.int64))
        flags = graph.op("Cast", graph.op("Equal", wide, channels), to=1)  # items x channels x labels
        ignored = np.isin(np.arange(maps[1]), self.ignore_label).reshape(maps[1], 1)
        flags = graph.op("Mul", flags, graph.constant(1.0 - ignored))
        gains = np.full((maps[1], 1), self.fg_bias)
        if self.label_type != "PIXEL":
            gains[0] = self.ground
            more = graph.op("Mul", graph.reduce("ReduceSum", flags, (2,), keep=True), graph.constant(gains))
            more = graph.op("Unsqueeze", more, graph.constant([3], np.int64))
        else:
            more = graph.op("Mul", flags, graph.constant(gains))
            if self.background is not None:
                gains[self.background] = 0
                labelled = graph.reduce("ReduceSum", flags, (1,), keep=True)
                own = graph.constant(self.ground * (np.arange(maps[1]) == self.background).reshape(maps[1], 1))
                more = graph.op("Add", graph.op("Mul", flags, graph.constant(gains)), graph.op("Mul", labelled, own))
            more = graph.reshape(more, (-1, *maps[1:]))
        y = x if len(graph.shape(x)) == 4 else graph.reshape(x, (-1, *maps[1:]))
        return (graph.op("Add", y, more),)


class _Places(Layer):
    """A list of channels or labels of every item, N x K x 1 x 1."""

    onnx_note = "no: it lists what there is"
    pack = "deeplab"
    family = "other"
    no_gradient = (0,)

    def forward(self, module, x):
        (top,) = self.reference([], x.detach().cpu().numpy())
        return (torch.from_numpy(top).to(x),)


@register
class UniqueLabel(_Places):
    """The labels in an item's N x 1 x H x W and those of force_label, ascending, then -1 up to max_labels.

    Those of ignore_label are left out unless forced; more than fit are refused (DeepLab's unique_label_layer).
    """

    type = "UniqueLabel"
    param = ("unique_label_param",)

    max_labels: int = 0
    ignore_label: tuple[int, ...] = ()
    force_label: tuple[float, ...] = ()

    def top_shapes(self, x):
        maps = _maps(x)
        if maps[1] != 1:
            raise Misfit(f"an input of {show(x)}", "one channel", "bottom")
        if self.max_labels <= len(set(self.force_label)):
            raise Misfit(f"max_labels {self.max_labels}", f"more than {len(set(self.force_label))}", "max_labels")
        return ((maps[0], self.max_labels, 1, 1),)

    def reference(self, blobs, x):
        (top,) = self.top_shapes(x.shape)
        y = np.full(top, -1.0)
        for i, item in enumerate(x):
            found = set(np.unique(item).tolist())
            found = {v for v in found if int(v) not in self.ignore_label} | set(map(float, self.force_label))
            if len(found) > self.max_labels:
                raise Misfit(f"{len(found)} labels in item {i}", f"at most {self.max_labels}", "max_labels")
            y[i, : len(found), 0, 0] = sorted(found)
        return (y,)

    def onnx(self, graph, x):
        raise Misfit("a list of what labels there are", "no ONNX: make it beforehand", "type")


@register
class DominantChannel(_Places):
    """The top_k channels that are most often the largest of their place, then the second largest, and so on.

    Of equal ones the lower (DeepLab's dominant_channel_layer).
    """

    type = "DominantChannel"
    param = ("dominant_channel_param",)

    top_k: int = 1

    def top_shapes(self, x):
        maps = _maps(x)
        if not 1 <= self.top_k < maps[1]:
            raise Misfit(f"top_k {self.top_k} of {maps[1]} channels", f"1 to {maps[1] - 1}", "top_k")
        return ((maps[0], self.top_k, 1, 1),)

    def reference(self, blobs, x):
        (top,) = self.top_shapes(x.shape)
        ranks = np.argsort(-x.reshape(*x.shape[:2], -1), axis=1, kind="stable")[:, : self.top_k]
        y = np.zeros(top)
        for i, item in enumerate(ranks):
            counts = np.array([np.bincount(row, minlength=x.shape[1]) for row in item])
            y[i, :, 0, 0] = np.lexsort((np.arange(x.shape[1]), *-counts[::-1]))[: self.top_k]
        return (y,)

    def onnx(self, graph, x):
        raise Misfit("an order by several counts at once", "no ONNX: leave it out of what is exported", "type")
