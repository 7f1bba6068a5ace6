"""Lets layers overwrite what nobody else reads while a solver trains: the same numbers in less memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..layers import Layer
from ..module import CaffeNet, LayerModule

Swap = tuple[LayerModule, Layer]


def overwriting_layers(net: CaffeNet) -> list[Swap]:
    """The modules whose bottom nobody else reads, not even its maker, and the layer that overwrites it."""
    producers = {top: node for node in net.caffe.nodes for top in node.tops}
    found: list[Swap] = []
    for node in net.caffe.nodes:
        layer = node.layer.overwriting()
        if layer is None:
            continue
        bottom = node.bottoms[0]
        maker = producers.get(bottom)
        if maker is None or bottom.consumers > 1 or bottom.loss_weight:
            continue
        if maker.layer.spares_top():
            found.append((net.layer(node.name), layer))
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
