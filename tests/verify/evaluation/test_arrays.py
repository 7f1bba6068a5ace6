"""Scores and labels out of NumPy, MATLAB and HDF5 files."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from prototxt_gen.base.errors import DataError
from verify.evaluation.scores import read_labels, read_scores

VALUES = np.random.default_rng(5).normal(0, 3, (7, 4)).astype(np.float32)
TRUTH = np.random.default_rng(6).integers(0, 2, (7, 4))


def _npy(path, **arrays):
    with open(path, "wb") as file:
        np.save(file, next(iter(arrays.values())))


def _npz(path, **arrays):
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def _mat(path, **arrays):
    savemat(path, arrays, appendmat=False)


def _mat4(path, **arrays):
    savemat(path, arrays, appendmat=False, format="4")


def _mat73(path, **arrays):
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array.T).attrs["MATLAB_class"] = np.bytes_("double")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")


def _hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[f"test/{name}"] = array


WRITERS = {"npy": _npy, "npz": _npz, "mat": _mat, "mat4": _mat4, "mat7.3": _mat73, "h5": _hdf5}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_gives_the_same(tmp_path, kind):
    path = tmp_path / ("scores.mat" if "mat" in kind else "scores")  # old MATLAB files are told by their name
    WRITERS[kind](path, any=VALUES)
    scores = read_scores(path, classes=4)
    assert scores.dtype == np.float64 and np.array_equal(scores, VALUES)
    WRITERS[kind](path, any=TRUTH.astype(np.float64))
    labels = read_labels(path)
    assert labels.dtype == np.int8 and np.array_equal(labels, TRUTH)


@pytest.mark.parametrize("kind", ["npz", "mat", "mat7.3", "h5"])
def test_of_several_arrays_the_one_of_that_name_counts(tmp_path, kind):
    WRITERS[kind](tmp_path / "both", Scores=VALUES, labels=TRUTH.astype(np.uint8))
    assert np.array_equal(read_scores(tmp_path / "both"), VALUES)
    assert np.array_equal(read_labels(tmp_path / "both"), TRUTH)
    WRITERS[kind](tmp_path / "none", a=VALUES, b=VALUES)
    with pytest.raises(DataError, match=r"none: the arrays are '(test/)?a' \(7, 4\) float32, .*; expected one of num"):
        read_scores(tmp_path / "none")


def test_blobs_sparse_labels_and_booleans(tmp_path):
    _npy(tmp_path / "blob", data=VALUES[:, :, None, None])
    assert np.array_equal(read_scores(tmp_path / "blob"), VALUES)
    _mat(tmp_path / "sparse", labels=csc_matrix(TRUTH.astype(float)))
    assert np.array_equal(read_labels(tmp_path / "sparse"), TRUTH)
    _npy(tmp_path / "bool", data=TRUTH == 1)
    assert np.array_equal(read_labels(tmp_path / "bool"), TRUTH)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.where(np.arange(28).reshape(7, 4) == 11, np.nan, VALUES),
            r"odd: nan in row 3, column 4; expected a finite number",
        ),
        (VALUES[0], r"odd: the arrays are 'the array' \(4,\) float32; expected one of numbers \(images, classes\)"),
        (VALUES[:, :, None].repeat(2, 2), r"\(7, 4, 2\)"),
        (VALUES[:0], r"\(0, 4\)"),
        (VALUES.astype(str), r"\(7, 4\) <U"),
        (VALUES[:, :3], r"odd: 3 columns; expected 4"),
    ],
)
def test_arrays_that_are_no_scores(tmp_path, array, message):
    _npy(tmp_path / "odd", data=array)
    with pytest.raises(DataError, match=message):
        read_scores(tmp_path / "odd", classes=4)


def test_other_labels_are_counted(tmp_path):
    _npy(tmp_path / "odd", data=np.full((7, 4), -1))
    with pytest.raises(DataError) as caught:
        read_labels(tmp_path / "odd")
    assert str(caught.value.problems[0]) == f"{tmp_path / 'odd'}: -1 in row 1, column 1; expected 0 or 1"
    assert "18 more such values" in str(caught.value.problems[-1]) and len(caught.value.problems) == 11
    assert read_labels(tmp_path / "odd", protocol="wider").min() == -1


@pytest.mark.parametrize("kind", WRITERS)
def test_every_file_cut_short_is_refused(tmp_path, kind):
    path = tmp_path / "cut.mat"
    WRITERS[kind](path, any=VALUES)
    whole = path.read_bytes()
    for size in (12, len(whole) // 2, len(whole) - 50):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cut\.mat"):
            read_scores(path)


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"objects\.npy: cannot be read: Object arrays cannot be loaded"):
        read_scores(tmp_path / "objects.npy")
    import zipfile

    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("data.pkl", b"no array")
    with pytest.raises(DataError, match=r"other\.zip: the file holds no arrays"):
        read_scores(tmp_path / "other.zip")


@pytest.mark.parametrize(
    ("name", "message"),
    [("pytorch/data.pkl", "this is a file of PyTorch"), ("[Content_Types].xml", r"this is a document")],
)
def test_archives_of_others_are_named(tmp_path, name, message):
    import zipfile

    with zipfile.ZipFile(tmp_path / "scores.npz", "w") as file:
        file.writestr(name, b"no array")
    with pytest.raises(DataError, match=rf"scores\.npz: {message}.*; expected a text .* or an array \(\.npy, "):
        read_scores(tmp_path / "scores.npz")
