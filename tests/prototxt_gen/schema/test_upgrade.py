"""Upgrades of old formats, against what the upgrade tools of both real Caffes made of the same files."""

from pathlib import Path

import pytest

from prototxt_gen.base.errors import NetError
from prototxt_gen.schema import (
    DIALECTS,
    LAYER_TYPES,
    descriptor,
    message_class,
    parse,
    parse_prototxt,
    read_prototxt,
    to_text,
)
from prototxt_gen.schema.messages import native_names
from prototxt_gen.schema.upgrade import (
    _PARAM_FIELDS,
    SOLVER_TYPES,
    V1_TYPES,
    upgrade_net,
    upgrade_parsed,
    upgrade_solver,
)
from prototxt_gen.schema.upgrade_v0 import _FIELDS, V0_TYPES

LEGACY = Path(__file__).parents[2] / "golden" / "legacy"
CASES = ["alltypes", "dims", "v0_lenet_like", "v0_train", "v1_all_types", "v2_transform"]
UNCHANGED = [("dims", "srn"), ("v2_transform", "srn")]  # this Caffe leaves today's format as it is


def upgraded(text: str, dialect: str = "bvlc"):
    return upgrade_net(parse(text, dialect=dialect), dialect)[0]


def notes_of(text: str, dialect: str = "bvlc") -> str:
    return "\n".join(upgrade_net(parse(text, dialect=dialect), dialect)[1])


def refusal(text: str, dialect: str = "bvlc"):
    with pytest.raises(NetError) as caught:
        upgrade_parsed(parse_prototxt(text, dialect=dialect, file="net.prototxt"))
    return caught.value.problems


# Recorded from real Caffe


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("case", CASES)
def test_upgraded_as_by_caffe(case, dialect):
    given = read_prototxt(LEGACY / f"{case}.in.prototxt", dialect=dialect).message
    expected = (LEGACY / f"{case}.{dialect}.prototxt").read_text()
    assert (to_text(given) == expected) == ((case, dialect) in UNCHANGED)
    before = given.SerializeToString()
    result, _ = upgrade_net(given, dialect)
    assert result == parse(expected, dialect=dialect)
    assert to_text(result) == expected
    assert given.SerializeToString() == before


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("case", CASES)
def test_a_message_from_binary_upgrades_the_same(case, dialect):
    data = read_prototxt(LEGACY / f"{case}.in.prototxt", dialect=dialect).message.SerializeToString()
    message = message_class("NetParameter", dialect).FromString(data)
    assert to_text(upgrade_net(message, dialect)[0]) == (LEGACY / f"{case}.{dialect}.prototxt").read_text()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("case", CASES)
def test_upgrading_again_changes_nothing(case, dialect):
    message = parse((LEGACY / f"{case}.{dialect}.prototxt").read_text(), dialect=dialect)
    again, notes = upgrade_net(message, dialect)
    assert again == message and again is not message
    assert all("ignored" in note for note in notes)


def test_all_recorded_cases_are_tested():
    assert {path.name.split(".")[0] for path in LEGACY.glob("*.in.prototxt")} == set(CASES)


# The tables


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_tables_fit_the_schema(dialect):
    v0, v1 = descriptor("V0LayerParameter", dialect), descriptor("V1LayerParameter", dialect)
    v2 = descriptor("LayerParameter", dialect)
    v1_types = v1.enum_types_by_name["LayerType"].values_by_name
    native = {name for owner, name in native_names(dialect) if owner == "V1LayerParameter.LayerType"}
    assert native <= set(V1_TYPES) == set(v1_types)  # the others are of forks
    assert {V1_TYPES[name] for name in native} - {""} <= LAYER_TYPES[dialect]
    assert set(V0_TYPES.values()) <= set(v1_types)
    carried = set(v1.fields_by_name) - set(_PARAM_FIELDS) - {"type", "layer"}
    assert carried <= set(v2.fields_by_name)
    # Fields of V0 that no upgrade knows; Caffe drops them.
    assert set(v0.fields_by_name) - set(_FIELDS) == {"type", "new_num", "new_channels"}
    for name, blocks in _FIELDS.values():
        for block in blocks.values():
            owner = v1.fields_by_name[block].message_type if block else v1
            assert name in owner.fields_by_name
    solver_types = descriptor("SolverParameter", dialect).enum_types_by_name["SolverType"].values_by_name
    assert set(solver_types) <= set(SOLVER_TYPES)


