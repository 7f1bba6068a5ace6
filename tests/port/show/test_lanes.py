"""The lines beside the table of layers, Graphviz, and tables that keep to a terminal."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from generated import GOLDEN, message

from port.__main__ import main
from port.show.dot import dot
from port.show.lanes import ASCII, Drawing, draw
from prototxt_gen.base.command import run
from prototxt_gen.builder import NetBuilder

FILES = GOLDEN / "files"


def lanes(net) -> Drawing:
    """The drawing of a NetParameter."""
    layers = [SimpleNamespace(name=x.name, type=x.type, bottoms=list(x.bottom), tops=list(x.top)) for x in net.layer]
    return draw(net.input, layers)


def command(capsys, *arguments: object) -> tuple[int, str, str]:
    status = run(main, list(map(str, arguments)))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


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
    drawing = lanes(net)
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
    assert [row.drawn for row in lanes(message).rows] == ["├─│─●", "│ ●─╯", "●─╯"]


def test_every_blob_that_is_read_has_a_line():
    """For the full net: as many lines pass or end at each row as blobs are still to be read there."""
    net = message("ResNet-SRN", "released", "srn")
    drawing = lanes(net)
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
    lines = dot(net.name, lanes(net)).splitlines()
    assert lines[0] == 'digraph "diamond" {' and lines[-1] == "}"
    assert '  "1 a" -> "2 b" [label="a"];' in lines and '  "1 a" -> "3 sum" [label="a"];' in lines
    assert '  "4 cut" -> "5 joined" [label="second"];' in lines
    assert sum(" -> " in line for line in lines) == 7
    odd = NetBuilder('a "quoted" \\ name', "srn")
    odd.ReLU('r"x', odd.input("data", (1, 2)))
    text = dot(odd.name, lanes(odd.build()))
    assert text.startswith('digraph "a \\"quoted\\" \\\\ name" {') and '"0 r\\"x"' in text


def test_the_command_shows_settings_shapes_and_sizes(capsys, tmp_path):
    path = GOLDEN / "srn/coco_resnet101_srn_test.prototxt"
    status, out, _ = command(capsys, "inspect", path, "--dot", tmp_path / "net.dot")
    lines = out.splitlines()
    assert status == 0
    (row,) = (line.split() for line in lines if " sr_conv4 " in line and "Convolution" in line)
    assert row[-4:] == ["sr_conv4", "1x2048x1x1", "403,456", "401,408"]
    assert any("359 layers, 46,535,552 parameters, 97,664 statistics, 8,448,761,856 multi" in line for line in lines)
    assert (tmp_path / "net.dot").read_text().startswith('digraph "ResNet-SRN" {')
    assert lines[-1].startswith(f"wrote {tmp_path / 'net.dot'}")


def test_the_command_in_training(capsys):
    path = FILES / "paper/srn/resnet101_srn/coco/step_2_resnet101_att_trainval.prototxt"
    status, out, _ = command(capsys, "inspect", "--phase", "TRAIN", path)
    assert status == 0 and "problems:" in out and "depends on" in out, "only the database knows"
    shapes = ["--input-shape", "data=24x3x224x224", "--input-shape", "label=24x80x1x1"]
    status, out, _ = command(capsys, "inspect", "--phase", "TRAIN", *shapes, path)
    (row,) = (line for line in out.splitlines() if line.split()[1:3] == ["att_conv1", "Convolution"])
    assert status == 0 and "24x512x14x14" in row and "fixed" not in row
    (row,) = (line for line in out.splitlines() if line.split()[1:3] == ["res5a_branch1", "Convolution"])
    assert " fixed, " in row
    assert "loss_cls" not in out, "watched in TEST only"


def test_plain_characters_where_the_terminal_has_no_others(tmp_path):
    import subprocess
    import sys

    path = tmp_path / "net.prototxt"
    path.write_text(diamond().to_text())
    done = subprocess.run(
        [sys.executable, "-m", "port", "inspect", str(path)],
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PATH": ""},
        check=True,
    )
    assert b"o-'" in done.stdout and "●─".translate(ASCII) == "o-"


@pytest.mark.parametrize("width", [80, 100, 140])
def test_tables_keep_to_the_terminal(capsys, monkeypatch, width):
    """With what is left out, every layer still has its line, and its numbers whole."""
    monkeypatch.setenv("COLUMNS", str(width))
    path = GOLDEN / "srn/coco_resnet101_srn_test.prototxt"
    status, out, _ = command(capsys, "inspect", path)
    lines = out.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if "layer" in line and "shapes" in line) : -1]
    assert status == 0 and max(map(len, table)) <= width
    assert sum("multiply-adds" in line for line in table) == 1 and "403,456" in out and "401,408" in out
    assert len(table) > 359
    monkeypatch.delenv("COLUMNS")
    assert max(map(len, command(capsys, "inspect", path)[1].splitlines())) > 140, "a file has any width"
