"""Caffe's shared memory: the mathematics by default, with a warning; what Caffe computed behind the switch."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from small_nets import inputs, layer

import port
from port.__main__ import main
from port.graph.build import load_graph
from port.graph.notes import SharedMemoryWarning, sharing_notes
from port.graph.reference import run_reference
from port.layers import Context, Layer
from port.layers.base import REGISTRY
from port.layers.memory import Held
from port.net import params, run_values
from port.onnx.export import build_onnx
from port.onnx.session import run_onnx, session
from prototxt_gen import net_text, networks
from prototxt_gen.base.command import run
from prototxt_gen.base.errors import NetError, UsageError
from verify.parity.golden import find_cases, load_case, read_recording, run_case

FOLDER = Path(__file__).parents[2] / "golden" / "memory"
CASES = find_cases([FOLDER])
PLAIN = ("propagate_down_false_fb1", "scale_zero_axes_gaussian", "state_level_in_file")  # no defects: plain rules
SHARED = [case for case in CASES if case.stem not in PLAIN]
LOST = "No gradient came through layer '{}', since layer 'f' behind pointed it to other memory."
READ = "What layer 'q' read was overwritten by layer 'r'."
NOTES = {
    "concat_one_flatten": LOST.format("r"),
    "reshape_flatten": LOST.format("r"),
    "lstm_flatten": LOST.format("l"),
    "conv_relu_bn_inplace": "The gradient of layer 'r' was taken from values overwritten in place by layers 'b', 's'.",
    "conv_relu_scale_inplace": "The gradient of layer 'r' was taken from values overwritten in place by layer 's'.",
    "eltwise_prod_relu_ip": "The gradient of layer 'e' was taken from values overwritten in place by layer 'r'.",
    "loss_plus_loss": "The loss weight 1 of layers 'loss', 'loss2', not written in the file, gave no gradient",
    "loss_consumed_implicit": "The loss weight 1 of layer 'loss', not written in the file, gave no gradient",
    "loss_silenced_implicit": "The loss weight 1 of layer 'loss', not written in the file, gave no gradient",
    "zero_weight_hingeloss_fb0": "The scratch values of layer 'watch' were added to the gradient of what it reads.",
}
for kind in ("flatten", "reshape", "slice_one", "split"):
    NOTES[f"{kind}_then_ip"] = READ
for kind in ("elu", "exp", "lrn", "mvn", "sigmoid", "softmax", "tanh"):
    NOTES[f"ip_scale_after_{kind}"] = (
        "The gradient of layer 'a' was taken from values overwritten in place by layer 's'."
    )
for kind in ("bnll", "clip", "power"):
    NOTES[f"self_ip_{kind}"] = "The gradient of layer 'a' was taken from values overwritten in place by layer 'a'."


@pytest.fixture
def write(tmp_path):
    """Text -> path of a net file."""

    def path(text: str) -> Path:
        file = tmp_path / "net.prototxt"
        file.write_text(text)
        return file

    return path


def recorded(name: str):
    return read_recording(next(case for case in CASES if case.stem == name))


def total(graph, values, recording, zero):
    """What backward starts from, of arrays or tensors."""
    for node in graph.nodes:
        for value in node.tops:
            zero = zero + value.loss_weight * values[value.name].sum()
    seeds = recording.part("topdiff")
    for value in graph.outputs:
        if value.blob in seeds:
            seed = seeds[value.blob]
            zero = zero + (values[value.name] * (torch.tensor(seed) if torch.is_tensor(zero) else seed)).sum()
    return zero


# -- recordings -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", CASES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_what_caffe_computed_behind_the_switch(case):
    result = run_case(case, faithful_bugs=True)
    assert result, result.error or [c for group in result.comparisons.values() for c in group if not c]
    assert bool(run_case(case)) == (case.stem in PLAIN)


def test_there_are_recorded_cases():
    assert len(CASES) == 28 and {case.stem for case in SHARED} == set(NOTES)


@pytest.mark.parametrize("case", SHARED, ids=lambda p: p.stem)
def test_the_mathematics_by_default(case):
    """The gradient along a random direction is the slope of the float64 reference."""
    recording = read_recording(case)
    graph, net = load_case(recording)
    arrays = recording.part("in")
    blobs = {name: [b.detach().numpy().copy() for b in held] for name, held in params(net).items()}
    given = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    found = total(graph, run_values(net, given), recording, torch.zeros(()))
    found.backward()
    random = np.random.default_rng(0)
    fixed = {"y", "c"} if "loss_plus" not in case.stem else set()  # labels and markers
    moved = {n: random.standard_normal(a.shape) * (n not in fixed) for n, a in arrays.items()}

    def loss(step: float) -> float:
        values = run_reference(graph, blobs, {n: a + step * moved[n] for n, a in arrays.items()})
        return total(graph, values, recording, 0.0)

    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    grads = {n: t.grad.numpy() for n, t in given.items() if t.grad is not None}
    assert sum((grads[n] * moved[n]).sum() for n in grads) == pytest.approx(slope, rel=1e-3, abs=1e-4)


# -- the warning ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", CASES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_one_warning_that_names_the_layers(case):
    recording = read_recording(case)
    options = {"phase": recording.phase, "dialect": recording.dialect}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        port.load_net(case, **options)
        heard = [str(each.message) for each in caught if each.category is SharedMemoryWarning]
        port.load_net(case, faithful_bugs=True, **options)
    assert len(caught) == len(heard) == (case.stem in NOTES)
    if heard:
        assert heard[0].startswith(str(case)) and "\n" not in heard[0] and "faithful_bugs=True" in heard[0]
        assert NOTES[case.stem] in heard[0]


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
@pytest.mark.parametrize("network", networks())
def test_no_net_of_the_paper_shares_memory_to_an_effect(network, dialect, write):
    path = write(net_text(network, classes=20, dialect=dialect))
    for phase in ("TRAIN", "TEST"):
        assert sharing_notes(load_graph(path, phase=phase, dialect=dialect)) == []


HARMLESS = {
    "ReLU": "relu_param { negative_slope: 0.1 } ",
    "Dropout": "",
    "TanH": "",
    "Sigmoid": "",
    "ELU": "",
    "Swish": "",
    "PReLU": "",
    "Exp": "",
}


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("kind", HARMLESS)
def test_layers_that_may_work_in_place(kind, phase, write):
    ip = 'inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 1 } }'
    text = inputs(x=(4, 5)) + "force_backward: true\n" + layer("fc", "InnerProduct", "x", "h", ip)
    text += layer("act", kind, "h", "h", HARMLESS[kind])
    text += layer("end", "InnerProduct", "h", "y", ip)
    assert sharing_notes(load_graph(write(text), phase=phase)) == []


def test_relu_and_dropout_in_place(write):
    text = inputs(x=(4, 5)) + "force_backward: true\n" + layer("p", "Power", "x", "h", "")
    text += layer("r", "ReLU", "h", "h", "") + layer("d", "Dropout", "h", "h", "")
    assert sharing_notes(load_graph(write(text), phase="TRAIN")) == []


def test_many_layers_are_counted(write):
    text = inputs(x=(4, 5)) + "force_backward: true\n"
    for i in range(7):
        text += layer(f"p{i}", "Power", f"h{i - 1}" if i else "x", f"h{i}", "")
        text += layer(f"b{i}", "BNLL", f"h{i}", f"h{i}", "")
    (note,) = sharing_notes(load_graph(write(text)))
    assert "layers 'b0', 'b1', 'b2', 'b3', 'b4' and 2 more was" in note


def test_gradients_that_nobody_wants_are_no_matter(write):
    text = inputs(x=(4, 5)) + layer("p", "Power", "x", "h", "") + layer("b", "BNLL", "h", "h", "")
    assert sharing_notes(load_graph(write(text))) == []


def test_commands_print_a_note(write, tmp_path, capsys):
    case = FOLDER / "bvlc" / "flatten_then_ip.prototxt"
    arguments = ["export", "--prototxt", str(case), "--caffemodel", str(case.with_suffix(".caffemodel"))]
    assert run(main, [*arguments, "--output", str(tmp_path / "net.onnx")]) == 0
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 1 and notes[0].startswith(f"note: {case}: Caffe lets layers share memory")


# -- how the faithful net runs --------------------------------------------------------------------------------
def test_passes_do_not_get_in_each_others_way():
    recording = recorded("conv_relu_bn_inplace")
    _, net = load_case(recording, faithful_bugs=True)
    other = copy.deepcopy(net)
    seed, x = torch.tensor(recording.part("topdiff")["c"]), torch.tensor(recording.part("in")["data"])

    def grads(net, tops):
        found = torch.autograd.grad((tops * seed).sum(), net.layer("c").blobs)
        return [g.numpy() for g in found]

    first = net(data=x)["c"]
    net(data=x + 1)  # another pass before the first one goes back
    with torch.no_grad():
        net(data=x + 2)
    expected = list(recording.blobs("pgrad")["c"].values())
    for found in (grads(net, first), grads(other, other(data=x)["c"])):
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_statistics_move_once():
    recording = recorded("conv_relu_bn_inplace")
    _, net = load_case(recording, faithful_bugs=True)
    (net(data=torch.tensor(recording.part("in")["data"]))["c"]).sum().backward()
    for ours, theirs in zip(net.layer("b").blobs, recording.blobs("after")["b"].values(), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::port.graph.notes.SharedMemoryWarning")
@pytest.mark.parametrize("faithful", [False, True])
def test_training(faithful, tmp_path):
    """One step of plain descent is the recorded gradient, behind the switch."""
    recording = recorded("zero_weight_hingeloss_fb0")
    path = tmp_path / "solver.prototxt"
    path.write_text(f'net: "{recording.prototxt}"\nbase_lr: 1\nlr_policy: "fixed"\nmomentum: 0\nweight_decay: 0\n')
    solver = port.load_solver(path, dialect="bvlc", faithful_bugs=faithful)
    port.load_weights(solver.net, recording.prototxt.with_suffix(".caffemodel"))
    before = [blob.detach().clone() for blob in solver.net.layer("p").blobs]
    solver.step(recording.part("in"))
    moved = [(b - blob.detach()).numpy() for b, blob in zip(before, solver.net.layer("p").blobs, strict=True)]
    recorded_ones = recording.blobs("pgrad")["p"].values()
    close = [np.allclose(a, b, atol=1e-5) for a, b in zip(moved, recorded_ones, strict=True)]
    assert close == [faithful, faithful]


def test_a_solver_cannot_make_a_net_faithful(tmp_path):
    recording = recorded("zero_weight_hingeloss_fb0")
    path = tmp_path / "solver.prototxt"
    path.write_text(f'net: "{recording.prototxt}"\nbase_lr: 1\nlr_policy: "fixed"\n')
    with pytest.warns(SharedMemoryWarning):
        net = port.load_net(recording.prototxt, dialect="bvlc")
    with pytest.raises(UsageError, match="load_net"):
        port.load_solver(path, net, faithful_bugs=True)


def test_a_chain_of_changes(write):
    """Two layers in place on two names of one memory, and readers between and behind them."""
    text = inputs(x=(2, 3)) + layer("p", "Power", "x", "p", "power_param { scale: 2 }")
    text += 'layer { name: "s" type: "Split" bottom: "p" top: "a" top: "b" top: "c" }\n'
    text += layer("r", "ReLU", "a", "a", "") + layer("early", "Power", "c", "early", "")
    text += layer("t", "TanH", "b", "b", "") + layer("late", "Power", "a", "late", "")
    net = port.load_net(write(text), dialect="bvlc", faithful_bugs=True)
    x = np.array([[-1, 0.5, 1], [2, -3, 0.25]], np.float32)
    up = np.maximum(2 * x, 0)
    wanted = {"p": np.tanh(up), "a": np.tanh(up), "b": np.tanh(up), "c": np.tanh(up), "early": up, "late": np.tanh(up)}
    reference = run_reference(net.caffe, {}, {"x": x})
    exported = run_onnx(session(build_onnx(net, blobs="all")), {"x": x})
    ours = port.run_blobs(net, {"x": x})
    for blob, array in wanted.items():
        for found in (reference, exported, ours):
            np.testing.assert_allclose(found[blob], array, rtol=1e-6)
    assert set(net(x=torch.tensor(x))) == {"b", "early", "late"}


def test_an_exposed_state_lets_no_gradient_through(write):
    text = inputs(x=(3, 2, 4), c=(3, 2), h0=(1, 2, 3))
    text += 'layer { name: "l" type: "RNN" bottom: "x" bottom: "c" bottom: "h0" top: "o" top: "h1"\n'
    text += 'recurrent_param { num_output: 3 expose_hidden: true weight_filler { type: "gaussian" std: 1 } } }'
    for faithful in (False, True):
        net = port.load_net(write(text), dialect="bvlc", faithful_bugs=faithful)
        x, h0 = torch.randn(3, 2, 4, requires_grad=True), torch.randn(1, 2, 3, requires_grad=True)
        tops = net(x=x, c=torch.ones(3, 2), h0=h0)
        assert tops["h1"].requires_grad == (not faithful)
        tops["o"].sum().backward()
        assert x.grad.abs().sum() > 0 and (h0.grad is None) == faithful


# -- the rules of layers --------------------------------------------------------------------------------------
RULED = {
    **{kind: {} for kind in ("Sigmoid", "TanH", "Exp", "ELU", "Swish", "Softmax", "LRN", "MVN", "Normalize", "BNLL")},
    "Log": {"shift": 5.0, "base": 2.0},
    "Power": {"power": 3.0, "shift": 4.0, "scale": 0.5},
    "Eltwise": {"operation": "PROD", "stable_prod_grad": False},
}


@pytest.mark.parametrize("kind", [*RULED, "LRN within"])
def test_unspoiled_memory_gives_the_plain_gradient(kind):
    fields = {"norm_region": "WITHIN_CHANNEL"} if kind == "LRN within" else RULED[kind]
    count = 2 if kind == "Eltwise" else 1
    rule: Layer = REGISTRY[kind.partition(" ")[0]](at=Context(bottoms=count), **fields)
    bottoms = [torch.randn(2, 6, 4, 5, dtype=torch.float64, requires_grad=True) for _ in range(count)]
    tops = rule.forward(None, *bottoms)
    seeds = tuple(torch.randn_like(top) for top in tops)
    expected = torch.autograd.grad(tops, bottoms, seeds)
    flat, made = tuple(b.detach() for b in bottoms), tuple(t.detach() for t in tops)
    found = rule.spoiled_gradient(seeds, Held(flat, made, flat, made))
    assert (found is None) == (kind == "BNLL")
    for ours, theirs in zip(found or expected, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_a_power_in_place_squares_its_slope(write):
    """Power and Log write their slope where the gradient stands, and then multiply the two."""
    for kind, fields, slope in (("Power", "power_param { scale: 3 }", 3.0), ("Log", "log_param { shift: 9 }", None)):
        text = inputs(x=(2, 3)) + layer("p", "Power", "x", "p", "") + layer("a", kind, "p", "p", fields)
        net = port.load_net(write(text), dialect="bvlc", faithful_bugs=True)
        x = torch.rand(2, 3, requires_grad=True)
        y = net(x=x)["p"]
        (7 * y).sum().backward()
        torch.testing.assert_close(x.grad, torch.full((2, 3), slope**2) if slope else (1 / (y + 9)) ** 2)


# -- plain rules ----------------------------------------------------------------------------------------------
def test_a_weighted_blob_is_not_overwritten():
    with pytest.raises(NetError, match="'p' is overwritten in place, and layer 'p' gives it a loss_weight"):
        load_graph(FOLDER / "bvlc" / "loss_weight_then_ip.prototxt")


@pytest.mark.parametrize("dialect, level, kept", [("bvlc", 0, False), ("srn", 0, True), ("bvlc", 1, True)])
def test_the_level_of_the_file(dialect, level, kept):
    graph = load_graph(FOLDER / "bvlc" / "state_level_in_file.prototxt", dialect=dialect, level=level)
    assert ("p" in {node.name for node in graph.nodes}) == kept
