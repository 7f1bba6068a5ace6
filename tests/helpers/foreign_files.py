"""Contents of files of every kind that `formats` knows, made with the libraries that are there, else by hand."""

from __future__ import annotations

import bz2
import collections
import gzip
import io
import lzma
import pickle
import sqlite3
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path

import h5py
import lmdb
import numpy as np
import onnx
import scipy.io
import torch
from onnx import TensorProto, helper
from PIL import Image

from prototxt_gen.schema import message_class


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes | str | int) -> bytes:
    """A field of a protobuf message: an integer, or a text or message with its length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def onnx_models() -> list[bytes]:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in "xy"]
    relu = helper.make_node("Relu", ["x"], ["y"])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3000], np.zeros(3000, np.float32).tobytes(), raw=True)
    constant = helper.make_node("Constant", [], ["c"], value=weight)
    many = [helper.make_node("Relu", [f"a/long/name/{i}"], [f"a/long/name/{i + 1}"]) for i in range(200)]
    models = []
    for nodes in ([relu], [constant, relu], many, []):
        graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], [weight])
        for named in ({}, {"producer_name": "pytorch"}, {"producer_name": "x", "producer_version": "2.1.0"}):
            models.append(helper.make_model(graph, **named))
    models.append(helper.make_model(graph, producer_name="x", domain="d", model_version=3, doc_string="words\n" * 9))
    fresh = onnx.ModelProto()  # no graph yet
    fresh.ir_version = 8
    fresh.opset_import.add(domain="ai.onnx.ml", version=3)
    return [model.SerializeToString() for model in [*models, fresh]]


def torch_files(tmp: Path) -> dict[str, list[bytes]]:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 40, 3), torch.nn.ReLU())
    made: dict[str, list[bytes]] = {"pytorch": [], "torchscript": [], "old pytorch": []}
    for i, thing in enumerate((net, net.state_dict(), {"epoch": 3}, torch.zeros(3))):
        torch.save(thing, tmp / f"new{i}.pth")
        made["pytorch"].append((tmp / f"new{i}.pth").read_bytes())
        torch.save(thing, tmp / "old.pth", _use_new_zipfile_serialization=False)
        made["old pytorch"].append((tmp / "old.pth").read_bytes())
    for program in (net, torch.nn.Sequential(torch.nn.ReLU())):
        buffer = io.BytesIO()
        with warnings.catch_warnings(action="ignore"):  # it is deprecated, and people have such files
            torch.jit.save(torch.jit.script(program), buffer)
        made["torchscript"].append(buffer.getvalue())
    return made


def archive(*names: str, content: bytes = b"content") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, content)
    return buffer.getvalue()


def numpy_files() -> dict[str, list[bytes]]:
    npy, npz, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, np.eye(3))
    np.savez(npz, a=np.eye(3), b=1)
    np.savez_compressed(packed, a=np.eye(3))
    return {"npy": [npy.getvalue()], "npz": [npz.getvalue(), packed.getvalue()]}


def hdf5(user: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=512 if user else 0) as file:
        file["data/a/0"] = 1.0
    data = buffer.getvalue()
    return user.ljust(512, b"\0") + data[512:] if user else data


def tensorflow_graph(name: str = "input", weights: int = 0) -> bytes:
    attribute = field(1, "dtype") + field(2, field(6, 1))
    nodes = field(1, field(1, "w") + field(2, "Const") + field(5, bytes(weights))) if weights else b""
    nodes += field(1, field(1, name) + field(2, "Placeholder") + field(5, attribute))
    nodes += field(1, field(1, "scope/relu") + field(2, "Relu") + field(3, name) + field(5, attribute))
    return nodes + field(4, field(1, 1482))


def saved_model(operations: int) -> bytes:
    listed = b"".join(field(1, field(1, f"Operation{i}") + field(2, field(1, "x"))) for i in range(operations))
    info = field(2, listed) + field(4, "serve") + field(5, "2.15.0")
    return field(1, 1) + field(2, field(1, info) + field(2, tensorflow_graph()))


def coreml(note: int = 0) -> bytes:
    ends = [field(1, name) + field(2, "x" * note) + field(3, field(5, field(1, 3))) for name in ("image", "scores")]
    return field(1, 4) + field(2, field(1, ends[0]) + field(10, ends[1]) + field(100, b"")) + field(500, bytes(9))


def database(folder: Path) -> bytes:
    with lmdb.open(str(folder / "db")) as env, env.begin(write=True) as transaction:
        transaction.put(b"0", b"value")
    return (folder / "db" / "data.mdb").read_bytes()


def pictures() -> dict[str, list[bytes]]:
    image, made = Image.new("RGB", (40, 30), (10, 200, 30)), {}
    for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "pdf"):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        made[kind] = [buffer.getvalue()]
    big = io.BytesIO()
    image.save(big, "tiff", big_tiff=True)
    made["tiff"].append(big.getvalue())
    return made


def archives() -> dict[str, list[bytes]]:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        file.addfile(tarfile.TarInfo("net.caffemodel"), None)
    posix = io.BytesIO()
    with tarfile.open(fileobj=posix, mode="w", format=tarfile.USTAR_FORMAT) as file:
        file.addfile(tarfile.TarInfo("net.caffemodel"), None)
    return {
        "gzip": [gzip.compress(b"x" * 99)],
        "bzip2": [bz2.compress(b"x" * 99), bz2.compress(b"")],
        "xz": [lzma.compress(b"x" * 99)],
        "zstd": [b"\x28\xb5\x2f\xfd\x24\x04\x21\x00\x00test"],
        "rar": [b"Rar!\x1a\x07\x00" + bytes(20), b"Rar!\x1a\x07\x01\x00" + bytes(20)],
        "7z": [b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(24)],
        "tar": [tar.getvalue(), posix.getvalue()],
        "zip": [archive("net.caffemodel"), archive(), archive("data.pkl"), archive("a/b/data.pkl")],
        "document": [archive("[Content_Types].xml"), archive("mimetype")],
        "keras": [archive("metadata.json", "config.json", content=b'{"keras_version": "3.1"}')],
    }


class Thing:
    """Something to pickle."""


def pickles() -> list[bytes]:
    things = ({"a": 1}, [1, 2], np.eye(3), collections.OrderedDict(a=1), Thing())
    return [pickle.dumps(thing, protocol) for thing in things for protocol in (0, 2, 3, 4, 5)]


def darknet_weights(version: tuple[int, ...] = (0, 2, 0)) -> bytes:
    values = np.random.default_rng(1).normal(0, 0.1, 500).astype("<f4")
    return struct.pack("<3iq", *version, 32013312) + values.tobytes()


def programs() -> list[bytes]:
    windows = b"MZ".ljust(60, b"\0") + struct.pack("<I", 128) + bytes(64) + b"PE\0\0"
    return [b"\x7fELF\x02\x01\x01" + bytes(60), windows, b"\xcf\xfa\xed\xfe\x07\0\0\x01" + bytes(60)]


def texts() -> dict[str, list[str]]:
    return {
        "page": ["<!DOCTYPE html>\n<html>", "\n <HTML><body>", "<!-- a --><!-- b -->\n<html>", "<head>"],
        "xml": ['<?xml version="1.0"?>\n<svg>', "<!-- a remark -->\n<note/>", "<annotation>\n<folder>"],
        "openvino": ['<?xml version="1.0"?>\n<net name="model" version="10">', '<net batch="1" name="m">'],
        "json": ['{"layers": []}', "{}", "[1, 2]", '[{"a": 1}]', "[[0.5, -1e3]]", "[]"],
        "lfs": ["version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 186000000\n"],
        "ncnn": ["7767517\n75 83\nInput data 0 1 data 0=227\n"],
        "darknet": ["[net]\nbatch=1\n", "# tiny\n\n; old\n[network]\n", "[convolutional]\nfilters=16\n"],
        "torch7": ["4\n1\n3\nV 1\n13\nnn.Sequential\n"],
        "graph text": ['node {\n  name: "input"\n  op: "Placeholder"\n}', "# a graph\nnode { name: 'x' op: 'Const' }"],
        "checkpoint list": ['model_checkpoint_path: "model-10"\n'],
        "prototxt": ['name: "net"\nlayer { name: "a" }', "# a net\n", "layer < name: 'a' >"],
        "text": ["404: Not Found", "0.5 1.5\n2 3\n", "images/a.jpg 3\n", "caf\xe9"],
        "blank": [" \n\t\n"],
    }


def others(tmp: Path) -> dict[str, list[bytes]]:
    header = b'{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    plain = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    sqlite3.connect(tmp / "s.db").execute("create table a (b)").connection.close()
    utf_16 = [text.encode(code) for text in ("name: 'x'\n",) for code in ("utf-16", "utf-16-le", "utf-16-be")]
    scipy.io.savemat(tmp / "m.mat", {"scores": np.eye(3)})
    table = struct.pack("<3i", 3, 1, 1) + struct.pack("<2i", 2, 1) + b"a" + struct.pack("<3i", 4, 2, 3) + b"V 1"
    return {
        "safetensors": [struct.pack("<Q", len(each)) + each + bytes(4) for each in (header, plain)],
        "tensorflow graph": [tensorflow_graph(), tensorflow_graph(weights=9000), tensorflow_graph("a" * 300)],
        "saved model": [saved_model(1), saved_model(500)],
        "coreml": [coreml(), coreml(note=5000)],
        "checkpoint": [b"\0\0\x06\x08\x01\x1a\x02\x08\x01" + bytes(40), b"\0\0\x08\x08\x02\x10\0\x1a\x02\x08\x01"],
        "tflite": [b"\x1c\0\0\0TFL3" + bytes(20)],
        "ort": [b"\x18\0\0\0ORTM" + bytes(20)],
        "gguf": [b"GGUF\x03\0\0\0" + bytes(20)],
        "tensorrt": [b"ptrt\x18\0\0\0" + bytes(20), b"ftrt\0\0\0\0"],
        "ncnn": [b"\xdd\x85\x76\0" + bytes(20)],
        "mxnet": [struct.pack("<QQ", 0x112, 0) + bytes(20)],
        "torch7": [b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1\x0d\0\0\0nn.Sequential", table],
        "darknet weights": [darknet_weights(), darknet_weights((0, 2, 5))],
        "mat": [(tmp / "m.mat").read_bytes()],
        "mat hdf5": [hdf5(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")],
        "hdf5": [hdf5(), hdf5(b"something of a user's")],
        "lmdb": [database(tmp)],
        "leveldb": [b"\x8f\x8c\x8d\x1d\x1c\0\x01\x01\x1aleveldb.BytewiseComparator\x02\x00"],
        "sqlite": [(tmp / "s.db").read_bytes()],
        "program": programs(),
        "media": [b"RIFF\x24\0\0\0WAVEfmt ", b"\0\0\0\x20ftypisom" + bytes(20)],
        "heif": [b"\0\0\0\x18ftypheic" + bytes(12), b"\0\0\0\x1cftypavif" + bytes(12)],
        "utf-16": utf_16,
    }


def caffes() -> dict[str, list[bytes]]:
    """As Caffe writes them, and as small as they may be."""
    blob = message_class("BlobProto", "bvlc")
    size = {"num": 1, "channels": 3, "height": 2, "width": 2}
    net = message_class("NetParameter", "bvlc")(name="net", input=["data"], input_dim=[1, 3, 2, 2])
    net.layer.add(name="c", type="Convolution").blobs.add(shape={"dim": [2, 3]}, data=range(6))
    old = message_class("NetParameter", "srn")(name="net")
    old.layers.add(name="c", type=4, bottom=["data"]).blobs.add(data=range(12), **size)
    older = message_class("NetParameter", "bvlc")()
    older.layers.add(bottom=["data"]).layer.name = "c"
    state = message_class("SolverState", "bvlc")
    history = [blob(shape={"dim": [3]}, data=[1, 2, 3])]
    return {
        "caffemodel": [each.SerializeToString() for each in (net, old, older)],
        "solver state": [
            each.SerializeToString()
            for each in (
                state(iter=8, learned_net="net_iter_8.caffemodel", history=history, current_step=0),
                state(iter=8, learned_net="pytorch", current_step=3),
                state(iter=1, history=history),
                state(iter=7, current_step=1),
            )
        ],
        "blob": [
            each.SerializeToString()
            for each in (blob(data=range(12), **size), blob(shape={"dim": [2, 2]}, double_data=range(4)))
        ],
    }


def made_files(folder: Path) -> dict[str, list[bytes]]:
    """Kind -> the contents of files of this kind; `folder` is used to make some of them."""
    made: dict[str, list[bytes]] = collections.defaultdict(list, {"onnx": onnx_models(), "pickle": pickles()})
    encoded = {kind: [text.encode("latin-1") for text in listed] for kind, listed in texts().items()}
    for part in (torch_files(folder), numpy_files(), pictures(), archives(), others(folder), caffes(), encoded):
        for kind, contents in part.items():
            made[kind] += contents
    return dict(made)
