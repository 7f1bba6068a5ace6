"""What a file is by its first bytes: files of many kinds, and Caffe's own, which are never called another's."""

from __future__ import annotations

import gzip
import random
import struct
import time
from pathlib import Path

import pytest
from foreign_files import darknet_weights, field, made_files, onnx_models, saved_model, tensorflow_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from prototxt_gen.base.errors import CaffeError
from prototxt_gen.base.files import read_text
from prototxt_gen.base.formats import CAFFES, CHECK, FORMATS, HEAD, IMAGES, PLAIN, identify, refusal
from prototxt_gen.schema import message_class

GOLDEN = Path(__file__).parents[2] / "golden"


def key(data: bytes) -> str:
    found = identify(data[:HEAD])
    return found.key if found else ""


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, list[bytes]]:
    return made_files(tmp_path_factory.mktemp("samples"))


# --- every kind, and nothing else


@pytest.mark.parametrize("kind", FORMATS)
def test_every_kind_is_told(samples, kind):
    assert samples[kind]
    for data in samples[kind]:
        assert key(data) == kind, data[:60]


def test_words_for_every_kind(samples):
    assert samples.keys() == FORMATS.keys()
    for found in FORMATS.values():
        assert found.what and found.fix and not found.what.endswith("."), found
    assert FORMATS.keys() >= CAFFES | IMAGES | PLAIN


def test_the_samples_cut_short_are_never_another_kind(samples):
    """A head of another length is that kind, or too short to tell; archives may be called by less than they are."""
    vague = {"zip", "pickle", "text", "prototxt", "blank", "hdf5", "xml", "torch7", "pytorch", "utf-16", ""}
    for kind, contents in samples.items():
        for data in contents:
            for length in (2000, 700, 200, 100, 40):
                assert key(data[:length]) in {kind, *vague}, (kind, length, data[:length])


# --- Caffe's own files are never called another's


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        ("*.caffemodel", "caffemodel"),
        ("*.solverstate", "solver state"),
        ("*.bp", "blob"),
        ("*.prototxt", "prototxt"),
        ("data.mdb", "lmdb"),
    ],
)
def test_recorded_files(pattern, kind):
    files = list(GOLDEN.rglob(pattern))
    assert files
    for path in files:
        head = path.read_bytes()[:HEAD]
        assert key(head) == kind, path
        for length in (2048, 1000, 300):
            assert key(head[:length]) in (kind, ""), (path, length)


text = st.text(st.characters(codec="utf-8"), max_size=30)
numbers = st.integers(-(2**31), 2**31 - 1)
dims = st.lists(st.integers(0, 2**40), max_size=4)
floats = st.lists(st.floats(width=32), max_size=20)


@st.composite
def blobs(draw):
    fields = {"data": draw(floats), "diff": draw(floats), "double_data": draw(floats)}
    if draw(st.booleans()):
        fields |= {name: draw(numbers) for name in ("num", "channels", "height", "width")}
    else:
        fields["shape"] = {"dim": draw(dims)}
    return message_class("BlobProto", "bvlc")(**fields)


@st.composite
def own_files(draw):
    kind = draw(st.sampled_from(["BlobProto", "SolverState", "NetParameter"]))
    dialect = draw(st.sampled_from(["bvlc", "srn"]))
    if kind == "BlobProto":
        return draw(blobs())
    made = message_class(kind, dialect)()
    few = [draw(blobs()).SerializeToString() for _ in range(draw(st.integers(0, 2)))]
    if kind == "SolverState":
        made.iter, made.learned_net, made.current_step = draw(numbers), draw(text), draw(numbers)
        for each in few:
            made.history.add().MergeFromString(each)
        return made
    made.name = draw(text)
    made.input.extend(draw(st.lists(text, max_size=2)))
    made.input_dim.extend(draw(st.lists(numbers, max_size=4)))
    for _ in range(draw(st.integers(1, 3))):
        layer = made.layers.add() if draw(st.booleans()) else made.layer.add()
        layer.name = draw(text)
        layer.bottom.extend(draw(st.lists(text, max_size=2)))
        for each in few:
            layer.blobs.add().MergeFromString(each)
    return made


@settings(max_examples=400, deadline=None)
@given(own_files())
def test_whatever_caffe_could_write_is_its_own(made):
    data = made.SerializeToString()
    kind = {"BlobProto": "blob", "SolverState": "solver state", "NetParameter": "caffemodel"}[made.DESCRIPTOR.name]
    # Without control characters it may be a text as well, as far as anyone can tell.
    assert key(data) in {kind, "", *PLAIN} | ({"utf-16"} if kind == "caffemodel" else set()), data


@pytest.mark.parametrize(
    "data",
    [
        b"GIF87a { }",
        b"MZ: 1\n" * 40,
        b"BM: 3\n" * 20,
        b"RIFF: 3 WEBP: 4",
        b"ptrt: 3",
        b"GGUF: 4\n",
        b"MATLAB 5.0 MAT-file: 1",
        b"PK: 1",
        b"node { name: 'x' }",
        b"node_name: 3 op: 4",
        b"net { name: 'x' }",
        b"version: 'https://git-lfs'",
        b"convolution_param\n{\n(",
        b"# [net]\nname: 'x'",
        b"[Network]\nSpeedMeter=no\n",
        b"x" * 257 + b"ustar",
    ],
)
def test_texts_that_look_like_others(data):
    assert key(data) in PLAIN


