"""Which of Caffe's files a file is; what is another's is named by every reader, in one line."""

from __future__ import annotations

import h5py
import numpy as np
import onnx
import pytest
from foreign_files import caffes, hdf5, made_files, onnx_models

from port.__main__ import main
from port.caffemodel import SolverState, read_blob, read_caffemodel, read_state, write_state
from port.solver.states import read_solver_state, write_solver_state
from port.weights.hdf5 import content
from port.weights.kinds import file_kind, hdf5_kind
from port.weights.load import open_weights
from port.weights.mean import read_mean
from prototxt_gen.base import command
from prototxt_gen.base.errors import CaffeError, ParseError, WeightsError
from prototxt_gen.base.formats import CAFFES, FORMATS, PLAIN
from prototxt_gen.schema import read_prototxt

FOREIGN = sorted(FORMATS.keys() - CAFFES - PLAIN)
HDF5 = {"hdf5", "mat hdf5"}  # which readers of HDF5 tell by what is in it


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, list[bytes]]:
    return made_files(tmp_path_factory.mktemp("samples"))


@pytest.fixture
def put(tmp_path):
    def write(data: bytes):
        (tmp_path / "some.file").write_bytes(data)
        return tmp_path / "some.file"

    return write


OWN = [
    *((data, "caffemodel") for data in caffes()["caffemodel"]),
    *((data, "solverstate") for data in caffes()["solver state"]),
    *((data, "blob") for data in caffes()["blob"]),
    (hdf5(), "hdf5"),
    (hdf5(b"words of a user's"), "hdf5"),
    (b"layer { }", "prototxt"),
    (b" \n", "prototxt"),
    (b"caf\xe9: no prototxt", "prototxt"),
    (b"", "caffemodel"),
    (b"\x08\xac\x02\x12\x01a", "solverstate"),  # too little to tell, yet not another's
    (b"\x08\x01\x10\x03", "blob"),
    (b"\x2a\x04\x00\x00\x00\x00", "blob"),
    (b"\x0a\x01a\xa2\x06\x00", "caffemodel"),
    (b"\x01\x02\x03", "caffemodel"),
]


@pytest.mark.parametrize(("data", "kind"), OWN)
def test_caffes_own(put, data, kind):
    assert file_kind(put(data)) == kind


@pytest.mark.parametrize("kind", FOREIGN)
def test_inspect_and_upgrade_name_what_is_anothers(samples, put, capsys, kind):
    for data in samples[kind]:
        path = put(data)
        with pytest.raises(CaffeError) as caught:
            file_kind(path)
        (problem,) = caught.value.problems
        assert problem.found == f"this is {FORMATS[kind].what}" and problem.fix and problem.file == path
        for verb in ("upgrade",) if kind == "onnx" else ("inspect", "upgrade"):
            assert command.run(main, [verb, str(path)]) == command.BAD_INPUT
            out, err = capsys.readouterr()
            assert not out and err.startswith(f"error: {path}: this is {FORMATS[kind].what}; expected ")
            assert err.count("\n") == 1


def test_an_onnx_model_is_no_solver_state(put):
    """It has an integer and a name in front, as a solver state has; what follows a state's reader passes over."""
    for data in onnx_models():
        for read in (read_state, read_solver_state, file_kind):
            with pytest.raises(CaffeError, match=r"some\.file: this is an ONNX model; .*`python -m port score --onnx`"):
                read(put(data))


READERS = {
    "prototxt": (read_prototxt, ParseError),
    "caffemodel": (open_weights, WeightsError),
    "solver state": (read_solver_state, WeightsError),
    "blob": (read_mean, WeightsError),
}
PAIRS = [
    (own, kind)
    for own in READERS
    for kind in sorted(FORMATS.keys() - PLAIN - {own})
    if not (kind in HDF5 and own in ("caffemodel", "solver state"))
]


@pytest.mark.parametrize(("own", "kind"), PAIRS)
def test_every_reader_names_what_it_does_not_read(samples, put, own, kind):
    read, error = READERS[own]
    for data in samples[kind]:
        with pytest.raises(error) as caught:
            read(put(data))
        (problem,) = caught.value.problems
        assert problem.found == f"this is {FORMATS[kind].what}", data[:60]
        assert problem.fix and problem.expected and str(problem.file).endswith("some.file")


