"""The strict reader of .mat files: what SciPy writes, every version, and damage of every kind."""

from __future__ import annotations

import io
import random
import zlib

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from prototxt_gen.base.command import run
from verify.evaluation.mat import DamagedMat, read_mat
from verify.reproduce_table2 import main

R = np.random.RandomState(0)
HELD = {
    "scores": R.randn(7, 5),
    "single": R.randn(3, 4, 2).astype(np.float32),
    "small": R.randint(-5, 300, (4, 6)),  # stored in fewer bytes than its class has
    "logical": R.rand(5, 3) > 0.5,
    "bytes": np.arange(6, dtype=np.uint8).reshape(2, 3),
    "big": R.randint(-(2**62), 2**62, (2, 3)),
    "row": np.arange(9.0)[None],
    "empty": np.zeros((0, 3)),
}
OTHERS = {"text": "abc", "cell": np.array([1, "a"], object), "struct": {"a": 1}, "complex": np.eye(2) * 1j}


def written(held, **options) -> bytes:
    file = io.BytesIO()
    savemat(file, held, **options)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_written_is_read(compressed):
    """Numbers come back in their shape and kind; what holds none is passed over."""
    sparse = csc_matrix(R.randint(0, 2, (6, 5)) * 1.5)
    found = read_mat(written(HELD | OTHERS | {"sparse": sparse}, do_compression=compressed))
    assert set(found) == {*HELD, "sparse"}
    for name, array in HELD.items():
        assert found[name].shape == array.shape and found[name].dtype.kind in (array.dtype.kind, "u")
        np.testing.assert_array_equal(found[name], array)
    np.testing.assert_array_equal(found["sparse"], sparse.toarray())


def test_version_4():
    held = {"scores": HELD["scores"], "second": np.arange(12.0).reshape(3, 4)}
    found = read_mat(written(held, format="4"))
    assert set(found) == set(held)
    for name, array in held.items():
        np.testing.assert_array_equal(found[name], array)


def test_the_other_byte_order():
    """As a big-endian machine writes it: the same file with every number turned round."""
    values = np.arange(6.0).reshape(3, 2)
    parts = [
        np.array([6, 8], ">u4").tobytes() + np.array([6, 0], ">u4").tobytes(),  # flags: a double
        np.array([5, 8], ">u4").tobytes() + np.array([3, 2], ">i4").tobytes(),
        np.array([1, 4], ">u4").tobytes() + b"name\0\0\0\0",
        np.array([9, 48], ">u4").tobytes() + values.T.astype(">f8").tobytes(),
    ]
    body = b"".join(parts)
    data = b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + np.array([14, len(body)], ">u4").tobytes() + body
    np.testing.assert_array_equal(read_mat(data)["name"], values)


def test_a_file_that_ends_the_process_in_scipy(golden, tmp_path, capsys):
    path = golden / "found" / "segfault_scores.mat"
    with pytest.raises(DamagedMat):
        read_mat(path.read_bytes())
    (tmp_path / "labels.txt").write_text("1 0\n0 1\n")
    assert run(main, ["--scores", str(path), "--labels", str(tmp_path / "labels.txt")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {path}: cannot be read: ") and "Traceback" not in err


def element(kind: int, content: bytes) -> bytes:
    return np.array([kind, len(content)], "<u4").tobytes() + content + bytes(-len(content) % 8)


def matrix(flags=(6, 0), shape=(2, 2), name=b"a", values=(0.0, 1.0, 2.0, 3.0), kind=9) -> bytes:
    body = element(6, np.array(flags, "<u4").tobytes()) + element(5, np.array(shape, "<i4").tobytes())
    return element(14, body + element(1, name) + element(kind, np.asarray(values).tobytes()))


HEAD = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"
DAMAGE = {
    "more values than there are": (matrix(shape=(20000, 20000)), "has 4 values, its dimensions .* need 400,000,000"),
    "negative dimension": (matrix(shape=(-2, -2)), "dimensions"),
    "one dimension": (matrix(shape=(4,)), "dimensions"),
    "too large an element": (np.array([14, 2**31 - 1], "<u4").tobytes(), "of which 0 are there"),
    "half an element": (b"\x0e\0\0", "3 bytes are left"),
    "an odd type": (matrix(kind=99), "stored as type 99"),
    "no whole number": (matrix(values=np.zeros(31, "u1")), "no whole number of values"),
    "not compressed": (element(15, b"no zlib"), "cannot be unpacked"),
    "cut": (element(15, zlib.compress(matrix())[:-9]), "ends too early|cannot be unpacked"),
    "no name": (element(14, element(6, np.array([6, 0], "<u4").tobytes())), "ends before"),
}


def test_the_made_up_matrix_is_right():
    np.testing.assert_array_equal(read_mat(HEAD + matrix())["a"], [[0, 2], [1, 3]])


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_said(kind):
    data, message = DAMAGE[kind]
    with pytest.raises(DamagedMat, match=message):
        read_mat(HEAD + data)


@pytest.mark.parametrize("rounds", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_mutations(rounds):
    """Only our own word for damage comes out."""
    random_ = random.Random(7)
    sources = [written(HELD | OTHERS, do_compression=c) for c in (False, True)]
    sources += [written({"scores": HELD["scores"]}, format="4"), written({"s": csc_matrix(np.eye(4))})]
    damaged = 0
    for _ in range(rounds):
        data = bytearray(random_.choice(sources))
        for _ in range(random_.randint(1, 6)):
            data[random_.randrange(len(data))] = random_.choice([0, 255, random_.randrange(256)])
        if random_.random() < 0.2:
            del data[random_.randrange(len(data)) :]
        try:
            read_mat(bytes(data))
        except DamagedMat:
            damaged += 1
    assert damaged > rounds / 4
