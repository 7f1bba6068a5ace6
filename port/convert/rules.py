"""Layer types that both dialects have and do not mean the same by; semantics 7.1.

A rule adapts the target message and yields what cannot be said in the target dialect, as (field, found, way out).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prototxt_gen.schema.habits import Habits, habits

Complaint = tuple[str, str, str]
Rule = Callable[[Any, Any, Habits], Iterator[Complaint]]

# What differs although all fields agree: said once when a net has such a layer.
REMARKS = {
    "Accuracy": "Accuracy: of equal scores the fork takes the larger index, bvlc counts all against the label",
    "Python": "Python: `phase` is the string 'train' or 'test' in the fork, 0 or 1 in bvlc",
    "MVN": "MVN: the fork computes the variance as E[x^2] - E[x]^2, which cancels for large means",
}
# Fields of which only the rules here know what they mean; other layers do not read them.
BY_RULE = {"inner_product_param.transpose", "loss_param.normalization"}
_BILINEAR = "a bilinear filler draws another kernel in the other dialect for sizes 2, 3, 6, 7, 10, ...: load weights"


def remarks(layer: Any) -> Iterator[str]:
    """What the user should know about a layer that was converted as it is."""
    if layer.type in REMARKS:
        yield REMARKS[layer.type]
    if layer.type == "Exp" and layer.exp_param.base == -1 and layer.exp_param.shift:
        yield "Exp: with base e and a shift the fork's own code is wrong; the mathematics is converted"
    if layer.convolution_param.weight_filler.type == "bilinear":
        yield _BILINEAR
    if layer.propagate_down:
        yield "propagate_down: bvlc can also force a gradient with it, the fork can only stop one"
    if layer.type == "SoftmaxWithLoss" and layer.loss_param.HasField("ignore_label"):
        yield "SoftmaxWithLoss: a batch with every label ignored gives 0 in bvlc and NaN in the fork"


def adapt(source: Any, target: Any, to: str) -> Iterator[Complaint]:
    """Apply the rule of the layer's type, if it has one."""
    if source.type in _RULES:
        yield from _RULES[source.type](source, target, habits(to))


def _sigmoid_loss(source: Any, target: Any, to: Habits) -> Iterator[Complaint]:
    """The fork always divides by N and ignores no label."""
    loss = source.loss_param
    target.ClearField("loss_param")
    if to.sigmoid_loss_is_by_item:
        mode = _mode(loss, "BATCH_SIZE")
        if mode != "BATCH_SIZE":
            yield "loss_param", f"the normalization {mode}: the fork always divides by the batch size", ""
        if loss.HasField("ignore_label"):
            yield "loss_param.ignore_label", "the fork ignores no label in this loss", ""


def _softmax_loss(source: Any, target: Any, to: Habits) -> Iterator[Complaint]:
    if not to.softmax_loss_has_modes:
        mode, loss = _mode(source.loss_param, "VALID"), source.loss_param
        if mode == "BATCH_SIZE":
            target.loss_param.normalize = False
        elif mode == "VALID" or (mode == "FULL" and not loss.HasField("ignore_label")):
            target.loss_param.ClearField("normalize")  # the fork's default is this one
        else:
            yield "loss_param.normalization", f"the fork has no {mode}", "use VALID or BATCH_SIZE"


def _mode(loss: Any, default: str) -> str:
    """The normalization that bvlc uses for its own `loss_param`."""
    if loss.HasField("normalization"):
        return loss.DESCRIPTOR.enum_types_by_name["NormalizationMode"].values_by_number[loss.normalization].name
    if loss.HasField("normalize"):
        return "VALID" if loss.normalize else "BATCH_SIZE"
    return default


def _infogain_loss(source: Any, target: Any, to: Habits) -> Iterator[Complaint]:
    yield "type", "its first bottom holds probabilities in the fork, and scores before a softmax in bvlc", ""


def _few(field: str, least: int) -> Rule:
    def rule(source: Any, target: Any, to: Habits) -> Iterator[Complaint]:
        if not to.joins_one and len(getattr(source, field)) < least:
            yield field, f"{len(getattr(source, field))} {field}: the fork wants {least} or more", ""

    return rule


def _accuracy(source: Any, target: Any, to: Habits) -> Iterator[Complaint]:
    if not to.accuracy_of_each_class and len(source.top) > 1:
        yield "top", "a second top, the accuracy of each class: the fork has none", ""


def _spp(source: Any, target: Any, to: Habits) -> Iterator[Complaint]:
    if source.spp_param.pyramid_height == 1:
        yield "spp_param.pyramid_height", "1 level: the fork aborts, and bvlc does not flatten it", ""


def _inner_product(source: Any, target: Any, to: Habits) -> Iterator[Complaint]:
    """A transposed weight is stored the other way round, and its fans change places."""
    if not to.transposes_inner_product and source.inner_product_param.transpose:
        if source.param and source.param[0].name:
            yield "inner_product_param.transpose", "a transposed weight that is shared by name", "share it untransposed"
        filler = target.inner_product_param.weight_filler
        norms = filler.DESCRIPTOR.enum_types_by_name["VarianceNorm"].values_by_name
        swapped = {norms[a].number: norms[b].number for a, b in (("FAN_IN", "FAN_OUT"), ("FAN_OUT", "FAN_IN"))}
        if filler.type in ("xavier", "msra"):
            filler.variance_norm = swapped.get(filler.variance_norm, filler.variance_norm)


_RULES: dict[str, Rule] = {
    "SigmoidCrossEntropyLoss": _sigmoid_loss,
    "SoftmaxWithLoss": _softmax_loss,
    "InfogainLoss": _infogain_loss,
    "Accuracy": _accuracy,
    "Concat": _few("bottom", 2),
    "Slice": _few("top", 2),
    "SPP": _spp,
    "InnerProduct": _inner_product,
}
