"""Writes the paper's nets as Caffe files: `python -m prototxt_gen write | list`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .command import OK, parser, run
from .nets import DEFAULT_DATASET, DEFAULT_DIALECT, DEFAULT_PROFILE, DIALECT_NAMES, NETWORKS, PROFILES
from .nets.write import weights_kinds, write_net
from .paper import DATASETS

EXAMPLES = """\
  python -m prototxt_gen list
  python -m prototxt_gen write --network ResNet-SRN --dialect srn --output nets/
  python -m prototxt_gen write --network ResNet-SRN --output srn.prototxt --weights seed:7
  python -m prototxt_gen write --network ResNet-101 --dataset coco --classes 20 --output voc.prototxt"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and carry out one command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    return arguments.command(arguments)


def _parser() -> argparse.ArgumentParser:
    top = parser("python -m prototxt_gen", "Write the paper's nets as Caffe files.", EXAMPLES)
    commands = top.add_subparsers(required=True, metavar="write | list")

    write = commands.add_parser("write", help="write a test net, and weights for it", description=write_command.__doc__)
    write.set_defaults(command=write_command)
    write.add_argument("--network", required=True, help=", ".join(NETWORKS))
    write.add_argument("--dataset", default=DEFAULT_DATASET, help=f"{', '.join(DATASETS)} (default: %(default)s)")
    write.add_argument("--profile", default=DEFAULT_PROFILE, help=f"{', '.join(PROFILES)} (default: %(default)s)")
    write.add_argument("--dialect", default=DEFAULT_DIALECT, help=f"{', '.join(DIALECT_NAMES)} (default: %(default)s)")
    write.add_argument("--classes", type=int, metavar="N", help="number of labels (default: the data set's)")
    write.add_argument(
        "--width-divisor",
        type=int,
        default=1,
        metavar="N",
        help="divide every channel count: a miniature (default: 1)",
    )
    write.add_argument(
        "--output", default=".", metavar="PATH", help="a .prototxt file, or a folder (default: this folder)"
    )
    write.add_argument(
        "--weights",
        default="",
        metavar="KIND:ARGUMENT",
        help="also write a .caffemodel beside it, such as seed:7",
    )
    listing = commands.add_parser("list", help="what can be written", description=list_command.__doc__)
    listing.set_defaults(command=list_command)
    return top


def write_command(arguments: argparse.Namespace) -> int:
    """Write a net's prototxt, and with --weights a .caffemodel beside it."""
    options = {name: value for name, value in vars(arguments).items() if name != "command"}
    written = write_net(**options)
    print(f"wrote {written.path}: {arguments.network}, {written.layers} layers, dialect {arguments.dialect}")
    if written.weights:
        print(written.weights)
    return OK


def list_command(arguments: argparse.Namespace) -> int:
    """List the networks, data sets, profiles, dialects and kinds of weights."""
    sets = {key: f"{data.name}, {data.classes} labels" for key, data in DATASETS.items()}
    kinds = {kind: entry.value.partition(":")[0] for kind, entry in sorted(weights_kinds().items())}
    _print_table("networks", {name: network.about for name, network in NETWORKS.items()})
    _print_table("data sets", sets)
    _print_table("profiles", PROFILES)
    _print_table("dialects", DIALECT_NAMES)
    _print_table("weights", kinds or {"none": "install this project: pip install -e ."})
    return OK


def _print_table(title: str, rows: dict[str, str]) -> None:
    print(f"{title}:")
    for name, about in rows.items():
        print(f"  {name:<12}{about}")


if __name__ == "__main__":
    sys.exit(run(main))
