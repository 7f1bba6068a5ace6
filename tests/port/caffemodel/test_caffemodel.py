"""Reading and writing .caffemodel files: against recorded files, against protobuf, and against damage."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from port.caffemodel import layout as layouts
from port.caffemodel import read_blob, read_caffemodel, reader, types, wire, write_caffemodel, write_net, writer
from prototxt_gen.base.errors import CaffeError, UsageError, WeightsError
from prototxt_gen.schema.dialect import LAYER_TYPES
from prototxt_gen.schema.messages import DIALECTS, descriptor, message_class, native_names

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = sorted((Path(__file__).parents[2] / "golden" / "caffemodel").glob("*/*.caffemodel"))
IDS = [f"{path.parent.name}-{path.stem}" for path in GOLDEN]
GIGA = 3 << 30


def field(number: int, payload: bytes) -> bytes:
    return wire.encode_header(number, len(payload)) + payload


def parsed(data: bytes, dialect: str = "bvlc"):
    net = message_class("NetParameter", dialect)()
    net.ParseFromString(data)
    return net


def stored(blob) -> np.ndarray:
    """A protobuf blob's values as an array, by protobuf alone."""
    legacy = blob.HasField("num")
    shape = (blob.num, blob.channels, blob.height, blob.width) if legacy else tuple(blob.shape.dim)
    return np.array(blob.data, np.float32).reshape(shape)


def blob_bytes(values: np.ndarray, shape: bytes, number: int = 5, size: int = 4) -> dict[str, bytes]:
    """One BlobProto with its values stored in three ways."""
    values = values.astype("<f4" if size == 4 else "<f8")
    tag = bytes([number << 3 | (wire.FIXED32 if size == 4 else wire.FIXED64)])
    half = len(values) // 2
    return {
        "packed": field(number, values.tobytes()) + shape,
        "unpacked": shape + b"".join(tag + value.tobytes() for value in values),
        "pieces": b"".join(
            [
                field(number, values[:half].tobytes()),
                shape,
                tag + values[half : half + 1].tobytes(),
                field(number, b""),
                field(number, values[half + 1 :].tobytes()),
            ]
        ),
    }


LEGACY_SHAPE = b"\x08\x02\x10\x03\x18\x01\x20\x05"  # num 2, channels 3, height 1, width 5
LEGACY_VALUES = np.arange(30, dtype=np.float32) / 7 - 2


def v1_file(way: str = "unpacked") -> bytes:
    """A net of the old `layers` format with a legacy 4-D blob."""
    head = message_class("V1LayerParameter", "bvlc")(name="ip", type=14, bottom=["x"], top=["y"])
    body = head.SerializeToString() + field(6, blob_bytes(LEGACY_VALUES, LEGACY_SHAPE)[way])
    return field(1, b"old") + field(3, b"x") + field(2, body) + field(2, field(4, b"s") + b"\x28\x15")


def v0_file() -> bytes:
    """A net of the oldest format: the layer inside `layers`, blobs in its field 50."""
    inner = field(1, b"c1") + field(2, b"conv") + b"\x18\x02"
    inner += field(50, blob_bytes(LEGACY_VALUES, LEGACY_SHAPE)["packed"])
    return field(2, field(1, inner) + field(2, b"x") + field(3, b"y"))


def rich_file() -> bytes:
    """Doubles, gradients, a scalar, an empty blob, an unpacked shape and two layers of one name."""
    net = message_class("NetParameter", "bvlc")(name="rich")
    first = net.layer.add(name="a", type="Scale", bottom=["x", "z"], top=["y"], phase=0)
    first.blobs.add(double_data=np.linspace(0, 1, 6), double_diff=np.linspace(1, 2, 6)).shape.dim[:] = [2, 3]
    first.blobs.add(data=[0.5])
    first.blobs.add().shape.dim[:] = [0, 4]
    second = net.layer.add(name="a", type="Bias")
    second.blobs.add(data=[1, 2, 3, 4], diff=[5, 6, 7, 8]).shape.dim[:] = [4]
    data = net.SerializeToString()
    blob = field(5, struct.pack("<2f", 8, 9)) + field(7, b"\x08\x02") + field(7, b"\x08\x01")
    return data + field(100, field(1, b"b") + field(2, b"Bias") + field(7, blob))


