"""Random layers of every type: judged by Caffe's rules in plain loops, and the same in every runtime."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from properties.draws import MAKERS, cases
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
from properties.rules import RULES, Refused, Unclear, judge

from port.graph.graph import Graph
from port.layers import REGISTRY
from port.layers.base import dialects
from port.onnx.export import free_axes
from prototxt_gen.base.errors import CaffeError, ExportError, NetError
from verify.parity.compare import compare

# Two float64 implementations of the same sums.
SAME_MATHS = 1e-11
# Relative to the top's largest value: float32 sums in another order.
FLOAT32 = 5e-6

# A loss is -log of a float32 probability, in Caffe as here: next to 1 that is no finer than this, so a loss
# of 3e-11 comes out as 0.
FINEST_LOSS = float(np.finfo(np.float32).eps)

# Data layers give their tops to the caller; Python runs what the user registers.
TYPES = {name: cls for name, cls in REGISTRY.items() if cls.kind != "data" and name != "Python" and dialects(cls)}
COMBINATIONS = [(name, dialect) for name, cls in sorted(TYPES.items()) for dialect in dialects(cls)]
OPSETS = [17, 13, 15, 18, 20, 21, 23, 26]

# Sums whose terms can cancel: their error is measured against the sum of the terms' sizes.
SUMS = {"BatchReduction", "Convolution", "Deconvolution", "InfogainLoss", "InnerProduct", "Reduction"}

onnxruntime.set_default_logger_severity(4)


def agree(found, expected, tolerance: float, what: str, sizes: list | None = None) -> None:
    """All tops agree in shape and value; empty ones in shape."""
    assert len(found) == len(expected), what
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        if b.size == 0:
            assert a.shape == b.shape, what
            continue
        wider = float(max(1.0, np.abs(sizes[i]).max() / (np.abs(b).max() or 1.0))) if sizes else 1.0
        if b.ndim == 0 and b != 0 and tolerance > SAME_MATHS:
            wider = max(wider, FINEST_LOSS / (tolerance * abs(float(b))))
        result = compare(a, b, tolerance * wider, f"{what}, top {i}", nan=True)
        assert result, str(result)


def without_signs(case: Case) -> list[np.ndarray]:
    """The inputs made positive; labels as they are."""
    pairs = zip(case.bottoms, case.inputs(), strict=True)
    return [x if bottom.kind == "labels" else np.abs(x) for bottom, x in pairs]


@dataclass
class Subject:
    """A layer that was accepted: its graph, its blobs, and its ONNX session where it has one."""

    graph: Graph
    blobs: list[np.ndarray]
    runner: Any

    def agrees(self, case: Case, expected: list[np.ndarray] | None, after: list[np.ndarray] | None, what: str) -> None:
        """All runtimes give what is expected of the case's inputs; where that is None, what the reference gives."""
        inputs = case.inputs()
        found, moved = reference_answer(self.graph, self.blobs, inputs)
        expected, after = expected or found, after or moved
        agree(found, expected, SAME_MATHS, f"{what}, reference")
        agree(moved, after, SAME_MATHS, f"{what}, reference, blobs after forward")
        sizes = None
        if case.type in SUMS:
            sizes, _ = reference_answer(self.graph, [np.abs(b) for b in self.blobs], without_signs(case))
        found, moved = torch_answer(net_of(self.graph, self.blobs), inputs)
        agree(found, expected, FLOAT32, f"{what}, torch", sizes)
        agree(moved, after, FLOAT32, f"{what}, torch, blobs after forward")
        # NaN and -inf never win in Caffe; what ONNX's MaxPool makes of them is not said
        if self.runner is not None and not (case.type == "Pooling" and case.bottoms[0].kind == "infinite"):
            agree(onnx_answer(self.runner, self.graph, inputs), expected, FLOAT32, f"{what}, ONNX", sizes)


def subject_of(case: Case, graph: Graph, blobs: list[np.ndarray], opset: int) -> Subject:
    """The layer with an ONNX session, unless ONNX Runtime has no such operator or there is nothing to compute."""
    net = net_of(graph, blobs)
    if case.type == "ROIPooling" and opset > 21:
        with pytest.raises(ExportError, match="opset 21 or lower"):
            onnx_session(net, opset)
        return Subject(graph, blobs, None)
    return Subject(graph, blobs, onnx_session(net, opset) if case.tops else None)


