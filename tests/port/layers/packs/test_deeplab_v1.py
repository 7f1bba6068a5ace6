"""DeepLab's first version: the old layer format, its types, and its SoftmaxWithLoss against the rule in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pack_runs import FORWARD, Run, agree, refused
from small_nets import inputs

import port
from prototxt_gen.schema.text import parse_prototxt
from prototxt_gen.schema.upgrade import upgrade_parsed

WEIGHTS = [0.5, 2.0, 0.25]


def weighted_loss(x, label, weights, ignored=()):
    total = whole = 0.0
    for i, r, c in np.ndindex(len(x), *x.shape[2:]):
        of = int(label[i, 0, r, c])
        if of not in ignored:
            shares = np.exp(x[i, :, r, c] - x[i, :, r, c].max())
            total -= weights[of] * math.log(shares[of] / shares.sum())
            whole += weights[of]
    return total / whole


@pytest.mark.parametrize("ignored", [(), (255,), (1, 255)])
@pytest.mark.parametrize("from_file", [True, False])
def test_the_divisor_is_weighted_too(ignored, from_file, tmp_path):
    random = np.random.RandomState(len(ignored))
    x, label = random.standard_normal((2, 3, 3, 4)), random.choice([0, 1, 2, *ignored], (2, 1, 3, 4))
    fields = {"ignore_label": list(ignored)}
    if from_file:
        (tmp_path / "weights.txt").write_text("0.5 2\n0.25\n")
        fields["weight_source"] = str(tmp_path / "weights.txt")
    run = Run("SoftmaxWithLoss", [x, label], fields={"softmaxloss_param": fields}, tops=2)
    x = run.double()[0]
    shares = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    run.holds([weighted_loss(x, label, WEIGHTS if from_file else [1] * 3, ignored), shares], (13, 17, 22))
    run.stays_double()
    run.slopes_hold()
    more = [np.concatenate([a, a[:1]]).astype(np.float32) for a in run.inputs]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


def test_what_it_refuses(tmp_path):
    x, label = np.zeros((1, 3, 2, 2)), np.zeros((1, 1, 2, 2))
    source = tmp_path / "weights.txt"
    for text, match in (("1 2", "2 weights.*3, one a class"), ("1 2 -1", "none below 0"), ("one", "cannot be read")):
        source.write_text(text)
        fields = {"softmaxloss_param": {"weight_source": str(source)}}
        refused(match, "SoftmaxWithLoss", [x, label], fields=fields)
    run = Run("SoftmaxWithLoss", [x, label + 3], fields={"softmaxloss_param": {"ignore_label": 255}})
    refused_by(run.torch, "label")


def refused_by(call, match):
    with pytest.raises(Exception, match=match):
        call()


NET = (
    inputs(data=(2, 3, 17, 17), label=(2, 1, 17, 17))
    + """
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" strict_dim: false blobs_lr: 10 blobs_lr: 20
  convolution_param { num_output: 4 kernel_size: 3 pad: 2 hole: 2 } }
layers { name: "pool" type: POOLING bottom: "conv" top: "pool" pooling_param { kernel_size: 3 stride: 2 pad: 1 } }
layers { name: "shrink" type: INTERP bottom: "label" top: "shrink" interp_param { shrink_factor: 2 } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "pool" bottom: "shrink" softmaxloss_param { ignore_label: 255 } }
layers { name: "accuracy" type: SEG_ACCURACY bottom: "pool" bottom: "shrink" top: "accuracy"
  seg_accuracy_param { ignore_label: 255 } }
"""
)


def test_such_a_net_is_read(tmp_path):
    upgraded, _ = upgrade_parsed(parse_prototxt(NET))
    assert [layer.type for layer in upgraded.message.layer[1:]] == [
        "Convolution", "Pooling", "Interp", "SoftmaxWithLoss", "SegAccuracy",
    ]  # fmt: skip
    (tmp_path / "net.prototxt").write_text(NET)
    net = port.load_net(tmp_path / "net.prototxt")
    assert set(net.caffe.packs) == {"deeplab"}
    assert net.caffe.nodes[-1].tops[0].shape == (1, 1, 1, 3)
