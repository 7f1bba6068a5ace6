"""Which of the two Caffe dialects a prototxt is written in and which packs it uses, and why."""

from __future__ import annotations

from collections.abc import Container, Iterable

from .community import field_forks
from .habits import habits
from .messages import DIALECTS, message_names, native_names, schema_cache
from .packs import pack_of_field, pack_of_value, packs_of_type
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
    """The layer types that a net of a dialect may have, those of packs and those that were added included."""
    return LAYER_TYPES[dialect] | ADDED_TYPES.keys()


def is_shared(type: str) -> bool:
    """Whether a layer type that one dialect has stands in a pack too, so that nets of any dialect may use it."""
    return bool(packs_of_type(type))


# Strings that only one Caffe understands: (message, field) -> dialect -> the strings it knows.
_STRINGS: dict[tuple[str, str], tuple[str, dict[str, Container[str]]]] = {
    ("LayerParameter", "type"): ("layer type", {**LAYER_TYPES}),
    ("SolverParameter", "lr_policy"): ("lr_policy", {d: habits(d).rate_policies for d in DIALECTS}),
}

_Sign = tuple[int, str]  # offset, what stands there


class _Evidence:
    """What speaks for whom: for a dialect alone, for one that shares it with a pack, for a pack alone."""

    def __init__(self) -> None:
        self.sure: dict[str, list[_Sign]] = {dialect: [] for dialect in DIALECTS}
        self.shared: dict[str, list[_Sign]] = {dialect: [] for dialect in DIALECTS}
        self.packs: dict[str, list[_Sign]] = {}
        self.declared: list[str] = []  # packs that the caller names
        self.open: list[tuple[list[str], _Sign]] = []  # packs of which one is meant
        self.also: list[tuple[list[str], _Sign]] = []  # the same, of what is shared

    def add(self, owners: list[str], shared: bool, packs: list[str], sign: _Sign) -> None:
        if len(owners) == 1:
            (self.shared if shared else self.sure)[owners[0]].append(sign)
            if shared and packs and owners[0] != DEFAULT:
                self.also.append((packs, sign))
        elif not owners and len(packs) == 1:
            self.packs.setdefault(packs[0], []).append(sign)
        elif not owners and packs:
            self.open.append((packs, sign))

    def of(self, dialect: str) -> list[_Sign]:
        """What speaks for a dialect. What it shares with packs does so only where nothing else is known."""
        foreign = self.declared or self.packs or self.open or self.sure[other(dialect)]
        weak = [] if foreign and not self.sure[dialect] else self.shared[dialect]
        return [*self.sure[dialect], *weak]


def other(dialect: str) -> str:
    """The other dialect."""
    return DIALECTS[1 - DIALECTS.index(dialect)]


def detect(tree: Tree, message: str = "NetParameter") -> tuple[str, str]:
    """The dialect of a tree, and the reason in words with a line of the file.

    Evidence is every field, enum value, layer type or repeated field that only one dialect has. Of
    conflicting evidence the larger part decides; without any, or in a tie, the dialect is `bvlc`. What the
    fork shares with a pack (ROIPooling, BN, ...) speaks for it only where nothing speaks for anybody else.
    """
    return _detected(tree, _evidence(tree, message))


def origin(
    tree: Tree, message: str, dialect: str | None, declared: Iterable[str] = ()
) -> tuple[str, str, dict[str, str]]:
    """The dialect of a tree, looked for unless given, the reason, and the packs as `detect_packs` tells them."""
    evidence = _evidence(tree, message)
    evidence.declared = list(declared)
    dialect, reason = (dialect, "as given") if dialect else _detected(tree, evidence)
    return dialect, reason, _packs(tree, evidence, dialect, declared)


def _detected(tree: Tree, evidence: _Evidence) -> tuple[str, str]:
    found = {dialect: evidence.of(dialect) for dialect in DIALECTS}
    if not any(found.values()):
        return DEFAULT, NO_EVIDENCE
    best = max(DIALECTS, key=lambda dialect: (len(found[dialect]), dialect == DEFAULT))
    reason = f"{_describe(tree, found[best])} exists only in {best}"
    if found[rest := other(best)]:
        reason += f"; against it, {_describe(tree, found[rest])} exists only in {rest}"
    return best, reason


