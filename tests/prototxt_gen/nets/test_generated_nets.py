"""The generated nets: golden copies, structure against the paper and the released count, and the command."""

from __future__ import annotations

import csv
import shlex
import subprocess
import sys
from itertools import pairwise
from math import ceil, prod
from pathlib import Path

import pytest

import prototxt_gen
import prototxt_gen.__main__
import reference_weights.__main__
from prototxt_gen import paper
from prototxt_gen.__main__ import main
from prototxt_gen.base.command import run
from prototxt_gen.base.errors import ParseError, UsageError
from prototxt_gen.schema.dialect import LAYER_TYPES
from prototxt_gen.schema.text import parse, read_prototxt

GOLDEN = Path(__file__).parents[2] / "golden" / "prototxt"
FILES = {"ResNet-101": "coco_resnet101_test.prototxt", "ResNet-SRN": "coco_resnet101_srn_test.prototxt"}
NETS = [(network, dialect) for network in FILES for dialect in ("bvlc", "srn")]

each_net = pytest.mark.parametrize(("network", "dialect"), NETS)


def net_of(network: str, dialect: str, **options):
    return parse(prototxt_gen.net_text(network, dialect=dialect, **options), dialect=dialect)


def layers_of(net, type: str):
    return [layer for layer in net.layer if layer.type == type]


def by_name(net) -> dict:
    return {layer.name: layer for layer in net.layer}


def single(value) -> int:
    """A field that is repeated in bvlc and optional in srn."""
    return value if isinstance(value, int) else (value[0] if len(value) else 0)


# Golden copies


@each_net
def test_the_text_is_the_golden_copy(network, dialect):
    golden = GOLDEN / dialect / FILES[network]
    accept = f"python -m prototxt_gen write --network {network} --dialect {dialect} --output {golden.parent.name}/"
    text = prototxt_gen.net_text(network, dialect=dialect)
    assert text.encode() == golden.read_bytes(), f"if the change is meant, in tests/golden/prototxt: {accept}"


@each_net
def test_the_command_in_the_header_makes_the_file(network, dialect, tmp_path):
    golden = GOLDEN / dialect / FILES[network]
    (line,) = (line for line in golden.read_text().splitlines() if line.startswith("# Made by: "))
    words = shlex.split(line.removeprefix("# Made by: "))
    assert words[:3] == ["python", "-m", "prototxt_gen"]
    assert main([*words[3:], "--output", str(tmp_path)]) == 0
    assert (tmp_path / FILES[network]).read_bytes() == golden.read_bytes()


@each_net
def test_each_file_parses_strictly_in_its_own_dialect_only(network, dialect):
    parsed = read_prototxt(GOLDEN / dialect / FILES[network])
    assert parsed.dialect == dialect, "the dialect is detected"
    assert {layer.type for layer in parsed.message.layer} <= LAYER_TYPES[dialect]
    assert parsed.message == prototxt_gen.build_net(prototxt_gen.configure(network, dialect=dialect)).build()
    other = {"bvlc": "srn", "srn": "bvlc"}[dialect]
    assert not parsed.packs
    if dialect == "srn":  # other forks have its BN, and a net of BVLC's may use theirs
        assert read_prototxt(GOLDEN / dialect / FILES[network], dialect=other).packs
    else:
        with pytest.raises(ParseError):
            read_prototxt(GOLDEN / dialect / FILES[network], dialect=other)


# Structure


