"""OpenCV 4's own reader of Caffe files as a second witness for the layer types of forks that it knows rightly."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from opencv_reader import caffe_reader

import port
from port.layers import REGISTRY
from port.layers.base import VARIANTS
from verify.parity.golden import read_recording

FOLDER = Path(__file__).parents[3] / "golden" / "community" / "synopsys"
# Both compute in float32.
SAME = 1e-5
# fmt: off
CASES = [
    "accum", "convolution_3d", "convolution_depthwise_0", "convolution_depthwise_1", "correlation", "flow_warp",
    "hardsigmoid_0", "hardswish_0", "interp_0", "interp_2", "interp_6", "mish_0", "normalize_ssd_0",
    "normalize_ssd_1", "normalize_ssd_3", "normalize_ssd_zero", "permute_0", "permute_1", "permute_2",
    "permute_5", "pooling_floor_0", "pooling_floor_1", "prior_box_1", "roipooling_0", "roipooling_1",
    "shuffle_channel_0", "shuffle_channel_1", "softplus_0", "swish_0",
]
# fmt: on
# The same boxes, in an order and with a padding of OpenCV's own.
DETECTIONS = ["detection_output_0", "detection_output_1", "detection_output_4"]  # keep_top_k -1 crashes OpenCV
# Where OpenCV computes something else than the fork that was recorded.
OTHERWISE = ["interp_4", "prior_box_2", "prior_box_7", "relu6", "reorg_0", "resample_1", "swish_1"]

pytestmark = caffe_reader


def both(name: str, seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The last top of a case by PyTorch here and by OpenCV, on its recorded inputs or on random ones."""
    path = FOLDER / f"{name}.prototxt"
    inputs = read_recording(path).part("in")
    if seed is not None:
        rng = np.random.default_rng(seed)
        inputs = {k: rng.normal(size=v.shape).astype(np.float32) for k, v in inputs.items()}
    net = port.load_net(path, path.with_suffix(".caffemodel"), packs=["synopsys"])
    (top,) = [value.blob for value in net.caffe.outputs]
    other = cv2.dnn.readNetFromCaffe(str(path), str(path.with_suffix(".caffemodel")))
    for blob, values in inputs.items():
        other.setInput(values, blob)
    return port.run_blobs(net, inputs)[top], other.forward(top)


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    if found.size != wanted.size:
        return np.inf
    return float(np.abs(found - wanted.reshape(found.shape)).max() / (np.abs(wanted).max() or 1.0))


@pytest.mark.parametrize("name", CASES)
def test_opencv_agrees(name):
    assert error(*both(name)) <= SAME


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith(("roi", "prior", "flow"))])
def test_opencv_agrees_on_other_inputs(name):
    assert error(*both(name, seed=len(name))) <= SAME


def rows(detections: np.ndarray) -> np.ndarray:
    """Detections in one order, without padding."""
    found = detections.reshape(-1, 7)
    found = found[found[:, 2] > 0]
    return found[np.lexsort((found[:, 3], -found[:, 2], found[:, 1], found[:, 0]))]


@pytest.mark.parametrize("name", DETECTIONS)
def test_opencv_finds_the_same_boxes(name):
    found, wanted = map(rows, both(name))
    assert found.shape == wanted.shape and len(found) and np.abs(found - wanted).max() <= SAME


@pytest.mark.parametrize("name", OTHERWISE)
def test_where_opencv_computes_something_else(name):
    """Were one of these to agree, OpenCV or we would have changed: the recorded fork is right (test_recorded.py)."""
    assert error(*both(name)) > 100 * SAME


def test_the_table_names_the_types_that_are_tried_here():
    tried = {kind for name in CASES + DETECTIONS for kind in re.findall(r'type: "(\w+)"', _text(name))}
    classes = [*REGISTRY.values(), *(cls for each in VARIANTS.values() for cls in each)]
    assert tried >= {cls.type for cls in classes if cls.known_to_opencv}


def _text(name: str) -> str:
    return (FOLDER / f"{name}.prototxt").read_text(encoding="utf-8")
