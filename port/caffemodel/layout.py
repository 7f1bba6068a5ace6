"""Field numbers of Caffe's three generations of layer messages, taken from the schema, and Caffe's limits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from prototxt_gen.schema.messages import DIALECTS, descriptor, native_names

_LAYER = "LayerParameter"
MAX_RANK = 32  # Caffe's kMaxBlobAxes
MAX_COUNT = 2**31 - 1  # values of one blob: Caffe counts in int
MAX_FILE_SIZE = 2**31 - 1  # bytes: protobuf's limit, and so Caffe's


@dataclass(frozen=True)
class Layout:
    """Where a layer message keeps what every layer has; 0: nowhere."""

    message: str
    name: int
    type: int
    bottom: int
    top: int
    blobs: int
    phase: int
    nested: int  # V1's field with the V0 layer


@cache
def layout(message: str) -> Layout:
    """The layout of LayerParameter, V1LayerParameter or V0LayerParameter; both dialects agree on it."""
    fields = descriptor(message, DIALECTS[0]).fields_by_name
    numbers = {
        name: fields[name].number for name in ("name", "type", "bottom", "top", "blobs", "phase") if name in fields
    }
    nested = fields["layer"].number if "layer" in fields else 0
    return Layout(message, **{"bottom": 0, "top": 0, "phase": 0, **numbers}, nested=nested)


@cache
def net_numbers() -> dict[str, int]:
    """The numbers of NetParameter's fields by name; both dialects agree on the common ones."""
    return {field.name: field.number for field in descriptor("NetParameter", DIALECTS[0]).fields}


@cache
def layer_messages() -> dict[int, str]:
    """NetParameter's field number for layers -> the message in it."""
    numbers = net_numbers()
    return {numbers["layer"]: "LayerParameter", numbers["layers"]: "V1LayerParameter"}


@cache
def telling_fields() -> dict[int, tuple[str, str]]:
    """LayerParameter's field numbers that one dialect alone has -> that dialect, the field's name."""
    fields = {
        dialect: {f.number: f for f in descriptor(_LAYER, dialect).fields if (_LAYER, f.name) in native_names(dialect)}
        for dialect in DIALECTS
    }
    return {
        number: (dialect, field.name)
        for dialect in DIALECTS
        for number, field in fields[dialect].items()
        if not any(number in fields[other] for other in DIALECTS if other != dialect)
    }
