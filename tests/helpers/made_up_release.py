"""A made-up release of the authors: their folders, filled with a small seeded net and made-up photographs.

The predictions are made without the code under test: images are prepared with scikit-image directly, the net
runs by the float64 reference, and the published figures are computed by plain loops.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from skimage.io import imread
from skimage.transform import resize

from port.caffemodel import read_caffemodel
from port.graph.build import load_graph
from port.graph.reference import run_reference
from prototxt_gen.nets.write import write_net
from verify.tables import PublishedTable, load_table

SEED, DIVISOR, SIZE = 7, 16, 224
ROW = "ResNet-SRN"
NUMBERS = {"nus_wide": 1, "coco": 2, "wider_att": 3}  # data set -> table
MEAN = (104.0, 117.0, 123.0)

Prepare = Callable[[Path], np.ndarray]  # an image file -> (3, 224, 224), as the net reads it


@dataclass(frozen=True)
class MadeUpRelease:
    """A folder as the authors' archives unpack to, the images beside it, and the figures it would publish."""

    root: Path
    images: Path
    dataset: str
    table: PublishedTable

    @property
    def prototxt(self) -> Path:
        return self.root / f"models/{self.dataset}_resnet101_srn_test.prototxt"

    @property
    def caffemodel(self) -> Path:
        return self.root / f"models/{self.dataset}_resnet101_srn.caffemodel"

    @property
    def list(self) -> Path:
        return self.root / f"datasets/{self.dataset}/{self.dataset}_test_imglist.txt"

    @property
    def labels(self) -> Path:
        return self.root / f"datasets/{self.dataset}/{self.dataset}_test_label.txt"

    @property
    def predictions(self) -> Path:
        return self.root / f"results/reference_{self.dataset}_predictions.txt"

    @property
    def index(self) -> Path:
        return self.root / "datasets/nus_wide/nus_test_accessible.mat"

    def lines(self, path: Path) -> list[str]:
        return path.read_text().splitlines()

    def rewrite(self, path: Path, lines: Sequence[str]) -> None:
        path.write_text("".join(f"{line}\n" for line in lines))

    def reorder(self, path: Path, order: Sequence[int]) -> None:
        """Put the lines of a file in another order."""
        lines = self.lines(path)
        self.rewrite(path, [lines[i] for i in order])

    def predict(self, prepare: Prepare, transform: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        """Make the predictions anew from images prepared in another way."""
        images = [self.image(line) for line in self.lines(self.list)]
        scores = reference_scores(self.prototxt, self.caffemodel, images, prepare)
        np.savetxt(self.predictions, transform(scores) if transform else scores, fmt="%.6f")

    def image(self, line: str) -> Path:
        return self.images / line.rpartition(" ")[0]

    def copy(self, folder: Path) -> MadeUpRelease:
        """The same in another folder, to be damaged there; the images stay where they are."""
        shutil.copytree(self.root, folder / "released")
        return replace(self, root=folder / "released")


def as_published(path: Path) -> np.ndarray:
    """The authors' steps: RGB in [0, 1], resized, blue first, times 255, less the mean."""
    return np.stack([plane * 255 - mean for plane, mean in zip(resized(path)[::-1], MEAN, strict=True)])


def resized(path: Path, **options) -> np.ndarray:
    """An image file as (3, 224, 224), RGB in [0, 1], resized as the defaults of 2017 did."""
    pixels = imread(path).astype(np.float32) / np.float32(255)
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=2)
    options = {"order": 1, "mode": "constant", "anti_aliasing": False} | options
    return resize(pixels.astype(np.float64), (SIZE, SIZE), **options).transpose(2, 0, 1)


def reference_scores(prototxt: Path, caffemodel: Path, images: Sequence[Path], prepare: Prepare) -> np.ndarray:
    """The net's first output, (images, C), in float64 by the layers' NumPy rules."""
    graph = load_graph(prototxt)
    weights = {layer.name: [blob.data for blob in layer.blobs] for layer in read_caffemodel(caffemodel).layers}
    blocks = []
    for start in range(0, len(images), 10):
        block = np.stack([prepare(path) for path in images[start : start + 10]]).astype(np.float32)
        values = run_reference(graph, weights, {graph.inputs[0].blob: block})
        blocks.append(values[graph.outputs[0].name].reshape(len(block), -1))
    return np.concatenate(blocks)


