"""Says what a file is that turned out not to be a .caffemodel."""

from __future__ import annotations

import re
from typing import NamedTuple


class Guess(NamedTuple):
    """What a file looks like, and the way out."""

    what: str
    fix: str


SINGLE_BLOB = "a single blob, as mean files (.binaryproto) are"
_ARCHIVE = "unpack it and name the .caffemodel inside"
_HDF5 = "give it to port.load_net or `python -m port`, which read HDF5 weights too"
_PROTOTXT = "give the prototxt as the net and the binary .caffemodel as the weights"
_PYTORCH = "name the .caffemodel; PyTorch's own files are read with torch.load"
_PAGE = "the download gave a web page (a login, a warning or a quota notice): fetch the file itself"
_SIGNATURES = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 weights file (.caffemodel.h5)", _HDF5),
    (b"PK\x03\x04", "a zip archive, as .pth and .npz files are", _PYTORCH),
    (b"\x1f\x8b", "a gzip archive", _ARCHIVE),
    (b"Rar!\x1a\x07", "a RAR archive", _ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _ARCHIVE),
    (b"version https://git-lfs", "a git-lfs pointer, not the file it stands for", "run `git lfs pull`"),
)


def guess(head: bytes) -> Guess | None:
    """A guess from a file's first few thousand bytes; None when they look like nothing known."""
    for signature, what, fix in _SIGNATURES:
        if head.startswith(signature):
            return Guess(what, fix)
    if re.match(rb"\x80[\x02-\x05]", head):
        return Guess("a Python pickle, as old .pth files are", _PYTORCH)
    if head[257:262] == b"ustar":
        return Guess("a tar archive", _ARCHIVE)
    return _text(head) or _other_message(head)


def _text(head: bytes) -> Guess | None:
    text = head.decode("utf-8", "ignore")  # the head may end inside a character
    if len(text.encode()) < len(head) - 3 or not all(c.isprintable() or c in "\t\r\n\ufeff" for c in text):
        return None
    start = text.lstrip("\ufeff \t\r\n").lower()
    if not start:
        return Guess("a file of blanks", "fetch the file again")
    if start.startswith(("<!doctype", "<html", "<?xml", "<head")):
        return Guess("a web page (HTML)", _PAGE)
    if re.match(r"#|[a-z_0-9]+\s*[:{]", start):
        return Guess("a text file (a prototxt?)", _PROTOTXT)
    return Guess("a text file", "fetch the file again")


def _other_message(head: bytes) -> Guess | None:
    """Caffe's other binary files begin with an integer field, where a net has its name."""
    match = re.match(rb"\x08[\x80-\xff]*[\x00-\x7f]([\x10\x12])", head)
    if match is None:
        return None
    if match[1] == b"\x10":
        return Guess(SINGLE_BLOB, "read it with read_blob")
    if b".caffemodel" in head:
        return Guess("a solver state (.solverstate)", "name the .caffemodel of the same iteration")
    return None


def printable(name: str) -> str:
    """A name as messages show it: control characters escaped, long ones cut."""
    shown = name if len(name) <= 80 else name[:77] + "..."
    return shown if shown.isprintable() else repr(shown)[1:-1]
