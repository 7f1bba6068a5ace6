"""What makes a train_val net of a net: losses, parts that stay fixed."""

from __future__ import annotations

from typing import Any

from ..base.errors import Problems, UsageError
from ..builder import NetBuilder
from ..schema.blobs import blob_count
from .config import LOGITS, NetConfig, Step


def check_step(net: NetBuilder, config: NetConfig, step: Step) -> None:
    """Raise UsageError for logits and parts that the step names and the net does not have."""
    logits = sorted(net.blobs("TRAIN") & set(LOGITS))
    parts = [part for part in dict.fromkeys(net.parts.values()) if part != "data"]
    with Problems(UsageError) as problems:
        for name in config.losses:
            if name not in logits:
                found = f"{step.stem} trains on '{name}', which its net does not make"
                problems.add(found, expected=f"one of: {', '.join(logits)}")
        for part in step.trained:
            if part not in parts:
                found = f"{step.stem} trains the part '{part}', which its net does not have"
                problems.add(found, expected=f"some of: {', '.join(repr(each) for each in parts)}")


def add_losses(net: NetBuilder, config: NetConfig, label: str) -> None:
    """F (eq 10) on the logits of the step; the other logits' losses are watched in phase TEST."""
    trained = " + ".join(f"F(y, {logits})" for logits in config.losses)
    net.section(f"Losses (3.4): {trained}; in TEST those of all logits", part="losses")
    there = net.blobs("TEST")
    for logits in dict.fromkeys([*config.losses, *LOGITS]):
        if logits in there:
            name = f"loss_{logits.removeprefix('y_')}" if logits != "y" else "loss"
            net.SigmoidCrossEntropyLoss(name, logits, label, **config.only_monitored(logits))


def silence(net: NetBuilder, config: NetConfig) -> None:
    """Take in what training leaves unread, which Caffe would print otherwise."""
    losses = {layer.top[0] for layer in net.layers() if layer.type.endswith("Loss")}
    unread = [blob for blob in net.outputs("TRAIN") if blob not in losses]
    if unread:
        net.section("Computed so that snapshots hold every part; no loss in this step", part="losses")
        net.Silence("unread", *unread, top=(), include={"phase": "TRAIN"})


def freeze(net: NetBuilder, step: Step) -> None:
    """lr_mult 0 for every blob outside the parts that a step trains, and statistics that stay as they are.

    Raises UsageError naming all layers of which nobody here knows what can learn.
    """
    if not step.trained:
        return
    with Problems(UsageError) as problems:
        for layer in net.layers():
            if net.parts[layer.name] not in step.trained:
                _freeze(layer, step, problems)


def _freeze(layer: Any, step: Step, problems: Problems) -> None:
    count = blob_count(layer)
    if count is None:
        if not layer.param or any(entry.lr_mult for entry in layer.param):
            found = f"{layer.type}: {step.stem} keeps this layer fixed, but how many blobs it has is not known here"
            fix = "write it with param=[{'lr_mult': 0, 'decay_mult': 0}, ...], one for each of its blobs"
            problems.add(found, layer=layer.name, field="param", fix=fix)
        return
    while len(layer.param) < count:
        layer.param.add()
    for entry in layer.param:
        entry.lr_mult = entry.decay_mult = 0
    if layer.type == "BN":
        layer.bn_param.frozen = True
    if layer.type == "BatchNorm":
        layer.batch_norm_param.use_global_stats = True
