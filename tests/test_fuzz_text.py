"""Damaged prototxts: read or refused in the project's own words, at once and within bounds."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np
import pytest

from port.graph import load_graph
from prototxt_gen.errors import CaffeError
from prototxt_gen.schema import parse_prototxt

GOLDEN = Path(__file__).parent / "golden"
SEEDS = [
    p.read_bytes()
    for folder in ("legacy", "layers", "solver")
    for p in sorted((GOLDEN / folder).rglob("*.prototxt"))
    if p.stat().st_size < 6000
]
WORDS = (
    b"{", b"}", b"[", b"]", b":", b";", b",", b'"', b"'", b"#", b"<", b">", b"-", b"\n", b"\\", b"0x", b"1e999", b"nan",
    b"-1", b"99999999999999999999", b"layer", b"layers", b"type", b"name", b"dim", b"bottom", b"shape", b"true", b"\0",
    b"\xff\xfe", b"\xc3\x28", b"input_dim: 0", b"dim: 2000000000", b"num_output: 4000000000", b"kernel_size: 0",
    b"stride: 0", b"group: 0", b"axis: -9", b'type: "Convolution"', b'type: "Slice"', b"top: \"data\"",
)  # fmt: skip


def mutated(rng: np.random.RandomState, data: bytes) -> bytes:
    """One or two damages: bytes changed, cut, doubled, words put in, another file's piece put in."""
    for _ in range(rng.randint(1, 3)):
        if not data:
            return data
        kind, at = rng.randint(6), rng.randint(len(data))
        end = min(len(data), at + rng.randint(1, 40))
        if kind == 0:
            data = data[:at] + bytes([rng.randint(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[end:]
        elif kind == 2:
            data = data[:end] + data[at:end] * rng.randint(1, 4) + data[end:]
        elif kind == 3:
            data = data[:at] + b" " + WORDS[rng.randint(len(WORDS))] + b" " + data[at:]
        elif kind == 4:
            other = SEEDS[rng.randint(len(SEEDS))]
            start = rng.randint(len(other))
            data = data[:at] + other[start : start + rng.randint(1, 200)] + data[at:]
        else:
            data = data[:at]
    return data


def survive(data: bytes, path: Path, build: bool) -> bool:
    """Read a text (and build its graph); true when nothing was refused. Only the project's error may come out."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        for message in ("NetParameter", "SolverParameter"):
            parse_prototxt(text, message)
    except CaffeError as error:
        assert str(error)
    if not build:
        return False
    path.write_bytes(data)
    try:
        load_graph(path)
    except CaffeError as error:
        assert str(error)
        return False
    return True


def fuzz(path: Path, rounds: int, seed: int, builds: int) -> int:
    rng = np.random.RandomState(seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    accepted, slowest = 0, 0.0
    for number in range(rounds):
        data = mutated(rng, SEEDS[number % len(SEEDS)])
        start = time.process_time()
        accepted += survive(data, path, number % builds == 0)
        slowest = max(slowest, time.process_time() - start)
    assert slowest < 2
    # kilobytes: the files have a few thousand bytes each; Python's own arenas are the constant
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    return accepted


def test_mutations(tmp_path):
    assert fuzz(tmp_path / "net.prototxt", 1500, 1, builds=2) > 5  # both outcomes have been tried


@pytest.mark.slow
def test_many_mutations(tmp_path):
    assert fuzz(tmp_path / "net.prototxt", 200_000, 2, builds=10) > 100


@pytest.mark.parametrize("text", ["{" * 200_000, "layer {" * 100_000, "[" * 200_000, 'a: "' + "\\" * 200_000])
def test_deep_nesting_ends_at_once(text):
    start = time.process_time()
    with pytest.raises(CaffeError):
        parse_prototxt(text)
    assert time.process_time() - start < 5
