"""Layers of the surroundings: HDF5Output, the fork's Gather and Scatter, Python."""

from __future__ import annotations

from typing import Any

import torch

from .base import Layer, Misfit, register


@register
class HDF5Output(Layer):
    """Writes its two bottoms to a file in Caffe; here it computes nothing (hdf5_output_layer)."""

    type = "HDF5Output"
    param = ("hdf5_output_param",)
    kind = "host-only"
    bottom_count = (2, 2)
    top_count = (0, 0)

    file_name: str = ""

    def top_shapes(self, x, label):
        return ()

    def reference(self, blobs, x, label):
        return ()

    def forward(self, module, x, label):
        return ()

    def onnx(self, graph, x, label):
        return ()


class _Ranks(Layer):
    """Moves batches between MPI ranks; with one process it hands its bottoms on (semantics 1.24)."""

    kind = "host-only"
    bottom_count = top_count = (1, None)

    def top_shapes(self, *bottoms):
        if self.at.tops != len(bottoms):
            raise Misfit(f"{len(bottoms)} bottoms and {self.at.tops} tops", "as many tops as bottoms", "top")
        return bottoms

    def reference(self, blobs, *bottoms):
        return bottoms

    def forward(self, module, *bottoms):
        return bottoms

    def onnx(self, graph, *bottoms):
        return bottoms


@register
class Gather(_Ranks):
    """Joins the batches of all ranks; identity with one process; semantics 1.24 (gather_layer of the fork)."""

    type = "Gather"
    family = "joining"
    across_ranks = True


@register
class Scatter(_Ranks):
    """Undoes Gather; identity with one process; semantics 1.24 (scatter_layer of the fork)."""

    type = "Scatter"
    family = "joining"
    across_ranks = True


PYTHON: dict[str, type] = {}


def register_python(key: str) -> Any:
    """Class decorator: the torch module that runs the Python layers `module.layer` named by `key`.

    The class takes `param_str` and `phase` ("TRAIN" or "TEST"), and has `top_shapes(self, *shapes)` and
    `forward(self, *bottoms)`; `reference` (float64 NumPy) and `onnx` are optional.
    """

    def enter(cls: type) -> type:
        PYTHON[key] = cls
        return cls

    return enter


@register
class Python(Layer):
    """A layer written by the user: the torch module registered for its module and class; semantics 1.23."""

    type = "Python"
    param = ("python_param",)
    bottom_count = top_count = (0, None)
    onnx_note = "where the registered class has an `onnx` method"

    module: str = ""
    layer: str = ""
    param_str: str = ""
    share_in_parallel: bool = False

    @property
    def user(self) -> Any:
        """A new instance of the registered class; raises Misfit with the lines to write when there is none."""
        key = f"{self.module}.{self.layer}"
        if key not in PYTHON:
            raise Misfit(
                f"no torch module is registered for the Python layer '{key}'",
                field="python_param",
                fix=f"register one: import port, torch; @port.register_python('{key}'); "
                f"class {self.layer or 'MyLayer'}(torch.nn.Module): "
                "with __init__(self, param_str, phase), top_shapes(self, *shapes) and forward(self, *bottoms)",
            )
        made = PYTHON[key](self.param_str, self.at.phase)
        if hasattr(made, "tops"):  # it wants to know how many the net asks for
            made.tops = self.at.tops
        return made

    @property
    def selects(self) -> bool:  # type: ignore[override]
        """Whether the registered class says that how many items its tops have depends on values."""
        return bool(getattr(PYTHON.get(f"{self.module}.{self.layer}"), "selects", False))

    def top_shapes(self, *bottoms):
        shapes = tuple(tuple(map(int, shape)) for shape in self.user.top_shapes(*bottoms))
        if len(shapes) != self.at.tops:
            raise Misfit(f"{len(shapes)} shapes from top_shapes", f"{self.at.tops}, one a top", "top")
        return shapes

    def reference(self, blobs, *bottoms):
        user = self.user
        own = getattr(user, "reference", None)
        if own is not None:
            return _tuple(own(*bottoms))
        with torch.no_grad():  # the user's own code is the only definition there is
            tops = user.double()(*(torch.from_numpy(b) for b in bottoms))
        return tuple(top.numpy() for top in _tuple(tops))

    def forward(self, module, *bottoms):
        return _tuple(module.user(*bottoms))

    def onnx(self, graph, *bottoms):
        own = getattr(self.user, "onnx", None)
        if own is None:
            raise Misfit(
                "a Python layer without an ONNX form", "an `onnx(self, graph, *bottoms)` method", "python_param"
            )
        return _tuple(own(graph, *bottoms))

    def modules(self):
        return {"user": self.user}


def _tuple(tops: Any) -> tuple:
    return tuple(tops) if isinstance(tops, tuple | list) else (tops,)
