"""Seeded weights: the same bytes everywhere, no two channels alike, statistics as of a trained net."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from small_nets import conv, fully, inputs, layer, miniature

import port
from port.caffemodel import read_caffemodel
from port.images import load_image, sample_images
from prototxt_gen import write_net
from prototxt_gen.base.errors import UsageError
from reference_weights.seed import parse_seed, rounded, write_for_net

GOLDEN = Path(__file__).parents[1] / "golden" / "layers"


@pytest.fixture
def seeded(tmp_path):
    """Text and seed -> layer -> blobs, as read from the written file."""

    def write(text: str, seed: int = 7) -> dict[str, list[np.ndarray]]:
        prototxt, path = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
        prototxt.write_text(text)
        line = write_for_net(prototxt, str(seed), path)
        assert str(path) in line and f"from seed {seed}, {path.stat().st_size:,} bytes" in line
        with read_caffemodel(path) as model:
            return {m.name: [np.array(blob.data) for blob in m.blobs] for m in model.layers if m.blobs}

    return write


# -- the paper's net in miniature -----------------------------------------------------------------------------
def test_the_bytes_are_the_same_on_every_machine():
    """Pinned: whoever changes the numbers on purpose changes this line with them."""
    data = miniature("srn").with_suffix(".caffemodel").read_bytes()
    assert hashlib.sha256(data).hexdigest() == "41ce55d37837eabeb74fd65cd8d03a5f523fc377440501626c6dce25431e6117"


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_every_layer_is_there_and_fits(dialect):
    prototxt = miniature(dialect)
    report = port.load_net(prototxt, prototxt.with_suffix(".caffemodel")).report
    assert report.missing == report.unused == []
    assert len(report.taken) == {"bvlc": 313, "srn": 213}[dialect]


def test_both_dialects_draw_the_same_weights():
    """The layers that both have; scales differ by what the normalisation before them makes of its statistics."""
    with (
        read_caffemodel(miniature("bvlc").with_suffix(".caffemodel")) as bvlc,
        read_caffemodel(miniature("srn").with_suffix(".caffemodel")) as srn,
    ):
        theirs = {m.name: m for m in srn.layers}
        checked = 0
        for mine in (m for m in bvlc.layers if m.type in ("Convolution", "InnerProduct")):
            a, b = (np.float64(m.blobs[0].data).ravel() for m in (mine, theirs[mine.name]))
            assert np.corrcoef(a, b)[0, 1] > 1 - 1e-9
            checked += 1
    assert checked > 100


def channels(blobs: list[np.ndarray]) -> np.ndarray:
    """One row an output channel: its part of every blob of a layer (of BN's 1 x C too)."""
    blobs = [blob.reshape(-1) if blob.ndim == 2 and len(blob) == 1 else blob for blob in blobs]
    count = max(len(blob) for blob in blobs)
    return np.hstack([blob.reshape(count, -1) for blob in blobs if blob.size > 1])


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_no_two_channels_are_alike(dialect):
    """A port that mixes up channels must not get away with it."""
    prototxt = miniature(dialect)
    net = port.load_net(prototxt, prototxt.with_suffix(".caffemodel"))
    for name, held in port.params(net).items():
        blobs = [blob.detach().numpy() for blob in held]
        rows = channels(blobs)
        assert len(rows) > 1 and len(np.unique(rows, axis=0)) == len(rows), name
        for spec, values in zip(net.caffe.node(name).specs, blobs, strict=True):
            # measured ones are rounded, so that some may agree
            assert np.isfinite(values).all() and len(np.unique(values)) > 0.8 * values.size, f"{name} {spec.name}"
            assert spec.name != "variance" or values.min() > 0


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_activations_on_a_photograph_are_of_ordinary_size(dialect):
    prototxt = miniature(dialect)
    net = port.load_net(prototxt, prototxt.with_suffix(".caffemodel"))
    blobs = port.run_blobs(net, {"data": load_image(sample_images()[0], 224, 224)[None]})
    # shares of 196 positions, which sum to 1, and what is multiplied by them
    attention = {"A", "A_flat", "U"}
    for name, values in blobs.items():
        assert np.isfinite(values).all() and values.std() > 0
        if name not in attention | {"data"}:
            assert 0.05 < values.std() < 20, f"{name}: {values.std()}"
    # attention is neither uniform nor a single spike
    peaks = blobs["A"].reshape(80, -1).max(1)
    assert 1.2 / 196 < peaks.mean() < 0.5


# -- small nets ---------------------------------------------------------------------------------------------------
HEAD = inputs(data=(2, 3, 17, 19)) + conv("conv1", "data", "conv1", 6, 3)
TAIL = fully("fc", "conv1", "fc", 7)
RELU = layer("relu1", "ReLU", "conv1", "conv1")
EXTRA = conv("extra", "conv1", "extra", 5, 3)


def test_another_seed_gives_other_numbers(seeded):
    one, again, other = seeded(HEAD + TAIL), seeded(HEAD + TAIL), seeded(HEAD + TAIL, 8)
    for name, blobs in one.items():
        for a, b, c in zip(blobs, again[name], other[name], strict=True):
            assert (a == b).all() and not np.isclose(a, c).any()


def test_the_net_as_a_whole_is_deterministic(tmp_path):
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(HEAD + RELU + TAIL)
    for name in ("a", "b"):
        write_for_net(prototxt, "3", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_layer_keeps_its_numbers_when_others_come_and_go(tmp_path):
    """By the plain fillers: nothing that stands elsewhere in the net moves a layer's draws."""

    def filled(text: str):
        (tmp_path / "net.prototxt").write_text(text)
        return port.params(port.load_net(tmp_path / "net.prototxt", seed=7))

    plain, more = filled(HEAD + TAIL), filled(HEAD + RELU + EXTRA + TAIL)
    assert set(more) - set(plain) == {"extra"}
    for name, blobs in plain.items():
        assert all((a == b).all() for a, b in zip(blobs, more[name], strict=True))
    assert not (
        filled(HEAD.replace('"conv1"', '"renamed"') + TAIL.replace("conv1", "renamed"))["renamed"][0]
        == plain["conv1"][0]
    ).any()


def test_a_seeded_layer_keeps_its_draws_up_to_scale(seeded):
    plain, more = seeded(HEAD + TAIL), seeded(HEAD + EXTRA + TAIL)
    for name, blobs in plain.items():
        assert np.corrcoef(blobs[0].ravel(), more[name][0].ravel())[0, 1] > 1 - 1e-9


def test_layers_without_fillers_get_signals_through(seeded, tmp_path):
    """Caffe's default filler is zero, with which every later blob would be zero too."""
    text = inputs(data=(2, 3, 17, 19))
    text += layer("c", "Convolution", "data", "c", "convolution_param { num_output: 6 kernel_size: 3 }")
    text += layer("n", "BatchNorm", "c", "n") + layer("s", "Scale", "n", "s", "scale_param { bias_term: true }")
    text += layer("f", "InnerProduct", "s", "f", "inner_product_param { num_output: 7 }")
    blobs = seeded(text)
    for group in blobs.values():
        rows = channels(group)
        assert len(np.unique(rows, axis=0)) == len(rows) >= 6
    x = np.random.default_rng(0).standard_normal((2, 3, 17, 19)).astype(np.float32) * 65
    net = port.load_net(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    for name, values in port.run_blobs(net, {"data": x}).items():
        assert name == "data" or 0.05 < values.std() < 20


def test_statistics_are_those_of_what_arrives(seeded):
    """Off by about a tenth, as on other images; BatchNorm's are sums with their weight."""
    text = HEAD + layer("n", "BatchNorm", "conv1", "n") + layer("s", "Scale", "n", "s")
    mean, variance, count = seeded(text)["n"]
    assert count.tolist() == [999.5]
    assert np.abs(mean / count).max() < 2 and 0.1 < (variance / count).min() < (variance / count).max() < 5
    slope, bias, mean2, variance2 = seeded(HEAD + layer("n", "BN", "conv1", "n"))["n"]
    assert slope.shape == bias.shape == mean2.shape == (1, 6)
    np.testing.assert_allclose(mean2[0], mean / count, rtol=1e-3)
    np.testing.assert_allclose(variance2[0], variance / count, rtol=1e-3)


def test_measured_numbers_are_rounded_to_4_digits():
    values = rounded(np.array([0, 123456, -0.00098764, 1.00004999, 9.9996e-7]))
    assert values.tolist() == pytest.approx([0, 123500, -0.0009876, 1, 1e-6], rel=1e-12)
    noise = np.random.default_rng(0).uniform(-1, 1, 1000)
    assert (rounded(noise) == rounded(noise * (1 + 1e-13))).all()


@pytest.mark.parametrize(
    "case", ["bvlc/lstm", "bvlc/embed", "srn/prelu", "bvlc/parameter", "bvlc/relu", "srn/srn_head"]
)
def test_any_net_can_be_seeded(case, tmp_path):
    """Among them nets whose inputs are no images, and one without parameters."""
    prototxt = GOLDEN / f"{case}.prototxt"
    write_for_net(prototxt, "1", tmp_path / "w.caffemodel")
    net = port.load_net(prototxt, tmp_path / "w.caffemodel")
    assert net.report.missing == []
    assert all(np.isfinite(b.detach().numpy()).all() for blobs in port.params(net).values() for b in blobs)


# -- the option ---------------------------------------------------------------------------------------------------
def test_what_is_a_seed():
    assert parse_seed("0") == 0 and parse_seed("18446744073709551616") == 2**64
    for text in ("abc", "", "-1", "1.5", "7 ", "0x7", "seed"):
        with pytest.raises(UsageError, match=f"the seed '{text}'; expected a whole number of 0 or more, as in seed:7"):
            parse_seed(text)


@pytest.mark.parametrize("weights", ["seed:abc", "seed:", "seed:-1"])
def test_a_bad_seed_is_refused(tmp_path, weights):
    with pytest.raises(UsageError, match="expected a whole number"):
        write_net(tmp_path, "ResNet-SRN", width_divisor=64, weights=weights)
    assert not list(tmp_path.glob("*.caffemodel"))


def test_an_unknown_kind_of_weights_is_refused(tmp_path):
    for weights in ("sed:7", "seed", "7"):
        with pytest.raises(UsageError, match="kind:argument with the kind one of: "):
            write_net(tmp_path, "ResNet-SRN", width_divisor=64, weights=weights)
    assert not list(tmp_path.iterdir())
