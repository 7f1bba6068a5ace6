"""Types of forks that move values: ShuffleChannel, Reverse, Flip, Reorg, UpsampleDarknet; and ContinuationIndicator."""

from __future__ import annotations

import numpy as np
import pytest
from pack_runs import FORWARD, Run, near, refused
from properties.nets import Case, graph_of, net_of

from port.net import run_blobs
from port.onnx.export import build_onnx
from port.onnx.session import run_onnx, session

OPSETS = (13, 17, 22)


def numbered(*shape: int) -> np.ndarray:
    """Values that are all different."""
    return np.random.RandomState(len(shape)).permutation(int(np.prod(shape))).reshape(shape) - 3.5


def holds_for_any_batch(run: Run, rule) -> None:
    """All runtimes, the gradient, and an ONNX file for another batch."""
    expected = rule(run.double()[0])
    run.holds([expected], OPSETS)
    run.stays_double()
    run.slopes_hold(np.random.RandomState(1).standard_normal(expected.shape))
    more = numbered(run.inputs[0].shape[0] + 3, *run.inputs[0].shape[1:]).astype(np.float32)
    near(run.onnx(inputs=[more])[0], rule(more.astype(np.float64)), FORWARD, "another batch")
    near(run.torch([more])[0], rule(more.astype(np.float64)), FORWARD, "another batch")


# -- ShuffleChannel ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("shape", "group"), [((2, 6, 3, 4), 2), ((1, 6, 2, 5), 3), ((3, 10), 5), ((2, 4, 3), 1)])
def test_shuffle_channel(shape, group):
    def rule(x):
        wide = x.reshape(*x.shape, *[1] * (4 - x.ndim))
        top = np.zeros(wide.shape)
        for c in range(x.shape[1]):
            row, column = divmod(c, x.shape[1] // group)
            top[:, column * group + row] = wide[:, c]
        return top

    holds_for_any_batch(
        Run("ShuffleChannel", [numbered(*shape)], fields={"shuffle_channel_param": {"group": group}}), rule
    )


def test_what_shuffle_channel_refuses():
    for shape, group in (((2, 6, 2, 2), 4), ((2, 6), 0)):
        refused(
            f"group {group}", "ShuffleChannel", [np.ones(shape)], fields={"shuffle_channel_param": {"group": group}}
        )
    refused("5 axes", "ShuffleChannel", [np.ones((1, 2, 2, 2, 2))])
    refused("1 axes", "ShuffleChannel", [np.ones(3)])


# -- Reverse, Flip -----------------------------------------------------------------------------------------------------
def turned(x, axes):
    top = np.zeros(x.shape)
    for at in np.ndindex(*x.shape):
        top[tuple(n - 1 - i if axis in axes else i for axis, (i, n) in enumerate(zip(at, x.shape, strict=True)))] = x[
            at
        ]
    return top


@pytest.mark.parametrize("axes", [(1,), (0, 3), (-1,), (2, -3), (), (3, 2, 1, 0)])
def test_reverse(axes):
    run = Run("Reverse", [numbered(2, 3, 4, 5)], fields={"reverse_param": {"axis": list(axes)}})
    holds_for_any_batch(run, lambda x: turned(x, [axis % 4 for axis in axes]))


def test_what_reverse_refuses():
    refused("axis 4", "Reverse", [np.ones((1, 2, 3, 4))], fields={"reverse_param": {"axis": 4}})
    refused("every axis once", "Reverse", [np.ones((1, 2, 3))], fields={"reverse_param": {"axis": [1, -2]}})


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 2, 4), (2, 3)])
@pytest.mark.parametrize(("fields", "axes"), [({}, [3]), ({"flip_height": True}, [2, 3]), ({"flip_width": False}, [])])
def test_flip(shape, fields, axes):
    run = Run("Flip", [numbered(*shape)], fields={"flip_param": fields} if fields else {})
    holds_for_any_batch(run, lambda x: turned(x, axes))


def test_flip_takes_at_most_four_axes():
    refused("5 axes", "Flip", [np.ones((1, 2, 2, 2, 2))])


# -- Reorg -------------------------------------------------------------------------------------------------------------
def darknet(x, wide, high, stride, reverse):
    """Darknet's loop over one batch, on flat values."""
    n, channels = x.shape[:2]
    flat, out = x.reshape(-1), np.zeros(x.size)
    fine = channels // stride**2
    for item in range(n):
        for k in range(channels):
            for j in range(high):
                for i in range(wide):
                    here = i + wide * (j + high * (k + channels * item))
                    offset, c = divmod(k, fine)
                    column, row = i * stride + offset % stride, j * stride + offset // stride
                    there = column + wide * stride * (row + high * stride * (c + fine * item))
                    if reverse:
                        out[there] = flat[here]
                    else:
                        out[here] = flat[there]
    return out


REORGS = [((2, 4, 6, 8), 2, False), ((1, 18, 3, 6), 3, False), ((2, 8, 3, 4), 2, True), ((1, 9, 2, 5), 3, True)]


