"""Layer types of the old formats as today's strings (Caffe's V0 -> V1 -> V2 upgrade)."""

from __future__ import annotations

from functools import cache

from prototxt_gen.schema.messages import DIALECTS, descriptor, native_names
from prototxt_gen.schema.upgrade import V1_TYPES
from prototxt_gen.schema.upgrade_v0 import V0_TYPES

_VIDEO = "c3d_v1"


@cache
def _v1_names(reader: str = DIALECTS[0]) -> dict[int, str]:
    """The enum's values by number: a dialect's own, or all that a fork has."""
    enum = descriptor("V1LayerParameter", reader).fields_by_name["type"].enum_type
    own = native_names(reader) if reader in DIALECTS else None
    named = {value.number: value.name for value in enum.values}
    return {n: name for n, name in named.items() if own is None or ("V1LayerParameter.LayerType", name) in own}


def from_v1(number: int) -> str:
    """The type string of a V1 enum value; a value that Caffe does not have gives `V1LayerType(<number>)`.

    Forks have added values of their own, one number for several types, and weights are matched by name, so an unknown
    one is no error here.
    """
    name = _v1_names().get(number)
    return f"V1LayerType({number})" if name is None else V1_TYPES[name]


def as_video(type: str) -> str:
    """What C3D's first version means by the enum value that is another fork's or BVLC's type."""
    numbers = {from_v1(number): name for number, name in _v1_names(_VIDEO).items()}
    return V1_TYPES[numbers[type]] if type in numbers else type


def from_v0(name: str) -> str:
    """The type string of a V0 type; one without a successor, such as `padding`, stays as it is."""
    return V1_TYPES[V0_TYPES[name]] if name in V0_TYPES else name
