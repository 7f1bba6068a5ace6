"""`diff` and `describe`: what they find, and what they draw."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from generated import GOLDEN, message

from prototxt_gen.__main__ import main
from prototxt_gen.builder import NetBuilder
from prototxt_gen.command import run
from prototxt_gen.describe import describe
from prototxt_gen.diff import compare, flatten
from prototxt_gen.drawing import ASCII, dot, draw
from prototxt_gen.errors import ParseError
from prototxt_gen.kinds import NET, SOLVER, read_any
from prototxt_gen.schema.text import parse, parse_prototxt

FILES = GOLDEN / "files"
STEP_4 = FILES / "paper/srn/resnet101_srn/coco"
SOLVER_FILE = STEP_4 / "step_4_resnet101_srn_finetune_solver.prototxt"


def small(dialect: str = "bvlc", kernel: int = 3, name: str = "conv"):
    net = NetBuilder("small", dialect)
    x = net.input("data", (2, 3, 7, 11))
    x = net.Convolution(name, x, num_output=5, kernel_size=kernel, weight_filler={"type": "msra"})
    return net, net.ReLU("relu", x, in_place=True)


# diff


def test_equal_nets_do_not_differ():
    difference = compare(small()[0].build(), small()[0].build())
    assert not difference and difference.text() == "3 layers are the same"
    solver = parse("net: 'x' base_lr: 0.5", "SolverParameter")
    assert not compare(solver, solver) and compare(solver, solver).text() == "nothing differs"


def test_changed_fields_are_named():
    one, two = small()[0].build(), small(kernel=5)[0].build()
    one.layer[1].param.add(lr_mult=2)
    difference = compare(one, two)
    assert difference.changed == {
        "conv": [("param.lr_mult", ("2",), ()), ("convolution_param.kernel_size", ("3",), ("5",))]
    }
    assert difference.text().splitlines() == [
        "changed: conv",
        "    param.lr_mult: 2 -> not set",
        "    convolution_param.kernel_size: 3 -> 5",
        "2 layers are the same",
    ]


def test_layers_only_in_one_and_in_another_order():
    one, x = small()
    two, y = small()
    one.Sigmoid("s", x, top="p")
    one.TanH("t", x, top="q")
    two.TanH("t", y, top="q")
    two.Sigmoid("s", y, top="p")
    two.Silence("quiet", "p", top=())
    difference = compare(one.build(), two.build())
    assert (difference.only_a, [str(layer) for layer in difference.only_b]) == ([], ["quiet"])
    assert len(difference.moved) == 1 and not difference.changed
    assert "only in B: 1 layer\n  + quiet  Silence" in difference.text()


def test_layers_of_one_name_in_two_phases():
    net = message("ResNet-101", "paper", "srn", 1)
    assert not compare(net, net)
    other = type(net)()
    other.CopyFrom(net)
    other.layer[2].data_param.batch_size = 7  # data, TEST
    difference = compare(net, other)
    assert difference.changed == {"data (2)": [("data_param.batch_size", ("12",), ("7",))]}


def test_dialects_are_compared_by_value():
    difference = compare(small("bvlc")[0].build(), small("srn")[0].build())
    assert [str(layer) for layer in difference.only_a] == ["data"], "the Input layer"
    assert not difference.changed and difference.same == 2, "a repeated field of one value equals a single one"
    assert {path for path, _, _ in difference.fields} == {"input", "input_shape.dim"}


def test_by_position_names_do_not_count_but_wiring_does():
    one, two = small()[0].build(), small(name="other")[0].build()
    assert [str(layer) for layer in compare(one, two).only_a] == ["conv"]
    assert not compare(one, two, by_position=True)
    two.layer[2].top[0] = "rectified"  # no longer in place: the same structure
    assert not compare(one, two, by_position=True)
    two.layer[2].bottom[0] = "data"
    difference = compare(one, two, by_position=True)
    assert difference.changed == {"relu": [("bottom", ('"other"',), ('"data"',))]}


def test_the_released_main_net_has_the_papers_structure():
    paper, released = (message("ResNet-101", profile, "srn") for profile in ("paper", "released"))
    difference = compare(paper, released, by_position=True)
    assert not difference.only_a and [str(layer) for layer in difference.only_b] == ["caffe.Flatten_339"]
    # ReLU is in place in one and not in the other, which is no matter; the classifier reads the flattened blob
    assert list(difference.changed) == ["fc80 = caffe.InnerProduct_340"]


def test_flatten_numbers_repeated_blocks():
    solver = parse("test_iter: 3 test_iter: 4 base_lr: 0.001 lr_policy: 'step'", "SolverParameter")
    assert flatten(solver) == {"test_iter": ("3", "4"), "base_lr": ("0.001",), "lr_policy": ('"step"',)}
    net = parse("layer { name: 'a' param { lr_mult: 1 } param { } exclude { } }")
    assert flatten(net) == {
        "layer.name": ('"a"',), "layer.param[0].lr_mult": ("1",), "layer.param[1]": ("{ }",), "layer.exclude": ("{ }",),
    }  # fmt: skip


def command(capsys, *arguments: object) -> tuple[int, str, str]:
    status = run(main, list(map(str, arguments)))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_diff_of_two_steps(capsys):
    files = FILES / "paper"
    a = files / "srn/resnet101_srn/coco/step_2_resnet101_att_trainval.prototxt"
    b = files / "srn/resnet101_srn/coco/step_4_resnet101_srn_finetune_trainval.prototxt"
    status, out, _ = command(capsys, "diff", a, b)
    lines = out.splitlines()
    assert status == 1 and lines[0].startswith(f"A: {a}, dialect srn (")
    assert "changed: 104 layers: conv1, res2a_branch2a, res2a_branch2b, ..." in lines
    assert "    bn_param.frozen: true -> not set" in lines and "  + sr_conv4  Convolution" in lines
    assert command(capsys, "diff", b, b)[:1] == (0,)
    full = command(capsys, "diff", "--full", a, b)[1]
    assert "res5c_branch2c" in full and "res5c_branch2c" not in out


def test_diff_of_solvers_and_of_unlike_files(capsys, tmp_path):
    other = tmp_path / "solver.prototxt"
    other.write_text(SOLVER_FILE.read_text().replace("base_lr: 0.001", "base_lr: 0.01"))
    status, out, _ = command(capsys, "diff", SOLVER_FILE, other)
    assert status == 1 and out.splitlines()[2:] == ["  base_lr: 0.001 -> 0.01"]
    net = FILES / "paper/srn/resnet101_srn/coco/step_2_resnet101_att_trainval.prototxt"
    status, _, err = command(capsys, "diff", SOLVER_FILE, net)
    assert status == 2 and f"{SOLVER_FILE} is a solver, {net} a net; expected two nets or two solvers" in err
    status, _, err = command(capsys, "diff", SOLVER_FILE, tmp_path / "absent.prototxt")
    assert status == 2 and "absent.prototxt" in err


def test_the_kind_of_a_file():
    assert read_any(SOLVER_FILE)[0] == SOLVER
    assert read_any(GOLDEN / "srn/coco_resnet101_test.prototxt")[0] == NET
    with pytest.raises(ParseError):
        read_any(GOLDEN / "README.md")


# describe


def diamond() -> NetBuilder:
    """data -> a -> b; a and b summed; two outputs of a slice, one unread."""
    net = NetBuilder("diamond", "bvlc")
    a = net.Convolution("a", net.input("data", (2, 4, 5, 7)), num_output=6, kernel_size=1)
    b = net.Sigmoid("b", a)
    x = net.Eltwise("sum", b, a, operation="SUM")
    first, second = net.Slice("cut", x, top=["first", "second"], axis=1, slice_point=2)
    net.Concat("joined", second, first, axis=1)
    return net


def test_the_drawing_joins_what_is_read():
    net = diamond().build()
    drawing = draw(net, net.layer)
    assert [(row.layer.name, row.drawn) for row in drawing.rows] == [
        ("data", "●"),
        ("a", "●"),
        ("b", "├─●"),
        ("sum", "●─╯"),
        ("cut", "●"),
        ("joined", "●─╯"),
    ]


def test_lines_pass_layers_that_they_do_not_concern():
    net = NetBuilder("crossing", "srn")
    x, y = net.input("x", (2, 3)), net.input("y", (2, 3))
    a = net.Sigmoid("a", x)  # x is read again, across y
    net.Eltwise("b", a, y, operation="SUM")
    net.Eltwise("c", x, "b", operation="SUM")
    message = net.build()
    assert [row.drawn for row in draw(message, message.layer).rows] == ["├─│─●", "│ ●─╯", "●─╯"]


def test_every_blob_that_is_read_has_a_line():
    """For the full net: as many lines pass or end at each row as blobs are still to be read there."""
    net = message("ResNet-SRN", "released", "srn")
    drawing = draw(net, net.layer)
    made: dict[int, int] = {version: -1 for _, version in drawing.inputs}
    for index, row in enumerate(drawing.rows):
        made |= dict.fromkeys(row.makes, index)
    for index, row in enumerate(drawing.rows):
        alive = {version for version, at in made.items() if at < index <= drawing.last_reader.get(version, -1)}
        ending = {version for version in row.reads if drawing.last_reader[version] == index}
        marks = sum(row.drawn.count(mark) for mark in "│├┤┼╯╰●")
        # the node stands on one of the ending lines, or on a line of its own
        assert marks == len(alive) + (0 if ending else 1), row.layer.name
        assert row.drawn.count("●") == 1


def test_graphviz():
    net = diamond().build()
    lines = dot(net, draw(net, net.layer)).splitlines()
    assert lines[0] == 'digraph "diamond" {' and lines[-1] == "}"
    assert '  "1 a" -> "2 b" [label="a"];' in lines and '  "1 a" -> "3 sum" [label="a"];' in lines
    assert '  "4 cut" -> "5 joined" [label="second"];' in lines
    assert sum(" -> " in line for line in lines) == 7
    odd = NetBuilder('a "quoted" \\ name', "srn")
    odd.ReLU('r"x', odd.input("data", (1, 2)))
    text = dot(odd.build(), draw(odd.build(), odd.build().layer))
    assert text.startswith('digraph "a \\"quoted\\" \\\\ name" {') and '"0 r\\"x"' in text


def test_describe_without_a_measure():
    text, drawing = describe(parse_prototxt(diamond().to_text(), file="diamond"))
    lines = text.splitlines()
    assert lines[0].startswith("net 'diamond', phase TEST, dialect bvlc (") and lines[-1] == "6 layers"
    assert lines[1].split() == ["layer", "type", "settings", "tops"]
    (row,) = (line for line in lines if line.startswith("●    cut"))
    assert row.split() == ["●", "cut", "Slice", "slice_point", "2;", "axis", "1", "first,", "second"]
    assert len(drawing.rows) == 6


def test_the_command_shows_shapes_and_sizes(capsys, tmp_path):
    status, out, _ = command(
        capsys, "describe", GOLDEN / "srn/coco_resnet101_srn_test.prototxt", "--dot", tmp_path / "net.dot"
    )
    lines = out.splitlines()
    assert status == 0 and lines[1] == "inputs: data"
    (row,) = (line.split() for line in lines if " sr_conv4 " in line and "Convolution" in line)
    assert row[-4:] == ["sr_conv4", "1x2048x1x1", "403,456", "401,408"]
    assert "359 layers, 46,535,552 parameters, 97,664 statistics, 8,448,761,856 multiply-adds" in lines
    assert (tmp_path / "net.dot").read_text().startswith('digraph "ResNet-SRN" {')
    assert lines[-1] == f"wrote {tmp_path / 'net.dot'}"


def test_the_command_in_training(capsys):
    path = FILES / "paper/srn/resnet101_srn/coco/step_2_resnet101_att_trainval.prototxt"
    status, out, _ = command(capsys, "describe", "--phase", "TRAIN", path)
    assert status == 0 and "no shapes:" in out and "depends on" in out, "only the database knows"
    shapes = ["--input-shape", "data=24x3x224x224", "--input-shape", "label=24x80x1x1"]
    status, out, _ = command(capsys, "describe", "--phase", "TRAIN", *shapes, path)
    (row,) = (line for line in out.splitlines() if " att_conv1 " in line and "Convolution" in line)
    assert status == 0 and "24x512x14x14" in row and "fixed" not in row
    (row,) = (line for line in out.splitlines() if " res5a_branch1 " in line and "Convolution" in line)
    assert "; fixed" in row
    assert "loss_cls" not in out, "watched in TEST only"
    with pytest.raises(SystemExit):
        command(capsys, "describe", "--input-shape", "data", path)


def test_plain_characters_where_the_terminal_has_no_others(capsys, monkeypatch, tmp_path):
    from prototxt_gen.commands.describe import _print

    class Plain:
        encoding = "ascii"

        def __init__(self):
            self.text = ""

        def write(self, text):
            self.text += text

    plain = Plain()
    monkeypatch.setattr(sys, "stdout", plain)
    _print("●─╯ │├┤┼╰")
    monkeypatch.undo()
    assert plain.text == "o-' ||||'\n" and "●─".translate(ASCII) == "o-"


def test_bad_files(capsys, tmp_path):
    bad = tmp_path / "bad.prototxt"
    bad.write_text("layer { nam: 'x' }")
    for verb in (["describe"], ["diff", str(SOLVER_FILE)]):
        status, _, err = command(capsys, *verb, bad)
        assert status == 2 and "bad.prototxt:1" in err and "Did you mean 'name'" in err, err


def test_golden_files_are_where_this_file_looks():
    assert isinstance(FILES, Path) and SOLVER_FILE.exists()
