"""Table 2 of the paper (MS-COCO) from score files, or from a net and its test images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from port.images import read_image_list
from prototxt_gen.errors import CaffeError, DataError, Problem, Problems
from reference_weights import manifest

from .metrics import evaluate
from .scores import match, read_labels, read_scores, write_scores
from .table import RowComparison, compare_row, load_table

TABLE = 2
DATASET = "coco"  # the manifest's key
ROW = "ResNet-SRN"


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


def from_scores(scores_file: Path, labels_file: Path, row: str = ROW) -> RowComparison:
    """Figures of a scores file (logits) and a label file beside a row of Table 2.

    Raises DataError with the problems of both files, UsageError for an unknown row.
    """
    load_table(TABLE).row(row)
    scores, labels = _all(lambda: read_scores(scores_file), lambda: read_labels(labels_file))
    match(scores, labels, scores_file, labels_file)
    return _compare(scores, labels, row, str(scores_file))


def from_net(files: NetFiles, row: str = ROW) -> RowComparison:
    """Compute the scores of a net on its test images, then figures as from a scores file.

    Everything that can be checked is checked before the first image is computed; raises CaffeError with all
    problems.
    """
    import port

    from .predict import compute_scores, image_input, score_output

    load_table(TABLE).row(row)
    images, labels, _ = _all(
        lambda: read_image_list(files.image_list, files.image_root),
        lambda: read_labels(files.labels),
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
    scores = compute_scores(net, images, device=files.device)
    if files.scores_out:
        write_scores(files.scores_out, scores)
    # Six decimals, as in the authors' files: the figures are those that the written scores give.
    return _compare(np.round(scores.astype(np.float64), 6), labels, row, str(files.caffemodel))


def from_root(
    root: Path,
    image_root: Path | None = None,
    row: str = ROW,
    scores_out: Path | None = None,
    device: str | None = None,
) -> Iterator[RowComparison]:
    """Figures from released files under `root`, named as the authors named them.

    First those of the authors' own scores, then, with `image_root`, those of the released net. Raises
    DataError naming the files that are missing and where they were published.
    """
    have = manifest.paths(root, DATASET)
    net_roles = ("prototxt", "caffemodel", "image_list", "labels")
    wanted = net_roles if image_root else ("scores", "labels")
    absent = [file for file in manifest.missing(root, DATASET) if file.role in wanted]
    if absent:
        hint = "`python -m reference_weights list` says where it was published"
        raise DataError(Problem("there is no such file", file.purpose, hint, file=root / file.path) for file in absent)
    if "scores" in have:
        yield from_scores(have["scores"], have["labels"], row)
    if image_root:
        net = {role: have[role] for role in net_roles}
        yield from_net(NetFiles(**net, image_root=image_root, scores_out=scores_out, device=device), row)


def not_compared(root: Path, image_root: Path | None) -> list[str]:
    """What `from_root` leaves out for want of a file or option, one sentence each."""
    notes = []
    if "scores" not in manifest.paths(root, DATASET):
        notes.append(f"the authors' own scores are not under {root}, so only the net's are compared")
    if image_root is None:
        notes.append("the released net is not run: that takes --image-root, the folder of the test images")
    return notes


def needed() -> str:
    """For people: which released files Table 2 needs, where they were published, where they go."""
    files = manifest.describe(manifest.load(DATASET))
    return f"{files}\n\ntest images: {manifest.images_from(DATASET)}"


def _compare(scores: NDArray[Any], labels: NDArray[Any], row: str, source: str) -> RowComparison:
    figures = evaluate(scores, labels, "srn", top3_threshold=True)
    images, classes = labels.shape
    return compare_row(figures, load_table(TABLE), row, images, classes, source)


def _all(*readers: Callable[[], Any]) -> list[Any]:
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


def _check_files(files: NetFiles) -> None:
    """That the net's files exist and the scores can be written, before hours are spent computing them."""
    with Problems(DataError) as problems:
        for path in (files.prototxt, files.caffemodel):
            if not path.is_file():
                problems.add("there is no such file", file=path, fix="check the path")
        if files.scores_out:
            folder = next(p for p in files.scores_out.absolute().parents if p.exists())
            if files.scores_out.is_dir() or not (folder.is_dir() and os.access(folder, os.W_OK)):
                problems.add("cannot be written", file=files.scores_out, fix="choose a writable folder")
