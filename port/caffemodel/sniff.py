"""Says what a file is that turned out not to be the one of Caffe's binary files that was wanted."""

from __future__ import annotations

from pathlib import Path

from prototxt_gen.base.errors import Problem
from prototxt_gen.base.formats import refusal

CAFFEMODEL, BLOB, STATE = "caffemodel", "blob", "solver state"  # kinds, as `formats` names them

_EXPECTED = {
    CAFFEMODEL: "a .caffemodel (Caffe's binary NetParameter)",
    BLOB: "a single blob, as mean files (.binaryproto) are",
    STATE: "a solver state (.solverstate)",
}
_AGAIN = {"text": "fetch the file again"}
_FIXES = {
    CAFFEMODEL: {
        "hdf5": "give it to port.load_net or `python -m port`, which read HDF5 weights too",
        BLOB: "read it with read_blob",
        **_AGAIN,
    },
    BLOB: {CAFFEMODEL: "give it as the weights, and a .binaryproto as the mean file", **_AGAIN},
    STATE: {
        CAFFEMODEL: "name the .solverstate of the same iteration, or give this file as weights",
        BLOB: "name a .solverstate that Caffe or this project saved",
        "prototxt": "name the .solverstate, and give the prototxt as the solver",
        **_AGAIN,
    },
}


def other_file(head: bytes, own: str, file: str | Path) -> Problem | None:
    """A problem saying what a file is, by its first 4 KiB, instead of its reader's `own` kind; None where it may be."""
    return refusal(head, _EXPECTED[own], file, own=[own], fixes=_FIXES[own])


def printable(name: str) -> str:
    """A name as messages show it: control characters escaped, long ones cut."""
    shown = name if len(name) <= 80 else name[:77] + "..."
    return shown if shown.isprintable() else repr(shown)[1:-1]
