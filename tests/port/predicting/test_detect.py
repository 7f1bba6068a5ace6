"""`port detect` with nets whose boxes can be told beforehand: a blue cell of the image is a thing that fills it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_nets import inputs, layer

import port
from port.__main__ import main
from port.predicting.detector import Detector, Preparation, detecting
from port.predicting.labels import read_label_map
from prototxt_gen.base import command
from prototxt_gen.base.errors import DataError, NetError, UsageError

HEIGHT, WIDTH, CELL = 40, 60, 20  # 2 x 3 cells
# Pixels, of images up to 240: float32 places as shares of the image.
PIXELS = 1e-3
SPREAD = "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"
PAIR = 'weight_filler { type: "constant" value: 0 } bias_filler { type: "constant" value: 0 }'


def cells(channels: int, extra: str = "") -> str:
    """The mean colour of each cell, then a 1x1 convolution for the test to fill."""
    text = inputs(data=(1, 3, HEIGHT, WIDTH))
    text += layer("m", "Pooling", "data", "m", f"pooling_param {{ pool: AVE kernel_size: {CELL} stride: {CELL} }}")
    return text + layer(
        "c", "Convolution", "m", "c", f"convolution_param {{ num_output: {channels} kernel_size: 1 {PAIR} }}"
    )


SSD = (
    cells(3)
    + layer("t", "Permute", "c", "t", "permute_param { order: 0 order: 2 order: 3 order: 1 }")
    + layer("r", "Reshape", "t", "r", "reshape_param { shape { dim: 0 dim: -1 dim: 3 } }")
    + layer("s", "Softmax", "r", "s", "softmax_param { axis: 2 }")
    + layer("f", "Flatten", "s", "conf")
    + layer("l", "Convolution", "m", "l", f"convolution_param {{ num_output: 4 kernel_size: 1 {PAIR} }}")
    + layer("lf", "Flatten", "l", "loc")
    + layer("p", "PriorBox", "m data", "prior", f"prior_box_param {{ min_size: {CELL} {SPREAD} }}")
    + layer(
        "d", "DetectionOutput", "loc conf prior", "found",
        "detection_output_param { num_classes: 3 code_type: CENTER_SIZE confidence_threshold: 0.1 keep_top_k: 20 "
        "nms_param { nms_threshold: 0.45 top_k: 40 } }",
    )
)  # fmt: skip
YOLO = cells(7) + layer(
    "d",
    "Yolov3DetectionOutput",
    "c",
    "found",
    "yolov3_detection_output_param { num_classes: 2 num_box: 1 confidence_threshold: 0.1 nms_threshold: 0.45 "
    f"biases: {CELL} biases: {CELL} anchors_scale: {CELL} mask: 0 mask_group_num: 1 }}",
)
FORMS = {"ssd": SSD, "yolo": YOLO}
LESS = 100.0  # the mean that is taken away
each_form = pytest.mark.parametrize("form", FORMS)


def weights_of(form: str, net) -> None:
    """Label 1 for blue, label 2 for red: a cell's score grows with the colour above the mean."""
    weight, bias = port.params(net)["c"]
    weight.data.zero_()
    if form == "ssd":  # background, blue, red
        weight.data[1, 0], weight.data[2, 2] = 0.05, 0.05
    else:  # x, y, w, h, objectness, blue, red
        bias.data[4] = 8.0
        weight.data[5, 0], weight.data[6, 2] = 0.05, 0.05
        bias.data[5:] = -0.5


