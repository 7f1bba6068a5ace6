"""The registry of layer types against the schema; golden numbers of single layers; fillers."""

from __future__ import annotations

import dataclasses
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from small_nets import inputs, layer

import port
from port.graph.reference import run_reference
from port.layers import REGISTRY, RULES, Context, Layer, Misfit, make_layer, register
from port.layers.base import dialects
from port.layers.making import schema_default
from port.layers.pooling import pool_extent
from port.weights.fillers import fan, fill, stream
from prototxt_gen.base.errors import NetError
from prototxt_gen.schema import descriptor, is_repeated, message_class
from prototxt_gen.schema.messages import native_names
from verify.parity.golden import find_cases, load_case, read_recording

GOLDEN = Path(__file__).parents[2] / "golden"
TYPES = sorted(name for name in REGISTRY if dialects(REGISTRY[name]))
each_type = pytest.mark.parametrize("kind", TYPES)


# -- the registry against the schema ------------------------------------------------------------------------
def schema_fields(kind: str, dialect: str) -> dict[str, tuple[str, str]]:
    """Field -> the *_param message of a layer type that has it, and its type."""
    params = descriptor("LayerParameter", dialect).fields_by_name
    held = [(param, params[param].message_type) for param in REGISTRY[kind].param if param in params]
    native = native_names(dialect)  # what forks have beside is honoured or refused one by one
    return {f.name: (param, f) for param, message in held for f in message.fields if (message.name, f.name) in native}


# Defaults that are not the schema's, because Caffe's code looks at whether the field was set.
SET_OR_NOT = {
    ("Convolution", "pad_h"): "the form for height and width replaces the other one",
    ("Convolution", "pad_w"): "the form for height and width replaces the other one",
    ("SoftmaxWithLoss", "normalization"): "`normalize` is read where it is not set",
    ("SoftmaxWithLoss", "normalize"): "read where `normalization` is not set",
    ("SigmoidCrossEntropyLoss", "normalization"): "BATCH_SIZE, not the schema's VALID, where it is not set",
    ("SigmoidCrossEntropyLoss", "normalize"): "only BVLC looks at it",
    ("InfogainLoss", "normalization"): "`normalize` is refused, whatever its value",
    ("InfogainLoss", "normalize"): "refused, whatever its value",
    ("ImageData", "batch_size"): "1 in BVLC, none in the fork",
}
for twin in ("Deconvolution", "Im2col", "Pooling"):
    SET_OR_NOT |= {(twin, f): why for (kind, f), why in SET_OR_NOT.items() if kind == "Convolution"}
for name in ("pad", "stride"):
    SET_OR_NOT["Pooling", name] = "it and the form for height and width exclude each other"
for kind, names in (("Concat", ("axis", "concat_dim")), ("Slice", ("axis", "slice_dim"))):
    SET_OR_NOT |= {(kind, name): "the two exclude each other" for name in names}
# What a filler that is not given amounts to (semantics 0, 1.7, 1.13).
FILLERS = {("Scale", "filler"): 1, ("PReLU", "filler"): 0.25}


@each_type
def test_every_field_has_the_schemas_default(kind):
    checked = 0
    for field in (f for f in dataclasses.fields(REGISTRY[kind]) if f.name != "at"):
        for dialect in dialects(REGISTRY[kind]):
            found = schema_fields(kind, dialect).get(field.name)
            if found is None:
                continue
            param, schema = found
            wanted = schema_default(param, field.name, dialect)
            checked += 1
            if field.name.endswith("filler") and not is_repeated(schema):
                assert field.default == FILLERS.get((kind, field.name), 0)
            elif (kind, field.name) in SET_OR_NOT:
                assert field.default is None
            elif isinstance(wanted, float):
                assert np.float32(field.default) == np.float32(wanted)
            elif schema.type == schema.TYPE_STRING and wanted is None:
                assert field.default in (None, "")
            elif field.default == () and not is_repeated(schema):
                # once in the fork, several in BVLC: nothing given means what the fork's default says
                assert any(is_repeated(schema_fields(kind, d)[field.name][1]) for d in dialects(REGISTRY[kind]))
                assert (field.name, wanted) in {("pad", 0), ("stride", 1), ("kernel_size", None)}
            elif (kind, field.name) == ("BatchReduction", "level"):
                assert field.default == (1,)  # which Caffe's layer puts there itself
            else:
                assert field.default == wanted
    assert checked or not any(schema_fields(kind, dialect) for dialect in dialects(REGISTRY[kind]))


