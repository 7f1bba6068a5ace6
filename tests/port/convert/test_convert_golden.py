"""Every recorded net of one Caffe, converted: it is refused, or computes what was recorded in the other dialect."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from convert_nets import OTHER

from port.convert import Conversion, convert_net
from port.graph.build import build_graph
from port.graph.reference import run_reference
from port.graph.state import NetState
from prototxt_gen.base.errors import NetError
from prototxt_gen.schema import read_prototxt
from verify.parity.golden import Recording, find_cases, read_recording

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = find_cases([GOLDEN / "layers", GOLDEN / "edges"])
# The dialects count equal scores differently; the notes of the conversion say so.
DIFFERENT = {"acc_ties"}
# The recordings are float32: one rounding of every value and of every sum.
TOLERANCE = 5e-6


def convert(case: Path) -> Conversion | None:
    dialect = case.parts[-2]
    try:
        return convert_net(read_prototxt(case, dialect=dialect), OTHER[dialect])
    except NetError:
        return None


def wrong_blobs(conversion: Conversion, recording: Recording, phase: str) -> list[str]:
    """The recorded blobs that the float64 reference of the converted net does not give."""
    held: dict[str, dict[int, np.ndarray]] = defaultdict(dict)
    for key, array in recording.part("param").items():
        layer, _, index = key.rpartition("/")
        held[layer][int(index)] = array
    blobs = conversion.blobs({layer: [group[i] for i in sorted(group)] for layer, group in held.items()})
    graph = build_graph(conversion.parsed, NetState(phase))
    values = run_reference(graph, blobs, recording.part("in"))
    return [
        blob
        for blob, recorded in recording.part("blob").items()
        if blob not in graph.blobs() or not agree(values[graph.blobs()[blob].name], recorded)
    ]


def agree(found: np.ndarray, recorded: np.ndarray) -> bool:
    """Equal shapes, NaN at the same places, errors small relative to the largest value."""
    if found.shape != recorded.shape or (np.isnan(found) != np.isnan(recorded)).any():
        return False
    finite = np.isfinite(recorded)
    scale = np.abs(recorded[finite]).max(initial=0) or 1.0
    return bool(np.all(np.abs(found - recorded)[finite] <= TOLERANCE * scale))


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case.with_suffix("").parts[-3:]))
def test_recorded(case):
    conversion = convert(case)
    if conversion is None:
        return  # counted below
    phase = case.read_text().split("\n", 1)[0].split()[-1]
    wrong = wrong_blobs(conversion, read_recording(case), phase)
    if case.stem in DIFFERENT:
        assert wrong and any("of equal scores" in note for note in conversion.notes)
    else:
        assert not wrong


def test_few_are_refused():
    """34 of 249: types, fields and shapes that the other dialect does not have."""
    results = Counter(convert(case) is not None for case in CASES)
    assert results[True] >= 215 and results[True] + results[False] == 254


def test_a_wrong_weight_would_show():
    case = GOLDEN / "layers" / "bvlc" / "batchnorm_scale_relu_in_place.prototxt"
    conversion, recording = convert(case), read_recording(case)
    assert conversion and not wrong_blobs(conversion, recording, "TEST")
    conversion.recipes = {
        name: lambda held, r=r: [1.0001 * b for b in r(held)] for name, r in conversion.recipes.items()
    }
    assert wrong_blobs(conversion, recording, "TEST")
