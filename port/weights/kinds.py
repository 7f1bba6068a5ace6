"""Which of Caffe's files a file is, told by its content and never by its name."""

from __future__ import annotations

from pathlib import Path

from prototxt_gen.base.errors import CaffeError
from prototxt_gen.base.files import read_head
from prototxt_gen.base.formats import CAFFES, PLAIN, identify, is_text, refusal

from .load import is_hdf5

_EXPECTED = "a net, a solver, weights, a mean file or a solver state of Caffe's"


def file_kind(path: str | Path) -> str:
    """prototxt, hdf5, blob (a mean file), solverstate, or caffemodel for all that is not known.

    Caffe's binary files are told by the first field: a SolverState begins with the integer `iter`, a BlobProto
    with the integers `num` and `channels` or, without those, with its data or shape. Raises CaffeError for a file
    that cannot be read, and for one that is known to be of another kind.
    """
    head = read_head(path, CaffeError)
    if other := refusal(head, _EXPECTED, path, own=CAFFES | PLAIN):
        raise CaffeError(other)
    if is_text(head):
        return "prototxt"
    if is_hdf5(path):
        return "hdf5"
    if head[:1] == b"\x08":
        end = next((i for i, byte in enumerate(head[1:12], 1) if byte < 0x80), 0)
        return "blob" if head[end + 1 : end + 2] == b"\x10" else "solverstate"
    return "blob" if head[:1] in (b"\x2a", b"\x3a") else "caffemodel"


def is_onnx(path: str | Path) -> bool:
    """Whether a file's first bytes are those of an ONNX model; raises CaffeError for a file that cannot be read."""
    found = identify(read_head(path, CaffeError))
    return found is not None and found.key == "onnx"


def hdf5_kind(path: str | Path) -> str:
    """Of an HDF5 file: solverstate if it has an iteration number, else caffemodel; raises WeightsError."""
    import h5py  # takes a moment

    try:
        with h5py.File(path, "r") as file:
            return "solverstate" if "iter" in file else "caffemodel"
    except Exception:  # damaged: reading it as weights says so
        return "caffemodel"
