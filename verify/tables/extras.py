"""What the table commands can show beside the table: other definitions, intervals, and figures of each class."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from prototxt_gen.base.columns import fold, folded, terminal_width
from prototxt_gen.base.errors import DataError, Problems

from ..evaluation.bootstrap import RESAMPLES, SEED, Intervals, bootstrap, check_drawing
from ..evaluation.definitions import Definition, by_definition, grouped
from ..evaluation.per_class import ClassFigures, check_picture, class_figures, class_names, doubt, write_csv
from ..evaluation.scores import read_scores
from ..metrics import evaluate
from .layout import markdown_table, number
from .published import PublishedTable
from .sources import Predictions

_LONGEST = 60  # characters of a path in a picture
HEADING = "The same scores by other definitions, in percent; > marks the authors'"


@dataclass(frozen=True, eq=False)
class Extras:
    """What was asked for, with its files already read; nothing is computed yet."""

    per_class: Path | None = None
    picture: Path | None = None
    names: str | None = None  # of the classes: a data set or a file
    baseline: NDArray[Any] | None = None
    baseline_file: Path | None = None
    definitions: bool = False
    resamples: int | None = None
    seed: int = SEED

    @property
    def flags(self) -> list[str]:
        """The options behind it, as they are typed."""
        asked = (self.per_class, self.picture, self.definitions, self.resamples)
        names = ("--per-class", "--picture", "--definitions", "--bootstrap")
        return [name for name, value in zip(names, asked, strict=True) if value]


@dataclass(frozen=True, eq=False)
class Found:
    """What was computed: for the page, for JSON and for files."""

    classes: Sequence[ClassFigures] = ()
    definitions: Sequence[Definition] = ()
    intervals: Intervals | None = None
    notes: list[str] = field(default_factory=list)

    def page(self, style: str) -> str:
        """What follows the table on a terminal or in Markdown; empty when nothing was asked for."""
        blocks = [_definitions_page(self.definitions, style)] if self.definitions else []
        notes = [str(self.intervals)] if self.intervals else []
        notes += self.notes
        width = terminal_width()
        lines = [[f"- {note}"] if style == "markdown" else fold(note, width) for note in notes]
        blocks += ["\n".join(line for each in lines for line in each)] if notes else []
        return "\n\n".join(blocks)

    def data(self) -> dict[str, Any]:
        """The same for JSON; figures in percent, a NaN as null."""
        found: dict[str, Any] = {}
        if self.definitions:
            found["definitions"] = [
                {
                    "key": each.key,
                    "definition": each.text,
                    "used_by": each.used_by,
                    "authors": each.authors,
                    "figures": {name: number(100 * value) for name, value in each.figures.items()},
                }
                for each in self.definitions
            ]
        if self.intervals:
            drawn = self.intervals
            found["bootstrap"] = {
                "resamples": drawn.resamples,
                "seed": drawn.seed,
                "images": drawn.images,
                "incomplete": drawn.incomplete,
                "intervals": {c: [number(100 * v) for v in ends] for c, ends in drawn.figures.items()},
            }
        return found


def read_extras(options: Namespace) -> Extras:
    """The extras of a command line; raises CaffeError for what can be seen before anything is computed."""
    with Problems(DataError) as problems:
        if options.picture:
            problems.found += check_picture(options.picture)
        if options.per_class and options.per_class == options.picture:
            problems.add("both --per-class and --picture", file=options.picture, fix="choose two names")
    seed = SEED if options.seed is None else options.seed
    if options.bootstrap is not None:
        check_drawing(options.bootstrap, seed)
    baseline = options.baseline_scores
    return Extras(
        options.per_class,
        options.picture,
        options.class_names,
        read_scores(baseline) if baseline else None,
        baseline,
        options.definitions,
        options.bootstrap,
        seed,
    )


def compute(extras: Extras, table: PublishedTable, predictions: Predictions) -> Found:
    """Everything that was asked for; raises DataError for class names or baseline scores that do not fit."""
    scores, labels = predictions.scores, predictions.labels
    rules: dict[str, Any] = {"top3_threshold": table.top3_threshold}
    found = Found()
    if extras.per_class or extras.picture:
        named = class_names(extras.names, labels.shape[1]) if extras.names else None
        found = replace(found, classes=_classes(extras, table, predictions, named))
        found.notes.extend([doubt(named, labels)] if named and doubt(named, labels) else [])
    if extras.definitions:
        found = replace(found, definitions=by_definition(scores, labels, table.protocol, **rules))
    if extras.resamples is not None:
        drawn = bootstrap(scores, labels, table.protocol, **rules, resamples=extras.resamples, seed=extras.seed)
        found = replace(found, intervals=drawn)
    return found


def write(extras: Extras, found: Found, table: PublishedTable, source: str) -> list[str]:
    """Write the files that were asked for; returns a note on each. Raises CaffeError when the disk refuses."""
    notes = []
    if extras.per_class:
        write_csv(extras.per_class, found.classes)
        notes.append(f"figures of each class: {extras.per_class}")
    if extras.picture:
        _draw(extras, found.classes, table, source)
        notes.append(f"picture: {extras.picture}")
    return notes


def _draw(extras: Extras, classes: Sequence[ClassFigures], table: PublishedTable, source: str) -> None:
    from ..evaluation.pictures import ap_picture, improvement_picture

    about = f"{table.dataset}: {_end(source)}"
    if extras.baseline_file:
        about += f" over {_end(str(extras.baseline_file))}\nbelow: how many other labels occur with it"
        canvas = improvement_picture(classes, "Improvement in average precision per class", about)
    else:
        canvas = ap_picture(classes, "Average precision per class", about)
    assert extras.picture is not None
    canvas.save(extras.picture)


def _end(path: str) -> str:
    """The end of a path, as much as a picture has room for."""
    return path if len(path) <= _LONGEST else f"...{path[3 - _LONGEST :]}"


def _classes(
    extras: Extras, table: PublishedTable, predictions: Predictions, names: Sequence[str] | None
) -> list[ClassFigures]:
    labels = predictions.labels
    figures = evaluate(predictions.scores, labels, table.protocol)
    before = None
    if extras.baseline is not None:
        scores = predictions.selected(extras.baseline)
        if scores.shape != labels.shape:
            found = f"{extras.baseline.shape[0]:,} images, {extras.baseline.shape[1]} classes"
            expected = f"{labels.shape[0]:,} and {labels.shape[1]}, as the labels have"
            with Problems(DataError, extras.baseline_file or "") as problems:
                problems.add(found, expected=expected)
        before = evaluate(scores, labels, table.protocol)
    return class_figures(figures, labels, names, before)


def _definitions_page(definitions: Sequence[Definition], style: str) -> str:
    blocks = [f"**{HEADING}**" if style == "markdown" else HEADING]
    for group in grouped(definitions):
        names = list(group[0].figures)
        rows = [["", *names, "used by"]]
        for each in group:
            cells = [f"{100 * value:.2f}" for value in each.figures.values()]
            rows.append([f"{'>' if each.authors else ' '} {each.text}", *cells, each.used_by])
        figures = range(1, len(names) + 1)
        lines = markdown_table(rows) if style == "markdown" else folded(rows, figures, terminal_width())
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def add_options(add: Any) -> None:
    """The options of what can be shown beside a table, by argparse's `add_argument`."""
    add("--definitions", action="store_true", help="also show what other definitions give for the same scores")
    add(
        "--bootstrap",
        type=int,
        nargs="?",
        const=RESAMPLES,
        metavar="N",
        help=f"also show 95 %% intervals over N resamples of the images (default {RESAMPLES})",
    )
    add("--seed", type=int, metavar="N", help=f"of the resamples (default {SEED})")
    add("--per-class", type=Path, metavar="FILE.csv", help="write the figures of each class")
    add("--picture", type=Path, metavar="FILE.png", help="draw the average precision of each class, sorted")
    add("--baseline-scores", type=Path, metavar="FILE", help="draw the improvement over these scores (figure 7)")
    add("--class-names", metavar="NAME", help="coco, nus_wide, wider_att, or a file with one name per line")
