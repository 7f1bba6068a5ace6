"""The blobs that a solver moves: owners and sharers, multipliers, gradients; semantics 2.7 and 3.2."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ..module import CaffeNet


@dataclass
class Learned:
    """One blob in the solver's order."""

    layer: str
    index: int
    tensor: torch.Tensor
    lr_mult: float
    decay_mult: float
    owner: int  # position of the blob that it shares values with; its own when it owns them
    others: list[torch.Tensor] = field(default_factory=list)  # BVLC: sharers of another shape, or frozen alone

    def clear(self) -> None:
        """Drop the gradient."""
        for tensor in (self.tensor, *self.others):
            tensor.grad = None

    def gather(self) -> None:
        """Take the gradients of the sharers in."""
        for other in self.others:
            if other.grad is not None:
                part = other.grad.reshape(self.tensor.shape)
                self.tensor.grad = part if self.tensor.grad is None else self.tensor.grad.add_(part)
                other.grad = None


def learned_blobs(net: CaffeNet) -> list[Learned]:
    """All blobs in Caffe's order (layers in net order, blobs in layer order).

    Where sharers share their gradients, owners only, and one explicit multiplier of a sharer holds for all; else
    every sharer, with multipliers of its own (semantics 2.7). Statistics are among them, with rate 0.
    """
    found: list[Learned] = []
    names: dict[str, int] = {}
    habits = net.caffe.habits
    for node in net.caffe.nodes:
        if not node.specs:
            continue
        blobs = net.layer(node.name).blobs
        for j, spec in enumerate(node.specs):
            entry = node.message.param[j] if j < len(node.message.param) else None
            rate, decay = (entry.lr_mult, entry.decay_mult) if entry is not None else (1.0, 1.0)
            if spec.statistic or (habits.layers_stop_decay and node.layer.holds_still()):
                # Where the layer masks the rate alone, decay still reaches the history of the adaptive rules.
                rate, decay = 0.0, 0.0 if habits.layers_stop_decay else decay
            name = entry.name if entry is not None else ""
            if name in names and name:
                first = found[names[name]]
                if habits.shares_gradients:
                    if entry is not None and entry.HasField("lr_mult"):
                        first.lr_mult = entry.lr_mult
                    if entry is not None and entry.HasField("decay_mult"):
                        first.decay_mult = entry.decay_mult
                    if blobs[j] is not first.tensor:
                        first.others.append(blobs[j])
                    continue
                found.append(Learned(node.name, j, blobs[j], rate, decay, names[name]))
                continue
            if name:
                names[name] = len(found)
            found.append(Learned(node.name, j, blobs[j], rate, decay, len(found)))
    return found


def gradients(learned: list[Learned]) -> list[torch.Tensor]:
    """The gradient of every blob itself, not a copy; zeros where backward reached none."""
    return [item.tensor.grad if item.tensor.grad is not None else torch.zeros_like(item.tensor) for item in learned]
