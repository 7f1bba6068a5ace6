"""Figures of each class: as CSV, under names, and drawn."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prototxt_gen.base.errors import DataError
from verify.datasets.sets.coco import CATEGORIES as COCO
from verify.datasets.sets.nus_wide import CONCEPTS
from verify.evaluation.per_class import ClassFigures, class_figures, class_names, csv_text, doubt
from verify.evaluation.pictures import (
    BLUE,
    RED,
    SAND,
    SCALE,
    ap_picture,
    improvement_picture,
    scale_ticks,
    text_width,
    written,
)
from verify.metrics import evaluate

LABELS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0]])
LOGITS = np.array([[2.0, -1.0, 1.0], [1.0, 3.0, -1.0], [-2.0, -3.0, -2.0], [3.0, -2.0, -3.0], [0.5, 1.0, -4.0]])


def classes_of(labels=LABELS, logits=LOGITS, **more) -> list[ClassFigures]:
    return class_figures(evaluate(logits, labels), labels, **more)


def made_up(count: int, seed: int = 0) -> list[ClassFigures]:
    """Classes with random figures; names of many lengths."""
    random = np.random.default_rng(seed)
    return [
        ClassFigures(
            n + 1, "abcdefghij klmnopqrst"[: 3 + n % 18] + str(n), 9, *random.random(4), 4 * random.random(),
            random.random(), random.normal(0.1, 0.1),
        )
        for n in range(count)
    ]  # fmt: skip


def test_every_class_has_its_own_figures():
    first, second, third = classes_of(names=["a", "b", "c"], baseline=evaluate(-LOGITS, LABELS))
    figures = evaluate(LOGITS, LABELS)
    assert (first.number, first.name, first.positives) == (1, "a", 3) and second.positives == 3
    assert tuple(figures["AP"][:2]) == (first.AP, second.AP) and math.isnan(third.AP)
    assert tuple(figures[f"{k}_class"][1] for k in ("P", "R", "F1")) == (second.P, second.R, second.F1)
    # "a" is alone on one image and with "b" on two
    assert first.together == pytest.approx(2 / 3) and second.together == pytest.approx(2 / 3)
    assert math.isnan(third.together) and math.isnan(third.improvement)
    before = evaluate(-LOGITS, LABELS)["AP"][1]
    assert second.baseline_AP == before and second.improvement == second.AP - before != 0


def test_unspecified_labels_are_no_company():
    labels = np.where(LABELS == 0, -1, LABELS)
    labels[0, 1] = 0
    assert class_figures(evaluate(LOGITS, labels, "wider"), labels)[0].together == pytest.approx(2 / 3)


def test_csv_holds_what_the_classes_hold():
    rows = list(csv.DictReader(io.StringIO(csv_text(classes_of(names=["a, b", 'c "d"', "e"])))))
    assert [(row["number"], row["name"]) for row in rows] == [("1", "a, b"), ("2", 'c "d"'), ("3", "e")]
    assert float(rows[0]["AP"]) == pytest.approx(evaluate(LOGITS, LABELS)["AP"][0], abs=5e-7)
    assert rows[2]["AP"] == "" and rows[0]["improvement"] == "" and rows[0]["positives"] == "3"
    assert list(rows[0]) == [
        "number", "name", "positives", "AP", "P", "R", "F1", "together", "baseline_AP", "improvement",
    ]  # fmt: skip


# -- names --------------------------------------------------------------------------------------------------
def test_known_names():
    assert len(COCO) == len(set(COCO)) == 80 and COCO[0] == "person" and COCO[-1] == "toothbrush"
    assert class_names("coco", 80)[9:12] == ["traffic light", "fire hydrant", "stop sign"]
    assert class_names("nus_wide", 81) == list(CONCEPTS)
    assert class_names("wider_att", 14)[1] == "longHair"
    assert [each.name for each in classes_of()] == ["class 1", "class 2", "class 3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb\n", "2 names; expected 3, one per class"),
        ("a\nb\na\n", "names.txt:3: 'a' stands twice"),
        ("a\n\nc\n", "names.txt:2: a name is empty"),
        ("", "0 names; expected 3"),
    ],
)
def test_bad_files_of_names_are_refused(tmp_path, text, message):
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        class_names(str(tmp_path / "names.txt"), 3)


def test_names_of_another_data_set_and_absent_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="80 names; expected 81"):
        class_names("coco", 81)
    with pytest.raises(DataError, match="cannot read"):
        class_names(str(tmp_path / "coca"), 80)


def test_names_in_another_order_are_doubted():
    labels = np.zeros((10, 80), int)
    labels[:6, 0], labels[:2, 56] = 1, 1
    assert doubt(COCO, labels) == ""
    assert doubt(sorted(COCO), labels) == (
        "column 50 is named 'person', but the most frequent label is column 1: check the order"
    )
    assert sorted(COCO)[49] == "person" and doubt(["a", "b"], labels[:, :2]) == ""


# -- pictures -----------------------------------------------------------------------------------------------
def runs(line: np.ndarray) -> list[tuple[int, int]]:
    """Beginning and end of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], line, [False])).astype(int)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def bars(canvas, colour) -> list[tuple[int, int, int, int]]:
    """Left, top, width, height of the rectangles of a colour, from the top left."""
    there = (np.asarray(canvas.image) == colour).all(-1)
    found = []
    for y0, y1 in runs(there.any(1)):
        for x0, x1 in runs(there[y0:y1].any(0)):
            inside = there[y0:y1, x0:x1].any(1).nonzero()[0]
            found.append((x0, y0 + int(inside[0]), x1 - x0, int(inside[-1] - inside[0]) + 1))
    return found


