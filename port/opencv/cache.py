"""Conversions on disk: an ONNX file and what it means in Caffe's words, named by the content of both Caffe files.

The folder is that of the environment variable CAFFE_SRN_CACHE, or `caffe-srn/opencv` in the user's cache folder. It may
be deleted at any time. Files get their names when they are complete, the description last, so that two processes may
convert the same net at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from prototxt_gen.base.errors import CaffeError, CaffeWarning
from prototxt_gen.base.files import atomic_write, write_text

VARIABLE = "CAFFE_SRN_CACHE"
WRITING = 1  # raised whenever the same net would be written otherwise: what was kept before is then not found


@dataclass(frozen=True)
class Meaning:
    """A conversion in Caffe's words."""

    inputs: dict[str, list[int]]  # blob -> shape
    read: list[str]  # the inputs whose values count
    layers: list[list[Any]]  # [name, type, [values of its tops]] in file order, those that compute
    blobs: dict[str, str]  # blob -> value, of the last version
    outputs: list[str]  # the values that the file offers
    ends: list[str]  # names of the layers whose tops nothing reads


@dataclass(frozen=True)
class Form:
    """A conversion: an ONNX file, on disk or in memory, and its meaning."""

    onnx: Path | bytes
    meaning: Meaning

    def open(self) -> Any:
        """The net as OpenCV reads it."""
        return open_net(self.onnx)


def open_net(onnx: Path | bytes) -> Any:
    """An ONNX file as a plain `cv2.dnn.Net`; raises cv2.error."""
    return cv2.dnn.readNetFromONNX(str(onnx) if isinstance(onnx, Path) else np.frombuffer(onnx, np.uint8))


def cache_folder() -> Path:
    """Where conversions are kept."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    else:
        home = "~/Library/Caches" if sys.platform == "darwin" else os.environ.get("XDG_CACHE_HOME", "") or "~/.cache"
    return Path(home).expanduser() / "caffe-srn" / "opencv"


def _stem(said: list[Any]) -> Path:
    """The files' name without ending: by the contents, the form, and the OpenCV that it was checked with."""
    text = json.dumps([WRITING, cv2.__version__, *said])
    return cache_folder() / hashlib.sha256(text.encode()).hexdigest()[:40]


def load_form(said: list[Any]) -> Form | None:
    """A conversion that was kept; None where there is none, or none that can be read."""
    stem = _stem(said)
    try:
        meaning = Meaning(**json.loads(stem.with_suffix(".json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    onnx = stem.with_suffix(".onnx")
    return Form(onnx, meaning) if onnx.is_file() else None


def store_form(said: list[Any], onnx: bytes, meaning: Meaning) -> Form:
    """Keep a conversion; where the folder cannot be written it stays in memory, and a CaffeWarning says so."""
    stem = _stem(said)
    try:
        with atomic_write(stem.with_suffix(".onnx")) as file:
            file.write(onnx)
        write_text(stem.with_suffix(".json"), json.dumps(asdict(meaning)))
    except CaffeError as error:
        text = f"the conversion is not kept: {error}. Set {VARIABLE} to a folder that can be written"
        warnings.warn(text, CaffeWarning, stacklevel=2)
        return Form(onnx, meaning)
    return Form(stem.with_suffix(".onnx"), meaning)
