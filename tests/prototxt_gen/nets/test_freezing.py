"""Parts that a training step keeps fixed: everything in them that could learn, and refusals where that is not known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import port
from prototxt_gen.base.errors import NetError, UsageError
from prototxt_gen.builder import NetBuilder
from prototxt_gen.nets import NETWORKS, training
from prototxt_gen.schema import LAYER_TYPES, read_prototxt
from prototxt_gen.schema import blobs as counts
from prototxt_gen.schema.blobs import blob_count
from prototxt_gen.schema.messages import message_class

STEP = replace(NETWORKS["ResNet-101"].steps[0], trained=("last",))


def fixed_part(dialect: str, *extra) -> NetBuilder:
    """A fixed part with every kind of layer that learns and takes an image, then a part that is trained."""
    net = NetBuilder("fixed", dialect)
    x = net.input("data", (2, 4, 6, 5))
    net.section("fixed", part="fixed")
    x = net.Convolution("conv", x, num_output=3, kernel_size=3, weight_filler={"type": "xavier"})
    x = net.Deconvolution(
        "deconv", x, convolution_param={"num_output": 4, "kernel_size": 2, "weight_filler": {"type": "xavier"}}
    )
    x = net.PReLU("prelu", x)
    x = net.BatchNorm("norm", x) if dialect == "bvlc" else net.BN("norm", x)
    x = net.Scale("scale", x, bias_term=True, param=[{"lr_mult": 2, "name": "shared"}])
    x = net.Bias("bias", x)
    x = net.InnerProduct("fully", x, num_output=5, bias_term=False, weight_filler={"type": "xavier"})
    net.section("last", part="last")
    net.InnerProduct("y", x, num_output=7, weight_filler={"type": "xavier"})
    return net


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_nothing_of_a_fixed_part_learns(tmp_path, dialect):
    """Seen in training: a step of the solver moves the last part and leaves every blob of the fixed one bit for bit."""
    net = fixed_part(dialect)
    training.freeze(net, STEP)
    net.EuclideanLoss("loss", "y", net.Power("zero", "y", power=0.0, shift=0.0, scale=0.0, include=[]))
    (tmp_path / "net.prototxt").write_text(net.to_text())
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path / "net.prototxt"}" base_lr: 0.5 lr_policy: "fixed"'
        " weight_decay: 0.25 momentum: 0.5 max_iter: 3"
    )
    solver = port.load_solver(tmp_path / "solver.prototxt")
    before = {name: [blob.clone() for blob in blobs] for name, blobs in port.params(solver.net).items()}
    for i in range(2):
        solver.step({"data": np.random.RandomState(i).standard_normal((2, 4, 6, 5)).astype(np.float32)})
    after = port.params(solver.net)
    assert set(before) == {"conv", "deconv", "prelu", "norm", "scale", "bias", "fully", "y"}
    for name, blobs in before.items():
        same = [torch.equal(old, new) for old, new in zip(blobs, after[name], strict=True)]
        assert all(same) if name != "y" else not any(same), name
    entries = {layer.name: len(layer.param) for layer in net.layers()}
    assert entries["deconv"] == 2 and entries["prelu"] == entries["fully"] == 1 and not entries["y"]


def test_what_is_not_understood_is_refused():
    net = fixed_part("bvlc")
    net.section("more", part="fixed")
    net.Python("mine", "data", module="m", layer="L")
    net.Python("told", "data", module="m", layer="L", param=[{"lr_mult": 0, "decay_mult": 0}])
    with pytest.raises(UsageError, match=r"layer 'mine', field 'param': Python: .* how many blobs") as caught:
        training.freeze(net, STEP)
    assert len(caught.value.problems) == 1 and "param=[{'lr_mult': 0" in str(caught.value)


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_the_counts_are_those_of_the_layers(golden, dialect):
    """Every recorded layer of real Caffe: as many blobs as port/layers gives it; and every type has been asked."""
    asked: dict[str, set[int]] = {}
    for path in [*golden.glob(f"layers/{dialect}/*.prototxt"), *golden.glob(f"edges/{dialect}/*.prototxt")]:
        parsed = read_prototxt(path, dialect=dialect)
        try:
            net = port.load_net(parsed)
        except NetError:
            continue
        for node in net.caffe.nodes:
            asked.setdefault(node.layer.type, set()).add(len(node.specs))
            if node.layer.type != "Python":
                assert blob_count(node.message) == len(node.specs), (path.name, node.name)
    assert {name for name in counts._COUNTS if name in LAYER_TYPES[dialect]} == {n for n in asked if max(asked[n])}
    known = message_class("LayerParameter", dialect)
    assert all(blob_count(known(type=name)) is not None for name in LAYER_TYPES[dialect] - {"Python"})
    assert blob_count(known(type="Quux")) is None
