"""Drawing losses and Accuracy: every normalisation, ignored labels, second tops, ties, logits without bounds."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from .draws import Draw, drawn, maybe, phase, seed, seldom, shape_of
from .nets import Bottom, Case, Shape, Word

MODES = list(map(Word, ["FULL", "VALID", "BATCH_SIZE", "NONE"]))
RANKS = (2, 3, 4)


def _loss_param(draw: Draw, dialect: str, ignored: int | None) -> dict[str, Any]:
    block: dict[str, Any] = {} if ignored is None else {"ignore_label": ignored}
    if dialect == "bvlc":
        block |= maybe(draw, "normalization", MODES)
    block |= maybe(draw, "normalize", st.booleans())
    return {"loss_param": block} if block else {}


def _labels(draw: Draw, shape: Shape, axis: int, ignored: int | None) -> Bottom:
    """One label a location; seldom one too many."""
    rest = (*shape[:axis], *shape[axis + 1 :])
    forms = [rest, (*shape[:axis], 1, *shape[axis + 1 :])]
    if len(rest) > 1:
        forms.append((rest[0], _count(rest[1:])))
    wanted = draw(st.sampled_from(forms))
    if seldom(draw):
        wanted = draw(st.sampled_from([(_count(rest) + 1,), (1, _count(rest)), ()]))
    return Bottom(wanted, "labels", shape[axis] if shape else 1, ignored)


def _count(shape: Shape) -> int:
    n = 1
    for extent in shape:
        n *= extent
    return n


def _ignored(draw: Draw, classes: int) -> int | None:
    return draw(st.sampled_from([-1, 255, 0, classes - 1])) if draw(st.booleans()) else None


def _classes(draw: Draw, dialect: str, axes: bool) -> tuple[Shape, int, dict[str, int]]:
    """A shape, its class axis, and the field."""
    shape = shape_of(draw, (*RANKS, 5) if dialect == "bvlc" else RANKS, (1,))
    rank = len(shape)
    if not axes or draw(st.booleans()):
        return shape, min(1, rank - 1), {} if rank > 1 else {"axis": 0}
    axis = draw(st.integers(0, rank - 1))
    return shape, axis, {"axis": draw(st.sampled_from([axis, axis - rank]))}


@drawn("SoftmaxWithLoss")
def softmax_with_loss(draw: Draw, dialect: str) -> Case:
    shape, axis, block = _classes(draw, dialect, True)
    ignored = _ignored(draw, shape[axis])
    kind = draw(st.sampled_from(["normal", "quantised", "extreme"]))
    if shape[axis] < 4 and kind == "extreme":  # all of a row could be -inf, which is NaN in Caffe too
        kind = "normal"
    parts = {**({"softmax_param": block} if block else {}), **_loss_param(draw, dialect, ignored)}
    return Case(
        "SoftmaxWithLoss",
        dialect,
        (Bottom(shape, kind), _labels(draw, shape, axis, ignored)),
        parts,
        tops=2 if seldom(draw) else 1,
        phase=phase(draw),
        seed=seed(draw),
    )


@drawn("InfogainLoss")
def infogain(draw: Draw, dialect: str) -> Case:
    shape, axis, block = _classes(draw, dialect, dialect == "bvlc")
    if dialect == "srn":
        axis, block = min(1, len(shape) - 1), {}
    classes = shape[axis] if dialect == "bvlc" else _count(shape[1:])
    ignored = _ignored(draw, classes)
    if dialect == "bvlc":
        label = _labels(draw, shape, axis, ignored)
    else:
        label = Bottom(draw(st.sampled_from([(shape[0],), (shape[0], 1)])), "labels", classes)
    parts: dict[str, Any] = {"infogain_loss_param": block} if block else {}
    loss = {} if ignored is None else {"ignore_label": ignored}
    if dialect == "bvlc":
        loss |= maybe(draw, "normalization", MODES)
    if seldom(draw):
        loss["normalize"] = draw(st.booleans())
    parts |= {"loss_param": loss} if loss else {}
    matrix = Bottom(draw(st.sampled_from([(classes, classes), (1, 1, classes, classes + seldom(draw))])))
    kind = "unit" if dialect == "srn" else "normal"
    return Case(
        "InfogainLoss",
        dialect,
        (Bottom(shape, kind), label, matrix),
        parts,
        tops=2 if draw(st.integers(0, 4)) == 4 else 1,
        seed=seed(draw),
    )


@drawn("SigmoidCrossEntropyLoss")
def sigmoid_cross_entropy(draw: Draw, dialect: str) -> Case:
    shape = shape_of(draw, RANKS, (1, 0))
    ignored = draw(st.sampled_from([-1, 0, 1, 2])) if draw(st.booleans()) else None
    kind = draw(st.sampled_from(["unit", "labels", "normal"]))
    target = (shape[0], _count(shape[1:])) if shape and draw(st.booleans()) else shape
    if seldom(draw):
        target = (*target, 2)
    return Case(
        "SigmoidCrossEntropyLoss",
        dialect,
        (Bottom(shape), Bottom(target, kind, 3, ignored)),
        _loss_param(draw, dialect, ignored),
        phase=phase(draw),
        seed=seed(draw),
    )


@drawn("EuclideanLoss")
def euclidean(draw: Draw, dialect: str) -> Case:
    shape = shape_of(draw, (1, *RANKS), (0,))
    other = (shape[0], _count(shape[1:])) if shape and draw(st.booleans()) else shape
    if seldom(draw):
        other = draw(st.sampled_from([(*other, 2), (), (1, *other)]))
    return Case("EuclideanLoss", dialect, (Bottom(shape), Bottom(other)), phase=phase(draw), seed=seed(draw))


@drawn("HingeLoss", "MultinomialLogisticLoss")
def per_item(draw: Draw, dialect: str, type: str) -> Case:
    shape = shape_of(draw, RANKS, (1, 0))
    items, classes = (shape[0] if shape else 1), _count(shape[1:])
    label = draw(st.sampled_from([(items,), (items, 1), (items, 1, 1, 1)]))
    if seldom(draw):
        label = draw(st.sampled_from([(items + 1,), (), (items, 2), (1, items)]))
    block = {"hinge_loss_param": maybe(draw, "norm", [Word("L1"), Word("L2")])} if type == "HingeLoss" else {}
    kind = "normal" if type == "HingeLoss" else draw(st.sampled_from(["unit", "labels"]))
    return Case(
        type,
        dialect,
        (Bottom(shape, kind, 2), Bottom(label, "labels", classes)),
        block,
        phase=phase(draw),
        seed=seed(draw),
    )


@drawn("ContrastiveLoss")
def contrastive(draw: Draw, dialect: str) -> Case:
    items, features = draw(st.permutations(range(1, 7)))[:2]
    shape = (items, features, *draw(st.sampled_from([(), (1, 1)])))
    if seldom(draw):
        shape = draw(st.sampled_from([(items,), (), (items, features, 2)]))
    similar = (items, *draw(st.sampled_from([(), (1,), (1, 1, 1)])))
    if seldom(draw):
        similar = draw(st.sampled_from([(items, 2), (), (items + 1,)]))
    block = {**maybe(draw, "margin", [1.0, 2.0, 5.0]), **maybe(draw, "legacy_version", st.booleans())}
    bottoms = (Bottom(shape), Bottom(shape), Bottom(similar, "flags"))
    param = {"contrastive_loss_param": block} if block else {}
    return Case("ContrastiveLoss", dialect, bottoms, param, seed=seed(draw))


@drawn("SmoothL1Loss")
def smooth_l1(draw: Draw, dialect: str) -> Case:
    shape = shape_of(draw, (1, *RANKS), (0, 5))
    bottoms = [Bottom(shape, draw(st.sampled_from(["normal", "quantised"]))), Bottom(shape)]
    if draw(st.booleans()):
        bottoms.append(Bottom(shape if not seldom(draw) else (*shape, 1), draw(st.sampled_from(["unit", "starts"]))))
    return Case("SmoothL1Loss", dialect, tuple(bottoms), seed=seed(draw))


@drawn("Accuracy")
def accuracy(draw: Draw, dialect: str) -> Case:
    shape, axis, block = _classes(draw, dialect, True)
    ignored = _ignored(draw, shape[axis])
    block = {**block, **maybe(draw, "top_k", st.integers(1, 3))}
    block |= {} if ignored is None else {"ignore_label": ignored}
    kind = draw(st.sampled_from(["normal", "quantised"]))
    tops = 2 if (draw(st.booleans()) if dialect == "bvlc" else seldom(draw)) else 1
    return Case(
        "Accuracy",
        dialect,
        (Bottom(shape, kind), _labels(draw, shape, axis, ignored)),
        {"accuracy_param": block} if block else {},
        tops=tops,
        phase=phase(draw),
        seed=seed(draw),
    )
