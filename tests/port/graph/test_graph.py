"""Nets as graphs: every kind of bad net and what its error says, phases, in-place chains, Split layers."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_nets import conv, fully, inputs, layer

from port.caffemodel import read_caffemodel
from port.graph.build import load_graph
from port.graph.graph import Graph
from port.graph.splits import insert_splits
from prototxt_gen.base.door import WAY_OUT
from prototxt_gen.base.errors import CaffeError, NetError, ParseError, Problem, UsageError
from prototxt_gen.schema.text import read_prototxt
from prototxt_gen.schema.upgrade import upgrade_parsed

GOLDEN = Path(__file__).parents[2] / "golden"
IMAGE = inputs(data=(2, 3, 5, 7))  # two lines: layers start in line 3
MATRIX = inputs(data=(2, 3))


@pytest.fixture
def graph(tmp_path):
    """Text -> graph."""

    def build(text: str, **options) -> Graph:
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return load_graph(path, **options)

    return build


@pytest.fixture
def problems(graph, tmp_path):
    """Text of a bad net -> its problems."""

    def collect(text: str, error: type[CaffeError] = NetError, **options) -> list[Problem]:
        with pytest.raises(error) as caught:
            graph(text, **options)
        assert all(str(problem.file) == str(tmp_path / "net.prototxt") for problem in caught.value.problems)
        assert str(caught.value) == "\n".join(map(str, caught.value.problems))
        return caught.value.problems

    return collect


# -- bad nets -------------------------------------------------------------------------------------------------
def test_a_typo_in_a_field(problems):
    text = (
        IMAGE
        + 'layer { name: "c" type: "Convolution" bottom: "data" top: "c"\n  convolution_param { num_outputs: 4 } }'
    )
    (problem,) = problems(text, ParseError)
    assert (problem.line, problem.column, problem.layer) == (4, 23, "c")
    assert problem.field == "convolution_param.num_outputs" and "'num_output'" in problem.fix


def test_unknown_layer_types_are_all_listed(problems):
    kinds = ["Convolutoin", "RelLU", "Quux", "batchnorm"]
    text = IMAGE + "".join(layer(f"l{i}", kind, "data", f"b{i}") for i, kind in enumerate(kinds))
    found = problems(text)
    assert [(p.line, p.layer, p.found) for p in found] == [
        (3 + i, f"l{i}", f"the layer type '{kind}' is unknown") for i, kind in enumerate(kinds)
    ]
    assert [p.fix for p in found[:2]] == ["did you mean 'Convolution'?", "did you mean 'ReLU'?"]
    assert found[2].fix == WAY_OUT and "--layers FILE.py" in WAY_OUT


def test_a_forks_type_with_a_known_one_in_its_name_is_no_misspelt_one(problems):
    for kind in ("ModifiedTripletLossOfMine", "ReshapedConvolutionOfMine"):
        (problem,) = problems(IMAGE + layer("l", kind, "data", "b"))
        assert problem.fix == WAY_OUT


def test_what_hangs_on_an_unknown_layer_is_not_complained_about(problems):
    text = IMAGE + layer("a", "Nonsense", "data", "a") + layer("b", "ReLU", "a", "b") + conv("c", "b", "c", 4, 9)
    assert [p.layer for p in problems(text)] == ["a"]


def test_a_missing_bottom_names_the_closest_blob(problems):
    text = (
        IMAGE + conv("c1", "data", "conv_one", 4) + layer("r", "ReLU", "conv_won", "r") + layer("s", "ReLU", "zz", "s")
    )
    one, other = problems(text)
    assert (one.line, one.layer, one.field) == (4, "r", "bottom")
    assert (
        one.found == "the bottom 'conv_won' is not made by any earlier layer" and one.fix == "did you mean 'conv_one'?"
    )
    assert (other.line, other.layer, other.fix) == (5, "s", "known: conv_one, data, r")


def test_a_bottom_must_be_made_earlier(problems):
    (problem,) = problems(IMAGE + layer("r", "ReLU", "late", "r") + layer("s", "ReLU", "data", "late"))
    assert problem.layer == "r" and "'late' is not made by any earlier layer" in problem.found


@pytest.mark.parametrize(
    ("text", "where", "found", "expected"),
    [
        (
            conv("c", "data", "c", 4, 9),
            "kernel_size",
            "(bottoms: data 2x3x5x7)",
            "at least as large as the kernel",
        ),
        (
            conv("c", "data", "c", 4).replace("num_output", "group: 2 num_output"),
            "group",
            "group 2 with 3 input",
            "divides both",
        ),
        (
            conv("c", "data", "c", 4) + layer("e", "Eltwise", "data c", "e"),
            "bottom",
            "2x3x5x7, 2x4x5x7 (bottoms: data 2x3x5x7, c 2x4x5x7)",
            "equal shapes",
        ),
        (layer("e", "Eltwise", "data", "e"), "bottom", "1 bottoms", "2 or more"),
        (layer("r", "ReLU", "data", "r r2"), "top", "2 tops", "1"),
        (layer("s", "Softmax", "data", "s", "softmax_param { axis: 4 }"), "axis", "axis 4", "-4 to 3"),
        (
            layer("r", "Reshape", "data", "r", "reshape_param { shape { dim: 4 dim: -1 } }"),
            "shape",
            "210 values",
            "",
        ),
        (layer("c", "InnerProduct", "data", "c"), "num_output", "no num_output, or 0", "1 or more"),
        (
            layer("p", "Pooling", "data", "p", "pooling_param { kernel_size: 2 pad: 2 }"),
            "pad",
            "pad 2, 2 with kernel 2, 2",
            "a pad below the kernel",
        ),
        (
            layer("s", "Slice", "data", "s t", "slice_param { slice_point: 5 }"),
            "slice_point",
            "slice points (5,) of an extent of 3",
            "rising, inside",
        ),
        (
            layer("r", "ReLU", "data", "r", "loss_weight: 1 loss_weight: 2"),
            "loss_weight",
            "2 values",
            "1, one per top",
        ),
        (
            layer("r", "ReLU", "data", "r", "propagate_down: true propagate_down: true"),
            "propagate_down",
            "2 values",
            "1",
        ),
        (layer("r", "ReLU", "data", "r", "param { lr_mult: 0 }"), "param", "1 entries", "at most 0"),
        (
            conv("c", "data", "c", 4, 1, "param {} param {} param {}"),
            "param",
            "3 entries",
            "at most 2, one for each blob",
        ),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(problems, text, where, found, expected):
    (problem,) = problems(IMAGE + text)
    assert problem.line == 2 + text.count("\n") and problem.layer == text[text.rfind('name: "') + 7]
    assert problem.field == where and found in problem.found and expected in problem.expected


def test_a_negative_extent(problems):
    for dialect in ("bvlc", "srn"):
        (problem,) = problems(inputs(data=(2, -3, 5, 7)) + layer("r", "ReLU", "data", "r"), dialect=dialect)
        assert "2x-3x5x7" in problem.found and problem.expected == "extents of 0 or more"


def test_a_top_that_is_made_twice(problems):
    text = IMAGE + conv("one", "data", "c", 4) + conv("two", "data", "c", 4)
    (problem,) = problems(text)
    assert (problem.line, problem.layer, problem.field) == (4, "two", "top")
    assert problem.found == "the top 'c' is already made by layer 'one'" and problem.fix == "give it another name"
    (problem,) = problems(IMAGE + conv("one", "data", "c c", 4))
    assert problem.found == "the top 'c' is already made by layer 'one'"
    (problem,) = problems(IMAGE + conv("c", "data", "c", 3) + layer("e", "Eltwise", "c data", "data"))
    assert "the top 'data' is already made" in problem.found  # in place means: at the same position


def test_in_place_after_another_reader(problems):
    text = IMAGE + conv("c", "data", "c", 4) + layer("s", "Sigmoid", "c", "s") + layer("r", "ReLU", "c", "c")
    (problem,) = problems(text)
    assert (problem.line, problem.layer, problem.field) == (5, "r", "top")
    assert problem.found == "'c' is overwritten in place after another layer has read it"
    assert problem.fix == "give the top another name"


@pytest.mark.parametrize(
    ("kind", "dialect", "other"), [("BatchReduction", "bvlc", "srn"), ("BatchNorm", "srn", "bvlc")]
)
def test_a_layer_type_of_the_other_dialect(problems, kind, dialect, other):
    (problem,) = problems(IMAGE + layer("n", kind, "data", "n"), dialect=dialect)
    assert (problem.line, problem.layer) == (3, "n")
    assert problem.found == f"the layer type '{kind}' does not exist in the dialect '{dialect}'"
    assert f"declare the dialect '{other}'" in problem.fix and "as given" in problem.fix


def test_include_and_exclude_together(problems):
    rules = "include { phase: TEST } exclude { stage: 'x' }"
    (problem,) = problems(IMAGE + layer("a", "ReLU", "data", "a") + layer("b", "ReLU", "data", "b", rules))
    assert (problem.line, problem.layer, problem.expected) == (4, "b", "one kind")


def test_several_problems_at_once(problems):
    text = (
        IMAGE
        + layer("a", "Nonsense", "data", "a")
        + conv("b", "data", "b", 4, 9)
        + layer("c", "ReLU", "dta", "c")
        + layer("d", "ReLU", "data", "b")
        + layer("e", "ReLU", "data", "e", "include { } exclude { }")
        + fully("f", "data", "f", 4, "param { name: 'w' }")
        + fully("g", "f", "g", 4, "param { name: 'w' }")
    )
    found = problems(text)
    assert sorted((p.layer, p.line) for p in found) == [(name, 3 + i) for i, name in enumerate("abcde")] + [("g", 9)]
    assert all(p.found and str(p).count("layer '") >= 1 for p in found)


@pytest.mark.parametrize("text", ["", "# nothing\n", 'name: "x"\n', IMAGE])
def test_a_net_without_layers(problems, text):
    error = ParseError if "name" not in text and "input" not in text else NetError
    for dialect in ("bvlc", "srn"):
        assert len(problems(text, error, dialect=dialect)) == 1


def test_a_phase_without_layers(problems):
    text = IMAGE + layer("r", "ReLU", "data", "r", "include { phase: TRAIN }")
    for dialect in ("bvlc", "srn"):
        (problem,) = problems(text, dialect=dialect)
        assert problem.found == "no layer is left in phase TEST" and "other phase" in problem.fix


def test_an_unknown_phase_or_dialect(graph):
    text = IMAGE + layer("r", "ReLU", "data", "r")
    with pytest.raises(UsageError, match="phase 'test'; expected TRAIN or TEST"):
        graph(text, phase="test")
    with pytest.raises(UsageError, match="there is no dialect 'caffe2'; choose one of: bvlc, srn"):
        graph(text, dialect="caffe2")


# -- parameters ------------------------------------------------------------------------------------------------
def shared(first: str, second: str, outputs: int = 3) -> str:
    return (
        MATRIX
        + fully("one", "data", "one", 3, f"param {{ name: 'w' {first} }}")
        + fully("two", "one", "two", outputs, f"param {{ name: 'w' {second} }}")
    )


def test_shared_parameters_must_fit(graph, problems):
    assert graph(shared("", ""))
    (problem,) = problems(shared("", "", outputs=5))
    assert (problem.line, problem.layer, problem.field) == (4, "two", "param")
    assert problem.found == "'w' is 5x3" and problem.expected == "3x3 as in layer 'one'"
    square = inputs(data=(2, 6)) + fully("one", "data", "one", 4, "param { name: 'w' }")
    again = fully("two", "one", "two", 6, "param { name: 'w' share_mode: %s }")
    assert graph(square + again % "PERMISSIVE")
    (problem,) = problems(square + again % "STRICT")
    assert problem.found == "'w' is 6x4" and problem.expected == "4x6 as in layer 'one'"
    (problem,) = problems(square + fully("two", "one", "two", 5, "param { name: 'w' share_mode: PERMISSIVE }"))
    assert problem.found == "'w' has 20 values" and problem.expected == "24 as in layer 'one'"


@pytest.mark.parametrize("field", ["lr_mult", "decay_mult"])
def test_explicit_multipliers_of_sharers_must_agree_in_bvlc(graph, problems, field):
    (problem,) = problems(shared(f"{field}: 2", f"{field}: 3"), dialect="bvlc")
    assert problem.found == f"'w' has {field} 3" and problem.expected == "2 as in layer 'one'"
    assert graph(shared(f"{field}: 2", f"{field}: 2"), dialect="bvlc")
    assert graph(shared("", f"{field}: 3"), dialect="bvlc")
    assert graph(shared(f"{field}: 2", f"{field}: 3"), dialect="srn")


def test_statistics_must_not_be_learned_in_bvlc(graph, problems):
    def net(entries):
        return IMAGE + layer("n", "BatchNorm", "data", "n", entries)

    found = problems(net("param {} param { lr_mult: 0 }"))
    assert [(p.line, p.layer, p.field, p.expected) for p in found] == [(3, "n", "param", "lr_mult: 0")]
    assert "lr_mult 1 for the mean" in found[0].found
    assert graph(net("param { lr_mult: 0 }")) and graph(net(""))
    assert graph(net("param {} param {} param {}"))  # exactly three are upgraded
    # the fork rewrites the entries of its BN itself
    assert graph(IMAGE + layer("n", "BN", "data", "n", "param {} param {} param {} param {}"))


def test_two_layers_with_parameters_of_one_name(graph, problems):
    (problem,) = problems(IMAGE + conv("c", "data", "a", 4) + conv("c", "a", "b", 5))
    assert (problem.line, problem.layer, problem.field) == (4, "c", "name")
    assert graph(IMAGE + layer("r", "ReLU", "data", "a") + layer("r", "ReLU", "a", "b"))


# -- which layers exist -------------------------------------------------------------------------------------------
RULES = [
    # rules of the layer, net's state, kept?
    ("", {}, True),
    ("include { }", {}, True),
    ("exclude { }", {}, False),
    ("include { phase: TEST }", {}, True),
    ("include { phase: TRAIN }", {}, False),
    ("include { phase: TRAIN }", {"phase": "TRAIN"}, True),
    ("exclude { phase: TRAIN }", {}, True),
    ("exclude { phase: TRAIN }", {"phase": "TRAIN"}, False),
    ("include { min_level: 2 }", {"level": 1}, False),
    ("include { min_level: 2 }", {"level": 2}, True),
    ("include { min_level: 2 }", {"level": 3}, True),
    ("include { max_level: 2 }", {"level": 2}, True),
    ("include { max_level: 2 }", {"level": 3}, False),
    ("include { max_level: -1 }", {}, False),
    ("include { min_level: 0 max_level: 0 }", {}, True),
    ("include { min_level: 1 max_level: 2 }", {}, False),
    ("include { stage: 'deploy' }", {}, False),
    ("include { stage: 'deploy' }", {"stages": ("deploy",)}, True),
    ("include { stage: 'deploy' stage: 'fast' }", {"stages": ("deploy",)}, False),
    ("include { stage: 'deploy' stage: 'fast' }", {"stages": ("fast", "x", "deploy")}, True),
    ("include { not_stage: 'deploy' }", {}, True),
    ("include { not_stage: 'deploy' }", {"stages": ("deploy",)}, False),
    ("include { not_stage: 'a' not_stage: 'b' }", {"stages": ("b",)}, False),
    ("include { stage: 'a' not_stage: 'b' }", {"stages": ("a",)}, True),
    ("include { stage: 'a' not_stage: 'b' }", {"stages": ("a", "b")}, False),
    (
        "include { phase: TEST stage: 'a' }",
        {"stages": ("a",), "phase": "TRAIN"},
        False,
    ),  # all parts of a rule
    ("include { phase: TRAIN } include { stage: 'a' }", {"stages": ("a",)}, True),  # any rule
    ("include { phase: TRAIN } include { stage: 'a' }", {}, False),
    ("exclude { phase: TRAIN } exclude { stage: 'a' }", {"stages": ("a",)}, False),
    ("exclude { phase: TRAIN } exclude { stage: 'a' }", {}, True),
    ("exclude { stage: 'a' not_stage: 'b' }", {"stages": ("a", "b")}, True),
]


@pytest.mark.parametrize(("rules", "state", "kept"), RULES)
def test_net_state_rules(graph, rules, state, kept):
    net = graph(IMAGE + layer("always", "ReLU", "data", "a") + layer("maybe", "ReLU", "data", "b", rules), **state)
    names = [node.name for node in net.nodes if node.layer.type != "Input"]
    assert names == (["always", "maybe"] if kept else ["always"])


def test_variants_may_share_names(graph):
    text = IMAGE
    text += layer("x", "Power", "data", "y", "include { phase: TRAIN } power_param { power: 3 }")
    text += layer("x", "Power", "data", "y", "include { phase: TEST } power_param { power: 2 }")
    assert graph(text).node("x").layer.power == 2 and graph(text, phase="TRAIN").node("x").layer.power == 3


def test_a_layers_own_phase_wins_over_the_nets(graph):
    text = IMAGE + layer("a", "Dropout", "data", "a") + layer("b", "Dropout", "a", "b", "phase: TEST")
    nodes = graph(text, phase="TRAIN")
    assert [nodes.node(name).layer.train for name in "ab"] == [True, False]


# -- blobs and their versions ----------------------------------------------------------------------------------
CHAIN = (
    IMAGE
    + conv("conv1", "data", "c", 4)
    + layer("bn1", "BatchNorm", "c", "c")
    + layer("scale1", "Scale", "c", "c")
    + layer("relu1", "ReLU", "c", "c")
    + layer("sum", "Eltwise", "c c", "b")
    + layer("end", "Sigmoid", "c", "a")
)


def test_every_version_of_an_in_place_chain_has_its_name_and_layer(graph):
    net = graph(CHAIN)
    versions = [(v.name, v.producer) for v in net.values if v.blob == "c"]
    assert versions == [("c@conv1", "conv1"), ("c@bn1", "bn1"), ("c@scale1", "scale1"), ("c", "relu1")]
    assert [v.name for v in net.node("relu1").bottoms] == ["c@scale1"]
    assert [v.name for v in net.node("sum").bottoms] == ["c", "c"]
    assert [v.name for v in net.blobs().values()] == ["data", "c", "b", "a"]
    assert {v.name for v in net.values} >= {v.name for node in net.nodes for v in [*node.bottoms, *node.tops]}


def test_version_names_never_collide(graph):
    text = IMAGE + layer("r", "ReLU", "data", "c@r") + layer("r", "ReLU", "c@r", "c") + layer("r2", "ReLU", "c", "c")
    names = [v.name for v in graph(text).values]
    assert len(set(names)) == len(names) and "c@r" in names and "c" in names


def test_outputs_are_sorted_by_name(graph):
    text = IMAGE + "".join(
        layer(f"l{i}", "ReLU", "data", blob) for i, blob in enumerate(["zeta", "b", "Alpha", "a10", "a9"])
    )
    net = graph(text + layer("l5", "ReLU", "zeta", "m") + inputs(unused=(2, 3)))
    assert [v.blob for v in net.outputs] == ["Alpha", "a10", "a9", "b", "m", "unused"]


def test_losses_without_tops(graph):
    text = (
        inputs(x=(4, 3), t=(4, 3))
        + layer("l", "SigmoidCrossEntropyLoss", "x t")
        + layer("m", "SigmoidCrossEntropyLoss", "x t")
    )
    net = graph(text)
    assert [v.blob for v in net.outputs] == ["(automatic)", "(automatic)@m"]
    assert [v.loss_weight for v in net.outputs] == [1, 1] and [v.shape for v in net.outputs] == [(), ()]


def test_loss_weights(graph):
    text = (
        inputs(x=(4, 3), t=(4, 3))
        + layer("l", "SigmoidCrossEntropyLoss", "x t", "l")
        + layer("m", "SigmoidCrossEntropyLoss", "x t", "m", "loss_weight: 0.25")
        + layer("r", "ReLU", "x", "r", "loss_weight: 3")
        + layer("s", "ReLU", "x", "s")
    )
    assert {v.blob: v.loss_weight for v in graph(text).outputs} == {"l": 1, "m": 0.25, "r": 3, "s": 0}


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_a_v0_net_is_the_graph_of_its_upgrade(dialect):
    old = load_graph(GOLDEN / "legacy" / "v0_lenet_like.in.prototxt", dialect=dialect)
    new = load_graph(GOLDEN / "legacy" / f"v0_lenet_like.{dialect}.prototxt", dialect=dialect)
    assert [str(node.message) for node in old.nodes] == [str(node.message) for node in new.nodes]
    assert [(v.name, v.shape) for v in old.values] == [(v.name, v.shape) for v in new.values]
    assert [(v.blob, v.shape) for v in old.outputs] == [("prob", (2, 10))]
    assert {node.layer.type for node in old.nodes} >= {
        "Convolution",
        "Pooling",
        "LRN",
        "InnerProduct",
        "Softmax",
    }


def test_a_v1_net(graph):
    text = 'input: "data" input_dim: 2 input_dim: 3 input_dim: 5 input_dim: 7\n'
    text += 'layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 2\n'
    text += "  convolution_param { num_output: 4 kernel_size: 3 } }\n"
    text += 'layers { name: "p" type: SOFTMAX bottom: "c" top: "p" include: { phase: TEST } }\n'
    for dialect in ("bvlc", "srn"):
        net = graph(text, dialect=dialect)
        assert net.node("c").layer.type == "Convolution" and net.node("c").message.param[0].lr_mult == 2
        assert [(v.blob, v.shape) for v in net.outputs] == [("p", (2, 4, 3, 5))]


# -- Split layers -----------------------------------------------------------------------------------------------
def splits(graph: Graph) -> dict[str, list[str]]:
    """Layers of the net with Split layers: name -> type, bottoms, tops and loss weights, in order."""
    return {
        f"{m.name}": [m.type, " ".join(m.bottom), " ".join(m.top), *(f"{w:g}" for w in m.loss_weight)]
        for m in insert_splits(graph.net).layer
    }


def test_splits_stand_behind_the_last_layer_that_wrote_the_blob(graph):
    found = splits(graph(CHAIN))
    name = "c_relu1_0_split"
    order = ["input", "conv1", "bn1", "scale1", "relu1", name, "sum", "end"]
    assert list(found) == order
    assert found[name] == ["Split", "c", f"{name}_0 {name}_1 {name}_2"]
    assert found["sum"] == ["Eltwise", f"{name}_0 {name}_1", "b"] and found["end"] == [
        "Sigmoid",
        f"{name}_2",
        "a",
    ]
    assert found["bn1"] == ["BatchNorm", "c", "c"]


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_a_split_input_is_named_after_the_pseudo_layer_input(graph, dialect):
    text = (
        inputs(x=(2, 3), y=(2, 3))
        + layer("a", "ReLU", "y", "a")
        + layer("b", "ReLU", "y", "b")
        + layer("c", "ReLU", "x", "c")
    )
    found = splits(graph(text, dialect=dialect))
    assert found["y_input_1_split"] == ["Split", "y", "y_input_1_split_0 y_input_1_split_1"]
    assert found["b"] == ["ReLU", "y_input_1_split_1", "b"] and found["c"] == ["ReLU", "x", "c"]
    assert list(found) == (["input"] if dialect == "bvlc" else []) + ["y_input_1_split", "a", "b", "c"]


def test_an_explicit_loss_weight_is_one_more_consumer(graph):
    text = inputs(x=(2, 3)) + layer("a", "ReLU", "x", "a", "loss_weight: 0.5") + layer("b", "ReLU", "a", "b")
    found = splits(graph(text + layer("c", "ReLU", "b", "c", "loss_weight: 2")))
    assert found["a"] == ["ReLU", "x", "a", "0"]
    assert found["a_a_0_split"] == ["Split", "a", "a_a_0_split_0 a_a_0_split_1", "0.5", "0"]
    assert found["b"] == ["ReLU", "a_a_0_split_1", "b"]
    assert found["c"] == ["ReLU", "b", "c", "2"] and len(found) == 5  # nobody reads c: no split
    zero = splits(
        graph(inputs(x=(2, 3)) + layer("a", "ReLU", "x", "a", "loss_weight: 0") + layer("b", "ReLU", "a", "b"))
    )
    assert list(zero) == ["input", "a", "b"]


def test_the_second_top_of_a_layer(graph):
    text = IMAGE + layer("s", "Slice", "data", "p q r") + layer("a", "ReLU", "q", "a") + layer("b", "ReLU", "q", "b")
    found = splits(graph(text))
    assert list(found) == ["input", "s", "q_s_1_split", "a", "b"]


def test_the_message_is_left_as_it_was(graph):
    net = graph(CHAIN)
    before = str(net.net)
    insert_splits(net.net)
    assert str(net.net) == before


CASES = [
    pytest.param(case, id=f"{case.parent.name}-{case.stem}")
    for case in sorted((GOLDEN / "layers").glob("*/*.caffemodel"))
]


@pytest.mark.parametrize("case", CASES)
def test_the_layers_are_those_that_caffe_saved(case):
    """Also for nets with layers that the port does not know: splits need no more than the definition."""
    parsed, _ = upgrade_parsed(read_prototxt(case.with_suffix(".prototxt"), dialect=case.parent.name))
    with read_caffemodel(case) as model:
        saved = [(m.name, m.type, m.bottoms, m.tops) for m in model.layers]
    ours = [(m.name, m.type, list(m.bottom), list(m.top)) for m in insert_splits(parsed.message).layer]
    assert ours == saved


def test_a_bottom_that_the_state_leaves_out_names_its_layer(problems):
    """As BVLC's mnist_autoencoder, whose TEST data come with a stage alone."""
    shape = "input_param { shape { dim: 2 dim: 3 } }"
    text = layer("d", "Input", "", "x", 'include { phase: TEST stage: "on-test" } ' + shape)
    text += layer("e", "Input", "", "z", "exclude { phase: TEST } " + shape)
    text += IMAGE + layer("r", "ReLU", "x", "y") + layer("s", "ReLU", "z", "w") + layer("t", "ReLU", "dat", "v")
    first, second, third = problems(text)
    assert "layer 'd' would make it, but is left out in phase TEST" in first.found
    assert first.fix == 'its rules: include { phase: TEST stage: "on-test" }'
    assert "layer 'e' would make it" in second.found and second.fix == "its rules: exclude { phase: TEST }"
    assert third.fix == "did you mean 'data'?"


def test_both_forms_of_shapes_are_refused_in_the_fork(problems):
    text = 'input: "data" input_shape { dim: 2 dim: 3 } input_dim: 2 input_dim: 3 input_dim: 1 input_dim: 1\n'
    text += layer("r", "ReLU", "data", "y")
    (problem,) = problems(text, dialect="srn")
    assert problem.found == "both input_shape and input_dim" and problem.field == "input_dim"


def test_reshape_copies_an_axis_that_it_does_not_replace(tmp_path):
    """Caffe asks of a dim of 0 only that the bottom has the axis."""
    path = tmp_path / "net.prototxt"
    own = "reshape_param { num_axes: 2 shape { dim: 3 dim: 1 dim: 0 } }"
    path.write_text(inputs(data=(3, 1, 1)) + layer("r", "Reshape", "data", "y", own))
    assert load_graph(path).blobs()["y"].shape == (3, 1, 1, 1)
