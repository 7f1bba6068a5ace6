"""What a layer's `onnx` rule writes with."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Shape = tuple[int, ...]


class OnnxWriter(Protocol):
    """What a layer's `onnx` rule may write with; port/onnx/builder.py is the one that writes."""

    opset: int

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; returns the name of its output, or a tuple of names."""

    def constant(self, value: Any, dtype: Any = np.float32, name: str = "constant") -> str:
        """A constant tensor."""

    def blob(self, index: int, shape: Shape | None = None) -> str:
        """The layer's blob as a constant, reshaped where a shape is given."""

    def shape(self, value: str) -> Shape:
        """Shape of a bottom at the net's own batch size."""