def detect_packs(tree: Tree, message: str, dialect: str, declared: Iterable[str] = ()) -> dict[str, str]:
    """The packs that a net uses beside its dialect, each with the reason in words and a line of the file."""
    return _packs(tree, _evidence(tree, message), dialect, declared)


def _packs(tree: Tree, evidence: _Evidence, dialect: str, declared: Iterable[str]) -> dict[str, str]:
    packs = dict.fromkeys(declared, "as given")
    for name, signs in evidence.packs.items():
        packs.setdefault(name, f"{_describe(tree, signs)} exists only in its forks")
    also = evidence.also if dialect == DEFAULT else []  # what the fork shares with packs is theirs here
    for owners, sign in [*evidence.open, *also]:
        if not any(owner in packs for owner in owners):
            line, _ = tree.place(sign[0])
            others = f" (or {', '.join(owners[1:])})" if owners[1:] else ""
            packs[owners[0]] = f"{sign[1]} in line {line}{others}"
    return packs


def _evidence(tree: Tree, message: str) -> _Evidence:
    evidence = _Evidence()
    _collect(tree, message, evidence)
    return evidence


def _describe(tree: Tree, signs: list[_Sign]) -> str:
    at, what = min(signs)
    line, _ = tree.place(at)
    more = f" (and {len(signs) - 1} more)" if len(signs) > 1 else ""
    return f"{what} in line {line}{more}"


@schema_cache
def _pairs(message: str) -> dict[str, tuple[FieldSpec | None, FieldSpec | None]]:
    """The fields of a message by name, as each of the dialects declares them; None where only forks have one."""
    first, second = (_native_fields(message, dialect) for dialect in DIALECTS)
    return {name: (first.get(name), second.get(name)) for name in [*first, *second]}


def _native_fields(message: str, dialect: str) -> dict[str, FieldSpec]:
    if message not in message_names(dialect):
        return {}
    native = native_names(dialect)
    return {name: spec for name, spec in fields_of(message, dialect).items() if (message, name) in native}


@schema_cache
def _known(message: str) -> dict[str, FieldSpec]:
    """The fields of a message as any dialect knows them, forks included."""
    held = [fields_of(message, dialect) for dialect in reversed(DIALECTS) if message in message_names(dialect)]
    return {name: spec for fields in held for name, spec in fields.items()}


@schema_cache
def _native_values(enum: str) -> dict[str, frozenset[str]]:
    return {d: frozenset(name for owner, name in native_names(d) if owner == enum) for d in DIALECTS}


def _collect(tree: Tree, message: str, evidence: _Evidence) -> None:
    pairs, known = _pairs(message), _known(message)
    counts: dict[str, int] = {}
    for field in tree.fields:
        spec = known.get(field.name)
        if spec is None:
            continue
        specs = dict(zip(DIALECTS, pairs.get(field.name, (None, None)), strict=True))
        only = [dialect for dialect in DIALECTS if specs[dialect]]
        if len(only) < 2:
            pack = pack_of_field(message, field.name)
            sign = (field.at, f"the field '{field.name}' of {message}")
            evidence.add(only, (message, field.name) in field_forks(), [pack] if pack else [], sign)
        else:
            counts[field.name] = counts.get(field.name, 0) + len(field.values)
            repeated = [dialect for dialect, own in specs.items() if own and own.repeated]
            if len(repeated) == 1 and (field.listed or counts[field.name] == 2):
                evidence.sure[repeated[0]].append((field.at, f"a repeated '{field.name}' in {message}"))
        _collect_values(field, message, spec, evidence)


def _collect_values(field: Field, message: str, spec: FieldSpec, evidence: _Evidence) -> None:
    what, known = _STRINGS.get((message, field.name), ("", {}))
    for value in field.values:
        if isinstance(value, Scalar):
            packs: list[str] = []
            if spec.kind == "enum":
                pack = pack_of_value(spec.enum, value.text)
                what, packs = f"value of {spec.enum}", [pack] if pack else []
                known = {**_native_values(spec.enum)}
            elif what == "layer type":
                packs = packs_of_type(value.text)
            owners = [dialect for dialect in known if value.text in known[dialect]]
            if what:
                evidence.add(owners, bool(packs), packs, (value.at, f"the {what} '{value.text}'"))
        elif spec.message:
            _collect(value, spec.message, evidence)
