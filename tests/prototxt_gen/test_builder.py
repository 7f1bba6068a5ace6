"""The builder: fields by reflection, connection rules, and what it refuses."""

from __future__ import annotations

import pytest

from prototxt_gen.base.errors import NetError, UsageError
from prototxt_gen.builder import NetBuilder
from prototxt_gen.schema.dialect import LAYER_TYPES
from prototxt_gen.schema.text import parse

DIALECTS = ("bvlc", "srn")


def small_net(dialect: str = "srn") -> tuple[NetBuilder, str]:
    net = NetBuilder("small", dialect)
    return net, net.input("data", (2, 3, 5, 7))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_fields_go_where_the_schema_has_them(dialect):
    net, x = small_net(dialect)
    x = net.Convolution(
        "conv", x, num_output=11, kernel_size=3, pad=1, weight_filler={"type": "gaussian", "std": 0.5},
        param=[{"lr_mult": 1}, {"lr_mult": 2, "decay_mult": 0}],
    )  # fmt: skip
    net.Pooling("pool", x, pool="AVE", global_pooling=True, loss_weight=0.25)
    conv, pool = net.build().layer[-2:]
    # repeated in bvlc, single in srn: the same statement serves both
    kernel = conv.convolution_param.kernel_size
    assert (list(kernel) if dialect == "bvlc" else [kernel]) == [3]
    assert conv.convolution_param.weight_filler.std == 0.5
    assert [spec.lr_mult for spec in conv.param] == [1, 2]
    assert conv.param[1].HasField("decay_mult") and not conv.param[0].HasField("decay_mult")
    assert pool.pooling_param.pool == pool.pooling_param.AVE
    assert list(pool.loss_weight) == [0.25]
    assert (list(conv.bottom), list(conv.top), list(pool.bottom)) == (["data"], ["conv"], ["conv"])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_layer_type_of_the_dialect_can_be_written(dialect):
    net, x = small_net(dialect)
    for type in sorted(LAYER_TYPES[dialect]):
        net.layer(type, f"a_{type}", x)
    types = {layer.type for layer in net.build().layer}
    assert types >= LAYER_TYPES[dialect]
    assert parse(net.to_text(), dialect=dialect) == net.build()


def test_a_type_without_own_fields_takes_whole_messages():
    net, x = small_net()
    x = net.Deconvolution("up", x, convolution_param={"num_output": 6, "kernel_size": 2, "stride": 2})
    # reduction_param stands both in BatchReductionParameter and in the layer: the type's own comes first
    net.BatchReduction("mean", x, level=[1], reduction_param={"operation": "MEAN", "axis": 2})
    up, mean = net.build().layer
    assert (up.convolution_param.num_output, up.convolution_param.stride) == (6, 2)
    assert mean.batch_reduction_param.reduction_param.axis == 2
    assert not mean.HasField("reduction_param")


def test_tops():
    net, x = small_net()
    assert net.ReLU("relu", x, in_place=True) == "data"
    assert net.Sigmoid("s", x, top="probability") == "probability"
    assert net.Slice("cut", x, top=["head", "tail"], axis=1, slice_point=1) == ("head", "tail")
    assert net.Silence("quiet", "head", top=()) == ()
    assert [list(layer.top) for layer in net.build().layer] == [
        ["data"],
        ["probability"],
        ["head", "tail"],
        [],
    ]
    assert net.outputs() == ["probability", "tail"]


def test_inputs_follow_the_dialect():
    net, _ = small_net("srn")
    message = net.build()
    assert (list(message.input), list(message.input_shape[0].dim), len(message.layer)) == (
        ["data"],
        [2, 3, 5, 7],
        0,
    )
    net, _ = small_net("bvlc")
    message = net.build()
    assert (message.layer[0].type, list(message.layer[0].top)) == ("Input", ["data"])
    assert list(message.layer[0].input_param.shape[0].dim) == [2, 3, 5, 7]


