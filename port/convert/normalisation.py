"""The dialects' normalisation: the fork's BN and BVLC's BatchNorm with Scale; semantics 1.6 to 1.8.

BN (1 x C)    slope  bias   mean   variance
BatchNorm                   mean   variance   count    (the sums divided by count are the statistics)
Scale         slope  bias
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from prototxt_gen.schema import message_class

from ..graph.state import PHASES, phase_name

Blobs = Sequence[np.ndarray]
SHARED = ("include", "exclude", "phase")  # both layers of a pair have these fields of the one
CUDNN_LEAST_EPS = float(np.float32(1e-5))


def scale_names(norms: Sequence[str], taken: set[str]) -> dict[str, str]:
    """A name for the Scale behind each normalisation layer, none of them taken.

    As in He's published files: bn2a_branch2a is followed by scale2a_branch2a; other names get `_scale`.
    """
    names: dict[str, str] = {}
    used = set(taken)
    for norm in dict.fromkeys(norms):
        name = re.sub(r"(^|[/_])bn(?=[\d/_]|$)", r"\1scale", norm, count=1)
        name = name if name != norm else f"{norm}_scale"
        while name in used:
            name += "_"
        used.add(name)
        names[norm] = name
    return names


def split_bn(bn: Any, name: str) -> tuple[list[Any], str]:
    """A BN layer as BatchNorm and a Scale called `name`, and what cannot be said ("" if nothing)."""
    layer = message_class("LayerParameter", "bvlc")
    norm = layer(name=bn.name, type="BatchNorm", bottom=bn.bottom, top=bn.top, propagate_down=bn.propagate_down)
    scale = layer(name=name, type="Scale", bottom=bn.top, top=bn.top, loss_weight=bn.loss_weight)
    own = bn.bn_param
    _set(norm.batch_norm_param, "moving_average_fraction", own.momentum)
    if own.HasField("eps"):
        norm.batch_norm_param.eps = own.eps
    if own.frozen:
        norm.batch_norm_param.use_global_stats = True
    _copy_filler(own.slope_filler, scale.scale_param.filler)  # without one, BN's slope is 0 and Scale's 1
    scale.scale_param.bias_term = True
    if own.HasField("bias_filler"):
        _copy_filler(own.bias_filler, scale.scale_param.bias_filler)
    for entry in bn.param[:2]:
        _copy_param(entry, scale.param.add())
    if own.frozen:
        _fix(scale.param, 2)
    names = [entry.name for entry in bn.param[2:4]]
    if any(names):
        for shared in (*names, f"{names[0]}_count"):
            norm.param.add(name=shared)
    if len(bn.param) > 2:
        _fix(norm.param, 3)
    return [norm, scale], "" if all(names) or not any(names) else "only one of its two statistics is shared by name"


def merge_bn(norm: Any, scale: Any | None) -> tuple[Any, str]:
    """A BatchNorm, with the Scale behind it or without one, as BN; and what cannot be said ("" if nothing)."""
    last = norm if scale is None else scale
    bn = message_class("LayerParameter", "srn")(name=norm.name, type="BN", bottom=norm.bottom, top=last.top)
    bn.propagate_down.extend(norm.propagate_down)
    bn.loss_weight.extend(last.loss_weight)
    _set(bn.bn_param, "momentum", norm.batch_norm_param.moving_average_fraction)
    if norm.batch_norm_param.HasField("eps"):
        bn.bn_param.eps = norm.batch_norm_param.eps
    phases, wrong = layer_phases(norm), ""
    if norm.batch_norm_param.HasField("use_global_stats"):
        if norm.batch_norm_param.use_global_stats:
            bn.bn_param.frozen = "TRAIN" in phases
        elif "TEST" in phases:
            wrong = "the statistics of the batch in phase TEST (use_global_stats: false): BN cannot"
    _set_affine(bn, scale)
    names = [entry.name for entry in norm.param]
    if any(names):
        for shared in names[:2]:
            while len(bn.param) < 2:
                bn.param.add()
            bn.param.add(name=shared, lr_mult=0, decay_mult=0)
        if len(names) < 3 or not all(names):
            wrong = "only some of its three statistics are shared by name"
    if norm.batch_norm_param.eps < CUDNN_LEAST_EPS or list(bn.bottom) == list(bn.top):
        # cuDNN's BN takes 1e-5 at least, and its backward is wrong in place.
        bn.bn_param.engine = bn.bn_param.DESCRIPTOR.enum_types_by_name["Engine"].values_by_name["CAFFE"].number
    return bn, wrong


def _set(message: Any, field: str, value: float) -> None:
    """Set a field unless its absence says the same; the dialects' defaults differ."""
    message.SetInParent()
    if value != getattr(message, field):
        setattr(message, field, value)


