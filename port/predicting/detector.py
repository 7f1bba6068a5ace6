"""Detections on images: a net whose layer makes rows of item, label, score and box (SSD's and YOLO's forms)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prototxt_gen.base.errors import DataError, NetError, Problem, UsageError, closest

from ..images import read_pixels
from ..images.resize import WAYS
from .part import Floats, Runner

_COLUMNS = 7  # item, label, score, xmin, ymin, xmax, ymax; places as shares of the image


class Found(NamedTuple):
    """A detection; `box`: xmin, ymin, xmax, ymax in the image's pixels, not cut at its border."""

    label: int
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Preparation:
    """How an image becomes an input: resized to its size, channels in the net's order, less the mean, times `scale`."""

    mean: Any = None  # one number a channel, in the blob's order
    scale: float = 1.0
    resize: str = "opencv"
    channel_swap: tuple[int, ...] = (2, 1, 0)  # of RGB


def prepare(pixels: Any, preparation: Preparation, height: int, width: int) -> Floats:
    """Pixels of a file as an input 3 x H x W."""
    result = WAYS[preparation.resize](pixels, height, width)[list(preparation.channel_swap)].astype(np.float32)
    result *= np.float32(255)
    if preparation.mean is not None:
        result -= np.asarray(preparation.mean, np.float32)[:, None, None]
    return np.ascontiguousarray(result * np.float32(preparation.scale))


def detecting(net: Any, blob: str | None = None) -> tuple[str, Any]:
    """The blob of detections and its layer; raises NetError where none or several layers make some, and no `blob` says
    which, UsageError for a blob that holds none."""
    made = {node.tops[0].blob: node.layer for node in net.caffe.nodes if node.layer.detects}
    if not made:
        expected = "a layer such as DetectionOutput or Yolov3DetectionOutput"
        raise NetError(Problem("the net has no layer that makes detections", expected, file=net.caffe.file))
    if blob is not None and blob not in made:
        raise UsageError(f"the blob '{blob}' holds no detections: {closest(blob, made)}")
    if blob is None and len(made) > 1:
        raise UsageError(Problem(f"several blobs hold detections: {', '.join(made)}", fix="choose one with --blob"))
    blob = blob or next(iter(made))
    return blob, made[blob]


class Detector:
    """A net of `port.load_net` that finds things on images; raises NetError, UsageError for a net that is no detector.

    Images are computed one at a time: YOLO's layers remove boxes across all images of a batch.
    """

    def __init__(
        self, net: Any, preparation: Preparation | None = None, *, blob: str | None = None, device: str = "cpu"
    ):
        self.blob, self.layer = detecting(net, blob)
        self.preparation = preparation or Preparation()
        self.runner = Runner(net, [self.blob], device)
        if self.runner.channels != 3:
            raise NetError(Problem("an input of 1 channel", "3, for colours", file=net.caffe.file))

    @property
    def labels(self) -> tuple[int, int] | None:
        """How many labels the rows may have, the background's included, and the first that is found."""
        return getattr(self.layer, "row_labels", None)

    def detect(self, image: str | Path, threshold: float) -> list[Found]:
        """What is on an image, of scores from `threshold` on, best first; raises DataError for what is no image."""
        return self.of_pixels(read_pixels(image), threshold, image)

    def of_pixels(self, pixels: Any, threshold: float, file: str | Path = "") -> list[Found]:
        """The same of the pixels of a file."""
        block = prepare(pixels, self.preparation, self.runner.height, self.runner.width)
        # a net that fixes its batch gets the same image again, whose boxes cover each other
        rows = self.runner.run(np.repeat(block[None], self.runner.batch or 1, axis=0))[self.blob]
        if rows.size % _COLUMNS or rows.shape[-1] != _COLUMNS:
            raise NetError(f"the blob '{self.blob}' has shape {rows.shape}; expected rows of {_COLUMNS} values")
        rows = rows.reshape(-1, _COLUMNS)
        if not np.isfinite(rows).all():
            raise DataError(
                Problem("the net gives no finite numbers for this image", fix="check the weights", file=file)
            )
        rows = rows[(rows[:, 0] == 0) & (rows[:, 1] >= 0) & (rows[:, 2] >= threshold)]  # a label of -1: nothing found
        high, wide = pixels.shape[:2]
        places = rows[:, 3:].astype(np.float64) * [wide, high, wide, high]
        order = np.argsort(-rows[:, 2], kind="stable")
        return [Found(int(rows[i, 1]), float(rows[i, 2]), tuple(map(float, places[i]))) for i in order]  # type: ignore[arg-type]