@pytest.mark.parametrize(("shape", "stride", "reverse"), [*REORGS, ((2, 3, 2, 3), 1, False)])
def test_reorg_in_darknets_order(shape, stride, reverse):
    def rule(x):
        n, c, h, w = x.shape
        if reverse:
            top = (n, c // stride**2, h * stride, w * stride)
        else:
            top = (n, c * stride**2, h // stride, w // stride)
        return darknet(x, w, h, stride, reverse).reshape(top)

    fields = {"reorg_param": {"stride": stride, "reverse": reverse}}
    holds_for_any_batch(Run("Reorg", [numbered(*shape)], fields=fields), rule)


@pytest.mark.parametrize(
    ("shape", "stride", "reverse"),
    [*REORGS, ((2, 16, 4, 5), 4, False), ((1, 4, 5, 7), 2, False), ((3, 16, 6, 4), 4, True)],
)
def test_reorg_of_the_fork_that_halves(shape, stride, reverse):
    def rule(x):
        n, c, h, w = x.shape
        values = darknet(x, h, w, stride, reverse)  # height and width change places
        top = (n, c // stride**2 if reverse else c * stride**2, h // 2, w // 2)
        made = np.zeros(int(np.prod(top)))
        made[: values.size] = values[: made.size]
        return made.reshape(top)

    fields = {"reorg_param": {"stride": stride, "reverse": reverse}}
    run = Run("Reorg", [numbered(*shape)], fields=fields, dialect="bvlc+synopsys")
    holds_for_any_batch(run, rule)


def test_what_reorg_refuses():
    def given(stride, **more):
        return {"reorg_param": {"stride": stride, **more}}

    refused("no stride", "Reorg", [np.ones((1, 4, 2, 2))])
    refused("a multiple of 4", "Reorg", [np.ones((1, 6, 2, 2))], fields=given(2))
    refused("divides height and width", "Reorg", [np.ones((1, 4, 3, 2))], fields=given(2))
    refused("a multiple of 9", "Reorg", [np.ones((1, 8, 3, 3))], fields=given(3, reverse=True))
    refused("does not work in place", "Reorg", [np.ones((1, 1, 2, 2))], fields=given(1), in_place=True)


# -- UpsampleDarknet ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_upsample_darknet(stride):
    def rule(x):
        top = np.zeros((*x.shape[:2], x.shape[2] * stride, x.shape[3] * stride))
        for n, c, i, j in np.ndindex(*top.shape):
            top[n, c, i, j] = x[n, c, i // stride, j // stride]
        return top

    run = Run("UpsampleDarknet", [numbered(2, 3, 4, 5)], fields={"upsample_darknet_param": {"stride": stride}})
    holds_for_any_batch(run, rule)


def test_what_upsample_darknet_refuses():
    refused("3 axes", "UpsampleDarknet", [np.ones((1, 2, 3))])
    for stride in (0, -2):
        fields = {"upsample_darknet_param": {"stride": stride}}
        refused(f"stride {stride}", "UpsampleDarknet", [np.ones((1, 1, 2, 2))], fields=fields)


@pytest.mark.parametrize(
    ("type", "fields", "top"),
    [
        ("ShuffleChannel", {"shuffle_channel_param": {"group": 2}}, (0, 4, 2, 2)),
        ("Reverse", {"reverse_param": {"axis": 1}}, (0, 4, 2, 2)),
        ("Flip", {}, (0, 4, 2, 2)),
        ("Reorg", {"reorg_param": {"stride": 2}}, (0, 16, 1, 1)),
        ("UpsampleDarknet", {"upsample_darknet_param": {"stride": 2}}, (0, 4, 4, 4)),
    ],
)
def test_no_items(type, fields, top):
    run = Run(type, [np.zeros((0, 4, 2, 2))], fields=fields)
    assert run.reference()[0].shape == run.torch()[0].shape == top


# -- ContinuationIndicator ---------------------------------------------------------------------------------------------
def test_an_indicator_of_a_given_batch():
    fields = {"continuation_indicator_param": {"time_step": 3, "batch_size": 2}}
    graph = graph_of(Case("ContinuationIndicator", "bvlc", fields=fields))
    net = net_of(graph, [])
    expected = [[0, 0], [1, 1], [1, 1]]
    assert run_blobs(net, {})["top0"].tolist() == expected
    assert run_onnx(session(build_onnx(net)), {})["top0"].tolist() == expected


@pytest.mark.parametrize(("axis", "shape"), [(0, (4, 3)), (1, (5, 4, 2))])
def test_an_indicator_of_the_bottoms_batch(axis, shape):
    fields = {"continuation_indicator_param": {"time_step": 5} | ({"axis": axis} if axis else {})}
    run = Run("ContinuationIndicator", [np.ones(shape)], fields=fields)
    run.holds([[[0.0] * 4] + [[1.0] * 4] * 4], OPSETS)
    if not axis:
        assert run.onnx(inputs=[np.ones((7, 3), np.float32)])[0].tolist() == [[0.0] * 7] + [[1.0] * 7] * 4


def test_what_an_indicator_refuses():
    def given(**fields):
        return {"continuation_indicator_param": fields}

    x = np.ones((2, 3))
    refused("time_step 0", "ContinuationIndicator", [x])
    refused("both", "ContinuationIndicator", [x], fields=given(time_step=2, batch_size=2))
    refused("no batch_size", "ContinuationIndicator", [], fields=given(time_step=2))
    refused("axis 2", "ContinuationIndicator", [x], fields=given(time_step=2, axis=2))
