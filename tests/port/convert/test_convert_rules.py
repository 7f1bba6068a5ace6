"""Inputs, fields and losses of one dialect in the other, and refusals that name everything."""

from __future__ import annotations

import numpy as np
import pytest
from convert_nets import BVLC, OTHER, batch_norm, bn, converted, layer, shown, text_of

from port.convert import convert_net
from port.graph.build import build_graph
from port.graph.reference import run_reference
from port.graph.state import NetState
from prototxt_gen.base.errors import NetError, UsageError
from prototxt_gen.schema import parse_prototxt, to_text

# --- inputs


def test_inputs_to_a_layer():
    net = parse_prototxt(
        'input: "a" input: "b" input_dim: [2, 3, 4, 5, 6, 7, 8, 9]' + layer("ReLU", name="input", bottom="a"),
        dialect="srn",
    )
    made = convert_net(net, "bvlc").parsed.message.layer[0]
    assert (made.name, made.type, list(made.top)) == ("input_", "Input", ["a", "b"])
    assert [list(shape.dim) for shape in made.input_param.shape] == [[2, 3, 4, 5], [6, 7, 8, 9]]


def test_input_layers_to_inputs():
    text = layer("Input", "input_param { shape { dim: 4 dim: 7 } }", "", "a b", "i") + layer("ReLU", "", "a")
    message = converted(text, "bvlc").parsed.message
    assert list(message.input) == ["data", "a", "b"] and not message.input_dim
    assert [list(shape.dim) for shape in message.input_shape] == [[2, 3, 6, 5], [4, 7], [4, 7]]
    assert [entry.type for entry in message.layer] == ["ReLU"]


# --- fields that the dialects declare differently

CONV = "num_output: 4 "


@pytest.mark.parametrize(
    "kind, old, new",
    [
        ("Convolution", "kernel_size: 3 pad: 1 stride: 2", "kernel_size: 3 pad: 1 stride: 2"),
        ("Convolution", "kernel_size: [3, 3] pad: [1, 1]", "kernel_size: 3 pad: 1"),
        (
            "Convolution",
            "kernel_size: [3, 2] pad: [1, 0] stride: [2, 1]",
            "kernel_h: 3 kernel_w: 2 pad_h: 1 pad_w: 0 stride_h: 2 stride_w: 1",
        ),
        ("Deconvolution", "kernel_h: 3 kernel_w: 2 pad_w: 1", "kernel_h: 3 kernel_w: 2 pad_h: 0 pad_w: 1"),
        ("Convolution", "kernel_size: 3 dilation: [1, 1] axis: 1 force_nd_im2col: true", "kernel_size: 3"),
        ("Convolution", "kernel_size: 3 engine: CUDNN group: 1", "kernel_size: 3 engine: CUDNN group: 1"),
    ],
)
def test_convolutions(kind, old, new):
    assert shown(converted(layer(kind, f"convolution_param {{ {CONV} {old} }}"), "bvlc")) == text_of(
        layer(kind, f"convolution_param {{ {CONV} {new} }}"), "srn"
    )


@pytest.mark.parametrize(
    "dialect, kind, old, new",
    [
        ("srn", "Convolution", "convolution_param { num_output: 4 kernel_size: 3 pad: 1 }", None),
        ("srn", "Scale", "scale_param { bias_term: true }", None),  # 160 there, 142 here
        ("srn", "Tile", "tile_param { tiles: 2 }", None),
        ("bvlc", "Bias", "bias_param { filler { value: 3 } }", None),
        (
            "bvlc",
            "Pooling",
            "pooling_param { kernel_size: 2 round_mode: CEIL }",
            "pooling_param { kernel_size: 2 }",
        ),
        ("bvlc", "LRN", "lrn_param { local_size: 3 engine: CAFFE }", "lrn_param { local_size: 3 }"),
        (
            "srn",
            "Reduction",
            "reduction_param { operation: MEAN k: 5 }",
            "reduction_param { operation: MEAN }",
        ),
        ("bvlc", "ReLU", "param { lr_mult: 0 } include { phase: TEST }", None),
        (
            "srn",
            "Python",
            "python_param { module: 'm' layer: 'l' } transform_param { max_distort: 3 more_fix_crop: true scale: 2 }",
            "python_param { module: 'm' layer: 'l' } transform_param { scale: 2 }",
        ),
    ],
)
def test_fields(dialect, kind, old, new):
    options = {"input_shapes": {}}
    conversion = converted(layer(kind, old), dialect, **options)
    assert shown(conversion) == text_of(layer(kind, old if new is None else new), OTHER[dialect])


