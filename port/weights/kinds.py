"""Which of Caffe's files a file is, told by its content and never by its name."""

from __future__ import annotations

from pathlib import Path

from prototxt_gen.base.errors import CaffeError
from prototxt_gen.base.files import read_bytes, read_head
from prototxt_gen.schema import DIALECTS
from prototxt_gen.schema.sniff import check_is_prototxt, decode
from prototxt_gen.schema.syntax import parse_tree
from prototxt_gen.schema.values import fields_of

from .load import is_hdf5

_PROTOTXTS = ("NetParameter", "SolverParameter")


def file_kind(path: str | Path) -> str:
    """prototxt, hdf5, blob (a mean file), solverstate, or caffemodel for all else; raises CaffeError.

    Binary files are told by the first field: a SolverState begins with the integer `iter`, a BlobProto with
    the integers `num` and `channels` or, without those, with its data or shape.
    """
    head = read_head(path, CaffeError)
    if head and not any(byte < 9 or 13 < byte < 32 for byte in head):  # no control characters: text
        return "prototxt"
    if is_hdf5(path):
        return "hdf5"
    if head[:1] == b"\x08":
        end = next((i for i, byte in enumerate(head[1:12], 1) if byte < 0x80), 0)
        return "blob" if head[end + 1 : end + 2] == b"\x10" else "solverstate"
    return "blob" if head[:1] in (b"\x2a", b"\x3a") else "caffemodel"


def hdf5_kind(path: str | Path) -> str:
    """Of an HDF5 file: solverstate if it has an iteration number, else caffemodel; raises WeightsError."""
    import h5py  # takes a moment

    try:
        with h5py.File(path, "r") as file:
            return "solverstate" if "iter" in file else "caffemodel"
    except Exception:  # damaged: reading it as weights says so
        return "caffemodel"


def prototxt_kind(path: str | Path) -> str:
    """NetParameter or SolverParameter, whichever has more of the text's fields; raises ParseError."""
    text = decode(read_bytes(path, CaffeError), str(path))
    check_is_prototxt(text, "a net or a solver", str(path))
    tree = parse_tree(text, str(path))
    names = [field.name for field in tree.fields]
    known = {kind: set().union(*(fields_of(kind, dialect) for dialect in DIALECTS)) for kind in _PROTOTXTS}
    return max(_PROTOTXTS, key=lambda kind: sum(name in known[kind] for name in names))
