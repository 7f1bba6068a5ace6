"""Caffe's rules in plain loops, written from the documented semantics alone: the judge of the float64 reference.

A rule takes a `Setting` and the bottoms and returns the tops. It asks the setting for the layer's blobs, in
Caffe's order, so that their number and shapes are judged too. It raises `Refused` for what Caffe aborts on and
`Unclear` where the semantics say nothing: there any answer is right that is no traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .nets import Arrays, Case

FLT_MAX = float(np.finfo(np.float32).max)
FLT_MIN = float(np.finfo(np.float32).tiny)


class Refused(Exception):
    """Caffe aborts on this layer."""


class Unclear(Exception):
    """The semantics do not say what happens."""


class Setting:
    """The written fields of a layer, where it stands, and its blobs."""

    def __init__(self, case: Case):
        self.case, self.srn, self.train = case, case.dialect == "srn", case.phase == "TRAIN"
        self.tops = case.tops
        self.blobs: Arrays = []
        self.after: dict[int, np.ndarray] = {}  # blobs that forward changed
        self.random = np.random.RandomState([case.seed, 99])

    def blob(self, *shape: int, positive: bool = False) -> np.ndarray:
        """The next blob of the layer, with random float32 values."""
        made = self.random.uniform(0.2, 2, shape) if positive else self.random.standard_normal(shape)
        self.blobs.append(np.asarray(made).astype(np.float32))
        return self.blobs[-1].astype(np.float64)

    @property
    def final_blobs(self) -> Arrays:
        """The blobs after forward."""
        return [self.after.get(i, blob) for i, blob in enumerate(self.blobs)]

    def given(self, param: str) -> Given:
        """The fields of one `*_param` block."""
        return Given(self.case.fields.get(param, {}))


class Given:
    """Fields as written; floats as Caffe holds them."""

    def __init__(self, fields: Mapping[str, Any]):
        self.fields = fields

    def has(self, name: str) -> bool:
        return name in self.fields

    def get(self, name: str, default: Any = None) -> Any:
        value = self.fields.get(name, default)
        return float(np.float32(value)) if isinstance(value, float) else value

    def many(self, name: str) -> list:
        """A repeated field."""
        value = self.fields.get(name, [])
        values = value if isinstance(value, list) else [value]
        return [float(np.float32(v)) if isinstance(v, float) else v for v in values]


Rule = Callable[..., list]
RULES: dict[str, Rule] = {}


def rule(*types: str) -> Callable[[Rule], Rule]:
    """Enter a rule for one or several layer types."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(types, function))
        return function

    return enter


def judge(case: Case) -> tuple[Setting, Arrays]:
    """The setting with its blobs, and the tops in float64; raises Refused or Unclear."""
    setting = Setting(case)
    with np.errstate(all="ignore"):
        tops = RULES[case.type](setting, *(x.astype(np.float64) for x in case.inputs()))
    return setting, [np.asarray(top, np.float64) for top in tops]


def check(condition: Any, reason: str = "") -> None:
    """Refuse unless a condition of Caffe's holds."""
    if not condition:
        raise Refused(reason)


def clear(condition: Any, reason: str = "") -> None:
    """Leave the case open unless a condition holds."""
    if not condition:
        raise Unclear(reason)


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front; out of range is fatal."""
    check(-rank <= axis < rank, "axis")
    return axis + rank if axis < 0 else axis


def legacy(x: np.ndarray) -> np.ndarray:
    """A blob as num x channels x height x width; axes that it does not have are 1."""
    check(x.ndim <= 4, "legacy accessors")
    return x.reshape(x.shape + (1,) * (4 - x.ndim))


def count(shape) -> int:
    """The product of some extents."""
    n = 1
    for extent in shape:
        n *= int(extent)
    return n


def places(shape):
    """All indices of an array."""
    return np.ndindex(*map(int, shape))
