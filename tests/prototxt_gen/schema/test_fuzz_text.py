"""Mutations of valid prototxts: only the project's own errors come out, in bounded time and memory."""

from __future__ import annotations

import random
import resource
import time
from contextlib import suppress
from pathlib import Path

import pytest

from port.graph.build import draft_graph, load_graph
from port.graph.state import NetState
from prototxt_gen.base.errors import CaffeError
from prototxt_gen.schema import DIALECTS, to_text
from prototxt_gen.schema.text import Parsed, parse_prototxt, read_prototxt, read_tolerantly
from prototxt_gen.schema.upgrade import upgrade_solver

GOLDEN = Path(__file__).parents[2] / "golden"
LARGEST_SEED = 4096  # bytes
SLOWEST = 2.0  # seconds for one file, on a machine that does other things too
CONSTANT = 96 * 2**20  # bytes that all the reading may take, besides four times the largest file

WORDS = [
    *"{ } [ ] < > : ; , ' # - + \\".split(), '"', "\n",  # noqa: SIM905
    "layer", "layers", "input", "input_dim: 3", "input_shape { dim: 2 }", "type:", "name:", "bottom:", "top:",
    "include { phase: TRAIN }", "exclude {}", "loss_weight: 1", "propagate_down: false", "phase: TEST", "state {}",
    "dim: -1", "dim: 0", "dim: 9223372036854775807", "axis: -9", "kernel_size: 4294967295", "group: 0", "pad: 7",
    "stride: 0", "num_output: 0", "shape {}", "source: '/nowhere'", "blobs { data: 1 }", "force_backward: true",
    "'\\777'", '"\\x"', '"\\u12"', '"\\U00110000"', "\u00e9", "\u2028", "\ufeff", "\x00", "\x7f", "param {}",
]  # fmt: skip
NUMBERS = [
    "0", "1", "2", "3", "4", "7", "10", "100", "-1", "-2", "00", "08", "0x7fffffff", "2147483647", "4294967295",
    "-2147483648", "9223372036854775807", "1e999", "1e-50", "nan", "inf", "-inf", "true", ".5", "1.", "1f", "-0",
]  # fmt: skip


def collect_seeds() -> dict[str, list[bytes]]:
    """Small valid files by message: nets of all formats and layer types, solvers."""
    seeds: dict[str, list[bytes]] = {"NetParameter": [], "SolverParameter": []}
    for path in sorted(GOLDEN.rglob("*.prototxt")):
        data = path.read_bytes()
        if len(data) <= LARGEST_SEED:
            seeds["SolverParameter" if "solver" in path.stem else "NetParameter"].append(data)
    return seeds


SEEDS = collect_seeds()


class Mutator:
    """Makes files that are nearly valid; the same ones for the same seed."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def file(self, message: str) -> bytes:
        """A valid file with one to five things changed."""
        data = bytearray(self.random.choice(SEEDS[message]))
        for _ in range(self.random.choice([1, 1, 1, 1, 2, 2, 3])):
            if self.random.random() < 0.85:
                data = self.reworded(data)
            else:
                data = self.broken(data, message)
        return bytes(data[: 2 * LARGEST_SEED])

    def reworded(self, data: bytearray) -> bytearray:
        """The data with other numbers, names or lines: what may still be a prototxt."""
        at, rows = self.random.randrange(len(data) + 1), bytes(data).split(b"\n")
        i, j = self.random.randrange(len(rows)), self.random.randrange(len(rows))
        how = self.random.randrange(6)
        if how <= 1:
            return self.with_word(data, at, bytearray.isdigit, self.random.choice(NUMBERS).encode())
        if how == 2:
            return self.with_word(data, at, bytearray.isalnum, self.random.choice(bytes(data).split() or [b"name"]))
        if how == 3:
            rows[i], rows[j] = rows[j], rows[i]
        elif how == 4:
            del rows[i]
        else:
            rows.insert(j, rows[i])
        return bytearray(b"\n".join(rows))

    def broken(self, data: bytearray, message: str) -> bytearray:
        """The data with some bytes changed, lost, doubled or strange."""
        how, (at, end) = self.random.randrange(6), self.span(data)
        if how == 0:
            data[at : at + 1] = bytes([self.random.randrange(256)])
        elif how == 1:
            del data[at:end]
        elif how == 2:
            data[at:at] = data[at:end]
        elif how == 3:
            data[at:at] = b" " + self.random.choice(WORDS).encode() + b" "
        elif how == 4:  # a part of another file
            other = self.random.choice(SEEDS[message])
            start, stop = self.span(other)
            data[at:at] = other[start:stop]
        else:  # it ends too early
            del data[at:]
        return data

    def span(self, data) -> tuple[int, int]:
        """A place in the data, and one shortly after it."""
        at = self.random.randrange(len(data) + 1)
        return at, min(len(data), at + self.random.choice([1, 2, 5, 20, 100, 500]))

    def with_word(self, data: bytearray, at: int, belongs, word: bytes) -> bytearray:
        """The data with the first run of such bytes from a place on replaced."""
        start = next((i for i in range(at, len(data)) if belongs(data[i : i + 1])), len(data))
        end = next((i for i in range(start, len(data)) if not belongs(data[i : i + 1])), len(data))
        data[start:end] = word
        return data


def read(path: Path, message: str, dialect: str | None) -> Parsed | None:
    """The file as read, or None where it was refused in the project's own words."""
    try:
        return read_prototxt(path, message, dialect)
    except CaffeError as error:
        assert error.problems and all(problem.found for problem in error.problems)
        str(error).encode()  # it can be shown whatever stands in the file
        return None