def _set_affine(bn: Any, scale: Any | None) -> None:
    """Fillers and multipliers of slope and bias: the Scale's, or 1 and 0 that are not learned."""
    bn.bn_param.slope_filler.value = 1
    if scale is not None:
        if scale.scale_param.HasField("filler"):
            _copy_filler(scale.scale_param.filler, bn.bn_param.slope_filler)
        if scale.scale_param.HasField("bias_filler") and scale.scale_param.bias_term:
            _copy_filler(scale.scale_param.bias_filler, bn.bn_param.bias_filler)
        for entry in scale.param:
            _copy_param(entry, bn.param.add())
    if scale is None or not scale.scale_param.bias_term:
        while len(bn.param) < 2:
            bn.param.add()
        for entry in bn.param[0 if scale is None else 1 : 2]:
            entry.lr_mult = entry.decay_mult = 0


def _copy_filler(source: Any, target: Any) -> None:
    """A filler, said in full: BN and Scale mean different things by none."""
    target.ParseFromString(source.SerializeToString())  # FillerParameter is the same in both dialects
    if not source.HasField("type"):
        target.type = source.type
    if source.type == "constant":
        target.value = source.value


def _copy_param(source: Any, target: Any) -> None:
    target.ParseFromString(source.SerializeToString())  # so is ParamSpec


def _fix(params: Any, count: int) -> None:
    while len(params) < count:
        params.add()
    for entry in params:
        entry.lr_mult = entry.decay_mult = 0


def layer_phases(layer: Any) -> set[str]:
    """The phases in which a layer may run, as far as its rules tell without stages and levels."""
    if layer.HasField("phase"):
        return {phase_name(layer.phase)}
    if layer.include:
        return {p for p in PHASES for rule in layer.include if not rule.HasField("phase") or _is(rule, p)}
    # A rule with more parts than a phase need not be met.
    gone = {p for p in PHASES for rule in layer.exclude if _is(rule, p) and len(rule.ListFields()) == 1}
    return set(PHASES) - gone


def _is(rule: Any, phase: str) -> bool:
    return rule.HasField("phase") and phase_name(rule.phase) == phase


def scale_pairs(layers: Sequence[Any]) -> dict[int, int]:
    """Indices of the BatchNorm layers that one BN can replace together with the Scale directly behind them.

    The Scale works per channel on nothing but the BatchNorm's top, which no other layer reads, and both run
    under the same rules. Layers of one name (in different phases) go together or not at all.
    """
    readers = Counter(blob for layer in layers for blob in set(layer.bottom))
    pairs = {
        i: i + 1
        for i, (norm, scale) in enumerate(pairwise(layers))
        if norm.type == "BatchNorm" and scale.type == "Scale" and _is_pair(norm, scale, readers)
    }
    partners = defaultdict(set)
    for i, layer in enumerate(layers):
        if layer.type == "BatchNorm":
            partners[layer.name].add(layers[pairs[i]].name if i in pairs else None)
        elif layer.type == "Scale" and i not in pairs.values():
            partners[None].add(layer.name)  # a name of a Scale that stays
    alone = partners.pop(None, set())
    return {i: j for i, j in pairs.items() if len(partners[layers[i].name]) == 1 and layers[j].name not in alone}


def _is_pair(norm: Any, scale: Any, readers: Mapping[str, int]) -> bool:
    between = list(norm.top)
    per_channel = scale.scale_param.axis == 1 and scale.scale_param.num_axes == 1
    if list(scale.bottom) != between or len(between) != 1 or not per_channel or norm.loss_weight:
        return False
    if list(scale.top) != between and readers[between[0]] > 1:
        return False
    return all(_field(norm, name) == _field(scale, name) for name in SHARED)


def _field(layer: Any, name: str) -> Any:
    value = getattr(layer, name)
    return [rule.SerializeToString() for rule in value] if name != "phase" else (layer.HasField(name), value)


def split_blobs(bn: Blobs) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """BN's blobs as those of BatchNorm and of Scale; the statistics get the weight 1."""
    slope, bias, mean, variance = (blob.reshape(-1) for blob in bn)
    return [mean, variance, np.ones(1, mean.dtype)], [slope, bias]


def merge_blobs(norm: Blobs, scale: Blobs | None) -> list[np.ndarray]:
    """BN's blobs from those of BatchNorm and Scale, in float64; a weight of 0 means statistics of 0."""
    mean, variance, count = (np.asarray(blob, np.float64).reshape(-1) for blob in norm)
    factor = 0.0 if count[0] == 0 else 1 / count[0]
    slope, bias = np.ones_like(mean), np.zeros_like(mean)
    if scale is not None:
        slope = np.asarray(scale[0], np.float64)
        bias = np.asarray(scale[1], np.float64) if len(scale) > 1 else bias
    return [blob.reshape(1, -1) for blob in (slope, bias, mean * factor, variance * factor)]
