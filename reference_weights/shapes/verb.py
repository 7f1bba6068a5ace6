"""python -m reference_weights shapes: draw the synthetic data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from prototxt_gen.base.command import OK
from prototxt_gen.base.errors import UsageError
from prototxt_gen.base.machine import cores


def add(actions: Any) -> None:
    """Add the command and its arguments."""
    shapes = actions.add_parser(
        "shapes",
        help="draw a synthetic data set that needs spatial relations",
        description="Draw pictures with several of 20 labels each, ten of which only the places of things tell: "
        "training images as databases, test images as files, databases and lists. Run again, an interrupted call "
        "goes on where it was, and a complete folder is left alone.",
    )
    shapes.set_defaults(run=run)
    shapes.add_argument("--output", type=Path, metavar="DIR", help="the folder to write")
    shapes.add_argument("--train", type=int, default=10_000, metavar="N", help="training images (default: 10000)")
    shapes.add_argument("--test", type=int, default=2_000, metavar="N", help="test images (default: 2000)")
    shapes.add_argument("--seed", type=int, default=0, metavar="S", help="another seed, other scenes (default: 0)")
    shapes.add_argument("--size", type=int, default=224, metavar="PX", help="side of test images (default: 224)")
    shapes.add_argument(
        "--train-size", type=int, default=256, metavar="PX", help="side of training images (default: 256)"
    )
    shapes.add_argument("--encoding", default="jpg", metavar="jpg|png", help="of the images (default: jpg)")
    shapes.add_argument("--workers", type=int, default=cores(), metavar="N", help="processes (default: one per core)")
    shapes.add_argument("--picture", type=Path, metavar="PNG", help="write one picture that explains the relations")
    shapes.add_argument("--classes", action="store_true", help="print the labels and how each is defined")


def run(options: argparse.Namespace) -> int:
    """Draw what was asked for; returns the exit status."""
    from .classes import CLASSES
    from .dataset import write_dataset
    from .sheet import write_sheet

    if not (options.output or options.picture or options.classes):
        raise UsageError("nothing to do; expected --output DIR, --picture PNG or --classes")
    if options.classes:
        for each in CLASSES:
            kind = "relation  " if each.relation else "appearance"
            print(f"{each.name:8}  {kind}  {each.definition}")
    if options.picture:
        write_sheet(options.picture, options.seed)
        print(f"{options.picture}: {options.picture.stat().st_size:,} bytes")
    if options.output:
        names = ("train", "test", "seed", "size", "train_size", "encoding", "workers")
        print(write_dataset(options.output, progress=True, **{name: getattr(options, name) for name in names}))
    return OK
