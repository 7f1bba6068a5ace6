"""The benchmarks of training: iterations of the full-size net, and the data that must keep up with them."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .rows import Nets, Row, child

TARGETS = {"port": 260.0, "port, options": 220.0}  # ms per image, on two cores
WORDS = {
    "port": "train, batch 8, as Caffe does",
    "plain": "  PyTorch by hand",
    "port, options": "train, --channels-last --amp --fused",
    "plain, options": "  PyTorch by hand, the same options",
    "products": "  its multiply-adds at a 3x3 convolution's speed",
}
SHARE = 0.2  # of the time that a miniature trains on an image: loading is five times as fast
IMAGES = 192


def training(nets: Nets, repeats: int) -> Iterator[Row]:
    """Forward, backward and update of the full-size net, through the port and by hand in turn."""
    for dialect, prototxt in nets.items():
        times = json.loads(child("-m", "benchmarks.train", "step", prototxt, dialect, 2 * repeats))
        for name, samples in times.items():
            by_hand = times[name.replace("port", "plain")]
            note = f"{ratio_of(samples, by_hand):.2f} x by hand" if samples is not by_hand else ""
            if name == "products":
                note = "float32; no more than the arithmetic"
            yield Row(WORDS[name], dialect, "ms/image", samples, TARGETS.get(name), note)


def feeding(nets: Nets, repeats: int) -> Iterator[Row]:
    """Batches of encoded images from LMDB with the paper's crops, and a miniature that trains on them."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "shapes"
        child("-m", "reference_weights", "shapes", "--output", database, "--train", IMAGES, "--test", 1)
        times = json.loads(child("-m", "benchmarks.train", "data", database, 2 * repeats))
    share = [mine / whole for mine, whole in zip(times["load"], times["train"], strict=True)]
    speed = f"{1e3 / statistics.median(times['load']):.0f} images/s"
    yield Row("load 256x256 JPEGs from LMDB, one core", "srn", "ms/image", times["load"], note=speed)
    yield Row("  train a miniature on them, batch 24", "srn", "ms/image", times["train"], note="width divisor 8")
    yield Row("  loading as a part of training", "srn", "x", share, SHARE)


def ratio_of(samples: list[float], others: list[float]) -> float:
    """The median ratio of measurements that were taken in turn, so that a busy machine slows both down."""
    return statistics.median(mine / other for mine, other in zip(samples, others, strict=True))
