"""Drawings of nets: places that do not overlap, ways that touch no box, and an SVG that shows every layer."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nets import conv, fully, inputs, layer

from port.__main__ import main
from port.show.layout import lay_out
from port.show.survey import survey_net
from port.show.svg import svg
from prototxt_gen.base import command
from prototxt_gen.nets.write import net_text

GAP = 11.0


@st.composite
def graphs(draw):
    """Widths, and bundles of edges to higher numbers."""
    count = draw(st.integers(1, 14))
    widths = draw(st.lists(st.floats(5, 90), min_size=count, max_size=count))
    bundles = []
    for source in range(count - 1):
        for _ in range(draw(st.integers(0, 2))):
            targets = draw(st.lists(st.integers(source + 1, count - 1), min_size=1, max_size=4))
            bundles.append((source, targets))
    return widths, bundles


@given(graphs())
@settings(max_examples=150, deadline=None)
def test_layout(graph):
    """In every rank things keep their distance, and every edge has a way from rank to rank."""
    widths, bundles = graph
    layout = lay_out(widths, bundles, GAP)
    assert [place.box for place in layout.boxes] == list(range(len(widths)))
    for number, rank in enumerate(layout.ranks):
        assert all(place.rank == number for place in rank)
        for left, right in pairwise(rank):
            assert right.x - left.x >= (left.width + right.width) / 2 + GAP - 1e-6
    for index, (source, targets) in enumerate(bundles):
        ways = layout.ways[source, index]
        assert set(ways) == set(targets)
        for target, way in ways.items():
            assert way[0] is layout.boxes[source] and way[-1] is layout.boxes[target]
            assert all(b.rank == a.rank + 1 for a, b in pairwise(way))
            assert all(place.is_waypoint and place in layout.ranks[place.rank] for place in way[1:-1])


def test_a_chain_is_straight():
    """A shortcut runs beside it, straight too."""
    layout = lay_out([50.0] * 5, [(0, [1, 4]), (1, [2]), (2, [3]), (3, [4])], GAP)
    assert len({round(place.x, 3) for place in layout.boxes}) == 1
    (way,) = [ways[4] for ways in layout.ways.values() if len(ways) == 2]
    assert len(way) == 5 and len({round(place.x, 6) for place in way[1:-1]}) == 1
    assert abs(way[1].x - layout.boxes[0].x) >= 25 + GAP


def test_no_needless_crossings():
    """Two chains that begin in the wrong order."""
    layout = lay_out([10.0] * 6, [(0, [3]), (1, [2]), (2, [4]), (3, [5])], GAP)
    order = [[place.box for place in rank] for rank in layout.ranks]
    assert order in ([[0, 1], [3, 2], [5, 4]], [[1, 0], [2, 3], [4, 5]])


def texts(document):
    root = ElementTree.fromstring(document)
    return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


def draw(tmp_path, text, **options):
    path = tmp_path / "n.prototxt"
    path.write_text(text)
    survey = survey_net(path, **options)
    return survey, svg(survey)


def test_every_layer_and_shape(tmp_path):
    text = 'name: "a <b> & \\"c\\""' + inputs(data=(2, 3, 7, 6)) + conv("c", "data", "x", 4, 3)
    text += layer("relu", "ReLU", "x", "x") + fully("f", "x", "f", 5) + layer("odd <&>", "Oddity", "f x", "odd")
    _, document = draw(tmp_path, text)
    found = texts(document)
    for name in ("c", "f", "odd <&>", "input", "odd", "relu  ReLU"):
        assert name in found, name
    assert "x  2x4x5x4" in found and "2x5" in found and "data  2x3x7x6" in found and "odd  ?" in found
    assert any('a <b> & "c", phase TEST' in text for text in found)
    assert "Convolution: 4, 3x3" in found and document.count('stroke-dasharray="4 2"') == 1


@pytest.mark.parametrize("dialect", ["srn", "bvlc"])
def test_paper_net(tmp_path, dialect):
    """360 and 460 layers: each is there once, the main chain is one straight column."""
    survey, document = draw(tmp_path, net_text("ResNet-SRN", dialect=dialect, width_divisor=8))
    found = texts(document)
    for entry in survey.entries:
        assert sum(text == entry.name or text.startswith(f"{entry.name}  ") for text in found) == 1, entry.name
    root = ElementTree.fromstring(document)
    width, height = float(root.get("width")), float(root.get("height"))
    boxes = [
        [float(rect.get(key)) for key in ("x", "y", "width", "height")]
        for rect in root.iter("{http://www.w3.org/2000/svg}rect")
        if rect.get("width") != "100%"
    ]
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in boxes)
    column = [x for x, *_ in boxes]
    assert max(map(column.count, column)) > 0.85 * len(survey.entries)
    for i, (x, y, w, h) in enumerate(boxes):
        for x2, y2, w2, h2 in boxes[i + 1 :]:
            assert x + w <= x2 + 1e-6 or x2 + w2 <= x + 1e-6 or y + h <= y2 + 1e-6 or y2 + h2 <= y + 1e-6


SVG = "{http://www.w3.org/2000/svg}"


def points(path: str) -> list[tuple[float, float]]:
    """Places along a path of straight lines and cubic curves."""
    numbers = [(step[0], [float(n) for n in step[1:].split()]) for step in re.findall(r"[MLC][-\d. ]+", path)]
    at, found = (0.0, 0.0), []
    for kind, values in numbers:
        pairs = list(zip(values[::2], values[1::2], strict=True))
        if kind == "M":
            at = pairs[0]
            continue
        curve = [at, at, pairs[0], pairs[0]] if kind == "L" else [at, *pairs]
        for i in range(33):
            s = i / 32
            shares = ((1 - s) ** 3, 3 * s * (1 - s) ** 2, 3 * s * s * (1 - s), s**3)
            found.append(tuple(sum(w * p[axis] for w, p in zip(shares, curve, strict=True)) for axis in (0, 1)))
        at = pairs[-1]
    return found


def covered(document: str) -> list[str]:
    """The texts of a drawing that stand where a line passes, or outside all boxes."""
    root = ElementTree.fromstring(document)
    lines = [at for path in root.iter(f"{SVG}path") if path.get("marker-end") for at in points(path.get("d"))]
    rects = [
        [float(r.get(key)) for key in ("x", "y", "width", "height")] for r in root.iter(f"{SVG}rect") if r.get("x")
    ]
    boxes = [(x, y, w, h) for x, y, w, h in rects if w > 50]
    wrong = []
    for text in root.iter(f"{SVG}text"):
        x, y, half = float(text.get("x")), float(text.get("y")), 3 * len(text.text)
        if text.get("text-anchor") != "middle":
            half = 0 if y < 70 else half  # the heading
        inside = y < 70 or any(a <= x <= a + w and b <= y <= b + h for a, b, w, h in boxes)
        if not inside or any(x - half < px < x + half and y - 8 < py < y for px, py in lines):
            wrong.append(text.text)
    return wrong


FORK = (
    'name: "fork"'
    + inputs(data=(2, 3, 7, 6))
    + conv("c", "data", "c", 4)
    + conv("a", "c", "a", 5)
    + conv("b1", "c", "b1", 6)
    + conv("b2", "b1", "b2", 7)
    + layer("cat", "Concat", "a b2 c", "cat")
    + layer("cut", "Slice", "cat", "first second third", "slice_param { slice_point: 2 slice_point: 9 }")
    + layer("s", "Sigmoid", "second", "s")
    + layer("all", "Concat", "first third s", "all")
)


@pytest.mark.parametrize("text", [FORK, net_text("ResNet-SRN", dialect="bvlc", width_divisor=8)], ids=["fork", "paper"])
def test_no_text_lies_under_a_line(tmp_path, text):
    _, document = draw(tmp_path, text)
    assert not covered(document)


def test_a_text_under_a_line_is_seen(tmp_path):
    """As labels stood before: beside the place where a blob leaves its box."""
    _, document = draw(tmp_path, FORK)
    path = re.search(r'<path d="M([\d.]+) ([\d.]+)C', document)
    label = f'<text x="{float(path[1]) + 2:.1f}" y="{float(path[2]) + 13:.1f}" text-anchor="middle">first 2x5</text>'
    assert covered(document.replace("</svg>", label + "</svg>")) == ["first 2x5"]


def test_layers_that_hang(tmp_path):
    """Not below a blob that somebody else reads too, nor below a layer with two tops."""
    text = (
        inputs(data=(2, 4))
        + fully("f", "data", "f", 4)
        + layer("r", "ReLU", "f", "r")
        + layer("s", "Sigmoid", "r", "s")
    )
    text += layer("t", "TanH", "r", "t") + layer("sl", "Slice", "s", "u v") + layer("in_u", "ReLU", "u", "u")
    _, document = draw(tmp_path, text)
    found = texts(document)
    assert "r  ReLU" in found and not any(text.startswith(("s  ", "t  ", "in_u  ")) for text in found)


@pytest.mark.parametrize("text", ["", 'input: "x"', layer("d", "Data", "", "a b"), layer("r", "ReLU", "none", "r")])
def test_small_and_broken(tmp_path, text):
    _, document = draw(tmp_path, 'name: "n" ' + text)
    assert texts(document)[0].startswith("n, phase TEST")


def test_command(tmp_path, capsys):
    (tmp_path / "n").write_text(inputs(data=(2, 3)) + layer("r", "ReLU", "data", "r"))
    assert command.run(main, ["inspect", str(tmp_path / "n"), "--svg", str(tmp_path / "n.svg")]) == 0
    assert f"wrote {tmp_path / 'n.svg'}: " in capsys.readouterr().out
    ElementTree.parse(tmp_path / "n.svg")
    (tmp_path / "s").write_text("base_lr: 1")
    assert command.run(main, ["inspect", str(tmp_path / "s"), "--svg", str(tmp_path / "s.svg")]) == 2
    assert "only nets are drawn" in capsys.readouterr().err and not (tmp_path / "s.svg").exists()
