"""Detection of the dialect: evidence, conflicts, and the reason given."""

import pytest

from prototxt_gen.base.errors import ParseError
from prototxt_gen.schema import DIALECTS, LAYER_TYPES, detect, parse_prototxt
from prototxt_gen.schema.dialect import detect_packs
from prototxt_gen.schema.messages import message_names
from prototxt_gen.schema.syntax import parse_tree
from prototxt_gen.schema.values import fields_of


def found(text: str, message: str = "NetParameter") -> tuple[str, str]:
    return detect(parse_tree(text), message)


EVIDENCE = [
    ("srn", 'layer { type: "BN" }', "the layer type 'BN'"),
    ("srn", "layer {\nbn_param { } }", "the field 'bn_param' of LayerParameter"),
    ("srn", "mem_param { }", "the field 'mem_param' of NetParameter"),
    ("srn", "layer { transform_param { multi_scale: true } }", "'multi_scale'"),
    ("srn", "layer { reduction_param { operation: TOPK } }", "ReductionOp 'TOPK'"),
    ("bvlc", "layer { input_param { } }", "'input_param'"),
    ("bvlc", 'layer { type: "Input" }', "'Input'"),
    ("bvlc", 'layer { type: "BatchNorm" }', "'BatchNorm'"),
    ("bvlc", "layer { convolution_param { kernel_size: 3 kernel_size: 5 } }", "a repeated 'kernel_size'"),
    ("bvlc", "layer { convolution_param { pad: [1] } }", "a repeated 'pad'"),
    ("bvlc", "layer { convolution_param { dilation: 2 } }", "'dilation'"),
    ("bvlc", "layer { pooling_param { round_mode: FLOOR } }", "'round_mode'"),
]
SOLVER_EVIDENCE = [
    ("bvlc", 'type: "SGD"', "'type'"),
    ("bvlc", "solver_type: ADAM", "SolverType 'ADAM'"),
    ("srn", "richness: 4", "'richness'"),
    ("srn", "device_id: 1 device_id: 2", "a repeated 'device_id'"),
    ("srn", 'lr_policy: "exp10"', "the lr_policy 'exp10'"),
    ("srn", 'net_param { layer { type: "BN" } }', "'BN'"),
]


@pytest.mark.parametrize("dialect, text, part", EVIDENCE)
def test_evidence_in_a_net(dialect, text, part):
    got, reason = found("\n\n" + text)
    assert got == dialect
    assert part in reason and f"exists only in {dialect}" in reason
    assert f"in line {4 if text.count(chr(10)) else 3}" in reason


@pytest.mark.parametrize("dialect, text, part", SOLVER_EVIDENCE)
def test_evidence_in_a_solver(dialect, text, part):
    got, reason = found(text, "SolverParameter")
    assert got == dialect and part in reason


@pytest.mark.parametrize(
    "text",
    [
        'layer { type: "ReLU" } input: "data" input_dim: [1, 2, 3, 4]',
        "layer { convolution_param { kernel_size: 3 } }",
        'layer { type: "NoSuchLayer" nonsense: 3 pooling_param: 7 }',
        "layers { type: CONVOLUTION }",
    ],
)
def test_without_evidence_the_default(text):
    assert found(text) == ("bvlc", "nothing in the file is special to one dialect; bvlc is the default")


def test_the_larger_part_decides_and_the_rest_is_told():
    dialect, reason = found('layer { type: "Input" }\nlayer { type: "BN" bn_param { } }\nlayer { type: "Gather" }')
    assert dialect == "srn"
    assert "in line 2 (and 2 more) exists only in srn" in reason
    assert "against it, the layer type 'Input' in line 1 exists only in bvlc" in reason


def test_tie_is_bvlc():
    dialect, reason = found('layer { type: "Input" }\nlayer { type: "Gather" }')
    assert dialect == "bvlc" and "'Gather' in line 2" in reason


def test_a_declared_pack_is_no_sign_of_the_fork():
    """Normalize alone is the fork's; with a pack declared that has it too, it is that pack's."""
    text = 'layer { type: "Normalize" }'
    assert parse_prototxt(text).dialect == "srn"
    parsed = parse_prototxt(text, dialect="+ssd")
    assert parsed.dialect == "bvlc" and parsed.packs == {"ssd": "as given"}
    assert parse_prototxt(text, dialect="srn+ssd").dialect == "srn"


def test_what_the_fork_shares_with_packs_gives_way():
    """ROIPooling beside BVLC's BatchNorm is Faster R-CNN's, not the authors' fork's; beside Gather it is the fork's."""
    shared = 'layer { type: "ROIPooling" }\n' * 3
    assert found(shared)[0] == "srn"
    dialect, reason = found(shared + 'layer { type: "BatchNorm" }')
    assert dialect == "bvlc" and "'BatchNorm' in line 4" in reason and "against" not in reason
    assert found(shared + 'layer { type: "Permute" }')[0] == "bvlc"
    assert found(shared + 'layer { type: "Permute" }\nlayer { type: "Gather" }')[0] == "srn"


PACKS = [
    ([], "layer { lrn_param { engine: CAFFE } }"),  # BVLC has it too
    (["rfcn"], "layer { loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 128 } }"),
    (["faster_rcnn"], 'layer { type: "ROIPooling" }\nlayer { type: "BatchNorm" }'),
    (["segnet"], "layer { loss_param { weight_by_label_freqs: true class_weighting: 1 } }"),
]


@pytest.mark.parametrize("packs, text", PACKS)
def test_the_packs_of_a_net(packs, text):
    assert list(detect_packs(parse_tree(text), "NetParameter", "bvlc")) == packs


def test_problems_are_those_of_the_dialect_that_fits_better():
    text = 'layer { type: "Gather" batch_reduction_param { } } layer { input_param { } nonsense: 1 }'
    with pytest.raises(ParseError) as caught:
        parse_prototxt(text)
    assert [p.field for p in caught.value.problems] == ["input_param", "nonsense"]
    assert "the dialect srn" in caught.value.problems[0].found


def test_a_given_dialect_is_obeyed():
    assert parse_prototxt('layer { type: "ReLU" }', dialect="srn").dialect == "srn"
    with pytest.raises(ParseError, match="only in srn"):
        parse_prototxt("layer { batch_reduction_param { } }", dialect="bvlc")


def test_layer_types():
    assert {dialect: len(types) for dialect, types in LAYER_TYPES.items()} == {"bvlc": 61, "srn": 57}
    assert len(LAYER_TYPES["bvlc"] & LAYER_TYPES["srn"]) == 49


def test_a_field_of_both_dialects_has_one_kind():
    """Detection goes down both schemas at once, which needs this."""
    compared = 0
    for message in set(message_names("bvlc")) & set(message_names("srn")):
        first, second = (fields_of(message, dialect) for dialect in DIALECTS)
        for name in first.keys() & second.keys():
            assert (first[name].kind, first[name].message) == (second[name].kind, second[name].message)
            compared += 1
    assert compared > 300
