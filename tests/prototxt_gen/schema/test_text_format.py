"""Reading the text format: what C++ protobuf accepts, what it refuses, and every problem with its place."""

import struct
import time

import pytest

from prototxt_gen.base.errors import ParseError, UsageError
from prototxt_gen.schema import parse, parse_prototxt, read_prototxt
from prototxt_gen.schema.syntax import MAX_DEPTH, parse_tree


def net(text: str, dialect: str = "bvlc"):
    return parse(text, "NetParameter", dialect, "net.prototxt")


def layer(text: str, dialect: str = "bvlc"):
    return net(f"layer {{ {text} }}", dialect).layer[0]


def problems(text: str, message: str = "NetParameter", dialect: str = "bvlc"):
    with pytest.raises(ParseError) as caught:
        parse(text, message, dialect, "net.prototxt")
    return caught.value.problems


# What is accepted. Each text is read as the second one says.
SAME = [
    ("layer { name: 'a' }", 'layer: < name: "a" >'),
    ('layer { name: "a" "b" \'c\' }', 'layer { name: "abc" }'),
    ('layer { bottom: ["a", \'b\'], top: "c"; loss_weight: [ 1, -2.5 ] }',
     'layer { bottom: "a" bottom: "b" top: "c" loss_weight: 1 loss_weight: -2.5 }'),
    ('layer: [ { name: "a" }, < name: "b" > ] name: "n"',
     'layer { name: "a" } layer { name: "b" } name: "n"'),
    ('layer [ { name: "a" } ]', 'layer { name: "a" }'),
    ("input_dim: [] input_dim: 7", "input_dim: 7"),
    ("input_dim: 0x1F input_dim: 017 input_dim: - 3", "input_dim: 31 input_dim: 15 input_dim: -3"),
    ("# c { \n force_backward: t # }\n", "force_backward: true"),
    ("force_backward: 0 debug_info: 1", "force_backward: false debug_info: true"),
    ("force_backward: False debug_info: f", "force_backward: false debug_info: false"),
    ("layer { loss_weight: [1.5f, 2F, .5, 3., 1e-2, 7] }",
     "layer { loss_weight: [1.5, 2, 0.5, 3, 0.01, 7] }"),
    ("layer { loss_weight: inf loss_weight: -Infinity }", "layer { loss_weight: [INF, -inf] }"),
    ("layer { phase: 1 pooling_param { pool: 2 } }",
     "layer { phase: TEST pooling_param { pool: STOCHASTIC } }"),
    (r"""name: "\101\x42\n\t\"\'\\\303\251\u00e9\ud83d\ude00\U0001F600\?" """,
     "name: 'AB\\n\\t\"\\'\\\\éé😀😀?'"),
    ("layer{name:\"a\"}layer{}", 'layer { name: "a" } layer { }'),
    ("name\t:\r\n\v\f\"x\"", 'name: "x"'),
]  # fmt: skip


@pytest.mark.parametrize("text, plain", SAME, ids=[text[:40] for text, _ in SAME])
def test_accepted(text, plain):
    assert net(text) == net(plain)
    assert net(text).ListFields()  # not both empty


def test_numbers_keep_their_values():
    message = net("layer { loss_weight: [1.5f, .5, 3., 1e-2, -inf] } input_dim: [0x1F, 017, -3]")
    expected = [1.5, 0.5, 3, struct.unpack("<f", struct.pack("<f", 0.01))[0], float("-inf")]
    assert list(message.layer[0].loss_weight) == expected
    assert list(message.input_dim) == [31, 15, -3]
    assert list(layer("loss_weight: [1e39, -1e400]").loss_weight) == [float("inf"), float("-inf")]
    value = layer("loss_weight: nan").loss_weight[0]
    assert value != value


def test_strings_keep_their_bytes():
    assert net(r"name: '\303\251\x41\n'").name == "éA\n"
    assert parse(r'data: "\000\377\xe9é"', "Datum").data == b"\x00\xff\xe9\xc3\xa9"