@pytest.mark.parametrize(
    ("kind", "read", "message"),
    [
        ("prototxt", read_caffemodel, "text file (a prototxt?); expected a .caffemodel .*Give the prototxt as the net"),
        ("text", read_caffemodel, "this is a text file; expected a .caffemodel .*Fetch the file again"),
        ("solver state", read_caffemodel, "Name the .caffemodel of the same iteration"),
        ("blob", read_caffemodel, "Read it with read_blob"),
        ("hdf5", read_caffemodel, "Give it to port.load_net or `python -m port`"),
        ("caffemodel", read_blob, "Give it as the weights, and a .binaryproto as the mean file"),
        ("npy", read_blob, "`port.write_mean` writes an array as a mean file"),
        ("caffemodel", read_state, "Name the .solverstate of the same iteration, or give this file as weights"),
        ("blob", read_state, "Name a .solverstate"),
        ("prototxt", read_state, "Name the .solverstate, and give the prototxt as the solver"),
        ("caffemodel", read_prototxt, "Give it as the weights, and a prototxt as the net"),
        ("blob", read_prototxt, "Check which file was given"),
        ("lfs", read_prototxt, "Run `git lfs pull`"),
    ],
)
def test_the_way_out(samples, put, kind, read, message):
    with pytest.raises(CaffeError) as caught:
        read(put(samples[kind][0]))
    start, _, end = message.partition(".*")
    assert start in str(caught.value) and end in str(caught.value)


def test_damaged_files_are_not_called_anothers(put):
    """A file that was cut off says so, and not that it is no file of this kind."""
    for kind, read in (("caffemodel", read_caffemodel), ("blob", read_blob), ("solver state", read_state)):
        data = caffes()[kind][0]
        with pytest.raises(WeightsError) as caught:
            read(put(data[:-3]))
        assert "this is" not in str(caught.value) and "at byte" in str(caught.value)


def test_the_states_of_caffe_are_read(tmp_path):
    """Also one whose weights have the name of a producer of ONNX models, and one without weights or history."""
    for state in (SolverState(8, "pytorch", [np.float32([1, 2])], 3), SolverState(0, "", [], 0)):
        write_state(tmp_path / "s", state)
        again = read_solver_state(tmp_path / "s")
        assert (again.iter, again.learned_net) == (state.iter, state.learned_net)
        assert len(again.history) == len(state.history)


# --- HDF5


def keras(file):
    file.attrs["keras_version"] = "2.4.0"
    file["model_weights/conv/kernel:0"] = 1.0


def keras_weights(file):
    file.attrs["layer_names"] = [b"conv"]
    file["conv/kernel:0"] = 1.0


def keras_3(file):
    file["layers/conv/vars/0"] = 1.0
    file.create_group("vars")


def matlab(file):
    file["scores"] = np.eye(3)
    file["scores"].attrs["MATLAB_class"] = np.bytes_("double")


def netcdf(file):
    file.attrs["_NCProperties"] = "version=2"


def rows(file):
    file["data"], file["label"] = np.zeros((5, 3)), np.zeros(5)


def state(file):
    file["iter"], file["current_step"], file["learned_net"] = 3, 0, "n"
    file["history/0"] = 1.0


CONTENTS = [
    (keras, "a Keras model or its weights"),
    (keras_weights, "a Keras model or its weights"),
    (keras_3, "a Keras model or its weights"),
    (matlab, "a MATLAB file (.mat, version 7.3)"),
    (netcdf, "a NetCDF file"),
    (rows, "data for an HDF5Data layer"),
    (state, "a solver state"),
    (lambda file: file.create_group("data/a"), "weights"),
    (lambda file: file.create_group("else"), ""),
    (lambda file: file.update({"gone": h5py.SoftLink("/nowhere")}), ""),
]


@pytest.mark.parametrize(("make", "what"), CONTENTS)
def test_hdf5_of_others(tmp_path, capsys, make, what):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        make(file)
        assert content(file) == what
    if what != "weights":
        with pytest.raises(WeightsError, match="there is no group 'data'") as caught:
            open_weights(path)
        assert (f"w.h5: this is {what}: there is" in str(caught.value)) == bool(what)
        assert (command.run(main, ["inspect", str(path)]) == command.BAD_INPUT) == (what != "a solver state")
        assert "Traceback" not in capsys.readouterr().err
    if what != "a solver state":
        with pytest.raises(WeightsError, match="expected a solver state, HDF5") as caught:
            read_solver_state(path)
        assert f"this is {what};" in str(caught.value) if what else "not a solver state: " in str(caught.value)


def test_hdf5_of_caffe(tmp_path):
    write_solver_state(tmp_path / "s.h5", SolverState(3, "n", [np.float32([1])], 0))
    assert hdf5_kind(tmp_path / "s.h5") == "solverstate" and read_solver_state(tmp_path / "s.h5").iter == 3
    (tmp_path / "w.h5").write_bytes(hdf5())
    assert hdf5_kind(tmp_path / "w.h5") == "caffemodel"
    (tmp_path / "cut.h5").write_bytes(hdf5()[:300])
    assert hdf5_kind(tmp_path / "cut.h5") == "caffemodel"  # whose reader says that it is damaged


def test_the_samples_are_what_they_are_called():
    """Else the names above would prove nothing: the libraries read their own."""
    assert all(onnx.load_model_from_string(data).ir_version for data in onnx_models())
