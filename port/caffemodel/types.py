"""Layer types of the old formats as today's strings (Caffe's V0 -> V1 -> V2 upgrade)."""

from __future__ import annotations

from functools import cache

from prototxt_gen.schema.messages import DIALECTS, descriptor
from prototxt_gen.schema.upgrade import V1_TYPES
from prototxt_gen.schema.upgrade_v0 import V0_TYPES


@cache
def _v1_names() -> dict[int, str]:
    enum = descriptor("V1LayerParameter", DIALECTS[0]).fields_by_name["type"].enum_type
    return {value.number: value.name for value in enum.values}


def from_v1(number: int) -> str:
    """The type string of a V1 enum value; a value that Caffe does not have gives `V1LayerType(<number>)`.

    Forks have added values of their own, and weights are matched by name, so an unknown one is no error here.
    """
    name = _v1_names().get(number)
    return f"V1LayerType({number})" if name is None else V1_TYPES[name]


def from_v0(name: str) -> str:
    """The type string of a V0 type; one without a successor, such as `padding`, stays as it is."""
    return V1_TYPES[V0_TYPES[name]] if name in V0_TYPES else name
