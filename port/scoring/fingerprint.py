"""What the scores of a run depend on, by name: a journal that differs in any of it belongs to another run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from prototxt_gen.base.door import opened
from prototxt_gen.base.errors import CaffeError
from prototxt_gen.base.files import os_problem

from ..images.resize import CAFFE
from ..weights.load import weight_files
from .engines import Engine
from .options import Options


def fingerprint(options: Options, engine: Engine, images: Sequence[Path], batch: int) -> dict[str, str]:
    """Name -> value as text, for people to compare. Raises CaffeError for a file that cannot be read."""
    facts = {}
    if options.onnx:
        facts["ONNX model"] = ", ".join(digest(path) for path in [options.onnx, *_beside(options.onnx)])
    if options.prototxt and options.caffemodel:
        facts["prototxt"] = digest(options.prototxt)
        facts["weights"] = ", ".join(digest(path) for path in weight_files(options.caffemodel))
        facts["dialect"] = options.dialect or "detected"
        if opened():
            facts["layers"] = ", ".join(map(digest, opened()))
    facts["output blob"] = engine.output
    facts["images"] = f"{len(images)} ({_names(images, options.image_root)})"
    facts["image root"] = str(options.image_root.resolve()) if options.image_root else "none"
    facts["resize"] = f"{options.resize} to {engine.height}x{engine.width}"
    facts["mean"] = ", ".join(f"{value:.9g}" for value in options.mean)  # 9 digits tell float32 numbers apart
    facts["batch"] = str(batch)
    facts["decoder"] = decoder(options.resize)
    return facts | engine.facts


def digest(path: str | Path) -> str:
    """The first 16 digits of a file's SHA-256; raises CaffeError."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as cause:
        raise CaffeError(os_problem(path, cause, "read")) from None


def _beside(model: Path) -> list[Path]:
    """The files in which a large ONNX model keeps its weights, by name."""
    import onnx

    tensors = onnx.load(model, load_external_data=False).graph.initializer
    places = [entry.value for each in tensors for entry in each.external_data if entry.key == "location"]
    return [model.parent / name for name in sorted(set(places))]


def decoder(resize: str) -> str:
    """The libraries that decode images, whose versions differ in last digits."""
    import cv2
    import PIL
    from PIL import features

    if resize == CAFFE:
        return f"OpenCV {cv2.__version__}"
    return f"Pillow {PIL.__version__}, JPEG library {features.version('libjpeg_turbo') or features.version('jpg')}"


def _names(images: Sequence[Path], root: Path | None) -> str:
    names = [str(image.relative_to(root)) if root else str(image.resolve()) for image in images]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
