"""A layer of a pack with given numbers, run by every runtime and held against rules written as plain loops."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from properties.nets import (
    LAYER,
    Bottom,
    Case,
    by_blob,
    graph_of,
    net_of,
    onnx_answer,
    onnx_session,
    reference_answer,
    torch_answer,
)

from port.net import params, run_values
from prototxt_gen.base.errors import CaffeError
from verify.parity.compare import compare

SAME_MATHS, FORWARD, BACKWARD = 1e-11, 5e-6, 1e-5
STEP = 1e-5  # of the central differences


class Run:
    """One layer, its inputs and blobs (float32), and the answers of all runtimes."""

    def __init__(self, type: str, inputs: Sequence[Any], blobs: Sequence[Any] = (), **case: Any):
        self.inputs = [np.asarray(x, np.float32) for x in inputs]
        self.blobs = [np.asarray(b, np.float32) for b in blobs]
        fields = case.pop("fields", {})
        bottoms = tuple(Bottom(x.shape) for x in self.inputs)
        self.case = Case(type, case.pop("dialect", "bvlc"), bottoms, fields, **case)
        self.graph = graph_of(self.case)
        self.net = net_of(self.graph, self.blobs)
        self.layer = self.graph.node(LAYER).layer

    def reference(self, inputs: Sequence[Any] | None = None) -> list[np.ndarray]:
        return reference_answer(self.graph, self.blobs, list(inputs or self.inputs))[0]

    def torch(self, inputs: Sequence[Any] | None = None) -> list[np.ndarray]:
        return torch_answer(self.net, list(inputs or self.inputs))[0]

    def onnx(self, opset: int = 17, inputs: Sequence[Any] | None = None) -> list[np.ndarray]:
        return onnx_answer(onnx_session(self.net, opset), self.graph, list(inputs or self.inputs))

    def stays_double(self, module: Any = None) -> None:
        """The torch rule in float64 is the reference."""
        blobs = [torch.from_numpy(b.astype(np.float64)) for b in self.blobs]
        module = module or SimpleNamespace(blobs=blobs, state={})
        tops = self.layer.forward(module, *map(torch.from_numpy, self.double()))
        assert all(top.dtype == torch.float64 for top in tops)
        agree([top.numpy() for top in tops], self.reference(), SAME_MATHS, "float64")

    def double(self) -> list[np.ndarray]:
        return [x.astype(np.float64) for x in self.inputs]

    def holds(self, expected: Sequence[Any], opsets: Sequence[int] = (17,)) -> None:
        """Reference, PyTorch and ONNX Runtime give what is expected."""
        agree(self.reference(), expected, SAME_MATHS, "reference")
        agree(self.torch(), expected, FORWARD, "torch")
        for opset in opsets:
            agree(self.onnx(opset), expected, FORWARD, f"ONNX, opset {opset}")

    def gradients(self, seed: Any = None, top: int = 0) -> tuple[list[Any], list[Any]]:
        """Of bottoms and blobs, for a top's gradient (1 where none is given); None where nothing flows."""
        leaves = [torch.tensor(x, requires_grad=True) for x in self.inputs]
        values = run_values(self.net, by_blob(self.graph, leaves))
        out = values[self.graph.node(LAYER).tops[top].name]
        if not out.requires_grad:
            return [None] * len(leaves), [None] * len(self.blobs)
        blobs = params(self.net).get(LAYER, [])
        for blob in blobs:
            blob.grad = None
        (out * (1.0 if seed is None else torch.tensor(np.float32(seed)))).sum().backward()
        numbers = [x.grad if x.grad is None else x.grad.numpy() for x in leaves]
        return numbers, [b.grad if b.grad is None else b.grad.numpy() for b in blobs]

    def differenced(self, which: int, seed: Any = None, of_blob: bool = False, step: float = STEP) -> np.ndarray:
        """The derivative of the seeded first top of the reference by a bottom, or by a blob."""
        arrays, blobs = self.double(), [b.astype(np.float64) for b in self.blobs]
        moved = (blobs if of_blob else arrays)[which]
        slope = np.zeros(moved.shape)
        for at in np.ndindex(*moved.shape):
            ends = []
            for sign in (1, -1):
                old = moved[at]
                moved[at] = old + sign * step
                out = self.layer.reference([b.copy() for b in blobs], *arrays)[0]
                ends.append((out * (1.0 if seed is None else np.asarray(seed))).sum())
                moved[at] = old
            slope[at] = (ends[0] - ends[1]) / (2 * step)
        return slope

    def slopes_hold(self, seed: Any = None, bottoms: Sequence[int] = (0,), blobs: Sequence[int] = ()) -> None:
        """The gradients of some bottoms and blobs are the derivatives of the reference."""
        found, found_blobs = self.gradients(seed)
        for i in bottoms:
            near(found[i], self.differenced(i, seed), BACKWARD, f"bottom {i}")
        for i in blobs:
            near(found_blobs[i], self.differenced(i, seed, of_blob=True), BACKWARD, f"blob {i}")


def agree(found: Sequence[Any], expected: Sequence[Any], tolerance: float, what: str) -> None:
    """All tops agree in shape and value, relative to each one's largest value."""
    assert len(found) == len(expected), what
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        near(a, b, tolerance, f"{what}, top {i}")


def near(found: Any, expected: Any, tolerance: float, what: str = "") -> None:
    """Equal shapes, and values equal relative to the largest."""
    assert found is not None, what
    expected = np.asarray(expected, np.float64)
    assert np.shape(found) == expected.shape, f"{what}: {np.shape(found)}, not {expected.shape}"
    if expected.size:
        result = compare(np.asarray(found), expected, tolerance, what, nan=True)
        assert result, str(result)


def refused(match: str, *args: Any, raises: type[Exception] = CaffeError, **kwargs: Any) -> None:
    """The layer cannot be built, and the complaint says why."""
    with pytest.raises(raises, match=match):
        Run(*args, **kwargs)
