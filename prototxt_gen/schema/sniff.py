"""Telling what a file is that was given as a prototxt but is none."""

from __future__ import annotations

import re

from ..base.errors import ParseError, Problem
from ..base.formats import CHECK, HEAD, PLAIN, refusal

_EXPECTED = "a prototxt (protobuf's text format)"
_FIXES = {"solver state": CHECK, "blob": CHECK}

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def decode(data: bytes, file: str) -> str:
    """The text of a prototxt file's bytes; raises ParseError naming what a binary file looks like.

    Bytes that are not UTF-8 are kept as surrogate escapes: in comments they do no harm.
    """
    _refuse_other(data[:HEAD], file)
    text = data.decode("utf-8-sig", "surrogateescape")
    if _CONTROL.search(text):
        raise ParseError(Problem("this is a binary file, such as a .caffemodel", _EXPECTED, CHECK, file=file))
    return text


def check_is_prototxt(text: str, kind: str, file: str) -> None:
    """Raise ParseError if a text is empty or plainly no prototxt; `kind` is what was wanted, as "a net"."""
    _refuse_other(text[:HEAD].encode("utf-8", "replace"), file)
    if not re.sub(r"#.*", "", text).strip():
        found = "the file has only comments" if text.strip() else "the file is empty"
        raise ParseError(Problem(found, f"{kind} in protobuf's text format", file=file))


def _refuse_other(head: bytes, file: str) -> None:
    # What is wrong in a text, and where, the parser says.
    if other := refusal(head, _EXPECTED, file, own=PLAIN, fixes=_FIXES):
        raise ParseError(other)