# V0

V0_NET = """
input: "data" input_dim: [2, 3, 13, 11]
layers { layer { name: "%s" type: "%s" %s } bottom: "data" top: "out" }
"""


@pytest.mark.parametrize(
    "kind, fields, expected",
    [
        ("conv", "group: 3 stride: 2", "convolution_param { group: 3 stride: 2 }"),
        ("pool", "pool: AVE pad: 1 kernelsize: 3", "pooling_param { pool: AVE pad: 1 kernel_size: 3 }"),
        ("innerproduct", "num_output: 7 biasterm: false",
         "inner_product_param { num_output: 7 bias_term: false }"),
        ("lrn", "local_size: 7 alpha: 2 beta: 3 k: 4",
         "lrn_param { local_size: 7 alpha: 2 beta: 3 k: 4 }"),
        ("images", "source: 'l' shuffle_images: true new_height: 5 rand_skip: 2 batchsize: 9",
         "image_data_param { source: 'l' shuffle: true new_height: 5 rand_skip: 2 batch_size: 9 }"),
        ("hdf5_data", "source: 'l' batchsize: 3", "hdf5_data_param { source: 'l' batch_size: 3 }"),
        ("hdf5_output", "hdf5_output_param { file_name: 'f' }", "hdf5_output_param { file_name: 'f' }"),
        ("infogain_loss", "source: 'm'", "infogain_loss_param { source: 'm' }"),
        ("window_data", "det_fg_threshold: 0.7 det_context_pad: 4 det_crop_mode: 'square' mirror: true",
         "transform_param { mirror: true }"
         " window_data_param { fg_threshold: 0.7 context_pad: 4 crop_mode: 'square' }"),
        ("concat", "concat_dim: 2", "concat_param { concat_dim: 2 }"),
        ("dropout", "dropout_ratio: 0.3", "dropout_param { dropout_ratio: 0.3 }"),
        ("relu", "scale: 0.5 meanfile: 'm' cropsize: 4",
         "transform_param { scale: 0.5 mean_file: 'm' crop_size: 4 }"),
    ],
)  # fmt: skip
def test_v0_fields(kind, fields, expected):
    layer = upgraded(V0_NET % ("a", kind, fields), "srn").layer[0]
    new_type = V1_TYPES[V0_TYPES[kind]]
    head = f'name: "a" type: "{new_type}" bottom: "data" top: "out"'
    assert layer == parse(f"layer {{ {head} {expected} }}", dialect="srn").layer[0]


def test_v0_field_of_another_type_is_dropped_with_a_note():
    text = V0_NET % ("a", "relu", "num_output: 3 new_num: 5")
    assert to_text(upgraded(text, "srn").layer[0]).splitlines() == [
        'name: "a"', 'type: "ReLU"', 'bottom: "data"', 'top: "out"',
    ]  # fmt: skip
    notes = notes_of(text)
    assert "layer 'a': 'num_output' means nothing in a layer of type 'relu'" in notes and "'new_num'" in notes


def test_v0_keeps_only_four_fields_of_the_net():
    text = V0_NET % ("a", "relu", "") + "force_backward: true debug_info: true state { level: 3 }"
    assert [field.name for field, _ in upgraded(text, "srn").ListFields()] == [
        "input", "input_dim", "force_backward", "layer",
    ]  # fmt: skip
    assert "'debug_info' is dropped" in notes_of(text) and "'state' is dropped" in notes_of(text)