LOSS = "data label"
LABEL = {
    "srn": 'input: "label" input_shape { dim: 2 dim: 3 dim: 6 dim: 5 }',
    "bvlc": layer("Input", "input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } }", "", "label", "li"),
}


@pytest.mark.parametrize(
    "dialect, kind, old, new",
    [
        # The fork divides by N and ignores nothing, whatever is written.
        ("srn", "SigmoidCrossEntropyLoss", "ignore_label: 1 normalize: true", None),
        ("srn", "SigmoidCrossEntropyLoss", "", None),
        ("bvlc", "SigmoidCrossEntropyLoss", "normalization: BATCH_SIZE normalize: true", None),
        ("bvlc", "SigmoidCrossEntropyLoss", "normalize: false", None),
        ("srn", "SoftmaxWithLoss", "normalize: false ignore_label: 2", "normalize: false ignore_label: 2"),
        ("bvlc", "SoftmaxWithLoss", "normalization: VALID normalize: false", ""),
        ("bvlc", "SoftmaxWithLoss", "normalization: FULL", ""),
        (
            "bvlc",
            "SoftmaxWithLoss",
            "normalization: BATCH_SIZE ignore_label: 2",
            "normalize: false ignore_label: 2",
        ),
        ("bvlc", "SoftmaxWithLoss", "normalize: false", "normalize: false"),
    ],
)
def test_losses(dialect, kind, old, new):
    """Equal definitions, and equal numbers."""
    label = LABEL[dialect] if kind[1] == "i" else LABEL[dialect].replace("dim: 3", "dim: 1")
    conversion = converted(label + layer(kind, f"loss_param {{ {old} }}", LOSS), dialect)
    made = conversion.parsed.message.layer[-1]
    assert made.HasField("loss_param") == (new is not None)
    if new is not None:
        assert " ".join(to_text(made.loss_param).split()) == text_of(new, OTHER[dialect], "LossParameter")
    random = np.random.default_rng(2)
    inputs = {
        "data": random.normal(size=(2, 3, 6, 5)),
        "label": random.integers(0, 2, (2, 3 if kind[1] == "i" else 1, 6, 5)),
    }
    graphs = [build_graph(net, NetState("TRAIN")) for net in (conversion.source, conversion.parsed)]
    before, after = (run_reference(graph, {}, inputs)["y"] for graph in graphs)
    np.testing.assert_allclose(after, before, rtol=1e-12)


def test_image_data_gets_its_batch_size():
    """bvlc's default is 1, the fork has none."""
    fields = "image_data_param { source: 'l' new_height: 4 new_width: 5 }"
    made = converted(layer("ImageData", fields, "", "x t"), "bvlc").parsed.message.layer[0]
    assert made.image_data_param.batch_size == 1


# --- what cannot be said


