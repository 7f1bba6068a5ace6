"""synopsys-caffe's operators that move and choose values, and its matrices and norms, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from pack_runs import FORWARD, Run, agree, refused

from prototxt_gen.base.errors import CaffeError

OPSETS = (13, 17, 22)


def numbers(*shape, seed=0):
    return np.random.RandomState([seed, *shape]).standard_normal(shape)


def proven(type, inputs, rule, param="", fields=None, bottoms=(0,), batch=True, **more):
    """Every runtime against a rule of the bottoms, with its slopes, and at another batch."""
    run = Run(type, inputs, fields={param: fields} if param else {}, **more)
    expected = rule(*run.double())
    expected = expected if isinstance(expected, list) else [expected]
    run.holds(expected, OPSETS)
    run.stays_double()
    if bottoms:
        run.slopes_hold(numbers(*expected[0].shape, seed=7), bottoms)
    if batch:
        twice = [np.concatenate([x] * 2) for x in run.inputs]
        agree(run.onnx(17, twice), run.reference(twice), FORWARD, "another batch")
    return run


@pytest.mark.parametrize("axis", [0, 1, -1, 3])
def test_stack_and_unstack(axis):
    parts = [numbers(2, 3, 4, seed=i) for i in range(3)]

    def stacked(*bottoms):
        y = np.zeros(np.insert((2, 3, 4), axis % 4, 3))
        for i, x in enumerate(bottoms):
            for at in np.ndindex(*x.shape):
                y[tuple(np.insert(at, axis % 4, i))] = x[at]
        return y

    proven("Stack", parts, stacked, "stack_param", {"axis": axis}, (0, 1, 2), batch=axis != 0)
    whole = stacked(*parts).astype(np.float32)
    run = proven("Unstack", [whole], lambda x: parts32(parts), "unstack_param", {"axis": axis}, batch=axis != 0, tops=3)
    assert len(run.reference()) == 3
    for match, fields, tops in [("num 2 for 3", {"num": 2}, 3), ("4 tops for 3", {}, 4)]:
        refused(match, "Unstack", [whole], fields={"unstack_param": {"axis": axis, **fields}}, tops=tops)


def parts32(parts):
    return [p.astype(np.float32).astype(np.float64) for p in parts]


def test_axes_of_extent_1():
    x = numbers(2, 1, 3, 1)
    proven("Squeeze", [x], lambda x: x.reshape(2, 3))
    proven("Squeeze", [x], lambda x: x.reshape(2, 1, 3), "squeeze_param", {"axis": [-1]})
    Run("Squeeze", [numbers(1, 1, 3)]).holds([numbers(1, 1, 3).astype(np.float32).reshape(3)])
    refused("extent 3", "Squeeze", [x], fields={"squeeze_param": {"axis": [2]}})
    x = numbers(2, 3)
    for axis, top in [
        ([0], (1, 2, 3)),
        ([2, 1], None),
        ([1, 2], (2, 1, 3, 1)),
        ([-1], (2, 3, 1)),
        ([0, 0], (1, 1, 2, 3)),
    ]:
        fields = {"expand_dims_nd_param": {"axis": axis}}
        if top is None:  # the second place is counted behind the first new axis: 2, then 1 + 1
            top = (2, 3, 1, 1)
        run = Run("ExpandDimsND", [x], fields=fields)
        run.holds([run.double()[0].reshape(top)], OPSETS)
        run.slopes_hold(numbers(*top, seed=1))
    refused("axis 3", "ExpandDimsND", [x], fields={"expand_dims_nd_param": {"axis": [3]}})


@pytest.mark.parametrize("times", [[2], [1, 3], [2, 1, 3]])
def test_tiles(times):
    def rule(x):
        full = [*times, *[1] * (x.ndim - len(times))]
        y = np.zeros([n * t for n, t in zip(x.shape, full, strict=True)])
        for at in np.ndindex(*y.shape):
            y[at] = x[tuple(i % n for i, n in zip(at, x.shape, strict=True))]
        return y

    # a batch that is repeated is another order than the repeated batch of a doubled one
    proven("TileND", [numbers(2, 3, 4)], rule, "tile_nd_param", {"multiples": times})


def test_broadcasting_to_a_shape():
    def rule(x):
        y = np.zeros((2, 3, 4))
        for i, j, k in np.ndindex(2, 3, 4):
            y[i, j, k] = x[j, 0]
        return y

    proven("BroadcastTo", [numbers(3, 1)], rule, "broadcast_to_param", {"shape": [2, 3, 4]}, batch=False)
    for shape in ([3], [2, 2, 4], [4, 1]):
        refused("shape", "BroadcastTo", [numbers(3, 1)], fields={"broadcast_to_param": {"shape": shape}})
    refused("multiples", "TileND", [numbers(3, 1)], fields={"tile_nd_param": {"multiples": [1, 0]}})


def beyond(i, n, mode):
    """Which of n cells the one at place i is, or None."""
    if 0 <= i < n:
        return i
    edge = min(max(i, 0), n - 1)
    over = abs(i - edge)
    inward = 1 if i < 0 else -1
    return {"REFLECT": edge + inward * over, "SYMMETRIC": edge + inward * (over - 1), "EDGE": edge}.get(mode)


@pytest.mark.parametrize("mode", ["", "REFLECT", "SYMMETRIC", "EDGE", "CONSTANT"])
@pytest.mark.parametrize("paddings", [[0, 0, 1, 2, 3, 0], [0, 0, 0, 0, 2, 2], [2, 1, 1, 0, 0, 3], [0] * 6])
def test_padding(mode, paddings):
    pads = list(zip(paddings[::2], paddings[1::2], strict=True))

    def rule(x):
        y = np.zeros([n + a + b for n, (a, b) in zip(x.shape, pads, strict=True)])
        for at in np.ndindex(*y.shape):
            places = [beyond(i - p[0], n, mode) for i, p, n in zip(at, pads, x.shape, strict=True)]
            y[at] = 1.5 if None in places else x[tuple(places)]
        return y

    type, param = ("MirrorPad", "mirror_pad_param") if mode else ("Pad", "pad_param")
    fields = {"paddings": paddings, "constant_values": 1.5, **({"mode": mode} if mode else {})}
    proven(type, [numbers(3, 4, 5)], rule, param, fields, batch=not any(paddings[:2]))


def test_what_padding_refuses():
    x = numbers(2, 3)
    refused("3 paddings", "Pad", [x], fields={"pad_param": {"paddings": [1, 1, 1]}})
    for mode in ("REFLECT", "SYMMETRIC"):
        fields = {"mirror_pad_param": {"mode": mode, "paddings": [0, 0, 4, 0]}}
        refused("4 cells beside axis 1", "MirrorPad", [x], fields=fields)


def sliced(begin, end, **more):
    return {"begin": begin, "end": end, **more}


SLICES = [
    (sliced([0, 1], [9, 3]), np.s_[:, 1:3]),
    (sliced([0, 1, 0], [0, 0, 5], strides=[1, 1, 2], begin_mask=1, end_mask=3), np.s_[:, 1:, 0:5:2]),
    (sliced([0, -1, -1], [0, 0, 0], strides=[1, -1, -2], begin_mask=1, end_mask=7), np.s_[:, ::-1, ::-2]),
    (sliced([0, 1], [0, 2], begin_mask=1, end_mask=1, shrink_axis_mask=2), np.s_[:, 1]),
    (sliced([0, 2], [0, 3], ellipsis_mask=1), np.s_[..., 2:3]),
    (sliced([0, 0, 2], [0, 0, 3], ellipsis_mask=2, begin_mask=1, end_mask=1, shrink_axis_mask=4), np.s_[:, ..., 2]),
    (sliced([0, 0, 1], [0, 0, 9], new_axis_mask=2, begin_mask=1, end_mask=1), np.s_[:, None, 1:9]),
    (sliced([0, 0], [0, 0], ellipsis_mask=1, new_axis_mask=2), np.s_[..., None]),
    (
        sliced([0, 0, -1, 1], [0, 0, 0, 3], begin_mask=1, end_mask=1, ellipsis_mask=2, new_axis_mask=4),
        np.s_[:, ..., None, 1:3],
    ),
    (sliced([3, 0], [-3, 2], axes=[2, 1], strides=[1, 1]), np.s_[:, 0:2, 3:-3]),
    (sliced([5], [-9], axes=[-1], strides=[-2]), np.s_[:, :, 5::-2]),
]


@pytest.mark.parametrize(("fields", "index"), SLICES)
def test_strided_slices(fields, index):
    written = {k: v for k, v in fields.items() if v != []}
    proven("StridedSlice", [numbers(2, 4, 7)], lambda x: x[index], "strided_slice_param", written)


def test_a_slice_of_the_batch():
    fields = {"begin": [1], "end": [3]}
    proven("StridedSlice", [numbers(4, 3)], lambda x: x[1:3], "strided_slice_param", fields)
    run = Run("StridedSlice", [numbers(4, 3)], fields={"strided_slice_param": {"begin": [-2], "end": [9]}})
    assert run.reference()[0].shape == (2, 3)
    with pytest.raises(CaffeError, match="the end of the batch"):
        run.onnx()


def test_pieces():
    fields = {"begin": [0, 1, 2], "size": [-1, 2, -1]}
    proven("Piece", [numbers(2, 4, 7)], lambda x: x[:, 1:3, 2:], "piece_param", fields)
    for match, fields in [
        ("one of each", {"begin": [0], "size": [1]}),
        ("cells that", {"begin": [0, 3], "size": [1, 2]}),
    ]:
        refused(match, "Piece", [numbers(2, 4)], fields={"piece_param": fields})


def test_what_slices_refuse():
    x = numbers(2, 4, 7)
    for match, fields in [
        ("as many of each", {"begin": [0]}),
        ("stride 0", {"begin": [0], "end": [1], "strides": [0]}),
        ("one bit", {"begin": [0], "end": [1], "ellipsis_mask": 3}),
        ("a mask beside axes", {"begin": [0], "end": [1], "axes": [1], "end_mask": 1}),
        ("no cell of axis 1", {"begin": [0, 2], "end": [9, 2]}),
        ("counts from the end of axis 1", {"begin": [0, -1], "end": [0, 9], "ellipsis_mask": 1}),
        ("4 begin for 3 axes", {"begin": [0] * 4, "end": [1] * 4}),
    ]:
        refused(match, "StridedSlice", [x], fields={"strided_slice_param": fields})


@pytest.mark.parametrize(("form", "axis"), [([4], 1), ([2, 2], -1), ([0], 1), ([], 2)])
def test_gather(form, axis):
    indices = [2, 0, 1, 2] if form and form != [0] else [1]
    fields = {"indices": indices, "shape": form, "axis": axis}
    places = np.reshape(indices, form if form != [0] else ())

    def rule(x):
        slices = {at: np.moveaxis(x, axis, 0)[places[at]] for at in np.ndindex(*places.shape)}
        y = np.zeros((*places.shape, *next(iter(slices.values())).shape))
        for at, values in slices.items():
            y[at] = values
        return np.moveaxis(y, list(range(places.ndim)), [axis % x.ndim + i for i in range(places.ndim)])

    proven("Gather", [numbers(2, 3, 5)], rule, "gather_param", fields)
    x = numbers(2, 3, 5)
    run = Run("GatherV2", [x, places.astype(float) + 0.25], fields={"gather_v2_param": {"axis": axis}})
    run.holds([rule(run.double()[0])], OPSETS)
    run.slopes_hold(numbers(*run.reference()[0].shape, seed=1))


def test_gather_at_places_of_several_axes():
    fields = {"indices": [1, 2, 0, 0, 1, 1], "indices_shape": [3, 2]}

    def rule(x):
        return np.stack([x[1, 2], x[0, 0], x[1, 1]])

    for name in ("GatherND", "GatherNd"):
        proven(name, [numbers(2, 3, 4)], rule, "gather_nd_param", fields, batch=False)
    whole = {"indices": [1, 2, 3], "indices_shape": [3]}
    Run("GatherND", [numbers(2, 3, 4)], fields={"gather_nd_param": whole}).holds(
        [np.float32(numbers(2, 3, 4)[1, 2, 3])]
    )


def test_what_gathering_refuses():
    x = numbers(2, 3)
    for match, fields in [
        ("2 indices", {"indices": [0, 1], "shape": [3]}),
        ("index 3 of 3", {"indices": [3], "axis": 1}),
    ]:
        refused(match, "Gather", [x], fields={"gather_param": fields})
    for match, fields in [
        ("indices_shape", {"indices": [0], "indices_shape": [3, 3]}),
        ("index 3 of axis 1", {"indices": [0, 3], "indices_shape": [2]}),
        ("1 indices", {"indices": [0], "indices_shape": [2]}),
    ]:
        refused(match, "GatherND", [x], fields={"gather_nd_param": fields})
    with pytest.raises(CaffeError, match="index 3 at item 0"):
        Run("GatherV2", [x, np.array([3.0])], fields={"gather_v2_param": {"axis": 1}}).reference()
    refused("batch_flag", "GatherV2", [x, np.zeros(1)], fields={"gather_v2_param": {"batch_flag": True}})


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(axis):
    x = np.array([[0.0, 2.7, 3.0], [-0.5, 1.0, 9.0]])

    def rule(x):
        y = np.full((2, 3, 4), -0.5)
        for i, j in np.ndindex(2, 3):
            if 0 <= x[i, j] < 4:
                y[i, j, int(x[i, j])] = 1.5
        return np.moveaxis(y, -1, axis)

    fields = {"depth": 4, "axis": axis, "on_value": 1.5, "off_value": -0.5}
    proven("OneHot", [x], rule, "one_hot_param", fields, bottoms=(), batch=axis != 0)
    refused("depth", "OneHot", [x])
    refused("axis 3", "OneHot", [x], fields={"one_hot_param": {"depth": 2, "axis": 3}})


@pytest.mark.parametrize("name", ["NHWC", "NCHW", "DCR", "CRD"])
@pytest.mark.parametrize("block", [1, 2, 3])
def test_depth_and_space(name, block):
    deep = numbers(2, 2 * block * block, 3, 4)  # as N x C x H x W

    def rule(x):
        y = np.zeros((2, 2, 3 * block, 4 * block))
        for n, c, h, w in np.ndindex(*y.shape):
            cell = (h % block) * block + w % block
            y[n, c, h, w] = x[n, c * block * block + cell if name == "CRD" else cell * 2 + c, h // block, w // block]
        return y

    last = name == "NHWC"
    turn, back = ((0, 2, 3, 1), (0, 3, 1, 2)) if last else ((0, 1, 2, 3),) * 2
    fields = {"block_size": block, "data_format": name}
    proven(
        "DepthToSpace",
        [deep.transpose(turn)],
        lambda x: rule(x.transpose(back)).transpose(turn),
        "depth_to_space_param",
        fields,
    )
    if name in ("NHWC", "NCHW"):
        wide = rule(deep.astype(np.float32)).transpose(turn)
        expected = deep.astype(np.float32).astype(float).transpose(turn)
        proven("SpaceToDepth", [wide], lambda x: expected, "space_to_depth_param", fields)


def test_what_depth_and_space_refuse():
    x = numbers(1, 4, 3, 5)
    for match, fields in [
        ("block_size 0", {}),
        ("data_format NHW", {"block_size": 2, "data_format": "NHW"}),
        ("5 channels", {"block_size": 2}),
    ]:
        refused(match, "DepthToSpace", [x], fields={"depth_to_space_param": fields})
    refused("3x5 cells", "SpaceToDepth", [x], fields={"space_to_depth_param": {"block_size": 2, "data_format": "NCHW"}})
    refused("4 axes", "SpaceToDepth", [x[0]], fields={"space_to_depth_param": {"block_size": 1}})


def product(a, b):
    y = np.zeros((*a.shape[:-1], b.shape[-1]))
    for at in np.ndindex(*y.shape):
        matrix = b if b.ndim < a.ndim else b[at[:-2]]
        y[at] = sum(a[(*at[:-1], k)] * matrix[k, at[-1]] for k in range(a.shape[-1]))
    return y


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
def test_products(turned):
    a, b = numbers(2, 3, 4), numbers(2, 4, 5)
    a, b = a.swapaxes(1, 2) if turned[0] else a, b.swapaxes(1, 2) if turned[1] else b

    def rule(a, b):
        return product(a.swapaxes(1, 2) if turned[0] else a, b.swapaxes(1, 2) if turned[1] else b)

    fields = {"transpose_a": turned[0], "transpose_b": turned[1]}
    proven("MatMul", [a, b], rule, "matmul_param", fields, (0, 1))
    c = numbers(1, 5, seed=3)
    fields = {"alpha": 0.5, "beta": -2, "transA": int(turned[0]), "transB": int(turned[1])}

    def gemm(a, b, c):
        return 0.5 * product(a.T if turned[0] else a, b.T if turned[1] else b) - 2 * c

    for added in (c, c[0, :1], numbers(3, 1, seed=4), numbers(3, 5, seed=5)):
        proven("Gemm", [a[0], b[0], added], gemm, "gemm_param", fields, (0, 1, 2), batch=False)


def test_one_matrix_for_all():
    proven("MatMul", [numbers(2, 3, 4), numbers(4, 5)], product, bottoms=(0, 1), batch=False)
    run = Run("MatMul", [numbers(2, 3, 4)], [numbers(4, 5, seed=1)], fields={"matmul_param": {"blob_shape": [4, 5]}})
    run.holds([product(run.double()[0], run.blobs[0].astype(float))], OPSETS)
    run.slopes_hold(numbers(2, 3, 5, seed=2), blobs=(0,))


def test_what_products_refuse():
    refused("inner and outer", "MatMul", [numbers(2, 3), numbers(4, 3)])
    refused("matrices", "MatMul", [numbers(2, 3)])
    refused("transposed", "MatMul", [numbers(2, 2, 2), numbers(2, 2)], fields={"matmul_param": {"transpose_b": True}})
    refused("two matrices", "Gemm", [numbers(2), numbers(2, 2), numbers(1)])
    refused("a row, a column", "Gemm", [numbers(2, 3), numbers(3, 4), numbers(4)])
    refused("0 or 1", "Gemm", [numbers(2, 3), numbers(3, 4), numbers(1)], fields={"gemm_param": {"transA": 2}})


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (2, 3, 2, 2)])
def test_layer_norm(shape):
    x, scale, offset = numbers(*shape), numbers(*shape[1:], seed=1), numbers(*shape[1:], seed=2)
    run = Run("LayerNorm", [x], [scale, offset], fields={"layer_norm_param": {"eps": 0.25}})
    expected = np.zeros(shape)
    for i, item in enumerate(run.double()[0]):
        mean = item.sum() / item.size
        variance = sum((v - mean) ** 2 for v in item.reshape(-1)) / item.size
        expected[i] = (item - mean) / np.sqrt(variance + 0.25)
    run.holds([expected * run.blobs[0].astype(float) + run.blobs[1].astype(float)], OPSETS)
    run.slopes_hold(numbers(*shape, seed=3), blobs=(0, 1))
    fields = {"layer_norm_param": {"eps": 0.25, "elementwise_affine": False}}
    plain = Run("LayerNorm", [x], fields=fields)
    plain.holds([expected], OPSETS)
    plain.slopes_hold(numbers(*shape, seed=3))
    more = [np.concatenate([run.inputs[0]] * 2)]
    agree(run.onnx(17, more), run.reference(more), FORWARD, "another batch")


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("axis", [[1], [0, -1], []])
def test_norms(axis, p):
    def rule(x):
        sums = {}
        named = [a % x.ndim for a in axis]
        for at in np.ndindex(*x.shape):
            key = tuple(0 if i in named else n for i, n in enumerate(at))
            sums[key] = sums.get(key, 0) + abs(x[at]) ** p
        y = np.zeros(x.shape)
        for at in np.ndindex(*x.shape):
            y[at] = x[at] / sums[tuple(0 if i in named else n for i, n in enumerate(at))] ** (1 / p)
        return y

    proven("LpNormalization", [numbers(2, 3, 4)], rule, "lp_normalization_param", {"axis": axis, "p": p})


def test_what_norms_refuse():
    refused("p 0", "LpNormalization", [numbers(2, 3)], fields={"lp_normalization_param": {"p": 0}})
    refused("each once", "LpNormalization", [numbers(2, 3)], fields={"lp_normalization_param": {"axis": [1, 1]}})
