"""What a file is that was given for another one: told by its first bytes, named in words, with the way out.

Every reader of the project asks here before it says that a file is damaged, so that an ONNX model is called one
wherever it is met. Caffe's own binary files are known too: a reader names those of them that it does not read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from .errors import Problem
from .protobufs import message
from .signatures import binary

HEAD = 4096  # the bytes that tell
CHECK = "check which file was given"


class Format(NamedTuple):
    """A kind of file in words, and the way out for who wanted one of Caffe's; `always`: for who wanted any other."""

    key: str
    what: str
    fix: str
    always: bool = False


_ORIGIN = "name the .prototxt or .caffemodel it was made from"
_TORCH = f"{_ORIGIN}; PyTorch's own files are read with torch.load"
_UNPACK = "unpack it and name the file inside"
_WEIGHTS = "give it as the weights, and a prototxt as the net"

# The way out, whether it holds whatever was wanted, and the formats that have it, by key.
_GROUPS: tuple[tuple[str, bool, dict[str, str]], ...] = (
    (
        f"{_ORIGIN}; `python -m port score --onnx` scores images with an ONNX model",
        False,
        {"onnx": "an ONNX model", "ort": "a model of ONNX Runtime (.ort)"},
    ),
    (
        _TORCH,
        False,
        {
            "pytorch": "a file of PyTorch (.pth or .pt, a zip archive)",
            "torchscript": "a TorchScript program of PyTorch (.pt, a zip archive)",
            "old pytorch": "an old file of PyTorch (.pth or .pt, a Python pickle)",
            "pickle": "a Python pickle, as some .pth and .pkl files are",
        },
    ),
    (
        _ORIGIN,
        False,
        {
            "keras": "a Keras model (.keras)",
            "tensorflow graph": "a frozen graph of TensorFlow (.pb)",
            "graph text": "a graph of TensorFlow as text (.pbtxt)",
            "saved model": "a SavedModel of TensorFlow (saved_model.pb)",
            "checkpoint": "the index of a TensorFlow checkpoint",
            "checkpoint list": "TensorFlow's list of checkpoints",
            "tflite": "a TensorFlow Lite model (.tflite)",
            "coreml": "a Core ML model (.mlmodel)",
            "openvino": "an OpenVINO model (IR, .xml)",
            "tensorrt": "a TensorRT engine",
            "ncnn": "an ncnn net (.param)",
            "mxnet": "a parameters file of MXNet (.params)",
            "darknet": "a Darknet net (.cfg)",
            "darknet weights": "a weights file of Darknet (.weights)",
            "torch7": "a file of Torch7 (.t7)",
            "safetensors": "a safetensors file",
            "gguf": "a GGUF model",
        },
    ),
    (
        "NumPy reads it; `port.write_mean` writes an array as a mean file",
        False,
        {"npy": "an array of NumPy (.npy)", "npz": "a NumPy archive of arrays (.npz)"},
    ),
    (
        CHECK,
        False,
        {
            "mat": "a MATLAB file (.mat)",
            "mat hdf5": "a MATLAB file (.mat, version 7.3)",
            "document": "a document (.docx, .odt or the like)",
            "pdf": "a PDF document",
            "json": "JSON",
            "xml": "an XML file",
            "program": "a program or library",
            "sqlite": "an SQLite database",
            "media": "a video or sound file",
            "text": "a text file",
        },
    ),
    (
        CHECK,
        False,
        {
            "png": "a PNG image",
            "jpeg": "a JPEG image",
            "gif": "a GIF image",
            "bmp": "a BMP image",
            "tiff": "a TIFF image",
            "webp": "a WebP image",
        },
    ),
    ("save it as PNG or JPEG", False, {"heif": "an image in HEIC or AVIF"}),
    ("name it as the source of a Data layer; `python -m port lmdb inspect` shows it", False, {"lmdb": "an LMDB"}),
    ("convert it to LMDB", False, {"leveldb": "a file of a LevelDB"}),
    (
        _UNPACK,
        True,
        {
            "zip": "a zip archive",
            "gzip": "a gzip archive",
            "bzip2": "a bzip2 archive",
            "xz": "an xz archive",
            "zstd": "a Zstandard archive",
            "rar": "a RAR archive",
            "7z": "a 7-Zip archive",
            "tar": "a tar archive",
        },
    ),
    (
        "the download gave a page (a login, a warning or a quota notice): fetch the file itself",
        True,
        {"page": "a web page (HTML)"},
    ),
    ("fetch it again", True, {"blank": "a file of blanks"}),
    ("run `git lfs pull`", True, {"lfs": "a Git LFS pointer, not the file it stands for"}),
    ("save it as UTF-8", True, {"utf-16": "a text in UTF-16"}),
    (_WEIGHTS, False, {"caffemodel": "a .caffemodel", "hdf5": "an HDF5 file, such as a .caffemodel.h5"}),
    ("name the .caffemodel of the same iteration", False, {"solver state": "a solver state (.solverstate)"}),
    ("give it as a mean file", False, {"blob": "a single blob, as mean files (.binaryproto) are"}),
    (
        "give the prototxt as the net and the binary .caffemodel as the weights",
        False,
        {"prototxt": "a text file (a prototxt?)"},
    ),
)
FORMATS = {key: Format(key, what, fix, always) for fix, always, kinds in _GROUPS for key, what in kinds.items()}
CAFFES = frozenset(["caffemodel", "hdf5", "solver state", "blob", "prototxt"])
PLAIN = frozenset(["text", "prototxt", "blank"])  # texts of which there is no more to say
IMAGES = frozenset(["png", "jpeg", "gif", "bmp", "tiff", "webp"])