def test_the_main_net_is_the_released_one_layer_by_layer():
    with (GOLDEN / "main_net_layers.tsv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["type"] != "Flatten"]
    net = net_of("ResNet-101", "srn")
    assert len(rows) == len(net.layer) == 340
    for row, layer in zip(rows, net.layer, strict=True):
        sizes = {"num_output": "", "kernel": "", "stride": "", "pad": ""}
        if layer.type == "Convolution":
            about = layer.convolution_param
            sizes = {"num_output": about.num_output, "kernel": about.kernel_size}
        elif layer.type == "Pooling":
            about = layer.pooling_param
            sizes = {"num_output": "", "kernel": about.kernel_size}
        if layer.type in ("Convolution", "Pooling"):
            sizes |= {"stride": about.stride, "pad": about.pad}
        expected = {"type": layer.type} | {name: str(value) for name, value in sizes.items()}
        assert {name: row[name] for name in expected} == expected, layer.name
    # the count's own landmarks: the paper's tap is Eltwise_304
    assert [net.layer[index].name for index in (32, 73, 304, 335)] == ["res2c", "res3b3", "res4b22", "res5c"]


@each_net
def test_counts_and_names(network, dialect):
    net = net_of(network, dialect)
    layers = by_name(net)
    assert len(layers) == len(net.layer), "names are unique"
    main = [name for name in layers if name.startswith(("conv1", "res"))]
    convolutions = [name for name in main if layers[name].type == "Convolution"]
    assert len(convolutions) == 104  # 1 in the stem, 3 in each of 33 units, 4 shortcuts
    assert [name for name in convolutions if name.endswith("branch1")] == [
        f"res{stage}a_branch1" for stage in (2, 3, 4, 5)
    ]
    units = [layer.name for layer in net.layer if layer.type == "Eltwise" and layer.name.startswith("res")]
    assert units[:4] == ["res2a", "res2b", "res2c", "res3a"]
    assert units[-5:] == ["res4b21", "res4b22", "res5a", "res5b", "res5c"]
    # every sum is normalised and rectified under its own name
    assert all(layers[f"{unit}_relu"].top[0] == f"{unit}_relu" for unit in units)
    assert all(layers[f"bn{unit[3:]}"].bottom[0] == unit for unit in units)
    assert not any(layers[name].convolution_param.bias_term for name in convolutions)
    strides = {name for name in convolutions if single(layers[name].convolution_param.stride) == 2}
    later = [f"res{stage}a_branch{branch}" for stage in (3, 4, 5) for branch in ("1", "2b")]
    assert strides == {"conv1", *later}, "stride 2 on the 3x3 convolution"


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_pre_activation(dialect):
    layers = by_name(net_of("ResNet-101", dialect))
    reads = {name: list(layer.bottom) for name, layer in layers.items()}
    assert reads["res2a_branch1"] == reads["res2a_branch2a"] == ["pool1"], "no pre-activation in the first unit"
    assert reads["res2a"] == ["res2a_branch2c", "res2a_branch1"]
    for unit, before in (("res3a", "res2c"), ("res4a", "res3b3"), ("res5a", "res4b22")):
        assert reads[f"{unit}_branch1"] == reads[f"{unit}_branch2a"] == [f"{before}_relu"], "one shared"
    for unit, before in (("res2b", "res2a"), ("res4b1", "res4a"), ("res4b22", "res4b21"), ("res5c", "res5b")):
        assert reads[f"{unit}_branch2a"] == [f"{before}_relu"]
        assert reads[unit] == [f"{unit}_branch2c", before], "the shortcut is the sum itself"
    assert reads["pool5"] == ["res5c_relu"]


def test_normalisation_of_each_dialect():
    net = net_of("ResNet-101", "srn")
    normalisations = layers_of(net, "BN")
    assert len(normalisations) == 1 + 2 * 33 + 33
    for layer in normalisations:
        assert layer.bottom[0] != layer.top[0], "the fork's BN must not be in place"
        about = layer.bn_param
        assert (about.slope_filler.value, about.bias_filler.value) == (1, 0)
        assert about.eps == pytest.approx(1e-5, rel=1e-6)  # float32
    net = net_of("ResNet-101", "bvlc")
    layers = list(net.layer)
    assert len(layers_of(net, "BatchNorm")) == len(normalisations) == len(layers_of(net, "Scale"))
    for layer, following in pairwise(layers):
        if layer.type == "BatchNorm":
            assert (following.type, following.scale_param.bias_term) == ("Scale", True)
            assert list(following.bottom) == list(following.top) == list(layer.top)
            assert layer.name.removeprefix("bn") == following.name.removeprefix("scale")
            assert (layer.top == layer.bottom) == (layer.bottom[0].startswith("conv") or "_branch" in layer.bottom[0])


def shapes_and_counts(net) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Blob shapes without the batch, and each layer's learned parameters, by Caffe's size rules."""
    first = net.layer[0]
    dims = net.input_shape[0].dim if net.input else first.input_param.shape[0].dim
    shapes = {"data": tuple(dims[1:])}
    counts = {}
    for layer in net.layer:
        shape = shapes[layer.bottom[0]] if layer.bottom else shapes["data"]
        count = 0
        if layer.type == "Convolution":
            about = layer.convolution_param
            kernel, pad, stride = single(about.kernel_size), single(about.pad), single(about.stride) or 1
            side = (shape[1] + 2 * pad - kernel) // stride + 1
            count = about.num_output * (shape[0] // about.group * kernel**2 + about.bias_term)
            shape = (about.num_output, side, side)
        elif layer.type == "Pooling":
            about = layer.pooling_param
            assert not about.pad
            shape = (shape[0], *[ceil((side - about.kernel_size) / about.stride) + 1 for side in shape[1:]])
        elif layer.type == "InnerProduct":
            count = layer.inner_product_param.num_output * (prod(shape) + 1)
            shape = (layer.inner_product_param.num_output,)
        elif layer.type in ("BN", "Scale"):
            count = 2 * shape[0]
        elif layer.type == "Reshape":
            wanted = layer.reshape_param.shape.dim[1:]
            known = [shape[index] if dim == 0 else dim for index, dim in enumerate(wanted)]
            shape = tuple(prod(shape) // -prod(known) if dim == -1 else dim for dim in known)
        elif layer.type == "Eltwise":
            assert all(shapes[bottom] == shape for bottom in layer.bottom), layer.name
        shapes[layer.top[0]] = shape
        counts[layer.name] = count
    return shapes, counts


@each_net
def test_sizes_follow_the_paper(network, dialect):
    builder = prototxt_gen.build_net(prototxt_gen.configure(network, dialect=dialect))
    shapes, counts = shapes_and_counts(builder.build())
    assert shapes["res4b22_relu"] == (1024, 14, 14)
    assert shapes["res5c_relu"] == (2048, 7, 7) and shapes["pool5"] == (2048, 1, 1)
    parts: dict[str, int] = {}
    for name, part in builder.parts.items():
        parts[part] = parts.get(part, 0) + counts[name]
    if network == "ResNet-101":
        assert builder.outputs() == ["y_cls"] and shapes["y_cls"] == (80,)
        assert set(parts) - {""} == {"main net", "classifier"}
        return
    assert builder.outputs() == ["y"] and shapes["y"] == (80,)
    assert all(shapes[symbol] == (80, 14, 14) for symbol in ("Z", "A", "S", "U"))
    assert shapes["A_flat"] == (80, 196), "softmax over positions, axis 2 with the batch"
    assert shapes["sr_conv3"] == (512, 14, 14) and shapes["sr_conv4"] == (2048, 1, 1)
    head = {part: count for part, count in parts.items() if part not in ("", "main net", "classifier")}
    assert head == {"attention": 2_925_648, "confidence": 82_000, "regularization": 871_504, "output": 0}
    assert sum(head.values()) == 3_879_152  # the text's head: about 3.9 million at C = 80


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_the_head(dialect):
    net = net_of("ResNet-SRN", dialect)
    layers = by_name(net)
    assert list(layers["att_conv1"].bottom) == list(layers["conf_conv1"].bottom) == ["res4b22_relu"]
    assert layers["att_softmax"].softmax_param.axis == 2
    assert layers["conf_conv1"].convolution_param.bias_term, "the paper's conv1 has a bias"
    assert sorted(layers["weighted_attention"].bottom) == ["A", "S_sigmoid"]
    assert layers["weighted_attention"].eltwise_param.operation == layers["weighted_attention"].eltwise_param.PROD
    conv4 = layers["sr_conv4"].convolution_param
    assert (conv4.num_output, single(conv4.kernel_size), conv4.group) == (2048, 14, 512)
    relu = [layer.bottom[0] for layer in layers_of(net, "ReLU") if layer.bottom[0].startswith(("att", "sr"))]
    assert relu == ["att_conv1", "att_conv2", "sr_conv2", "sr_conv3", "sr_conv4"]
    output = layers["weighted_sum"]
    assert (list(output.bottom), list(output.eltwise_param.coeff)) == (["y_cls", "y_sr"], [0.5, 0.5])


@each_net
def test_other_numbers_of_labels(network, dialect):
    builder = prototxt_gen.build_net(prototxt_gen.configure(network, "wider_att", dialect=dialect))
    assert shapes_and_counts(builder.build())[0][builder.outputs()[0]] == (14,)
    net = net_of(network, dialect, classes=23)
    shapes, _ = shapes_and_counts(net)
    assert shapes["y_cls"] == (23,) and "fc23" in by_name(net)
    text = prototxt_gen.net_text(network, dialect=dialect, classes=23)
    assert "23 labels instead of its 80" in text and "--classes 23" in text


@each_net
def test_miniatures_keep_the_structure(network, dialect):
    full, small = net_of(network, dialect), net_of(network, dialect, width_divisor=8)
    assert [(layer.name, layer.type) for layer in full.layer] == [(layer.name, layer.type) for layer in small.layer]
    large, little = shapes_and_counts(full)[0], shapes_and_counts(small)[0]
    assert little["res4b22_relu"] == (128, 14, 14)
    per_label = {"data", "Z", "Z_flat", "A_flat", "A", "S", "S_sigmoid", "U", "y_cls", "y_sr", "y"}
    for blob, shape in large.items():
        assert little[blob] == (shape if blob in per_label else (shape[0] // 8, *shape[1:])), blob
    text = prototxt_gen.net_text(network, dialect=dialect, width_divisor=8)
    assert "divided by 8" in text and "--width-divisor 8" in text


# The paper's numbers


def test_every_number_says_where_it_is_from():
    groups = (
        paper.MainNet,
        paper.Deeper,
        paper.Semantic,
        paper.Head,
        paper.ReleasedHead,
        paper.Training,
        paper.Augmentation,
        paper.Evaluation,
        paper.Claims,
    )
    for group in groups:
        facts = list(paper.facts(group()))
        assert len(facts) == len(group.__dataclass_fields__), group.__name__
        for fact in facts:
            assert [bool(fact.section), bool(fact.reason), bool(fact.source)].count(True) == 1, fact
    assert {data.name: data.classes for data in paper.DATASETS.values()} == {
        "NUS-WIDE": 81,
        "MS-COCO": 80,
        "WIDER-Attribute": 14,
    }


def test_the_header_says_what_is_reconstructed():
    text = (GOLDEN / "srn" / FILES["ResNet-SRN"]).read_text()
    head = text[: text.index('name: "ResNet-SRN"')]
    stated, reconstructed = head.split("# Reconstructed")
    assert "alpha = 0.5" in stated and "conv2 (1x1): 512" in reconstructed and "conv2 (1x1)" not in stated
    baseline = (GOLDEN / "srn" / FILES["ResNet-101"]).read_text()
    assert "conv4" not in baseline[: baseline.index('name: "')], "a baseline's header has no facts of the head"


# The command


def command(capsys, *arguments: str) -> tuple[int, str, str]:
    status = run(main, list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_write_to_a_folder_and_to_a_file(tmp_path, capsys):
    status, out, _ = command(
        capsys, "write", "--network", "ResNet-SRN", "--dataset", "nus_wide", "--output", str(tmp_path / "a/b")
    )
    path = tmp_path / "a/b/nus_wide_resnet101_srn_test.prototxt"
    assert status == 0 and f"wrote {path}: ResNet-SRN, 460 layers, dialect bvlc" in out
    assert path.exists()
    target = tmp_path / "mine.prototxt"
    status, out, _ = command(capsys, "write", "--network", "ResNet-101", "--dialect", "srn", "--output", str(target))
    assert status == 0 and f"wrote {target}: ResNet-101, 340 layers" in out
    assert target.read_bytes() == (GOLDEN / "srn" / FILES["ResNet-101"]).read_bytes()


def test_impossible_options_are_all_named(tmp_path, capsys):
    status, out, err = command(
        capsys, "write", "--network", "ResNet-SNR", "--dataset", "voc", "--dialect", "caffe",
        "--profile", "releasd", "--classes", "0", "--width-divisor", "3", "--output", str(tmp_path),
    )  # fmt: skip
    assert (status, out) == (2, "")
    lines = err.splitlines()
    assert len(lines) == 6
    assert lines[0] == (
        "error: --network ResNet-SNR is not possible; expected one of: ResNet-101, ResNet-107, ResNet-101-semantic,"
        " ResNet-SRN-att, ResNet-SRN. Did you mean 'ResNet-SRN'?"
    )
    assert "expected one of: nus_wide, coco, wider_att" in lines[1]
    assert "expected one of: bvlc, srn" in lines[2]
    assert lines[3].endswith("expected one of: paper, postact, released. Did you mean 'released'?")
    assert "--classes 0 is not possible; expected 1 or more labels" in lines[4]
    assert "expected one of: 1, 2, 4, 8, 16, 32, 64" in lines[5]
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_no_prototxt(tmp_path, capsys):
    output = str(tmp_path / "net.caffemodel")
    status, _, err = command(capsys, "write", "--network", "ResNet-101", "--output", output)
    assert status == 2 and "expected a folder or a name ending in .prototxt" in err
    (tmp_path / "file").write_text("")
    status, _, err = command(
        capsys, "write", "--network", "ResNet-101", "--output", str(tmp_path / "file" / "x.prototxt")
    )
    assert status == 2 and err.startswith("error: ") and "Traceback" not in err


def test_list(capsys):
    status, out, _ = command(capsys, "list")
    assert status == 0
    for word in (
        "ResNet-101",
        "ResNet-SRN",
        "coco",
        "MS-COCO, 80 labels",
        "paper",
        "bvlc",
        "srn",
        "weights:",
    ):
        assert word in out
    assert prototxt_gen.networks() == [
        "ResNet-101", "ResNet-107", "ResNet-101-semantic", "ResNet-SRN-att", "ResNet-SRN",
    ]  # fmt: skip


def test_weights_beside_a_net(tmp_path, capsys):
    """Written by the program that knows layers, after the net."""
    path = tmp_path / "net.prototxt"
    small = ("--network", "ResNet-101", "--width-divisor", "16", "--classes", "5")
    status, out, _ = command(capsys, "write", *small, "--weights", "seed:7", "--output", str(path))
    assert status == 0 and out.splitlines()[-1].startswith(f"{tmp_path / 'net.caffemodel'}: ")
    assert " values from seed 7, " in out and (tmp_path / "net.caffemodel").stat().st_size > 100_000
    other = tmp_path / "other.caffemodel"
    assert reference_weights.__main__.main(["seed", "7", "--prototxt", str(path), "--output", str(other)]) == 0
    assert other.read_bytes() == (tmp_path / "net.caffemodel").read_bytes()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sed:7", "expected kind:argument with the kind one of: seed. Did you mean 'seed'"),
        ("seed", "expected kind:argument with the kind one of: seed"),
    ],
)
def test_weights_that_cannot_be_written(spec, message, tmp_path, capsys):
    status, _, err = command(capsys, "write", "--network", "ResNet-101", "--weights", spec, "--output", str(tmp_path))
    assert status == 2 and message in err
    assert not list(tmp_path.iterdir()), "nothing is written when the weights cannot be"


def test_what_the_writer_of_weights_refuses_is_said(tmp_path, capsys):
    files = ("--network", "ResNet-101", "--width-divisor", "16", "--output", str(tmp_path / "n.prototxt"))
    status, _, err = command(capsys, "write", *files, "--weights", "seed:-1")
    assert status == 2 and err.startswith("error: the seed '-1'; expected a whole number of 0 or more")


@pytest.mark.parametrize(("name", "program"), [("describe", "port"), ("audit", "verify")])
def test_commands_that_moved_are_started(name, program, monkeypatch):
    calls = []
    monkeypatch.setattr("prototxt_gen.__main__.start", lambda *call: calls.append(call) or 3)
    assert prototxt_gen.__main__.main([name, "--json", "x"]) == 3
    assert calls == [(program, [{"describe": "inspect"}.get(name, name), "--json", "x"])]


# The library


def test_importing_the_generator_imports_neither_torch_nor_the_packages_above():
    code = (
        "import sys, prototxt_gen\n"
        "assert 'google.protobuf' not in sys.modules, 'the package itself is cheap'\n"
        "prototxt_gen.net_text('ResNet-SRN')\n"
        "import prototxt_gen.__main__\n"
        "above = {'torch', 'onnx', 'port', 'verify', 'reference_weights'} & set(sys.modules)\n"
        "assert not above, above"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_library_names():
    for name in prototxt_gen.__all__:
        assert getattr(prototxt_gen, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'write_nets'"):
        prototxt_gen.write_nets  # noqa: B018
    with pytest.raises(UsageError, match="Did you mean 'ResNet-SRN'"):
        prototxt_gen.configure("Resnet-SRN")
