"""Options that several commands share."""

from __future__ import annotations

import argparse


def add_dialect(parser: argparse.ArgumentParser, what: str = "") -> None:
    """--dialect"""
    parser.add_argument("--dialect", choices=["bvlc", "srn"], help=f"{what}default: detected")


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
