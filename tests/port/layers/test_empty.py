"""Blobs without values: what can be computed of nothing is, with gradients of 0; the rest is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import port
from port.graph.reference import run_reference
from port.layers import Misfit
from port.net import param_arrays, params
from port.weights.fillers import fill
from prototxt_gen.base.errors import NetError
from prototxt_gen.schema import message_class
from prototxt_gen.schema.text import parse_prototxt

SHAPE = {
    "4": "dim: 0 dim: 3 dim: 4 dim: 4",
    "channels": "dim: 2 dim: 0 dim: 4 dim: 4",
    "map": "dim: 2 dim: 3 dim: 0 dim: 4",
}
WINDOW = "kernel_size: 1 pad: 1 weight_filler { type: 'gaussian' std: 1 } bias_filler { type: 'constant' value: 2 }"
LAYERS = {  # type and fields; where the top holds values, they are the bias's
    "Convolution": f"convolution_param {{ num_output: 2 {WINDOW} }}",
    "Deconvolution": "convolution_param { num_output: 2 kernel_size: 3 bias_filler { value: 2 } }",
    "InnerProduct": "inner_product_param { num_output: 2 bias_filler { value: 2 } }",
    "Pooling": "pooling_param { kernel_size: 2 stride: 2 pad: 1 }",
    "LRN": "lrn_param { norm_region: WITHIN_CHANNEL }",
    "MVN": "",
    "Softmax": "",
    "ReLU": "",
    "Scale": "scale_param { bias_term: true }",
    "Reduction": "reduction_param { axis: 1 }",
    "Im2col": "convolution_param { kernel_size: 1 }",
    "Tile": "tile_param { tiles: 2 }",
    "SPP": "spp_param { pyramid_height: 2 }",
}


def net_of(type: str, fields: str, shape: str, phase: str = "TEST", more: str = ""):
    """The net of one layer."""
    text = f'input: "d" input_shape {{ {shape} }} {more} layer {{ name: "y" type: "{type}" bottom: "d" '
    text += ('bottom: "l" ' if more else "") + f'top: "y" {fields} }}'
    return port.load_net(parse_prototxt(text.replace("'", '"'), dialect="bvlc"), phase=phase)


@pytest.mark.parametrize("kind", SHAPE)
@pytest.mark.parametrize("type", LAYERS)
def test_layers_of_nothing(type, kind):
    try:
        net = net_of(type, LAYERS[type], SHAPE[kind])
    except NetError as error:
        assert kind == "map" and type in ("Deconvolution", "Im2col", "SPP"), error  # no window fits
        return
    inputs = {v.blob: np.zeros(v.shape, np.float32) for v in net.caffe.inputs}
    value = port.run_blobs(net, inputs)["y"]
    assert value.shape == net.caffe.blobs()["y"].shape
    np.testing.assert_array_equal(value, run_reference(net.caffe, param_arrays(net), inputs)["y"])
    if type in ("Convolution", "Deconvolution", "InnerProduct"):
        assert (value == 2).all()


@pytest.mark.parametrize("kind", SHAPE)
@pytest.mark.parametrize("type", ["Convolution", "InnerProduct", "Scale"])
def test_gradients_of_nothing_are_zero(type, kind):
    net = net_of(type, LAYERS[type], SHAPE[kind])
    bottom = torch.zeros(net.caffe.inputs[0].shape, requires_grad=True)
    net(d=bottom)["y"].sum().backward()
    weight, bias = params(net)["y"]
    assert bottom.grad.shape == bottom.shape
    assert weight.grad is not None and not weight.grad.any()
    assert (
        bias.grad == net.caffe.blobs()["y"].shape[0] * np.prod(net.caffe.blobs()["y"].shape[2:])
    ).all() or kind != "map"


@pytest.mark.parametrize(("type", "dialect"), [("BatchNorm", "bvlc"), ("BN", "srn")])
def test_statistics_of_nothing_are_refused(type, dialect):
    text = f'input: "d" input_shape {{ dim: 0 dim: 3 }} layer {{ name: "y" type: "{type}" bottom: "d" top: "y" }}'
    assert port.load_net(parse_prototxt(text, dialect=dialect)).caffe.blobs()["y"].shape == (0, 3)
    with pytest.raises(NetError, match="channels without a value"):
        port.load_net(parse_prototxt(text, dialect=dialect), phase="TRAIN")


LOSSES = {  # a loss of no items: 0 / 0, or 0 where the divisor is 1 at least
    "SoftmaxWithLoss": 0.0,
    "SigmoidCrossEntropyLoss": 0.0,
    "EuclideanLoss": np.nan,
    "HingeLoss": np.nan,
    "MultinomialLogisticLoss": np.nan,
    "Accuracy": 0.0,
}


@pytest.mark.parametrize("type", LOSSES)
def test_losses_of_nothing(type):
    wide = "dim: 0 dim: 3" if type in ("SigmoidCrossEntropyLoss", "EuclideanLoss") else "dim: 0"
    net = net_of(type, "", "dim: 0 dim: 3", more=f'input: "l" input_shape {{ {wide} }}')
    inputs = {v.blob: np.zeros(v.shape, np.float32) for v in net.caffe.inputs}
    np.testing.assert_array_equal(port.run_blobs(net, inputs)["y"], LOSSES[type])
    np.testing.assert_array_equal(run_reference(net.caffe, {}, inputs)["y"], LOSSES[type])


def test_the_mean_of_nothing_is_no_number():
    net = net_of("Reduction", "reduction_param { axis: 1 operation: MEAN }", "dim: 2 dim: 0")
    inputs = {"d": np.zeros((2, 0), np.float32)}
    assert np.isnan(port.run_blobs(net, inputs)["y"]).all()
    assert np.isnan(run_reference(net.caffe, {}, inputs)["y"]).all()


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "positive_unitball", "xavier", "msra"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 0)])
def test_fillers_of_scalars_and_of_nothing(kind, shape):
    filler = message_class("FillerParameter", "bvlc")()
    filler.type = kind
    if shape == () and kind not in ("uniform", "gaussian"):  # the extent of axis 0, which BVLC asks for
        with pytest.raises(Misfit, match="a blob without axes"):
            fill(filler, shape, "bvlc", 0, "layer", 0)
    values = fill(filler, shape, "srn", 0, "layer", 0)
    assert isinstance(values, np.ndarray) and values.shape == shape and values.dtype == np.float32


@pytest.mark.parametrize(("field", "value"), [("max", float("inf")), ("min", float("-inf"))])
def test_a_uniform_filler_needs_ends(field, value):
    filler = message_class("FillerParameter", "bvlc")()
    filler.type = "uniform"
    setattr(filler, field, value)
    with pytest.raises(Misfit, match=r"min .* and max"):
        fill(filler, (2,), "bvlc", 0, "layer", 0)


def test_a_scalar_cannot_be_sparse():
    filler = message_class("FillerParameter", "bvlc")()
    filler.type, filler.sparse = "gaussian", 2
    with pytest.raises(Misfit, match="sparse for a blob without axes"):
        fill(filler, (), "bvlc", 0, "layer", 0)