@pytest.mark.parametrize(
    ("kind", "field", "others"),
    [
        ("Concat", "axis", {}),
        ("Concat", "concat_dim", {}),
        ("Slice", "axis", {}),
        ("Slice", "slice_dim", {}),
        ("Pooling", "pad", {"kernel_size": 2}),
        ("Pooling", "stride", {"kernel_size": 2}),
    ],
)
def test_leaving_such_a_field_out_means_the_schemas_default(kind, field, others):
    for dialect in ("bvlc", "srn"):
        tops = []
        for given in (others, others | {field: schema_default(REGISTRY[kind].param[0], field, dialect)}):
            message = message_class("LayerParameter", dialect)(name="l", type=kind)
            for name, value in given.items():
                setattr(getattr(message, REGISTRY[kind].param[0]), name, value)
            context = Context("l", "TEST", dialect, 2 if kind == "Concat" else 1, 2 if kind == "Slice" else 1)
            tops.append(make_layer(message, context).top_shapes(*[(4, 6, 8, 10)] * context.bottoms))
        assert tops[0] == tops[1]


@each_type
def test_every_field_of_the_schema_is_taken(kind):
    """Otherwise a valid net is refused, with "the field is not supported"."""
    taken = {f.name for f in dataclasses.fields(REGISTRY[kind])}
    for dialect in dialects(REGISTRY[kind]):
        assert set(schema_fields(kind, dialect)) <= taken
    assert set(REGISTRY[kind].param) <= params_of("bvlc") | params_of("srn")


def params_of(dialect: str) -> set[str]:
    return {name for owner, name in native_names(dialect) if owner == "LayerParameter"}


@each_type
def test_the_message_named_after_the_type_is_read(kind):
    """`convolution_param` for Convolution: a type whose fields are not read would be silently ignored."""
    for dialect in dialects(REGISTRY[kind]):
        own = {p for p in params_of(dialect) if p.removesuffix("_param").replace("_", "") == kind.lower()}
        assert own <= set(REGISTRY[kind].param)


@each_type
def test_every_type_is_documented_and_has_all_rules(kind):
    cls = REGISTRY[kind]
    assert cls.type == kind and len(cls.__doc__) > 30 and cls.__doc__ != Layer.__doc__
    assert all(getattr(cls, rule) is not getattr(Layer, rule) for rule in RULES)


@pytest.fixture
def registry():
    before = dict(REGISTRY)
    yield REGISTRY
    assert before == REGISTRY


def whole(**changes):
    rules = {rule: lambda self, *bottoms: bottoms for rule in RULES}
    return type("Mine", (Layer,), {"type": "Mine", "__annotations__": {}, **rules, **changes})


def test_a_duplicate_registration_fails(registry):
    with pytest.raises(TypeError, match="layer type 'ReLU' is empty or registered already"):
        register(whole(type="ReLU"))
    with pytest.raises(TypeError, match="empty or registered"):
        register(whole(type=""))


@pytest.mark.parametrize("rule", RULES)
def test_an_incomplete_registration_fails(registry, rule):
    with pytest.raises(TypeError, match=f"rules missing: {rule}"):
        register(whole(**{rule: getattr(Layer, rule)}))
    with pytest.raises(TypeError, match="kind 'magic'"):
        register(whole(kind="magic"))


