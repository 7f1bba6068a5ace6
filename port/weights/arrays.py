"""Weights without their net: every blob of a weights file by layer name, as .npz or .safetensors."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from prototxt_gen.base.errors import Problem, Problems, UsageError, WeightsError
from prototxt_gen.base.files import atomic_write

from ..caffemodel.sniff import printable
from .load import open_weights, weight_files
from .sources import file_facts, sources, versions

FORMATS = ("npz", "safetensors")
MOST_COMMENT = 65535  # bytes, of a zip archive


def weight_arrays(caffemodel: Any) -> dict[str, np.ndarray]:
    """The blobs of weights files of any fork by `layer/index`, in the files' order; of several files the later wins.

    Types are the stored ones (float32, float64, float16). A second layer of a name is `name#2/index`. Raises
    WeightsError with all files that cannot be read.
    """
    arrays: dict[str, np.ndarray] = {}
    with Problems(WeightsError) as problems:
        for path in weight_files(caffemodel):
            try:
                with open_weights(path) as model:
                    arrays |= _of_model(model)
            except WeightsError as error:
                problems.found += error.problems
    return arrays


def _of_model(model: Any) -> dict[str, np.ndarray]:
    seen: dict[str, int] = {}
    found: dict[str, np.ndarray] = {}
    for layer in model.layers:
        blobs = layer.blobs if isinstance(layer.blobs, dict) else dict(enumerate(layer.blobs))
        if not blobs:
            continue
        seen[layer.name] = seen.get(layer.name, 0) + 1
        name = layer.name if seen[layer.name] == 1 else f"{layer.name}#{seen[layer.name]}"
        # aligned and of one's own: a view would look into a file that may be replaced
        found |= {f"{name}/{index}": np.array(blob.data) for index, blob in blobs.items()}
    return found


def arrays_format(path: Path, given: str | None) -> str:
    """The format that is meant: as given, or as the file's name ends; raises UsageError."""
    form = given or path.suffix.removeprefix(".")
    if form not in FORMATS:
        found = f"the name does not say the format ({path.suffix or 'no ending'})"
        raise UsageError(Problem(found, " or ".join(f".{each}" for each in FORMATS), "or give --format", file=path))
    return form


def origin(caffemodel: Any) -> dict[str, str]:
    """What a file of arrays says of its origin: the weights files, their SHA-256, the project's version."""
    return file_facts(sources("caffemodel", weight_files(caffemodel))) | versions()


def save_arrays(arrays: dict[str, np.ndarray], path: Path, form: str, facts: Mapping[str, str] | None = None) -> None:
    """Write arrays by name as .npz or .safetensors; raises CaffeError (disk full) or UsageError (not installed).

    `facts` become the metadata of a .safetensors file and the comment of the zip archive that an .npz file is.
    """
    strange = [name for name in arrays if "\0" in name]
    if strange:
        raise WeightsError(
            Problem(f"a name with a NUL: {printable(strange[0])}", fix="write the other format", file=path)
        )
    if form == "npz":
        with atomic_write(path, "w+b") as file:
            np.savez(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]
            _comment(file, facts or {})
        return
    try:
        from safetensors.numpy import save
    except ImportError:
        fix = "install it (pip install safetensors), or write .npz"
        raise UsageError(Problem("safetensors is not installed", fix=fix, file=path)) from None
    data = save(arrays, metadata={"format": "caffe", **(facts or {})})
    length = int.from_bytes(data[:8], "little")
    with atomic_write(path) as file:
        file.write(_ordered(data[8 : 8 + length]))
        file.write(memoryview(data)[8 + length :])


def _ordered(header: bytes) -> bytes:
    """The head of a .safetensors file with its metadata in order: the library writes it in another one each time."""
    entries = json.loads(header)
    entries["__metadata__"] = dict(sorted(entries["__metadata__"].items()))
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _comment(file: IO, facts: Mapping[str, str]) -> None:
    """Put facts into the comment of a zip archive, where no array can be in their way; NumPy skips it."""
    text = json.dumps(facts, sort_keys=True).encode()
    if facts and len(text) <= MOST_COMMENT:
        file.seek(0)
        with zipfile.ZipFile(file, "a") as archive:
            archive.comment = text
