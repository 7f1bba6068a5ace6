"""Reproduce Table 2 of the paper (MS-COCO): the paper's figures, ours and the difference.

From a scores file, from a net with its test images, or from a folder with the authors' released files.
Without any of them, says which files those are and runs the built-in example.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

if __name__ == "__main__":  # run as a script: the packages lie one folder up, and this folder is no path
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from prototxt_gen.command import CHECK_FAILED, OK, parser, run
from prototxt_gen.errors import UsageError
from verify import table2
from verify.table import RowComparison

EXAMPLES = """\
  python verify/reproduce_table2.py
  python verify/reproduce_table2.py --scores predictions.txt --labels coco_test_label.txt
  python verify/reproduce_table2.py --root ~/srn --image-root ~/coco --scores-out mine.txt
  python verify/reproduce_table2.py --prototxt net.prototxt --caffemodel net.caffemodel \\
      --image-list coco_test_imglist.txt --image-root ~/coco --labels coco_test_label.txt"""

FROM_SCORES = ("scores", "labels")
FROM_NET = ("prototxt", "caffemodel", "image_list", "image_root", "labels")
FROM_ROOT = ("root", "image_root")
COMPUTING = ("scores_out", "device")  # only where a net computes scores
SHOWING = ("row", "format")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when every figure is reproduced, 1 when one is not, 2 for bad input or usage."""
    options = _parser().parse_args(argv)
    source = choose(options)
    if source == "example":
        return _example(options.image)
    row = options.row or table2.ROW
    if source == "scores":
        found = iter([table2.from_scores(options.scores, options.labels, row)])
    elif source == "net":
        files = {name: getattr(options, name) for name in FROM_NET + COMPUTING}
        found = iter([table2.from_net(table2.NetFiles(**files), row)])
    else:
        found = table2.from_root(options.root, options.image_root, row, options.scores_out, options.device)
    compared = _show(found, options.format or "text", several=source == "root")
    if source == "root":
        for note in table2.not_compared(options.root, options.image_root):
            print(f"note: {note}", file=sys.stderr)
    return OK if compared and all(compared) else CHECK_FAILED


def _show(found: Iterator[RowComparison], style: str, several: bool) -> list[RowComparison]:
    """Print comparisons as they come; JSON at the end, as one array where there may be several."""
    compared = []
    for comparison in found:
        compared.append(comparison)
        if style != "json":
            print(comparison.render(style), end="\n\n" if several else "\n", flush=True)
    if style == "json":
        data = [comparison.data() for comparison in compared]
        print(json.dumps(data if several else data[0], indent=2, allow_nan=False))
    return compared


def choose(options: Namespace) -> str:
    """Where the figures come from: "scores", "net", "root" or "example"; raises UsageError naming the options
    that are missing or do not go together."""
    given = [name for name, value in vars(options).items() if value is not None]
    source: str
    needs: tuple[str, ...]
    may: tuple[str, ...]
    if "root" in given:
        source, needs, may = "root", ("root",), FROM_ROOT + SHOWING
        may += COMPUTING if "image_root" in given else ()
    elif "scores" in given:
        source, needs, may = "scores", FROM_SCORES, FROM_SCORES + SHOWING
    elif set(given) & set(FROM_NET + COMPUTING):
        source, needs, may = "net", FROM_NET, FROM_NET + COMPUTING + SHOWING
    else:
        source, needs, may = "example", (), ("image",)
    missing = [name for name in needs if name not in given]
    allowed = [name for name in given if name in may]
    extra = [name for name in given if name not in may]
    problems = []
    if missing:
        hint = "; or give --scores" if given == ["labels"] else ""
        problems.append(f"{_flags(allowed)} given, but not {_flags(missing)}{hint}")
    if extra and source == "example":
        hint = "give --scores, --prototxt or --root"
        problems.append(f"{_flags(extra)} given, but nothing to evaluate: {hint}")
    elif extra:
        problems.append(f"{_flags(extra)} cannot be combined with {_flags(allowed)}")
    if problems:
        raise UsageError(". ".join(problems))
    return source


def _flags(names: Iterable[str]) -> str:
    return ", ".join("--" + name.replace("_", "-") for name in names)


def _example(image: Path | None) -> int:
    print("No scores, net or released files are given, so Table 2 itself is not reproduced in this run.")
    print("It takes these files of the authors below one folder DIR, and the test images; then run")
    print("    python verify/reproduce_table2.py --root DIR --image-root IMAGES\n")
    print(table2.needed())
    print("\nThe built-in example:\n", flush=True)
    from verify import embedded

    return embedded.run(image=image)


def _parser() -> ArgumentParser:
    command = parser("python verify/reproduce_table2.py", __doc__ or "", EXAMPLES)
    add = command.add_argument
    add("--scores", type=Path, metavar="FILE", help="logits, one image per line")
    add("--labels", type=Path, metavar="FILE", help="labels 0 or 1, one image per line")
    add("--prototxt", type=Path, metavar="FILE", help="test net that computes the scores")
    add("--caffemodel", type=Path, metavar="FILE", help="its weights")
    add("--image-list", type=Path, metavar="FILE", help="test images: path, space, number of tags")
    add("--image-root", type=Path, metavar="DIR", help="folder that the paths of the list start from")
    add("--scores-out", type=Path, metavar="FILE", help="also write the computed scores")
    add("--device", metavar="NAME", help="where the net runs: cpu, cuda, cuda:1 (default: a GPU if any)")
    add("--root", type=Path, metavar="DIR", help="folder with the authors' models/, datasets/, results/")
    add("--row", metavar="NAME", help=f"row of the table to compare with (default {table2.ROW})")
    add("--format", choices=("text", "markdown", "json"), help="how to print (default text)")
    add("--image", type=Path, metavar="FILE", help="photograph for the built-in example")
    return command


if __name__ == "__main__":
    sys.exit(run(main))
