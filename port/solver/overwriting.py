"""Lets ReLU layers overwrite what nobody else reads while a solver trains: the same numbers in less memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields

import torch.nn.functional as F

from ..layers import Layer
from ..layers.activations import ReLU
from ..module import CaffeNet, LayerModule

# Their backward passes do not look at their tops.
PRODUCERS = ("BN", "BatchNorm", "Scale", "Bias", "Convolution", "Deconvolution", "InnerProduct", "Concat")

Swap = tuple[LayerModule, Layer]


class _Overwriting(ReLU):
    """ReLU in its bottom's memory."""

    def forward(self, module, x):
        return (F.relu(x, inplace=True),)


def overwriting_layers(net: CaffeNet) -> list[Swap]:
    """The modules whose bottom nobody else reads, and the layer that overwrites it."""
    producers = {top: node for node in net.caffe.nodes for top in node.tops}
    found: list[Swap] = []
    for node in net.caffe.nodes:
        if type(node.layer) is not ReLU or node.layer.negative_slope:
            continue
        bottom = node.bottoms[0]
        maker = producers.get(bottom)
        sums = maker is not None and maker.layer.type == "Eltwise" and getattr(maker.layer, "operation", "") == "SUM"
        if maker is None or bottom.consumers > 1 or bottom.loss_weight:
            continue
        # An Eltwise of one bottom would hand on the bottom itself.
        if maker.layer.type in PRODUCERS or (sums and len(maker.bottoms) > 1):
            values = {f.name: getattr(node.layer, f.name) for f in fields(node.layer)}
            found.append((net.layer(node.name), _Overwriting(**values)))
    return found


@contextmanager
def overwriting(swaps: Sequence[Swap]) -> Iterator[None]:
    """Let these layers overwrite their bottoms meanwhile."""
    kept = [module.layer for module, _ in swaps]
    for module, layer in swaps:
        module.layer = layer
    try:
        yield
    finally:
        for (module, _), layer in zip(swaps, kept, strict=True):
            module.layer = layer
