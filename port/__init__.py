"""Turns any Caffe net into an equivalent PyTorch graph and ONNX file.

The names below load torch when they are first used, so that `import port.caffemodel` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .convert import convert_net, convert_weights
    from .layers import BlobSpec, Misfit, UserLayer, extend_schema, register, register_python
    from .net import load_net, load_weights, params, run_blobs, save_caffemodel
    from .onnx.export import export_onnx
    from .solver import load_solver
    from .weights.mean import read_mean, write_mean

_HOMES = {
    "load_net": "net",
    "run_blobs": "net",
    "params": "net",
    "save_caffemodel": "net",
    "export_onnx": "onnx.export",
    "load_solver": "solver",
    "load_weights": "net",
    "convert_net": "convert",
    "convert_weights": "convert",
    "read_mean": "weights.mean",
    "write_mean": "weights.mean",
    # for layer types of one's own
    "BlobSpec": "layers",
    "Misfit": "layers",
    "UserLayer": "layers",
    "register": "layers",
    "register_python": "layers",
    "extend_schema": "layers",
}

__all__ = [
    "BlobSpec",
    "Misfit",
    "UserLayer",
    "convert_net",
    "convert_weights",
    "export_onnx",
    "extend_schema",
    "load_net",
    "load_solver",
    "load_weights",
    "params",
    "read_mean",
    "register",
    "register_python",
    "run_blobs",
    "save_caffemodel",
    "write_mean",
]


def __getattr__(name: str) -> Any:
    if name == "opencv":  # port.opencv.install(), the one line more of an old program, after `import port` alone
        return import_module(f".{name}", __name__)
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module 'port' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
