"""Damaged files of the kinds that libraries read inside our process: HDF5, JPEG, PNG and TIFF.

A library that ends the process, or never comes back, is found by a child's signal; run with --slow for thousands.
"""

import io
import os
import random
import signal

import h5py
import numpy as np
import pytest
import tifffile
from generated import GOLDEN as GENERATED
from PIL import Image

from port.data.datum import stored_pixels
from port.images.decode import read_pixels
from port.solver.states import read_solver_state
from port.weights.hdf5 import Hdf5Model
from prototxt_gen.base.errors import CaffeError
from verify.evaluation.arrays import read_array

PATIENCE = 30  # seconds for one file


def pictures(kind):
    """Files of a kind in its usual forms, 37 x 53 pixels."""
    smooth = np.add.outer(np.arange(37) * 3, np.arange(53) * 2)[:, :, None] + np.array([0, 20, 40])
    image = Image.fromarray(smooth.astype(np.uint8))
    forms = {
        "jpeg": [{}, {"progressive": True}, {"optimize": True, "subsampling": 0}],
        "png": [{}, {"optimize": True}],
        "tiff": [{}, *({"compression": each} for each in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"))],
    }[kind]
    for form, mode in [*((form, "RGB") for form in forms), ({}, "L")]:
        file = io.BytesIO()
        image.convert(mode).save(file, kind, **form)
        yield file.getvalue()
    if kind == "tiff":
        file = io.BytesIO()
        tifffile.imwrite(file, smooth.astype(np.uint16), compression="zlib")
        yield file.getvalue()


def datasets():
    """Caffe's own weights and state, and arrays as users write them."""
    for name in ("adam_shared_hdf5.caffemodel.h5", "adam_shared_hdf5.solverstate.h5"):
        yield (GENERATED.parent / "solver/bvlc" / name).read_bytes()
    for form in ({}, {"compression": "gzip", "chunks": (3, 4), "shuffle": True}, {"compression": "lzf"}):
        file = io.BytesIO()
        with h5py.File(file, "w") as root:
            root.create_dataset("scores", data=np.arange(77, dtype=np.float32).reshape(7, 11), **form)
        yield file.getvalue()


def damaged(r, whole):
    data = bytearray(whole)
    for _ in range(r.randint(1, 8)):
        at = r.randrange(min(len(data), r.choice([100, 1000, len(data)])))
        edits = [(1, r.randbytes(1)), (4, b"\xff" * 4), (4, bytes(4)), (r.randint(1, 40), b""), (0, b"xyz")]
        size, new = r.choice(edits)
        data[at : at + size] = new
    return bytes(data[: r.randrange(1, len(data))] if r.random() < 0.2 else data)


def use(kind, path, data):
    """Read the file in every way there is; our errors are what is expected."""
    readers = [lambda: read_pixels(path), lambda: stored_pixels(data)]
    if kind == "hdf5":
        readers = [
            lambda: [blob.data for layer in Hdf5Model(path).layers for blob in layer.blobs.values()],
            lambda: read_solver_state(path),
            lambda: read_array(path, data, ["scores"]),
        ]
    for read in readers:
        try:
            read()
        except CaffeError:
            continue


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a child that dies takes a fork")
@pytest.mark.parametrize("rounds", [60, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["hdf5", "jpeg", "png", "tiff"])
def test_no_library_ends_the_process_or_stays(tmp_path, kind, rounds):
    r, sources = random.Random(12), list(datasets() if kind == "hdf5" else pictures(kind))
    path, log = tmp_path / f"x.{kind}", tmp_path / "log"
    child = os.fork()
    if not child:
        status = 1
        try:
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)  # the libraries' own lines
            for _ in range(rounds):
                signal.alarm(PATIENCE)
                data = damaged(r, r.choice(sources))
                path.write_bytes(data)
                use(kind, path, data)
            status = 0
        finally:
            if status:
                import traceback

                traceback.print_exc()
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ended = signal.Signals(-code).name if code < 0 else code
    assert code == 0, f"{ended} at {path}: {log.read_text(errors='replace')[-800:]}"
