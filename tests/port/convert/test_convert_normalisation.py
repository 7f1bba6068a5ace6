"""BN, BatchNorm and Scale: definitions, names, blobs and numbers."""

from __future__ import annotations

import numpy as np
import pytest
from convert_nets import batch_norm, bn, converted, layer, scale, shown, text_of

from port.convert.normalisation import layer_phases, merge_blobs, scale_names, split_blobs
from port.graph.build import build_graph
from port.graph.reference import run_reference
from port.graph.state import NetState
from prototxt_gen.schema import parse

FILLED = "filler { type: 'constant' value: 1 }"


@pytest.mark.parametrize(
    "old, new",
    [
        # Without a slope_filler the fork's slope is 0; without a filler Scale's is 1.
        (
            bn(),
            batch_norm("moving_average_fraction: 0.9") + scale("filler { type: 'constant' value: 0 } bias_term: true"),
        ),
        (
            bn("slope_filler { value: 1 } bias_filler { value: 2 } momentum: 0.95 eps: 0.001", top="data"),
            batch_norm("moving_average_fraction: 0.95 eps: 0.001", top="data")
            + scale(f"{FILLED} bias_term: true bias_filler {{ type: 'constant' value: 2 }}", "data", "data"),
        ),
        (
            bn("slope_filler { type: 'gaussian' std: 2 } momentum: 0.999"),
            batch_norm() + scale("filler { type: 'gaussian' std: 2 } bias_term: true"),
        ),
        (
            bn("slope_filler { value: 1 } frozen: true"),
            batch_norm("use_global_stats: true moving_average_fraction: 0.9")
            + scale(f"{FILLED} bias_term: true", more="param { lr_mult: 0 decay_mult: 0 } " * 2),
        ),
        (
            bn(
                "slope_filler { value: 1 } momentum: 0.999",
                more="param { lr_mult: 3 name: 's' } param { decay_mult: 0 } param { lr_mult: 0 } "
                "include { phase: TEST stage: 'a' } phase: TEST loss_weight: 2 propagate_down: false",
            ),
            batch_norm(
                more="param { lr_mult: 0 decay_mult: 0 } " * 3
                + "include { phase: TEST stage: 'a' } phase: TEST propagate_down: false"
            )
            + scale(
                f"{FILLED} bias_term: true",
                more="param { lr_mult: 3 name: 's' } param { decay_mult: 0 } include { phase: TEST stage: 'a' } "
                "phase: TEST loss_weight: 2",
            ),
        ),
        (
            bn(
                "slope_filler { value: 1 } momentum: 0.999",
                more="param {} param {} param { name: 'm' } param { name: 'v' }",
            ),
            batch_norm(
                more=" ".join(f"param {{ name: '{n}' lr_mult: 0 decay_mult: 0 }}" for n in ("m", "v", "m_count"))
            )
            + scale(f"{FILLED} bias_term: true", more="param {} param {}"),
        ),
    ],
)
def test_bn_to_batch_norm(old, new):
    assert shown(converted(old, "srn")) == text_of(new)


NOT_LEARNED = "param { lr_mult: 0 decay_mult: 0 } "
FRACTION = "moving_average_fraction: 0.9"  # so that momentum is the fork's default


@pytest.mark.parametrize(
    "old, new",
    [
        # The dialects' defaults of the average differ.
        (batch_norm() + scale(), bn("slope_filler { value: 1 } momentum: 0.999")),
        (
            batch_norm(f"{FRACTION} eps: 0.01")
            + scale("filler { value: 2 } bias_filler { value: 3 } bias_term: true", top="z"),
            bn(
                "slope_filler { type: 'constant' value: 2 } bias_filler { type: 'constant' value: 3 } eps: 0.01",
                top="z",
            ),
        ),
        # Without Scale slope and bias are 1 and 0, and stay so.
        (batch_norm(FRACTION), bn("slope_filler { value: 1 }", more=NOT_LEARNED * 2)),
        (
            batch_norm(FRACTION) + scale("", more="param { lr_mult: 2 }"),
            bn("slope_filler { value: 1 }", more="param { lr_mult: 2 } " + NOT_LEARNED),
        ),
        # In place, and with a small eps, cuDNN's BN is not the one that is meant.
        (
            batch_norm(FRACTION, top="data") + scale(bottom="data", top="data"),
            bn("slope_filler { value: 1 } engine: CAFFE", top="data"),
        ),
        (
            batch_norm(f"{FRACTION} eps: 1e-6") + scale(),
            bn("slope_filler { value: 1 } eps: 1e-6 engine: CAFFE"),
        ),
        (batch_norm(f"{FRACTION} eps: 1e-5") + scale(), bn("slope_filler { value: 1 } eps: 1e-5")),
        # Statistics that are not updated in training: frozen, unless it never trains.
        (
            batch_norm(f"{FRACTION} use_global_stats: true") + scale(),
            bn("slope_filler { value: 1 } frozen: true"),
        ),
        (
            batch_norm(f"{FRACTION} use_global_stats: true", more="phase: TEST") + scale(more="phase: TEST"),
            bn("slope_filler { value: 1 } frozen: false", more="phase: TEST"),
        ),
        (
            batch_norm(f"{FRACTION} use_global_stats: false", more="include { phase: TRAIN }")
            + scale(more="include { phase: TRAIN }"),
            bn("slope_filler { value: 1 }", more="include { phase: TRAIN }"),
        ),
        # Shared by name: the count belongs to them.
        (
            batch_norm(FRACTION, more="param { name: 'm' } param { name: 'v' } param { name: 'c' }")
            + scale(more="param { name: 's' }"),
            bn(
                "slope_filler { value: 1 }",
                more="param { name: 's' } param {} "
                "param { name: 'm' lr_mult: 0 decay_mult: 0 } param { name: 'v' lr_mult: 0 decay_mult: 0 }",
            ),
        ),
        # Pairs that are none: the Scale stays.
        *(
            (batch_norm(FRACTION) + other, bn("slope_filler { value: 1 }", more=NOT_LEARNED * 2) + other)
            for other in (
                scale("axis: 0 bias_term: true"),
                scale("num_axes: 0"),
                scale("axis: -3"),  # not axis 1 for every bottom
                scale("bias_term: true", bottom="y data", top="z"),
                scale(more="include { phase: TEST }"),
                scale(more="phase: TEST"),
                scale(top="z") + layer("ReLU", bottom="y", top="r", name="reads_y"),
                layer("ReLU", bottom="y", name="between") + scale(),
            )
        ),
    ],
)
def test_batch_norm_to_bn(old, new):
    assert shown(converted(old, "bvlc")) == text_of(new, "srn")