@pytest.fixture
def given(tmp_path, request) -> dict[str, Path]:
    """Nets of both forms with weights; photographs with a blue cell and a red one, nothing, and both."""
    files = {}
    for form, text in FORMS.items():
        path = tmp_path / f"{form}.prototxt"
        path.write_text(text)
        net = port.load_net(path)
        weights_of(form, net)
        port.save_caffemodel(net, path.with_suffix(".caffemodel"))
        files[form] = path
    (tmp_path / "photos").mkdir()
    for name, (high, wide, things) in PHOTOS.items():
        image = np.zeros((high, wide, 3), np.uint8)
        for label, row, column in things:
            ys = slice(row * high // 2, (row + 1) * high // 2)
            image[ys, column * wide // 3 : (column + 1) * wide // 3, 0 if label == 1 else 2] = 240
        cv2.imwrite(str(tmp_path / "photos" / name), image)
    return files | {"photos": tmp_path / "photos"}


PHOTOS: dict[str, tuple[int, int, list]] = {
    "a.png": (120, 240, [(1, 0, 1)]),
    "b.png": (90, 180, []),
    "c.png": (160, 150, [(2, 1, 2), (1, 0, 0)]),
}


def expected(name: str) -> set[tuple]:
    high, wide, things = PHOTOS[name]
    return {
        (label, column * wide / 3, row * high / 2, (column + 1) * wide / 3, (row + 1) * high / 2)
        for label, row, column in things
    }


def call(given, form: str, *more: object) -> int:
    net = ["--prototxt", given[form], "--caffemodel", given[form].with_suffix(".caffemodel")]
    return command.run(main, list(map(str, ["detect", *net, "--device", "cpu", "--mean", LESS, *more])))


def rounded(boxes) -> set[tuple]:
    return {(box[0], *(round(float(place), 2) for place in box[1:])) for box in boxes}


@each_form
def test_boxes_are_in_the_images_pixels(given, form, capsys):
    assert call(given, form, "--json", given["photos"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [each["item"] for each in result] == [0, 1, 2]
    for each in result:
        name = Path(each["image"]).name
        assert (each["height"], each["width"]) == PHOTOS[name][:2]
        assert rounded((d["label"], *d["box"]) for d in each["detections"]) == rounded(expected(name))
        assert all(0.9 < d["score"] <= 1 for d in each["detections"])


@each_form
def test_a_mean_and_a_scale_count(given, form, capsys):
    """The scale comes after the mean; and without the mean black is no longer far below."""
    net = port.load_net(given[form], given[form].with_suffix(".caffemodel"))
    photo = given["photos"] / "a.png"
    plain = Detector(net, Preparation((LESS,) * 3)).detect(photo, 0.3)
    (best,) = plain
    assert np.abs(np.array(best.box) - next(iter(expected("a.png")))[1:]).max() <= PIXELS
    weaker = Detector(net, Preparation((LESS,) * 3, scale=0.3)).detect(photo, 0.3)
    logit = 0.05 * 0.3 * 140
    if form == "ssd":  # against the background at 0 and red, which is below the mean
        wanted = np.exp(logit) / (np.exp(logit) + 1 + np.exp(-0.05 * 0.3 * LESS))
    else:
        wanted = 1 / (1 + np.exp(-8)) / (1 + np.exp(0.5 - logit))
    assert abs(weaker[0].score - wanted) < 1e-5
    detector = Detector(net, Preparation((LESS,) * 3, scale=0.3))
    assert not detector.detect(photo, wanted + 1e-4) and len(detector.detect(photo, wanted - 1e-4)) == 1
    swapped = Detector(net, Preparation((LESS,) * 3, channel_swap=(0, 1, 2))).detect(photo, 0.3)
    assert [each.label for each in swapped] == [2]


def test_a_batch_that_the_net_fixes(given):
    text = SSD.replace("dim: 1 dim: 3 dim: 40", "dim: 2 dim: 3 dim: 40").replace(
        "dim: 0 dim: -1 dim: 3", "dim: 2 dim: -1 dim: 3"
    )
    path = given["ssd"].with_name("fixed.prototxt")
    path.write_text(text)
    detector = Detector(port.load_net(path, given["ssd"].with_suffix(".caffemodel")), Preparation((LESS,) * 3))
    assert detector.runner.batch == 2
    found = detector.detect(given["photos"] / "c.png", 0.5)
    assert rounded((each.label, *each.box) for each in found) == rounded(expected("c.png"))
    assert len(found) == 2  # once each, not once for each place of the batch


def test_the_table_and_the_pictures(given, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("nothing\nsky\nrose\n")
    drawn = tmp_path / "drawn"
    assert call(given, "ssd", "--labels", tmp_path / "names.txt", "--draw", drawn, given["photos"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["item", "label", "name", "score", "xmin", "ymin", "xmax", "ymax", "image"]
    words = [line.split() for line in lines[1:-1]]
    assert sorted(row[:3] for row in words) == [["0", "1", "sky"], ["2", "1", "sky"], ["2", "2", "rose"]]
    assert words[0][4:8] == ["80.0", "0.0", "160.0", "60.0"]
    assert lines[-1] == f"nothing from 0.5 on: {given['photos'] / 'b.png'}" and "3 pictures" in err
    for name in PHOTOS:
        before, after = (cv2.imread(str(folder / name)) for folder in (given["photos"], drawn))
        assert before.shape == after.shape
        assert (before != after).any() == bool(PHOTOS[name][2])
    edge = cv2.imread(str(drawn / "a.png"))[45, 80]  # below the text, on the left border
    assert (edge != cv2.imread(str(given["photos"] / "a.png"))[45, 80]).any()


def test_label_maps(tmp_path):
    path = tmp_path / "labels"
    path.write_text(
        'item { name: "none_of_the_above" label: 0 display_name: "background" }\nitem { name: \'cat\' label: 2 }'
    )
    assert read_label_map(path, 3, 1) == {0: "background", 2: "cat"}
    path.write_text("cat\ndog\n")
    assert read_label_map(path, 2, 0) == {0: "cat", 1: "dog"} == read_label_map(path, 2, 1)
    assert read_label_map(path, 3, 1) == {1: "cat", 2: "dog"}
    assert read_label_map(path, None) == {0: "cat", 1: "dog"}
    for labels in (3, 4):
        with pytest.raises(DataError):
            read_label_map(path, labels, 0)
    path.write_text("item { label: 3 }")
    with pytest.raises(DataError, match="a name and a label"):
        read_label_map(path, 3, 1)


MISTAKES = [
    (["--draw", "{photos}"], "would be lost"),
    (["--draw", "{photos}/a.png"], "a writable folder"),
    (["--scale", "0"], "a factor other than 0"),
    (["--resize", "bicubic"], "--resize bicubic"),
    (["--channel-swap", "0,0,1"], "0, 1, 2 in some order"),
    (["--threshold", "nan"], "--threshold nan"),
    (["--blob", "prior"], "holds no detections"),
    (["--labels", "{ssd}"], "expected 3, or 2 without the background"),
]


@pytest.mark.parametrize(("words", "says"), MISTAKES)
def test_mistakes(given, capsys, words, says):
    words = [word.format(**given) for word in words]
    assert call(given, "ssd", *words, given["photos"]) == 2
    out, err = capsys.readouterr()
    assert says in err and not out


def test_two_images_of_one_name_and_unreadable_ones(given, tmp_path, capsys):
    (tmp_path / "a.jpg").write_text("no image")
    assert call(given, "ssd", "--draw", tmp_path / "drawn", given["photos"], tmp_path / "a.jpg") == 2
    assert "two images would be a.png" in capsys.readouterr().err
    (given["photos"] / "z.png").write_text("no image")
    assert call(given, "ssd", "--json", given["photos"], tmp_path / "a.jpg") == 2
    out, err = capsys.readouterr()
    assert "z.png" in err and "a.jpg" in err and not out


def test_a_net_without_detections(given):
    with pytest.raises(NetError, match="no layer that makes detections"):
        detecting(port.load_net(_file(given, cells(3))))
    both = port.load_net(
        _file(given, SSD + SSD.splitlines(True)[-1].replace('"d"', '"e"').replace('"found"', '"more"'))
    )
    with pytest.raises(UsageError, match="found, more"):
        detecting(both)
    assert detecting(both, "more")[0] == "more"


def _file(given, text: str) -> Path:
    path = given["ssd"].with_name("other.prototxt")
    path.write_text(text)
    return path


def test_yolo_without_its_head_in_onnx(given):
    """--raw-heads leaves these layers out as well."""
    from port.onnx.export import build_onnx

    model = build_onnx(port.load_net(given["yolo"]), raw_heads=True)
    assert [output.name for output in model.graph.output] == ["c"]
