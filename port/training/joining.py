"""BatchNorm and the Scale behind it in one pass over memory, as PyTorch's batch_norm does; rounded differently."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch

from ..layers import Layer
from ..layers.affine import Scale
from ..layers.normalization import BatchNorm
from ..module import CaffeNet


class _Joined(BatchNorm):
    """Normalises and scales by the blobs of another layer's module."""

    scaling: Any = None

    def affine(self) -> tuple[Any, Any]:
        scale, *bias = self.scaling.blobs
        return scale, bias[0] if bias else torch.zeros_like(scale)


class _Done(Scale):
    """Hands its bottom on: the layer before it has scaled."""

    def forward(self, module, x):
        return (x,)


def join_normalisation(net: CaffeNet) -> int:
    """Have a net compute each BatchNorm and its Scale at once; returns how many there are.

    The Scale must be all that reads the normalised blob, and scale channels.
    """
    producers = {top: node for node in net.caffe.nodes for top in node.tops}
    count = 0
    for node in net.caffe.nodes:
        if type(node.layer) is not Scale or len(node.bottoms) != 1 or net.layer(node.name).detached:
            continue
        bottom = node.bottoms[0]
        before = producers.get(bottom)
        if before is None or type(before.layer) is not BatchNorm or bottom.consumers > 1 or bottom.loss_weight:
            continue
        if bottom.shape and node.layer.span(bottom.shape) == (1, (bottom.shape[1],)):
            scaling = net.layer(node.name)
            net.layer(before.name).layer = _Joined(**_fields(before.layer), scaling=scaling)
            scaling.layer = _Done(**_fields(node.layer))
            count += 1
    return count


def _fields(layer: Layer) -> dict[str, Any]:
    return {field.name: getattr(layer, field.name) for field in fields(layer)}
