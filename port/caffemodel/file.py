"""An open .caffemodel: what it holds, and how it is written again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .model import Model
from .writer import write_caffemodel


class ModelFile(Model):
    """An open .caffemodel: `path`, the net's `name`, `layers` in file order, net-level `inputs`."""

    def write(self, path: str | Path, replace: Mapping[tuple[str | int, int], Any] | None = None) -> None:
        """Write the file again, byte for byte but for the values of the blobs in `replace`.

        `replace` maps (layer name or index, blob index) to an array of the blob's shape; axes of length 1 may
        differ. A stored gradient stays. Raises WeightsError with all that does not fit.
        """
        write_caffemodel(self, path, replace)
