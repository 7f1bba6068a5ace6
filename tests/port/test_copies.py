"""What people do with a loaded net: pickle it, save it, hand it to processes and threads, copy, export, compile it."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from small_nets import conv, fully, inputs, layer

import port
from port.module import CaffeNet
from prototxt_gen.base.errors import NetError

NET = (
    'name: "copies" '
    + inputs(data=(2, 3, 9, 8))
    + conv("c", "data", "c", 4, 3)
    + layer("bn", "BatchNorm", "c", "c")
    + layer("r", "ReLU", "c", "c")
    + fully("a", "c", "a", 5, 'param { name: "w" }')
    + fully("b", "c", "b", 5, 'param { name: "w" }')
    + layer("dummy", "DummyData", "", "d", "dummy_data_param { shape { dim: 2 dim: 5 } data_filler { value: 2 } }")
    + layer("sum", "Eltwise", "a b d", "y")
)
# ReLU in place, then BatchNorm in place: memory that faithful_bugs follows.
SHARED_MEMORY = (
    inputs(data=(2, 3, 9, 8))
    + conv("c", "data", "c", 4, 3)
    + layer("r", "ReLU", "c", "c")
    + layer("bn", "BatchNorm", "c", "c")
    + layer("s", "Scale", "c", "c", "scale_param { bias_term: true }")
)
RECURRENT = inputs(x=(3, 2, 4), cont=(3, 2)) + layer(
    "l", "LSTM", "x cont", "h", "recurrent_param { num_output: 3 weight_filler { type: 'xavier' } }"
)


@pytest.fixture
def load(tmp_path):
    """A net of a text."""

    def call(text, **options) -> CaffeNet:
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return port.load_net(path, **options)

    return call


def fed(net) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {v.blob: torch.randn(v.shape, generator=generator) for v in net.caffe.inputs}


def pickled(net):
    return pickle.loads(pickle.dumps(net))


def saved(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS = {"pickle": pickled, "torch.save": saved, "deepcopy": copy.deepcopy}
each_way = pytest.mark.parametrize("way", WAYS)


@each_way
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("text", [NET, SHARED_MEMORY], ids=["plain", "shared memory"])
@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.filterwarnings("ignore::port.graph.notes.SharedMemoryWarning")
def test_a_copy_computes_and_learns_the_same(load, way, phase, text, faithful):
    """Outputs, gradients and statistics, bit for bit; and the copy is a net of its own."""
    net = load(text, phase=phase, faithful_bugs=faithful)
    other = WAYS[way](net)
    assert isinstance(other, CaffeNet) and other.training == net.training
    for each in (net, other):
        sum(out.square().sum() for out in each(**fed(net)).values()).backward()
    for name, blobs in port.params(net).items():
        for mine, theirs in zip(blobs, port.params(other)[name], strict=True):
            assert mine is not theirs and torch.equal(mine, theirs)
            assert (mine.grad is None) == (theirs.grad is None)
            assert mine.grad is None or torch.equal(mine.grad, theirs.grad)
    with torch.no_grad():
        port.params(other)["c"][0].zero_()
    assert port.params(net)["c"][0].any()


@each_way
def test_shared_blobs_stay_shared(load, way):
    net = WAYS[way](load(NET, dialect="bvlc"))
    assert port.params(net)["a"][0] is port.params(net)["b"][0]


@each_way
def test_the_rest_of_a_net_comes_along(load, tmp_path, way):
    net = load(NET)
    port.save_caffemodel(net, tmp_path / "w.caffemodel")
    net = port.load_net(tmp_path / "net.prototxt", tmp_path / "w.caffemodel")
    other = WAYS[way](net)
    assert str(other.report) == str(net.report) and other.input_names == net.input_names
    assert other.caffe.reason == net.caffe.reason and other.code == net.code
    port.save_caffemodel(other, tmp_path / "again.caffemodel")
    assert (tmp_path / "again.caffemodel").read_bytes() == (tmp_path / "w.caffemodel").read_bytes()
    port.export_onnx(other, tmp_path / "net.onnx")
    blobs = port.run_blobs(other, fed(net))
    assert list(blobs) == list(port.run_blobs(net, fed(net)))


@each_way
def test_states_of_recurrent_layers_come_along(load, way):
    net = load(RECURRENT)
    x = fed(net) | {"cont": torch.ones(3, 2)}
    net(**x)
    assert torch.equal(WAYS[way](net)(**x)["h"], net(**x)["h"])


def test_an_edited_graph_is_refused(load):
    net = load(NET)
    last = next(node for node in reversed(net.graph.nodes) if node.op == "call_module")
    with net.graph.inserting_after(last):
        extra = net.graph.call_function(torch.neg, (last,))
    last.replace_all_uses_with(extra, delete_user_cb=lambda user: user is not extra)
    net.recompile()
    with pytest.raises(NetError, match="fx graph was edited"):
        pickle.dumps(net)


SPAWNED = """
import pickle, sys, torch
net = pickle.load(sys.stdin.buffer)
inputs = torch.load(sys.argv[1])
torch.save(net(**inputs), sys.argv[2])
"""


def test_a_new_process_takes_it(load, tmp_path):
    """One that has imported nothing of this project."""
    net = load(NET)
    torch.save(fed(net), tmp_path / "in.pt")
    words = [sys.executable, "-c", SPAWNED, str(tmp_path / "in.pt"), str(tmp_path / "out.pt")]
    subprocess.run(words, input=pickle.dumps(net), check=True, timeout=120)
    assert torch.equal(torch.load(tmp_path / "out.pt")["y"], net(**fed(net))["y"])


def test_threads(load):
    net = load(NET).eval()
    batches = [torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(i)) for i in range(16)]
    with torch.no_grad():
        expected = [net(data=batch)["y"] for batch in batches]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda batch: net(data=batch)["y"], batches))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_torch_export(load):
    net = load(NET)
    x = fed(net)
    program = torch.export.export(net, (), x)
    np.testing.assert_allclose(program.module()(**x)["y"].detach(), net(**x)["y"].detach(), rtol=1e-6)


def test_torch_compile(load):
    """By the tracer alone: what compilers make of it is theirs."""
    net = load(NET)
    x = fed(net)
    compiled = torch.compile(net.forward, backend="eager")
    names = net.input_names
    assert torch.equal(compiled(*(x[name] for name in names))["y"], net(**x)["y"])
