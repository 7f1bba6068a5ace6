"""The fillers of a net's parameters: what Caffe refuses in them when it sets a layer up (filler.hpp; semantics 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prototxt_gen.base.errors import Problems

from ..layers import Misfit
from ..weights.fillers import check_filler

if TYPE_CHECKING:
    from .graph import Node


def check_fillers(nodes: list[Node], dialect: str, problems: Problems) -> None:
    """Complain about fillers that Caffe refuses, also of blobs that are loaded or shared: it fills them all first."""
    for node in nodes:
        for spec in node.specs:
            try:
                check_filler(spec.filler, spec.shape, dialect)
            except Misfit as misfit:
                problems.add(**misfit.parts, layer=node.name, line=node.line)