def test_a_complete_registration_works(registry):
    try:
        assert register(whole()) is registry["Mine"]
    finally:
        registry.pop("Mine", None)


def test_a_field_that_a_type_does_not_take_is_refused():
    message = message_class("LayerParameter", "srn")(name="r", type="Reduction")
    message.reduction_param.k = 3
    with pytest.raises(Misfit, match="TOPK"):
        message.reduction_param.operation = message.reduction_param.TOPK
        make_layer(message, Context(dialect="srn", tops=1)).top_shapes((2, 3))


# -- shapes of any bottoms ----------------------------------------------------------------------------------
def random_bottoms(count: int):
    """Shapes of all ranks and small extents, zero among them; every second time all the same."""
    random = np.random.RandomState(count)
    for turn in range(80):
        shapes = [
            tuple(map(int, random.randint(0 if turn % 3 == 0 else 1, 6, random.randint(0, 7)))) for _ in range(count)
        ]
        yield shapes[:1] * count if turn % 2 else shapes


def assert_shapes_or_misfit(rules: Layer, bottoms) -> bool:
    try:
        tops = rules.top_shapes(*bottoms)
    except Misfit as misfit:
        assert misfit.parts["found"]
        return False
    rules.blobs(*bottoms)
    assert len(tops) == rules.at.tops
    assert all(isinstance(extent, int) and extent >= 0 for top in tops for extent in top)
    return True


@pytest.mark.parametrize("kind", [kind for kind in TYPES if REGISTRY[kind].kind != "data"])
def test_bottoms_of_any_shape_are_taken_or_refused(kind):
    """Never an IndexError or a division by zero: the graph could not say where it happened."""
    made = 0
    for dialect in dialects(REGISTRY[kind]):
        for count, tops in ((count, tops) for count in range(5) for tops in range(4)):
            message = message_class("LayerParameter", dialect)(name="l", type=kind)
            try:
                rules = make_layer(message, Context("l", "TEST", dialect, count, tops))
            except (Misfit, NetError):
                continue
            made += 1
            for bottoms in random_bottoms(count):
                assert_shapes_or_misfit(rules, bottoms)
    assert made or kind == "Python"  # which needs a module to be made


def test_recorded_layers_take_or_refuse_bottoms_of_any_shape():
    fitting = total = 0
    for case in find_cases([GOLDEN / "layers", GOLDEN / "edges"]):
        graph, _ = load_case(read_recording(case))
        for node in graph.nodes:
            if node.layer.kind != "data":
                for bottoms in random_bottoms(len(node.bottoms)):
                    fitting += assert_shapes_or_misfit(node.layer, bottoms)
                    total += 1
    assert total > 10000 and 0.1 < fitting / total < 0.9


# -- golden numbers -----------------------------------------------------------------------------------------
@pytest.fixture
def run(tmp_path):
    """Layer -> its first top, from the reference and from PyTorch, which must agree."""

    def compute(kind: str, fields: str, dialect: str = "bvlc", **bottoms):
        arrays = {name: np.asarray(array, np.float32) for name, array in bottoms.items()}
        path = tmp_path / "net.prototxt"
        shapes = inputs(**{name: array.shape for name, array in arrays.items()})
        path.write_text(shapes + layer("l", kind, " ".join(arrays), "y", fields))
        net = port.load_net(path, dialect=dialect)
        given = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
        top = net(**given)["y"]
        np.testing.assert_allclose(top.detach(), run_reference(net.caffe, {}, arrays)["y"], rtol=2e-6)
        if top.requires_grad:
            top.sum().backward()
        return top.detach().numpy(), {name: tensor.grad for name, tensor in given.items()}

    return compute


EXTENTS = [
    # extent, kernel, stride, pad, before the clip, final, rounded down
    (224, 3, 2, 0, 112, 112, 111),
    (7, 3, 2, 1, 4, 4, 4),
    (6, 3, 2, 1, 4, 4, 3),
    (5, 2, 2, 1, 4, 3, 3),
    (3, 2, 2, 1, 3, 2, 2),
    (4, 2, 2, 1, 3, 3, 3),
    (10, 3, 3, 1, 4, 4, 4),
    (14, 5, 3, 0, 4, 4, 4),
    (2, 1, 2, 0, 2, 2, 1),
]


