"""Where scores come from: a scores file, or a net with its test images."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from port.images import read_image_list
from prototxt_gen.base.errors import CaffeError, DataError, Problems
from prototxt_gen.base.files import unwritable
from reference_weights import manifest

from ..evaluation.scores import match, read_labels, read_scores
from .published import PublishedTable


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits and labels, both (images, classes), where the logits come from, and remarks on both."""

    scores: NDArray[Any]
    labels: NDArray[Any]
    source: str
    remarks: tuple[str, ...] = ()
    rows: NDArray[np.int64] | None = None  # which of the files' lines these are; None: all
    lines: int = 0  # of the files, where `rows` are some of them

    def at(self, index: Path | None) -> Predictions:
        """The images that the authors' index file selects (None: all); raises DataError."""
        if index is None:
            return self
        rows = _selected(index, len(self.labels))
        remark = f"{len(rows):,} of {len(self.labels):,} images, those of {index}"
        scores, labels, lines = self.scores[rows], self.labels[rows], len(self.labels)
        return Predictions(scores, labels, self.source, (*self.remarks, remark), rows, lines)

    def selected(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Of other scores with as many lines as the files have the same images; others as they are."""
        return scores if self.rows is None or len(scores) != self.lines else scores[self.rows]


@dataclass(frozen=True)
class NetFiles:
    """What it takes to compute the scores: a net, its weights, and the test images with their labels."""

    prototxt: Path
    caffemodel: Path
    image_list: Path
    image_root: Path
    labels: Path
    scores_out: Path | None = None
    device: str | None = None  # None: the GPU when there is one


def from_scores(table: PublishedTable, scores: Path, labels: Path, index: Path | None = None) -> Predictions:
    """A scores file (logits) and a label file; raises DataError with the problems of both."""
    return scores_and_labels(scores, labels, table.protocol).at(index)


def scores_and_labels(scores_file: Path, labels_file: Path, protocol: str) -> Predictions:
    """The same without a table; raises DataError with the problems of both files."""
    scores, labels = collect(lambda: read_scores(scores_file), lambda: read_labels(labels_file, protocol=protocol))
    match(scores, labels, scores_file, labels_file)
    return Predictions(scores, labels, str(scores_file), _remarks(scores))


def from_net(table: PublishedTable, files: NetFiles, index: Path | None = None) -> Predictions:
    """Compute the scores of a net on its test images; those that are written can be gone on with after an interrupt.

    Everything that can be checked is checked before the first image is computed; raises CaffeError with all
    problems.
    """
    import port
    from port.scoring import compute_scores, image_input, score_output

    images, labels, _ = collect(
        lambda: read_image_list(files.image_list, files.image_root),
        lambda: read_labels(files.labels, protocol=table.protocol),
        lambda: _check_files(files),
    )
    net = port.load_net(files.prototxt, files.caffemodel)
    image_input(net)
    blob, classes = score_output(net)
    with Problems(DataError, files.labels) as problems:
        if len(images) != len(labels):
            expected = f"{len(images)}, one per image of {files.image_list}"
            problems.add(f"{len(labels)} lines", expected=expected)
        if classes != labels.shape[1]:
            expected = f"{classes}, as output '{blob}' of {files.prototxt} has"
            problems.add(f"{labels.shape[1]} columns", expected=expected)
    if index is not None:
        _selected(index, len(labels))
    scores = _written(files, images) if files.scores_out else compute_scores(net, images, device=files.device)
    # Six decimals, as in the authors' files: the figures are those that the written scores give.
    rounded = np.round(scores.astype(np.float64), 6)
    return Predictions(rounded, labels, str(files.caffemodel), _remarks(rounded)).at(index)


def _written(files: NetFiles, images: list[Path]) -> NDArray[np.float64]:
    """The scores of all images, by way of a file; beside it a journal of what is computed."""
    from port.scoring import Options, score

    assert files.scores_out
    wanted = Options(files.scores_out, files.prototxt, str(files.caffemodel), images=images, device=files.device)
    with redirect_stdout(sys.stderr):
        stopped = score(wanted)
    if stopped:
        raise KeyboardInterrupt
    return read_scores(files.scores_out)


def needed(table: PublishedTable) -> str:
    """For people: which released files a table needs, where they were published, where they go."""
    files = manifest.describe(manifest.load(table.key))
    return f"{files}\n\ntest images: {manifest.images_from(table.key)}"


def collect(*readers: Callable[[], Any]) -> list[Any]:
    """What every reader returns; raises once, with the problems of all of them."""
    results, problems = [], []
    for reader in readers:
        try:
            results.append(reader())
        except CaffeError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return results


def _remarks(scores: NDArray[Any]) -> tuple[str, ...]:
    """What is odd about logits, though it may be meant."""
    if scores.min() < 0 or scores.max() > 1:
        return ()
    return ("all scores lie from 0 to 1, as probabilities do; they are taken for logits, so no p is below 0.5",)


def _selected(index: Path, images: int) -> NDArray[np.int64]:
    from ..datasets.index import read_index  # NUS-WIDE alone needs it, and what reads MATLAB files

    return read_index(index, images)


def _check_files(files: NetFiles) -> None:
    """That the net's files exist and the scores can be written, before hours are spent computing them."""
    with Problems(DataError) as problems:
        for path in (files.prototxt, files.caffemodel):
            if not path.is_file():
                problems.add("there is no such file", file=path, fix="check the path")
        if files.scores_out:
            problems.found += unwritable(files.scores_out)
