"""python -m port lmdb: create databases as Caffe's Data layer reads them, and show what is in one."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from prototxt_gen.base import command
from prototxt_gen.base.errors import UsageError

EXAMPLES = """  python -m port lmdb create --images train.txt --root images --output train_lmdb \\
      --resize 256x256 --encoded --labels train_labels.txt
  python -m port lmdb inspect train_lmdb"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    lmdb = verbs.add_parser(
        "lmdb",
        help="create or show a database",
        description="Databases as Caffe's Data layer reads them.",
    )
    lmdb.set_defaults(run=run, quiet=True)
    actions = lmdb.add_subparsers(dest="action", required=True)
    create = actions.add_parser(
        "create",
        help="write an image database, and one of labels, from lists",
        description="Write an LMDB of the listed images and, with --labels, one of their label vectors in the same "
        "order. Without --labels the integers of the list are the labels.",
    )
    create.add_argument("--images", required=True, type=Path, metavar="LIST", help="lines: a path, a space, an integer")
    create.add_argument("--root", type=Path, metavar="DIR", help="the folder of the paths (default: they stand as is)")
    create.add_argument("--output", required=True, type=Path, metavar="DB", help="the image database, a new folder")
    create.add_argument("--resize", type=_size, metavar="HxW", help="resize every image, height x width")
    create.add_argument(
        "--encoded",
        nargs="?",
        const="",
        choices=["", "jpg", "png"],
        metavar="jpg|png",
        help="store image files, not pixels: as they are (resized: JPEG), or encoded anew",
    )
    create.add_argument("--grey", action="store_true", help="one channel")
    create.add_argument("--labels", type=Path, metavar="FILE", help="a row of numbers for each image")
    create.add_argument("--label-output", type=Path, metavar="DB", help="the label database (default: DB_labels)")
    create.add_argument("--label-type", choices=["float", "uint8"], help="how labels are stored (default: float)")
    create.add_argument("--shuffle", type=_seed, metavar="SEED", help="shuffle the list, images and labels alike")
    inspect = actions.add_parser(
        "inspect",
        help="show what is in a database",
        description="Show sizes, kinds and labels of the records; exit status 1 when some are damaged.",
    )
    inspect.add_argument("database", type=Path, metavar="DB")
    inspect.add_argument("--all", action="store_true", help="read every record, not a sample of 1,000")


def run(args: argparse.Namespace) -> int:
    """Create or show a database; exit status 1 when records are bad."""
    if args.action == "inspect":
        from ..data.describe import describe

        text, wrong = describe(args.database, args.all)
        print(text)
        for line in wrong:
            print(f"wrong: {line}")
        return command.CHECK_FAILED if wrong else command.OK
    from ..data.creation import create

    if args.label_type and not args.labels:
        raise UsageError("--label-type without labels; give their file with --labels")
    with _ending_cleanly():
        made = create(
            args.images,
            args.root,
            args.output,
            size=args.resize,
            encoded=args.encoded,
            grey=args.grey,
            labels=args.labels,
            label_output=args.label_output,
            label_type=args.label_type or "float",
            shuffle=args.shuffle,
            progress=True,
        )
    print(made)
    return command.OK


@contextmanager
def _ending_cleanly() -> Iterator[None]:
    """SIGTERM ends what runs inside as Ctrl-C does, so that nothing half-written stays."""
    try:
        before = signal.signal(signal.SIGTERM, _end)
    except ValueError:  # not in the main thread: the program around has its own ways
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(command.SIGNALLED + number)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"'{text}': expected HxW, such as 256x256")
    return int(height), int(width)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}': expected an integer of 0 or more")
    return int(text)
