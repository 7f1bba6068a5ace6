"""Which kind of file a binary file is, by what its format writes at its beginning; keys of `formats.FORMATS`."""

from __future__ import annotations

import math
import re
import struct

# Offset, bytes, kind; several of a kind where a format changed. What begins with plain letters is looked at more
# closely below, since a text may begin with them too.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "old pytorch"),  # its own magic number, as a pickle
    *((0, bytes([0x80, protocol]), "pickle") for protocol in (2, 3, 4, 5)),
    (0, b"\x93NUMPY", "npy"),
    *((0, b"MATLAB 7.%d MAT-file" % version, "mat hdf5") for version in (0, 3)),
    (0, b"MATLAB 5.0 MAT-file", "mat"),
    *((offset, b"\x89HDF\r\n\x1a\n", "hdf5") for offset in (0, 512, 1024, 2048)),  # after a block of the user's
    (16, b"\xde\xc0\xef\xbe", "lmdb"),
    (7, b"\x01\x1aleveldb.BytewiseComparator", "leveldb"),  # the record with which its MANIFEST begins
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"Rar!\x1a\x07", "rar"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (257, b"ustar\0", "tar"),
    (257, b"ustar  \0", "tar"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (0, b"II+\0", "tiff"),
    (0, b"MM\0+", "tiff"),
    (0, b"%PDF-", "pdf"),
    (0, b"\x7fELF", "program"),
    *((0, magic, "program") for magic in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe")),
    (0, b"SQLite format 3\0", "sqlite"),
    (0, b"ptrt", "tensorrt"),
    (0, b"ftrt", "tensorrt"),
    (0, b"\xdd\x85\x76\x00", "ncnn"),  # 7767517, as in the text form
    (0, b"\x12\x01\0\0\0\0\0\0", "mxnet"),
    (0, b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1", "torch7"),  # an object; a table is told below
)
_LETTERS = re.compile(rb"[\t\n\r -~]+")  # of which alone a signature proves nothing where a text begins with it

# What TensorFlow puts under the first key of a checkpoint's index: shards, byte order, version of the format.
_BUNDLE = re.compile(rb"\0\0[\x04-\x20]\x08[\x01-\x7f](\x10[\0\x01])?\x1a[\x02-\x08]\x08\x01", re.DOTALL)

_PYTORCH = re.compile(
    rb"[^/]+/(data\.pkl|extra/.*|data/\d+|data/weights/.*|code/.*|version|byteorder|\.format_version)"
)
_TENSORS = re.compile(rb'\s*\{\s*("__metadata__"\s*:|"(?:[^"\\]|\\.)*+"\s*:\s*\{\s*"(dtype|shape|data_offsets)")')
_FLATBUFFERS = {b"TFL3": "tflite", b"ORTM": "ort"}
_DOCUMENTS = (b"[Content_Types].xml", b"_rels/.rels", b"docProps/app.xml", b"mimetype")


def binary(head: bytes, text: bool = False) -> str:
    """The kind of a file that begins with `head`, "" where no signature is known; `text`: it has no control bytes."""
    for offset, signature, kind in _SIGNATURES:
        if head.startswith(signature, offset) and not (text and _LETTERS.fullmatch(signature)):
            return kind
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(head)
    if re.match(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", head):  # the digits of pi before a block, of its root for none
        return "bzip2"
    if head.startswith((b"GIF87a", b"GIF89a")) and not text:
        return "gif"
    return "" if text else _structured(head)


def _zip(head: bytes) -> str:
    """What an archive is by its first file; torch, numpy and Keras all write archives."""
    (length,) = struct.unpack_from("<H", head.ljust(30, b"\0"), 26)
    first = head[30 : 30 + length]
    if first.endswith(b".npy"):
        return "npz"
    if _PYTORCH.fullmatch(first):
        scripted = re.fullmatch(rb"[^/]+/(data/\d+|code/.*)", first) or b"/code/__torch__" in head
        return "torchscript" if scripted else "pytorch"
    if first in (b"metadata.json", b"config.json") and b"keras" in head:
        return "keras"
    return "document" if first in _DOCUMENTS else "zip"


def _structured(head: bytes) -> str:
    """Formats that have no more than a few letters or numbers at their beginning, and a structure after them."""
    if head.startswith(b"RIFF") and len(head) >= 12:
        return "webp" if head[8:12] == b"WEBP" else "media"
    if head[2:4] == b"\0\0" and head[4:8] in _FLATBUFFERS:  # after the place of the root, which is near
        return _FLATBUFFERS[head[4:8]]
    if head.startswith(b"\0\0") and head[4:8] == b"ftyp":
        return "heif" if re.match(rb"hei[cfsmx]|hev[cmsx]|mif1|msf1|avi[fs]", head[8:12]) else "media"
    if head.startswith(b"BM") and len(head) >= 18:
        reserved, _, size = struct.unpack_from("<3I", head, 6)
        return "bmp" if not reserved and size in (12, 40, 52, 56, 64, 108, 124) else ""
    if head.startswith(b"MZ") and len(head) >= 64:
        (at,) = struct.unpack_from("<I", head, 60)
        return "program" if at >= len(head) or head.startswith(b"PE\0\0", at) else ""
    if head.startswith(b"GGUF") and len(head) >= 8 and 0 < struct.unpack_from("<I", head, 4)[0] < 100:
        return "gguf"
    if _safetensors(head):
        return "safetensors"
    if head.startswith(b"\x03\0\0\0\x01\0\0\0") and b"\x03\0\0\0V 1" in head:
        return "torch7"
    if _BUNDLE.match(head):
        return "checkpoint"
    return "darknet weights" if _darknet_weights(head) else ""


def _safetensors(head: bytes) -> bool:
    """The length of a JSON text, then that text: tensors by name, each with its type."""
    if len(head) < 16 or not 2 <= struct.unpack_from("<Q", head)[0] < 1 << 32:
        return False
    return _TENSORS.match(head, 8) is not None


def _darknet_weights(head: bytes) -> bool:
    """Version 0.1 or 0.2, the number of images seen, then plausible weights and nothing else."""
    if len(head) < 512 or struct.unpack_from("<3i", head) not in ((0, 1, 0), (0, 2, 0), (0, 2, 5)):
        return False
    values = [abs(value) for value in struct.unpack_from("<96f", head, 20)]
    likely = [1e-12 < value < 1e4 for value in values]
    return all(math.isfinite(value) and value < 1e6 for value in values) and sum(likely) >= 48
