"""What one forward pass does not show: random layers, state from pass to pass, losses of any layer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from properties.nets import LAYER, Bottom, Case, Word, by_blob, graph_of, net_of, onnx_session, torch_answer
from properties.rules import judge

from port.graph.build import build_graph
from port.graph.state import NetState
from port.module import build_module
from port.net import run_blobs
from port.solver.passes import Passes
from prototxt_gen.base.errors import ExportError, NetError
from prototxt_gen.schema.text import parse_prototxt
from verify.parity.compare import compare

both_dialects = pytest.mark.parametrize("dialect", ["bvlc", "srn"])

FLOAT32 = 5e-6


def random_net(case: Case):
    torch.manual_seed(3)
    return net_of(graph_of(case), [])


def within(share: float, expected: float, draws: int) -> bool:
    """Whether a share of so many draws is its expectation, within five standard deviations."""
    return abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / draws)


# -- Dropout ----------------------------------------------------------------------------------------------------------
@both_dialects
@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.8])
def test_dropout_zeroes_a_share_and_scales_up_the_rest(dialect, ratio):
    case = Case("Dropout", dialect, (Bottom((40, 50)),), {"dropout_param": {"dropout_ratio": ratio}}, phase="TRAIN")
    x = torch.rand(40, 50) + 1
    x.requires_grad_()
    net = random_net(case)
    y = net(bottom0=x)["top0"]
    kept = y != 0
    assert within(float(kept.float().mean()), 1 - ratio, x.numel())
    assert torch.allclose(y[kept], (x / (1 - ratio))[kept])
    y.sum().backward()
    assert torch.allclose(x.grad, kept / (1 - ratio)), "the gradient goes through the same mask"
    assert not torch.equal(net(bottom0=x)["top0"] != 0, kept), "every pass draws anew"


@both_dialects
def test_dropout_in_training_has_no_onnx_form(dialect):
    case = Case("Dropout", dialect, (Bottom((2, 3)),), phase="TRAIN")
    with pytest.raises(ExportError, match="TEST phase"):
        onnx_session(random_net(case), 17)


# -- stochastic pooling -----------------------------------------------------------------------------------------------
@both_dialects
def test_stochastic_pooling_draws_cells_by_their_share(dialect):
    fields = {"pooling_param": {"pool": Word("STOCHASTIC"), "kernel_size": 2, "stride": 2}}
    count = 4000
    case = Case("Pooling", dialect, (Bottom((count, 1, 2, 2)),), fields, phase="TRAIN")
    window = np.array([1.0, 0.0, 2.0, 5.0])
    x = torch.tensor(np.tile(window, (count, 1)).reshape(count, 1, 2, 2), dtype=torch.float32, requires_grad=True)
    y = random_net(case)(bottom0=x)["top0"]
    for value, share in ((1, 1 / 8), (2, 2 / 8), (5, 5 / 8)):
        assert within(float((y == value).float().mean()), share, count), value
    assert not (y == 0).any(), "a cell of share 0 is never drawn"
    y.sum().backward()
    chosen = (x * x.grad).sum((1, 2, 3))
    assert torch.equal(chosen, y.flatten()) and float(x.grad.sum()) == count


# -- DummyData --------------------------------------------------------------------------------------------------------
@both_dialects
def test_dummy_data_is_constant_or_new_in_every_pass(dialect):
    fillers = [
        {"value": 2.5},
        {"type": "uniform", "min": -1.0, "max": 3.0},
        {"type": "gaussian", "mean": 1.0, "std": 2.0},
    ]
    fields = {"dummy_data_param": {"data_filler": fillers, "shape": [{"dim": [30, n]} for n in (4, 40, 50)]}}
    net = random_net(Case("DummyData", dialect, (), fields, tops=3))
    (constant, uniform, gaussian), _ = torch_answer(net, [])
    (again, uniform_again, _), _ = torch_answer(net, [])
    assert (constant == 2.5).all() and (again == 2.5).all()
    assert uniform.min() >= -1 and uniform.max() < 3 and abs(uniform.mean() - 1) < 5 * (4 / math.sqrt(12 * 1200))
    assert abs(gaussian.mean() - 1) < 5 * 2 / math.sqrt(1500) and abs(gaussian.std() - 2) < 0.2
    assert not np.array_equal(uniform, uniform_again)
    with pytest.raises(ExportError, match="constant fillers"):
        onnx_session(net, 17)


@both_dialects
def test_a_dummy_filler_that_does_not_exist_is_refused(dialect):
    fields = {"dummy_data_param": {"data_filler": [{"type": "gausian"}], "shape": [{"dim": [2, 3]}]}}
    with pytest.raises(NetError, match="gausian"):
        torch_answer(random_net(Case("DummyData", dialect, (), fields)), [])


# -- recurrent state --------------------------------------------------------------------------------------------------
def sequence(type: str, steps: int, streams: int, exposed: bool = False) -> Case:
    bottoms = [Bottom((steps, streams, 2)), Bottom((steps, streams), "starts")]
    fields = {"recurrent_param": {"num_output": 4, "expose_hidden": exposed}}
    return Case(type, "bvlc", tuple(bottoms), fields, seed=11)


@pytest.mark.parametrize("type", ["LSTM", "RNN"])
def test_a_pass_goes_on_where_the_last_one_ended(type):
    whole = sequence(type, 6, 3)
    setting, (expected,) = judge(whole)
    x, cont = whole.inputs()
    cont[0] = 0  # the first pass starts from nothing
    cont[3] = [1, 0, 1]  # at the seam one stream starts anew
    long = net_of(graph_of(whole), setting.blobs)
    (expected,), _ = torch_answer(long, [x, cont])
    short = net_of(graph_of(sequence(type, 3, 3)), setting.blobs)
    found = [torch_answer(short, [x[at], cont[at]])[0][0] for at in (slice(0, 3), slice(3, 6))]
    result = compare(np.concatenate(found), expected, FLOAT32)
    assert result, str(result)


@pytest.mark.parametrize("type", ["LSTM", "RNN"])
def test_a_marker_of_0_forgets_what_was_before(type):
    case = sequence(type, 5, 3)
    setting, _ = judge(case)
    x, cont = case.inputs()
    cont[:] = 1
    cont[2] = 0
    (whole,), _ = torch_answer(net_of(graph_of(case), setting.blobs), [x, cont])
    changed = x.copy()
    changed[:2] += 1
    (other,), _ = torch_answer(net_of(graph_of(case), setting.blobs), [changed, cont])
    assert np.array_equal(whole[2:], other[2:]) and not np.array_equal(whole[:2], other[:2])


@pytest.mark.parametrize("type", ["LSTM", "RNN"])
def test_gradients_never_cross_passes(type):
    case = sequence(type, 2, 3)
    setting, _ = judge(case)
    net = net_of(graph_of(case), setting.blobs)
    first, second = (torch.tensor(case.inputs()[0], requires_grad=True) for _ in range(2))
    cont = torch.ones(2, 3)
    net(bottom0=first, bottom1=cont)
    net(bottom0=second, bottom1=cont)["top0"].sum().backward()
    assert first.grad is None and second.grad.abs().sum() > 0


@pytest.mark.parametrize("type", ["LSTM", "RNN"])
def test_a_batch_of_another_size_starts_from_nothing(type):
    three, two = sequence(type, 2, 3), sequence(type, 2, 2)
    setting, _ = judge(three)
    _, (expected,) = judge(two)
    net = net_of(graph_of(three), setting.blobs)
    torch_answer(net, three.inputs())
    (found,), _ = torch_answer(net, two.inputs())
    result = compare(found, expected, FLOAT32)
    assert result, str(result)


# -- losses of any layer ----------------------------------------------------------------------------------------------
WEIGHTED = """
input: "x" input_shape { dim: 2 dim: 3 }
input: "t" input_shape { dim: 2 dim: 3 }
layer { name: "scores" type: "Power" bottom: "x" top: "scores" power_param { scale: 2 } loss_weight: 0.5 }
layer { name: "loss" type: "EuclideanLoss" bottom: "scores" bottom: "t" top: "loss" }
layer { name: "sum" type: "Reduction" bottom: "scores" top: "sum" reduction_param { operation: SUMSQ } loss_weight: -3 }
layer { name: "off" type: "SigmoidCrossEntropyLoss" bottom: "scores" bottom: "t" top: "off" loss_weight: 0 }
"""


@both_dialects
def test_the_loss_is_every_weighted_top(dialect):
    parsed = parse_prototxt(
        "\n".join([WEIGHTED, 'layer { name: "rest" type: "Silence" bottom: "off" }']), dialect=dialect
    )
    net = build_module(build_graph(parsed, NetState("TRAIN")))
    x = np.random.RandomState(0).standard_normal((2, 3)).astype(np.float32)
    t = np.full((2, 3), 0.25, np.float32)
    leaf = torch.tensor(x, requires_grad=True)
    loss, _ = Passes(net)({"x": leaf, "t": t})
    scores = 2.0 * x.astype(np.float64)
    expected = 0.5 * scores.sum() + ((scores - t) ** 2).sum() / 4 - 3 * (scores**2).sum()
    assert abs(float(loss.detach()) - expected) < 1e-5 * abs(expected)
    loss.backward()
    result = compare(leaf.grad.numpy(), 2 * (0.5 + (scores - t) / 2 - 6 * scores), 1e-5)
    assert result, str(result)
    assert set(run_blobs(net, {"x": x, "t": t})) >= {"scores", "loss", "sum", "off"}


def test_smooth_l1_adds_nothing_without_a_weight_of_its_own():
    text = """
    input: "a" input_shape { dim: 2 dim: 3 }
    input: "b" input_shape { dim: 2 dim: 3 }
    layer { name: "loss" type: "SmoothL1Loss" bottom: "a" bottom: "b" top: "loss" %s }
    """
    batch = {"a": np.full((2, 3), 3.0), "b": np.zeros((2, 3))}
    for written, expected in (("", 0.0), ("loss_weight: 2", 2 * 3 * 2.5)):
        net = build_module(build_graph(parse_prototxt(text % written, dialect="srn"), NetState("TRAIN")))
        loss, outputs = Passes(net)(batch)
        assert float(loss) == expected and float(outputs["loss"]) == 7.5


@pytest.mark.parametrize("weight", [2.5, -1.0])
@both_dialects
def test_a_loss_weight_multiplies_the_gradient(dialect, weight):
    case = Case("EuclideanLoss", dialect, (Bottom((2, 3)), Bottom((2, 3))), extra={"loss_weight": weight})
    a, b = (torch.tensor(x, requires_grad=True) for x in case.inputs())
    net = net_of(graph_of(case), [])
    loss, _ = Passes(net)(by_blob(net.caffe, [a, b]))
    loss.backward()
    result = compare(a.grad.numpy(), weight * (a - b).detach().numpy() / 2, FLOAT32)
    assert result, str(result)
    assert net.caffe.node(LAYER).tops[0].loss_weight == weight
