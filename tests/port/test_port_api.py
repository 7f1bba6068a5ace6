"""The API that others build on: exactly the promised calls, live parameters, gradients, any names."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest
import torch
from small_nets import conv, fully, inputs, layer

import port
from port.onnx.session import run_onnx, session
from prototxt_gen.base.errors import CaffeError, NetError

# float32 sums of a few hundred terms, relative
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture
def load(tmp_path):
    def make(text: str, *args, **options):
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return port.load_net(path, *args, **options)

    return make


NET = (
    inputs(data=(2, 3, 5, 7))
    + conv("conv1", "data", "conv1", 4, 3)
    + layer("relu1", "ReLU", "conv1", "conv1")
    + layer("pool", "Pooling", "conv1", "pool", "pooling_param { pool: AVE global_pooling: true }")
    + fully("fc", "pool", "scores", 6)
    + layer("prob", "Softmax", "scores", "prob")
    + layer("also", "Sigmoid", "scores", "also")
)


def image(batch: int = 2) -> np.ndarray:
    return np.random.default_rng(batch).standard_normal((batch, 3, 5, 7)).astype(np.float32)


# -- signatures ---------------------------------------------------------------------------------------------------
def parameters(function) -> dict:
    return {name: (p.kind.name, p.default) for name, p in inspect.signature(function).parameters.items()}


def test_the_calls_are_as_promised():
    empty = inspect.Parameter.empty
    load = parameters(port.load_net)
    assert list(load)[:2] == ["prototxt", "caffemodel"]
    assert load["prototxt"] == ("POSITIONAL_OR_KEYWORD", empty)
    assert load["caffemodel"] == ("POSITIONAL_OR_KEYWORD", None)
    promised = {"phase": "TEST", "stages": (), "level": 0, "dialect": None}
    assert {name: load[name] for name in promised} == {
        name: ("KEYWORD_ONLY", default) for name, default in promised.items()
    }
    export = parameters(port.export_onnx)
    assert list(export)[:2] == ["net", "path"] and export["blobs"] == ("KEYWORD_ONLY", "outputs")
    assert export["opset"][0] == "KEYWORD_ONLY"
    for function, names in (
        (port.run_blobs, ["net", "inputs"]),
        (port.params, ["net"]),
        (port.save_caffemodel, ["net", "path"]),
    ):
        assert [n for n, (_, default) in parameters(function).items() if default is empty] == names


def test_the_package_offers_what_it_names():
    assert set(port.__all__) <= set(dir(port))
    for name in ("load_net", "run_blobs", "params", "export_onnx", "save_caffemodel"):
        assert callable(getattr(port, name)) and name in port.__all__
    with pytest.raises(AttributeError, match="module 'port' has no attribute 'lod_net'"):
        port.lod_net  # noqa: B018


# -- the net ------------------------------------------------------------------------------------------------------
def test_a_net_is_a_graph_module_whose_parts_bear_caffes_names(load):
    net = load(NET)
    assert isinstance(net, torch.fx.GraphModule)
    layers = ["conv1", "relu1", "pool", "fc", "prob", "also"]
    assert [name for name, _ in net.named_children()] == layers
    assert [n.target for n in net.graph.nodes if n.op == "call_module"] == layers
    assert {n.meta["blob"] for n in net.graph.nodes if "blob" in n.meta} == set(port.run_blobs(net, {"data": image()}))
    assert not net.training and load(NET, phase="TRAIN").training
    assert net.caffe.dialect == "bvlc" and net.caffe.reason


def test_the_outputs_are_those_nobody_reads_sorted_by_name(load):
    outputs = load(NET)(data=torch.tensor(image()))
    assert list(outputs) == ["also", "prob"]
    assert all(isinstance(y, torch.Tensor) and y.shape == (2, 6) and y.requires_grad for y in outputs.values())


def test_blobs_are_all_there_under_caffes_names(load):
    net = load(NET)
    blobs = port.run_blobs(net, {"data": image()})
    assert list(blobs) == ["data", "conv1", "pool", "scores", "prob", "also"]
    assert {name: array.shape for name, array in blobs.items()} == {
        "data": (2, 3, 5, 7),
        "conv1": (2, 4, 3, 5),
        "pool": (2, 4, 1, 1),
        "scores": (2, 6),
        "prob": (2, 6),
        "also": (2, 6),
    }
    assert all(type(array) is np.ndarray and array.dtype == np.float32 for array in blobs.values())
    assert (blobs["data"] == image()).all() and blobs["conv1"].min() == 0  # of the chain the last version
    outputs = net(data=torch.tensor(image()))
    assert all((outputs[name].detach().numpy() == blobs[name]).all() for name in outputs)


@pytest.mark.parametrize("kind", [lambda x: x, np.float64, torch.tensor, lambda x: x.tolist()])
def test_inputs_may_be_arrays_tensors_or_lists(load, kind):
    net = load(NET)
    assert (
        port.run_blobs(net, {"data": kind(image())})["prob"] == port.run_blobs(net, {"data": image()})["prob"]
    ).all()


def test_arrays_of_any_layout_are_taken(load):
    """An image turned to BGR has negative strides, a broadcast one zero strides, a mapped one is read-only."""
    net, x = load(NET), image()
    expected = port.run_blobs(net, {"data": x[:, ::-1].copy()})["prob"]
    assert (port.run_blobs(net, {"data": x[:, ::-1]})["prob"] == expected).all()
    assert (port.run_blobs(net, {"data": np.asfortranarray(x[:, ::-1])})["prob"] == expected).all()
    wide = np.broadcast_to(np.float32(2), (2, 3, 5, 7))
    assert not wide.flags.writeable and port.run_blobs(net, {"data": wide})["data"].sum() == 420


def test_running_blobs_leaves_the_input_and_the_gradients_alone(load):
    net, x = load(NET), image()
    blobs = port.run_blobs(net, {"data": x})
    blobs["conv1"] += 1
    assert (x == image()).all()
    assert all(p.grad is None for held in port.params(net).values() for p in held)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_any_batch_size(load, batch):
    net, x = load(NET), image(batch)
    blobs = port.run_blobs(net, {"data": x})
    assert blobs["prob"].shape == (batch, 6) == tuple(net(data=torch.tensor(x))["prob"].shape)
    single = np.concatenate([port.run_blobs(net, {"data": x[i : i + 1]})["prob"] for i in range(batch)])
    np.testing.assert_allclose(blobs["prob"], single, rtol=1e-5)


def test_any_image_size_where_the_layers_allow_it(load):
    net = load(NET)
    x = np.random.default_rng(0).standard_normal((2, 3, 11, 6)).astype(np.float32)
    assert port.run_blobs(net, {"data": x})["conv1"].shape == (2, 4, 9, 4)
    with pytest.raises(NetError, match="kernel does not fit") as caught:
        net(data=torch.zeros(2, 3, 2, 2))
    assert caught.value.problems[0].layer == "conv1" and "(bottoms: 2x3x2x2)" in str(caught.value)
    with pytest.raises(NetError, match="its weight is 4x3x3x3, these bottoms need 4x1x3x3"):
        net(data=torch.zeros(2, 1, 5, 7))
    net(data=torch.tensor(image()))  # and back


def test_wrong_inputs_are_named(load):
    net = load(
        inputs(data=(2, 3, 5, 7), mask=(2, 4)) + layer("r", "ReLU", "data", "r") + layer("s", "ReLU", "mask", "s")
    )
    wrong = {"dta": image(), "mask": np.ones((2, 4, 1))}
    with pytest.raises(NetError) as caught:
        port.run_blobs(net, wrong)
    found = [str(problem) for problem in caught.value.problems]
    assert len(found) == 3
    assert "the net has no input 'dta'. Did you mean 'data'?" in found[0]
    assert "the input 'data' is missing; expected 2x3x5x7" in found[1]
    assert "the input 'mask' has shape 2x4x1; expected 2 axes, as in 2x4" in found[2]
    with pytest.raises(NetError, match="no input 'dta'") as caught:
        net(dta=torch.zeros(2, 3, 5, 7), mask=torch.zeros(2, 4))
    assert len(caught.value.problems) == 2


# -- parameters ---------------------------------------------------------------------------------------------------
def test_params_are_live_in_caffes_order_and_shapes(load):
    net = load(NET)
    held = port.params(net)
    assert {name: [tuple(blob.shape) for blob in blobs] for name, blobs in held.items()} == {
        "conv1": [(4, 3, 3, 3), (4,)],
        "fc": [(6, 4), (6,)],
    }
    assert list(held) == ["conv1", "fc"]
    before = port.run_blobs(net, {"data": image()})["scores"]
    with torch.no_grad():
        held["fc"][1].add_(5)
    np.testing.assert_allclose(port.run_blobs(net, {"data": image()})["scores"], before + 5, rtol=1e-5)
    assert port.params(net)["fc"][1] is held["fc"][1] and net.get_parameter("fc.bias") is held["fc"][1]
    assert {id(p) for p in net.parameters()} == {id(blob) for blobs in held.values() for blob in blobs}


def test_params_of_normalisation_layers(load):
    text = inputs(data=(2, 3, 5, 7))
    held = port.params(
        load(
            text
            + layer("n", "BatchNorm", "data", "n")
            + layer("s", "Scale", "n", "s", "scale_param { bias_term: true }")
        )
    )
    assert [tuple(blob.shape) for blob in held["n"]] == [(3,), (3,), (1,)]
    assert [blob.tolist() for blob in held["n"]] == [[0, 0, 0], [0, 0, 0], [0]]
    assert [blob.tolist() for blob in held["s"]] == [[1, 1, 1], [0, 0, 0]]
    held = port.params(load(text + layer("n", "BN", "data", "n", "bn_param { slope_filler { value: 2 } }")))
    assert [blob.tolist() for blob in held["n"]] == [[[2, 2, 2]], [[0, 0, 0]], [[0, 0, 0]], [[0, 0, 0]]]
    assert [blob.requires_grad for blob in held["n"]] == [True, True, False, False]
    held = port.params(load(text + layer("n", "BN", "data", "n", "bn_param { frozen: true }")))
    assert held["n"][3].tolist() == [[1, 1, 1]]


def test_backward_fills_the_gradients(load):
    """Against the chain rule written out."""
    text = inputs(x=(4, 3), t=(4, 2)) + fully("f", "x", "y", 2) + layer("l", "EuclideanLoss", "y t", "loss")
    net = load(text)
    random = np.random.default_rng(0)
    x, t = (random.standard_normal(shape).astype(np.float32) for shape in ((4, 3), (4, 2)))
    given = torch.tensor(x, requires_grad=True)
    net(x=given, t=torch.tensor(t))["loss"].backward()
    w, b = port.params(net)["f"]
    above = (x @ w.detach().numpy().T + b.detach().numpy() - t) / 4  # Caffe's sign and scale: d loss / d y
    np.testing.assert_allclose(w.grad, above.T @ x, **TOLERANCE)
    np.testing.assert_allclose(b.grad, above.sum(0), **TOLERANCE)
    np.testing.assert_allclose(given.grad, above @ w.detach().numpy(), **TOLERANCE)
    net(x=torch.tensor(x), t=torch.tensor(t))["loss"].backward()
    np.testing.assert_allclose(w.grad, 2 * above.T @ x, **TOLERANCE)  # gradients add up


def test_a_learning_rate_of_0_means_no_gradient(load):
    text = inputs(data=(2, 3)) + fully("f", "data", "y", 2, "param { lr_mult: 0 } param { lr_mult: 2 }")
    net = load(text)
    net(data=torch.ones(2, 3))["y"].sum().backward()
    w, b = port.params(net)["f"]
    assert not w.requires_grad and w.grad is None and b.grad is not None


def test_the_seed_decides_the_fillers_and_touches_no_other_generator(load):
    torch.manual_seed(3)
    np.random.seed(3)
    state, other = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    first, again, third = load(NET, seed=1), load(NET, seed=1), load(NET, seed=2)
    assert torch.equal(torch.random.get_rng_state(), state) and (np.random.get_state()[1] == other).all()
    w = [port.params(net)["conv1"][0] for net in (first, again, third)]
    assert torch.equal(w[0], w[1]) and not torch.equal(w[0], w[2])


# -- training phase ------------------------------------------------------------------------------------------------
def batches(*values):
    """One channel, one value per item (semantics 8)."""
    return [torch.tensor(v, dtype=torch.float32).reshape(-1, 1, 1, 1) for v in values]


GOLDEN = ([1, 2, 3, 4], [2, 2, 4, 8])


def test_the_forks_bn_averages_the_biased_variance(load):
    net = load(inputs(data=(4, 1, 1, 1)) + layer("n", "BN", "data", "y"), phase="TRAIN")
    for x in batches(*GOLDEN):
        net(data=x)
    _, _, mean, variance = port.params(net)["n"]
    assert mean.item() == pytest.approx(0.625, rel=1e-6) and variance.item() == pytest.approx(0.7125, rel=1e-6)


def test_batch_norm_adds_up_mean_unbiased_variance_and_weight(load):
    net = load(inputs(data=(4, 1, 1, 1)) + layer("n", "BatchNorm", "data", "y"), phase="TRAIN")
    for x in batches(*GOLDEN):
        y = net(data=x)["y"]
    assert [blob.item() for blob in port.params(net)["n"]] == pytest.approx([6.4975, 9.665, 1.999], rel=1e-6)
    # the batch itself is normalised with the biased variance
    expected = (np.array(GOLDEN[1]) - 4) / np.sqrt(6 + 1e-5)
    np.testing.assert_allclose(y.flatten().detach(), expected, rtol=1e-6)


def test_batch_norm_in_test_phase_divides_the_sums(load, tmp_path):
    text = inputs(data=(4, 1, 1, 1)) + layer("n", "BatchNorm", "data", "y")
    net = load(text, phase="TRAIN")
    for x in batches(*GOLDEN):
        net(data=x)
    port.save_caffemodel(net, tmp_path / "w.caffemodel")
    test = load(text, tmp_path / "w.caffemodel")
    (x,) = batches(GOLDEN[0])
    before = [blob.clone() for blob in port.params(test)["n"]]
    expected = (np.array(GOLDEN[0]) - 3.250375) / np.sqrt(4.834917 + 1e-5)
    np.testing.assert_allclose(test(data=x)["y"].flatten(), expected, rtol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, port.params(test)["n"], strict=True))


def test_batch_norm_without_any_statistics_divides_by_the_root_of_eps(load):
    net = load(inputs(data=(4, 1, 1, 1)) + layer("n", "BatchNorm", "data", "y", "batch_norm_param { eps: 0.25 }"))
    (x,) = batches(GOLDEN[0])
    assert net(data=x)["y"].flatten().tolist() == [2, 4, 6, 8]


@pytest.mark.parametrize(
    ("phase", "fields", "moves"),
    [
        ("TRAIN", "", True),
        ("TEST", "", False),
        ("TRAIN", "batch_norm_param { use_global_stats: true }", False),
        ("TEST", "batch_norm_param { use_global_stats: false }", True),
        ("TRAIN", "phase: TEST", False),
        ("TEST", "phase: TRAIN", True),
    ],
)
def test_when_batch_norm_moves_its_statistics(load, phase, fields, moves):
    net = load(inputs(data=(4, 1, 1, 1)) + layer("n", "BatchNorm", "data", "y", fields), phase=phase)
    net(data=batches(GOLDEN[0])[0])
    assert (port.params(net)["n"][2].item() == 1) == moves


@pytest.mark.parametrize(
    ("phase", "frozen", "moves"), [("TRAIN", "", True), ("TRAIN", "frozen: true", False), ("TEST", "", False)]
)
def test_when_the_forks_bn_moves_its_statistics(load, phase, frozen, moves):
    net = load(inputs(data=(4, 1, 1, 1)) + layer("n", "BN", "data", "y", f"bn_param {{ {frozen} }}"), phase=phase)
    net(data=batches(GOLDEN[0])[0])
    assert (port.params(net)["n"][2].item() != 0) == moves


def test_running_blobs_is_one_forward_pass(load):
    net = load(inputs(data=(4, 1, 1, 1)) + layer("n", "BatchNorm", "data", "y"), phase="TRAIN")
    port.run_blobs(net, {"data": batches(GOLDEN[0])[0]})
    assert port.params(net)["n"][2].item() == 1


def test_the_mode_of_torch_does_not_change_the_phase(load):
    """A net's phase is Caffe's; eval() and train() are torch's habit and leave it alone."""
    text = inputs(data=(4, 1, 1, 1)) + layer("n", "BatchNorm", "data", "y")
    net = load(text, phase="TRAIN").eval()
    net(data=batches(GOLDEN[0])[0])
    assert port.params(net)["n"][2].item() == 1
    test = load(text).train()
    test(data=batches(GOLDEN[0])[0])
    assert port.params(test)["n"][2].item() == 0


