"""Values that stand for places (labels, indices, items): wrong ones are named, in PyTorch as in the reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import port
from port.graph.reference import run_reference
from port.layers.base import Misfit
from port.layers.values import check_finite, check_places
from port.net import param_arrays
from prototxt_gen.base.errors import NetError
from prototxt_gen.schema.text import parse_prototxt


@dataclass(frozen=True)
class Case:
    """A layer one of whose bottoms holds places."""

    type: str
    dialect: str
    shapes: tuple[tuple[int, ...], ...]
    count: int  # places that there are
    word: str  # what the message calls a value
    fields: str = ""
    at: int = 1  # the bottom that holds places
    step: int = 1  # of its values, row by row, every how-many-eth is a place
    ignored: int | None = None


IGNORING = "loss_param { ignore_label: 7 }"
CASES = {
    f"{case.type}-{case.dialect}{'-ignoring' if case.ignored is not None else ''}": case
    for case in (
        *(Case("Accuracy", d, ((3, 4), (3,)), 4, "label") for d in ("bvlc", "srn")),
        *(
            Case("Accuracy", d, ((3, 4), (3,)), 4, "label", "accuracy_param { ignore_label: 7 }", ignored=7)
            for d in ("bvlc", "srn")
        ),
        *(Case("SoftmaxWithLoss", d, ((3, 4, 2), (3, 2)), 4, "label") for d in ("bvlc", "srn")),
        *(Case("SoftmaxWithLoss", d, ((3, 4, 2), (3, 2)), 4, "label", IGNORING, ignored=7) for d in ("bvlc", "srn")),
        *(Case("InfogainLoss", d, ((3, 4), (3,), (1, 1, 4, 4)), 4, "label") for d in ("bvlc", "srn")),
        Case("InfogainLoss", "bvlc", ((3, 4), (3,), (1, 1, 4, 4)), 4, "label", IGNORING, ignored=7),
        *(Case("MultinomialLogisticLoss", d, ((3, 4), (3,)), 4, "label") for d in ("bvlc", "srn")),
        *(Case("HingeLoss", d, ((3, 2, 2), (3, 1)), 4, "label") for d in ("bvlc", "srn")),
        Case("Embed", "bvlc", ((3, 2),), 4, "index", "embed_param { num_output: 2 input_dim: 4 }", at=0),
        Case("BatchReindex", "bvlc", ((4, 2), (3,)), 4, "index"),
        Case(
            "ROIPooling",
            "srn",
            ((4, 2, 5, 5), (3, 5)),
            4,
            "region's item",
            "roi_pooling_param { pooled_h: 2 pooled_w: 2 }",
            step=5,
        ),
    )
}


def net_of(case: Case):
    """The net of one layer."""
    inputs = "".join(
        f'input: "b{i}" input_shape {{ {" ".join(f"dim: {n}" for n in shape)} }}\n'
        for i, shape in enumerate(case.shapes)
    )
    bottoms = " ".join(f'bottom: "b{i}"' for i in range(len(case.shapes)))
    text = f'{inputs}layer {{ name: "the layer" type: "{case.type}" {bottoms} top: "y" {case.fields} }}'
    return port.load_net(parse_prototxt(text, dialect=case.dialect))


def inputs_of(case: Case, places: list[float]) -> dict[str, np.ndarray]:
    """Positive inputs, and the places one after another, as often as there is room for them."""
    random = np.random.default_rng(3)
    arrays = [random.uniform(0.1, 1, shape).astype(np.float32) for shape in case.shapes]
    flat = arrays[case.at].reshape(-1)[:: case.step]
    flat[:] = np.resize(np.asarray(places, np.float32), flat.shape)
    return {f"b{i}": array for i, array in enumerate(arrays)}


def both(net, inputs) -> tuple[np.ndarray, np.ndarray]:
    """The top in PyTorch and in the reference."""
    reference = run_reference(net.caffe, param_arrays(net), inputs)
    return port.run_blobs(net, inputs)["y"], reference["y"]


@pytest.mark.parametrize("name", CASES)
def test_places_at_the_edges_pass(name):
    case = CASES[name]
    net = net_of(case)
    fast, exact = both(net, inputs_of(case, [0.0, case.count - 1.0, 1.0]))
    np.testing.assert_allclose(fast, exact, 1e-5, 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_fractions_are_cut_toward_zero(name):
    case = CASES[name]
    net = net_of(case)
    cut = [0.75, case.count - 0.25, 1.5] if case.type == "BatchReindex" else [-0.75, case.count - 0.25, 1.5]
    for fast, exact in zip(
        both(net, inputs_of(case, cut)), both(net, inputs_of(case, [0.0, case.count - 1.0, 1.0])), strict=True
    ):
        np.testing.assert_array_equal(fast, exact)


@pytest.mark.parametrize("bad", ["-1", "count", "nan", "inf", "-inf", "-3e38", "1e20"])
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_place_is_named(name, bad):
    case = CASES[name]
    value = float(case.count if bad == "count" else bad)
    inputs = inputs_of(case, [0.0, value, 1.0])
    net = net_of(case)
    for run in (lambda: port.run_blobs(net, inputs), lambda: run_reference(net.caffe, param_arrays(net), inputs)):
        with pytest.raises(NetError) as error:
            run()
        text = str(error.value)
        assert "layer 'the layer'" in text and f"bottom {case.at}" in text and "expected 0 to 3" in text
        assert f"the {case.word} {np.float32(value):.9g} at item" in text
        if len(case.shapes[case.at]) == 1 or case.step > 1:
            assert "at item 1 of" in text
        if case.ignored is not None:
            assert "or the ignored 7" in text


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.ignored is not None])
def test_the_ignored_label_passes(name):
    case = CASES[name]
    fast, exact = both(net_of(case), inputs_of(case, [0.0, case.ignored, 1.0, case.ignored + 0.5]))
    if not (case.type == "SoftmaxWithLoss" and case.dialect == "srn"):
        assert np.isfinite(fast).all()
    np.testing.assert_allclose(fast, exact, 1e-5, 1e-6)


def test_an_index_between_minus_one_and_zero_is_refused_where_caffe_compares_first():
    case = CASES["BatchReindex-bvlc"]
    with pytest.raises(NetError, match=r"the index -0\.5 at item 2"):
        port.run_blobs(net_of(case), inputs_of(case, [0.0, 1.0, -0.5]))


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_contrastive_labels_are_cut_and_must_be_numbers(dialect):
    case = Case("ContrastiveLoss", dialect, ((3, 2), (3, 2), (3,)), 0, "label", at=2)
    net = net_of(case)
    cut, whole = (both(net, inputs_of(case, labels)) for labels in ([0.5, -0.5, 1.5], [0.0, 0.0, 1.0]))
    np.testing.assert_array_equal(cut[0], whole[0])
    np.testing.assert_array_equal(cut[1], whole[1])
    inputs = inputs_of(case, [0.0, 1.0, float("nan")])
    for run in (lambda: port.run_blobs(net, inputs), lambda: run_reference(net.caffe, {}, inputs)):
        with pytest.raises(NetError, match=r"the label nan at item 2 of bottom 2.*expected a number"):
            run()


def test_several_wrong_values_are_counted_and_a_place_has_all_its_axes():
    values = torch.zeros(2, 1, 3)
    values[1, 0, 1] = values[1, 0, 2] = 9
    with pytest.raises(Misfit, match=r"the label 9 at item 1, position 1, 0, 1 of bottom 1 \(and 1 more\)"):
        check_places(values, 4, "label")
    with pytest.raises(Misfit, match="the label 9 at the only item"):
        check_places(np.asarray(9.0), 4, "label")


def test_nothing_is_wrong_with_no_values():
    check_places(torch.zeros(0), 0, "label")
    check_places(np.zeros((0, 3)), 0, "label")
    check_finite(np.zeros(0), "label", 1)


def test_without_classes_every_label_is_wrong():
    with pytest.raises(Misfit) as error:
        check_places(np.zeros(2), 0, "label")
    assert "nothing to choose from" in error.value.parts["expected"]


def test_all_ignored_passes_even_without_classes():
    check_places(np.full(3, 255.0), 0, "label", ignored=255)


def test_the_gradient_is_not_in_the_way():
    values = torch.tensor([0.0, 3.0], requires_grad=True)
    check_places(values, 4, "label")
