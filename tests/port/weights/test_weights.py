"""Weights: loading by layer name with Caffe's shape rules, what does not fit, sharing, and saving as Caffe does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_nets import conv, fully, inputs, layer

import port
from port.caffemodel import read_caffemodel, write_net
from port.layers import REGISTRY
from prototxt_gen.base.errors import CaffeError, WeightsError
from prototxt_gen.schema import message_class
from verify.parity.golden import read_recording

GOLDEN = Path(__file__).parents[2] / "golden" / "layers"
NET = inputs(data=(2, 3, 5, 7)) + conv("c", "data", "c", 4, 3) + layer("r", "ReLU", "c", "c") + fully("f", "c", "f", 6)
SHAPES = {"c": [(4, 3, 3, 3), (4,)], "f": [(6, 60), (6,)]}


@pytest.fixture
def prototxt(tmp_path) -> Path:
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return path


def numbers(shape, start: int = 0) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) / 7 + start).astype(np.float32)


def saved(path: Path, layers: dict[str, list], kind: str = "Convolution", dialect: str = "bvlc") -> Path:
    """A weights file with these layers, written without the port's own saving: name -> shapes or arrays."""
    net = message_class("NetParameter", dialect)(name="other")
    blobs = []
    for name, wanted in layers.items():
        net.layer.add(name=name, type=kind)
        blobs.append([w if isinstance(w, np.ndarray) else numbers(w, i) for i, w in enumerate(wanted)])
    write_net(path, net, blobs)
    return path


def problems(*args, **options) -> list:
    with pytest.raises(WeightsError) as caught:
        port.load_net(*args, **options)
    return caught.value.problems


# -- loading ----------------------------------------------------------------------------------------------------
def test_layers_are_found_by_name_whatever_their_order_and_type(prototxt, tmp_path):
    path = saved(tmp_path / "w.caffemodel", dict(reversed(SHAPES.items())), kind="Eltwise")
    held = port.params(port.load_net(prototxt, path))
    assert list(held) == ["c", "f"]
    for name, blobs in held.items():
        for i, blob in enumerate(blobs):
            assert blob.shape == SHAPES[name][i] and (blob.detach().numpy() == numbers(SHAPES[name][i], i)).all()


def test_the_report_accounts_for_every_layer(prototxt, tmp_path):
    layers = SHAPES | {"old_classifier": [(9, 60), (9,)], "pool": []}
    report = port.load_net(prototxt, saved(tmp_path / "w.caffemodel", layers)).report
    assert (report.files, report.taken, report.missing) == (["w.caffemodel"], ["c", "f"], [])
    assert report.unused == ["old_classifier"]  # a layer without blobs is nothing to lose
    text = str(report)
    assert "2 layers taken from w.caffemodel" in text and "1 not in the net: old_classifier" in text


def test_missing_layers_are_all_listed(tmp_path):
    text = inputs(data=(2, 3)) + "".join(fully(f"f{i}", "data", f"f{i}", 2 + i) for i in range(4))
    (tmp_path / "net.prototxt").write_text(text)
    path = saved(tmp_path / "w.caffemodel", {"f2": [(4, 3), (4,)]})
    found = problems(tmp_path / "net.prototxt", path)
    assert [(p.layer, p.found, p.expected) for p in found] == [
        ("f0", "the file has no such layer", "blobs 2x3, 2"),
        ("f1", "the file has no such layer", "blobs 3x3, 3"),
        ("f3", "the file has no such layer", "blobs 5x3, 5"),
    ]
    assert all(str(p.file) == str(path) for p in found)


def test_wrong_shapes_are_all_listed(prototxt, tmp_path):
    path = saved(tmp_path / "w.caffemodel", {"c": [(4, 3, 3, 5), (5,)], "f": [(60, 6), (6,)]})
    assert [(p.layer, p.field, p.found, p.expected) for p in problems(prototxt, path)] == [
        ("c", "blobs[0]", "weight is 4x3x3x5", "4x3x3x3"),
        ("c", "blobs[1]", "bias is 5", "4"),
        ("f", "blobs[0]", "weight is 60x6", "6x60"),
    ]


@pytest.mark.parametrize("blobs", [[], [(4, 3, 3, 3)], [(4, 3, 3, 3), (4,), (4,)]])
def test_a_layer_takes_all_its_blobs_or_none(prototxt, tmp_path, blobs):
    found = problems(prototxt, saved(tmp_path / "w.caffemodel", SHAPES | {"c": blobs}))
    assert [p.layer for p in found] == ["c"]
    assert found[0].found.startswith(f"{len(blobs)} blobs (") and "2 for Convolution (4x3x3x3, 4)" in found[0].expected


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (4, 1, 1, 1), ()])
def test_a_shape_must_be_exact(prototxt, tmp_path, shape):
    path = saved(tmp_path / "w.caffemodel", SHAPES | {"c": [(4, 3, 3, 3), shape]})
    assert [p.field for p in problems(prototxt, path)] == ["blobs[1]"]