def test_dropout_drops_in_training_only(load):
    text = inputs(data=(50, 60)) + layer("d", "Dropout", "data", "y", "dropout_param { dropout_ratio: 0.3 }")
    x = np.random.default_rng(0).uniform(1, 2, (50, 60)).astype(np.float32)
    assert (port.run_blobs(load(text), {"data": x})["y"] == x).all()
    torch.manual_seed(0)
    y = port.run_blobs(load(text, phase="TRAIN"), {"data": x})["y"]
    dropped = (y == 0).mean()
    assert abs(dropped - 0.3) < 0.035  # four deviations of 3000 draws
    np.testing.assert_allclose(y[y != 0], x[y != 0] / 0.7, rtol=1e-6)


# -- copies and files ------------------------------------------------------------------------------------------------
def test_a_copy_is_a_net_of_its_own(load):
    net = load(NET)
    other = copy.deepcopy(net)
    with torch.no_grad():
        port.params(other)["fc"][0].mul_(3)
    a, b = (port.run_blobs(n, {"data": image()})["scores"] for n in (net, other))
    assert not np.allclose(a, b)
    other.load_state_dict(net.state_dict())
    assert (port.run_blobs(other, {"data": image()})["scores"] == a).all()
    assert other.caffe.dialect == "bvlc" and list(other(data=torch.tensor(image()))) == ["also", "prob"]


