"""Which of the two Caffe dialects a prototxt is written in, and why."""

from __future__ import annotations

from collections.abc import Container

from .messages import DIALECTS, schema_cache
from .syntax import Field, Scalar, Tree
from .values import FieldSpec, fields_of

DEFAULT = "bvlc"
NO_EVIDENCE = f"nothing in the file is special to one dialect; {DEFAULT} is the default"

_BOTH = """
    AbsVal Accuracy ArgMax BNLL Bias Concat ContrastiveLoss Convolution Data Deconvolution Dropout
    DummyData Eltwise EuclideanLoss Exp Filter Flatten HDF5Data HDF5Output HingeLoss Im2col ImageData
    InfogainLoss InnerProduct LRN Log MVN MemoryData MultinomialLogisticLoss PReLU Pooling Power Python
    ReLU Reduction Reshape SPP Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice Softmax
    SoftmaxWithLoss Split TanH Threshold Tile WindowData
"""
_BVLC = "BatchNorm BatchReindex Clip Crop ELU Embed Input LSTM LSTMUnit Parameter RNN Swish"
_SRN = "BN BatchReduction Gather Normalize ROIPooling Scatter SmoothL1Loss VideoData"

# The names that a `layer { type: }` may have: those each Caffe registers.
LAYER_TYPES: dict[str, frozenset[str]] = {
    "bvlc": frozenset([*_BOTH.split(), *_BVLC.split()]),
    "srn": frozenset([*_BOTH.split(), *_SRN.split()]),
}

# Types of one's own (`port.register`), which any dialect may have: type -> the fields that hold their settings.
ADDED_TYPES: dict[str, tuple[str, ...]] = {}


def add_layer_type(name: str, param: tuple[str, ...] = ()) -> None:
    """Make a layer type that neither Caffe has known to all who ask for types."""
    if not any(name in types for types in LAYER_TYPES.values()):
        ADDED_TYPES[name] = param


def layer_types(dialect: str) -> frozenset[str]:
    """The layer types that a net of a dialect may have, those that were added included."""
    return LAYER_TYPES[dialect] | ADDED_TYPES.keys()


_POLICIES = frozenset(["fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid"])

# Strings that only one Caffe understands: (message, field) -> dialect -> the strings it knows.
_STRINGS: dict[tuple[str, str], tuple[str, dict[str, Container[str]]]] = {
    ("LayerParameter", "type"): ("layer type", {**LAYER_TYPES}),
    ("SolverParameter", "lr_policy"): ("lr_policy", {"bvlc": _POLICIES, "srn": _POLICIES | {"exp10"}}),
}

_Evidence = dict[str, list[tuple[int, str]]]  # dialect -> (offset, what only this dialect has)


def other(dialect: str) -> str:
    """The other dialect."""
    return DIALECTS[1 - DIALECTS.index(dialect)]


def detect(tree: Tree, message: str = "NetParameter") -> tuple[str, str]:
    """The dialect of a tree, and the reason in words with a line of the file.

    Evidence is every field, enum value, layer type or repeated field that only one dialect has. Of
    conflicting evidence the larger part decides; without any, or in a tie, the dialect is `bvlc`.
    """
    evidence: _Evidence = {dialect: [] for dialect in DIALECTS}
    _collect(tree, message, evidence)
    counts = {dialect: len(found) for dialect, found in evidence.items()}
    if not any(counts.values()):
        return DEFAULT, NO_EVIDENCE
    best = max(DIALECTS, key=lambda dialect: (counts[dialect], dialect == DEFAULT))
    reason = _describe(tree, evidence[best], best)
    if counts[rest := other(best)]:
        reason += f"; against it, {_describe(tree, evidence[rest], rest)}"
    return best, reason


def _describe(tree: Tree, evidence: list[tuple[int, str]], dialect: str) -> str:
    at, what = min(evidence)
    line, _ = tree.place(at)
    more = f" (and {len(evidence) - 1} more)" if len(evidence) > 1 else ""
    return f"{what} in line {line}{more} exists only in {dialect}"


@schema_cache
def _pairs(message: str) -> dict[str, tuple[FieldSpec | None, FieldSpec | None]]:
    """The fields of a message by name, as each of the dialects declares them."""
    first, second = (fields_of(message, dialect) for dialect in DIALECTS)
    return {name: (first.get(name), second.get(name)) for name in [*first, *second]}


def _collect(tree: Tree, message: str, evidence: _Evidence) -> None:
    pairs = _pairs(message)
    counts: dict[str, int] = {}
    for field in tree.fields:
        if field.name not in pairs:
            continue
        specs = dict(zip(DIALECTS, pairs[field.name], strict=True))
        only = [dialect for dialect in DIALECTS if specs[dialect]]
        if len(only) == 1:
            evidence[only[0]].append((field.at, f"the field '{field.name}' of {message}"))
            continue
        counts[field.name] = counts.get(field.name, 0) + len(field.values)
        repeated = [dialect for dialect, spec in specs.items() if spec and spec.repeated]
        if len(repeated) == 1 and (field.listed or counts[field.name] == 2):
            evidence[repeated[0]].append((field.at, f"a repeated '{field.name}' in {message}"))
        _collect_values(field, message, specs, evidence)


def _collect_values(field: Field, message: str, specs: dict[str, FieldSpec | None], evidence: _Evidence) -> None:
    what, known = _STRINGS.get((message, field.name), ("", {}))
    spec = specs[DEFAULT]
    assert spec is not None
    for value in field.values:
        if isinstance(value, Scalar):
            if spec.kind == "enum":
                what, known = f"value of {spec.enum}", {d: s.values.keys() for d, s in specs.items() if s}
            owners = [dialect for dialect in known if value.text in known[dialect]]
            if len(owners) == 1:
                evidence[owners[0]].append((value.at, f"the {what} '{value.text}'"))
        elif spec.message:
            _collect(value, spec.message, evidence)