@pytest.fixture
def save(tmp_path):
    def write(data: bytes, name: str = "net.caffemodel") -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


# Recorded files


@pytest.mark.parametrize("path", GOLDEN, ids=IDS)
def test_recorded_file_reads_as_protobuf_reads_it(path):
    dialect = path.parent.name
    net = parsed(path.read_bytes(), dialect)
    with read_caffemodel(path) as model:
        assert (model.name, model.inputs) == (net.name, list(net.input))
        assert len(model.layers) == len(net.layer) > 0
        for layer, expected in zip(model.layers, net.layer, strict=True):
            assert (layer.name, layer.type) == (expected.name, expected.type)
            assert (layer.bottoms, layer.tops) == (list(expected.bottom), list(expected.top))
            assert layer.phase == ("TRAIN", "TEST")[expected.phase]
            blobs = [stored(blob) for blob in expected.blobs]
            assert [blob.shape for blob in layer.blobs] == [blob.shape for blob in blobs]
            for blob, values in zip(layer.blobs, blobs, strict=True):
                np.testing.assert_array_equal(blob.data, values)
            expected.ClearField("blobs")
            assert layer.message(dialect) == expected
        assert model.message(dialect) == net


@pytest.mark.parametrize("path", GOLDEN, ids=IDS)
def test_recorded_file_is_written_byte_for_byte(path, tmp_path):
    with read_caffemodel(path) as model:
        write_caffemodel(model, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", GOLDEN, ids=IDS)
def test_recorded_file_is_rebuilt_byte_for_byte(path, tmp_path):
    net = parsed(path.read_bytes(), path.parent.name)
    blobs = [[stored(blob) for blob in layer.blobs] for layer in net.layer]
    for layer in net.layer:
        layer.ClearField("blobs")
    write_net(tmp_path / "rebuilt", net, blobs)
    assert (tmp_path / "rebuilt").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", GOLDEN, ids=IDS)
def test_recorded_file_gives_its_dialect(path):
    dialect, reason = read_caffemodel(path).dialect_hint()
    nothing_special = path.stem == "bnll"
    assert dialect == (None if nothing_special else path.parent.name)
    assert ("no layer type" if nothing_special else "layer '") in reason


def test_values_are_read_only_views_into_the_file():
    model = read_caffemodel(GOLDEN[0])
    blobs = [blob for layer in model.layers for blob in layer.blobs]
    assert blobs
    file = np.frombuffer(model._source.buffer, np.uint8)
    for blob in blobs:
        assert np.shares_memory(blob.data, file) and not blob.data.flags.writeable


# The schema


def test_both_dialects_keep_the_common_fields_in_the_same_places():
    for message in ("LayerParameter", "V1LayerParameter", "V0LayerParameter"):
        found = vars(layouts.layout(message))
        for dialect in DIALECTS:
            fields = descriptor(message, dialect).fields_by_name
            for name in ("name", "type", "bottom", "top", "blobs", "phase"):
                assert found[name] == (fields[name].number if name in fields else 0), (message, name)
    numbers = {name: f.number for name, f in descriptor("BlobProto", "bvlc").fields_by_name.items()}
    assert tuple(numbers[name] for name in ("num", "channels", "height", "width")) == reader._LEGACY
    assert (numbers["data"], numbers["diff"], numbers["shape"]) == (reader._DATA, reader._DIFF, reader._SHAPE)
    assert (numbers["double_data"], numbers["double_diff"]) == (reader._DOUBLE_DATA, reader._DOUBLE_DIFF)
    assert (writer._DATA, writer._SHAPE, writer._DOUBLE_DATA) == (
        reader._DATA,
        reader._SHAPE,
        reader._DOUBLE_DATA,
    )


def test_every_old_type_has_a_successor():
    values = descriptor("V1LayerParameter", "srn").fields_by_name["type"].enum_type.values
    assert {value.name for value in values} == set(types.V1_TYPES)
    own = {name for owner, name in native_names("srn") if owner == "V1LayerParameter.LayerType"}
    for value in values:
        if value.name in own - {"NONE"}:  # the others are of forks, which have one number for several types
            assert types.from_v1(value.number) in LAYER_TYPES["srn"] & LAYER_TYPES["bvlc"]
    assert types.from_v1(40) == "V1LayerType(40)"
    v0 = (
        "accuracy bnll concat conv data dropout euclidean_loss flatten hdf5_data hdf5_output im2col images "
        "infogain_loss innerproduct lrn multinomial_logistic_loss pool relu sigmoid softmax softmax_loss "
        "split tanh window_data"
    )
    assert {types.from_v0(name) for name in v0.split()} <= LAYER_TYPES["bvlc"]
    renamed = {
        "pool": "Pooling",
        "softmax_loss": "SoftmaxWithLoss",
        "images": "ImageData",
        "padding": "padding",
    }
    assert {name: types.from_v0(name) for name in renamed} == renamed


# Old and unusual ways of storing


@pytest.mark.parametrize("way", ["packed", "unpacked", "pieces"])
def test_v1_file_with_a_legacy_shape(save, way):
    path = save(v1_file(way))
    model = read_caffemodel(path)
    layer, loss = model.layers
    assert (model.inputs, layer.name, layer.type, loss.type) == (
        ["x"],
        "ip",
        "InnerProduct",
        "SoftmaxWithLoss",
    )
    blob = layer.blobs[0]
    assert (blob.shape, blob.legacy, blob.dtype, blob.diff) == ((2, 3, 1, 5), True, np.float32, None)
    np.testing.assert_array_equal(blob.data, LEGACY_VALUES.reshape(2, 3, 1, 5))
    assert blob.data.flags.owndata is False and not blob.data.flags.writeable
    assert layer.message("srn") == message_class("V1LayerParameter", "srn")(name="ip", type=14, bottom=["x"], top=["y"])
    np.testing.assert_array_equal(stored(parsed(path.read_bytes()).layers[0].blobs[0]), blob.data)


def test_v0_file(save):
    layer = read_caffemodel(save(v0_file())).layers[0]
    assert (layer.name, layer.type, layer.bottoms, layer.tops) == ("c1", "Convolution", ["x"], ["y"])
    np.testing.assert_array_equal(layer.blobs[0].data.ravel(), LEGACY_VALUES)
    expected = parsed(v0_file()).layers[0]
    expected.layer.ClearField("blobs")
    assert layer.message("bvlc") == expected


def test_doubles_gradients_scalars_and_empty_blobs(save):
    first, second, third = read_caffemodel(save(rich_file())).layers
    assert [layer.name for layer in (first, second, third)] == ["a", "a", "b"]
    double, scalar, empty = first.blobs
    assert double.dtype == np.float64 and double.shape == (2, 3)
    np.testing.assert_array_equal(double.data.ravel(), np.linspace(0, 1, 6))
    np.testing.assert_array_equal(double.diff.ravel(), np.linspace(1, 2, 6))
    assert scalar.shape == () and scalar.data == 0.5
    assert empty.shape == empty.data.shape == (0, 4) and empty.diff is None
    assert second.blobs[0].diff.tolist() == [5, 6, 7, 8]
    assert third.blobs[0].data.tolist() == [[8], [9]]  # the shape in two parts, as protobuf merges it


def test_long_unpacked_run_is_found_whole(save):
    """More values than one look-ahead block, a second run after another field, tag bytes in the values."""
    count = 64 * (1 + 4 + 16) + 11
    values = np.frombuffer(b"\x2d\x2d\x2d\x2d" * count, "<f4")
    run = b"".join(b"\x2d" + value.tobytes() for value in values)
    blob = run + b"\x10\x01" + run[: 5 * 7] + b"\x08" + wire.encode_varint(count + 7) + b"\x18\x01\x20\x01"
    found = read_caffemodel(save(field(100, field(7, blob)))).layers[0].blobs[0]
    assert found.shape == (count + 7, 1, 1, 1)
    assert found.data.tobytes() == b"\x2d" * 4 * (count + 7)


@pytest.mark.parametrize(
    ("legacy", "target", "fits"),
    [
        ((1, 1, 1, 7), (7,), True),
        ((1, 1, 3, 7), (3, 7), True),
        ((1, 1, 1, 7), (1, 7), True),
        ((1, 7, 1, 1), (1, 7), False),
        ((2, 3, 1, 7), (2, 3, 1, 7), True),
        ((1, 1, 1, 7), (1, 1, 1, 1, 7), False),
    ],
)
def test_legacy_shape_is_compared_right_aligned(save, legacy, target, fits):
    shape = b"".join(bytes([number << 3, dim]) for number, dim in enumerate(legacy, start=1))
    blob = field(5, bytes(4 * int(np.prod(legacy)))) + shape
    assert read_caffemodel(save(field(100, field(7, blob)))).layers[0].blobs[0].fits(target) is fits


def test_plain_shape_fits_only_itself(save):
    blob = read_caffemodel(save(rich_file())).layers[0].blobs[0]
    assert blob.fits((2, 3)) and not blob.fits((1, 2, 3)) and not blob.fits((3, 2))


def test_mean_file(save):
    values = np.arange(2 * 5 * 3, dtype=np.float32)
    mean = message_class("BlobProto", "srn")(num=1, channels=2, height=5, width=3, data=values)
    path = save(mean.SerializeToString(), "mean.binaryproto")
    blob = read_blob(path)
    assert blob.legacy and blob.shape == (1, 2, 5, 3)
    np.testing.assert_array_equal(blob.data.ravel(), values)
    with pytest.raises(WeightsError, match=r"single blob.*Read it with read_blob"):
        read_caffemodel(path)
    with pytest.raises(WeightsError, match=r"mean\.binaryproto: at byte"):
        read_blob(save(mean.SerializeToString()[:-1], "mean.binaryproto"))
    with pytest.raises(WeightsError, match="no values"):
        read_blob(save(b"\x08\x00", "mean.binaryproto"))
    with pytest.raises(WeightsError, match=r"this is a \.caffemodel; expected a single blob"):
        read_blob(GOLDEN[0])
    with pytest.raises(WeightsError, match="field 1 is a length-delimited; expected an integer"):
        read_blob(save(b"\x0a\x01\xff", "mean.binaryproto"))


def test_closed_file_keeps_arrays_already_taken(save):
    with read_caffemodel(save(rich_file())) as model:
        blob = model.layers[1].blobs[0]
        taken = blob.data
    assert taken.tolist() == [1, 2, 3, 4]
    with pytest.raises(UsageError, match="closed"):
        _ = blob.data


def test_names_that_are_not_utf8_are_escaped(save):
    layer = read_caffemodel(save(field(100, field(1, b"\xb0\xa1x")))).layers[0]
    assert layer.name == "\\xb0\\xa1x"


# Dialects


def hint(save, *layers) -> tuple[str | None, str]:
    net = message_class("NetParameter", "bvlc")()
    for kind, shapes in layers:
        layer = net.layer.add(name=f"l{len(net.layer)}", type=kind)
        for shape in shapes:
            layer.blobs.add(data=np.zeros(int(np.prod(shape)))).shape.dim[:] = shape
    return read_caffemodel(save(net.SerializeToString())).dialect_hint()


def test_dialect_hints(save):
    bn, batch_norm = ("BN", [(1, 6)] * 4), ("BatchNorm", [(6,), (6,), (1,)])
    conv = ("Convolution", [(2, 3, 5, 7)])
    assert hint(save, conv, bn)[0] == "srn"
    assert hint(save, conv, batch_norm)[0] == "bvlc"
    assert hint(save, conv)[0] is None
    dialect, reason = hint(save, bn, batch_norm)
    assert dialect is None and "'l0'" in reason and "'l1'" in reason
    for foreign in (("BN", [(1, 6, 1, 1)] * 4), ("BN", [(1, 6)] * 2), ("BatchNorm", [(6,)] * 5)):
        for before in ([], [bn]):
            dialect, reason = hint(save, *before, foreign)
            assert dialect is None and f"'l{len(before)}' is a" in reason and "another fork" in reason
    assert read_caffemodel(save(v1_file())).dialect_hint()[0] is None


# What is no caffemodel


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html>quota exceeded</html>", "web page"),
        (b"<html><head></head></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 186000000\n", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n" + bytes(range(200)), "HDF5"),
        (b"PK\x03\x04" + bytes(90), "zip archive"),
        (b"\x80\x02}q\x00." + bytes(20), "pickle"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "gzip"),
        (b'name: "net"\nlayer { name: "a" type: "ReLU" }\n', "text file .a prototxt"),
        (b"# a net\n" * 900, "text file .a prototxt"),
        (b"404: Not Found", "text file"),
        (b"\x08\x1e\x12\x11x_iter.caffemodel\x1a\x02\x08\x01", "solver state"),
        (b"\x0a\x03net", "no layers"),
        (b"\x08\xb8\x17" * 3, "field 1 is a varint; expected text"),
    ],
)
def test_other_files_are_named(save, data, found):
    path = save(data)
    with pytest.raises(WeightsError, match=rf"net\.caffemodel: .*{found}") as caught:
        read_caffemodel(path)
    assert caught.value.problems[0].fix