def test_saved_weights_are_loaded_again(load, tmp_path):
    for text in (NET, NET.replace("ReLU", "BN")):
        net = load(text, seed=1)
        port.save_caffemodel(net, tmp_path / "w.caffemodel")
        again = load(text, tmp_path / "w.caffemodel", seed=2)
        assert again.report.missing == again.report.unused == []
        for mine, theirs in zip(port.params(net).values(), port.params(again).values(), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


# -- names -------------------------------------------------------------------------------------------------------------
NAMES = [
    "conv1",
    "conv1.x",
    "conv1.x.y",
    "caffe.BN_1",
    "res2a/branch2a",
    "two words",
    "forward",
    "train",
    "eval",
]
NAMES += [
    "class",
    "None",
    "lambda",
    "self",
    "input_names",
    "caffe",
    "graph",
    "code",
    "parameters",
    "weight",
    "report",
]
NAMES += [
    "_modules",
    "training",
    "1x1",
    "0",
    "x.",
    "..",
    ".",
    "_",
    "print",
    "torch",
    "args",
    "é",
    "ünïcode.ß",
    "a:0",
]
NAMES += [
    "conv1.forward",
    "block.weight",
    "block.weight.grad",
    "{x}",
    "%s",
    "it's",
    'say \\"hi\\"',
    "back\\\\slash",
    "tab\\t",
]


def as_caffe_reads(name: str) -> str:
    return name.replace('\\"', '"').replace("\\\\", "\\").replace("\\t", "\t")


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
@pytest.mark.parametrize("entry", ["data", "class", "self", "forward", "in put/0.x"])
def test_any_name_works_everywhere(load, tmp_path, dialect, entry):
    text, blob = f'input: "{entry}"\ninput_shape {{ dim: 2 dim: 3 dim: 5 dim: 7 }}\n', entry
    names = [name for name in NAMES if name != entry]
    for name in names:
        fields = 'convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "xavier" } }'
        text += f'layer {{ name: "{name}" type: "Convolution" bottom: "{blob}" top: "{name}" {fields} }}\n'
        blob = name
    names = [as_caffe_reads(name) for name in names]
    net = load(text, dialect=dialect)
    outputs = net(**{entry: torch.tensor(image())})
    assert list(outputs) == [names[-1]]
    blobs = port.run_blobs(net, {entry: image()})
    assert list(blobs) == [entry, *names] and list(port.params(net)) == names
    assert (outputs[names[-1]].detach().numpy() == blobs[names[-1]]).all() and blobs[names[-1]].std() > 0
    port.export_onnx(net, tmp_path / "net.onnx", blobs="all")
    found = run_onnx(session(tmp_path / "net.onnx"), {entry: image()})
    assert list(found) == names
    for name in names:
        np.testing.assert_allclose(found[name], blobs[name], rtol=0, atol=5e-6 * np.abs(blobs[name]).max())
    port.save_caffemodel(net, tmp_path / "w.caffemodel")
    again = load(text, tmp_path / "w.caffemodel", dialect=dialect, seed=9)
    assert (port.run_blobs(again, {entry: image()})[names[-1]] == blobs[names[-1]]).all()


def test_a_name_is_never_run_as_code(load, tmp_path):
    """torch.fx writes submodule names into Python source."""
    marker = tmp_path / "ran"
    name = f"x') or open('{marker}', 'w') or getattr(self, 'x"
    for quote in ("'", '\\"'):
        net = load(inputs(data=(2, 3, 5, 7)) + conv(name.replace("'", quote), "data", "y", 3))
        net(data=torch.tensor(image()))
        assert not marker.exists() and list(port.params(net)) == [as_caffe_reads(name.replace("'", quote))]


def test_layers_without_parameters_may_share_a_name(load):
    net = load(inputs(data=(2, 3)) + layer("r", "ReLU", "data", "a") + layer("r", "Sigmoid", "a", "b"))
    blobs = port.run_blobs(net, {"data": np.array([[-1, 0, 2], [3, -4, 5]], np.float32)})
    assert blobs["a"].tolist() == [[0, 0, 2], [3, 0, 5]] and blobs["b"].min() == 0.5


def test_errors_are_of_one_family(load):
    with pytest.raises(CaffeError):
        load("layer {")
