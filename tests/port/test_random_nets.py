"""Random nets: PyTorch and ONNX Runtime against the float64 reference, gradients, with and without `faithful_bugs`."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from random_nets import random_net

import port
from port.graph.notes import SharedMemoryWarning
from port.graph.reference import run_reference
from port.net import param_arrays, run_values
from port.onnx.export import build_onnx
from port.onnx.session import run_onnx, session
from prototxt_gen.base.errors import CaffeError
from prototxt_gen.schema import parse_prototxt

# What rounding may do: so many times what one rounding of every input, parameter and blob on the way does to it (the
# nets normalise, divide and cancel, each in its own measure), and a few roundings of the blob's largest value.
AMPLIFIED, ROUNDINGS = 60.0, 2e-6
# ONNX Runtime's LRN adds to and takes from one running sum of squares, so that a small window beside a large one keeps
# the large one's rounding (seen: 1e-4 of a blob).
RUNNING_SUMS = 1e-3


def outcome(seed: int) -> str:
    """What became of a net: refused, or compared; raises AssertionError naming the first blob that differs."""
    text, dialect, options = random_net(seed)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SharedMemoryWarning)
        for faithful in (False, True):
            try:
                parsed = parse_prototxt(text, dialect=dialect)
                net = port.load_net(parsed, **options, seed=seed, faithful_bugs=faithful)
                found.append(compared(net, seed))
            except CaffeError as error:
                found.append(f"refused: {error.problems[0].found[:40]}")
    return found[0] if found[0] == found[1] else f"{found[0]}; with the switch {found[1]}"


def compared(net, seed: int) -> str:
    """Compare one net in every way."""
    random = np.random.RandomState(seed % 2**32)
    fed = {v.blob: random.standard_normal(v.shape).astype(np.float32) for v in net.caffe.inputs}
    blobs = param_arrays(net)
    drawn = net.caffe.state.phase == "TRAIN" and any(n.layer.type == "Dropout" for n in net.caffe.nodes)
    if drawn:  # the reference draws no mask; gradients are still computed
        gradients(net, fed)
        return "drawn"
    expected = run_reference(net.caffe, blobs, fed)
    others = [rounded_reference(net.caffe, blobs, fed, seed_of_noise) for seed_of_noise in (1, 2)]
    moved = {name: np.maximum(*(np.abs(other[name] - expected[name]) for other in others)) for name in expected}
    with torch.no_grad():
        mine = {name: value.numpy() for name, value in run_values(_fresh(net), fed).items()}
    near(mine, expected, moved, "torch")
    try:
        sums = any(node.layer.type == "LRN" for node in net.caffe.nodes)
        found = run_onnx(session(build_onnx(net, blobs="all")), fed)
        near(found, expected, moved, "onnx", RUNNING_SUMS if sums else ROUNDINGS)
    except CaffeError:
        gradients(net, fed)
        return "no ONNX form"
    gradients(net, fed)
    return "compared"


def rounded_reference(graph, blobs, fed, seed: int) -> dict:
    """The reference with every value moved by one rounding of float32, up or down, as it is made."""
    noise = np.random.RandomState(seed)

    def moved(array):
        return array * (1 + 6e-8 * noise.choice([-1, 1], np.shape(array)))

    values = {v.name: moved(np.float64(fed[v.blob])) for v in graph.inputs}
    held = {name: [moved(np.float64(blob)) for blob in arrays] for name, arrays in blobs.items()}
    for node in (node for node in graph.nodes if node.layer.kind != "data"):
        tops = node.layer.reference(held.get(node.name, []), *(values[v.name] for v in node.bottoms))
        values |= {value.name: moved(top) for value, top in zip(node.tops, tops, strict=True)}
    return values


def _fresh(net):
    import copy

    return copy.deepcopy(net)  # a forward in TRAIN moves statistics


def near(found: dict, expected: dict, moved: dict, runtime: str, roundings: float = ROUNDINGS) -> None:
    """Every blob within what rounding may do to it."""
    for name, value in found.items():
        if name not in expected:
            continue
        right = expected[name]
        assert value.shape == right.shape, (runtime, name)
        if not value.size or not np.isfinite(right).all() or np.abs(right).max() > 1e30:
            continue
        allowed = AMPLIFIED * moved[name].max() + roundings * max(np.abs(right).max(), 1e-30)
        error = np.abs(value - right).max()
        assert error <= allowed, f"{runtime}: {name} is off by {error:.1e}, allowed {allowed:.1e}"


def gradients(net, fed) -> None:
    """They exist and have their shapes."""
    net = _fresh(net)
    inputs = {k: torch.from_numpy(v).requires_grad_() for k, v in fed.items()}
    outputs = net(**inputs)
    total = sum((out * 0.5).sum() for out in outputs.values() if out.requires_grad)
    if isinstance(total, torch.Tensor):
        total.backward()
    for value in inputs.values():
        assert value.grad is None or value.grad.shape == value.shape


def run_many(first: int, count: int) -> Counter:
    outcomes: Counter = Counter()
    for seed in range(first, first + count):
        try:
            outcomes[outcome(seed).partition(":")[0]] += 1
        except Exception as error:
            text, dialect, options = random_net(seed)
            raise AssertionError(
                f"seed {seed}, {dialect}, {options}: {type(error).__name__}: {error}\n{text}"
            ) from error
    return outcomes


def test_random_nets():
    outcomes = run_many(0, 150)
    assert outcomes["compared"] > 75, outcomes


@pytest.mark.slow
def test_many_random_nets():
    outcomes = run_many(1000, 10_000)
    assert outcomes["compared"] > 5_000, outcomes


def test_a_difference_is_noticed(monkeypatch):
    from port.layers.activations import Sigmoid

    monkeypatch.setattr(Sigmoid, "forward", lambda self, module, x: (torch.sigmoid(x) * 1.0001,))
    with pytest.raises(AssertionError, match=r"torch: .* is off by"):
        run_many(0, 150)