@pytest.mark.parametrize(
    "dialect, text, message",
    [
        ("srn", layer("Normalize"), "the layer type 'Normalize' does not exist in the dialect 'bvlc'"),
        ("bvlc", layer("ELU"), "the layer type 'ELU' does not exist in the dialect 'srn'"),
        ("bvlc", layer("Nonsense"), "the layer type 'Nonsense' does not exist"),
        (
            "bvlc",
            layer("Pooling", "pooling_param { kernel_size: 2 round_mode: FLOOR }"),
            "pooling_param.round_mode",
        ),
        (
            "bvlc",
            layer("Convolution", "convolution_param { num_output: 2 kernel_size: 3 dilation: 2 }"),
            "field 'convolution_param.dilation': dilation 2: 'srn' has none",
        ),
        (
            "bvlc",
            layer("Convolution", "convolution_param { num_output: 2 kernel_size: [1, 2, 3] }"),
            "3 values: the dialect 'srn' has two spatial axes",
        ),
        (
            "bvlc",
            layer("Convolution", "convolution_param { num_output: 2 kernel_size: 1 axis: 2 }"),
            "_param.axis",
        ),
        (
            "bvlc",
            layer("ArgMax", "argmax_param { axis: 1 }"),
            "field 'argmax_param.axis': the other dialect has no",
        ),
        ("bvlc", batch_norm("use_global_stats: false"), "field 'batch_norm_param.use_global_stats'"),
        (
            "bvlc",
            batch_norm(more="param { name: 'm' } param {} param {}"),
            "only some of its three statistics",
        ),
        ("srn", bn(more="param {} param {} param { name: 'm' } param {}"), "only one of its two statistics"),
        ("bvlc", layer("Concat"), "1 bottom: the fork wants 2 or more"),
        ("bvlc", layer("Slice"), "1 top: the fork wants 2 or more"),
        ("bvlc", layer("SPP", "spp_param { pyramid_height: 1 }"), "pyramid_height"),
        ("bvlc", layer("Accuracy", "", LOSS, "a b"), "field 'top': a second top"),
        (
            "bvlc",
            layer("SoftmaxWithLoss", "loss_param { normalization: NONE }", LOSS),
            "the fork has no NONE",
        ),
        (
            "bvlc",
            layer("SoftmaxWithLoss", "loss_param { normalization: FULL ignore_label: 1 }", LOSS),
            "the fork has no FULL",
        ),
        (
            "bvlc",
            layer("SigmoidCrossEntropyLoss", "loss_param { ignore_label: 1 }", LOSS),
            "ignores no label",
        ),
        (
            "bvlc",
            layer("SigmoidCrossEntropyLoss", "loss_param { normalize: true }", LOSS),
            "the normalization VALID",
        ),
        (
            "srn",
            layer("InfogainLoss", "infogain_loss_param { source: 'h' }", LOSS),
            "holds probabilities in the fork",
        ),
        (
            "bvlc",
            layer("InnerProduct", "inner_product_param { num_output: 2 transpose: true } param { name: 'w' }"),
            "shared by name",
        ),
        (
            "srn",
            layer("Data", "data_param { shuffle: true }", ""),
            "field 'data_param.shuffle': the other dialect",
        ),
        (
            "srn",
            layer("Data", "transform_param { multi_scale: true crop_size: 4 }", ""),
            "_param.multi_scale",
        ),
        (
            "srn",
            layer("Reduction", "reduction_param { operation: TOPK }"),
            "the other dialect does not know TOPK",
        ),
        ("bvlc", layer("Input", "include { phase: TEST }", "", "x"), "an input in some phases only"),
        ("bvlc", layer("Input", "", "", "x z"), "0 shapes for 2 tops"),
        ("srn", bn(more="blobs { shape { dim: 1 } data: 1 }"), "blobs in the definition of the net"),
        # Found by building both nets.
        (
            "srn",
            layer("InnerProduct", "inner_product_param { num_output: 7 }", top="x", name="i")
            + layer("ArgMax", bottom="x"),
            "the blob 'y' would be 2x1x1; expected 2x1x1x1, as in srn",
        ),
        (
            "bvlc",
            layer("Reshape", "reshape_param { shape { dim: [2, 3, 3, 2, 5] } }", top="x", name="r")
            + batch_norm(bottom="x"),
            "layer 'bn', field 'bottom': an input with 5 axes",
        ),
    ],
)
def test_refused(dialect, text, message):
    with pytest.raises(NetError) as error:
        converted(text, dialect)
    assert message in str(error.value) and "n.prototxt" in str(error.value)


def test_all_at_once():
    text = "\n".join(
        [
            layer("ELU", name="a"),
            layer("Clip", "clip_param { min: 0 max: 1 }", "y", "z", "b"),
            layer("ArgMax", "argmax_param { axis: 1 }", "z", "x", "c"),
        ]
    )
    with pytest.raises(NetError) as error:
        converted("\n" + text, "bvlc")
    assert [(p.layer, p.line - 2) for p in error.value.problems] == [("a", 1), ("b", 2), ("c", 3)]


def test_same_dialect():
    with pytest.raises(UsageError, match=r"in the dialect bvlc already.*line 1"):
        convert_net(parse_prototxt(BVLC), "bvlc")
    with pytest.raises(UsageError, match="there is no dialect 'caffe2'"):
        convert_net(parse_prototxt(BVLC), "caffe2")


def test_old_formats_are_upgraded_first():
    text = 'layers { type: INNER_PRODUCT name: "i" bottom: "data" top: "y" inner_product_param { num_output: 2 } }'
    conversion = converted(text, "srn")
    assert conversion.parsed.message.layer[1].type == "InnerProduct"
    assert "upgraded from the V1 format" in conversion.notes[0]
