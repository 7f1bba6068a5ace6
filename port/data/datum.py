"""Datum, the record of Caffe's databases: pixels or other values, and a label."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from google.protobuf.message import DecodeError

from prototxt_gen.base.errors import DataError, Problem, UsageError
from prototxt_gen.base.formats import HEAD, IMAGES, identify
from prototxt_gen.schema import message_class

_FIX = "the database is damaged, or not one of Datums: create it anew"
_DEFLATE = 1100  # times that PNG's compression makes data smaller at best: 1,032


def parse_datum(value: bytes) -> Any:
    """The Datum message of a database's record; raises DataError."""
    datum = message_class("Datum", "bvlc")()
    try:
        datum.ParseFromString(value)
    except DecodeError:
        raise DataError(Problem(f"{len(value)} bytes that are no Datum", "a Datum", _FIX)) from None
    return datum


def datum_values(datum: Any, color: int = cv2.IMREAD_UNCHANGED) -> np.ndarray:
    """The values of a Datum, (height, width, channels), uint8 or float32; raises DataError.

    `color` is OpenCV's flag for encoded images; images are BGR. Semantics 5.1.
    """
    if datum.encoded:
        return decode(datum.data, color)
    shape = (datum.channels, datum.height, datum.width)
    count = datum.channels * datum.height * datum.width
    size, kind = len(datum.data), "bytes"
    values = np.frombuffer(datum.data, np.uint8)
    if not size:
        size, kind = len(datum.float_data), "floats"
        values = np.array(datum.float_data, np.float32)
    if min(shape) < 1 or size != count:
        found = f"a Datum of {shape[0]}x{shape[1]}x{shape[2]} with {size} {kind}"
        raise DataError(Problem(found, f"{max(count, 1)} values", _FIX))
    return values.reshape(shape).transpose(1, 2, 0)


def decode(data: bytes, color: int) -> np.ndarray:
    """The pixels of an image file's bytes, uint8 (height, width, channels), BGR; raises DataError."""
    pixels = _decoded(data, color)
    if pixels is None:
        found = f"the image does not decode ({len(data):,} bytes)" if data else "the image is empty (0 bytes)"
        if (other := identify(data[:HEAD])) and other.key not in IMAGES:
            found += f": this is {other.what}"
        raise DataError(Problem(found, "a JPEG, PNG or other image OpenCV reads", "replace it or leave it out"))
    if pixels.dtype != np.uint8:
        found = f"the image has pixels of type {pixels.dtype}"
        raise DataError(Problem(found, "8 bits a channel", "convert it, or set force_color"))
    return pixels


def stored_pixels(data: bytes) -> np.ndarray:
    """The pixels of an image file as they are stored, of any type and number of channels; raises DataError."""
    pixels = _decoded(data, cv2.IMREAD_UNCHANGED)
    return decode(data, cv2.IMREAD_COLOR) if pixels is None else pixels


def _decoded(data: bytes, color: int) -> np.ndarray | None:
    if _boundless(data):
        return None
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), color) if data else None
    except cv2.error:
        return None
    return pixels[:, :, None] if pixels is not None and pixels.ndim == 2 else pixels


def _boundless(data: bytes) -> bool:
    """Whether a PNG claims more than its bytes can hold: OpenCV fills gigabytes before it sees that."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or len(data) < 26 or data[12:16] != b"IHDR":
        return False
    width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
    samples = {2: 3, 4: 2, 6: 4}.get(color, 1)
    if width * height * depth * samples // 8 > _DEFLATE * len(data):
        return True
    at = 8
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IEND":
        at += 12 + int.from_bytes(data[at : at + 4], "big")  # the chunk's length, kind, bytes and checksum
    return at > len(data)


def encode(pixels: np.ndarray, form: str) -> bytes:
    """An image, uint8 (height, width, channels), BGR, as a file's bytes, `form` as in "jpg"; raises DataError."""
    try:
        done, data = cv2.imencode(f".{form}", pixels)
    except cv2.error:
        done = False
    if not done:
        found = f"OpenCV cannot write {pixels.shape[0]:,}x{pixels.shape[1]:,} pixels (height x width) as {form}"
        raise DataError(Problem(found, fix="resize it, or choose another form"))
    return data.tobytes()


def image_datum(pixels: np.ndarray, label: int = 0) -> bytes:
    """A raw Datum of an image, uint8 (height, width, channels) in BGR, as Caffe's tools write it."""
    height, width, channels = pixels.shape
    datum = message_class("Datum", "bvlc")(channels=channels, height=height, width=width, label=label)
    datum.data = np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes()
    return datum.SerializeToString(deterministic=True)


def encoded_datum(data: bytes, label: int = 0) -> bytes:
    """A Datum that holds an image file, without a size, as Caffe's tools write it."""
    datum = message_class("Datum", "bvlc")(label=label, encoded=True, data=data)
    return datum.SerializeToString(deterministic=True)


def label_datum(labels: np.ndarray) -> bytes:
    """A Datum of one image's labels: C x 1 x 1, bytes for uint8 and floats otherwise; `label` counts the positives.

    This is the layout of the authors' tool; semantics 9. Raises UsageError for anything but a row of numbers.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not labels.size or labels.dtype.kind not in "fiub":
        raise UsageError(f"labels of shape {labels.shape} and type {labels.dtype}; expected one row of numbers")
    datum = message_class("Datum", "bvlc")(channels=labels.size, height=1, width=1)
    datum.label = int((labels > 0).sum())
    if labels.dtype == np.uint8:
        datum.data = labels.tobytes()
    else:
        datum.float_data.extend(labels.astype(np.float32).tolist())
    return datum.SerializeToString(deterministic=True)