@pytest.mark.parametrize(("extent", "kernel", "stride", "pad", "before", "final", "floor"), EXTENTS)
def test_pooling_extents(run, extent, kernel, stride, pad, before, final, floor):
    assert pool_extent(extent, kernel, stride, pad, False, False) == before
    assert pool_extent(extent, kernel, stride, pad, pad > 0, False) == final
    assert pool_extent(extent, kernel, stride, pad, False, True) == floor
    fields = f"pooling_param {{ kernel_size: {kernel} stride: {stride} pad: {pad} }}"
    y, _ = run("Pooling", fields, data=np.arange(3 * extent * extent).reshape(1, 3, extent, extent) + 1)
    assert y.shape == (1, 3, final, final)


@pytest.mark.parametrize(
    ("side", "fields", "expected"),
    [
        (
            5,
            "pool: AVE kernel_size: 3 stride: 2 pad: 1",
            [[1.7778, 3.6667, 3.1111], [7.6667, 13, 9.6667], [8.4444, 13.6667, 9.7778]],
        ),
        (4, "pool: AVE kernel_size: 3 stride: 2", [[6, 7.5], [12, 13.5]]),
        (3, "pool: AVE kernel_size: 2 stride: 2 pad: 1", [[0.25, 1.25], [2.75, 7]]),
        (3, "pool: MAX kernel_size: 2 stride: 2 pad: 1", [[1, 3], [7, 9]]),
    ],
)
def test_pooling_values(run, side, fields, expected):
    matrix = np.arange(side * side).reshape(1, 1, side, side) + 1
    y, _ = run("Pooling", f"pooling_param {{ {fields} }}", data=matrix)
    np.testing.assert_allclose(y[0, 0], expected, atol=5e-5)


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_sigmoid_cross_entropy(run, dialect):
    x, t = [[2, -1, 0.5], [0, 3, -2]], [[1, 0, 1], [0, 1, 0]]
    y, grads = run("SigmoidCrossEntropyLoss", "", dialect, x=x, t=t)
    assert y.shape == () and y == pytest.approx(0.8914646, abs=2e-7)
    expected = [[-0.05960146, 0.13447071, -0.18877033], [0.25, -0.02371294, 0.05960146]]
    np.testing.assert_allclose(grads["x"], expected, atol=5e-8)
    assert grads["t"] is None


def test_contrastive_loss(run):
    bottoms = {"a": [[1, 2], [0, 1]], "b": [[1, 1], [0.5, 1]], "t": [1, 0]}
    assert run("ContrastiveLoss", "", **bottoms)[0] == pytest.approx(0.3125, abs=1e-7)
    legacy = "contrastive_loss_param { legacy_version: true }"
    assert run("ContrastiveLoss", legacy, **bottoms)[0] == pytest.approx(0.4375, abs=1e-7)


def test_hinge_loss(run):
    bottoms = {"x": [[1, -0.5, 0.2], [0.3, 0.4, -2]], "t": [0, 2]}
    assert run("HingeLoss", "", **bottoms)[0] == pytest.approx(3.7, abs=1e-6)
    assert run("HingeLoss", "hinge_loss_param { norm: L2 }", **bottoms)[0] == pytest.approx(7.17, abs=1e-6)


def test_lrn_across_channels(run):
    fields = "lrn_param { local_size: 3 alpha: 0.3 beta: 0.75 k: 2 }"
    y, _ = run("LRN", fields, data=np.arange(1, 6).reshape(1, 5, 1, 1))
    np.testing.assert_allclose(y.flatten(), [0.502973, 0.798768, 0.910907, 0.929472, 1.288168], atol=1e-6)


