"""Nets of one dialect in the other: equal blobs in phase TEST, and refusals that name everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from convert_nets import BVLC, OTHER, SRN, bn, layer

import port
from port.__main__ import main
from port.convert import convert_net, convert_weights
from port.convert.weights import blobs_of
from port.graph.build import build_graph
from port.graph.reference import run_reference
from port.graph.state import NetState
from port.weights.load import load_arrays
from prototxt_gen.base import command
from prototxt_gen.nets.write import net_text
from reference_weights.seed import write_for_net


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """The paper's net in both dialects, an eighth of its width, with seeded weights."""
    folder = tmp_path_factory.mktemp("nets")
    for dialect in OTHER:
        path = folder / f"{dialect}.prototxt"
        path.write_text(net_text("ResNet-SRN", dialect=dialect, width_divisor=8))
        write_for_net(path, "7", path.with_suffix(".caffemodel"))
    return folder


IMAGE = np.random.default_rng(3).normal(0, 60, (1, 3, 224, 224))


@pytest.mark.parametrize("dialect", ["srn", "bvlc"])
def test_paper_net_in_float64(nets, dialect):
    """Every blob that both nets have, against the float64 reference: 1e-12 is a few hundred roundings."""
    conversion = convert_net(nets / f"{dialect}.prototxt", OTHER[dialect])
    old, new = (build_graph(net, NetState()) for net in (conversion.source, conversion.parsed))
    arrays, _ = load_arrays(old, nets / f"{dialect}.caffemodel")
    held = blobs_of(old, arrays)
    before = run_reference(old, held, {"data": IMAGE})
    after = run_reference(new, conversion.blobs(held), {"data": IMAGE})
    common = set(old.blobs()) & set(new.blobs())
    assert len(common) > 200 and "y" in common
    for blob in common:
        error = np.abs(before[blob] - after[blob]).max() / np.abs(before[blob]).max()
        assert error < 1e-12, blob
    assert np.abs(before["y"] - run_reference(new, conversion.blobs(held), {"data": IMAGE + 1})["y"]).max() > 1e-3


@pytest.mark.parametrize("dialect", ["srn", "bvlc"])
@pytest.mark.parametrize("suffix", [".caffemodel", ".caffemodel.h5"])
def test_paper_net_in_torch(nets, tmp_path, dialect, suffix):
    """From the written files. float32 through 101 layers: the statistics are divided by 999.5 and rounded."""
    old, new = nets / f"{dialect}.prototxt", tmp_path / "new.prototxt"
    arguments = ["convert", "--prototxt", old, "--caffemodel", old.with_suffix(".caffemodel")]
    arguments += [
        "--to",
        OTHER[dialect],
        "--output-prototxt",
        new,
        "--output-caffemodel",
        tmp_path / f"w{suffix}",
    ]
    assert command.run(main, list(map(str, arguments))) == 0
    before = port.load_net(old, old.with_suffix(".caffemodel"))
    after = port.load_net(new, tmp_path / f"w{suffix}")
    assert after.caffe.dialect == OTHER[dialect] and not after.report.unused and not after.report.missing
    image = torch.tensor(IMAGE, dtype=torch.float32)
    with torch.no_grad():
        expected, found = before(data=image)["y"], after(data=image)["y"]
    assert (expected - found).abs().max() <= 1e-6 * expected.abs().max()


def convert_files(prototxt, to, folder):
    conversion = convert_net(prototxt, to)
    new = folder / f"{to}.prototxt"
    new.write_text(conversion.text())
    convert_weights(conversion, prototxt.with_suffix(".caffemodel"), new.with_suffix(".caffemodel"))
    return new


def body(path):
    """A prototxt without comments."""
    return "".join(line for line in path.read_text().splitlines(True) if not line.startswith("#")).strip()


def test_round_trip_from_srn(nets, tmp_path):
    """The same definition and the same bytes of weights."""
    old = nets / "srn.prototxt"
    new = convert_files(convert_files(old, "bvlc", tmp_path), "srn", tmp_path)
    assert body(new) == body(old)
    assert new.with_suffix(".caffemodel").read_bytes() == old.with_suffix(".caffemodel").read_bytes()


