"""python -m port: inspect | upgrade | convert | export | lmdb | train | score | classify | detect | features."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from prototxt_gen.base import command

from .commands import COMMANDS


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    return command.program("python -m port", "Bring a Caffe net to PyTorch and ONNX.", COMMANDS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return command.dispatch(arguments().parse_args(argv))


if __name__ == "__main__":
    sys.exit(command.run(main))