# -- fillers ------------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:overflow")
def test_an_exponential_beyond_all_numbers_is_infinite(run):
    y, _ = run("Exp", "exp_param { shift: 3e38 }", x=np.ones((2, 3)))
    assert np.isposinf(y).all()


def filler(dialect: str = "bvlc", **fields):
    message = message_class("FillerParameter", dialect)()
    for name, value in fields.items():
        if name == "variance_norm":
            value = message.DESCRIPTOR.fields_by_name[name].enum_type.values_by_name[value].number
        setattr(message, name, value)
    return message


CONVOLUTION = (64, 8, 3, 3)  # 64 outputs, 32 inputs in 4 groups


def drawn(shape=CONVOLUTION, seed: int = 0, **fields) -> np.ndarray:
    values = fill(filler(**fields), shape, "bvlc", seed, "conv1", 0)
    assert values.shape == shape and values.dtype == np.float32 and np.isfinite(values).all()
    return values


@pytest.mark.parametrize(
    ("norm", "n", "bound"),
    [("FAN_IN", 72, 0.2041241), ("FAN_OUT", 576, 0.0721688), ("AVERAGE", 324, 0.0962250)],
)
def test_fans_and_xavier(norm, n, bound):
    assert fan(filler(variance_norm=norm), CONVOLUTION) == n
    values = drawn(type="xavier", variance_norm=norm)
    assert 0.99 * bound < np.abs(values).max() <= bound * (1 + 1e-6)
    assert_moments(values, 0, bound / sqrt(3))


def test_fans_of_other_shapes():
    assert fan(filler(), (6, 60)) == 60 and fan(filler(variance_norm="FAN_OUT"), (6, 60)) == 6
    assert fan(filler(), (6,)) == 1 and fan(filler(variance_norm="FAN_OUT"), (6,)) == 6


def test_msra():
    assert_moments(drawn(type="msra"), 0, 1 / 6)
    assert_moments(drawn(type="msra", variance_norm="FAN_OUT"), 0, sqrt(2 / 576))


def assert_moments(values: np.ndarray, mean: float, deviation: float) -> None:
    """Mean and deviation within 4.5 standard errors of that many draws (of distributions without heavy tails)."""
    error = 4.5 * deviation / sqrt(values.size)
    assert abs(values.mean() - mean) < error and abs(values.std() - deviation) < error


def test_plain_distributions():
    assert (drawn(type="constant", value=-2.5) == -2.5).all() and (drawn() == 0).all()
    values = drawn(type="uniform", min=-3, max=5)
    assert -3 <= values.min() < -2.99 and 4.99 < values.max() < 5
    assert_moments(values, 1, 8 / sqrt(12))
    assert_moments(drawn(type="uniform"), 0.5, 1 / sqrt(12))  # 0 to 1 by default
    values = drawn(type="gaussian", mean=2, std=0.25)
    assert_moments(values, 2, 0.25)
    assert 2.5 < np.abs((values - 2) / 0.25).max() < 6 and abs(np.mean(values > 2.25) - 0.1587) < 0.01
    assert_moments(drawn(type="gaussian"), 0, 1)


def test_a_sparse_gaussian_keeps_a_share():
    values = drawn((64, 500), type="gaussian", std=2, sparse=16)
    kept = values[values != 0]
    assert abs(kept.size / values.size - 16 / 64) < 0.011  # 4.5 standard errors
    assert_moments(kept, 0, 2)


def test_the_unit_ball_is_positive_and_sums_to_1():
    values = drawn((7, 5, 3, 2), type="positive_unitball")
    np.testing.assert_allclose(values.reshape(7, -1).sum(1), 1, rtol=1e-6)
    assert values.min() > 0 and values.std() > 0.01


