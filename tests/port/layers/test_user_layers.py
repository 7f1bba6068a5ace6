"""Layer types of one's own, and Python layers: registered from outside, used like any other."""

import numpy as np
import pytest
import torch

import port
from port.graph.reference import run_reference
from port.layers.base import REGISTRY
from port.layers.host import PYTHON
from port.onnx.export import build_onnx
from port.onnx.session import run_onnx, session
from prototxt_gen.base.errors import CaffeError, NetError
from prototxt_gen.schema import messages


@pytest.fixture
def clean():
    """Undo what a test registers."""
    types, python, rows = dict(REGISTRY), dict(PYTHON), list(messages._rows())
    yield
    REGISTRY.clear()
    REGISTRY.update(types)
    PYTHON.clear()
    PYTHON.update(python)
    messages._rows()[:] = rows
    messages.forget()


def net_file(tmp_path, layer):
    path = tmp_path / "net.prototxt"
    path.write_text(
        'name: "own"\n'
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 4 } } }\n' + layer
    )
    return path


def test_a_layer_type_of_ones_own(tmp_path, clean):
    port.extend_schema("axpb_param", 5001, {"slope": ("float", 2.0), "offsets": ("float[]", None)})

    @port.register
    class Axpb(port.UserLayer):
        """slope * x + learned bias + the sum of some offsets."""

        type = "Axpb"
        param = ("axpb_param",)

        slope: float = 2.0
        offsets: tuple[float, ...] = ()

        def blobs(self, x):
            return [port.BlobSpec("bias", (x[1],), 0.5)]

        def top_shapes(self, x):
            if len(x) != 4:
                raise port.Misfit(f"{len(x)} axes", "4", "bottom")
            return (x,)

        def forward(self, module, x):
            return (x * self.slope + module.blobs[0].reshape(1, -1, 1, 1) + sum(self.offsets),)

        def onnx(self, graph, x):
            scaled = graph.op("Mul", x, graph.constant(self.slope))
            shifted = graph.op("Add", scaled, graph.blob(0, (1, -1, 1, 1)))
            return (graph.op("Add", shifted, graph.constant(sum(self.offsets))),)

    path = net_file(
        tmp_path,
        'layer { name: "own" type: "Axpb" bottom: "x" top: "y" axpb_param { slope: 3 offsets: 1 offsets: 0.25 } }',
    )
    net = port.load_net(path)
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    expected = 3 * x + 0.5 + 1.25
    np.testing.assert_allclose(port.run_blobs(net, {"x": x})["y"], expected, rtol=1e-6)
    np.testing.assert_allclose(run_onnx(session(build_onnx(net)), {"x": x})["y"], expected, rtol=1e-6)
    held = {"own": [np.full(3, 0.5)]}
    np.testing.assert_allclose(run_reference(net.caffe, held, {"x": x})["y"], expected, rtol=1e-6)
    assert [tuple(p.shape) for p in port.params(net)["own"]] == [(3,)]


def test_a_field_number_in_use_is_refused(clean):
    with pytest.raises(CaffeError, match="137"):
        port.extend_schema("mine_param", 137, {"a": ("float", 0.0)})
    with pytest.raises(CaffeError, match="'flaot' of 'a'"):
        port.extend_schema("mine_param", 5001, {"a": ("flaot", 0.0)})


PYTHON_LAYER = (
    'layer { name: "py" type: "Python" bottom: "x" top: "y"'
    ' python_param { module: "mine" layer: "Shift" param_str: "1.5" } }'
)


def test_an_unregistered_python_layer_says_what_to_write(tmp_path):
    with pytest.raises(NetError) as caught:
        port.load_net(net_file(tmp_path, PYTHON_LAYER))
    text = str(caught.value)
    assert "'mine.Shift'" in text and "@port.register_python('mine.Shift')" in text and "forward(self" in text


def test_a_registered_python_layer_runs_and_learns(tmp_path, clean):
    @port.register_python("mine.Shift")
    class Shift(torch.nn.Module):
        def __init__(self, param_str, phase):
            super().__init__()
            self.by, self.phase = float(param_str), phase
            self.weight = torch.nn.Parameter(torch.ones(()))

        def top_shapes(self, x):
            return [x]

        def forward(self, x):
            return x * self.weight + self.by

    net = port.load_net(net_file(tmp_path, PYTHON_LAYER), phase="TRAIN")
    x = torch.randn(2, 3, 5, 4)
    net(x=x)["y"].sum().backward()
    torch.testing.assert_close(net(x=x)["y"], x + 1.5)
    grads = [p.grad for p in net.parameters()]
    torch.testing.assert_close(grads[0], x.sum())
    with pytest.raises(CaffeError, match="Python layer without an ONNX form"):
        build_onnx(net)