def outcome(path: Path, message: str, rng: random.Random) -> str:
    """How far a file comes: refused, read, or built as a graph."""
    dialect = rng.choice([None, None, *DIALECTS])
    parsed = read(path, message, dialect)
    if parsed is None:
        if rng.random() < 0.1:
            tolerated(path, message, dialect)
        return "refused"
    if rng.random() < 0.1 and (text := to_text(parsed.message)):
        again = parse_prototxt(text, message, parsed.dialect).message
        # by bytes, since a NaN would not equal itself; its sign is not printed, as in C++ protobuf
        assert again.SerializeToString() == parsed.message.SerializeToString() or (
            to_text(again) == text and b"-nan" in path.read_bytes().lower()
        )
    try:
        if message == "SolverParameter":
            upgrade_solver(parsed.message, parsed.dialect, path)
        else:
            load_graph(parsed, phase=rng.choice(["TRAIN", "TEST"]))
    except CaffeError as error:
        assert error.problems
        str(error).encode()
        return "read"
    return "built"


def tolerated(path: Path, message: str, dialect: str | None) -> None:
    """Reading what can be read of a broken file keeps to the project's errors too."""
    with suppress(CaffeError):
        parsed, problems = read_tolerantly(path, message, dialect)
        assert problems
        if message == "NetParameter":
            draft_graph(parsed, NetState())


def fuzz(folder: Path, rounds: int, seed: int) -> dict[str, int]:
    """Mutate and read so many files; returns how many came how far."""
    mutator, rng = Mutator(seed), random.Random(seed + 1)
    path, counts = folder / "mutated.prototxt", {"refused": 0, "read": 0, "built": 0}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for _ in range(rounds):
        message = "SolverParameter" if rng.random() < 0.1 else "NetParameter"
        data = mutator.file(message)
        path.write_bytes(data)
        start = time.process_time()
        try:
            counts[outcome(path, message, rng)] += 1
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}\n{data!r}") from error
        assert time.process_time() - start < SLOWEST, data
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert grown < 4 * 2 * LARGEST_SEED + CONSTANT
    return counts


def test_mutations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a source that a layer names is looked for here
    counts = fuzz(tmp_path, 3000, 1)
    assert min(counts.values()) > 100, counts  # all outcomes have been tried


@pytest.mark.slow
def test_many_mutations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts = fuzz(tmp_path, 200_000, 2)
    assert min(counts.values()) > 10_000, counts


SOURCES = {
    "Data": "data_param { source: '%s' batch_size: 2 backend: LMDB }",
    "HDF5Data": "hdf5_data_param { source: '%s' batch_size: 2 }",
    "ImageData": "image_data_param { source: '%s' batch_size: 2 }",
    "WindowData": "window_data_param { source: '%s' batch_size: 2 }",
}
NAMES = ["", "/", ".", "nowhere", "a\\000b", "\\377\\376", "x" * 5000, "/dev/null"]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("type", SOURCES)
def test_names_that_no_file_can_have(tmp_path, monkeypatch, type, dialect):
    monkeypatch.chdir(tmp_path)
    tops = "top: 'a' top: 'b'" if type != "HDF5Data" else "top: 'a'"
    for name in NAMES:
        text = f"layer {{ name: 'data' type: '{type}' {tops} {SOURCES[type] % name} }}"
        with pytest.raises(CaffeError):
            load_graph(parse_prototxt(text, dialect=dialect))


def test_an_infogain_matrix_that_no_file_can_hold():
    shapes = "input: 'x' input_shape { dim: 2 dim: 3 } input: 't' input_shape { dim: 2 }"
    layer = "layer { name: 'loss' type: 'InfogainLoss' bottom: 'x' bottom: 't' infogain_loss_param { source: '%s' } }"
    for name in NAMES:
        with pytest.raises(CaffeError):
            load_graph(parse_prototxt(shapes + layer % name))


# What a text is made of, in lengths that nobody writes by hand: time that grows with the square would show.
LONG = {
    "a string": lambda n: 'name: "' + "x" * n + '"',
    "escapes": lambda n: 'name: "' + "\\n" * (n // 2) + '"',
    "joined strings": lambda n: "name: " + '"a" ' * (n // 4),
    "a comment": lambda n: "#" + "x" * n + '\nname: "net"',
    "a number": lambda n: "input_dim: " + "1" * n,
    "a name": lambda n: "x" * n + ": 1",
    "blocks in blocks": lambda n: "layer {" * (n // 7),
    "unknown fields": lambda n: "foo: 1 " * (n // 7),
    "one field again and again": lambda n: "force_backward: true " * (n // 21),
    "a list": lambda n: "input_dim: [" + "1, " * (n // 3) + "1]",
    "spaces": lambda n: " " * n + 'name: "net"',
}


@pytest.mark.parametrize("what", LONG)
def test_long_texts_take_no_longer_than_they_must(what):
    start = time.process_time()
    try:
        parsed = parse_prototxt(LONG[what](300_000), dialect="bvlc")
    except CaffeError as error:
        assert len(str(error)) < 50_000
    else:
        assert parsed.message.ByteSize() > 0
    assert time.process_time() - start < 5