def test_fillers_of_face_nets():
    values = drawn((40, 5, 3, 2), type="gaussian_unitball")
    np.testing.assert_allclose((values**2).reshape(40, -1).sum(1), 1, rtol=1e-6)
    assert values.min() < -0.3 and values.max() > 0.3
    np.testing.assert_array_equal(drawn((4, 4), type="identity"), np.eye(4))
    np.testing.assert_array_equal(drawn((3, 3, 1, 1), type="identity")[..., 0, 0], np.eye(3))
    with pytest.raises(Misfit, match="an identity filler for 3x4"):
        drawn((3, 4), type="identity")


PROFILES = [
    (2, [1, 0], [0.5, 0.5]),
    (3, [0.25, 0.75, 0.75], [0.5, 1, 0.5]),
    (4, [0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25]),
    (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3], [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
    (6, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 0], [1 / 6, 0.5, 5 / 6, 5 / 6, 0.5, 1 / 6]),
]


@pytest.mark.parametrize(("side", "fork", "bvlc"), PROFILES)
def test_the_bilinear_kernel(side, fork, bvlc):
    for dialect, profile in (("srn", fork), ("bvlc", bvlc)):
        values = fill(filler(dialect, type="bilinear"), (3, 2, side, side), dialect, 0, "up", 0)
        assert values.shape == (3, 2, side, side) and values.dtype == np.float32
        for kernel in values.reshape(-1, side, side):
            np.testing.assert_allclose(kernel, np.outer(profile, profile), atol=1e-7)


@pytest.mark.parametrize(
    ("fields", "shape", "says"),
    [
        ({"type": "gausian"}, CONVOLUTION, "the filler type 'gausian'"),
        ({"type": "bilinear"}, (4, 3, 5, 7), "a bilinear filler"),
        ({"type": "bilinear"}, (4, 3), "a bilinear filler"),
        ({"type": "xavier", "sparse": 3}, CONVOLUTION, "sparse 3 with a xavier filler"),
        ({"type": "gaussian", "std": 0}, CONVOLUTION, "std 0"),
        ({"type": "gaussian", "std": -1}, CONVOLUTION, "std -1"),
        ({"type": "uniform", "min": 2}, CONVOLUTION, "min 2 above max 1"),
    ],
)
def test_fillers_that_caffe_refuses(fields, shape, says):
    with pytest.raises(Misfit, match=says):
        fill(filler(**fields), shape, "bvlc", 0, "conv1", 0)


def test_wrong_fillers_of_a_net_are_all_named(tmp_path):
    text = inputs(data=(2, 3, 5, 7))
    for name, kind in (("one", "gausian"), ("two", "xavier"), ("three", "heh")):
        param = f'convolution_param {{ num_output: 4 kernel_size: 1 weight_filler {{ type: "{kind}" }} }}'
        text += layer(name, "Convolution", "data", name, param)
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(NetError) as caught:
        port.load_net(tmp_path / "net.prototxt")
    assert [(p.layer, p.line, p.found) for p in caught.value.problems] == [
        ("one", 3, "the filler type 'gausian'"),
        ("three", 5, "the filler type 'heh'"),
    ]
    assert "xavier" in caught.value.problems[0].expected


def test_every_blob_has_a_stream_of_its_own():
    draws = [stream(*name).standard_normal(4) for name in ((0, "a", 0), (0, "a", 1), (0, "b", 0), (1, "a", 0))]
    assert len({tuple(draw) for draw in draws}) == 4
    assert (stream(0, "a", 0).standard_normal(4) == draws[0]).all()


def test_the_streams_are_the_same_everywhere():
    """The numbers of seeded files: NumPy's RandomState is frozen, so these never change."""
    expected = [-1.4032963452581726, -2.1380196348140164, -0.46937775133331044]
    assert stream(7, "conv1", 0).standard_normal(3).tolist() == pytest.approx(expected, rel=1e-14)
    values = fill(filler(type="xavier"), (2, 3), "bvlc", 7, "fc", 0)
    assert values.flatten()[:2] == pytest.approx([0.1445060670375824, 0.951874315738678], rel=1e-6)
