"""Damaged HDF5 datasets are refused before HDF5's library takes them; without that these tests never end."""

import struct

import h5py
import numpy as np
import pytest

from port.data.hdf5 import Hdf5Reader
from port.solver.states import read_solver_state
from port.weights.datasets import values
from port.weights.hdf5 import Hdf5Model
from prototxt_gen.base.errors import CaffeError
from verify.evaluation.arrays import read_array


@pytest.fixture(params=["weights", "state", "rows", "scores"])
def reading(request, tmp_path):
    """Write a chunked dataset where a file of this kind has one, and what reads it."""
    path, name = tmp_path / "x.h5", {"weights": "data/fc/0", "state": "history/0"}.get(request.param, "scores")
    with h5py.File(path, "w") as file:
        pixels = np.arange(77, dtype=np.float32).reshape(7, 11)
        file.create_dataset(name, data=pixels, chunks=(3, 4), compression="gzip")
        file["learned_net"], file["iter"], file["current_step"] = "x.caffemodel", [3], [0]

    def rows():
        source = tmp_path / "list.txt"
        source.touch()
        return Hdf5Reader(source, [path], ["scores"], integers=True).read(2, np.random.default_rng(0))[0][5]

    return path, {
        "weights": lambda: Hdf5Model(path).layers[0].blobs[0].data[2, 5],
        "state": lambda: read_solver_state(path).history[0][2, 5],
        "rows": rows,
        "scores": lambda: read_array(path, path.read_bytes(), ["scores"])[2, 5],
    }[request.param]


def test_chunks_of_another_rank_are_refused(reading):
    path, read = reading
    assert read() == 27
    data, dataspace = path.read_bytes(), struct.pack("<BBB5xQQ", 1, 2, 1, 7, 11)
    assert data.count(dataspace) == 1
    path.write_bytes(data.replace(dataspace, b"\1\1" + dataspace[2:]))  # 7 values, in chunks of 3 x 4
    with pytest.raises(CaffeError, match="chunks of 2 axes in a dataset of 1"):
        read()


def test_more_values_than_a_file_can_hold_are_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("huge", (1 << 20, 1 << 20), np.float32, chunks=(1, 64))
        file.create_dataset("filled", (3, 5), np.float32, fillvalue=2)
        with pytest.raises(ValueError, match="4,398,046,511,104 bytes of values, of which the file holds 0"):
            values(file["huge"])
        assert values(file["filled"]).sum() == 30
        with pytest.raises(ValueError, match="is no dataset"):
            values(file)