def test_missing_and_wrong_at_once(prototxt, tmp_path):
    found = problems(prototxt, saved(tmp_path / "w.caffemodel", {"c": [(4, 3, 3, 5), (4,)]}))
    assert [(p.layer, p.field) for p in found] == [("c", "blobs[0]"), ("f", "")]


def test_the_weights_of_another_net(prototxt):
    found = problems(prototxt, GOLDEN / "bvlc" / "inner_product_0.caffemodel")
    assert [p.layer for p in found] == ["c", "f", ""]
    assert found[-1].found == "no layer of the net is in the file" and "another net" in found[-1].fix


def test_a_truncated_file(prototxt, tmp_path):
    data = saved(tmp_path / "w.caffemodel", SHAPES).read_bytes()
    for length in (0, 1, 13, len(data) // 2, len(data) - 1):
        (tmp_path / "w.caffemodel").write_bytes(data[:length])
        (problem,) = problems(prototxt, tmp_path / "w.caffemodel")
        assert str(problem.file) == str(tmp_path / "w.caffemodel") and problem.found


def test_a_web_page_saved_as_caffemodel(prototxt, tmp_path):
    (tmp_path / "w.caffemodel").write_text("<!DOCTYPE html>\n<html><head><title>Quota exceeded</title></head></html>\n")
    (problem,) = problems(prototxt, tmp_path / "w.caffemodel")
    assert "HTML" in str(problem) or "web page" in str(problem)


def test_a_prototxt_or_nothing_instead_of_weights(prototxt, tmp_path):
    for path in (prototxt, tmp_path / "absent.caffemodel", tmp_path):
        (problem,) = problems(prototxt, path)
        assert str(problem.file) == str(path)


def test_several_files_later_ones_win(prototxt, tmp_path):
    first = saved(tmp_path / "a.caffemodel", SHAPES)
    second = saved(tmp_path / "b.caffemodel", {"f": [numbers((6, 60), 50), numbers((6,), 60)]})
    for files in (f"{first},{second}", f" {first} , {second},", [first, second], (str(first), str(second))):
        net = port.load_net(prototxt, files)
        held = port.params(net)
        assert (held["f"][0].detach().numpy() == numbers((6, 60), 50)).all()
        assert (held["c"][0].detach().numpy() == numbers((4, 3, 3, 3))).all()
        assert net.report.files == ["a.caffemodel", "b.caffemodel"] and net.report.taken == ["c", "f"]
    held = port.params(port.load_net(prototxt, f"{second},{first}"))
    assert (held["f"][0].detach().numpy() == numbers((6, 60))).all()
    only = saved(tmp_path / "c.caffemodel", {"c": SHAPES["c"]})
    assert port.load_net(prototxt, f"{only},{second}").report.missing == []  # each file may hold a part


def test_problems_of_several_files_name_each(prototxt, tmp_path):
    first = saved(tmp_path / "a.caffemodel", {"c": [(4, 3, 3, 5), (4,)]})
    second = saved(tmp_path / "b.caffemodel", {"f": [(6, 61), (6,)]})
    found = problems(prototxt, [first, second])
    assert [(Path(p.file).name, p.layer) for p in found] == [("a.caffemodel", "c"), ("b.caffemodel", "f")]


def test_not_strict_fills_what_is_missing(prototxt, tmp_path):
    path = saved(tmp_path / "w.caffemodel", {"c": SHAPES["c"]})
    net = port.load_net(prototxt, path, strict=False, seed=5)
    assert net.report.missing == ["f"] and "1 without weights, filled: f" in str(net.report)
    held, filled = port.params(net), port.params(port.load_net(prototxt, seed=5))
    assert torch.equal(held["f"][0], filled["f"][0]) and held["f"][0].std() > 0.1
    assert not torch.equal(held["c"][0], filled["c"][0])
    # a shape that does not fit is refused all the same
    assert problems(prototxt, saved(path, {"c": [(4, 3, 3, 5), (4,)]}), strict=False)


def test_loaded_values_are_not_the_files(prototxt, tmp_path):
    """The file is mapped read-only; the net's parameters are writable and changing them leaves it alone."""
    path = saved(tmp_path / "w.caffemodel", SHAPES)
    before = path.read_bytes()
    with torch.no_grad():
        port.params(port.load_net(prototxt, path))["c"][0].mul_(2)
    assert path.read_bytes() == before


def test_loading_into_a_net_that_exists(prototxt, tmp_path):
    net = port.load_net(prototxt)
    held = port.params(net)
    report = port.load_weights(net, saved(tmp_path / "w.caffemodel", SHAPES))
    assert report.taken == ["c", "f"] and held["c"][0].grad_fn is None
    assert port.params(net)["c"][0] is held["c"][0]  # the same tensors, so that an optimiser keeps them
    assert (held["c"][0].detach().numpy() == numbers((4, 3, 3, 3))).all()
    with pytest.raises(WeightsError):
        port.load_weights(net, saved(tmp_path / "x.caffemodel", {"c": [(4, 3, 3, 5), (4,)]}))


# -- old shapes ------------------------------------------------------------------------------------------------
def legacy(path: Path, layers: dict[str, list[tuple[int, int, int, int]]], old_layers: bool = False) -> Path:
    """A weights file whose blobs have num, channels, height, width; or one of the V1 format."""
    net = message_class("NetParameter", "bvlc")()
    for name, shapes in layers.items():
        entry = net.layers.add(name=name, type="CONVOLUTION") if old_layers else net.layer.add(name=name)
        for i, shape in enumerate(shapes):
            blob = entry.blobs.add(**dict(zip(("num", "channels", "height", "width"), shape, strict=True)))
            blob.data.extend(numbers(shape, i).flat)
    path.write_bytes(net.SerializeToString())
    return path


@pytest.mark.parametrize("old_layers", [False, True])
def test_shapes_of_four_numbers_are_right_aligned(prototxt, tmp_path, old_layers):
    shapes = {"c": [(4, 3, 3, 3), (1, 1, 1, 4)], "f": [(1, 1, 6, 60), (1, 1, 1, 6)]}
    held = port.params(port.load_net(prototxt, legacy(tmp_path / "w.caffemodel", shapes, old_layers)))
    assert (held["c"][1].detach().numpy() == numbers((4,), 1)).all()
    assert (held["f"][0].detach().numpy() == numbers((6, 60))).all()


@pytest.mark.parametrize("bias", [(4, 1, 1, 1), (1, 4, 1, 1), (1, 1, 4, 1)])
def test_shapes_of_four_numbers_aligned_otherwise_do_not_fit(prototxt, tmp_path, bias):
    shapes = {"c": [(4, 3, 3, 3), bias], "f": [(1, 1, 6, 60), (1, 1, 1, 6)]}
    (problem,) = problems(prototxt, legacy(tmp_path / "w.caffemodel", shapes))
    assert (problem.layer, problem.field) == ("c", "blobs[1]")


def test_old_shapes_of_the_forks_bn(tmp_path):
    (tmp_path / "net.prototxt").write_text(inputs(data=(2, 3, 5, 7)) + layer("n", "BN", "data", "n"))
    path = tmp_path / "w.caffemodel"
    held = port.params(port.load_net(tmp_path / "net.prototxt", legacy(path, {"n": [(1, 1, 1, 3)] * 4})))
    assert [tuple(blob.shape) for blob in held["n"]] == [(1, 3)] * 4
    assert len(problems(tmp_path / "net.prototxt", legacy(path, {"n": [(1, 3, 1, 1)] * 4}))) == 4


# -- shared parameters -----------------------------------------------------------------------------------------
SHARED = (
    inputs(data=(2, 3))
    + fully("one", "data", "a", 3, 'param { name: "w" } param { name: "b" }')
    + fully("two", "a", "out", 3, 'param { name: "w" } param { name: "b" }')
)


def shared_net(tmp_path, dialect: str, **options):
    (tmp_path / "net.prototxt").write_text(SHARED)
    return port.load_net(tmp_path / "net.prototxt", dialect=dialect, **options)


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_shared_parameters_are_one_storage(tmp_path, dialect):
    held = port.params(shared_net(tmp_path, dialect))
    for mine, theirs in zip(held["one"], held["two"], strict=True):
        assert mine.data_ptr() == theirs.data_ptr()
        with torch.no_grad():
            mine.add_(1)
        assert torch.equal(mine, theirs)
    assert (held["one"][0] is held["two"][0]) == (dialect == "bvlc")


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_gradients_of_shared_parameters(tmp_path, dialect):
    """BVLC adds all gradients up in the owner; the fork's sharers keep their own (semantics 2.7)."""
    net = shared_net(tmp_path, dialect)
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    net(data=x)["out"].square().sum().backward()
    held = port.params(net)
    w, b = (blob.detach().clone().requires_grad_() for blob in held["one"])
    w2, b2 = (blob.detach().clone().requires_grad_() for blob in held["one"])
    (((x @ w.T + b) @ w2.T) + b2).square().sum().backward()
    if dialect == "bvlc":
        torch.testing.assert_close(held["one"][0].grad, w.grad + w2.grad)
        torch.testing.assert_close(held["two"][1].grad, b.grad + b2.grad)
    else:
        for name, expected in (("one", (w, b)), ("two", (w2, b2))):
            for blob, alone in zip(held[name], expected, strict=True):
                torch.testing.assert_close(blob.grad, alone.grad)


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_shared_parameters_are_saved_in_full_and_loaded(tmp_path, dialect):
    net = shared_net(tmp_path, dialect)
    port.save_caffemodel(net, tmp_path / "w.caffemodel")
    with read_caffemodel(tmp_path / "w.caffemodel") as model:
        assert [[blob.shape for blob in m.blobs] for m in model.layers if m.blobs] == [[(3, 3), (3,)]] * 2
    again = shared_net(tmp_path, dialect, caffemodel=tmp_path / "w.caffemodel", seed=9)
    assert torch.equal(port.params(again)["two"][0], port.params(net)["one"][0])


def test_permissive_sharing_reshapes(tmp_path):
    text = inputs(data=(2, 6)) + fully("one", "data", "a", 4, 'param { name: "w" }')
    text += fully("two", "a", "out", 6, 'param { name: "w" share_mode: PERMISSIVE }')
    (tmp_path / "net.prototxt").write_text(text)
    held = port.params(port.load_net(tmp_path / "net.prototxt"))
    assert held["one"][0].shape == (4, 6) and held["two"][0].shape == (6, 4)
    assert held["one"][0].data_ptr() == held["two"][0].data_ptr()


def test_a_blob_that_only_its_owner_has(tmp_path):
    """Of shared blobs a file needs to hold one; the other layer's own blobs stay wanted."""
    text = inputs(data=(2, 3)) + fully("one", "data", "a", 3, 'param { name: "w" }')
    text += fully("two", "a", "out", 3, 'param { name: "w" }')
    (tmp_path / "net.prototxt").write_text(text)
    (problem,) = problems(tmp_path / "net.prototxt", saved(tmp_path / "w.caffemodel", {"one": [(3, 3), (3,)]}))
    assert problem.layer == "two"
    (tmp_path / "net.prototxt").write_text(SHARED)
    net = port.load_net(tmp_path / "net.prototxt", saved(tmp_path / "w.caffemodel", {"one": [(3, 3), (3,)]}))
    assert (port.params(net)["two"][0].detach().numpy() == numbers((3, 3))).all()


# -- saving -----------------------------------------------------------------------------------------------------
CASES = [pytest.param(path, id=f"{path.parent.name}-{path.stem}") for path in sorted(GOLDEN.glob("*/*.caffemodel"))]


@pytest.mark.parametrize("case", CASES)
def test_a_saved_net_is_byte_for_byte_what_caffe_saved(case, tmp_path):
    """Split layers, phases, implicit loss weights, param entries of statistics, order and packing of all fields."""
    with read_caffemodel(case) as model:
        unknown = {saved_layer.type for saved_layer in model.layers} - set(REGISTRY)
    if unknown:
        pytest.skip(f"layers that are not supported: {unknown}")
    prototxt = case.with_suffix(".prototxt")
    phase = read_recording(prototxt).phase
    net = port.load_net(prototxt, case, phase=phase, dialect=case.parent.name)
    port.save_caffemodel(net, tmp_path / "w.caffemodel")
    assert (tmp_path / "w.caffemodel").read_bytes() == case.read_bytes()


def test_saving_follows_the_parameters(tmp_path):
    case = GOLDEN / "srn" / "srn_head.caffemodel"
    net = port.load_net(case.with_suffix(".prototxt"), case)
    with torch.no_grad():
        port.params(net)["conv4"][0][3, 0, 2, 5] += 1
    port.save_caffemodel(net, tmp_path / "w.caffemodel")
    data, before = (tmp_path / "w.caffemodel").read_bytes(), case.read_bytes()
    assert len(data) == len(before) and 1 <= sum(a != b for a, b in zip(data, before, strict=True)) <= 4


def test_saving_goes_through_a_whole_file_or_none(prototxt, tmp_path):
    net = port.load_net(prototxt)
    with pytest.raises(CaffeError, match="cannot write"):
        port.save_caffemodel(net, prototxt / "w.caffemodel")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.prototxt"]
