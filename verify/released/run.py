"""A release, from its files to the verdict."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from prototxt_gen.base.errors import DataError, Problem
from reference_weights import manifest

from ..metrics import evaluate
from ..tables import ROW, PublishedTable, RowComparison, compare_row
from ..tables.sources import Predictions
from .consistency import Proof, consistency, label_faults
from .dry import PARTS
from .faults import Fault
from .files import MISSING_FIX, Release, read_release
from .net import NetOptions, NetResult, run_net
from .report import Report

EVALUATION, AGREEMENT, FIGURES = PARTS


def check_release(
    root: str | Path,
    table: PublishedTable,
    net: NetOptions | None = None,
    *,
    row: str = ROW,
    quiet: bool = False,
) -> Report:
    """Prove a release of one data set: the evaluation on the authors' scores, then, with `net`, the net on its images.

    `table` is the paper's (`tables.load_table`) or another of the same form. A file that is missing, damaged or
    in another order becomes a fault of the report, and what does not need it is run all the same. Progress goes
    to stderr. Raises DataError when `root` is no folder or holds nothing that could be run, UsageError for a row
    or a device that is not there.
    """
    table.row(row)
    release = read_release(Path(root), table)
    report = Report(release, wanted=net is not None, faults=[*release.faults])
    _missing(report, net is not None)
    found = consistency(release)
    rows = release.rows
    if release.scores is not None and release.labels is not None and len(rows):
        report.predictions = _predictions(release, release.scores[rows], str(release.paths["scores"]))
        report.evaluation = _figures(release, report.predictions, row)
    proof = Proof()
    if net is not None:
        result = run_net(release, found, net, _silent if quiet else _say)
        report.about, report.agreement, report.diagnosis = result.about, result.agreement, result.diagnosis
        report.faults += result.faults
        proof = _proof(result)
        if result.scores is not None:
            _own_figures(report, result.scores, net.scores_out, row)
    else:
        report.notes.append("the net is not run: that takes --image-root, the folder of the test images")
    report.faults += label_faults(release, found, proof)
    return report


def _proof(result: NetResult) -> Proof:
    """What the net found of the predictions."""
    diagnosis = result.diagnosis
    if diagnosis is None:
        return Proof(in_order=bool(result.agreement))
    return Proof(diagnosis.in_order, diagnosis.order is not None, bool(diagnosis.faults))


def _own_figures(report: Report, scores: np.ndarray, scores_out: Path | None, row: str) -> None:
    release = report.release
    if scores_out is not None:
        report.notes.append(f"our scores, one line per evaluated image: {scores_out}")
    if release.labels is not None:
        report.predictions = _predictions(release, scores, str(release.paths["caffemodel"]))
        report.figures = _figures(release, report.predictions, row)
    else:
        report.notes.append("no figures of our scores: there are no usable labels")


def _predictions(release: Release, scores: np.ndarray, source: str) -> Predictions:
    """Scores of the evaluated images with their labels."""
    assert release.labels is not None
    return Predictions(scores, release.labels[release.rows], source, (), release.rows, len(release.labels))


def _figures(release: Release, predictions: Predictions, row: str) -> RowComparison:
    """Figures of scores of the evaluated images beside a row of the table."""
    scores, labels, table = predictions.scores, predictions.labels, release.table
    figures = evaluate(scores, labels, table.protocol, top3_threshold=table.top3_threshold)
    images, classes = labels.shape
    return compare_row(figures, table, row, images, classes, predictions.source, remarks=release.remarks)


def _missing(report: Report, with_net: bool) -> None:
    """Files that are not there: a fault where what is to be run needs them; nothing to run at all is an error."""
    release = report.release
    absent = {file.role: file for file in manifest.missing(release.root, release.table.key)}
    wanted = (AGREEMENT, FIGURES) if with_net else (EVALUATION,)
    # without the authors' scores the net is still compared with the paper
    roles = {role for part in wanted for role in PARTS[part]} - ({"scores"} if with_net else set())
    files = [file for role, file in absent.items() if role in roles]
    if not any(file is not None for file in (release.scores, release.labels, release.names)) and files:
        text = "there is no such file"
        raise DataError(
            Problem(text, file.purpose, _missing_fix(file, release.root), file=release.root / file.path)
            for file in files
        )
    named = {fault.file for fault in report.faults}
    for file in files:
        if release.root / file.path not in named:
            text, fix = f"there is no such file: {file.purpose}", _missing_fix(file, release.root)
            report.faults.append(Fault("missing", text, release.root / file.path, (), fix))
    if "scores" in absent and with_net:
        report.notes.append(f"the authors' own scores are not under {release.root}: the net is not held against them")


def _missing_fix(file: manifest.ReleasedFile, root: Path) -> str:
    """Where a file that is not in its place may be."""
    found = manifest.elsewhere(file, root)
    return f"is it {' or '.join(map(str, found))}? Then move it to this name" if found else MISSING_FIX


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(line: str) -> None:
    pass
