"""The profiles: He's layer names and strides, the released names by number, what their headers claim."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from generated import CLASSES, GOLDEN, builder, in_phase, message, miniature

import port
from port.caffemodel import write_net
from port.convert import convert_net, convert_weights
from port.net import param_arrays
from prototxt_gen.nets import NETWORKS
from prototxt_gen.nets.write import net_text
from prototxt_gen.schema.messages import message_class


def he_layers() -> list[tuple]:
    """ResNet-101-deploy.prototxt up to pool5, from its pattern: (name, type, bottoms, outputs, kernel, stride, pad)."""
    rows: list[tuple] = []

    def unit(name: str, bottom: str, width: int, stride: int, project: bool) -> None:
        short = name.removeprefix("res")

        def conv(branch: str, source: str, outputs: int, kernel: int, step: int, relu: bool) -> None:
            full = f"{name}_branch{branch}"
            rows.append((full, "Convolution", [source], outputs, kernel, step, kernel // 2))
            rows.append((f"bn{short}_branch{branch}", "BatchNorm", [full]))
            rows.append((f"scale{short}_branch{branch}", "Scale", [full]))
            if relu:
                rows.append((f"{full}_relu", "ReLU", [full]))

        if project:
            conv("1", bottom, 4 * width, 1, stride, False)
        conv("2a", bottom, width, 1, stride, True)
        conv("2b", f"{name}_branch2a", width, 3, 1, True)
        conv("2c", f"{name}_branch2b", 4 * width, 1, 1, False)
        rows.append((name, "Eltwise", [f"{name}_branch1" if project else bottom, f"{name}_branch2c"]))
        rows.append((f"{name}_relu", "ReLU", [name]))

    rows += [("conv1", "Convolution", ["data"], 64, 7, 2, 3), ("bn_conv1", "BatchNorm", ["conv1"])]
    rows += [("scale_conv1", "Scale", ["conv1"]), ("conv1_relu", "ReLU", ["conv1"])]
    rows += [("pool1", "Pooling", ["conv1"], None, 3, 2, 0)]
    before = "pool1"
    names = {
        2: ["a", "b", "c"],
        3: ["a", "b1", "b2", "b3"],
        4: ["a", *(f"b{number}" for number in range(1, 23))],
        5: ["a", "b", "c"],
    }
    for stage, letters in names.items():
        for index, letter in enumerate(letters):
            first = index == 0
            unit(f"res{stage}{letter}", before, 32 * 2 ** (stage - 1), 2 if first and stage > 2 else 1, first)
            before = f"res{stage}{letter}"
    return [*rows, ("pool5", "Pooling", ["res5c"], None, 7, 1, 0)]


def test_postact_is_hes_net():
    """Layer for layer his, except that the ReLU behind a sum makes a blob of its own."""
    net = message("ResNet-101", "postact", "bvlc")
    layers = net.layer[1:-1]  # without the input and the classifier, which is fc1000 there
    expected = he_layers()
    assert len(layers) == len(expected) == 5 + 33 * 13 + 4 * 3 + 1
    for layer, (name, type, bottoms, *sizes) in zip(layers, expected, strict=True):
        assert (layer.name, layer.type) == (name, type)
        plain = [blob.removesuffix("_relu") if "branch" not in blob else blob for blob in layer.bottom]
        assert plain == bottoms, name
        if type == "Convolution":
            about = layer.convolution_param
            pad, stride = list(about.pad) or [0], list(about.stride) or [1]
            assert [about.num_output, *about.kernel_size, *stride, *pad] == sizes, name
            assert not about.bias_term, "his ResNet-101 has no bias, not even in conv1"
        if type == "Pooling":
            about = layer.pooling_param
            assert [None, about.kernel_size, about.stride, about.pad] == sizes, name
        if type == "Scale":
            assert layer.scale_param.bias_term
        if type == "BatchNorm":
            assert layer.batch_norm_param.eps == pytest.approx(1e-5, rel=1e-6)  # float32; his files leave the default


def weights_like_his(folder: Path, classes: int = 11) -> Path:
    """A caffemodel with the layers of his, narrow, with his classifier fc1000; every value another."""
    text = net_text("ResNet-101", profile="postact", dialect="bvlc", classes=classes, width_divisor=32)
    path = folder / "his.prototxt"
    path.write_text(text.replace(f'"fc{classes}"', '"fc1000"'))
    net = port.load_net(path, seed=3)
    random = np.random.RandomState(3)
    blobs = {
        name: [random.uniform(0.5, 1.5, blob.shape).astype(np.float32) for blob in held]
        for name, held in param_arrays(net).items()
    }
    model = message_class("NetParameter", "bvlc")(name="ResNet-101")
    arrays = []
    for layer in net.caffe.net.layer:
        model.layer.add(name=layer.name, type=layer.type)
        arrays.append(blobs.get(layer.name, []))
    write_net(folder / "his.caffemodel", model, arrays)
    return folder / "his.caffemodel"


def test_his_weights_load_by_name(tmp_path):
    weights = weights_like_his(tmp_path)
    target = miniature(tmp_path, "ResNet-SRN", "postact", "bvlc")
    net = port.load_net(target, weights, strict=False)
    parts = builder("ResNet-SRN", "postact", "bvlc", classes=CLASSES).parts
    assert net.report.unused == ["fc1000"]
    assert {parts[name] for name in net.report.missing} == {"classifier", "attention", "confidence", "regularization"}
    assert len(net.report.taken) == 104 + 104 + 104  # convolutions, BatchNorm, Scale


def test_his_weights_load_into_the_fork_once_converted(tmp_path):
    """As the header says: one BN of each BatchNorm and Scale, under the BatchNorm's name."""
    weights = weights_like_his(tmp_path)
    conversion = convert_net(tmp_path / "his.prototxt", "srn")
    convert_weights(conversion, weights, tmp_path / "fork.caffemodel")
    target = miniature(tmp_path, "ResNet-101", "postact", "srn")
    net = port.load_net(target, tmp_path / "fork.caffemodel", strict=False)
    assert (net.report.missing, net.report.unused) == ([f"fc{CLASSES}"], ["fc1000"])
    assert len(net.report.taken) == 104 + 104


