"""OpenCV's `readNetFromCaffe` for OpenCV 5, which has none: through our ONNX files (docs/runtimes.md)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2

from .net import CaffeNet
from .source import Source, open_source

__all__ = ["CaffeNet", "install", "readNetFromCaffe"]


def readNetFromCaffe(
    prototxt: Any, caffeModel: Any = None, *, dialect: str | None = None, packs: Iterable[str] = ()
) -> CaffeNet:
    """A Caffe net as a `cv2.dnn.Net`, called as OpenCV 4's function of this name.

    Each argument is a path, or a file's content as bytes, bytearray or a uint8 array. `dialect` and `packs` are
    those of `port.load_net`. Raises ParseError, NetError, WeightsError for files that do not fit, and ExportError
    naming the layer that this OpenCV cannot compute: every new conversion is run once and compared with PyTorch.
    """
    return CaffeNet(Source(open_source(prototxt, "prototxt"), open_source(caffeModel, "caffemodel"), dialect, packs))


def install() -> bool:
    """Make `cv2.dnn.readNetFromCaffe` this module's where OpenCV has none, and let `cv2.dnn.readNet` take Caffe files.

    Returns whether anything was put in place: OpenCV 4 keeps its own reader.
    """
    if hasattr(cv2.dnn, "readNetFromCaffe"):
        return False
    others = cv2.dnn.readNet

    def readNet(model: Any, config: Any = "", framework: str = "", *rest: Any, **named: Any) -> Any:
        """OpenCV's `readNet`, which takes Caffe files too, in either order."""
        paths = [each for each in (config, model) if isinstance(each, (str, Path))]
        if framework.lower() == "caffe":
            return readNetFromCaffe(config, model)
        if len(paths) == 2 and any(Path(each).suffix == ".caffemodel" for each in paths):
            return readNetFromCaffe(*sorted(paths, key=lambda each: Path(each).suffix == ".caffemodel"))
        return others(model, config, framework, *rest, **named)

    for function in (readNetFromCaffe, readNet):
        setattr(cv2.dnn, function.__name__, function)
    return True