def check(case: Case, opset: int, batch: int) -> str:
    """Everything that must hold for a layer; returns what kind of case it was."""
    try:
        setting, expected = judge(case)
    except Refused:
        with pytest.raises(NetError):
            graph_of(case)
        return "refused"
    except Unclear:
        return anything_but_a_traceback(case, opset)
    graph = graph_of(case)
    assert [spec.shape for spec in graph.node(LAYER).specs] == [blob.shape for blob in setting.blobs]
    if case.type != "Filter":  # how many items survive is known only when it runs
        assert [v.shape for v in graph.node(LAYER).tops] == [top.shape for top in expected]
    subject = subject_of(case, graph, setting.blobs, opset)
    subject.agrees(case, expected, setting.final_blobs, f"opset {opset}")
    return "computed, " + other_batch(case, subject, batch)


def other_batch(case: Case, subject: Subject, batch: int) -> str:
    """The same net and file on another batch size, where the file leaves it free."""
    if not free_axes(subject.graph):
        return "one batch size"
    extents = {b.shape[0] for b in case.bottoms if b.shape}
    other = case.with_batch(batch) if len(extents) == 1 else case.with_batch(factor=batch)
    try:
        setting, expected = judge(other)
    except (Refused, Unclear):
        return "another batch size refused"
    assert all((a == b).all() for a, b in zip(setting.blobs, subject.blobs, strict=True))
    subject.agrees(other, expected, setting.final_blobs, f"batch of {batch}")
    return "another batch size too"


def anything_but_a_traceback(case: Case, opset: int) -> str:
    """A layer that the semantics leave open is refused, or computed alike everywhere."""
    try:
        graph = graph_of(case)
    except CaffeError:
        return "open, refused"
    random = np.random.RandomState(case.seed)
    blobs = [random.uniform(0.2, 2, spec.shape).astype(np.float32) for spec in graph.node(LAYER).specs]
    subject_of(case, graph, blobs, opset).agrees(case, None, None, f"open, opset {opset}")
    return "open, accepted"


def check_empty_batch(case: Case) -> str:
    """A batch of nothing, such as Filter can leave: computed or refused, and alike everywhere."""
    if case.type in ("BN", "BatchNorm"):  # statistics of nothing are nothing to learn
        case = replace(case, phase="TEST", fields={})
    try:
        setting, _ = judge(case)
    except (Refused, Unclear):
        return "refused"
    graph = graph_of(case)
    if not free_axes(graph):
        return "one batch size"
    subject = subject_of(case, graph, setting.blobs, OPSETS[0])
    try:
        reference_answer(graph, setting.blobs, case.with_batch(0).inputs())
    except CaffeError:
        return "an empty batch refused"
    subject.agrees(case.with_batch(0), None, None, "empty batch")
    return "an empty batch too"


def test_every_type_is_drawn_and_judged():
    assert set(TYPES) == set(MAKERS) == set(RULES)


@pytest.mark.parametrize(("type", "dialect"), COMBINATIONS)
def test_random_layers(type, dialect):
    run(type, dialect, 12)


@pytest.mark.slow
@pytest.mark.parametrize(("type", "dialect"), COMBINATIONS)
def test_very_many_random_layers(type, dialect):
    run(type, dialect, 200)


# the loss of nothing is 0 / 0 where the divisor has no floor
@pytest.mark.parametrize(("type", "dialect"), [c for c in COMBINATIONS if TYPES[c[0]].kind != "loss"])
def test_no_items_at_all(type, dialect):
    run(type, dialect, 4, empty=True)


def run(type: str, dialect: str, examples: int, empty: bool = False) -> None:
    """Draw and check; the same layers every time."""

    @repeatable(examples)
    @given(case=cases(type, dialect), opset=st.sampled_from(OPSETS), batch=st.integers(1, 5))
    def holds(case, opset, batch):
        event(check_empty_batch(case) if empty else check(case, opset, batch))

    holds()
