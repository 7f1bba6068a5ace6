"""`diff`: what it finds."""

from __future__ import annotations

from pathlib import Path

import pytest
from generated import GOLDEN, message

from prototxt_gen.__main__ import main
from prototxt_gen.base.command import run
from prototxt_gen.base.errors import ParseError
from prototxt_gen.builder import NetBuilder
from prototxt_gen.diff import compare, flatten
from prototxt_gen.schema.judge import NET, SOLVER
from prototxt_gen.schema.text import parse, read_any

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


def test_bad_files(capsys, tmp_path):
    bad = tmp_path / "bad.prototxt"
    bad.write_text("layer { nam: 'x' }")
    status, _, err = command(capsys, "diff", SOLVER_FILE, bad)
    assert status == 2 and "bad.prototxt:1" in err and "Did you mean 'name'" in err, err


def test_both_files_are_wrong(capsys, tmp_path):
    (tmp_path / "a.prototxt").write_text("not a net")
    status, _, err = command(capsys, "diff", tmp_path / "a.prototxt", tmp_path / "b.prototxt")
    assert status == 2 and "a.prototxt:1:5" in err and "b.prototxt: cannot read: No such file" in err


def test_golden_files_are_where_this_file_looks():
    assert isinstance(FILES, Path) and SOLVER_FILE.exists()
