"""Finding recordings: sorted, without following links, and saying where it is when that takes long."""

from __future__ import annotations

import pytest

from prototxt_gen.base.errors import DataError
from verify.parity import cases
from verify.parity.cases import find_recorded


def beside(path) -> bool:
    return path.with_suffix(".npz").exists()


def test_what_is_found(tmp_path):
    for name in ("b/two", "b/one", "a/three"):
        path = tmp_path / f"{name}.prototxt"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        path.with_suffix(".npz").touch()
    (tmp_path / "a" / "alone.prototxt").touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    found = find_recorded([tmp_path], ".prototxt", beside, "x")
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "a/three.prototxt", "b/one.prototxt", "b/two.prototxt",
    ]  # fmt: skip


def test_a_long_search_says_where_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cases, "_PAUSE", -1.0)
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    with pytest.raises(DataError, match="no recorded case; expected NAME beside"):
        find_recorded([tmp_path], ".prototxt", beside, "NAME beside")
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == f"looking for recordings: 3 folders, 0 found, now in {tmp_path / 'deep' / 'deeper'}"


def test_what_is_no_folder(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        find_recorded([tmp_path / "gone"], ".prototxt", beside, "x")
