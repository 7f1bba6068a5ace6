"""Turns any Caffe net into an equivalent PyTorch graph and ONNX file.

The names below load torch when they are first used, so that `import port.caffemodel` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .net import load_net, params, run_blobs, save_caffemodel
    from .onnx_export import export_onnx

_HOMES = {
    "load_net": "net",
    "run_blobs": "net",
    "params": "net",
    "save_caffemodel": "net",
    "export_onnx": "onnx_export",
}

__all__ = ["export_onnx", "load_net", "params", "run_blobs", "save_caffemodel"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module 'port' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
