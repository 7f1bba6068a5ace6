"""What a training run leaves for reading: a log as Caffe's, CSV tables, TensorBoard."""

from __future__ import annotations

import csv
import glob
import io
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from prototxt_gen.base.errors import CaffeError
from prototxt_gen.base.files import os_problem, read_text, write_text

from ..processes.progress import TrainingProgress
from .board import Board
from .testing import Output, Scores, numbered

MOST_COLUMNS = 256  # outputs of more elements stand in the log only
MOST_SHOWN = 8  # elements of a test's outputs on the terminal


@dataclass(frozen=True)
class Moment:
    """When something was measured: iteration, learning rate, seconds of training."""

    iteration: int
    rate: float
    seconds: float

    def row(self) -> dict[str, Any]:
        """The columns that Caffe's own parse_log.py gives its tables."""
        return {
            "NumIters": self.iteration,
            "Seconds": f"{self.seconds:.3f}",
            "LearningRate": f"{self.rate:g}",
        }


class _GlogFormatter(logging.Formatter):
    """Lines as glog writes them: I0210 13:39:22.381027 25210 solver.cpp:204] text."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = datetime.fromtimestamp(record.created).strftime("%m%d %H:%M:%S.%f")
        head = f"{record.levelname[0]}{stamp} {record.process:5d} {record.filename}:{record.lineno}] "
        # Each line with its head: Caffe's tools stop at a line without.
        return "\n".join(head + line for line in record.getMessage().split("\n") if line.strip())


class _LogFile(logging.FileHandler):
    """A log that a full disk silences, not stops."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failed:
            self.failed = True
            print(f"{self.baseFilename}: cannot write: {sys.exc_info()[1]}; training goes on", file=sys.stderr)

    def close(self) -> None:
        with suppress(OSError):  # what it still held; that was said
            super().close()


class Table:
    """A CSV file with a row for each display, flushed at once; a resumed run goes on in it."""

    def __init__(self, path: Path, resumed_at: int | None):
        self.path = path
        self.columns: list[str] = []
        self._lost = False
        self._kept: list[dict[str, str]] = []
        if resumed_at is not None and path.exists():
            rows = csv.DictReader(io.StringIO(read_text(path)))
            # What came after the snapshot comes again.
            self._kept = [row for row in rows if (row.get("NumIters") or "").isdigit()]
            self._kept = [row for row in self._kept if int(row["NumIters"]) < resumed_at]
            self.columns = list(rows.fieldnames or []) if self._kept else []
        write_text(path, self._text(self._kept) if self.columns else "")

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row; new columns rewrite the table."""
        try:
            if not set(row) <= set(self.columns):
                held = list(csv.DictReader(io.StringIO(read_text(self.path)))) if self.columns else []
                self.columns += [name for name in row if name not in self.columns]
                write_text(self.path, self._text(held))
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)
        except (OSError, CaffeError) as error:
            if not self._lost:
                self._lost = True
                print(f"{self.path}: cannot write: {error}; training goes on", file=sys.stderr)

    def _text(self, rows: list[dict[str, str]]) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


class Records:
    """All records of one run, under the snapshots' prefix: .log, .train.csv, .test.csv, .tensorboard (a folder).

    Further test nets have tables of their own (.test1.csv and so on).

    A new run sets those of an older one aside (.old); a resumed one goes on in them. Raises CaffeError when
    they cannot be written. In a process that is not the `first` nothing is recorded.
    """

    def __init__(self, prefix: str, first: bool, resumed_at: int | None, max_iter: int):
        self.first, self.prefix, self.resumed_at = first, prefix, resumed_at
        self.logger = logging.Logger("port.training", logging.INFO)
        self.tables: dict[str, Table] = {}
        self.board: Board | None = None
        self.progress: TrainingProgress | None = None
        if first:
            self._open(resumed_at)
            self.progress = TrainingProgress(resumed_at or 0, max_iter)

    def _open(self, resumed_at: int | None) -> None:
        log = Path(f"{self.prefix}.log")
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            old = [log, *log.parent.glob(f"{glob.escape(Path(self.prefix).name)}.t*.csv")]
            for path in old if resumed_at is None else []:
                if path.exists() and path.stat().st_size:
                    os.replace(path, f"{path}.old")
            handler = _LogFile(log, encoding="utf-8")
        except OSError as cause:
            raise CaffeError(os_problem(log, cause, "write")) from None
        handler.setFormatter(_GlogFormatter())
        self.logger.addHandler(handler)
        with suppress(ImportError):
            self.board = Board(Path(f"{self.prefix}.tensorboard"), resumed_at or 0)

    def log(self, text: str) -> None:
        """Lines for the log alone."""
        self.logger.info(text, stacklevel=2)

    def say(self, text: str) -> None:
        """Lines for the log and the terminal."""
        self.logger.info(text, stacklevel=2)
        if self.progress:
            self.progress.say(text)

    def reached(self, iteration: int, rate: float, loss: float, images: float) -> None:
        """An iteration is done; `images`: per second."""
        if self.progress:
            self.progress.reached(iteration, rate, loss, images)

    def displayed(self, at: Moment, loss: float, images: float, outputs: list[Output]) -> None:
        """The loss and the outputs of a training iteration, as Caffe logs them; `loss`: smoothed."""
        self.log(f"Iteration {at.iteration}, loss = {loss:g}")
        for line in numbered(outputs):
            self.log(f"    Train net output {line}")
        row = {**at.row(), "SmoothedLoss": loss, "ImagesPerSecond": f"{images:.2f}"}
        self._keep("train", "train", row, at.iteration, outputs)
        if self.board:
            self.board.add(at.iteration, {"train/learning_rate": at.rate, "train/images_per_second": images})

    def tested(self, at: Moment, number: int, scores: Scores, with_loss: bool) -> None:
        """The outputs of a test pass, as Caffe logs them."""
        if with_loss:
            self.log(f"Test loss: {scores.loss:g}")
        for line in scores.lines():
            self.log(f"    Test net output {line}")
        kind = "test" if number == 0 else f"test{number}"
        self._keep(kind, kind, {**at.row(), "WeightedLoss": scores.loss}, at.iteration, scores.outputs)
        if self.progress:
            shown = [f"{n} = {v:g}" for output in scores.outputs for n, v in output.columns.items()]
            more = ", ..." if len(shown) > MOST_SHOWN else ""
            text = f"iteration {at.iteration}, test net {number}: {', '.join(shown[:MOST_SHOWN])}{more}"
            self.progress.say(text)

    def _keep(self, table: str, tag: str, row: dict[str, Any], iteration: int, outputs: list[Output]) -> None:
        """Add a row to a table and to TensorBoard."""
        if not self.first:
            return
        kept = [output for output in outputs if len(output.values) <= MOST_COLUMNS]
        columns = {name: value for output in kept for name, value in output.columns.items()}
        if table not in self.tables:
            self.tables[table] = Table(Path(f"{self.prefix}.{table}.csv"), self.resumed_at)
        self.tables[table].add(row | columns)
        if self.board:
            outputs_of = {f"{tag}/outputs/{name}": value for name, value in columns.items()}
            loss = row["SmoothedLoss" if "SmoothedLoss" in row else "WeightedLoss"]
            self.board.add(iteration, {f"{tag}/loss": loss, **outputs_of})

    def close(self) -> None:
        """Write what is left and close all files."""
        if self.progress:
            self.progress.close()
        if self.board:
            self.board.close()
        for handler in list(self.logger.handlers):
            handler.close()
            self.logger.removeHandler(handler)
