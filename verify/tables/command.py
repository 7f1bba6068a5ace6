"""The command behind verify/reproduce_table1.py, _table2.py and _table3.py."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from prototxt_gen.base.command import CHECK_FAILED, OK, parser
from prototxt_gen.base.door import add_layers, open_files
from prototxt_gen.base.quiet import libraries_quiet

from ..evaluation.bootstrap import Intervals
from ..metrics import evaluate
from ..released import command as released
from ..released.options import add_options as add_released
from . import extras, sources
from .comparison import RowComparison, compare_row
from .layout import STYLES, data, row_page, table_page
from .options import COMPUTING, FROM_NET, check_outputs, choose
from .published import ROW, PublishedTable, load_table
from .sources import Predictions

ABOUT = """\
Reproduce Table {number} of the paper ({dataset}): the paper's figures, ours and the difference.

From a scores file, from a net with its test images, or from a folder with the authors' released files.
Without any of them, says which files those are and runs the built-in example."""

EXAMPLES = """\
  python {script}
  python {script} --scores predictions.txt --labels {key}_test_label.txt
  python {script} --released ~/srn --dry-run
  python {script} --released ~/srn --image-root ~/{key} --scores-out mine.txt
  python {script} --prototxt net.prototxt --caffemodel net.caffemodel \\
      --image-list {key}_test_imglist.txt --image-root ~/{key} --labels {key}_test_label.txt
  python {script} --scores mine.txt --labels labels.txt --row ResNet-101 --format markdown
  python {script} --scores mine.txt --labels labels.txt --definitions --bootstrap
  python {script} --scores mine.txt --labels labels.txt --baseline-scores resnet101.txt \\
      --picture improvement.png --per-class improvement.csv --class-names {key}"""


def main(number: int, argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when every figure is reproduced, 1 when one is not or none can be, 2 for bad input or usage.

    Without scores, net or released files the status is that of the built-in example.
    """
    table = load_table(number)
    options = arguments(table).parse_args(argv)
    source = choose(options)
    open_files(options.layers)
    if source == "example":
        return _example(table, options.image)
    table.row(ROW if options.row is None else options.row)
    if source == "released":
        with libraries_quiet():
            return released.run(table, options)
    check_outputs(options)
    wanted = extras.read_extras(options)
    with libraries_quiet():
        predictions = _predictions(table, source, options)
    found = extras.compute(wanted, table, predictions)
    comparison = compare(table, predictions, options.row, found.intervals)
    style = options.format or "text"
    if style == "json":
        print(json.dumps(data(comparison, options.later) | found.data(), indent=2, allow_nan=False))
    else:
        print(row_page(comparison, style) if options.row else table_page(comparison, style, options.later))
        if page := found.page(style):
            print(f"\n{page}")
    for note in extras.write(wanted, found, table, predictions.source):
        print(f"note: {note}", file=sys.stderr)
    return OK if comparison else CHECK_FAILED


def _predictions(table: PublishedTable, source: str, options: Namespace) -> Predictions:
    index = getattr(options, "index", None)
    if source == "scores":
        return sources.from_scores(table, options.scores, options.labels, index)
    files = {name: getattr(options, name) for name in FROM_NET + COMPUTING}
    return sources.from_net(table, sources.NetFiles(**files), index)


def compare(
    table: PublishedTable, predictions: Predictions, row: str | None = None, intervals: Intervals | None = None
) -> RowComparison:
    """The figures of predictions beside a row of a table (None: the paper's own net)."""
    scores, labels = predictions.scores, predictions.labels
    figures = evaluate(scores, labels, table.protocol, top3_threshold=table.top3_threshold)
    images, classes = labels.shape
    return compare_row(
        figures,
        table,
        row or ROW,
        images,
        classes,
        predictions.source,
        remarks=predictions.remarks,
        intervals=intervals.figures if intervals else None,
    )


def _example(table: PublishedTable, image: Path | None) -> int:
    script = _script(table)
    print(f"No scores, net or released files are given, so Table {table.number} itself is not reproduced in this run.")
    print("It takes these files of the authors below one folder DIR, and the test images; then run")
    print(f"    python {script} --released DIR --image-root IMAGES\n")
    print(sources.needed(table))
    print("\nThe built-in example:\n", flush=True)
    from ..example import embedded

    return embedded.run(image=image)


def _script(table: PublishedTable) -> str:
    return f"verify/reproduce_table{table.number}.py"


def arguments(table: PublishedTable) -> ArgumentParser:
    """The command line of a table."""
    script = _script(table)
    about = ABOUT.format(number=table.number, dataset=table.dataset)
    command = parser(f"python {script}", about, EXAMPLES.format(script=script, key=table.key))
    values = "1, -1 or 0 (unspecified)" if table.protocol == "wider" else "0 or 1"
    add = command.add_argument
    add("--scores", type=Path, metavar="FILE", help="logits, one image per line: text, .npy, .npz, .mat or .h5")
    add("--labels", type=Path, metavar="FILE", help=f"labels {values}, one image per line; likewise")
    if table.number == 1:
        add("--index", type=Path, metavar="FILE", help="nus_test_accessible.mat: the images that count")
    add("--prototxt", type=Path, metavar="FILE", help="test net that computes the scores")
    add("--caffemodel", type=Path, metavar="FILE", help="its weights")
    add_layers(command)
    add("--image-list", type=Path, metavar="FILE", help="test images: path, space, number of tags")
    add("--image-root", type=Path, metavar="DIR", help="folder that the paths of the list start from")
    add("--scores-out", type=Path, metavar="FILE", help="also write the computed scores")
    add("--device", metavar="NAME", help="where the net runs: cpu, cuda, cuda:1 (default: a GPU if any)")
    add_released(add)
    add("--row", metavar="NAME", help=f"show this row alone (default: the whole table, ours below {ROW})")
    add("--later", action="store_true", help="also show the figures that later methods published")
    extras.add_options(add)
    add("--format", choices=STYLES, help="how to print (default text)")
    add("--image", type=Path, metavar="FILE", help="photograph for the built-in example")
    return command
