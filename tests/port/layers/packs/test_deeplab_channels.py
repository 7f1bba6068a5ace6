"""DeepLab's small layers, PSPNet's DomainTransform, C3D's VoxelCustomLoss and MVN's eps against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pack_runs import FORWARD, Run, agree, near, refused
from properties.nets import Word

from prototxt_gen.base.errors import CaffeError, ExportError

OPSETS = (13, 17, 22)


def numbers(*shape, seed=0):
    return np.random.RandomState([seed, *shape]).standard_normal(shape)


@pytest.mark.parametrize("pads", [(1, 2), (0, 0), (-1, -2), (0, -1), (3, 0)])
def test_padding(pads):
    run = Run("Padding", [numbers(2, 3, 4, 5)], fields={"padding_param": {"pad_beg": pads[0], "pad_end": pads[1]}})
    x = run.double()[0]
    y = np.zeros((2, 3, 4 + sum(pads), 5 + sum(pads)))
    for at in np.ndindex(*y.shape):
        h, w = at[2] - pads[0], at[3] - pads[0]
        if 0 <= h < 4 and 0 <= w < 5:
            y[at] = x[at[0], at[1], h, w]
    run.holds([y], OPSETS)
    run.slopes_hold(numbers(*y.shape, seed=1))
    more = [np.concatenate([run.inputs[0]] * 2)]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


def test_what_padding_refuses():
    x = numbers(1, 1, 3, 3)
    for match, fields in [("both positive", {"pad_beg": 1, "pad_end": -1}), ("a row", {"pad_beg": -3})]:
        refused(match, "Padding", [x], fields={"padding_param": fields})


def test_bias_of_labels_of_images():
    x, label = numbers(3, 4, 2, 3), np.array([[0, 2, -1], [3, 3, 1], [-1, -1, 2]])
    fields = {"bg_bias": 0.5, "fg_bias": 1.5, "ignore_label": [1]}
    run = Run("BiasChannel", [x, label], fields={"bias_channel_param": fields})
    y = run.double()[0].copy()
    for n, row in enumerate(label):
        for k in row:
            if k not in (-1, 1):
                y[n, k] += 1.5 if k else 0.5
    run.holds([y], OPSETS)
    run.slopes_hold(numbers(3, 4, 2, 3, seed=1))
    more = [np.concatenate([v] * 2) for v in run.inputs]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")
    with pytest.raises(CaffeError, match="the label 4"):
        run.reference([x, np.full((3, 3), 4.0)])


@pytest.mark.parametrize("more", [{}, {"bg_bias": 0.5}, {"bg_bias": 0.5, "background_label": 2}])
def test_bias_of_labels_of_cells(more):
    x, label = numbers(2, 4, 3, 2), np.random.RandomState(3).randint(-1, 4, (2, 1, 3, 2))
    fields = {"fg_bias": 1.5, "label_type": Word("PIXEL"), "ignore_label": [3], **more}
    run = Run("BiasChannel", [x, label], fields={"bias_channel_param": fields})
    y, ground = run.double()[0].copy(), more.get("background_label", 0) if more else None
    for n, _, h, w in np.ndindex(*label.shape):
        k = label[n, 0, h, w]
        if k in (-1, 3):
            continue
        if ground is not None:
            y[n, ground, h, w] += 0.5
        if k != ground:
            y[n, k, h, w] += 1.5
    run.holds([y], OPSETS)
    run.slopes_hold(numbers(2, 4, 3, 2, seed=1))


def test_what_biases_refuse():
    x = numbers(2, 4, 3, 2)
    refused("labels of 2x1x3x2", "BiasChannel", [x, np.zeros((2, 1, 3, 2))])
    for fields in ({"fg_bias": -1}, {"bg_bias": -1}):
        refused("0 or more", "BiasChannel", [x, np.zeros((2, 1))], fields={"bias_channel_param": fields})


def test_unique_labels():
    x = np.array([[3, 1, 1, 255], [0, 0, 7, 7]]).reshape(2, 1, 2, 2)
    fields = {"unique_label_param": {"max_labels": 4, "ignore_label": [255], "force_label": [0]}}
    run = Run("UniqueLabel", [x], fields=fields)
    expected = np.array([[0, 1, 3, -1], [0, 7, -1, -1]]).reshape(2, 4, 1, 1)
    agree(run.reference(), [expected], 1e-11, "reference")
    agree(run.torch(), [expected], FORWARD, "torch")
    with pytest.raises(CaffeError, match="5 labels in item 1"):
        run.reference([np.arange(8.0).reshape(2, 1, 2, 2)])
    refused("more than 1", "UniqueLabel", [x], fields={"unique_label_param": {"max_labels": 1, "force_label": [0]}})
    refused("one channel", "UniqueLabel", [np.zeros((1, 2, 2, 2))], fields=fields)
    with pytest.raises(ExportError, match="a list"):
        run.onnx()


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_dominant_channels(top_k):
    x = numbers(3, 5, 2, 4)
    run = Run("DominantChannel", [x], fields={"dominant_channel_param": {"top_k": top_k}})
    expected = np.zeros((3, top_k, 1, 1))
    for n in range(3):
        counts = [[0] * top_k for _ in range(5)]
        for h, w in np.ndindex(2, 4):
            order = sorted(range(5), key=lambda c, n=n, h=h, w=w: -x[n, c, h, w])
            for j in range(top_k):
                counts[order[j]][j] += 1
        expected[n, :, 0, 0] = sorted(range(5), key=lambda c, counts=counts: ([-v for v in counts[c]], c))[:top_k]
    agree(run.reference(), [expected], 1e-11, "reference")
    agree(run.torch(), [expected], FORWARD, "torch")
    refused("1 to 4", "DominantChannel", [x], fields={"dominant_channel_param": {"top_k": 5}})


def transformed(x, edge, size, rounds, spatial, spread, least):
    y = x.copy()
    for n, (high, wide) in enumerate(size):
        for i in range(rounds):
            sigma = spatial * math.sqrt(3) * 2 ** (rounds - (i + 1)) / math.sqrt(4**rounds - 1)
            w = np.zeros(edge.shape[2:])
            for r, c in np.ndindex(high, wide):
                power = math.exp(-math.sqrt(2) / sigma * (1 + edge[n, 0, r, c] * spatial / spread))
                w[r, c] = min(max(power, least), 1)
            for k in range(x.shape[1]):
                m = y[n, k]
                for r in range(high):
                    for c in range(1, wide):
                        m[r, c] += w[r, c] * (m[r, c - 1] - m[r, c])
                    for c in range(wide - 2, -1, -1):
                        m[r, c] += w[r, c + 1] * (m[r, c + 1] - m[r, c])
                for c in range(wide):
                    for r in range(1, high):
                        m[r, c] += w[r, c] * (m[r - 1, c] - m[r, c])
                    for r in range(high - 2, -1, -1):
                        m[r, c] += w[r + 1, c] * (m[r + 1, c] - m[r, c])
    return y


@pytest.mark.parametrize("sizes", [[(4, 5), (4, 5)], [(3, 4), (1, 5)]])
def test_domain_transform(sizes):
    x, edge = numbers(2, 2, 4, 5), np.abs(numbers(2, 1, 4, 5, seed=1))
    f = {"num_iter": 2, "spatial_sigma": 6, "range_sigma": 4}
    run = Run("DomainTransform", [x, edge, sizes], fields={"domain_transform_param": f})
    x, edge, _ = run.double()
    expected = transformed(x, edge, sizes, 2, 6, 4, 0.0)
    agree(run.reference(), [expected], 1e-11, "reference")
    agree(run.torch(), [expected], FORWARD, "torch")
    run.slopes_hold(numbers(2, 2, 4, 5, seed=2), bottoms=(0, 1))
    f = {**f, "min_weight": 0.25}
    held = Run("DomainTransform", [x, edge, sizes], fields={"domain_transform_param": f})
    agree(held.reference(), [transformed(x, edge, sizes, 2, 6, 4, 0.25)], 1e-11, "reference")
    agree(held.torch(), held.reference(), FORWARD, "torch")
    with pytest.raises(CaffeError, match="an item of 5x5"):
        run.reference([x, edge, np.full((2, 2), 5.0)])


def test_what_is_refused_by_name():
    x = numbers(1, 2, 3, 3)
    refused("random", "AdaptiveBiasChannel", [x, np.zeros((1, 1))])
    refused("lattice", "DenseCRF", [x, x])
    refused("N x 1 x H x W", "DomainTransform", [x, x, np.zeros((1, 2))])


def test_voxels():
    x, target = 2 * numbers(2, 3, 2, 2, 2), numbers(2, 3, 2, 2, 2, seed=1)
    run = Run("VoxelCustomLoss", [x, target])
    apart = [min(max(a - b, -1), 1) for a, b in zip(*(v.reshape(-1) for v in run.double()), strict=True)]
    run.holds([sum(v * v for v in apart) / len(apart)], OPSETS)
    near(run.gradients(3.0)[0][0], np.reshape(apart, x.shape) / 2, 1e-5)
    refused("two of N x C", "VoxelCustomLoss", [x[0], target[0]])


@pytest.mark.parametrize("across", [False, True])
def test_eps_within_the_root(across):
    fields = {"mvn_param": {"across_channels": across, "eps": 0.25, "add_eps_before_sqrt": True}}
    run = Run("MVN", [numbers(2, 3, 4, 5)], fields=fields)
    x = run.double()[0].reshape((2, -1) if across else (6, -1))
    y = np.array([(r - r.mean()) / math.sqrt(((r - r.mean()) ** 2).mean() + 0.25) for r in x])
    run.holds([y.reshape(2, 3, 4, 5)], OPSETS)
