"""Reads .caffemodel and mean files: maps them, finds layers and blobs on the wire, checks, copies nothing."""

from __future__ import annotations

import math
import mmap
import stat
from pathlib import Path

from prototxt_gen.base.errors import Problem, Problems, WeightsError
from prototxt_gen.base.files import os_problem
from prototxt_gen.base.formats import HEAD

from .file import ModelFile
from .layout import MAX_COUNT, MAX_RANK, Layout, layer_messages, layout, net_numbers, telling_fields
from .model import Blob, ModelLayer, Source, Values
from .sniff import BLOB, CAFFEMODEL, other_file, printable
from .types import as_video, from_v0, from_v1
from .wire import LENGTH, VARINT, Field, Scan, WireError, signed, varint, wrong_type

_DAMAGED = "the file is damaged or was not fetched completely: fetch it again and compare its size"
_LONGEST_NAME = 1 << 16
_MOST_PROBLEMS = 1000  # more only repeat themselves

# BlobProto (proto numbers)
_LEGACY = (1, 2, 3, 4)  # num, channels, height, width
_DATA, _DIFF, _SHAPE, _DOUBLE_DATA, _DOUBLE_DIFF = 5, 6, 7, 8, 9
# NVIDIA's: the values as bytes, and their type before them
_RAW_TYPE, _RAW_DIFF_TYPE, _RAW_DATA, _RAW_DIFF = 10, 11, 12, 13
_RAW_TYPES = ("<f8", "<f4", "<f2", "<i4", "<u4", "|u1")
# C3D's first version: num, channels, length, height, width, and then the values
_VIDEO_DATA, _VIDEO_DIFF = 6, 7


def read_caffemodel(path: str | Path) -> ModelFile:
    """Open a .caffemodel (V2, V1 or V0 NetParameter) without copying its values.

    Raises WeightsError for a file that is missing, damaged, incomplete or something else, and for all blobs
    whose values do not fill their shape. Unknown fields are kept and ignored, as protobuf does. The file is
    mapped: replace it while it is open, but do not shorten it in place.
    """
    source = _map(path)
    scan = Scan(source.buffer)
    try:
        model = _scan_net(source, scan)
    except WireError as error:
        raise WeightsError(_wire_problem(source, error, scan.layer)) from None
    if not model.layers:
        other = _other_file(source)
        found = f"there are no layers in its {len(source.buffer):,} bytes"
        fix = "name a .caffemodel that Caffe saved"
        raise WeightsError(other or Problem(found, "a net with layers", fix, file=path))
    return model


def read_blob(path: str | Path) -> Blob:
    """Read a file with a single BlobProto, such as a mean image (.binaryproto); raises WeightsError."""
    source = _map(path)
    scan = Scan(source.buffer)
    try:
        blob, wrong = _scan_blob(source, scan, 0, len(source.buffer))
    except WireError as error:
        raise WeightsError(_wire_problem(source, error, "", BLOB)) from None
    if not wrong and blob.count == 0:
        wrong = "there are no values in it"
    if wrong:
        problem = Problem(wrong, "a BlobProto", _DAMAGED, file=path)
        raise WeightsError(_other_file(source, BLOB) or problem)
    return blob


