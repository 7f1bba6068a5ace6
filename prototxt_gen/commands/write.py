"""python -m prototxt_gen write: a test net, all files of a network, or all files there are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..base.command import OK
from ..base.errors import Problems, UsageError
from ..nets import DATASETS, DEFAULT_DATASET, DEFAULT_DIALECT, DEFAULT_PROFILE, DIALECT_NAMES, NETWORKS, PROFILES
from ..nets.write import write_all, write_net, write_training
from ..paper import Training

EXAMPLES = """\
  python -m prototxt_gen write --network ResNet-SRN --dialect srn --output nets/
  python -m prototxt_gen write --network ResNet-SRN --output srn.prototxt --weights seed:7
  python -m prototxt_gen write --network ResNet-101 --dataset coco --classes 20 --output voc.prototxt
  python -m prototxt_gen write --training --network ResNet-SRN --dialect srn --gpus 2 --output coco/
  python -m prototxt_gen write --all everything/"""

# Option -> its default; with --all, what would choose one of many cannot be given.
CHOICES = {"dataset": DEFAULT_DATASET, "profile": DEFAULT_PROFILE, "dialect": DEFAULT_DIALECT}


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser("write", help="write nets, solvers and scripts", description=run.__doc__)
    parser.set_defaults(run=run)
    parser.add_argument("--network", help=", ".join(NETWORKS))
    parser.add_argument("--dataset", help=f"{', '.join(DATASETS)} (default: {DEFAULT_DATASET})")
    parser.add_argument("--profile", help=f"{', '.join(PROFILES)} (default: {DEFAULT_PROFILE})")
    parser.add_argument("--dialect", help=f"{', '.join(DIALECT_NAMES)} (default: {DEFAULT_DIALECT})")
    parser.add_argument("--classes", type=int, metavar="N", help="number of labels (default: the data set's)")
    parser.add_argument(
        "--width-divisor",
        type=int,
        default=1,
        metavar="N",
        help="divide every channel count: a miniature (default: 1)",
    )
    parser.add_argument(
        "--training",
        action="store_true",
        help="all files of the network: test net, train_val nets, solvers, scripts",
    )
    parser.add_argument(
        "--all",
        nargs="?",
        const="",
        metavar="DIR",
        help="all files of all profiles, dialects, networks and data sets, below DIR",
    )
    gpus, epochs = Training().gpus, Training().epochs
    parser.add_argument("--gpus", type=int, metavar="N", help=f"of the training (default: {gpus})")
    parser.add_argument("--epochs", type=int, metavar="N", help=f"at each learning rate (default: {epochs})")
    parser.add_argument(
        "--output", default=".", metavar="PATH", help="a .prototxt file, or a folder (default: this folder)"
    )
    parser.add_argument(
        "--weights",
        default="",
        metavar="KIND:ARGUMENT",
        help="also write a .caffemodel beside the test net, such as seed:7",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write a test net, with --training all files of a network and data set, with --all everything."""
    check(arguments)
    sizes = {"classes": arguments.classes, "width_divisor": arguments.width_divisor}
    training = {"gpus": arguments.gpus, "epochs": arguments.epochs}
    schedule = {name: value for name, value in training.items() if value is not None}
    if arguments.all is not None:
        folder = arguments.all or arguments.output
        paths = write_all(folder, **sizes, **schedule)
        counts = f"{len(PROFILES)} profiles, {len(DIALECT_NAMES)} dialects, {len(NETWORKS)} networks"
        print(f"wrote {len(paths)} files below {folder}: {counts}, {len(DATASETS)} data sets")
        return OK
    choices = {name: getattr(arguments, name) or default for name, default in CHOICES.items()}
    if arguments.training:
        for path in write_training(arguments.output, arguments.network, **choices, **sizes, **schedule):
            print(f"wrote {path}")
        return OK
    written = write_net(arguments.output, arguments.network, weights=arguments.weights, **choices, **sizes)
    print(f"wrote {written.path}: {arguments.network}, {written.layers} layers, dialect {choices['dialect']}")
    if written.weights:
        print(written.weights)
    return OK


def check(arguments: argparse.Namespace) -> None:
    """Raise UsageError with all options that do not go together."""
    with Problems(UsageError) as problems:
        if arguments.all is not None:
            chosen = [name for name in ("network", *CHOICES, "training", "weights") if getattr(arguments, name)]
            for name in chosen:
                problems.add(f"--{name} does not go with --all, which writes every one of them")
            return
        if not arguments.network:
            problems.add("--network is missing", expected=f"one of: {', '.join(NETWORKS)}; or --all")
        if arguments.training:
            if Path(arguments.output).suffix == ".prototxt":
                problems.add(f"--output {arguments.output} is one file", expected="a folder, with --training")
            if arguments.weights:
                problems.add("--weights does not go with --training", fix="write the test net alone")
            return
        for name in ("gpus", "epochs"):
            if getattr(arguments, name) is not None:
                problems.add(f"--{name} does nothing for a test net", fix="add --training")
