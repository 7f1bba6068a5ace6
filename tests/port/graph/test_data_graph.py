"""Nets whose data layers get their shapes from the data that is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_layers import write_data
from small_nets import fully, layer

from port.graph.build import load_graph
from prototxt_gen.base.errors import NetError

DATABASE = 'data_param { source: "db" backend: LMDB batch_size: 4 }'
LIST = 'image_data_param { source: "list.txt" batch_size: 2 }'


def write_net(folder: Path, kind: str, fields: str) -> Path:
    path = folder / "net.prototxt"
    path.write_text('name: "n"\n' + layer("d", kind, "", "data label", fields) + fully("fc", "data", "fc", 5))
    return path


@pytest.mark.parametrize(("kind", "fields", "batch"), [("Data", DATABASE, 4), ("ImageData", LIST, 2)])
def test_shapes_come_from_the_nets_own_folder(tmp_path: Path, kind: str, fields: str, batch: int):
    write_data(tmp_path)
    graph = load_graph(write_net(tmp_path, kind, fields))
    shapes = {blob: value.shape for blob, value in graph.blobs().items()}
    assert shapes == {"data": (batch, 3, 9, 13), "label": (batch,), "fc": (batch, 5)}


def test_shapes_come_from_the_current_folder_first(tmp_path: Path, monkeypatch):
    write_data(tmp_path / "here")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    graph = load_graph(write_net(tmp_path / "there", "Data", DATABASE))
    assert graph.blobs()["data"].shape == (4, 3, 9, 13)


def test_given_shapes_need_no_data(tmp_path: Path):
    (tmp_path / "db").mkdir()  # there, but no database
    path = write_net(tmp_path, "Data", DATABASE)
    graph = load_graph(path, input_shapes={"data": (1, 2, 3, 5), "label": (1,)})
    assert graph.blobs()["data"].shape == (1, 2, 3, 5)


def test_without_the_data_the_error_says_what_to_give(tmp_path: Path):
    path = write_net(tmp_path, "Data", DATABASE)
    with pytest.raises(NetError, match=r"net.prototxt:2.*input_shapes"):
        load_graph(path)
    (tmp_path / "db").mkdir()
    with pytest.raises(NetError, match=r"(?s)a folder without data.mdb.*input_shapes"):
        load_graph(path)
