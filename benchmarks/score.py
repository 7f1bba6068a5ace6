"""Time `port score`: images per second beside the net alone, and beside a plain loop over the images."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

if __name__ == "__main__":  # run as a script: the packages lie one folder up, and this folder is no path
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from benchmarks.run import Row, busy, machine, table
from port.images import load_image, sample_images
from prototxt_gen import write_net
from prototxt_gen.base import command
from prototxt_gen.base.errors import CaffeError, UsageError

NETWORK, WEIGHTS = "ResNet-SRN", "seed:7"
SIZE, QUALITY = (640, 480), 90  # like a photograph of MS-COCO
IMAGES, BATCH, REPEATS = 96, 16, 3
LIMIT = 1.05  # times the net alone
AGREE = 1e-3  # between the plain loop and port score: only to be sure that both do the same work

WAYS = {
    "score": "port score",
    "alone": "the net alone, a batch per core",
    "one_batch": "the net alone, one batch on all cores",
    "plain": "plain loop: scikit-image, batch 1",
}

EXAMPLES = """  python benchmarks/score.py
  python benchmarks/score.py --width-divisor 4 --images 480 --repeats 5"""


def make_images(folder: Path, count: int) -> list[Path]:
    """Photographs as JPEG files of one size."""
    from PIL import Image

    photos = [Image.open(path).convert("RGB").resize(SIZE) for path in sample_images()]
    paths = [folder / f"{i:05}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        photos[i % len(photos)].save(path, quality=QUALITY)
    return paths


class Ways:
    """The ways to score the same images; each returns its scores."""

    def __init__(self, folder: Path, images: list[Path], prototxt: Path, batch: int):
        from port.scoring import Options
        from port.scoring.compute import make_engine

        self.folder, self.images, self.batch = folder, images, batch
        self.options = Options(
            output=folder / "scores.txt",
            prototxt=prototxt,
            caffemodel=str(prototxt.with_suffix(".caffemodel")),
            images=images,
            batch=batch,
            device="cpu",
        )
        self.engine: Any = make_engine(self.options)[0]
        self.image = self.load(images[0])

    def load(self, path: Path) -> np.ndarray:
        """An image for the net."""
        return load_image(path, self.engine.height, self.engine.width)

    def score(self) -> np.ndarray:
        """All that `port score` does once the net is read: decode, compute, journal, file."""
        from port.scoring.batches import cut
        from port.scoring.journal import Journal, journal_path
        from port.scoring.mates import Mates
        from port.scoring.run import Run

        run = Run(self.options, self.engine, self.images, cut(self.images, self.batch), self.batch)
        path = journal_path(self.options.output)
        quiet = redirect_stdout(StringIO()), redirect_stderr(StringIO())
        with quiet[0], quiet[1], Mates() as mates, Journal(path, {}, restart=True) as journal:
            run.lead(mates, journal, {})
        return np.loadtxt(self.options.output)

    def alone(self) -> None:
        """The net on images that are ready, as many batches at once as there are cores."""
        from port.scoring.batches import Pipeline, cut

        with Pipeline(self.engine, cut(self.images, self.batch), self.batch, lambda path: self.image) as pipeline:
            while pipeline.left:
                list(pipeline.finished(1.0))

    def one_batch(self) -> None:
        """The net on images that are ready, a batch at a time on all cores: PyTorch's own way."""
        import torch

        block = torch.from_numpy(np.repeat(self.image[None], self.batch, axis=0))
        with torch.inference_mode():
            for _ in range(0, len(self.images), self.batch):
                self.engine.net(**{self.engine.input: block})

    def plain(self) -> np.ndarray:
        """A loop such as one would write: scikit-image reads and resizes, the net takes one image at a time."""
        import torch
        from skimage.io import imread
        from skimage.transform import resize

        scores = []
        size = (self.engine.height, self.engine.width)
        with torch.inference_mode():
            for path in self.images:
                image = imread(path) / 255
                image = resize(image, size, order=1, mode="constant", cval=0, anti_aliasing=False)
                image = image[:, :, ::-1].transpose(2, 0, 1) * 255 - np.array([104, 117, 123.0])[:, None, None]
                data = torch.from_numpy(np.ascontiguousarray(image[None], np.float32))
                scores.append(self.engine.net(**{self.engine.input: data})[self.engine.output].reshape(-1).numpy())
        return np.stack(scores)