def released_rows() -> list[dict[str, str]]:
    with (GOLDEN / "main_net_layers.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_the_released_main_net_has_the_counted_names():
    net = message("ResNet-101", "released", "srn")
    rows = released_rows()
    assert [layer.name for layer in net.layer] == [row["layer"] for row in rows]
    for layer, row in zip(net.layer, rows, strict=True):
        assert layer.type == row["type"], layer.name
        if layer.type == "Convolution":
            about = layer.convolution_param
            sizes = (about.num_output, about.kernel_size, about.stride, about.pad)
            assert [str(size) for size in sizes] == [row[key] for key in ("num_output", "kernel", "stride", "pad")]
            assert not about.bias_term
        if layer.type == "ReLU":
            assert list(layer.top) == list(layer.bottom), "the converter makes ReLU in place"
        if layer.type == "BN":
            assert layer.top[0] != layer.bottom[0], "the fork's BN must not be in place"


def test_the_released_nets_count_on_in_resnet_107():
    names = [layer.name for layer in message("ResNet-107", "released", "srn").layer]
    numbers = [int(name.rpartition("_")[2]) for name in names]
    assert numbers == list(range(361)) and names[304] == "caffe.Eltwise_304"


def test_the_released_head():
    net = message("ResNet-SRN", "released", "srn")
    layers = {layer.name: layer for layer in net.layer}
    reads = {name: list(layer.bottom) for name, layer in layers.items()}
    assert reads["att.BN_1"] == ["caffe.Eltwise_304"] and reads["att.Conv_3"] == ["att.ReLU_2"]
    convolutions = [name for name in layers if name.startswith("att.Conv_")]
    assert convolutions == [f"att.Conv_{number}" for number in (3, 6, 9, 13, 16, 19)]
    assert reads["att.Eltwise_10"] == ["att.Conv_9", "caffe.Eltwise_304"], "the shortcut is the sum itself"
    assert reads["att.Eltwise_20"] == ["att.Conv_19", "att.Eltwise_10"]
    assert reads["att.att_Conv_1"] == reads["att.feat_Conv_1"] == ["att.ReLU_22"]
    widths = {name: layer.convolution_param.num_output for name, layer in layers.items() if layer.type == "Convolution"}
    assert [widths[f"att.feat_Conv_{number}"] for number in (1, 2)] == [512, 80]
    assert [widths[f"comb.comb_Conv_{number}"] for number in (1, 2, 3)] == [512, 512, 2048]
    assert layers["comb.comb_Conv_3"].convolution_param.group == 512
    assert layers["att.att_Softmax_5"].softmax_param.axis == 2
    assert sorted(reads["comb.comb_Eltwise_0"]) == ["S_sigmoid", "att.att_Reshape_6"]
    # normalisation behind every convolution of the head but those that make C maps
    bare = {"att.att_Conv_3", "att.feat_Conv_2", "att.Conv_9", "att.Conv_19"}
    read_by_bn = {layer.bottom[0] for layer in net.layer if layer.type == "BN"}
    assert {name for name in widths if name.startswith(("att.", "comb."))} - read_by_bn == bare


def test_the_weighted_sum_of_the_release_is_for_testing_only():
    net = message("ResNet-SRN", "released", "srn", 4)
    assert "weighted_sum" in {layer.name for layer in in_phase(net, "TEST")}
    assert "weighted_sum" not in {layer.name for layer in in_phase(net, "TRAIN")}
    paper = message("ResNet-SRN", "paper", "srn", 4)
    assert "weighted_sum" in {layer.name for layer in in_phase(paper, "TRAIN")}


@pytest.mark.parametrize("profile", ["paper", "postact"])
def test_resnet_107_adds_two_units(profile):
    small, large = ({x.name for x in message(name, profile, "srn").layer} for name in ("ResNet-101", "ResNet-107"))
    assert small <= large
    sums = {name for name in large - small if name.startswith("res") and "_branch" not in name}
    assert sums == {"res5d", "res5d_relu", "res5e", "res5e_relu"}
    last = {layer.name: list(layer.bottom) for layer in message("ResNet-107", profile, "srn").layer}
    assert last["pool5"] == ["res5e_relu"]


def test_the_semantic_head():
    net = message("ResNet-101-semantic", "paper", "bvlc")
    layers = {layer.name: layer for layer in net.layer}
    assert list(layers["semantic_input"].bottom) == ["y_cls", "semantic_feature"]
    assert list(layers["semantic_feature"].bottom) == ["pool5"]
    outputs = [layers[f"semantic_fc{number}"].inner_product_param.num_output for number in (1, 2, 3)]
    assert outputs == [2048, 2048, 80] and list(layers["semantic_fc3"].top) == ["y"]


def test_srn_att_reads_the_attention_itself():
    for step, expected in ((None, set()), (3, {"S"})):
        net = message("ResNet-SRN-att", "paper", "srn", step)
        layers = {layer.name: layer for layer in net.layer}
        assert list(layers["sr_conv2"].bottom) == ["A"]
        assert {layer.top[0] for layer in net.layer if layer.name == "conf_conv1"} == expected, "S only trains A"
    full = {layer.name: list(layer.bottom) for layer in message("ResNet-SRN", "paper", "srn").layer}
    assert full["sr_conv2"] == ["U"]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("profile", ["postact", "released"])
def test_other_numbers_of_labels(network, profile):
    text = net_text(network, "wider_att", profile=profile, dialect="srn", classes=23)
    assert "num_output: 14" not in text and "num_output: 23" in text
    assert "(23 labels instead of its 14)" in text
