"""`python -m reference_weights`: what the authors released, what of it a folder holds; scenes and miniatures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from prototxt_gen.base.command import CHECK_FAILED, OK, dispatch, parser, run, share_examples

from . import manifest, seeding
from .miniatures import verb as miniature
from .shapes import verb as shapes

EXAMPLES = """\
  python -m reference_weights list
  python -m reference_weights list --dataset coco
  python -m reference_weights check ~/srn --dataset coco
  python -m reference_weights shapes --output datasets/shapes --train 10000 --test 2000
  python -m reference_weights shapes --classes --picture shapes.png
  python -m reference_weights miniature --network ResNet-SRN --output runs
  python -m reference_weights seed 7 --prototxt net.prototxt --output net.caffemodel"""


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    about = "What the authors released and what of it a folder holds; synthetic scenes, and nets trained on them."
    command = parser("python -m reference_weights", about, EXAMPLES)
    actions = command.add_subparsers(dest="action", required=True, metavar="COMMAND")
    listing = actions.add_parser(
        "list",
        help="the released files and where the authors published them",
        description="List the released files by archive, with addresses. Nothing is downloaded.",
    )
    check = actions.add_parser(
        "check",
        help="which released files a folder holds, with sizes and hashes",
        description="Look for the released files in a folder; exit status 1 when one is missing or damaged.",
    )
    check.add_argument("root", metavar="DIR", help="the folder that holds models/, datasets/, results/, ...")
    listing.set_defaults(run=show)
    check.set_defaults(run=verify)
    for action in (listing, check):
        action.add_argument("--dataset", metavar="NAME", help=f"only {' or '.join(manifest.datasets())}")
    shapes.add(actions)
    miniature.add(actions)
    seeding.add(actions)
    return share_examples(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and dispatch; returns the exit status: 0 fine, 1 something is missing, 2 bad input."""
    options = arguments().parse_args(argv)
    return dispatch(options)


def show(options: argparse.Namespace) -> int:
    """Print the released files by archive."""
    print(manifest.describe(manifest.load(options.dataset)))
    print("\nSizes and hashes are unknown until somebody records them; `check DIR` prints them.")
    return OK


def verify(options: argparse.Namespace) -> int:
    """Print what is present, with size and hash, and what is missing."""
    absent = manifest.missing(options.root, options.dataset)
    wrong = 0
    for file in manifest.load(options.dataset):
        if not file.named:
            print(f"unknown  {file.path}: {file.purpose}; the authors' name is not known, not checked")
        elif file in absent:
            print(f"missing  {file.path}: {file.purpose}")
            for other in manifest.elsewhere(file, options.root):
                print(f"         is it {other}? Then move it to this name")
        for found in manifest.inspect(file, options.root):
            wrong += bool(found.mismatch)
            verdict = f"  WRONG: {found.mismatch}" if found.mismatch else ""
            print(f"present  {found.path}  {found.bytes:,} bytes  sha256 {found.sha256}{verdict}")
    if absent:
        print(f"\n{len(absent)} missing; `python -m reference_weights list` says where they were published")
    return CHECK_FAILED if absent or wrong else OK


if __name__ == "__main__":
    sys.exit(run(main))