def test_v0_errors_name_layer_and_line():
    (problem,) = refusal(V0_NET % ("a", "convolution", ""))
    assert (problem.layer, problem.line, problem.field) == ("a", 3, "type")
    assert "'convolution'" in problem.found
    (problem,) = refusal(V0_NET % ("a", "images", "new_height: -1"))
    assert (problem.layer, problem.field) == ("a", "new_height")


def test_v0_padding_needs_a_conv_or_pool_layer():
    text = """layers { layer { name: "p" type: "padding" pad: 3 } bottom: "data" top: "p" }
layers { layer { name: "r" type: "relu" } bottom: "p" top: "r" }
layers { layer { name: "s" type: "relu" } bottom: "q" top: "s" }
input: "data" input_dim: [2, 3, 13, 11]"""
    first, second = refusal(text)
    assert (first.layer, first.line) == ("r", 2) and "'p' feeds a layer of type 'relu'" in first.found
    assert (second.layer, second.line) == ("s", 3) and "'q'" in second.found


def test_v0_and_v1_in_one_net_are_refused():
    v1 = 'layers { name: "b" type: RELU bottom: "out" top: "out" }'
    (problem,) = refusal(V0_NET % ("a", "relu", "") + v1)
    assert problem.layer == "b" and "name, type" in problem.found


# V1


def test_param_entries_are_made_as_needed():
    layer = upgraded('layers { param: "w" blob_share_mode: PERMISSIVE blobs_lr: 3 blobs_lr: 5 weight_decay: 7 }')
    expected = 'param { name: "w" share_mode: PERMISSIVE lr_mult: 3 decay_mult: 7 } param { lr_mult: 5 }'
    assert layer == parse(f"layer {{ {expected} }}")


def test_blobs_and_net_fields_are_carried_over():
    text = 'name: "n" state { level: 2 } debug_info: true layers { blobs { num: 1 height: 2 data: [3, 4] } }'
    assert upgraded(text) == parse(text.replace("layers", "layer"))


def test_data_fields_move_only_from_the_block_of_the_type():
    layer = upgraded("layers { type: IMAGE_DATA image_data_param { scale: 2 batch_size: 3 } data_param { scale: 4 } }")
    assert layer.layer[0].transform_param.scale == 2
    assert layer.layer[0].data_param.scale == 4
    assert not layer.layer[0].image_data_param.HasField("scale")
    assert layer.layer[0].image_data_param.batch_size == 3


def test_deprecated_data_fields_of_today_stay_and_are_told():
    text = 'layer { name: "d" type: "Data" data_param { scale: 2 mirror: true } }'
    assert upgraded(text) == parse(text)
    assert "layer 'd': ignored in data_param" in notes_of(text) and "scale, mirror" in notes_of(text)


MIXED = 'layer { name: "new" type: "ReLU" }\nlayers { name: "old" type: TANH }'


def test_both_formats_are_refused_by_bvlc():
    (problem,) = refusal(MIXED)
    assert "both formats" in problem.found and "'new'" in problem.found and problem.file == "net.prototxt"


def test_both_formats_srn_discards_the_new_entries():
    assert [layer.name for layer in upgraded(MIXED, "srn").layer] == ["old"]
    assert "discarded" in notes_of(MIXED, "srn") and "'new'" in notes_of(MIXED, "srn")


# Inputs and BatchNorm


def test_input_fields_stay_in_srn():
    text = 'input: "data" input_shape { dim: [2, 3, 7] } layer { type: "BatchNorm" param: [{ }, { }, { }] }'
    assert upgraded(text, "srn") == parse(text, dialect="srn")


def test_inputs_without_a_shape_are_dropped():
    assert upgraded('input: "a" input: "b" layer { name: "c" }') == parse('layer { name: "c" }')
    assert "'a', 'b' have no shape" in notes_of('input: "a" input: "b"')


