"""Net, solver or neither: one judge for every command, which a stray line does not confuse."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from port.__main__ import main
from prototxt_gen.base import command
from prototxt_gen.base.errors import ParseError
from prototxt_gen.schema import parse_prototxt, read_prototxt, read_tolerantly
from prototxt_gen.schema.judge import NET, SOLVER, Verdict, judge, judge_file, judge_text
from prototxt_gen.schema.syntax import parse_tree
from prototxt_gen.schema.text import read_any

GOLDEN = Path(__file__).parents[2] / "golden"

LAYER = 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }\n'
OLD = 'layers { name: "r" type: RELU bottom: "data" top: "r" }\n'
STRAY = LAYER * 3 + "base_lr: 0.1\n"

NETS = {
    "three layers and a stray line": STRAY,
    "the stray line in front": "base_lr: 0.1\n" + LAYER * 3,
    "old layers": OLD * 3 + "base_lr: 0.1\n",
    "layers as a list": "layer: [ { }, { }, { } ] base_lr: 0.1 max_iter: 3",
    "a layer and a stray line": LAYER + "base_lr: 0.1",
    "one stray value many times": LAYER * 2 + "stepvalue: 10 " * 9,
    "a stray list": LAYER * 2 + "stepvalue: [1, 2, 3, 4, 5]",
    "a name alone": 'name: "net"',
    "inputs": 'input: "data" input_dim: [1, 3, 5, 5]',
    "a field of the fork": "mem_param { }",
    "what both have": "debug_info: true",
    "names nobody knows beside a layer": LAYER + "nonsense: 1 more: 2 again: 3",
    "a misspelt layer": 'name: "net" input: "data" laier { name: "a" }',
    "nothing": "",
}
SOLVERS = {
    "a usual one": 'net: "n.prototxt" base_lr: 0.1 max_iter: 9',
    "with its net inside": "net_param { " + LAYER * 9 + " } ",
    "with its net inside, and more": "net_param { " + LAYER + " } base_lr: 0.1 type: 'SGD'",
    "with a name": 'name: "solver" base_lr: 0.1',
    "a name in a tie": 'name: "solver" base_lr: 0.1',
    "a stray layer": LAYER + "base_lr: 0.1 max_iter: 9",
    "a field of bvlc": 'type: "Adam"',
    "a field of the fork": "richness: 3",
    "several states": "test_state { } test_state { } layer { }",
    "what both have, and one more": "debug_info: true display: 3",
}
NEITHER = {
    "a layer's inside": ('name: "c" type: "ReLU" bottom: "a" top: "b"', "LayerParameter", "A net has it as layer {"),
    "a name and a type": ('name: "c" type: "ReLU"', "LayerParameter", "A net has it as layer {"),
    "a transformation": (
        "crop_size: 224 mirror: true",
        "TransformationParameter",
        "A layer has it as transform_param {",
    ),
    "a state": ('phase: TEST stage: "a"', "NetState", "A net has it as state {"),
    "a filler": ('type: "xavier" variance_norm: FAN_IN', "FillerParameter", "Check which file was given"),
    "a convolution": ("num_output: 3 kernel_size: 5 stride: 2 pad: 1", "", "A layer has it as convolution_param {"),
    "a record": ("channels: 3 height: 2 width: 2 data: 'abc' label: 4", "Datum", "Check which file was given"),
    "a shape": ("dim: 1 dim: 3", "BlobShape", "A net has it as input_shape {"),
    "a blob": ("shape { dim: 1 } data: 3 data: 4", "BlobProto", ""),
}


def verdict(text: str) -> Verdict:
    return judge(parse_tree(text))


@pytest.mark.parametrize("text", NETS.values(), ids=NETS)
def test_nets(text):
    assert verdict(text).kind == NET


@pytest.mark.parametrize("text", SOLVERS.values(), ids=SOLVERS)
def test_solvers(text):
    assert verdict(text).kind == SOLVER
    assert judge_text(text) == SOLVER


@pytest.mark.parametrize(("text", "message", "fix"), NEITHER.values(), ids=NEITHER)
def test_what_another_message_fits_better(text, message, fix):
    with pytest.raises(ParseError) as caught:
        judge_text(text, "some.prototxt")
    (problem,) = caught.value.problems
    assert problem.found.startswith(f"this is neither a net nor a solver, it looks like a message {message}")
    assert problem.expected == "a net or a solver" and problem.file == "some.prototxt" and fix in str(problem)


def test_names_that_are_nobodys():
    for text, hint in (
        ("foo: 1 bar { x: 2 } baz: 3 qux: 4", "Check which file"),
        ("laier { } nam: 'x'", "Did you mean 'layer'"),
    ):
        assert verdict(text)[:2] == ("", "")
        with pytest.raises(ParseError) as caught:
            judge_text(text)
        assert hint in str(caught.value)
    assert "neither has fields named 'foo', 'bar', 'baz', ..." in str(_refused("foo: 1 bar { } baz: 3 qux: 4"))
    # Read as a net, every such field has its line.
    with pytest.raises(ParseError) as caught:
        parse_prototxt("foo: 1\nbar { x: 2 }")
    assert [(p.line, p.field) for p in caught.value.problems] == [(1, "foo"), (2, "bar")]


def _refused(text: str) -> ParseError:
    with pytest.raises(ParseError) as caught:
        judge_text(text)
    return caught.value


def test_many_unknown_names_take_no_time():
    start = time.perf_counter()
    _refused("".join(f"strange{i}: 1\n" for i in range(20_000)))
    assert time.perf_counter() - start < 5


def test_what_is_more_wins():
    """The weights: of a text of n layers and k fields of a solver, and the other way round."""
    fields = ["base_lr: 1 ", "max_iter: 2 ", "display: 3 ", "momentum: 4 "]
    for layers in range(1, 5):
        for stray in range(1, 5):
            text = LAYER * layers + "".join(fields[:stray])
            assert verdict(text).kind == (NET if layers >= stray else SOLVER), text


@pytest.mark.parametrize("path", sorted(GOLDEN.rglob("*.prototxt")), ids=lambda path: path.name)
def test_recorded_files(path):
    expected = SOLVER if "solver" in path.name.split(".")[-2].split("_") else NET
    assert judge_file(path) == expected


# --- all who ask


def test_a_stray_line_is_a_problem_of_the_net(tmp_path, capsys):
    """Every command takes the text for a net, and says what is wrong in it, and where."""
    path = tmp_path / "n.prototxt"
    path.write_text(STRAY)
    for read in (read_any, read_prototxt):
        with pytest.raises(ParseError) as caught:
            read(path)
        (problem,) = caught.value.problems
        assert (problem.field, problem.line, problem.found) == ("base_lr", 4, "NetParameter has no such field")
    with pytest.raises(ParseError, match=r"this is a net \('layer'\); expected a solver"):
        read_prototxt(path, SOLVER)
    _, problems = read_tolerantly(path, NET)
    assert [each.field for each in problems] == ["base_lr"]
    assert command.run(main, ["upgrade", str(path)]) == command.BAD_INPUT
    assert "n.prototxt:4:1: field 'base_lr': NetParameter has no such field" in capsys.readouterr().err
    assert command.run(main, ["inspect", str(path)]) == command.OK
    out = capsys.readouterr().out
    assert out.startswith("net ''") and "3 layers" in out and "field 'base_lr'" in out


def test_one_for_the_other(tmp_path, capsys):
    path = tmp_path / "s.prototxt"
    path.write_text(SOLVERS["with its net inside, and more"])
    assert read_any(path)[0] == SOLVER and judge_file(path) == SOLVER
    with pytest.raises(ParseError, match=r"this is a solver \('net_param', 'base_lr', 'type'\); expected a net"):
        read_prototxt(path)
    assert command.run(main, ["inspect", str(path)]) == command.OK
    assert capsys.readouterr().out.startswith("solver, dialect bvlc")


def test_neither(tmp_path, capsys):
    path = tmp_path / "t.prototxt"
    path.write_text("crop_size: 224 mirror: true\n")
    for verb in ("inspect", "upgrade"):
        assert command.run(main, [verb, str(path)]) == command.BAD_INPUT
        err = capsys.readouterr().err
        assert err.startswith(f"error: {path}: this is neither a net nor a solver, it looks like a message Transform")
        assert err.count("\n") == 1
    for message, what in ((NET, "a net"), (SOLVER, "a solver")):
        with pytest.raises(ParseError, match=f"TransformationParameter .*; expected {what}"):
            read_prototxt(path, message)
    assert read_prototxt(path, "TransformationParameter").message.crop_size == 224


def test_fields_of_both_are_right_in_either():
    for message in (NET, SOLVER):
        assert parse_prototxt("debug_info: true", message).message.debug_info


def test_a_dialect_does_not_change_the_kind():
    """A net with a field that only the fork knows is a net in bvlc too, with that field as its problem."""
    with pytest.raises(ParseError, match="NetParameter has no such field in the dialect bvlc, only in srn"):
        parse_prototxt("mem_param { }", NET, "bvlc")
    with pytest.raises(ParseError, match="this is a net"):
        parse_prototxt("mem_param { }", SOLVER, "bvlc")
