"""Mean images: one BlobProto, legacy shape, as compute_image_mean writes it."""

from __future__ import annotations

import numpy as np
import pytest

import port
from port.caffemodel import read_blob
from prototxt_gen.base.errors import UsageError, WeightsError
from prototxt_gen.schema import message_class

# BlobProto on the wire, by hand: num 1, channels 3, height 1, width 2, then six packed floats (field 5).
WIRE = bytes.fromhex("0801 1003 1801 2002 2a18") + np.arange(6, dtype="<f4").tobytes()


def test_written_as_caffe_does(tmp_path):
    path = tmp_path / "mean.binaryproto"
    port.write_mean(path, np.arange(6, dtype=np.float32).reshape(3, 1, 2))
    assert path.read_bytes() == WIRE


def test_read(tmp_path):
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(WIRE)
    mean = port.read_mean(path)
    assert mean.dtype == np.float32 and mean.shape == (3, 1, 2)
    np.testing.assert_array_equal(mean, np.arange(6).reshape(3, 1, 2))
    mean += 1  # the caller's own copy
    np.testing.assert_array_equal(port.read_mean(path), np.arange(6).reshape(3, 1, 2))


def test_round_trip(tmp_path):
    values = np.random.default_rng(5).uniform(0, 255, (3, 7, 4))
    port.write_mean(tmp_path / "m", values)
    np.testing.assert_array_equal(port.read_mean(tmp_path / "m"), values.astype(np.float32))
    assert read_blob(tmp_path / "m").legacy


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 2, 3, 4)])
def test_shapes_of_today(tmp_path, shape):
    """Other tools write the field `shape`; doubles are BVLC's."""
    blob = message_class("BlobProto", "bvlc")(shape={"dim": shape}, double_data=range(24))
    (tmp_path / "m").write_bytes(blob.SerializeToString())
    mean = port.read_mean(tmp_path / "m")
    assert mean.shape == (2, 3, 4) and mean.dtype == np.float32 and mean[1, 2, 3] == 23


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4), (1, 1, 2, 3, 4)])
def test_not_one_image(tmp_path, shape):
    blob = message_class("BlobProto", "bvlc")(shape={"dim": shape}, data=np.zeros(np.prod(shape)))
    (tmp_path / "m").write_bytes(blob.SerializeToString())
    with pytest.raises(WeightsError, match="expected 1 image: channels, height and width"):
        port.read_mean(tmp_path / "m")


@pytest.mark.parametrize("cut", range(1, len(WIRE)))
def test_cut_off(tmp_path, cut):
    (tmp_path / "m").write_bytes(WIRE[:cut])
    with pytest.raises(WeightsError, match="m: "):
        port.read_mean(tmp_path / "m")


def test_missing(tmp_path):
    with pytest.raises(WeightsError, match="Check the path"):
        port.read_mean(tmp_path / "none.binaryproto")


@pytest.mark.parametrize("mean", [np.zeros((3, 4)), np.zeros((1, 3, 4, 5)), np.zeros((0, 2, 3)), [[["a"]]], None])
def test_bad_array(tmp_path, mean):
    with pytest.raises(UsageError, match="channels, height and width"):
        port.write_mean(tmp_path / "m", mean)
    assert not (tmp_path / "m").exists()