@pytest.mark.parametrize(
    "data",
    [
        field(1, "abTFL3net") + field(100, field(1, "a") + field(2, "ReLU")),
        field(1, "abORTM") + field(100, field(1, "a") + field(2, "ReLU")),
        field(1, "xxftypmp42") + field(100, field(1, "a") + field(2, "ReLU")),
        field(1, "ustar" * 90) + field(100, field(1, "a") + field(2, "ReLU")),
        field(1, "name") + field(2, field(4, "conv") + field(5, 4)),  # as a graph's node and its library
    ],
)
def test_nets_with_odd_names(data):
    assert key(data) == "caffemodel"


def test_bytes_that_prove_nothing():
    rng = random.Random(3)
    noise = [rng.randbytes(200) for _ in range(300)]
    assert sum(key(data) != "" for data in noise) <= 1
    for data in (b"", b"\0" * 600, darknet_weights()[:20] + b"\xff" * 600, darknet_weights((7, 2, 0))):
        assert key(data) == "", data[:9]


NEAR = {  # as an ONNX model, a graph, a saved model, a Core ML model, but for one thing
    "no graph and no operator set": field(1, 8) + field(2, "pytorch"),
    "a version that is none": field(1, 800) + field(7, field(1, field(1, "x") + field(4, "Relu"))),
    "a version that is a text": field(1, "8") + field(7, field(1, field(1, "x") + field(4, "Relu"))),
    "a producer that is no text": field(1, 8) + field(2, b"\1\2") + field(7, field(1, field(4, "Relu"))),
    "a node without operation": field(1, 8) + field(7, field(1, field(1, "x"))),
    "a tensor": field(1, 3) + field(1, 4) + field(2, 1) + field(8, "weight") + field(9, bytes(48)),
    "a graph of numbers": field(1, 8) + field(7, field(1, 3)),
    "a number among the texts": field(1, 8) + field(3, 5) + field(8, field(2, 17)),
    "a node without a name": field(1, field(2, "Relu") + field(3, "x")),
    "an operation with a blank": field(1, field(1, "x") + field(2, "Re lu")),
    "one good node, one bad": tensorflow_graph() + field(1, field(1, "x")),
    "a saved model of version 2": field(1, 2) + saved_model(3)[2:],
    "a description without ends": field(1, 4) + field(2, field(11, "x")),
    "an end without type": field(1, 4) + field(2, field(1, field(1, "image")) + field(10, field(1, "y"))),
}


@pytest.mark.parametrize("data", NEAR.values(), ids=NEAR)
def test_near_misses(data):
    """Every part of a rule is needed: without it such a message would be taken for another's model."""
    assert key(data) not in {"onnx", "tensorflow graph", "saved model", "coreml", "blob", "solver state"}


SLOW = [
    *(b"<!--" * 1024, b"<!---->" * 600, b"<?xml" + b" " * 4000, b"#\n" * 2048, b"# [net]\n" * 500),
    *(b"{" + b" " * 4000, b"[" + b" " * 4000, b"[1" * 2000, b'node { name: "' + b" " * 4000),
    *(b'node { name: "x" ' * 250, b"c" + b"a" * 4000, b" " * 4096, struct.pack("<Q", 9) + b'{"' + b"a" * 4000),
    *(struct.pack("<Q", 9) + b'{"' + b"\\a" * 2000, b"\x08\x01" + b"\x3a\x02\x0a\x00" * 1000, b"\x0a\x00" * 2048),
    *(b"\x0a\x81" * 2048, b"\xff" * 4096, bytes(4096), b"a\0" * 2048),
]


@pytest.mark.parametrize("data", SLOW, ids=range(len(SLOW)))
def test_no_beginning_takes_long(data):
    def seconds() -> float:
        start = time.perf_counter()
        identify(data)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.03


# --- refusals


def test_a_refusal_says_all():
    png = b"\x89PNG\r\n\x1a\n" + bytes(20)
    problem = refusal(png, "a net", "x.prototxt")
    assert str(problem) == f"x.prototxt: this is a PNG image; expected a net. {CHECK[0].upper()}{CHECK[1:]}"
    assert refusal(png, "an image", own=["png"]) is None and refusal(b"\1\2", "an image") is None
    assert refusal(png, "a net", fix="other").fix == "other"
    assert refusal(png, "a net", fix="other", fixes={"png": "this"}).fix == "this"
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    assert refusal(pointer, "an image", fix="other").fix == "run `git lfs pull`"  # whatever was wanted
    assert "port score --onnx" in refusal(onnx_models()[0], "a net").fix


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a.jpg 1\n".encode("utf-16"), "this is a text in UTF-16; expected a text file in UTF-8. Save it as UTF-8"),
        (b"\x89PNG\r\n\x1a\n\xff", "this is a PNG image"),
        (gzip.compress(b"a.jpg 1\n", mtime=0x80), "Unpack it and name the file inside"),
        (b"caf\xe9\n", "byte 3 is not UTF-8 text"),
    ],
)
def test_texts_of_the_project_are_refused_by_name(tmp_path, data, message):
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(CaffeError) as caught:
        read_text(tmp_path / "list.txt")
    assert f"list.txt: {message}" in str(caught.value) or message in str(caught.value)
