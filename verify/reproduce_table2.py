"""Reproduce Table 2 of the paper (MS-COCO): the paper's figures, ours and the difference."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # run as a script: the packages lie one folder up, and this folder is no path
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from prototxt_gen.base.command import run
from verify.tables import command


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when every figure is reproduced, 1 when one is not or none can be, 2 for bad input or usage.

    Without scores, net or released files the status is that of the built-in example.
    """
    return command.main(2, argv)


if __name__ == "__main__":
    sys.exit(run(main))
