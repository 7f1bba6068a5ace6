"""What a runtime is: something that computes the blobs of a net, to be compared with the float64 reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from port.module import CaffeNet

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Job:
    """A net, the files that it was read from, and what it is fed with."""

    net: CaffeNet
    prototxt: Path
    caffemodel: Any  # a path, a list of files, or None
    inputs: Mapping[str, np.ndarray]
    device: str = "cpu"


def _takes_all(job: Job) -> str:
    return ""


@dataclass(frozen=True)
class Runtime:
    """An implementation: `run` gives values by name, `refuses` says why it cannot run a net ("" where it can)."""

    name: str  # in reports
    place: int  # among the columns of a report
    run: Callable[[Job], Arrays]
    refuses: Callable[[Job], str] = _takes_all
    hides: bool = False  # may not show inner values; outputs it must
