"""`port classify` against its rules computed once more: pycaffe's with scikit-image, the C++ example's with OpenCV."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.transform import resize
from small_nets import conv, fully, inputs, layer

import port
from port.__main__ import main
from port.predicting.classifier import Classifier, Preparation, best, prepare
from port.predicting.means import read_means
from prototxt_gen.base import command
from prototxt_gen.base.errors import DataError, UsageError

HEIGHT, WIDTH, CLASSES = 21, 26, 7
DIMS = (34, 41)  # odd margins: centres that are cut off
MEAN = (104.0, 117.5, 123.25)
# Grey levels: float32 of values up to 255, resized by scikit-image in float64.
GREY = 1e-3
# Scores of sums of float32 in one order here, in another there.
SCORES = 1e-4


def net_text(channels: int = 3, head: str = "Softmax") -> str:
    net = inputs(data=(3, channels, HEIGHT, WIDTH)) + conv("c", "data", "c", 4, 5)
    # scaled down, so that the softmax is not one class alone
    net += layer("s", "Power", "c", "s", "power_param { scale: 0.002 }")
    return net + fully("f", "s", "f", CLASSES) + layer("p", head, "f", "prob")


@pytest.fixture
def given(tmp_path) -> dict[str, Path]:
    """A net with weights, and images of several sizes and kinds."""
    random = np.random.default_rng(5)
    (tmp_path / "net.prototxt").write_text(net_text())
    port.save_caffemodel(port.load_net(tmp_path / "net.prototxt", seed=4), tmp_path / "net.caffemodel")
    (tmp_path / "photos").mkdir()
    for name, shape in {"a.png": (47, 61, 3), "b.png": (29, 90, 3), "c.png": (34, 41, 3), "d.png": (53, 38)}.items():
        cv2.imwrite(str(tmp_path / "photos" / name), random.integers(9, 250, shape).astype(np.uint8))
    cv2.imwrite(str(tmp_path / "photos" / "e.png"), np.full((30, 31, 3), 77, np.uint8))  # one colour
    return {"photos": tmp_path / "photos"} | {path.suffix[1:]: path for path in tmp_path.glob("net.*")}


def rgb(path: Path) -> np.ndarray:
    """What caffe.io.load_image gives: RGB, 0 to 1, float32."""
    return (cv2.imread(str(path))[:, :, ::-1] / 255).astype(np.float32)


def shrunk(image: np.ndarray, dims: tuple[int, int]) -> np.ndarray:
    """What caffe.io.resize_image gives, with the scikit-image of its time: no smoothing, 0 outside."""
    least, most = float(image.min()), float(image.max())
    if most == least:
        return np.full((*dims, 3), least, np.float32)
    unit = (image.astype(np.float64) - least) / (most - least)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = resize(unit, dims, order=1, mode="constant", cval=0.0, anti_aliasing=False)
    return (small * (most - least) + least).astype(np.float32)


def crops_of(image: np.ndarray, ten: bool) -> list[np.ndarray]:
    """The centre; or the corners and the centre, and those in the mirror."""
    high, wide = image.shape[:2]
    top, left = (high - HEIGHT) // 2, (wide - WIDTH) // 2
    cut = [(0, 0), (0, wide - WIDTH), (high - HEIGHT, 0), (high - HEIGHT, wide - WIDTH), (top, left)]
    pieces = [image[i : i + HEIGHT, j : j + WIDTH] for i, j in (cut if ten else cut[4:])]
    return pieces + [piece[:, ::-1] for piece in pieces] if ten else pieces


def blob_of(image: np.ndarray, ten: bool = False, raw=255.0, scale=1.0, mean=MEAN, order=(2, 1, 0)) -> np.ndarray:
    pieces = np.stack([piece.transpose(2, 0, 1)[list(order)] for piece in crops_of(shrunk(image, DIMS), ten)])
    return ((pieces.astype(np.float64) * raw - np.reshape(mean, (3, 1, 1))) * scale).astype(np.float32)


PREPARATIONS = [
    ({}, {}),
    ({"oversample": True}, {"ten": True}),
    ({"raw_scale": 1.5, "input_scale": 0.25}, {"raw": 1.5, "scale": 0.25}),
    ({"channel_swap": (1, 2, 0)}, {"order": (1, 2, 0)}),
    ({"mean": None}, {"mean": (0, 0, 0)}),
]


@pytest.mark.parametrize(("options", "rules"), PREPARATIONS)
def test_inputs_are_pycaffes(given, options, rules):
    chosen = Preparation(**{"image_dims": DIMS, "mean": MEAN, **options})
    for path in sorted(given["photos"].iterdir()):
        found = prepare(path, chosen, 3, HEIGHT, WIDTH)
        wanted = blob_of(rgb(path), **rules)
        assert found.shape == wanted.shape and found.dtype == np.float32
        assert np.abs(found - wanted).max() <= GREY, path


@pytest.mark.parametrize("ten", [False, True])
@pytest.mark.parametrize("batch", [1, 10, 25])
def test_scores_are_those_of_the_rules(given, ten, batch):
    net = port.load_net(given["prototxt"], given["caffemodel"])
    paths = sorted(given["photos"].iterdir())
    chosen = Preparation(image_dims=DIMS, mean=MEAN, oversample=ten)
    found = Classifier(net, chosen, batch=batch).predict(paths)
    wanted = [port.run_blobs(net, {"data": blob_of(rgb(path), ten)})["prob"].mean(0) for path in paths]
    assert found.shape == (5, CLASSES) and np.abs(found - wanted).max() <= SCORES
    # the check can fail: another order of channels, no mean, the other crops
    for rules in ({"order": (0, 1, 2)}, {"mean": (0, 0, 0)}, {"ten": not ten}):
        other = port.run_blobs(net, {"data": blob_of(rgb(paths[0]), **{"ten": ten, **rules})})["prob"].mean(0)
        assert np.abs(found[0] - other).max() > 10 * SCORES


def test_inputs_are_the_cpp_examples(given):
    chosen = Preparation(mean=MEAN, cpp=True)
    for path in given["photos"].iterdir():
        small = cv2.resize(cv2.imread(str(path)), (WIDTH, HEIGHT)).astype(np.float32)
        wanted = (small - np.float32(MEAN)).transpose(2, 0, 1)[None]
        np.testing.assert_array_equal(prepare(path, chosen, 3, HEIGHT, WIDTH), wanted)


def test_a_net_of_grey_images(given):
    path = given["photos"] / "d.png"
    grey = prepare(path, Preparation(DIMS, None), 1, HEIGHT, WIDTH)
    assert grey.shape == (1, 1, HEIGHT, WIDTH)
    np.testing.assert_allclose(grey[0, 0], blob_of(rgb(path), mean=(0, 0, 0))[0, 0], atol=GREY)
    colour = prepare(given["photos"] / "c.png", Preparation(DIMS, None), 1, HEIGHT, WIDTH)  # as large as DIMS
    image = rgb(given["photos"] / "c.png") @ np.array([0.2125, 0.7154, 0.0721])
    np.testing.assert_allclose(colour[0, 0], 255 * crops_of(image[..., None], False)[0][..., 0], atol=GREY)


def test_a_batch_that_the_net_fixes(given):
    text = net_text().replace('bottom: "c"', 'bottom: "r"', 1) + ""
    text = text.replace(
        'layer { name: "s"',
        'layer { name: "r" type: "Reshape" bottom: "c" top: "r" '
        f"reshape_param {{ shape {{ dim: 3 dim: 4 dim: {HEIGHT - 4} dim: {WIDTH - 4} }} }} }}\n"
        'layer { name: "s"',
    )
    fixed, net = (
        port.load_net(_parsed(given, text), given["caffemodel"]),
        port.load_net(given["prototxt"], given["caffemodel"]),
    )
    paths = sorted(given["photos"].iterdir())
    chosen = Preparation(DIMS, MEAN)
    classifier = Classifier(fixed, chosen)
    assert classifier.runner.batch == 3
    np.testing.assert_allclose(classifier.predict(paths), Classifier(net, chosen).predict(paths), atol=SCORES)


def _parsed(given, text: str) -> Path:
    path = given["prototxt"].with_name("fixed.prototxt")
    path.write_text(text)
    return path


def test_means(tmp_path):
    image = np.random.default_rng(2).uniform(0, 255, (3, 5, 8)).astype(np.float32)
    port.write_mean(tmp_path / "m.binaryproto", image)
    np.save(tmp_path / "m.npy", image[None])
    np.save(tmp_path / "c.npy", np.array(MEAN))
    wanted = image.astype(np.float64).mean((1, 2))
    for name in ("m.binaryproto", "m.npy"):
        np.testing.assert_allclose(read_means(str(tmp_path / name), 3), wanted, rtol=1e-12)
    assert tuple(read_means(str(tmp_path / "c.npy"), 3)) == MEAN == tuple(read_means("104,117.5,123.25", 3))
    assert tuple(read_means("127.5", 3)) == (127.5,) * 3
    np.save(tmp_path / "bad.npy", np.array(["a"]))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    for bad in ("1,2", "nan", "1,2,3,4", "absent.npy", "10e", str(tmp_path / "bad.npy"), str(tmp_path / "cut.npy")):
        with pytest.raises((UsageError, DataError)):
            read_means(bad, 3)


def call(given, *more: object) -> int:
    net = ["--prototxt", given["prototxt"], "--caffemodel", given["caffemodel"]]
    return command.run(main, list(map(str, ["classify", *net, "--device", "cpu", *more])))


def test_the_command(given, tmp_path, capsys):
    dims = f"{DIMS[0]},{DIMS[1]}"
    (tmp_path / "names.txt").write_text("".join(f"n0000000{i} thing {i}, other words\n" for i in range(CLASSES)))
    asked = ["--image-dims", dims, "--mean", "104,117.5,123.25", "--labels", tmp_path / "names.txt"]
    output = tmp_path / "scores.npy"
    assert call(given, *asked, "--json", "--top", 3, "--output", output, given["photos"]) == 0
    found = json.loads(capsys.readouterr().out)
    net = port.load_net(given["prototxt"], given["caffemodel"])
    written = Classifier(net, Preparation(DIMS, MEAN)).predict(sorted(given["photos"].iterdir()))
    np.testing.assert_array_equal(np.load(output), written)
    for each, path in zip(found, sorted(given["photos"].iterdir()), strict=True):
        scores = Classifier(net, Preparation(DIMS, MEAN)).predict([path])[0]
        assert each["image"] == str(path)
        assert [t["class"] for t in each["top"]] == best(scores, 3) == list(np.argsort(-scores)[:3])
        assert [t["label"] for t in each["top"]] == [f"thing {i}" for i in best(scores, 3)]
    assert call(given, *asked, given["photos"] / "a.png") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == str(given["photos"] / "a.png") and len(out) == 6
    assert out[1].split() == [
        f"{found[0]['top'][0]['score']:.5f}",
        str(found[0]["top"][0]["class"]),
        "thing",
        str(found[0]["top"][0]["class"]),
    ]
    assert call(given, "--like", "cpp", given["photos"] / "a.png") == 0
    assert "no --mean: nothing is subtracted" in capsys.readouterr().err


MISTAKES = [
    (["--image-dims", "20,41"], "use --image-dims 21,41"),
    (["--image-dims", "20"], "expected 2 numbers"),
    (["--channel-swap", "0,0,1"], "0, 1 and 2"),
    (["--like", "cpp", "--raw-scale", "1"], "--raw-scale with --like cpp"),
    (["--like", "cpp", "--oversample"], "--oversample with --like cpp"),
    (["--top", "0"], "--top 0"),
    (["--batch", "0"], "--batch 0"),
    (["--output", "x.txt"], "ends in .npy"),
    (["--output", "{net}/x.npy"], "a writable folder"),
    (["--blob", "probe"], "did you mean 'prob'"),
    (["--mean", "1,2"], "expected 3"),
    (["--labels", "{net}"], "expected 7, one for each class"),
]


@pytest.mark.parametrize(("words", "says"), MISTAKES)
def test_mistakes(given, capsys, words, says):
    words = [word.replace("{net}", str(given["prototxt"])) for word in words]
    try:
        status = call(given, *words, given["photos"])
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert status == 2 and says.lower() in err.lower() and not out


def test_all_unreadable_images_are_named(given, capsys):
    for name in ("x.png", "y.jpg"):
        (given["photos"] / name).write_text("no image")
    assert call(given, "--image-dims", "34,41", "--batch", "2", "--json", given["photos"]) == 2
    out, err = capsys.readouterr()
    assert "x.png" in err and "y.jpg" in err and not out


def test_scores_that_are_no_numbers_are_named(given, capsys):
    assert call(given, "--image-dims", "34,41", "--raw-scale", "inf", "--json", given["photos"]) == 2
    out, err = capsys.readouterr()
    assert all(f"{name}.png: the net gives no finite numbers" in err for name in "abcde") and not out
