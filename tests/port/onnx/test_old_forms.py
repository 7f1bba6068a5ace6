"""Opsets 11 and 12: softmax along any axis, axes as attributes, and what they lack, named by layer."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from small_nets import inputs, layer

import port
from port.net import run_values
from port.onnx.export import build_onnx
from port.onnx.session import run_onnx, session
from prototxt_gen.base.errors import ExportError

SHAPE = (2, 3, 5, 4)
TOLERANCE = 5e-6  # float32 against float32, of the largest value


@pytest.fixture
def load(tmp_path):
    def make(text: str):
        (tmp_path / "n.prototxt").write_text(text)
        return port.load_net(tmp_path / "n.prototxt")

    return make


@pytest.mark.parametrize("opset", [11, 12])
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
def test_a_softmax_along_any_axis(load, axis, opset):
    net = load(inputs(data=SHAPE) + layer("s", "Softmax", "data", "y", f"softmax_param {{ axis: {axis} }}"))
    model = build_onnx(net, opset=opset)
    data = np.random.default_rng(axis + 4).standard_normal(SHAPE).astype(np.float32)
    expected = run_values(net, {"data": data})["y"].numpy()
    assert np.abs(run_onnx(session(model), {"data": data})["y"] - expected).max() <= TOLERANCE
    assert np.allclose(expected.sum(axis), 1)
    turned = [node.op_type for node in model.graph.node].count("Transpose")
    assert turned == (0 if axis in (3, -1) else 2)
    assert [node.op_type for node in build_onnx(net).graph.node] == ["Softmax"]


def test_the_old_form_was_another_function(load):
    """What the transposes are for: the old Softmax is one over all axes from its axis on."""
    net = load(inputs(data=SHAPE) + layer("s", "Softmax", "data", "y"))
    model = build_onnx(net, opset=13)
    model.opset_import[0].version = 11
    data = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    expected = run_values(net, {"data": data})["y"].numpy()
    assert np.abs(run_onnx(session(model), {"data": data})["y"] - expected).max() > 0.1


FLOW = layer("w", "FlowWarp", "data flow", "y")


def test_what_an_opset_lacks_is_named_by_layer(load):
    net = load(inputs(data=SHAPE, flow=(2, 2, 5, 4)) + FLOW)
    with pytest.raises(
        ExportError, match="layer 'w': opset 11 has no GreaterOrEqual; expected a later opset"
    ) as caught:
        build_onnx(net, opset=11)
    assert caught.value.problems[0].layer == "w"
    onnx.checker.check_model(build_onnx(net, opset=12), full_check=True)
