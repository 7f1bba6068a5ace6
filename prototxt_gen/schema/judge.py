"""Reading a prototxt of either kind: a net or a solver."""

from __future__ import annotations

from pathlib import Path

from ..base.errors import ParseError
from ..base.files import read_bytes
from .messages import DIALECTS
from .sniff import check_is_prototxt, decode
from .syntax import parse_tree
from .text import Parsed, parse_prototxt
from .values import fields_of

NET, SOLVER = "NetParameter", "SolverParameter"


def read_any(path: str | Path, dialect: str | None = None) -> tuple[str, Parsed]:
    """A net or a solver, and which of the two it is; raises ParseError with all problems."""
    text = decode(read_bytes(path, ParseError), str(path))
    check_is_prototxt(text, "a net or a solver", str(path))
    names = {field.name for field in parse_tree(text, str(path)).fields}
    known = {
        kind: sum(any(name in fields_of(kind, each) for each in DIALECTS) for name in names) for kind in (NET, SOLVER)
    }
    kind = SOLVER if known[SOLVER] > known[NET] else NET
    return kind, parse_prototxt(text, kind, dialect, str(path))