@pytest.mark.parametrize("count", [3, 14, 80, 81])
def test_bars_are_sorted_and_as_long_as_the_average_precision(count):
    classes = made_up(count)
    found = [width for _, _, width, _ in bars(ap_picture(classes, "Title", "sub"), BLUE)]
    wanted = sorted((560 * SCALE * each.AP for each in classes), reverse=True)
    assert found == pytest.approx(wanted, abs=1.01)  # a pixel of rounding


@pytest.mark.parametrize("count", [3, 14, 80, 81])
def test_improvements_are_sorted_above_the_labels_that_occur_together(count):
    classes = made_up(count)
    canvas = improvement_picture(classes, "Title", "sub")
    ordered = sorted(classes, key=lambda each: -each.improvement)
    together = [height for _, _, _, height in bars(canvas, SAND)]
    assert len(together) == count
    ratio = np.array(together) / [each.together for each in ordered]
    large = np.array(together) > 40
    assert np.ptp(ratio[large]) / ratio[large].mean() < 0.05
    assert bool(bars(canvas, RED)) == any(each.improvement < -0.01 for each in classes)
    assert bars(canvas, BLUE)[0][0] < bars(canvas, SAND)[-1][0]


def test_a_swapped_sign_would_be_seen():
    classes = [replace(each, improvement=-abs(each.improvement) - 0.01) for each in made_up(5)]
    canvas = improvement_picture(classes, "Title")
    assert not bars(canvas, BLUE) and len(bars(canvas, RED)) >= 1


def test_classes_without_positives_have_no_bar():
    classes = made_up(4)
    classes[2] = replace(classes[2], AP=math.nan, improvement=math.nan, together=math.nan)
    assert len(bars(ap_picture(classes, "Title"), BLUE)) == 3
    assert len(bars(improvement_picture(classes, "Title"), SAND)) == 3
    nothing = [replace(each, AP=math.nan, improvement=math.nan) for each in classes]
    assert not bars(ap_picture(nothing, "Title"), BLUE) and not bars(improvement_picture(nothing, "Title"), SAND)


def test_a_picture_says_how_many_classes_are_left_out():
    classes = [replace(each, name="name") for each in made_up(6)]
    whole = improvement_picture(classes, "Title", "sub")
    some = improvement_picture([*classes[:4], *(replace(c, improvement=math.nan) for c in classes[4:])], "Title", "sub")
    assert some.height > whole.height  # a line more
    assert improvement_picture(classes[:4], "Title", "sub").height == whole.height


def test_what_the_typeface_lacks_is_not_drawn_as_boxes():
    assert written("person, 12 °") == "person, 12 °" and written("Stoßkühlhüé") == "Sto?kuhlhue"
    assert written("\u65e5\u672c 3") == "?? 3" and written("") == ""
    assert text_width("\u00fc", 12) == text_width("u", 12)
    umlauts, plain = (ap_picture([replace(c, name=name) for c in made_up(1)], "T") for name in ("M\u00fcll", "Mull"))
    assert np.array_equal(np.asarray(umlauts.image), np.asarray(plain.image))


def ink(canvas) -> tuple[int, int, int, int]:
    """Space around what is drawn: left, top, right, bottom, in pixels."""
    drawn = (np.asarray(canvas.image) != 255).any(-1)
    rows, columns = drawn.any(1).nonzero()[0], drawn.any(0).nonzero()[0]
    return columns[0], rows[0], drawn.shape[1] - 1 - columns[-1], drawn.shape[0] - 1 - rows[-1]


@pytest.mark.parametrize("count", [1, 14, 81])
@pytest.mark.parametrize("name", ["x", "a name that is much longer than there is room for, by far"])
def test_nothing_touches_the_edge(count, name):
    classes = [replace(each, name=f"{each.number} {name}", AP=1.0) for each in made_up(count)]
    for draw in (ap_picture, improvement_picture):
        canvas = draw(classes, "A title that is longer than a picture of one class is wide, surely", "one\ntwo")
        assert min(ink(canvas)) >= 8, draw


@pytest.mark.parametrize("count", [24, 25, 81])
def test_rows_have_room_for_their_names(count):
    tops = [top for _, top, _, _ in bars(ap_picture(made_up(count), "Title"), BLUE)]
    size = 13 if count <= 24 else 12
    height = 1.2 * size * SCALE
    assert min(np.diff(tops)) >= height and text_width("long", size) > text_width("lo", size)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 4.7, [0, 1, 2, 3, 4, 5]),
        (-3, 37, [-10, 0, 10, 20, 30, 40]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-0.4, 0, [-0.4, -0.3, -0.2, -0.1, 0]),
    ],
)
def test_scales_are_round_and_span_the_values(low, high, ticks):
    found = scale_ticks(low, high)
    assert found[0] <= low and found[-1] >= high and 3 <= len(found) <= 8
    if high != low:
        assert found == pytest.approx(ticks)


def test_pictures_are_written_whole_or_not_at_all(tmp_path):
    canvas = ap_picture(made_up(3), "Title")
    canvas.save(tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as image:
        assert image.size == canvas.image.size and image.format == "PNG"
    assert [path.name for path in Path(tmp_path).iterdir()] == ["p.png"]
