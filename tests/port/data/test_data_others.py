"""HDF5Data, MemoryData, VideoData."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from data_layers import data_layer, labels, of_ranks, take

from port.data import open_data
from port.data.datum import encode, stored_pixels
from prototxt_gen.base.errors import DataError


def hdf5_layer(fields: str = "", dialect: str = "bvlc", tops: str = "data label"):
    return data_layer("HDF5Data", f'hdf5_data_param {{ source: "files.txt" {fields} }}', dialect, tops)


def write_hdf5(folder: Path, sizes: tuple[int, ...], kind: str = "f4") -> None:
    start = 0
    for number, size in enumerate(sizes):
        with h5py.File(folder / f"{number}.h5", "w") as file:
            file["label"] = np.arange(start, start + size).astype(kind)
            file["data"] = (np.arange(size * 6).reshape(size, 2, 3) + 100 * start).astype(kind)
        start += size
    (folder / "files.txt").write_text(" ".join(f"{i}.h5" for i in range(len(sizes))) + "\n")


def test_hdf5_batches_run_across_files(tmp_path: Path):
    write_hdf5(tmp_path, (3, 2, 4))
    source = open_data(hdf5_layer("batch_size: 4"), root=tmp_path)
    assert source.shapes() == {"data": (4, 2, 3), "label": (4,)}
    assert labels(source, 3) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 0, 1, 2]]
    source.position = 0
    np.testing.assert_array_equal(take(source, 1)[0]["data"][3], np.arange(6).reshape(2, 3) + 300)
    ranks = of_ranks(hdf5_layer("batch_size: 2"), "TRAIN", "bvlc", tmp_path, 2, 2)
    assert ranks == [[[0, 2], [4, 6]], [[1, 3], [5, 7]]]
    assert of_ranks(hdf5_layer("batch_size: 2"), "TRAIN", "srn", tmp_path, 2, 1) == [[[0, 1]], [[0, 1]]]


def test_hdf5_shuffles_files_and_the_rows_in_them(tmp_path: Path):
    write_hdf5(tmp_path, (3, 2, 4))
    files = ({0, 1, 2}, {3, 4}, {5, 6, 7, 8})
    epochs = labels(open_data(hdf5_layer("batch_size: 9 shuffle: true"), "TRAIN", root=tmp_path), 30)
    orders = set()
    for epoch in epochs:
        assert sorted(epoch) == list(range(9))
        order = sorted(files, key=lambda rows, epoch=epoch: min(map(epoch.index, rows)))
        assert [set(epoch[i:j]) for i, j in zip((0, *ends(order)), ends(order), strict=False)] == order
        orders.add(tuple(map(min, order)))
    assert len(orders) == 6 and len(set(map(tuple, epochs))) > 20


def ends(order: list[set[int]]) -> list[int]:
    return np.cumsum([len(rows) for rows in order]).tolist()


def test_hdf5_errors_are_all_told(tmp_path: Path):
    write_hdf5(tmp_path, (3, 2, 4, 1), "i4")
    assert labels(open_data(hdf5_layer("batch_size: 1"), root=tmp_path), 1) == [[0]]
    with pytest.raises(DataError, match="a dataset of type int32; expected float32 or float64"):
        open_data(hdf5_layer("batch_size: 1", "srn"), dialect="srn", root=tmp_path)
    (tmp_path / "1.h5").write_bytes(b"junk")
    with h5py.File(tmp_path / "2.h5", "w") as file:
        file["data"] = np.ones((4, 2, 4))
        file["label"] = np.ones(5)
    with h5py.File(tmp_path / "3.h5", "w") as file:
        file["image"] = np.ones((4, 2, 4))
        file["data/inner"] = np.ones((4, 2, 4))  # a group is no dataset
    with pytest.raises(DataError) as error:
        open_data(hdf5_layer("batch_size: 1"), root=tmp_path)
    text = str(error.value)
    for part in ("1.h5", "data 4, label 5", "rows of 2x4, ()", "no dataset 'data', but image", "no dataset 'label'"):
        assert part in text
    layer = hdf5_layer("batch_size: 1")
    layer.transform_param.scale = 2
    with pytest.raises(DataError, match="HDF5Data transforms nothing"):
        open_data(layer, root=tmp_path)
    (tmp_path / "files.txt").write_bytes(b"\xef\xbb\xbf0.h5\r\n")  # with a byte order mark
    assert labels(open_data(hdf5_layer("batch_size: 1"), root=tmp_path), 1) == [[0]]
    (tmp_path / "files.txt").write_text("4.h5 5.h5")
    with pytest.raises(DataError, match=r"(?s)no file .*4.h5.*no file .*5.h5"):
        open_data(hdf5_layer("batch_size: 1"), root=tmp_path)


def test_damaged_hdf5_files_are_refused(tmp_path: Path):
    write_hdf5(tmp_path, (3,))
    whole = (tmp_path / "0.h5").read_bytes()
    refused = 0
    for place in range(96, len(whole), 8):  # behind the superblock: groups, names, headers, values
        (tmp_path / "0.h5").write_bytes(whole[:place] + b"\xff" * 8 + whole[place + 8 :])
        try:
            take(open_data(hdf5_layer("batch_size: 2"), root=tmp_path), 1)
        except DataError as error:
            refused += 1
            assert "0.h5" in str(error) and "layer 'd'" in str(error)
    assert refused > 20


def test_memory_data(tmp_path: Path):
    fields = "memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 }"
    data = np.arange(4 * 60, dtype=np.float64).reshape(4, 3, 4, 5)
    layer = data_layer("MemoryData", fields)
    source = open_data(layer, arrays=(data, np.arange(4)))
    assert labels(source, 3) == [[0, 1], [2, 3], [0, 1]]
    np.testing.assert_array_equal(take(source, 1)[0]["data"], data[2:].astype(np.float32))
    scaled = open_data(data_layer("MemoryData", fields + "transform_param { scale: 2 }"), arrays=(data, np.arange(4)))
    np.testing.assert_array_equal(take(scaled, 1)[0]["data"], 2 * data[:2])
    for arrays, message in (
        (None, r"open_data\(..., arrays="),
        ((data[:3], np.arange(3)), "a multiple of batch_size 2"),
        ((data, np.arange(3)), "data 4x3x4x5 and labels 3"),
        ((data.reshape(4, 3, 5, 4), np.arange(4)), "items of 3x5x4; expected 3x4x5"),
    ):
        with pytest.raises(DataError, match=message):
            open_data(layer, arrays=arrays)


def write_video(folder: Path, frames: int, names: tuple[str, ...], size: tuple[int, int] = (6, 8)) -> None:
    folder.mkdir(parents=True)
    for frame in range(1, frames + 1):
        for k, name in enumerate(names):
            cv2.imwrite(str(folder / (name % frame)), np.full((*size, 3), 10 * frame + k, np.uint8))


def video_layer(fields: str, transform: str = ""):
    transform = transform and f"transform_param {{ {transform} }}"
    return data_layer("VideoData", f'video_data_param {{ source: "videos.txt" {fields} }} {transform}', "srn")


FLOW = ("flow_x_%04d.png", "flow_y_%04d.png")


def test_videos_of_flow(tmp_path: Path):
    write_video(tmp_path / "v", 9, FLOW)
    write_video(tmp_path / "w", 9, FLOW)
    (tmp_path / "videos.txt").write_text("v 9 3\nw 9 5\n")
    pattern = 'name_pattern: "flow_%c_%04d.png"'
    layer = video_layer(f"batch_size: 2 new_length: 2 num_segments: 2 {pattern}")
    source = open_data(layer, "TEST", "srn", root=tmp_path)
    batch = take(source, 1)[0]
    assert batch["data"].shape == (2, 8, 6, 8) and batch["label"].shape == (2, 1, 1, 1)
    assert batch["label"].reshape(-1).tolist() == [3, 5]
    # Segments of 4 frames; (4 - 2 + 1) / 2 = 1 is passed over: frames 2, 3 and 6, 7, x and y in turn.
    assert batch["data"][0, :, 0, 0].tolist() == [20, 21, 30, 31, 60, 61, 70, 71]
    training = open_data(layer, "TRAIN", "srn", root=tmp_path)
    seen = {tuple(batch["data"][0, ::4, 0, 0].astype(int)) for batch in take(training, 60)}
    assert seen == {(10 * a, 10 * b) for a in (1, 2, 3) for b in (5, 6, 7)}
    short = video_layer(f"batch_size: 1 new_length: 5 num_segments: 2 {pattern}")
    first = take(open_data(short, "TRAIN", "srn", root=tmp_path), 1)[0]["data"][0, ::2, 0, 0]
    assert first.tolist() == [10, 20, 30, 40, 50] * 2


def test_videos_start_with_the_first_whatever_rand_skip_says(tmp_path: Path):
    for i in range(5):
        write_video(tmp_path / f"v{i}", 3, FLOW)
    (tmp_path / "videos.txt").write_text("".join(f"v{i} 3 {i}\n" for i in range(5)))
    layer = video_layer('batch_size: 3 rand_skip: 9 name_pattern: "flow_%c_%04d.png"')
    for seed in range(4):
        assert labels(open_data(layer, "TRAIN", "srn", root=tmp_path, seed=seed), 1) == [[0, 1, 2]]


def test_videos_of_frames(tmp_path: Path):
    write_video(tmp_path / "v", 5, ("image_%04d.jpg",))
    (tmp_path / "videos.txt").write_text("v 5 1\n")
    fields = "batch_size: 1 modality: RGB new_length: 1 num_segments: 5 new_height: 12 new_width: 10"
    batch = take(open_data(video_layer(fields, "crop_size: 7"), "TEST", "srn", root=tmp_path), 1)[0]
    assert batch["data"].shape == (1, 15, 7, 7)
    assert batch["data"][0, ::3, 0, 0].tolist() == [10, 20, 30, 40, 50]
    (tmp_path / "v" / "image_0004.jpg").unlink()
    with pytest.raises(DataError, match=r"videos.txt:1: layer 'd', field 'v': .*image_0004.jpg: cannot read"):
        take(open_data(video_layer(fields), "TEST", "srn", root=tmp_path), 1)
    for wrong, message in (
        ('modality: RGB name_pattern: "image_%c_%d"', "name_pattern.*expected a pattern like 'image_"),
        ("encoded: true", "encoded videos are not supported"),
        ("num_segments: 0", "new_length 1, num_segments 0"),
    ):
        with pytest.raises(DataError, match=message):
            take(open_data(video_layer(f"batch_size: 1 {wrong}"), "TEST", "srn", root=tmp_path), 1)
    (tmp_path / "videos.txt").write_text("v 5\nw 5 1\n")
    with pytest.raises(DataError, match=r"(?s)videos.txt:1.*a folder, the number of frames.*videos.txt:2.*no folder"):
        open_data(video_layer(fields), "TEST", "srn", root=tmp_path)


@pytest.mark.parametrize("claim", ["pixels", "chunk"])
def test_a_png_that_claims_more_than_it_holds_is_refused_at_once(claim):
    whole = encode(np.arange(37 * 53 * 3).reshape(37, 53, 3).astype(np.uint8), "png")
    assert stored_pixels(whole).shape == (37, 53, 3)
    claims = (
        whole[:16] + struct.pack(">II", 30_000, 30_000) + whole[24:]  # pixels
        if claim == "pixels"
        else whole[:33] + struct.pack(">I", 0x7FFFFF00) + b"iCCP" + whole[33:]  # bytes of a chunk
    )
    began = time.monotonic()
    with pytest.raises(DataError, match="does not decode"):
        stored_pixels(claims)
    assert time.monotonic() - began < 1  # seconds; OpenCV alone takes several, and gigabytes
