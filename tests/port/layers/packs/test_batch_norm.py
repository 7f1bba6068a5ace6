"""BatchNorm of NVIDIA's, Intel's, happynear's, PSPNet's and Synopsys' forks against their rules in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pack_runs import FORWARD, SAME_MATHS, Run, agree, near, refused
from properties.nets import reference_answer, torch_answer
from small_nets import inputs, layer

from port.graph.build import build_graph
from port.graph.state import NetState
from port.graph.stored import Stored
from prototxt_gen.schema.text import parse_prototxt

OPSETS = (13, 17, 22)
FILLER = {"type": "constant", "value": 0.5}


def numbers(*shape, seed=0):
    return np.random.RandomState([seed, *shape]).standard_normal(shape) * 2 + 1


def normal(x, mean, variance, eps):
    y = np.zeros(x.shape)
    for at in np.ndindex(*x.shape):
        y[at] = (x[at] - mean[at[1]]) / math.sqrt(variance[at[1]] + eps)
    return y


def moments(x):
    """Mean, biased and unbiased variance of every channel."""
    found = []
    for c in range(x.shape[1]):
        values = x[:, c].reshape(-1)
        mean = sum(values) / len(values)
        spread = sum((v - mean) ** 2 for v in values)
        found.append((mean, spread / len(values), spread / (len(values) - 1)))
    return map(np.array, zip(*found, strict=True))


def channel(values, x):
    return np.float64(values).reshape(1, -1, *[1] * (x.ndim - 2))


def run_of(fields, blobs, shape=(3, 4, 2, 5), **case):
    x = numbers(*shape)
    return Run("BatchNorm", [x], blobs(shape[1]), fields={"batch_norm_param": fields}, **case)


def positive(count, seed):
    return np.random.RandomState(seed).uniform(0.5, 2, count)


def five(count):
    return [numbers(count, seed=1), positive(count, 2), [2.5], numbers(count, seed=3), numbers(count, seed=4)]


# -- NVIDIA's ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(3, 4, 2, 5), (2, 3)])
@pytest.mark.parametrize("fields", [{"scale_bias": True}, {"scale_filler": FILLER}, {"bias_filler": FILLER}])
def test_nvidias_has_its_scale_and_bias_last_and_reads_no_count(fields, shape):
    run = run_of({"eps": 1e-3, **fields}, five, shape)
    x, (mean, variance, _, scale, bias) = run.double()[0], map(np.float64, run.blobs)
    run.holds([normal(x, mean, variance, float(np.float32(1e-3))) * channel(scale, x) + channel(bias, x)], OPSETS)
    run.slopes_hold(numbers(*shape, seed=7), (0,), (3, 4))
    run.stays_double()


def test_nvidias_eps_is_not_below_cudnns():
    run = run_of({"scale_bias": True, "eps": 1e-9}, five)
    assert run.layer.epsilon == float(np.float32(1e-5))


def test_without_scale_bias_nvidias_has_three_blobs():
    run = run_of({"scale_bias": False}, lambda c: five(c)[:3])
    x, (mean, variance, _) = run.double()[0], map(np.float64, run.blobs)
    run.holds([normal(x, mean, variance, float(np.float32(1e-5)))], OPSETS)


def test_in_training_nvidias_first_batch_replaces_the_statistics_and_later_ones_move_them():
    fields = {"scale_bias": True, "moving_average_fraction": 0.75}
    run = run_of(fields, five, phase="TRAIN")
    x, scale, bias = run.double()[0], run.blobs[3], run.blobs[4]
    mean, variance, unbiased = moments(x)
    expected = normal(x, mean, variance, float(np.float32(1e-5))) * channel(scale, x) + channel(bias, x)
    after = [mean, unbiased, run.blobs[2], scale, bias]
    top, moved = reference_answer(run.graph, run.blobs, run.inputs)
    agree(top, [expected], SAME_MATHS, "reference")
    agree(moved, after, SAME_MATHS, "blobs after forward")
    top, moved = torch_answer(run.net, run.inputs)
    agree(top, [expected], FORWARD, "torch")
    agree(moved, after, FORWARD, "blobs after forward")
    agree(run.onnx(), [expected], FORWARD, "ONNX")
    second = [numbers(3, 4, 2, 5, seed=9).astype(np.float32)]
    more = list(moments(second[0].astype(np.float64)))
    _, moved = torch_answer(run.net, second)
    near(moved[0], 0.75 * mean + 0.25 * more[0], FORWARD)
    near(moved[1], 0.75 * unbiased + 0.25 * more[2], FORWARD)


def test_nvidias_gradient_in_training_is_the_derivative():
    run = run_of({"scale_bias": True}, five, (3, 2, 2, 2), phase="TRAIN")
    run.slopes_hold(numbers(3, 2, 2, 2, seed=7), (0,), (3, 4))


# -- Intel's ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"filler": FILLER, "bias_filler": FILLER}, 5),
        ({"use_weight_bias": True}, 5),
        ({"bias_term": False}, 4),
        ({"use_weight_bias": False}, 3),
        ({"relu": True}, 5),
        ({"stats_batch_size": 2}, 5),
    ],
)
def test_intels_divides_by_the_count_and_has_what_its_fields_say(fields, count):
    run = run_of(fields, lambda c: five(c)[:count])
    x, blobs = run.double()[0], [np.float64(b) for b in run.blobs]
    y = normal(x, blobs[0] / blobs[2], blobs[1] / blobs[2], float(np.float32(1e-5)))
    y = y * channel(blobs[3], x) if count > 3 else y
    y = y + channel(blobs[4], x) if count > 4 else y
    run.holds([np.maximum(y, 0) if fields.get("relu") else y], OPSETS)
    run.stays_double()
    assert type(run.layer).__name__ == "IntelBatchNorm"


def test_in_training_intels_statistics_are_sums_as_bvlcs():
    run = run_of({"filler": FILLER, "moving_average_fraction": 0.75}, five, phase="TRAIN")
    x = run.double()[0]
    mean, variance, unbiased = moments(x)
    y = normal(x, mean, variance, float(np.float32(1e-5))) * channel(run.blobs[3], x) + channel(run.blobs[4], x)
    old = [np.float64(b) for b in run.blobs]
    after = [0.75 * old[0] + mean, 0.75 * old[1] + unbiased, 0.75 * old[2] + 1, *old[3:]]
    for answer, tolerance in ((reference_answer, SAME_MATHS), (torch_answer, FORWARD)):
        subject = (run.graph, run.blobs) if answer is reference_answer else (run.net,)
        top, moved = answer(*subject, run.inputs)
        agree(top, [y], tolerance, answer.__name__)
        agree(moved, after, tolerance, answer.__name__)


def test_intels_statistics_of_parts_of_a_batch_are_refused():
    refused(
        "stats_batch_size 2",
        "BatchNorm",
        [numbers(4, 2)],
        fields={"batch_norm_param": {"stats_batch_size": 2}},
        phase="TRAIN",
    )


# -- happynear's ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
def test_happynears_cudnn_form_has_four_blobs(phase):
    def four(count):
        return [numbers(count, seed=1), numbers(count, seed=2), numbers(count, seed=3), positive(count, 4)]

    fields = {"scale_filler": FILLER, "moving_average_fraction": 0.75}
    run = run_of(fields, four, dialect="bvlc+face", phase=phase)
    x, (scale, bias, mean, variance) = run.double()[0], map(np.float64, run.blobs)
    own = list(moments(x))
    used = (mean, variance) if phase == "TEST" else own[:2]
    y = normal(x, *used, float(np.float32(1e-5))) * channel(scale, x) + channel(bias, x)
    top, moved = reference_answer(run.graph, run.blobs, run.inputs)
    agree(top, [y], SAME_MATHS, "reference")
    if phase == "TRAIN":
        agree(moved[2:], [0.75 * mean + 0.25 * own[0], 0.75 * variance + 0.25 * own[2]], SAME_MATHS, "blobs")
    agree(torch_answer(run.net, run.inputs)[0], [y], FORWARD, "torch")
    agree(run.onnx(), [y], FORWARD, "ONNX")


# -- what others switch off -------------------------------------------------------------------------------------------
def altered(x, stored, fields, blobs):
    eps = float(np.float32(1e-5))
    y = np.zeros(x.shape)
    for c in range(x.shape[1]):
        values = x[:, c]
        mean = blobs[0][c] / blobs[2][0] if stored else values.mean()
        centred = values if fields.get("disable_mean") else values - mean
        variance = blobs[1][c] / blobs[2][0] if stored else (centred**2).mean()
        before = fields.get("add_eps_before_sqrt", True)
        root = math.sqrt(variance + eps) if before else math.sqrt(variance) + eps
        y[:, c] = centred if fields.get("disable_variance") else centred / root
    return y


ALTERED = [
    {"update_global_stats": True},
    {"update_global_stats": False},
    {"add_eps_before_sqrt": False},
    {"icnet": True},
    {"disable_mean": True},
    {"disable_variance": True},
    {"disable_mean": True, "disable_variance": True},
    {"disable_mean": True, "add_eps_before_sqrt": False},
]


@pytest.mark.parametrize("fields", ALTERED)
@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
def test_what_forks_switch_off_in_bvlcs(fields, phase):
    run = run_of({"moving_average_fraction": 0.75, **fields}, lambda c: five(c)[:3], (3, 2, 2, 3), phase=phase)
    x, old = run.double()[0], [np.float64(b) for b in run.blobs]
    y = altered(x, phase == "TEST", fields, old)
    after = list(old)
    if phase == "TRAIN" and fields.get("update_global_stats", True):
        mean = x.mean((0, 2, 3))
        centred = x if fields.get("disable_mean") else x - mean.reshape(1, -1, 1, 1)
        unbiased = (centred**2).mean((0, 2, 3)) * (18 / 17)
        after = [0.75 * old[0] + mean, 0.75 * old[1] + unbiased, 0.75 * old[2] + 1]
        for i, name in enumerate(("disable_mean", "disable_variance")):
            after[i] = old[i] if fields.get(name) else after[i]
    top, moved = reference_answer(run.graph, run.blobs, run.inputs)
    agree(top, [y], SAME_MATHS, "reference")
    agree(moved, after, SAME_MATHS, "blobs after forward")
    top, moved = torch_answer(run.net, run.inputs)
    agree(top, [y], FORWARD, "torch")
    agree(moved, after, FORWARD, "blobs after forward")
    for opset in OPSETS:
        agree(run.onnx(opset), [y], FORWARD, "ONNX")
    run.slopes_hold(numbers(3, 2, 2, 3, seed=7))


def test_pspnets_update_of_what_is_used_is_refused():
    fields = {"update_global_stats": True, "use_global_stats": True}
    refused("update_global_stats", "BatchNorm", [numbers(2, 2)], fields={"batch_norm_param": fields}, phase="TRAIN")


# -- which one is meant -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("packs", "fields", "stored", "kind"),
    [
        ("", "", None, "BatchNorm"),
        ("", "", 3, "BatchNorm"),
        ("", "eps: 1e-4 use_global_stats: true", 3, "BatchNorm"),
        ("", "", 5, "IntelBatchNorm"),
        ("", "", 4, "HappynearBatchNorm"),
        ("", "scale_bias: true", 5, "NvidiaBatchNorm"),
        ("", "scale_filler { value: 1 } bias_filler { value: 0 }", None, "NvidiaBatchNorm"),
        ("", "scale_filler { value: 1 } bias_filler { value: 0 }", 4, "HappynearBatchNorm"),
        ("+face", "scale_filler { value: 1 } bias_filler { value: 0 }", None, "HappynearBatchNorm"),
        ("", "filler { value: 1 } bias_filler { value: 0 }", None, "IntelBatchNorm"),
        ("+intel", "bias_filler { value: 0 }", None, "IntelBatchNorm"),
        ("", "disable_mean: true", None, "AlteredBatchNorm"),
        ("", "update_global_stats: false", 3, "AlteredBatchNorm"),
    ],
)
def test_which_batch_norm_is_meant(packs, fields, stored, kind):
    net = inputs(x=(2, 2, 3, 3)) + layer(
        "b", "BatchNorm", "x", "y", f"batch_norm_param {{ {fields} }}" if fields else ""
    )
    counts = {"b": stored} if stored else {}
    graph = build_graph(parse_prototxt(net, dialect=f"bvlc{packs}"), NetState("TEST"), stored=lambda: Stored(counts))
    assert type(graph.nodes[-1].layer).__name__ == kind


def test_a_weights_file_is_looked_into_once_for_all_layers():
    net = inputs(x=(2, 2, 3, 3)) + "".join(layer(f"b{i}", "BatchNorm", "x", f"y{i}") for i in range(5))
    asked = []
    build_graph(parse_prototxt(net), NetState("TEST"), stored=lambda: asked.append(1) or Stored())
    assert asked == [1]


def test_batch_norm_refuses_channels_without_values():
    for fields in ({"scale_bias": True}, {"filler": FILLER}):
        refused("without a value", "BatchNorm", [np.zeros((0, 2))], fields={"batch_norm_param": fields}, phase="TRAIN")
        refused("1 axes", "BatchNorm", [np.zeros(3)], fields={"batch_norm_param": fields})


def test_a_channel_with_one_value_moves_by_a_variance_of_0():
    run = run_of({"filler": FILLER}, five, (1, 3), phase="TRAIN")
    _, moved = torch_answer(run.net, run.inputs)
    near(moved[1], 0.999 * np.float64(run.blobs[1]), FORWARD)
