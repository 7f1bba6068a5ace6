"""The trained miniatures that come with the project."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from prototxt_gen.base.errors import DataError, Problem
from prototxt_gen.base.files import read_text

from .recipe import NETWORKS

FIX = "install the project again, or train it: python -m reference_weights miniature"


@dataclass(frozen=True)
class Model:
    """A trained miniature: its caffemodel, and what its training left on record (seconds, command, versions)."""

    network: str
    seed: int
    caffemodel: Path
    about: dict[str, Any]

    @property
    def name(self) -> str:
        """Its row in a table."""
        return f"{self.network}, seed {self.seed}"

    @property
    def minutes(self) -> float:
        """How long all steps of its training took, those it shares with other networks included."""
        return sum(self.about["seconds"].values()) / 60


def folder() -> Path:
    """Where the miniatures lie: a folder for each seed."""
    return Path(str(resources.files(__package__))) / "models"


def models(root: Path | None = None) -> list[Model]:
    """All miniatures, in the paper's order of networks and by seed; raises DataError for a damaged one."""
    found, problems = [], []
    for record in sorted((root or folder()).glob("seed*/*.json")):
        about = json.loads(read_text(record, DataError))
        caffemodel = record.with_suffix(".caffemodel")
        if not caffemodel.is_file():
            problems.append(Problem("there is no such file", "the weights of a miniature", FIX, file=caffemodel))
        elif (sha256 := hashlib.sha256(caffemodel.read_bytes()).hexdigest()) != about["sha256"]:
            problems.append(Problem(f"sha256 {sha256}", f"{about['sha256']}, as {record}", FIX, file=caffemodel))
        found.append(Model(about["network"], about["seed"], caffemodel, about))
    if problems or not found:
        raise DataError(problems or Problem("there are no miniatures", "caffemodels", FIX, file=root or folder()))
    return sorted(found, key=lambda model: (NETWORKS.index(model.network), model.seed))
