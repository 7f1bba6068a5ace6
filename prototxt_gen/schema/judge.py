"""The one judge of which kind of prototxt a text is: a net, a solver, or neither.

Every field at the top of a text speaks for the kinds that have one of that name, in either dialect: a block each time
it stands there, other values once, however often they are repeated. The kind for which more speaks wins, so that a
stray line does not make a solver of a net; what both have speaks for neither.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..base.errors import ParseError, Problem, closest
from ..base.files import read_bytes
from ..base.formats import CHECK
from .messages import DIALECTS, message_names, native_names, schema_cache
from .sniff import check_is_prototxt, decode
from .syntax import Field, Tree, parse_tree, printable
from .values import fields_of

NET, SOLVER = "NetParameter", "SolverParameter"
KINDS = {NET: "a net", SOLVER: "a solver"}

_LAYERS = ("layer", "layers")
# Messages that people have files of, or take a part of a net for; the old layers come last.
_LIKELY = ("NetState", "TransformationParameter", "LayerParameter", "Datum", "BlobProto", "SolverState")
_OLD = ("V1LayerParameter", "V0LayerParameter")
_SHOWN = 3  # names in a message


class Verdict(NamedTuple):
    """What a text is: its `kind`, "" for neither; then, of Caffe's messages, the one it `resembles`, or "".

    `names`: what tells, in the order of the text, each once.
    """

    kind: str
    resembles: str = ""
    names: tuple[str, ...] = ()


def judge(tree: Tree) -> Verdict:
    """Whether a text is a net or a solver; where as much speaks for both, one with layers is a net.

    Neither is a text with fields of which a net and a solver have none, and one that another message fits better.
    """
    weights = _weights(tree.fields)
    of = {kind: _known(kind) for kind in KINDS}
    net, solver = (_sum(weights, of[kind] - of[rest]) for kind, rest in ((NET, SOLVER), (SOLVER, NET)))
    kind = SOLVER if solver > net or (solver == net > 0 and not weights.keys() & set(_LAYERS)) else NET
    if not weights:
        return Verdict(kind)
    if resembled := _resembled(weights, _sum(weights, of[kind])):
        return Verdict("", resembled, tuple(weights))
    told = tuple(name for name in weights if name in of[kind])
    return Verdict(kind, "", told) if told else Verdict("", "", tuple(weights))


def judge_text(text: str, file: str = "") -> str:
    """NET or SOLVER; raises ParseError for a text that is neither, or not in the text format."""
    check_is_prototxt(text, "a net or a solver", file)
    tree = parse_tree(text, file)
    verdict = judge(tree)
    if not verdict.kind:
        raise ParseError(neither(verdict, tree))
    return verdict.kind


def judge_file(path: str | Path) -> str:
    """NET or SOLVER, whichever a file is; raises ParseError for one that is neither, or cannot be read."""
    return judge_text(decode(read_bytes(path, ParseError), str(path)), str(path))


def neither(verdict: Verdict, tree: Tree, expected: str = "a net or a solver") -> Problem:
    """The problem of a text that is neither: what it looks like, or which names are unknown."""
    names = listed(verdict.names)
    if verdict.resembles:
        found = f"this is neither a net nor a solver, it looks like a message {verdict.resembles} ({names})"
        return Problem(found, expected, _place(verdict.resembles), file=tree.source.file)
    found = f"this is neither a net nor a solver: neither has fields named {names}"
    return Problem(found, expected, _hint(verdict.names), file=tree.source.file)


def listed(names: Sequence[str]) -> str:
    """The first few names of fields, as they stand in a message."""
    return ", ".join([*(f"'{printable(name)}'" for name in names[:_SHOWN]), *(["..."] if names[_SHOWN:] else [])])


def _weights(fields: Sequence[Field]) -> dict[str, int]:
    """How much each name says, in the order of the text."""
    weights: dict[str, int] = {}
    for field in fields:
        blocks = sum(isinstance(value, Tree) for value in field.values)
        weights[field.name] = max(1, weights.get(field.name, 0) + blocks)
    return weights


def _sum(weights: Mapping[str, int], names: Collection[str]) -> int:
    return sum(weight for name, weight in weights.items() if name in names)


@schema_cache
def _known(message: str) -> frozenset[str]:
    """The fields of a message in either dialect."""
    return frozenset(name for each in DIALECTS if message in message_names(each) for name in fields_of(message, each))


@schema_cache
def _others() -> list[str]:
    """All messages but nets and solvers: the likely ones, then the smaller first, since what is special tells more.

    Those that only forks have come last.
    """
    names = {name for dialect in DIALECTS for name in message_names(dialect)} - {*KINDS, *_LIKELY}
    native = {owner for dialect in DIALECTS for owner, _ in native_names(dialect)}
    return [*_LIKELY, *sorted(names, key=lambda name: (name not in native, name in _OLD, len(_known(name)), name))]


def _resembled(weights: Mapping[str, int], known: int) -> str:
    """The message that has every name of a text, of which no more than half is a net's or a solver's; else ""."""
    if 2 * known > sum(weights.values()):
        return ""
    return next((name for name in _others() if weights.keys() <= _known(name)), "")


def _place(message: str) -> str:
    """Where such a message stands in a net or a solver."""
    for owner, what in (*KINDS.items(), ("LayerParameter", "a layer")):
        for spec in (spec for dialect in DIALECTS for spec in fields_of(owner, dialect).values()):
            if spec.message == message:
                return f"{what} has it as {spec.name} {{ ... }}"
    return CHECK


def _hint(names: Sequence[str]) -> str:
    """A known field with a name like the first of these, where all that are shown are nearly known."""
    hints = [closest(name, _known(NET) | _known(SOLVER)) for name in names[:_SHOWN]]
    return hints[0] if all(hint.startswith("did you mean") for hint in hints) else CHECK