def test_sections_and_parts():
    net, x = small_net("srn")
    net.section("The first part", part="first")
    x = net.ReLU("relu", x)
    net.section("A title without a part stays in the part")
    x = net.TanH("tanh", x)
    net.section("The last part", part="last")
    net.Sigmoid("sigmoid", x)
    assert net.parts == {"relu": "first", "tanh": "first", "sigmoid": "last"}
    lines = net.to_text("A header\nof two lines").splitlines()
    assert lines[:2] == ["# A header", "# of two lines"]
    for title, name in (("The first part", "relu"), ("The last part", "sigmoid")):
        at = lines.index(f"# {title}")
        assert lines[at + 1 : at + 3] == ["layer {", f'  name: "{name}"']
    assert parse(net.to_text("A header"), dialect="srn") == net.build()


def test_build_gives_a_copy():
    net, x = small_net()
    before = net.build()
    net.ReLU("relu", x)
    assert (len(before.layer), len(net.build().layer)) == (0, 1)


def test_an_unknown_field_is_named_with_the_closest_and_the_known_ones():
    net, x = small_net()
    with pytest.raises(NetError) as error:
        net.Convolution("conv", x, num_outputs=8)
    text = str(error.value)
    assert text.startswith("layer 'conv', field 'num_outputs': Convolution has no such field; expected one of: ")
    assert "kernel_size" in text and "loss_weight" in text and "pooling_param" not in text
    assert text.endswith("Did you mean 'num_output'?")


def test_all_problems_of_a_statement_are_reported_at_once():
    net, x = small_net()
    with pytest.raises(NetError) as error:
        net.Convolution("conv", x, "nowhere", num_outputs=8, weight_filler={"typ": "msra", "std": "wide"})
    assert [problem.field for problem in error.value.problems] == [
        "num_outputs", "weight_filler.typ", "weight_filler.std", "",
    ]  # fmt: skip
    assert "reads blob 'nowhere'" in str(error.value)


def test_fields_of_the_other_dialect_are_unknown():
    net, x = small_net("srn")
    with pytest.raises(NetError, match="field 'dilation': Convolution has no such field"):
        net.Convolution("conv", x, num_output=2, kernel_size=3, dilation=2)
    net, x = small_net("bvlc")
    net.Convolution("conv", x, num_output=2, kernel_size=3, dilation=2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_output": "8"}, "field 'num_output': '8' does not fit; expected an integer"),
        ({"num_output": True}, "field 'num_output': True does not fit; expected an integer"),
        ({"num_output": 8.0}, "field 'num_output': 8.0 does not fit; expected an integer"),
        ({"num_output": -8}, "field 'num_output': -8 does not fit: "),
        ({"num_output": [8]}, r"field 'num_output': \[8\] is a list; expected a single value"),
        ({"bias_term": 0}, "field 'bias_term': 0 does not fit; expected True or False"),
        (
            {"engine": "CUDA"},
            "field 'engine': 'CUDA' is not a value of Engine; expected one of: CAFFE, CUDNN",
        ),
        ({"engine": 1}, "field 'engine': 1 is not a value of Engine"),
        ({"weight_filler": "msra"}, "field 'weight_filler': 'msra' is no message; expected a dict of Filler"),
        ({"weight_filler": {"type": 3}}, "field 'weight_filler.type': 3 does not fit; expected a string"),
        ({"weight_filler": {"std": None}}, "field 'weight_filler.std': None does not fit; expected a number"),
        ({"blobs": []}, "field 'blobs': Convolution has no such field"),
        (
            {"convolution_param": {"kernel": 3}},
            "field 'convolution_param.kernel': ConvolutionParameter has no",
        ),
        ({"include": {"phase": "TRAIN"}, "exclude": {"stage": "x"}}, "has both include and exclude rules"),
    ],
)
def test_values_that_do_not_fit(fields, message):
    net, x = small_net()
    with pytest.raises(NetError, match=message):
        net.Convolution("conv", x, **fields)
    assert not net.build().layer and net.outputs() == ["data"], "a refused statement must leave no trace"


