"""python -m reference_weights miniature: train one of the miniatures from seeds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from prototxt_gen.base.command import OK, SIGNALLED

from .recipe import PROFILE


def add(actions: Any) -> None:
    """Add the command and its arguments."""
    verb = actions.add_parser(
        "miniature",
        help="train a miniature of a network of the paper on the synthetic scenes",
        description="Draw the scenes, write the net at an eighth of the width, and train it by the paper's steps, from "
        "seeds. Run again, it goes on where it was; steps that networks share are trained once.",
    )
    verb.set_defaults(run=run)
    verb.add_argument("--network", required=True, help="ResNet-101, ResNet-SRN, ... (python -m prototxt_gen list)")
    verb.add_argument("--output", required=True, type=Path, metavar="DIR", help="the folder for scenes and nets")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="of fillers, order and crops (default: 0)")
    verb.add_argument("--workers", type=int, default=1, metavar="N", help="processes that load data (default: 1)")
    verb.add_argument(
        "--profile",
        default=PROFILE,
        metavar="NAME",
        help=f"of the generator; default: {PROFILE}, the text's head with the release's normalisation",
    )


def run(options: argparse.Namespace) -> int:
    """Train; returns the exit status: 0, or 128 plus the number of the signal that stopped it."""
    from .train import train_miniature

    signal = train_miniature(options.network, options.output, options.seed, options.workers, options.profile)
    return SIGNALLED + signal if signal else OK
