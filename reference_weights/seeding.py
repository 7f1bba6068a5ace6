"""python -m reference_weights seed: weights for any net without a download."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from prototxt_gen.base.command import OK
from prototxt_gen.base.door import add_layers


def add(actions: Any) -> None:
    """Add the command and its arguments."""
    verb = actions.add_parser(
        "seed",
        help="write weights for a net from a seed",
        description="Write a .caffemodel of made-up weights for any net: its own fillers, statistics that fit them, "
        "the same bytes everywhere.",
    )
    add_layers(verb)
    verb.set_defaults(run=run)
    verb.add_argument("seed", metavar="SEED", help="a whole number of 0 or more")
    verb.add_argument("--prototxt", required=True, type=Path, metavar="FILE")
    verb.add_argument("--output", required=True, type=Path, metavar="FILE", help="HDF5 if it ends in .h5")


def run(options: argparse.Namespace) -> int:
    """Write the weights."""
    from .seed import write_for_net

    print(write_for_net(options.prototxt, options.seed, options.output))
    return OK