def test_unknown_layer_types():
    net, x = small_net("bvlc")
    with pytest.raises(
        NetError, match=r"layer 'c': the dialect 'bvlc' has no .* 'Convolve'\. Did you mean 'Convolution'"
    ):
        net.Convolve("c", x)
    with pytest.raises(NetError, match=r"no layer type 'BN' \(the dialect 'srn' has\)"):
        net.BN("bn", x)
    net, x = small_net("srn")
    with pytest.raises(NetError, match=r"no layer type 'BatchNorm' \(the dialect 'bvlc' has\)"):
        net.BatchNorm("bn", x)


def test_an_unknown_dialect_and_attribute():
    with pytest.raises(UsageError, match="there is no dialect 'caffe2'"):
        NetBuilder("net", "caffe2")
    with pytest.raises(AttributeError, match="has no attribute 'convolution'"):
        NetBuilder("net", "srn").convolution  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            lambda net: net.ReLU("r", "conv2"),
            "layer 'r': reads blob 'conv2', which no earlier .*Did you mean 'conv1'",
        ),
        (lambda net: net.ReLU("conv1", "pool"), "layer 'conv1': the net has a layer of this name already"),
        (lambda net: net.ReLU("r", "pool", top="data"), "makes blob 'data', which an earlier layer makes"),
        (
            lambda net: net.ReLU("r", "conv1", in_place=True),
            "overwrites blob 'conv1', which an earlier layer reads",
        ),
        (lambda net: net.Slice("r", "pool", top=["a", "a"]), "names blob 'a' twice"),
        (lambda net: net.ReLU("r", ("pool", "conv1")), r"\('pool', 'conv1'\) is not the name of a blob"),
        (
            lambda net: net.ReLU("r", "pool", top="x", in_place=True),
            "in_place goes with bottoms and without `top`",
        ),
        (lambda net: net.ReLU("r", in_place=True), "in_place goes with bottoms"),
        (lambda net: net.input("data", (1, 2)), "the net has a blob 'data' already"),
        (lambda net: net.input("more", (1, 2)), "input 'more' comes after a layer; expected inputs before"),
    ],
)
def test_connections_that_caffe_refuses(statement, message):
    net, x = small_net()
    x = net.Convolution("conv1", x, num_output=6, kernel_size=1)
    net.Pooling("pool", x, kernel_size=2)
    with pytest.raises(NetError, match=message):
        statement(net)
    assert len(net.build().layer) == 2


def test_in_place_chains_are_allowed_until_someone_reads():
    net, x = small_net()
    x = net.Convolution("conv", x, num_output=6, kernel_size=1)
    for name in ("one", "two", "three"):
        assert net.ReLU(name, x, in_place=True) == "conv"
    net.Pooling("pool", x, kernel_size=2)
    with pytest.raises(NetError, match="overwrites blob 'conv'"):
        net.ReLU("four", x, in_place=True)


def test_phases_may_share_names():
    net = NetBuilder("train_val", "srn")
    for phase, batch in (("TRAIN", 8), ("TEST", 3)):
        data = net.Data("data", include={"phase": phase}, source=f"{phase}_lmdb", batch_size=batch, backend="LMDB")
    x = net.InnerProduct("fc", data, num_output=4)
    net.Dropout("drop", x, top="dropped", include=[{"phase": "TRAIN"}])
    with pytest.raises(NetError, match="reads blob 'dropped', which no earlier layer makes in phase TEST"):
        net.ReLU("relu", "dropped")
    with pytest.raises(NetError, match="layer of this name already in phase TRAIN"):
        net.Data("data", exclude={"phase": "TEST"}, top="again")
    net.ReLU("relu", "dropped", exclude={"phase": "TEST"})
    assert (net.outputs("TRAIN"), net.outputs("TEST")) == (["relu"], ["fc"])
    # a rule about a stage leaves the layer possible in its phase
    with pytest.raises(NetError, match="layer of this name already in phase TRAIN"):
        net.Dropout("drop", x, top="other", include={"phase": "TRAIN", "stage": "deploy"})
