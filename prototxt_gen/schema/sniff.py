"""Telling what a file is that was given as a prototxt but is none."""

from __future__ import annotations

import re

from ..base.errors import ParseError, Problem

_SIGNATURES = {
    b"\x89HDF\r\n": "an HDF5 file, such as a .caffemodel.h5",
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive, such as a .pth of PyTorch",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x80\x02": "a Python pickle, such as a .pth of PyTorch",
    b"\x80\x04": "a Python pickle",
    b"\xff\xfe": "a text in UTF-16",
    b"\xfe\xff": "a text in UTF-16",
}
_FIXES = {"a text in UTF-16": "save it as UTF-8"}

_TEXTS = (
    (re.compile(r"\s*<(!doctype|html|\?xml|head|body|!--)", re.IGNORECASE), "a web page (HTML or XML)"),
    (re.compile(r"version https://git-lfs"), "a Git LFS pointer, not the file itself"),
    (re.compile(r'\s*\{\s*("|\})'), "JSON"),
)

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def decode(data: bytes, file: str) -> str:
    """The text of a prototxt file's bytes; raises ParseError naming what a binary file looks like.

    Bytes that are not UTF-8 are kept as surrogate escapes: in comments they do no harm.
    """
    for signature, what in _SIGNATURES.items():
        if data.startswith(signature):
            raise _refusal(what, file, _FIXES.get(what, "check which file was given"))
    text = data.decode("utf-8-sig", "surrogateescape")
    if _CONTROL.search(text):
        raise _refusal("a binary file, such as a .caffemodel", file, "check which file was given")
    return text


def check_is_prototxt(text: str, kind: str, file: str) -> None:
    """Raise ParseError if a text is empty or plainly no prototxt; `kind` is what was wanted, as "a net"."""
    for pattern, what in _TEXTS:
        if pattern.match(text):
            raise _refusal(what, file, "check which file was given")
    if not re.sub(r"#.*", "", text).strip():
        found = "the file has only comments" if text.strip() else "the file is empty"
        raise ParseError(Problem(found, f"{kind} in protobuf's text format", file=file))


def _refusal(what: str, file: str, fix: str) -> ParseError:
    return ParseError(Problem(f"this is {what}", "a prototxt (protobuf's text format)", fix, file=file))
