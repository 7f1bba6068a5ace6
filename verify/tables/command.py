"""The command behind verify/reproduce_table1.py, _table2.py and _table3.py."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from prototxt_gen.command import CHECK_FAILED, OK, parser

from ..metrics import evaluate
from . import sources
from .comparison import RowComparison, compare_row
from .layout import STYLES, data, row_page, table_page
from .options import COMPUTING, FROM_NET, choose
from .published import ROW, PublishedTable, load_table
from .sources import Predictions

ABOUT = """\
Reproduce Table {number} of the paper ({dataset}): the paper's figures, ours and the difference.

From a scores file, from a net with its test images, or from a folder with the authors' released files.
Without any of them, says which files those are and runs the built-in example."""

EXAMPLES = """\
  python {script}
  python {script} --scores predictions.txt --labels {key}_test_label.txt
  python {script} --released ~/srn --image-root ~/{key} --scores-out mine.txt
  python {script} --prototxt net.prototxt --caffemodel net.caffemodel \\
      --image-list {key}_test_imglist.txt --image-root ~/{key} --labels {key}_test_label.txt
  python {script} --scores mine.txt --labels labels.txt --row ResNet-101 --format markdown"""


def main(number: int, argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when every figure is reproduced, 1 when one is not or none can be, 2 for bad input or usage."""
    table = load_table(number)
    options = _parser(table).parse_args(argv)
    source = choose(options)
    if source == "example":
        return _example(table, options.image)
    table.row(options.row or ROW)
    compared = _show(table, _predictions(table, source, options), options, several=source == "released")
    if source == "released":
        for note in sources.not_compared(table, options.released, options.image_root):
            print(f"note: {note}", file=sys.stderr)
    return OK if compared and all(compared) else CHECK_FAILED


def _predictions(table: PublishedTable, source: str, options: Namespace) -> Iterator[Predictions]:
    index = getattr(options, "index", None)
    if source == "scores":
        yield sources.from_scores(table, options.scores, options.labels, index)
    elif source == "net":
        files = {name: getattr(options, name) for name in FROM_NET + COMPUTING}
        yield sources.from_net(table, sources.NetFiles(**files), index)
    else:
        yield from sources.from_released(
            table, options.released, options.image_root, options.scores_out, options.device
        )


def _show(
    table: PublishedTable, found: Iterator[Predictions], options: Namespace, several: bool
) -> list[RowComparison]:
    """Print comparisons as they come; JSON at the end, as one array where there may be several."""
    compared, style = [], options.format or "text"
    for predictions in found:
        compared.append(compare(table, predictions, options.row))
        if style != "json":
            page = row_page(compared[-1], style) if options.row else table_page(compared[-1], style, options.later)
            print(page, end="\n\n" if several else "\n", flush=True)
    if style == "json":
        listed = [data(comparison, options.later) for comparison in compared]
        print(json.dumps(listed if several else listed[0], indent=2, allow_nan=False))
    return compared


def compare(table: PublishedTable, predictions: Predictions, row: str | None = None) -> RowComparison:
    """The figures of predictions beside a row of a table (None: the paper's own net)."""
    scores, labels = predictions.scores, predictions.labels
    figures = evaluate(scores, labels, table.protocol, top3_threshold=table.top3_threshold)
    images, classes = labels.shape
    return compare_row(figures, table, row or ROW, images, classes, predictions.source, remarks=predictions.remarks)


def _example(table: PublishedTable, image: Path | None) -> int:
    script = _script(table)
    print(f"No scores, net or released files are given, so Table {table.number} itself is not reproduced in this run.")
    print("It takes these files of the authors below one folder DIR, and the test images; then run")
    print(f"    python {script} --released DIR --image-root IMAGES\n")
    print(sources.needed(table))
    print("\nThe built-in example:\n", flush=True)
    from verify import embedded

    return embedded.run(image=image)


def _script(table: PublishedTable) -> str:
    return f"verify/reproduce_table{table.number}.py"


def _parser(table: PublishedTable) -> ArgumentParser:
    script = _script(table)
    about = ABOUT.format(number=table.number, dataset=table.dataset)
    command = parser(f"python {script}", about, EXAMPLES.format(script=script, key=table.key))
    values = "1, -1 or 0 (unspecified)" if table.protocol == "wider" else "0 or 1"
    add = command.add_argument
    add("--scores", type=Path, metavar="FILE", help="logits, one image per line")
    add("--labels", type=Path, metavar="FILE", help=f"labels {values}, one image per line")
    if table.number == 1:
        add("--index", type=Path, metavar="FILE", help="nus_test_accessible.mat: the images that count")
    add("--prototxt", type=Path, metavar="FILE", help="test net that computes the scores")
    add("--caffemodel", type=Path, metavar="FILE", help="its weights")
    add("--image-list", type=Path, metavar="FILE", help="test images: path, space, number of tags")
    add("--image-root", type=Path, metavar="DIR", help="folder that the paths of the list start from")
    add("--scores-out", type=Path, metavar="FILE", help="also write the computed scores")
    add("--device", metavar="NAME", help="where the net runs: cpu, cuda, cuda:1 (default: a GPU if any)")
    add("--released", "--root", type=Path, metavar="DIR", help="folder with the authors' models/, datasets/, results/")
    add("--row", metavar="NAME", help=f"show this row alone (default: the whole table, ours below {ROW})")
    add("--later", action="store_true", help="also show the figures that later methods published")
    add("--format", choices=STYLES, help="how to print (default text)")
    add("--image", type=Path, metavar="FILE", help="photograph for the built-in example")
    return command
