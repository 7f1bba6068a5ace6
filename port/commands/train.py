"""python -m port train: train a net as its solver file says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from prototxt_gen.base import command
from prototxt_gen.base.door import add_layers

from .options import add_dialect

EXAMPLES = """  python -m port train --solver solver.prototxt --weights resnet101.caffemodel
  python -m port train --solver solver.prototxt --resume latest
  torchrun --nproc-per-node 4 -m port train --solver solver.prototxt"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    train = verbs.add_parser(
        "train",
        help="train a net as its solver file says",
        description="Train as Caffe does. Ctrl-C and SIGTERM end after the running iteration, with a snapshot.",
    )
    train.set_defaults(run=run)
    train.add_argument("--solver", required=True, type=Path, metavar="FILE", help="the solver prototxt")
    train.add_argument(
        "--weights", action="append", default=[], metavar="A,B", help="caffemodels to start from; later over earlier"
    )
    train.add_argument(
        "--resume",
        metavar="STATE",
        help="go on from a .solverstate, ours or Caffe's; 'latest': from the newest one, if any",
    )
    train.add_argument("--snapshot-prefix", metavar="PREFIX", help="instead of the solver's; also names log and tables")
    train.add_argument("--workers", type=int, default=2, metavar="N", help="processes that load data ahead (default 2)")
    train.add_argument("--seed", type=int, metavar="N", help="instead of the solver's random_seed")
    train.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where it is, unless solver_mode is CPU")
    add_dialect(train, "as which Caffe does; ")
    train.add_argument("--restart-data", action="store_true", help="resume with data and random numbers anew")
    add_layers(train)
    _add_deviations(train)


def _add_deviations(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("not in Caffe", "off unless given, and printed when they are on")
    group.add_argument("--plateau", action="store_true", help="divide the rate by 10 when the test loss saturates")
    group.add_argument(
        "--plateau-patience", type=int, default=5, metavar="N", help="tests without improvement (default 5)"
    )
    group.add_argument(
        "--plateau-threshold",
        type=float,
        default=1e-3,
        metavar="X",
        help="share of the best loss that counts (default 0.001)",
    )
    group.add_argument(
        "--plateau-smallest", type=float, default=1e-5, metavar="RATE", help="the last rate (default 1e-5)"
    )
    group.add_argument("--plateau-factor", type=float, default=0.1, metavar="X", help="times the rate (default 0.1)")
    group.add_argument("--channels-last", action="store_true", help="keep images channels last in memory")
    group.add_argument("--amp", action="store_true", help="compute products in bfloat16")
    group.add_argument("--compile", action="store_true", help="compile the net with torch.compile")
    group.add_argument(
        "--fused",
        action="store_true",
        help="join each BatchNorm with the Scale behind it, and the updates of all blobs (SGD, Nesterov)",
    )


def run(args: argparse.Namespace) -> int:
    """Train; exit status 0, or 128 plus the number of the signal that ended it."""
    from ..training import Options, PlateauOptions, Speed, train

    plateau = PlateauOptions(args.plateau_patience, args.plateau_threshold, args.plateau_smallest, args.plateau_factor)
    options = Options(
        weights=[part for given in args.weights for part in given.split(",") if part.strip()],
        resume=args.resume,
        prefix=args.snapshot_prefix,
        workers=args.workers,
        seed=args.seed,
        device=args.device,
        dialect=args.dialect,
        restart_data=args.restart_data,
        plateau=plateau if args.plateau else None,
        speed=Speed(args.channels_last, args.amp, args.compile, args.fused),
    )
    signal = train(args.solver, options)
    return command.SIGNALLED + signal if signal else command.OK