def test_pairs_of_one_name_go_together():
    """Variants of a BatchNorm for each phase share their blobs, so one of them cannot have a slope."""
    old = (
        batch_norm("use_global_stats: false", more="include { phase: TRAIN }")
        + batch_norm("use_global_stats: true", more="include { phase: TEST }")
        + scale(more="include { phase: TEST }")
    )
    conversion = converted(old, "bvlc")
    kinds = [(entry.type, entry.name) for entry in conversion.parsed.message.layer]
    assert kinds == [("BN", "bn"), ("BN", "bn"), ("Scale", "scale")] and not conversion.replaced


@pytest.mark.parametrize(
    "rules, phases",
    [
        ("", "TRAIN TEST"),
        ("phase: TRAIN include { phase: TEST }", "TRAIN"),
        ("include { phase: TEST }", "TEST"),
        ("include { phase: TEST } include { stage: 'a' }", "TRAIN TEST"),
        ("exclude { phase: TEST }", "TRAIN"),
        ("exclude { phase: TEST stage: 'a' }", "TRAIN TEST"),
    ],
)
def test_layer_phases(rules, phases):
    assert layer_phases(parse(rules, "LayerParameter", "bvlc")) == set(phases.split())


def test_names_of_scales():
    """He's names where there is such a pattern, never one that is taken."""
    names = scale_names(["bn_conv1", "bn2a", "a/bn", "a_bn", "conv1", "bnorm", "bn"], {"scale2a", "conv1_scale"})
    expected = "scale_conv1 scale2a_ a/scale a_scale conv1_scale_ bnorm_scale scale"
    assert " ".join(names.values()) == expected


def test_blobs():
    """The statistics are the sums divided by their weight; a weight of 0 gives zeros, as in Caffe."""
    mean, variance = np.float32([1, 2, 3]), np.float32([4, 5, 6])
    merged = merge_blobs([mean, variance, np.float32([8])], [mean * 2, mean * 3])
    assert [b.shape for b in merged] == [(1, 3)] * 4 and merged[0].dtype == np.float64
    np.testing.assert_array_equal(np.concatenate(merged), [mean * 2, mean * 3, mean / 8, variance / 8])
    np.testing.assert_array_equal(np.concatenate(merge_blobs([mean, mean, np.zeros(1)], [mean]))[1:], 0)
    np.testing.assert_array_equal(np.concatenate(merge_blobs([mean, mean, np.ones(1)], None))[:2], [[1] * 3, [0] * 3])
    norm, affine = split_blobs(merged)
    np.testing.assert_array_equal(norm[:2], [mean / 8, variance / 8])
    assert norm[2].tolist() == [1] and norm[2].shape == (1,) and affine[0].shape == (3,)


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("dialect", ["srn", "bvlc"])
def test_one_layer_computes_the_same(dialect, phase):
    """Also in TRAIN, the forward pass of unfrozen layers and of frozen ones."""
    random = np.random.default_rng(1)
    frozen = "frozen: true" if dialect == "srn" else "use_global_stats: true"
    make = (
        bn
        if dialect == "srn"
        else lambda f, **o: batch_norm(f, **o) + scale("bias_term: true", o["top"], o["top"], o["name"] + "s")
    )
    text = make("", top="y", name="a") + make(frozen, bottom="y", top="z", name="b")
    conversion = converted(text, dialect)
    old, new = (build_graph(net, NetState(phase)) for net in (conversion.source, conversion.parsed))
    held = {node.name: [random.uniform(1, 2, s.shape) for s in node.specs] for node in old.nodes if node.specs}
    data = {"data": random.normal(size=(2, 3, 6, 5))}
    before, after = run_reference(old, held, data), run_reference(new, conversion.blobs(held), data)
    np.testing.assert_allclose(after["z"], before["z"], rtol=1e-12)
    np.testing.assert_allclose(after["y"], before["y"], rtol=1e-12)
