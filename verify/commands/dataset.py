"""python -m verify dataset: make image lists and label files from a data set's own annotations, and check them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prototxt_gen.base import command
from prototxt_gen.base.errors import UsageError

from ..datasets.sets import names

if TYPE_CHECKING:
    from ..datasets.split import Loaded

EXAMPLES = """  python -m verify dataset coco --root ~/coco --output datasets/coco --released ~/srn
  python -m verify dataset nus_wide --root ~/nus-wide --output datasets/nus_wide --subset tagged --lmdb
  python -m verify dataset wider_attribute --root ~/wider --output datasets/wider_att --split test"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser(
        "dataset",
        help="make a data set's lists and labels from its own annotations",
        description="Write image lists and label files in the authors' form, check the numbers of images against the"
        " paper's and the release's, and compare with the authors' lists. Exit status 1 when something differs.",
    )
    parser.set_defaults(run=run, quiet=True)
    parser.add_argument("dataset", choices=names())
    parser.add_argument("--root", required=True, type=Path, metavar="DIR", help="the data set as it was unpacked")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="where lists, crops, databases go")
    parser.add_argument("--image-root", type=Path, metavar="DIR", help="the images, where they are not below --root")
    parser.add_argument("--split", choices=["train", "test"], help="one split only (default: both)")
    parser.add_argument(
        "--subset",
        choices=["all", "present", "tagged"],
        default="all",
        help="all: a missing image is an error (default); present: leave out images without a file;"
        " tagged: those without a positive label too. Other counts are then no failure",
    )
    parser.add_argument("--allow-counts", action="store_true", help="other counts than the paper's are no failure")
    parser.add_argument("--released", type=Path, metavar="DIR", help="compare with the authors' DIR/datasets/...")
    parser.add_argument(
        "--accessible",
        type=Path,
        metavar="MAT",
        help="nus_wide: keep only the test images of the authors' nus_test_accessible.mat",
    )
    parser.add_argument(
        "--lmdb",
        nargs="?",
        const="jpg",
        choices=["jpg", "png", "pixels"],
        help="also make the databases that the training nets read, 256x256 (default: as JPEG)",
    )
    parser.add_argument("--shuffle", type=int, default=0, metavar="SEED", help="of the training database (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Make the lists; exit status 1 when counts or the authors' lists differ."""
    from ..datasets.authors import require_lists
    from ..datasets.build import Databases, build
    from ..datasets.counts import Counts
    from ..datasets.split import SPLITS, Request

    _check(args)
    request = Request(
        args.dataset,
        args.root,
        args.output,
        args.image_root,
        (args.split,) if args.split else SPLITS,
        args.subset,
        args.accessible,
        progress=sys.stderr.isatty(),
    )
    if args.released:  # before hours of work
        require_lists(args.released, request)
    encoded = None if args.lmdb == "pixels" else args.lmdb
    loaded, written = build(request, Databases(encoded, args.shuffle) if args.lmdb else None)
    counts = Counts(loaded)
    print(counts.text())
    print("\n".join(f"written: {path}" for path in dict.fromkeys(written)))
    good = bool(counts) or args.allow_counts or args.subset != "all"
    if args.released:
        good = _compared(args.released, loaded, args.accessible) and good
    return command.OK if good else command.CHECK_FAILED


def _compared(root: Path, loaded: Loaded, accessible: Path | None) -> bool:
    """Print how our lists stand to the authors'; whether they agree."""
    from ..datasets.authors import read_released
    from ..datasets.compare import compare

    good = True
    found = {released.split: released for released in read_released(root, loaded, accessible)}
    for name, split in loaded.splits.items():
        if name not in found:
            print(f"\n{name}: not compared, the authors' lists of it are not under {root}")
            continue
        print("\ncompared with " + " and ".join(map(str, found[name].files)))
        comparison = compare(split, found[name], loaded.classes)
        print(comparison.text())
        good = good and bool(comparison)
    return good


def _check(args: argparse.Namespace) -> None:
    from ..datasets.sets import sources

    with_index = [name for name, source in sources().items() if source.has_index]
    if args.accessible and args.dataset not in with_index:
        raise UsageError(f"--accessible belongs to {', '.join(with_index)}, not to {args.dataset}")
    if args.accessible and args.split == "train":
        raise UsageError("--accessible selects test images, but --split train leaves those out")
    if args.shuffle < 0:
        raise UsageError(f"--shuffle {args.shuffle}; expected 0 or more")
