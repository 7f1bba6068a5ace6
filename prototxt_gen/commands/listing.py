"""python -m prototxt_gen list: what can be written."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from ..base.command import OK
from ..nets import DATASETS, DIALECT_NAMES, NETWORKS, PROFILES
from ..nets.write import WEIGHTS

EXAMPLES = "  python -m prototxt_gen list"


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser("list", help="what can be written", description=run.__doc__)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List the networks with their training steps, data sets, profiles, dialects and kinds of weights."""
    networks = []
    for name, network in NETWORKS.items():
        networks += [
            (name, network.about),
            *((f"  {step.stem}", step.from_start(step.start)) for step in network.steps),
        ]
    show("networks and the steps of their training", networks)
    show("data sets", [(key, _about(data)) for key, data in DATASETS.items()])
    show("profiles", [(name, profile.about) for name, profile in PROFILES.items()])
    show("dialects", DIALECT_NAMES.items())
    show("weights", WEIGHTS.items())
    return OK


def show(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Print a titled table of two columns."""
    rows = list(rows)
    width = max(len(name) for name, _ in rows) + 2
    print(f"{title}:")
    for name, about in rows:
        print(f"  {name:<{width}}{about}")


def _about(data: Any) -> str:
    images = f"{data.training_images:,} training and {data.test_images:,} test images"
    if data.released:
        images += f" (released: {data.released[0]:,} and {data.released[1]:,})"
    return f"{data.name}, {data.classes} labels, {images}"