# What is refused: text, line, column, a part of the message.
REFUSED = [
    ('name: "a', 1, 7, "a string that does not end in its line"),
    ('name: "a\nb"', 1, 7, "expected a closing"),
    ('name "a"', 1, 6, "expected ':' or '{' after 'name'"),
    ('name = "a"', 1, 6, "Write ':' instead of '='"),
    ("name: “a”", 1, 7, "plain quotes"),
    (r'name: "\q"', 1, 8, r"'\q' in a string"),
    (r'name: "\ud800"', 1, 8, r"'\ud800' in a string"),
    ('layer {\n  name: "a"\n', 3, 1, "expected '}' for the '{' of 'layer' in line 1"),
    ('layer < name: "a" }', 1, 19, "expected a field name or '>'"),
    ("}", 1, 1, "expected a field name"),
    ("// comment", 1, 1, "comments start with '#'"),
    ("input_dim: 1.5", 1, 12, "'1.5' is not an integer"),
    ("input_dim: 08", 1, 12, "leading 0 is octal"),
    ("input_dim: 2147483648", 1, 12, "out of range; expected an integer from -2147483648 to 2147483647"),
    ("input_dim: 99999999999999999999999999999999", 1, 12, "out of range"),
    ("input_dim: +1", 1, 12, "Leave the '+' out"),
    ("input_dim: 1input_dim: 2", 1, 12, "white space between a number and a name"),
    ("input_dim [1]", 1, 12, "expected ':'"),
    ("input_dim: [1 2]", 1, 15, "expected ',' or ']'"),
    ("layer { lrn_param { local_size: -1 } }", 1, 33, "out of range; expected an integer from 0"),
    ("layer { lrn_param { local_size: -0 } }", 1, 33, "out of range"),
    ("layer { loss_weight: 0x10 }", 1, 22, "not a decimal number"),
    ("layer { loss_weight: 010 }", 1, 22, "leading 0, which means octal"),
    ("layer { loss_weight: high }", 1, 22, "'high' is not a number"),
    ("force_backward: 2", 1, 17, "expected true or false"),
    ("force_backward: TRUE", 1, 17, "expected true or false"),
    ("name: data", 1, 7, 'Write "data"'),
    ("name: 3", 1, 7, "a string in quotes"),
    ("name { }", 1, 6, "a block; expected one value (string)"),
    ("layer: 3", 1, 8, "'3' is no block"),
    ('layer { type: CONVOLUTION }', 1, 15, "'layers { }', whose types are in capitals"),
    ('layers { type: "Convolution" }', 1, 16, "quoted types belong in 'layer { }'"),
    ("layer { phase: TRIAN }", 1, 16, "expected one of TRAIN, TEST. Did you mean 'TRAIN'?"),
    ("layer { phase: 2 }", 1, 16, "'2' is no value of Phase"),
    ("layer { phase: { } }", 1, 16, "a block; expected one of TRAIN, TEST"),
    ('name: "a"\nname: "b"', 2, 1, "given a second time (first in line 1)"),
    ("layer { lrn_param { } lrn_param { } }", 1, 23, "given a second time"),
    ("force_backward: [true]", 1, 1, "given as a list; expected a single value"),
    ("layer { clip_param { min: 1 } }", 1, 20, "'clip_param.max': this required field is missing"),
    ('layer { name: "c" convolution_param { kernel: 3 } }', 1, 39,
     "layer 'c', field 'convolution_param.kernel'"),
    ("[caffe.x]: 3", 1, 1, "no extensions"),
    (r"name: '\377'", 1, 7, "not UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize("text, line, column, part", REFUSED, ids=[case[0][:40] for case in REFUSED])
def test_refused(text, line, column, part):
    (problem,) = problems(text)
    assert str(problem).startswith(f"net.prototxt:{line}:{column}: ")
    assert part in str(problem).replace("Quoted", "quoted").replace("Comments", "comments")


def test_all_problems_at_once():
    text = """
layer {
  name: "c"
  convolution_param { num_ouput: 3 kernel_size: "3" weight_filler { std: x } }
  pooling_param { pool: MAXX }
  botom: "a"
}
"""
    found = problems(text)
    assert [(p.line, p.layer, p.field) for p in found] == [
        (4, "c", "convolution_param.num_ouput"),
        (4, "c", "convolution_param.kernel_size"),
        (4, "c", "convolution_param.weight_filler.std"),
        (5, "c", "pooling_param.pool"),
        (6, "c", "botom"),
    ]
    assert "did you mean 'num_output'?" in found[0].fix and "'bottom'" in found[4].fix


def test_a_flood_of_problems_is_cut_short():
    found = problems("\n".join(["node { }"] * 130))
    assert len(found) == 101 and "30 more" in found[-1].found


@pytest.mark.parametrize(
    "dialect, field, there", [("bvlc", "batch_reduction_param", "srn"), ("srn", "input_param", "bvlc")]
)
def test_field_of_the_other_dialect(dialect, field, there):
    (problem,) = problems(f"layer {{ {field} {{ }} }}", dialect=dialect)
    assert f"only in {there}" in problem.found and there in problem.fix


def test_enum_value_of_the_other_dialect():
    (problem,) = problems("layer { reduction_param { operation: TOPK } }")
    assert "only in srn" in problem.found


def test_deep_nesting_is_an_error_and_no_crash():
    text = "a { " * (MAX_DEPTH - 1) + "} " * (MAX_DEPTH - 1)
    parse_tree(text)
    with pytest.raises(ParseError, match="levels"):
        parse_tree("a { " * 100_000)


def test_messages_can_be_printed_whatever_the_file_holds():
    (problem,) = problems("layer { name: '\\377\\n" + "x" * 500 + "' }")
    text = str(problem)
    text.encode()
    assert len(text) < 300 and "\n" not in text


# Files


def write(tmp_path, data: bytes):
    path = tmp_path / "some.prototxt"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data, part",
    [
        (b"", "the file is empty"),
        (b"# only\n\n", "only comments"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b'{"layers": []}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\x0a\x05CaffeNet\xa2\x06\x08\x00", "binary file, such as a .caffemodel"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        ('name: "x"'.encode("utf-16"), "UTF-16"),
        (
            b"base_lr: 0.1 lr_policy: 'fixed' snapshot: 3",
            "this is a solver ('base_lr', 'lr_policy', 'snapshot')",
        ),
    ],
)
def test_file_of_another_kind(tmp_path, data, part):
    path = write(tmp_path, data)
    with pytest.raises(ParseError) as caught:
        read_prototxt(path)
    (problem,) = caught.value.problems
    assert part in str(problem) and str(path) in str(problem)


def test_net_where_a_solver_is_expected():
    with pytest.raises(ParseError, match=r"this is a net \('name', 'layer'\); expected a solver"):
        parse_prototxt('name: "x" layer { name: "a" }', "SolverParameter")


def test_missing_file(tmp_path):
    with pytest.raises(ParseError, match="cannot read"):
        read_prototxt(tmp_path / "none.prototxt")


def test_comment_in_another_encoding_does_no_harm(tmp_path):
    parsed = read_prototxt(write(tmp_path, b"\xef\xbb\xbfname: 'x' # caf\xe9\n"))
    assert parsed.message.name == "x"
    with pytest.raises(ParseError, match="UTF-8"):
        read_prototxt(write(tmp_path, b"name: 'caf\xe9'"))


def test_lines_of_the_layers():
    text = 'name: "n"\nlayer { name: "a" }\n\nlayer: [\n { name: "b" },\n\n { name: "c" } ]\n'
    parsed = parse_prototxt(text)
    assert [entry.name for entry in parsed.message.layer] == ["a", "b", "c"]
    assert parsed.lines == [2, 5, 7]
    assert parse_prototxt("layer { }\nlayers { }\n").lines == [2]


def test_unknown_dialect_and_message():
    with pytest.raises(UsageError, match="bvlc, srn"):
        parse("", dialect="caffe2")
    with pytest.raises(UsageError, match="NetParameter"):
        parse("", "NetParametr")


def test_time_for_500_layers():
    block = (
        'layer {{ name: "c{0}" type: "Convolution" bottom: "b{0}" top: "c{0}"'
        " param {{ lr_mult: 1 decay_mult: 1 }} param {{ lr_mult: 2 decay_mult: 0 }}"
        " convolution_param {{ num_output: 64 pad: 1 kernel_size: 3"
        ' weight_filler {{ type: "gaussian" std: 0.01 }} bias_filler {{ type: "constant" value: 0 }} }} }}\n'
    )
    text = "".join(block.format(i) for i in range(500))
    took = []
    for _ in range(3):
        start = time.perf_counter()
        parse_prototxt(text)
        took.append(time.perf_counter() - start)
    # About 0.06 s on an idle machine; the bound leaves room for a busy one, and a quadratic parser fails it.
    assert min(took) < 0.5
