"""Layers as nobody should write them: refused in the project's own words, or computed; never a traceback."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import onnxruntime
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from properties.draws import MAKERS
from properties.hostile import hostile
from properties.nets import (
    LAYER,
    Case,
    graph_of,
    net_of,
    onnx_answer,
    onnx_session,
    reference_answer,
    torch_answer,
)
from properties.repeatable import repeatable

from port.layers import REGISTRY
from port.layers.base import dialects
from prototxt_gen.base.errors import CaffeError

COMBINATIONS = [(name, dialect) for name in sorted(MAKERS) for dialect in dialects(REGISTRY[name])]
MOST = 10**5  # values that a blob of a layer that is run may have

onnxruntime.set_default_logger_severity(4)


def survive(case: Case, opset: int) -> str:
    """Read, build and run a layer; only the project's errors may come out. Returns how far it came."""
    # every label and index is 0: what the data say is not what is tested here
    case = replace(case, bottoms=tuple(replace(b, limit=min(b.limit, 1), ignored=None) for b in case.bottoms))
    try:
        graph = graph_of(case)
    except CaffeError as error:
        assert str(error).strip()
        return "refused"
    shapes = [v.shape for v in graph.values] + [s.shape for node in graph.nodes for s in node.specs]
    if any(prod(shape or ()) > MOST or 0 in (shape or ()) for shape in shapes):
        return "too large or empty"
    random = np.random.RandomState(case.seed)
    blobs = [random.uniform(0.2, 2, spec.shape).astype(np.float32) for spec in graph.node(LAYER).specs]
    try:
        net = net_of(graph, blobs)
        torch_answer(net, case.inputs())
        reference_answer(graph, blobs, case.inputs())
        if case.tops:
            onnx_answer(onnx_session(net, opset), graph, case.inputs())
    except CaffeError as error:
        assert str(error).strip()
        return "refused later"
    return "ran"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflow is what these numbers are for
@pytest.mark.parametrize(("type", "dialect"), COMBINATIONS)
def test_badly_written_layers(type, dialect):
    run(type, dialect, 10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("type", "dialect"), COMBINATIONS)
def test_very_many_badly_written_layers(type, dialect):
    run(type, dialect, 200)


def run(type: str, dialect: str, examples: int) -> None:
    """Draw and try; the same layers every time."""

    @repeatable(examples)
    @given(case=hostile(type, dialect), opset=st.sampled_from([13, 17, 21]))
    def survives(case, opset):
        event(survive(case, opset))

    survives()
