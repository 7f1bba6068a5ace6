"""The exported files in a reader that nobody here wrote: OpenCV's ONNX importer."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from small_nets import conv, fully, inputs, layer, miniature

import port
from verify.parity.compare import compare

# float32 sums in another order, through up to 101 layers (measured: 8e-7)
TOLERANCE = 1e-5


def opened(path):
    """The net as OpenCV reads it, without Winograd, whose rounding is its own."""
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    if hasattr(net, "enableWinograd"):
        net.enableWinograd(False)
    return net


def answers(tmp_path, net, x):
    """PyTorch's first output and OpenCV's, from the exported file."""
    path = tmp_path / "net.onnx"
    port.export_onnx(net, path)
    theirs = opened(path)
    theirs.setInput(x, "data")
    name = net.caffe.outputs[0].name
    return port.run_blobs(net, {"data": x})[net.caffe.outputs[0].blob], np.array(theirs.forward(name))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_the_papers_net_at_an_eighth_of_its_width(tmp_path, dialect, batch):
    prototxt = miniature(dialect)
    net = port.load_net(prototxt, prototxt.with_suffix(".caffemodel"))
    x = np.random.RandomState(3).standard_normal((batch, 3, 224, 224)).astype(np.float32) * 60
    ours, theirs = answers(tmp_path, net, x)
    assert compare(theirs, ours, TOLERANCE, "y")
    assert not compare(theirs, ours[:, ::-1], TOLERANCE, "y reversed")


NETS = {
    "convolution": conv("c", "data", "y", 4, 3, "convolution_param { pad: 1 stride: 2 group: 2 }"),
    "ceil pooling": layer("p", "Pooling", "data", "y", "pooling_param { kernel_size: 3 stride: 2 }"),
    "padded pooling": layer("p", "Pooling", "data", "y", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }"),
    "inner product": fully("f", "data", "y", 5),
    "leaky": layer("r", "ReLU", "data", "y", "relu_param { negative_slope: 0.1 }"),
    "softmax": layer("s", "Softmax", "data", "y", "softmax_param { axis: 2 }"),
    "eltwise": layer("a", "Sigmoid", "data", "a")
    + layer("e", "Eltwise", "data a", "y", "eltwise_param { operation: SUM coeff: 0.5 coeff: -2 }"),
    "lrn": layer("n", "LRN", "data", "y", "lrn_param { local_size: 3 alpha: 0.5 }"),
    "concat": layer("a", "TanH", "data", "a") + layer("c", "Concat", "data a", "y"),
    "deconvolution": layer(
        "d",
        "Deconvolution",
        "data",
        "y",
        'convolution_param { num_output: 3 kernel_size: 4 stride: 2 pad: 1 weight_filler { type: "gaussian" } }',
    ),
}
NETS["convolution"] = conv("c", "data", "y", 4, 3).replace("kernel_size: 3", "kernel_size: 3 pad: 1 stride: 2 group: 2")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_single_layers(tmp_path, name, batch):
    path = tmp_path / "net.prototxt"
    path.write_text(inputs(data=(2, 6, 9, 7)) + NETS[name])
    net = port.load_net(path)
    x = np.random.RandomState(5).standard_normal((batch, 6, 9, 7)).astype(np.float32)
    ours, theirs = answers(tmp_path, net, x)
    assert compare(theirs.reshape(ours.shape), ours, TOLERANCE, name)