_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
# Possessive quantifiers: no beginning of a file makes the search go back.
_COMMENTS = r"(?:\s|#[^\n]*+(?:\n|\Z))*+"  # blanks and comments of a prototxt
_PROLOGUE = r"\s*+(?:<\?xml[^>]*+>\s*+)?+(?:<!--(?:(?!-->).)*+-->\s*+)*+"  # of XML and HTML
_TEXTS: tuple[tuple[str, str], ...] = (
    (r"\s+\Z", "blank"),
    (r"version https://git-lfs", "lfs"),
    (r"%PDF-", "pdf"),
    (_PROLOGUE + r"<net\s[^>]*\bname\s*=", "openvino"),
    (_PROLOGUE + r"<(!doctype\s+html|html|head|body)\b", "page"),
    (r"\s*<(\?xml|!--|!doctype|[a-z][\w.:-]*[\s/>])", "xml"),
    (r'\s*(\{\s*("|\})|\[\s*([\[{"\]]|-?\d[\d.eE+-]*\s*[,\]]))', "json"),
    (r"7767517\s", "ncnn"),
    (r"(?:\s|[#;][^\n]*+\n)*+\[(?-i:net|network|convolutional)\]", "darknet"),
    (r"4\n1\n3\nV 1\n", "torch7"),
    # The oldest protocols are text: a name of a module and one of a thing in it, or an empty container.
    (r"\((dp|lp|tp?)\d+\n|c[a-z_][\w.]*\n[a-z_]\w*\n[(pq]", "pickle"),
    (_COMMENTS + r"node\s*:?\s*\{\s*name\s*:\s*[\"'][^\"'\n]*+[\"']\s*+op\s*:", "graph text"),
    (_COMMENTS + r"model_checkpoint_path\s*:", "checkpoint list"),
    (r"\s*(#|[a-z_][a-z_0-9]*\s*[:{<])", "prototxt"),
)
_PATTERNS = [(re.compile(pattern, re.IGNORECASE | re.DOTALL | re.ASCII), key) for pattern, key in _TEXTS]


def identify(head: bytes) -> Format | None:
    """The kind of file that begins with these bytes (4 KiB are enough); None where nothing tells."""
    text = is_text(head)
    if key := _utf16(head) or binary(head, text) or (_text(head) if text else message(head)):
        return FORMATS[key]
    return None


def is_text(head: bytes) -> bool:
    """Whether bytes may be text in UTF-8 or any encoding like it: there are some, and no control characters."""
    return bool(head) and _CONTROL.search(head) is None


def refusal(
    head: bytes,
    expected: str,
    file: str | Path = "",
    *,
    own: Collection[str] = (),
    fixes: Mapping[str, str] | None = None,
    fix: str = "",
) -> Problem | None:
    """What is wrong with a file of another kind than its reader's `own`; None for one of these, and an unknown one.

    `fix` is the way out of all of them, where it is not one of Caffe's files that is wanted; `fixes`, of some kinds.
    """
    found = identify(head)
    if found is None or found.key in own:
        return None
    usual = found.fix if found.always or not fix else fix
    return Problem(f"this is {found.what}", expected, (fixes or {}).get(found.key, usual), file=file)


def _utf16(head: bytes) -> str:
    """UTF-16 by its mark, or by every other byte of plain text being 0."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    pairs = head[: len(head) // 2 * 2]
    for zeros, letters in ((pairs[1::2], pairs[::2]), (pairs[::2], pairs[1::2])):
        if len(letters.strip()) >= 4 and not any(zeros) and is_text(letters) and letters.isascii():
            return "utf-16"
    return ""


def _text(head: bytes) -> str:
    text = head.decode("utf-8-sig", "replace")
    return next((key for pattern, key in _PATTERNS if pattern.match(text)), "text")