def test_round_trip_from_bvlc(nets, tmp_path):
    """Names and slopes as they were; the statistics divided by their weight."""
    old = nets / "bvlc.prototxt"
    new = convert_files(convert_files(old, "srn", tmp_path), "bvlc", tmp_path)
    before, after = (port.params(port.load_net(p, p.with_suffix(".caffemodel"))) for p in (old, new))
    assert list(before) == list(after)
    for name, blobs in before.items():
        if len(blobs) == 3:  # BatchNorm
            assert blobs[2] == 999.5 and after[name][2] == 1
            blobs = [blobs[0] / 999.5, blobs[1] / 999.5, after[name][2]]
        for blob, other in zip(blobs, after[name], strict=True):
            torch.testing.assert_close(blob, other, rtol=2e-7, atol=0)  # one float32 rounding


def test_transposed_weights(tmp_path):
    """The weight is turned over, and a filler that looks at its fans keeps its scale."""
    fields = "num_output: 7 transpose: true weight_filler { type: 'xavier' }"
    (tmp_path / "a.prototxt").write_text(BVLC + layer("InnerProduct", f"inner_product_param {{ {fields} }}"))
    net = port.load_net(tmp_path / "a.prototxt", seed=4)
    port.save_caffemodel(net, tmp_path / "a.caffemodel")
    new = convert_files(tmp_path / "a.prototxt", "srn", tmp_path)
    other = port.load_net(new, new.with_suffix(".caffemodel"))
    assert port.params(other)["l"][0].shape == (7, 90)
    filler = other.caffe.net.layer[-1].inner_product_param.weight_filler
    assert (filler.type, filler.variance_norm) == ("xavier", filler.FAN_OUT)
    data = torch.randn(2, 3, 6, 5)
    torch.testing.assert_close(net(data=data), other(data=data), rtol=1e-5, atol=1e-6)  # another order of sums


# --- the command


def run(folder, *arguments):
    return command.run(main, ["convert", "--prototxt", str(folder / "a.prototxt"), *map(str, arguments)])


def test_command_says_what_differs(tmp_path, capsys):
    (tmp_path / "a.prototxt").write_text(SRN + bn("slope_filler { value: 1 }"))
    assert run(tmp_path, "--to", "bvlc", "--output-prototxt", tmp_path / "b.prototxt") == 0
    out = capsys.readouterr().out
    assert "dialect srn (the layer type 'BN'" in out and "BN layers made BatchNorm and Scale: 1" in out
    assert "training is not identical" in out and "3 layers, dialect bvlc" in out
    assert "# Converted from the dialect srn to bvlc." in (tmp_path / "b.prototxt").read_text()
    assert port.load_net(tmp_path / "b.prototxt").caffe.dialect == "bvlc"


def test_data_layers_need_their_shapes(tmp_path, capsys):
    """Only the database knows the shape of a Data layer's top; without it weights cannot be checked."""
    text = layer("Data", "data_param { source: 'd' batch_size: 2 }", "", "data", "d") + bn("slope_filler { value: 1 }")
    (tmp_path / "a.prototxt").write_text(text)
    net = port.load_net(tmp_path / "a.prototxt", input_shapes={"data": (2, 3, 4, 5)}, phase="TRAIN")
    port.save_caffemodel(net, tmp_path / "a.caffemodel")
    outputs = [
        "--to",
        "bvlc",
        "--output-prototxt",
        tmp_path / "b.prototxt",
        "--output-caffemodel",
        tmp_path / "b",
    ]
    weights = ["--caffemodel", tmp_path / "a.caffemodel", "--phase", "TRAIN"]
    assert run(tmp_path, *outputs, *weights) == 2
    assert "depends on the database" in capsys.readouterr().err and not list(tmp_path.glob("b*"))
    assert run(tmp_path, *outputs, *weights, "--input-shape", "data=2x3x4x5") == 0
    with pytest.raises(SystemExit):
        run(tmp_path, *outputs, *weights, "--input-shape", "data")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--to", "srn"], "in the dialect srn already"),
        (["--to", "bvlc", "--caffemodel", "w"], "go together: give both"),
        (["--to", "bvlc", "--output-caffemodel", "w"], "go together"),
        (["--to", "bvlc", "--caffemodel", "none", "--output-caffemodel", "w"], "none: cannot read"),
    ],
)
def test_bad_usage(tmp_path, capsys, monkeypatch, arguments, message):
    """Status 2, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.prototxt").write_text(SRN + bn())
    assert run(tmp_path, *arguments, "--output-prototxt", "b.prototxt") == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.prototxt"]