def _map(path: str | Path) -> Source:
    try:
        status = Path(path).stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise WeightsError(Problem("not a regular file", fix="copy it to a file first", file=path))
        with open(path, "rb") as file:  # a folder is refused here
            if status.st_size == 0:
                raise WeightsError(Problem("the file is empty (0 bytes)", fix="fetch it again", file=path))
            return Source(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as cause:
        raise WeightsError(os_problem(path, cause, "read")) from None
    except ValueError as cause:  # a path with a NUL
        raise WeightsError(f"{str(path)!r}: cannot read: {cause}") from None


def _wire_problem(source: Source, error: WireError, layer: str, own: str = CAFFEMODEL) -> Problem:
    found = f"at byte {error.offset:,} of {len(source.buffer):,}: {error.found}"
    problem = Problem(found, error.expected, _DAMAGED, file=source.path, layer=printable(layer))
    return _other_file(source, own) or problem


def _other_file(source: Source, own: str = CAFFEMODEL) -> Problem | None:
    return other_file(bytes(source.buffer[:HEAD]), own, source.path)


def _scan_net(source: Source, scan: Scan) -> ModelFile:
    numbers, messages = net_numbers(), layer_messages()
    name = ""
    inputs: list[str] = []
    layers: list[ModelLayer] = []
    kinds: set[int] = set()
    with Problems(WeightsError, source.path) as problems:
        for field in scan.fields(0, len(source.buffer)):
            number = field[0]
            if number in messages:
                scan.layer = f"#{len(layers)}"
                layers.append(_scan_layer(source, scan, layout(messages[number]), field, problems))
                scan.layer = ""
                kinds.add(number)
            elif number == numbers["name"]:
                name = _text(scan, field)
            elif number == numbers["input"]:
                inputs.append(_text(scan, field))
        if any(blob.legacy and len(blob.shape) > len(_LEGACY) for layer in layers for blob in layer.blobs):
            for layer in layers:
                layer.type = as_video(layer.type)
        if len(kinds) > 1:
            # BVLC refuses such a file, the fork drops the `layer` entries.
            problems.add(
                "it has layers of both formats, `layer` and the old `layers`",
                expected="one of them",
                fix="upgrade the file with one Caffe's upgrade_net_proto_binary",
            )
    return ModelFile(source, name, layers, inputs)


def _scan_layer(source: Source, scan: Scan, where: Layout, whole: Field, problems: Problems) -> ModelLayer:
    start, stop = _inside(whole)
    scan.spend(7, start)
    layer = ModelLayer(source, (start, stop), where)
    _scan_layer_fields(source, scan, layer, where, start, stop, problems)
    return layer


def _scan_layer_fields(
    source: Source, scan: Scan, layer: ModelLayer, where: Layout, start: int, stop: int, problems: Problems
) -> None:
    for field in scan.fields(start, stop):
        number = field[0]
        if number == where.name:
            layer.name = scan.layer = _text(scan, field)
        elif number == where.type:
            layer.type = _layer_type(scan, where, field)
        elif number == where.bottom:
            layer.bottoms.append(_text(scan, field))
        elif number == where.top:
            layer.tops.append(_text(scan, field))
        elif number == where.blobs:
            blob, wrong = _scan_blob(source, scan, *_inside(field))
            if wrong and len(problems.found) < _MOST_PROBLEMS:
                field_name = f"blobs[{len(layer.blobs)}]"
                problems.add(wrong, layer=printable(scan.layer), field=field_name, fix=_DAMAGED)
            layer.blobs.append(blob)
        elif number == where.phase:
            layer.phase = {0: "TRAIN", 1: "TEST"}.get(_integer(scan, field, 32))
        elif number == where.nested:
            _scan_layer_fields(source, scan, layer, layout("V0LayerParameter"), *_inside(field), problems)
        elif where.message == "LayerParameter" and number in telling_fields():
            layer.telling |= {number}


def _layer_type(scan: Scan, where: Layout, field: Field) -> str:
    if where.message == "V1LayerParameter":
        return from_v1(_integer(scan, field, 32))
    name = _text(scan, field)
    return from_v0(name) if where.message == "V0LayerParameter" else name


def _scan_blob(source: Source, scan: Scan, start: int, stop: int) -> tuple[Blob, str]:
    """A blob, and what is wrong with its shape ("" if nothing); raises WireError."""
    scan.spend(3, start)
    legacy = dict.fromkeys(_LEGACY, 0)
    is_legacy = False
    dims: list[int] = []
    foreign: set[int] = set()
    raw: dict[int, Field] = {}
    values = {_DATA: Values(_DATA, "<f4"), _DIFF: Values(_DIFF, "<f4")}
    for field in scan.fields(start, stop):
        number = field[0]
        if number == _DATA and field[1] == VARINT and is_legacy and number in values:
            legacy[number] = _integer(scan, field, 32)
            values = {_VIDEO_DATA: Values(_VIDEO_DATA, "<f4"), _VIDEO_DIFF: Values(_VIDEO_DIFF, "<f4")}
        elif number in (_DOUBLE_DATA, _DOUBLE_DIFF):
            values.setdefault(number, Values(number, "<f8")).add(field)
        elif number in values:
            values[number].add(field)
        elif number == _SHAPE:
            _scan_dims(scan, field, dims)
        elif number in (_RAW_TYPE, _RAW_DIFF_TYPE, _RAW_DATA, _RAW_DIFF):
            raw[number] = field
        elif number in legacy:
            legacy[number], is_legacy = _integer(scan, field, 32), True
        elif len(foreign) < 8:
            foreign.add(number)
    # BVLC prefers the doubles when there are any.
    first = _DATA if _DATA in values else _VIDEO_DATA
    data, diff = (
        values[double] if double in values and values[double].count else values[single]
        for double, single in ((_DOUBLE_DATA, first), (_DOUBLE_DIFF, first + 1))
    )
    if raw:
        data, diff = _raw_values(scan, raw, _RAW_TYPE, data), _raw_values(scan, raw, _RAW_DIFF_TYPE, diff)
    shape = tuple(legacy.values()) if is_legacy else tuple(dims)
    if not shape and data.count == 0:
        shape = (0,)
    wrong = _wrong_shape(shape, data.count, diff.count)
    if not (is_legacy or dims) and data.count > 1:
        wrong = f"it has no shape, but {data.count:,} values"
    if wrong and foreign:
        wrong += f" (it has fields {sorted(foreign)}, which no Caffe of ours knows)"
    return Blob(source, (start, stop), shape, is_legacy, data, diff if diff.count else None), wrong


def _raw_values(scan: Scan, raw: dict[int, Field], kind: int, plain: Values) -> Values:
    """The values that NVIDIA's Caffe stores as bytes of one type, float16 among them; raises WireError."""
    stored = raw.get(kind + _RAW_DATA - _RAW_TYPE)
    if stored is None or (kind in raw and stored[3] == stored[4]):
        return plain
    number = _integer(scan, raw[kind], 32) if kind in raw else -1
    if not 0 <= number < len(_RAW_TYPES):
        found = f"values as bytes of the type {number}" if kind in raw else "values as bytes without their type"
        raise WireError(stored[2], found, f"a type from 0 to {len(_RAW_TYPES) - 1}, as NVIDIA's Caffe writes it")
    _inside(stored)
    values = Values(stored[0], _RAW_TYPES[number])
    values.add(stored)
    return values


def _wrong_shape(shape: tuple[int, ...], data: int, diff: int) -> str:
    if any(dim < 0 for dim in shape):
        return f"shape {shape} has a negative dimension"
    if math.prod(dim for dim in shape if dim) > MAX_COUNT:
        return f"shape {shape} has more than {MAX_COUNT:,} values, Caffe's limit"
    count = math.prod(shape)
    if data != count:
        return f"shape {shape} means {count:,} values, {data:,} are stored"
    if diff not in (0, count):
        return f"shape {shape} means {count:,} values, its diff has {diff:,}"
    return ""


def _scan_dims(scan: Scan, shape: Field, dims: list[int]) -> None:
    """Append a BlobShape's dimensions, packed or not; at most Caffe's 32 axes."""
    for field in scan.fields(*_inside(shape)):
        number, wire, at, begin, end = field
        if number != 1:
            continue
        if wire not in (VARINT, LENGTH):
            raise wrong_type(field, "dimensions")
        while begin < end:
            dim, begin = varint(scan.buffer, begin, end)
            dims.append(signed(dim, 64))
            if len(dims) > MAX_RANK:
                raise WireError(at, f"a shape of more than {MAX_RANK} axes", "a blob's shape")


def _inside(field: Field) -> tuple[int, int]:
    _, wire, _, begin, end = field
    if wire != LENGTH:
        raise wrong_type(field, "a message")
    return begin, end


def _integer(scan: Scan, field: Field, bits: int) -> int:
    _, wire, _, begin, end = field
    if wire != VARINT:
        raise wrong_type(field, "an integer")
    return signed(varint(scan.buffer, begin, end)[0], bits)


def _text(scan: Scan, field: Field) -> str:
    """A string; bytes that are no UTF-8 (Caffe does not check) come as \\x escapes."""
    _, wire, at, begin, end = field
    if wire != LENGTH:
        raise wrong_type(field, "text")
    if end - begin > _LONGEST_NAME:
        raise WireError(at, f"a name of {end - begin:,} bytes", f"at most {_LONGEST_NAME:,}")
    return bytes(scan.buffer[begin:end]).decode("utf-8", "backslashreplace")