def test_missing_file_folder_and_pipe(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.caffemodel: cannot read"):
        read_caffemodel(tmp_path / "gone.caffemodel")
    with pytest.raises(WeightsError, match="directory"):
        read_caffemodel(tmp_path)
    with pytest.raises(WeightsError, match="not a regular file"):
        read_caffemodel("/dev/null")
    with pytest.raises(WeightsError, match="cannot read"):
        read_caffemodel("a\0b")


def huge(number: int) -> bytes:
    """A field that claims 3 GiB and has 20 bytes."""
    return wire.encode_header(number, GIGA) + bytes(20)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (huge(100), "at byte 0 of 27: field 100 claims 3,221,225,472 bytes, 20 are left"),
        (field(100, field(1, b"fat") + huge(7)), "layer 'fat': at byte 8 of"),
        (field(100, field(7, huge(5))), "field 5 claims"),
        (field(100, field(7, huge(7))), "field 7 claims"),
        (
            field(100, field(7, field(7, field(1, b"\x80\x80\x80\x80\x08")))),
            "Caffe's limit",
        ),
        (field(100, field(7, field(7, field(1, b"\xff\xff\xff\x7f" * 4)))), "Caffe's limit"),
        (field(100, field(7, field(7, field(1, b"\x00" + b"\xff\xff\xff\xff\x7f" * 3)))), "Caffe's limit"),
        (field(100, field(7, field(7, field(1, b"\xff" * 9 + b"\x01")))), r"shape \(-1,\) has a negative"),
        (field(100, field(7, b"\x08\xff\xff\xff\xff\x0f")), r"shape \(-1, 0, 0, 0\) has a negative"),
        (field(100, field(7, field(7, field(1, b"\x01" * 40)))), "more than 32 axes"),
        (field(100, field(7, field(5, bytes(11)))), "packs 11 bytes; expected a multiple of 4"),
        (field(100, field(7, b"\x28\x01")), "field 5 is a varint; expected packed"),
        (field(100, field(7, b"\x29" + bytes(8))), "field 5 is a 64-bit value"),
        (field(100, field(7, field(5, bytes(12)))), "no shape, but 3 values"),
        (field(100, b"\x13\x14"), "wire type 3 .group"),
        (field(100, b"\x17"), "wire type 7 .unknown"),
        (field(100, b"\x02\x00"), "field number 0"),
        (field(100, b"\x38" + b"\xff" * 10 + b"\x01"), "more than 10 bytes"),
        (field(100, b"\x38\x80"), "cut off"),
        (field(100, b"\x0a" + b"\xff" * 9 + b"\x01"), "claims 18,446,744,073,709,551,615 bytes"),
        (field(1, b"x" * 70_000) + field(100, b""), "a name of 70,000 bytes"),
        (field(100, field(1, b"a")) + field(2, field(4, b"b")), "layers of both formats"),
        (b"\xa2\x06\x00" * 60_000, "too many fields"),
        (field(100, b"\x3a\x00" * 90_000), "too many fields"),
    ],
)
def test_damage_is_refused_at_once_and_cheaply(save, data, found):
    path = save(data)
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(WeightsError, match=found):
            read_caffemodel(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 40 MB: the allowance of fields that any file has; a gigabyte's claim would show at once.
    assert peak < 4 * len(data) + (40e6 if len(data) > 10_000 else 100e3)
    assert time.perf_counter() - start < 5


def test_absent_legacy_dimension_reads_as_zero(save):
    with pytest.raises(WeightsError, match=r"shape \(2, 3, 0, 0\) means 0 values, 6 are stored"):
        read_caffemodel(save(field(100, field(7, b"\x08\x02\x10\x03" + field(5, bytes(24))))))


def test_all_blobs_that_do_not_fill_their_shape_are_listed(save):
    net = parsed(rich_file())
    net.layer[0].blobs[0].shape.dim[:] = [2, 4]
    net.layer[1].blobs[0].ClearField("diff")
    net.layer[1].blobs[0].diff.append(1)
    net.layer[2].blobs[0].data.append(1)
    with pytest.raises(WeightsError) as caught:
        read_caffemodel(save(net.SerializeToString()))
    assert [(p.layer, p.field, p.found) for p in caught.value.problems] == [
        ("a", "blobs[0]", "shape (2, 4) means 8 values, 6 are stored"),
        ("a", "blobs[0]", "shape (4,) means 4 values, its diff has 1"),
        ("b", "blobs[0]", "shape (2, 1) means 2 values, 3 are stored"),
    ]


def test_control_characters_do_not_reach_the_terminal(save):
    with pytest.raises(WeightsError) as caught:
        read_caffemodel(save(field(100, field(1, b"\x1b[2J" + b"n" * 500) + field(7, field(5, bytes(12))))))
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 500


def test_damaged_definition_leaves_the_blobs_readable(save):
    """A layer parameter that is garbage concerns only who asks for the definition."""
    data = field(100, field(1, b"c") + field(7, field(5, bytes(4))) + field(106, b"\xff\xff"))
    layer = read_caffemodel(save(data)).layers[0]
    assert layer.blobs[0].data == 0
    with pytest.raises(WeightsError, match="layer 'c': not a valid LayerParameter"):
        layer.message("bvlc")


# Truncation and mutation, judged by protobuf


def outcome(path: Path, data: bytes):
    """The model if `data` is accepted, read to the last value; None if it is refused in the proper way."""
    path.write_bytes(data)
    try:
        model = read_caffemodel(path)
        for layer in model.layers:
            for blob in layer.blobs:
                assert blob.data.shape == blob.shape
                assert blob.diff is None or blob.diff.shape == blob.shape
        model.dialect_hint()
        model.message("bvlc")
    except WeightsError as error:
        assert error.problems and path.name in str(error)
        return None
    return model


def text(name: str | bytes) -> str:
    """A string of a message; protobuf's fast parser gives bytes for one that is not UTF-8."""
    return name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")


def assert_agrees_with_protobuf(model, data: bytes) -> None:
    net = parsed(data)
    layers = list(net.layer) or list(net.layers)
    assert len(model.layers) == len(layers)
    for layer, expected in zip(model.layers, net.layer, strict=False):
        assert layer.bottoms == [text(name) for name in expected.bottom]
        for blob, other in zip(layer.blobs, expected.blobs, strict=True):
            double = len(other.double_data) > 0
            values = np.array(other.double_data if double else other.data, "<f8" if double else "<f4")
            assert blob.data.tobytes() == values.tobytes()


SEEDS = {
    "bn": (Path(__file__).parents[2] / "golden/caffemodel/srn/bn_frozen_train.caffemodel").read_bytes(),
    "batch_norm": GOLDEN[0].read_bytes(),
    "rich": rich_file(),
    "v1": v1_file("unpacked"),
    "v0": v0_file(),
}


@pytest.mark.parametrize("seed", ["bn", "rich", "v1", "v0"])
def test_truncation_at_every_byte(tmp_path, seed):
    """A cut file is refused, unless it was cut between two layers, where nothing can tell."""
    data, accepted = SEEDS[seed], 0
    for stop in range(len(data)):
        model = outcome(tmp_path / "cut.caffemodel", data[:stop])
        try:
            complete = len(parsed(data[:stop]).layer) + len(parsed(data[:stop]).layers) > 0
        except Exception:  # protobuf's versions raise different classes
            complete = False
        assert (model is not None) == complete, stop
        accepted += model is not None
    assert accepted < 5


def mutated(rng: np.random.Generator, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at, kind = int(rng.integers(len(out))), rng.integers(6)
        if kind == 0:
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            out[at] = int(rng.integers(256))
        elif kind == 2:
            out[at:at] = rng.bytes(int(rng.integers(1, 6)))
        elif kind == 3:
            del out[at : at + int(rng.integers(1, 9))]
        elif kind == 4:
            out[at : at + 1] = b"\xff" * int(rng.integers(1, 11)) + b"\x01"
        else:
            stop = at + int(rng.integers(1, 60))
            out[at:at] = out[at:stop]
        out = out or bytearray(b"\x00")
    return bytes(out)


def fuzz(path: Path, rounds: int, random_state: int) -> int:
    rng = np.random.default_rng(random_state)
    seeds, accepted, slowest = list(SEEDS.values()), 0, 0.0
    for number in range(rounds):
        data = mutated(rng, seeds[number % len(seeds)])
        start = time.perf_counter()
        model = outcome(path, data)
        slowest = max(slowest, time.perf_counter() - start)
        if model is not None:
            accepted += 1
            assert_agrees_with_protobuf(model, data)
    assert slowest < 2
    return accepted


def test_mutations(tmp_path):
    accepted = fuzz(tmp_path / "mutated.caffemodel", 3000, 1)
    assert 30 < accepted < 2700  # both outcomes have been tried


@pytest.mark.slow
def test_many_mutations(tmp_path):
    assert fuzz(tmp_path / "mutated.caffemodel", 200_000, 2) > 1000


# Writing


@pytest.mark.parametrize("seed", SEEDS)
def test_any_readable_file_is_written_byte_for_byte(save, tmp_path, seed):
    read_caffemodel(save(SEEDS[seed])).write(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == SEEDS[seed]


@pytest.mark.parametrize("way", ["packed", "unpacked", "pieces"])
def test_replace_keeps_everything_else(save, tmp_path, way):
    data = v1_file(way)
    new = np.arange(30)[::-1].astype(np.float64).reshape(2, 3, 5)
    read_caffemodel(save(data)).write(tmp_path / "new", replace={("ip", 0): new})
    written = (tmp_path / "new").read_bytes()
    changed = read_caffemodel(tmp_path / "new").layers[0].blobs[0]
    np.testing.assert_array_equal(changed.data, new.reshape(2, 3, 1, 5))
    expected, found = parsed(data), parsed(written)
    expected.layers[0].blobs[0].data[:] = new.ravel()
    assert found == expected and len(written) == len(data)


def test_replace_doubles_and_several_over_the_file_itself(save):
    path = save(rich_file())
    model = read_caffemodel(path)
    old = model.layers[2].blobs[0].data
    replace = {(2, 0): np.float32([[1], [2]]), (0, 0): np.full((2, 3), 1 / 3), (0, 1): np.float32(7)}
    model.write(path, replace)
    found = read_caffemodel(path)
    assert found.layers[2].blobs[0].data.tolist() == [[1], [2]]
    assert found.layers[0].blobs[0].data[1, 2] == 1 / 3  # not rounded to float32
    assert found.layers[0].blobs[1].data == 7
    assert found.layers[1].blobs[0].data.tolist() == [1, 2, 3, 4]
    assert old.tolist() == [[8], [9]]  # the open file is still the old one


def test_replace_names_all_that_does_not_fit(save, tmp_path):
    model = read_caffemodel(save(rich_file()))
    replace = {
        ("a", 0): np.zeros((2, 3)),
        ("bb", 0): np.zeros(2),
        ("b", 1): np.zeros(2),
        (9, 0): np.zeros(2),
        (0, 0): np.zeros((3, 2)),
        (1, 0): np.zeros(4, np.int64),
    }
    with pytest.raises(WeightsError) as caught:
        model.write(tmp_path / "new", replace)
    text = str(caught.value)
    for part in (
        "2 layers have this name",
        "Did you mean 'b'",
        "has 1 blobs; expected a blob 1",
        "layer '9'",
        "shape (3, 2); expected (2, 3)",
        "int64; expected float32",
    ):
        assert part in text
    assert len(caught.value.problems) == 6 and not (tmp_path / "new").exists()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_fresh_net_is_what_protobuf_would_write(tmp_path, dialect):
    """Scalars, empty blobs, other memory layouts and byte orders, fields before and after the blobs."""
    rng = np.random.default_rng(3)
    arrays = [
        [rng.standard_normal((3, 200, 7), np.float32).transpose(2, 0, 1), np.float32(5).reshape(())],
        [],
        [
            rng.standard_normal((2, 3)).astype(">f4"),
            np.zeros((0, 3), np.float32),
            np.ones((1, 4, 1), np.float32),
        ],
    ]
    if dialect == "bvlc":
        arrays[1].append(rng.standard_normal((5, 2)))
    net = message_class("NetParameter", dialect)(name="n", input=["x"], debug_info=True)
    for index in range(3):
        layer = net.layer.add(name=f"l{index}", type="Convolution", loss_weight=[1, 2, 3], phase=index % 2)
        layer.param.add(lr_mult=0.5)
        layer.include.add(phase=1)
        layer.convolution_param.num_output = 5
    write_net(tmp_path / "net", net, arrays)
    for layer, blobs in zip(net.layer, arrays, strict=True):
        for array in blobs:
            blob = layer.blobs.add()
            blob.shape.dim.extend(array.shape) if array.ndim else None
            (blob.double_data if array.dtype.itemsize == 8 else blob.data).extend(array.ravel())
    assert (tmp_path / "net").read_bytes() == net.SerializeToString(deterministic=True)


def test_fresh_v1_net(tmp_path):
    net = message_class("NetParameter", "srn")(name="old", force_backward=True)
    net.layers.add(name="a", type=4, bottom=["x"], blobs_lr=[1, 2])
    weights = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    write_net(tmp_path / "net", net, [[weights]])
    blob = net.layers[0].blobs.add(data=weights.ravel())
    blob.shape.dim[:] = weights.shape
    assert (tmp_path / "net").read_bytes() == net.SerializeToString(deterministic=True)


def simple_net(dialect: str = "srn"):
    net = message_class("NetParameter", dialect)()
    net.layer.add(name="a", type="Scale")
    return net


def test_fresh_net_names_all_that_does_not_fit(tmp_path):
    net = simple_net()
    net.layer.add(name="b", type="Bias").blobs.add(data=[1])
    blobs = [[np.zeros(2), np.zeros(2, np.float16), np.zeros((1,) * 33, np.float32)], [], []]
    with pytest.raises(WeightsError) as caught:
        write_net(tmp_path / "net", net, blobs)
    text = str(caught.value)
    for part in ("given for 3 layers", "type float64", "type float16", "33 axes", "already carries blobs"):
        assert part in text
    old = message_class("NetParameter", "bvlc")()
    old.layers.add().layer.name = "v0"
    with pytest.raises(WeightsError, match="V0"):
        write_net(tmp_path / "net", old, [[]])
    old.layer.add()
    with pytest.raises(WeightsError, match="both formats"):
        write_net(tmp_path / "net", old, [[], []])
    with pytest.raises(UsageError, match="NetParameter"):
        write_net(tmp_path / "net", old.layer[0], [[]])
    assert not list(tmp_path.iterdir())


def test_more_than_caffe_can_read_is_refused_before_writing(tmp_path):
    array = np.broadcast_to(np.float32(0), (1 << 14, 1 << 15))  # 2 GiB, in four bytes
    with pytest.raises(WeightsError, match=r"2,147,483,6\d\d bytes; expected at most 2,147,483,647"):
        write_net(tmp_path / "net", simple_net(), [[array]])
    assert not list(tmp_path.iterdir())


def test_writing_takes_constant_memory(tmp_path):
    array = np.broadcast_to(np.arange(1 << 16, dtype=np.float32), (96, 1 << 16))  # 25 MB
    tracemalloc.start()
    write_net(tmp_path / "net", simple_net(), [[array]])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # two blocks of 4 MiB at most
    assert read_caffemodel(tmp_path / "net").layers[0].blobs[0].data[95, -1] == (1 << 16) - 1


def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net"
    write_net(path, simple_net(), [[np.ones(3, np.float32)]])
    before = path.read_bytes()

    def full(file, piece):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_write_piece", full)
    with pytest.raises(CaffeError, match="No space left"):
        write_net(path, simple_net(), [[np.ones(5, np.float32)]])
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["net"]


# The package as a whole


def test_neither_torch_nor_onnx_is_imported():
    check = "import sys, port.caffemodel; print([n for n in ('torch', 'onnx') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_benchmark_measures_both_ways(capsys):
    spec = importlib.util.spec_from_file_location("bench", ROOT / "benchmarks" / "open_caffemodel.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    size = 4 * sum(int(np.prod(shape)) for _, _, shapes in bench.resnet101_srn() for shape in shapes)
    assert size == pytest.approx(186e6, rel=0.01)
    figures = bench.main(GOLDEN[0])
    assert set(figures) == {"mapped", "protobuf"} and figures["mapped"]["first_ms"] > 0
    assert "protobuf" in capsys.readouterr().out
