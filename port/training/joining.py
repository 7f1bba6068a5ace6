"""Layers that one pass over memory computes at once, such as BatchNorm and the Scale behind it; rounded differently."""

from __future__ import annotations

from ..module import CaffeNet


def join_normalisation(net: CaffeNet) -> int:
    """Have a net compute each BatchNorm and its Scale at once; returns how many there are.

    The Scale must be all that reads the normalised blob, and scale channels.
    """
    producers = {top: node for node in net.caffe.nodes for top in node.tops}
    count = 0
    for node in net.caffe.nodes:
        before = producers.get(node.bottoms[0]) if len(node.bottoms) == 1 else None
        if before is None or net.layer(node.name).detached:
            continue
        bottom, module = node.bottoms[0], net.layer(node.name)
        if bottom.consumers > 1 or bottom.loss_weight:
            continue
        pair = before.layer.joined(node.layer, module, bottom.shape or ())
        if pair is not None:
            net.layer(before.name).layer, module.layer = pair
            count += 1
    return count
