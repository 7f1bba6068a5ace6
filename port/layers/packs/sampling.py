"""Sampling maps at places that only sizes decide: two neighbours of each place, or a matrix of weights an axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..base import Misfit, Shape, show


@dataclass(frozen=True)
class Pairs:
    """For each sample along an axis the cell before it, the one after it (or the last), and the latter's share."""

    low: np.ndarray
    high: np.ndarray
    share: np.ndarray

    @classmethod
    def at(cls, places: np.ndarray, length: int) -> Pairs:
        """The neighbours of places in float32, as the forks compute them."""
        low = np.minimum(np.floor(places).astype(np.int64), length - 1)
        return cls(low, np.minimum(low + 1, length - 1), (places - low.astype(np.float32)).astype(np.float32))

    @property
    def whole(self) -> bool:
        """Whether every sample is a cell, so that no neighbour counts."""
        return not self.share.any()


def require_cells(*maps: Shape) -> None:
    """Raise Misfit for maps N x C x H x W without a row or a column, of which no sample can be taken."""
    for each in maps:
        if not min(each[2:]):
            raise Misfit(f"a map of {show(each)} to sample", "a row and a column or more", "bottom")


def along(values: np.ndarray, axis: int, rank: int) -> Any:
    """A vector shaped to broadcast along an axis."""
    return values.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


def sampled(x: np.ndarray, axis: int, pairs: Pairs) -> np.ndarray:
    """NumPy: x sampled along an axis."""
    share = along(pairs.share.astype(np.float64), axis, x.ndim)
    return np.take(x, pairs.low, axis) * (1 - share) + np.take(x, pairs.high, axis) * share


def sampled_torch(x: torch.Tensor, axis: int, pairs: Pairs) -> torch.Tensor:
    """torch: x sampled along an axis."""
    low, high = (x.index_select(axis, torch.from_numpy(cells).to(x.device)) for cells in (pairs.low, pairs.high))
    share = torch.from_numpy(along(pairs.share, axis, x.dim())).to(x)
    return low * (1 - share) + high * share


def sampled_onnx(graph: Any, x: str, axis: int, pairs: Pairs) -> str:
    """ONNX: a map of four axes sampled along one of them."""
    low = graph.op("Gather", x, graph.constant(pairs.low, np.int64, "cells"), axis=axis)
    if pairs.whole:
        return low
    high = graph.op("Gather", x, graph.constant(pairs.high, np.int64, "cells"), axis=axis)
    share = along(pairs.share, axis, 4)
    low = graph.op("Mul", low, graph.constant(np.float32(1) - share, name="share"))
    return graph.op("Add", low, graph.op("Mul", high, graph.constant(share, name="share")))


@dataclass(frozen=True)
class Weights:
    """The last two axes of a map times a matrix each: samples x cells."""

    rows: np.ndarray
    columns: np.ndarray

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return np.einsum("ih,nchw,jw->ncij", self.rows, x, self.columns)

    def torch(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = (torch.from_numpy(matrix).to(x) for matrix in (self.rows, self.columns))
        return rows @ x @ columns.T

    def onnx(self, graph: Any, x: str) -> str:
        y = graph.op("MatMul", graph.constant(self.rows, name="rows"), x)
        return graph.op("MatMul", y, graph.constant(self.columns.T, name="columns"))
