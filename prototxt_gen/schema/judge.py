"""The one judge of which kind of prototxt a text is: a net, a solver, or neither.

Every entry at the top of a text speaks for the kinds that have a field of that name, in either dialect. The kind with
more entries wins, so that one stray line does not make a solver of a net; what both have speaks for none.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from ..base.errors import ParseError, Problem, closest
from ..base.files import read_bytes
from .messages import DIALECTS, message_names, schema_cache
from .sniff import check_is_prototxt, decode
from .syntax import Tree, parse_tree, printable
from .values import fields_of

NET, SOLVER = "NetParameter", "SolverParameter"
KINDS = {NET: "a net", SOLVER: "a solver"}

_LAYERS = ("layer", "layers")
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
    """Whether a text is a net or a solver; where entries speak for both equally, one with layers is a net.

    Neither is what has entries none of which a net or a solver has, and what another message fits better.
    """
    counts = {name: 0 for name in dict.fromkeys(field.name for field in tree.fields)}
    for field in tree.fields:
        counts[field.name] += max(1, len(field.values))
    of = {kind: _known(kind) for kind in KINDS}
    net, solver = (_weight(counts, of[kind] - of[rest]) for kind, rest in ((NET, SOLVER), (SOLVER, NET)))
    kind = SOLVER if solver > net or (solver == net > 0 and not counts.keys() & set(_LAYERS)) else NET
    if not counts:
        return Verdict(kind)
    resembles = _resembled(counts, _weight(counts, of[kind]))
    if resembles:
        return Verdict("", resembles, tuple(counts))
    told = tuple(name for name in counts if name in of[kind])
    return Verdict(kind, "", told) if told else Verdict("", "", tuple(counts))


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
    names = ", ".join(f"'{printable(name)}'" for name in verdict.names[:_SHOWN])
    names += ", ..." if len(verdict.names) > _SHOWN else ""
    if verdict.resembles:
        found = f"this is neither a net nor a solver, it looks like a message {verdict.resembles} ({names})"
        return Problem(found, expected, _place(verdict.resembles), file=tree.source.file)
    found = f"this is neither a net nor a solver: neither has fields named {names}"
    return Problem(found, expected, _hint(verdict.names), file=tree.source.file)


def _weight(counts: dict[str, int], names: Collection[str]) -> int:
    return sum(count for name, count in counts.items() if name in names)


@schema_cache
def _known(message: str) -> frozenset[str]:
    """The fields of a message in either dialect."""
    return frozenset(name for each in DIALECTS if message in message_names(each) for name in fields_of(message, each))


@schema_cache
def _others() -> list[str]:
    """All messages but nets and solvers, those of today first, then the smaller: what is special tells more."""
    names = {name for dialect in DIALECTS for name in message_names(dialect)} - KINDS.keys()
    return sorted(names, key=lambda name: (name in _OLD, len(_known(name)), name))


def _resembled(counts: dict[str, int], known: int) -> str:
    """The message that has every name of a text, of which a net or a solver knows less than half; else ""."""
    if 2 * known >= sum(counts.values()):
        return ""
    return next((name for name in _others() if counts.keys() <= _known(name)), "")


def _place(message: str) -> str:
    """Where such a message stands in a net or a solver."""
    for owner, frame in ((NET, ""), (SOLVER, ""), ("LayerParameter", "a layer's ")):
        for dialect in DIALECTS:
            for spec in fields_of(owner, dialect).values():
                if spec.message == message:
                    what = frame or f"{KINDS[owner]} has it as "
                    return f"{what}{spec.name} {{ ... }}"
    return "check which file was given"


def _hint(names: Collection[str]) -> str:
    """A known field with a name like one of these."""
    hints = (closest(name, _known(NET) | _known(SOLVER)) for name in names)
    return next((hint for hint in hints if hint.startswith("did you mean")), "check which file was given")
