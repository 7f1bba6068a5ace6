"""Options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from prototxt_gen.base.door import add_layers
from prototxt_gen.base.errors import UsageError
from prototxt_gen.schema.messages import DIALECTS
from prototxt_gen.schema.packs import check_packs, joined


class Declared(argparse.Action):
    """--dialect and --packs as one word (`bvlc+ssd`), whichever comes first."""

    def __call__(self, parser, namespace, values, option=None):
        dialect, *packs = (getattr(namespace, self.dest) or "").split("+")
        if option == "--packs":
            packs += values.split(",")
        else:
            dialect, *more = values.split("+")
            packs += more
        if dialect not in ("", *DIALECTS):
            raise argparse.ArgumentError(self, f"invalid choice: '{dialect}' (choose from {', '.join(DIALECTS)})")
        try:
            check_packs(packs)
        except UsageError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        setattr(namespace, self.dest, joined(dialect, packs))


def add_dialect(parser: argparse.ArgumentParser, what: str = "") -> None:
    """--dialect"""
    parser.add_argument("--dialect", action=Declared, metavar="{bvlc,srn}", help=f"{what}default: detected")
    parser.add_argument(
        "--packs",
        dest="dialect",
        action=Declared,
        metavar="NAME,...",
        help="packs of other forks that the net uses, beside those that are recognised (docs/layers.md)",
    )


def add_input_shape(parser: argparse.ArgumentParser) -> None:
    """--input-shape, a list of pairs (blob, shape)."""
    parser.add_argument(
        "--input-shape",
        action="append",
        default=[],
        type=_shape,
        metavar="BLOB=1x3x224x224",
        help="the shape of a data layer's top where only the data tells it, or of an input instead of the "
        "net's own; several times for several",
    )


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    blob, _, shape = text.rpartition("=")
    sizes = shape.split("x")
    if not blob or not all(size.isdecimal() for size in sizes):
        raise argparse.ArgumentTypeError(f"'{text}': expected a blob and its shape, as in data=1x3x224x224")
    return blob, tuple(map(int, sizes))


def add_net(parser: argparse.ArgumentParser) -> None:
    """--prototxt, --caffemodel, which both are needed, and what goes with a net."""
    parser.add_argument("--prototxt", required=True, type=Path, metavar="FILE", help="the deploy net")
    parser.add_argument(
        "--caffemodel", required=True, metavar="A,B", help="weights, binary or HDF5; later files over earlier"
    )
    add_dialect(parser)
    add_layers(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device"""
    parser.add_argument("--device", metavar="cpu|cuda[:N]", help="default: cuda where PyTorch finds one")


def numbers(kind: type, count: int, example: str) -> Callable[[str], tuple]:
    """What reads so many numbers, separated by commas."""

    def read(text: str) -> tuple:
        try:
            values = tuple(map(kind, text.split(",")))
        except ValueError:
            values = ()
        if len(values) != count:
            raise argparse.ArgumentTypeError(f"'{text}': expected {count} numbers, as in {example}")
        return values

    return read