def test_surplus_shapes_are_ignored_and_told():
    layer = upgraded('input: "a" input_dim: [2, 3, 5, 7, 11, 13]').layer[0]
    assert (
        layer
        == parse('layer { name: "input" type: "Input" top: "a" input_param { shape { dim: [2, 3, 5, 7] } } }').layer[0]
    )
    assert "6 input_dim: what is too much is ignored" in notes_of('input: "a" input_dim: [2, 3, 5, 7, 11, 13]')
    both = 'input: "a" input_dim: [2, 3, 5, 7] input_shape { dim: 4 }'
    assert list(upgraded(both).layer[0].input_param.shape[0].dim) == [4]
    assert "too much" in notes_of(both)


@pytest.mark.parametrize("shapes", ["input_dim: [2, 3, 5]", "input_dim: [1, 2, 3, 4, 5]", "input_shape { dim: 3 }"])
def test_too_few_shapes_are_refused(shapes):
    (problem,) = refusal(f'input: "a" input: "b" {shapes}')
    assert "2 inputs" in problem.found and "four input_dim" in problem.expected


def test_only_three_params_of_a_batch_norm_are_changed():
    two = 'layer { name: "b" type: "BatchNorm" param { lr_mult: 2 } param { } }'
    assert upgraded(two) == parse(two)
    four = 'layer { name: "b" type: "BatchNorm" param: [{ }, { }, { }, { }] }'
    assert upgraded(four) == parse(four)
    other = 'layer { name: "b" type: "Scale" param { } param { } param { } }'
    assert upgraded(other) == parse(other)


def test_lines_follow_the_layers():
    parsed = read_prototxt(LEGACY / "v0_lenet_like.in.prototxt")
    result, _ = upgrade_parsed(parsed)
    lines = dict(zip([layer.name for layer in result.message.layer], result.lines, strict=True))
    assert lines["input"] == 0 and lines["norm1"] == 10 and lines["conv2"] == 12  # pad2 stood in line 11
    assert parsed.lines == list(range(7, 16))


# Solvers


def solver(text: str, dialect: str = "bvlc"):
    return parse(text, "SolverParameter", dialect)


@pytest.mark.parametrize(
    "old, new",
    [
        ("SGD", "SGD"), ("NESTEROV", "Nesterov"), ("ADAGRAD", "AdaGrad"),
        ("RMSPROP", "RMSProp"), ("ADADELTA", "AdaDelta"), ("ADAM", "Adam"),
    ],
)  # fmt: skip
def test_solver_type(old, new):
    given = solver(f"solver_type: {old} snapshot_prefix: 'p'")
    result, notes = upgrade_solver(given, "bvlc", "a.prototxt")
    assert result == solver(f"type: '{new}' snapshot_prefix: 'p'")
    assert given.HasField("solver_type") and new in notes[0]


def test_both_solver_types_are_refused():
    with pytest.raises(NetError, match=r"s\.prototxt: field 'solver_type': both"):
        upgrade_solver(solver("type: 'SGD' solver_type: SGD"), "bvlc", "s.prototxt")


def test_srn_solver_stays():
    given = solver("solver_type: NESTEROV", "srn")
    assert upgrade_solver(given, "srn", "a/s.prototxt") == (given, [])


def test_snapshot_prefix(tmp_path):
    result, _ = upgrade_solver(solver("max_iter: 3"), "bvlc", "models/a.solver.prototxt")
    assert result.snapshot_prefix == "models/a.solver"
    folder = solver(f"snapshot_prefix: '{tmp_path}'")
    assert upgrade_solver(folder, "bvlc", "x/s.prototxt")[0].snapshot_prefix == str(tmp_path / "s")
    named = solver(f"snapshot_prefix: '{tmp_path}/run'")
    assert upgrade_solver(named, "bvlc", "x/s.prototxt") == (named, [])
    assert upgrade_solver(solver("max_iter: 3"), "bvlc")[0] == solver("max_iter: 3")
