"""Shared parameters: one storage whatever becomes of the net, and all gradients reach it."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch

import port

SHARED = """
input: "x" input_shape { dim: 2 dim: 6 }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "p" param { name: "w" } param { name: "b" }
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "n" type: "NORM" bottom: "p" top: "p2" param { name: "s" lr_mult: 0 } }
layer { name: "m" type: "NORM" bottom: "p2" top: "p3" param { name: "s" lr_mult: 0 } }
layer { name: "c" type: "InnerProduct" bottom: "p3" top: "q" loss_weight: 1
        param { name: "w" share_mode: PERMISSIVE } inner_product_param { num_output: 6 } }
layer { name: "d" type: "InnerProduct" bottom: "x" top: "r" loss_weight: 1 param { name: "w" } param { name: "b" }
        inner_product_param { num_output: 4 } }
"""
SHARERS = [("a", 0, "c", 0), ("a", 0, "d", 0), ("a", 1, "d", 1), ("n", 0, "m", 0)]

MOVES = {
    "as it is": lambda net: net,
    "copied": copy.deepcopy,
    "float64": lambda net: net.to(torch.float64),
    "copied and there and back": lambda net: copy.deepcopy(copy.deepcopy(net).bfloat16()).float(),
    "replaced": lambda net: net.to("meta").to_empty(device="cpu"),  # every parameter is a new object
}


def shared_net(folder, dialect: str, text: str = SHARED):
    path = folder / "net.prototxt"
    path.write_text(text.replace("NORM", {"bvlc": "BatchNorm", "srn": "BN"}[dialect]))
    return port.load_net(path, dialect=dialect, phase="TRAIN")


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_sharing_survives_copies_and_moves(tmp_path, dialect, move):
    net = shared_net(tmp_path, dialect)
    moved = MOVES[move](net)
    held = port.params(moved)
    for layer, i, other, j in SHARERS:
        one, two = held[layer][i], held[other][j]
        with torch.no_grad():
            one.fill_(0.25)
            two[...] += 0.5
        assert torch.equal(one, torch.full_like(one, 0.75)) and torch.equal(two, torch.full_like(two, 0.75))
        assert one.dtype == two.dtype and one.requires_grad == two.requires_grad
    # In BVLC the gradient is shared too, so a blob of the same shape is the owner itself.
    assert (held["a"][1] is held["d"][1]) == (dialect == "bvlc")
    if move.startswith("copied"):
        assert port.params(net)["a"][0].data_ptr() != held["a"][0].data_ptr()


def test_a_moved_net_trains_as_before(tmp_path):
    batch = {"x": np.random.default_rng(3).normal(size=(2, 6)).astype(np.float32)}
    for dialect, move in itertools.product(("bvlc", "srn"), ("copied", "float64")):  # the others lose digits
        solver = tmp_path / "solver.prototxt"
        solver.write_text(f'net: "{tmp_path / "net.prototxt"}" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9\n')
        nets = [shared_net(tmp_path, dialect), MOVES[move](shared_net(tmp_path, dialect)).float()]
        for net in nets:
            run = port.load_solver(solver, net=net)
            for _ in range(3):
                run.step(batch)
        for mine, theirs in zip(*(port.params(net).values() for net in nets), strict=True):
            for one, two in zip(mine, theirs, strict=True):
                # "float64" and "there and back" round the weights that they start from
                torch.testing.assert_close(one, two, rtol=0, atol=0.02 if "back" in move else 1e-6)


PERMISSIVE = """
input: "x" input_shape { dim: 3 dim: 4 }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "p" param { name: "w" }
        inner_product_param { num_output: 5 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "p" top: "q" loss_weight: 1
        param { name: "w" share_mode: PERMISSIVE } inner_product_param { num_output: 4 bias_term: false } }
"""


@pytest.mark.parametrize("clip", [-1, 0.5])
@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_gradients_of_a_permissive_sharer_count(tmp_path, dialect, clip):
    net = shared_net(tmp_path, dialect, PERMISSIVE)
    solver = tmp_path / "solver.prototxt"
    solver.write_text(f'net: "{tmp_path / "net.prototxt"}" base_lr: 0.1 lr_policy: "fixed" clip_gradients: {clip}\n')
    run = port.load_solver(solver, net=net)
    x = np.random.default_rng(5).normal(size=(3, 4)).astype(np.float32)
    weight = port.params(net)["a"][0].detach().clone().double()
    for _ in range(2):
        run.step({"x": x})
        parts = [weight.clone().requires_grad_(), weight.clone().requires_grad_()]
        (torch.tensor(x).double() @ parts[0].T @ parts[1].reshape(4, 5).T).sum().backward()
        own, other = (part.grad for part in parts)
        if clip > 0 and dialect == "bvlc":  # the one difference that both made
            own, other = (grad * min(1, clip / (own + other).norm()) for grad in (own, other))
        elif clip > 0:  # the fork neither measures nor scales the others'
            own = own * min(1, clip / own.norm())
        weight = weight - 0.1 * (own + other)
    torch.testing.assert_close(port.params(net)["a"][0].detach().double(), weight, rtol=1e-5, atol=1e-6)


HALF_FROZEN = """
input: "x" input_shape { dim: 3 dim: 4 }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "p" param { name: "w" FIRST }
        inner_product_param { num_output: 4 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "p" top: "q" param { name: "w" SECOND }
        inner_product_param { num_output: 4 bias_term: false } }
layer { name: "c" type: "InnerProduct" bottom: "q" top: "r" loss_weight: 1
        inner_product_param { num_output: 5 bias_term: false weight_filler { type: "xavier" } } }
"""


@pytest.mark.parametrize("frozen", ["a", "b"])
def test_a_layer_that_freezes_a_shared_blob_adds_no_gradient(tmp_path, frozen):
    """BVLC asks each layer's own entry whether to compute, and one lr_mult holds for all."""
    rates = {"a": ("lr_mult: 0", ""), "b": ("", "lr_mult: 0")}[frozen]
    text = HALF_FROZEN.replace("FIRST", rates[0]).replace("SECOND", rates[1])
    moved = shared_net(tmp_path, "bvlc", text)
    for net in (moved, copy.deepcopy(moved), copy.deepcopy(moved).double().float()):
        solver = tmp_path / "solver.prototxt"
        solver.write_text(
            f'net: "{tmp_path / "net.prototxt"}" base_lr: 0.1 lr_policy: "fixed" clip_gradients: 0.25 type: "AdaGrad"\n'
        )
        run = port.load_solver(solver, net=net)
        x = np.random.default_rng(5).normal(size=(3, 4)).astype(np.float32)
        held = port.params(net)
        shared, own = (held[layer][0].detach().clone().double() for layer in "ac")
        parts = [shared.clone().requires_grad_(), shared.clone().requires_grad_(), own.clone().requires_grad_()]
        (torch.tensor(x).double() @ parts[0].T @ parts[1].T @ parts[2].T).sum().backward()
        grads = [parts["ba".index(frozen)].grad, parts[2].grad]
        norm = torch.sqrt(sum(grad.square().sum() for grad in grads))
        assert norm > 0.25
        run.step({"x": x})
        for history, grad in zip(run.history[0], grads, strict=True):
            torch.testing.assert_close(history.double(), (grad * 0.25 / norm).square(), rtol=1e-5, atol=1e-9)
        torch.testing.assert_close(held["a"][0].detach().double(), shared, rtol=0, atol=1e-7)
        assert held["a"][0].data_ptr() == held["b"][0].data_ptr()