@dataclass(frozen=True)
class Timed:
    """What a pass over the images took: seconds by the clock, and of all cores together."""

    seconds: float
    core_seconds: float


def timed(function: Callable[[], Any]) -> tuple[Timed, Any]:
    """What a function took, and what it returns."""
    start, cores = time.perf_counter(), time.process_time()
    result = function()
    return Timed(time.perf_counter() - start, time.process_time() - cores), result


def measure(ways: Ways, repeats: int) -> list[Row]:
    """All ways in turn, `repeats` times, so that a busy moment hits all of them. Raises CaffeError if they disagree."""
    ways.alone()  # warm
    passes: dict[str, list[Timed]] = {name: [] for name in WAYS}
    before, start = busy(), time.perf_counter()
    for _ in range(repeats):
        scores = {}
        for name in WAYS:
            spent, scores[name] = timed(getattr(ways, name))
            passes[name].append(spent)
        error = float(np.abs(scores["score"] - scores["plain"]).max())
        if not error <= AGREE:
            raise CaffeError(f"port score and the plain loop differ by {error:.1e}; expected {AGREE:.0e} at most")
    after, seconds = busy(), time.perf_counter() - start
    rows = figures(passes, len(ways.images))
    if before and after:
        others = (after[0] - before[0]) - (after[1] - before[1])
        for row in rows:
            row.others = max(0.0, others) / (seconds * (os.cpu_count() or 1))
    return rows


def figures(passes: dict[str, list[Timed]], images: int) -> list[Row]:
    """The table: images per second, core time per image, and the ratios of passes that followed each other."""
    rows = [Row(WAYS[name], "", "images/s", [images / t.seconds for t in passes[name]]) for name in WAYS]
    for name in ("score", "alone"):
        samples = [1000 * t.core_seconds / images for t in passes[name]]
        rows.append(Row(f"  core time of {WAYS[name]}", "", "ms/image", samples))
    for name, limit in (("alone", LIMIT), ("one_batch", None), ("plain", None)):
        pairs = list(zip(passes["score"], passes[name], strict=True))
        ratios = [mine.seconds / other.seconds for mine, other in pairs]
        note = f"port score is {1 / median(ratios):.2f} x as fast"
        rows.append(Row(f"port score's time / {WAYS[name]}", "", "x", ratios, limit, note))
        if name == "alone":  # says the same on idle cores, and also on busy ones
            cores = [mine.core_seconds / other.core_seconds for mine, other in pairs]
            rows.append(Row("  the same in core time", "", "x", cores))
    return rows


def arguments() -> ArgumentParser:
    """The command line."""
    parser = command.parser("benchmarks/score.py", __doc__ or "", EXAMPLES)
    parser.add_argument("--images", type=int, default=IMAGES, metavar="N", help=f"JPEGs of 640x480 (default: {IMAGES})")
    parser.add_argument("--batch", type=int, default=BATCH, metavar="N", help=f"default: {BATCH}")
    parser.add_argument("--repeats", type=int, default=REPEATS, metavar="N", help=f"default: {REPEATS}")
    parser.add_argument("--width-divisor", type=int, default=1, metavar="N", help="a narrower net (default: 1)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when the target is met, 1 when it is missed, 2 for bad usage."""
    options = arguments().parse_args(argv)
    for name in ("images", "batch", "repeats", "width_divisor"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}; expected 1 or more")
    about = machine()
    print(f"{about['cpu']}, {about['cores_used']} of {about['cores']} cores used; load average {about['load_average']}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = {"dialect": "bvlc", "width_divisor": options.width_divisor, "weights": WEIGHTS}
        prototxt = write_net(folder, NETWORK, "coco", **made).path
        ways = Ways(folder, make_images(folder, options.images), prototxt, min(options.batch, options.images))
        rows = measure(ways, options.repeats)
    print(f"{NETWORK}, width 1/{options.width_divisor}, {options.images} images in batches of {options.batch}\n")
    print(table(rows))
    missed = any(row.met is False for row in rows)
    print("\nothers: the part of the cores that other processes used meanwhile")
    return command.CHECK_FAILED if missed else command.OK


if __name__ == "__main__":
    sys.exit(command.run(main))
