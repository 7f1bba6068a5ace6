"""Layers as nobody should write them: fields at the ends of their ranges, bottoms of any rank, empty axes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from prototxt_gen.schema import descriptor, is_repeated

from .draws import MAKERS, Draw
from .nets import Bottom, Case, Word

_INTEGERS = [0, 1, -1, 2, 3, 7, 1000, 2**31 - 1, -(2**31), 2**32 - 1]
_FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-38, -3e38, 3e38, "inf", "-inf", "nan"]
_RANGES = {
    "CPPTYPE_UINT32": (0, 2**32),
    "CPPTYPE_INT32": (-(2**31), 2**31),
    "CPPTYPE_INT64": (-(2**31), 2**32),
}


def _value(draw: Draw, field: Any) -> Any:
    """A value that the schema allows, at the end of its range."""
    if field.enum_type is not None:
        return Word(draw(st.sampled_from(sorted(field.enum_type.values_by_name))))
    if field.message_type is not None:
        inner = draw(st.sampled_from(list(field.message_type.fields)))
        return {inner.name: _value(draw, inner)}
    if field.cpp_type == field.CPPTYPE_BOOL:
        return draw(st.booleans())
    if field.cpp_type == field.CPPTYPE_STRING:
        return draw(st.sampled_from(["", "constant", "gaussian", "bilinear", "nowhere"]))
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        value = draw(st.sampled_from(_FLOATS))
        return Word(value) if isinstance(value, str) else value
    low = 0 if field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64) else -(2**31)
    # so much padding would have to be made
    high = 1001 if field.name.startswith("pad") else 2**32 if low == 0 else 2**31
    return draw(st.sampled_from([n for n in _INTEGERS if low <= n < high]))


def _shape(draw: Draw, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Another shape: an axis more, one less, an empty or a large one."""
    how = draw(st.integers(0, 4))
    if how == 0 or not shape:
        return (*shape, draw(st.integers(1, 3)))
    if how == 1:
        return shape[1:]
    if how == 2:
        return shape[:-1]
    at = draw(st.integers(0, len(shape) - 1))
    return (*shape[:at], 0 if how == 3 else draw(st.integers(1, 9)), *shape[at + 1 :])


@st.composite
def hostile(draw: Any, type: str, dialect: str) -> Case:
    """A layer of a type with one to three things changed for the worse."""
    case: Case = MAKERS[type](draw, dialect)
    blocks = [f for f in descriptor("LayerParameter", dialect).fields if f.name in case.fields]
    for _ in range(draw(st.integers(1, 3))):
        how = draw(st.integers(0, 5))
        if how <= 2 and blocks:
            block = draw(st.sampled_from(blocks))
            field = draw(st.sampled_from(list(block.message_type.fields)))
            value = _value(draw, field)
            if is_repeated(field):
                value = [value] * draw(st.integers(0, 3))
            case = replace(case, fields={**case.fields, block.name: {**case.fields[block.name], field.name: value}})
        elif how == 3 and case.bottoms:
            at = draw(st.integers(0, len(case.bottoms) - 1))
            changed = replace(case.bottoms[at], shape=_shape(draw, case.bottoms[at].shape))
            case = replace(case, bottoms=(*case.bottoms[:at], changed, *case.bottoms[at + 1 :]))
        elif how == 4:
            number = draw(st.integers(0, 4))
            bottoms = [case.bottoms[i] if i < len(case.bottoms) else Bottom((2, 3)) for i in range(number)]
            case = replace(case, bottoms=tuple(bottoms), in_place=False)
        else:
            case = replace(case, tops=draw(st.integers(0, 4)), in_place=False)
    return case