def photograph(random: np.random.Generator, index: int) -> np.ndarray:
    """Patches of all sizes in one colour scheme, uint8 RGB; every image has its own size, every ninth is grey."""
    height, width = 150 + 37 * (index % 11), 140 + 61 * (index % 7)  # smaller than 224 and larger
    total, size = np.zeros((height, width, 3)), 2
    while size < 200:
        patches = random.normal(size=(-(-height // size), -(-width // size), 3))
        total += patches.repeat(size, 0).repeat(size, 1)[:height, :width]
        size *= 2
    colour = random.uniform(40, 215, 3)
    image = np.clip(colour + random.uniform(10, 35) * total, 0, 255).astype(np.uint8)
    return image[:, :, 0] if index % 9 == 5 else image


@cache
def made_up_release(folder: Path, dataset: str = "coco", count: int = 40) -> MadeUpRelease:
    """Make a release in `folder`; for NUS-WIDE the list has six more images, which are not evaluated."""
    table = load_table(NUMBERS[dataset])
    random = np.random.default_rng(table.number)
    release = MadeUpRelease(folder / "released", folder / "images", dataset, table)
    for path in (release.list, release.predictions, release.images / "val" / "x"):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_net(
        release.prototxt, ROW, dataset, dialect="srn", profile="released", width_divisor=DIVISOR, weights=f"seed:{SEED}"
    )
    release.prototxt.with_suffix(".caffemodel").rename(release.caffemodel)
    total = count + 6 if dataset == "nus_wide" else count
    # names in no order, so that the list's order is its own
    names = [f"val/{int(n):06}.{'png' if i % 3 else 'jpg'}" for i, n in enumerate(random.permutation(total))]
    for index, each in enumerate(names):
        Image.fromarray(photograph(random, index)).save(release.images / each, quality=90)
    images = [release.images / each for each in names]
    scores = np.round(reference_scores(release.prototxt, release.caffemodel, images, as_published), 6)
    labels = made_up_labels(scores, random, unspecified=dataset == "wider_att")
    np.savetxt(release.predictions, scores, fmt="%.6f")
    np.savetxt(release.labels, labels, fmt="%d")
    tags = (labels == 1).sum(axis=1)
    release.rewrite(release.list, [f"{each} {n}" for each, n in zip(names, tags, strict=True)])
    rows = np.arange(total)
    if dataset == "nus_wide":
        rows = np.sort(random.permutation(total)[:count])
        savemat(release.index, {"idx_final_test": (rows + 1).reshape(-1, 1).astype(np.float64)})
        for row in set(range(total)) - set(rows.tolist()):
            images[row].unlink()  # those are the images that are no longer to be had
    figures = plain_figures(scores[rows], labels[rows], dataset)
    published = {ROW: {column: round(100 * value, 1) for column, value in figures.items()}}
    return replace(release, table=replace(table, images=count, rows=published, later={}))


def made_up_labels(scores: np.ndarray, random: np.random.Generator, unspecified: bool) -> np.ndarray:
    """Labels that the scores predict well but not perfectly; every class has a positive and a negative."""
    likely = (scores - scores.mean(axis=0)) / scores.std(axis=0) + random.normal(0, 0.3, scores.shape)
    labels = (likely > random.uniform(0.3, 1.3, scores.shape[1])).astype(int)
    labels[likely.argmax(axis=0), np.arange(scores.shape[1])] = 1
    if unspecified:
        labels = np.where(labels == 1, 1, np.where(random.uniform(size=labels.shape) < 0.2, 0, -1))
        labels[likely.argmin(axis=0), np.arange(scores.shape[1])] = -1
    return labels


def plain_figures(scores: np.ndarray, labels: np.ndarray, dataset: str) -> dict[str, float]:
    """The columns of the paper's table for a data set, by plain loops over classes; fractions."""
    probability = 1 / (1 + np.exp(-scores))
    predicted = probability > 0.5
    known = labels != 0 if dataset == "wider_att" else np.ones(labels.shape, bool)
    precise = [
        plain_precision(probability[known[:, c], c], labels[known[:, c], c] == 1) for c in range(scores.shape[1])
    ]
    figures = {"mAP": float(np.mean(precise))} | plain_counts(predicted, labels == 1, "")
    if dataset == "wider_att":
        return {column: figures[column] for column in ("mAP", "F1-C", "F1-O")}
    top = np.zeros(scores.shape, bool)
    np.put_along_axis(top, np.argsort(-probability, axis=1, kind="stable")[:, :3], True, axis=1)
    return figures | plain_counts(top & predicted if dataset == "coco" else top, labels == 1, "@3")


def plain_precision(probability: np.ndarray, positive: np.ndarray) -> float:
    """Average precision: at each positive, the best precision that any longer list still has."""
    hits = positive[np.argsort(-probability, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, hits.size + 1)
    return float(np.mean([precision[k:].max() for k in np.flatnonzero(hits)]))


def plain_counts(predicted: np.ndarray, positive: np.ndarray, suffix: str) -> dict[str, float]:
    """Precision, recall and F1: means over the classes (C), and over all pairs (O)."""

    def ratios(p: np.ndarray, t: np.ndarray) -> tuple[float, float, float]:
        precision = (p & t).sum() / p.sum() if p.any() else 1.0  # a class that is never predicted has 1
        recall = (p & t).sum() / t.sum()
        return 2 * precision * recall / (precision + recall) if recall else 0.0, precision, recall

    columns = np.array([ratios(predicted[:, c], positive[:, c]) for c in range(predicted.shape[1])])
    names = ("F1", "P", "R")
    means = {f"{name}-C{suffix}": float(value) for name, value in zip(names, columns.mean(axis=0), strict=True)}
    return means | {f"{name}-O{suffix}": float(v) for name, v in zip(names, ratios(predicted, positive), strict=True)}
