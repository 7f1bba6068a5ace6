"""The strict reader of LMDB files: the same records as LMDB's own library, and damage of every kind as an error."""

from __future__ import annotations

import random
import shutil

import lmdb
import pytest
from data_layers import GOLDEN_DATA

from port.data.database import Database
from prototxt_gen.base.errors import DataError


def written(folder, records, *, deleted=0, **options):
    """A database by LMDB's library: records in several transactions, some of them deleted again."""
    environment = lmdb.open(str(folder), map_size=1 << 26, **options)
    items = list(records.items())
    for start in range(0, len(items), 97):
        with environment.begin(write=True) as transaction:
            for key, value in items[start : start + 97]:
                transaction.put(key, value)
    with environment.begin(write=True) as transaction:
        for key, _ in items[:deleted]:
            transaction.delete(key)
    environment.close()
    return folder


def theirs(folder) -> dict[bytes, bytes]:
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return dict(transaction.cursor())


def ours(folder) -> dict[bytes, bytes]:
    database = Database(folder)
    return {key: database[i] for i, key in enumerate(database.keys)}


KINDS = {
    "one record": lambda r: {b"a": b"value"},
    "small values": lambda r: {f"{i:08d}".encode(): r.randbytes(r.randint(0, 60)) for i in range(3000)},
    "large values": lambda r: {f"{i:08d}_x.jpg".encode(): r.randbytes(r.randint(1, 30000)) for i in range(300)},
    "of all sizes": lambda r: {
        r.randbytes(r.randint(1, 200)): r.randbytes(r.choice([0, 9, 2000, 5000])) for _ in range(900)
    },
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("deleted", [0, 1])
def test_the_same_records_as_the_library(tmp_path, kind, deleted):
    """Trees of one page and of several levels, values in pages of their own, gaps that deletions leave."""
    records = KINDS[kind](random.Random(5))
    folder = written(tmp_path / "db", records, deleted=len(records) // 3 if deleted else 0)
    expected = theirs(folder)
    found = ours(folder)
    assert found == expected and list(found) == list(expected) and expected


@pytest.mark.parametrize("path", sorted(p.parent for p in GOLDEN_DATA.rglob("data.mdb")), ids=lambda p: p.name)
def test_caffes_own_databases(path):
    assert ours(path) == theirs(path)


def test_a_database_that_grows_while_it_is_open(tmp_path):
    """What was there when it was opened stays readable; a new opening sees the rest."""
    folder = written(tmp_path / "db", {b"a": b"1", b"b": b"2" * 9000})
    first = Database(folder)
    written(folder, {b"c": b"3"})
    assert first.keys == [b"a", b"b"] and first[1] == b"2" * 9000
    assert Database(folder).keys == [b"a", b"b", b"c"]


def test_a_file_that_is_cut_while_it_is_open(tmp_path):
    folder = written(tmp_path / "db", {f"{i}".encode(): bytes(9000) for i in range(9)})
    database = Database(folder)
    with open(folder / "data.mdb", "r+b") as file:
        file.truncate(20_000)
    with pytest.raises(DataError, match=r"of a file of|was cut meanwhile"):
        [database[i] for i in range(9)]


def test_one_damaged_meta_page_leaves_the_other(tmp_path):
    """As LMDB itself goes on after a crash."""
    folder = written(tmp_path / "db", {b"a": b"1"})
    data = bytearray((folder / "data.mdb").read_bytes())
    newer = 0 if data[0x88:0x90] > data[4096 + 0x88 : 4096 + 0x90] else 4096
    for offset in (0, 4096):
        changed = bytearray(data)
        changed[offset + 16 : offset + 20] = bytes(4)
        (folder / "data.mdb").write_bytes(changed)
        try:
            assert Database(folder).keys == [b"a"]
        except DataError as error:  # the older one is of the empty database before
            assert "empty" in str(error) and offset == newer


@pytest.mark.parametrize("rounds", [400, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutations(tmp_path, rounds):
    """Every damage is an error of ours; none ends the process, as LMDB's library would."""
    r = random.Random(3)
    sources = [
        (written(tmp_path / f"s{i}", records) / "data.mdb").read_bytes()
        for i, records in enumerate(KINDS[kind](r) for kind in ("small values", "large values"))
    ]
    sources[1] = sources[1][: 1 << 20]
    folder, damaged = tmp_path / "db", 0
    folder.mkdir()
    for _ in range(rounds):
        data = bytearray(r.choice(sources)[: r.choice([1 << 16, 1 << 18, 1 << 20])])
        for _ in range(r.randint(1, 6)):
            at = (
                r.randrange(len(data))
                if r.random() < 0.5
                else r.randrange(max(len(data) // 4096, 1)) * 4096 + r.randrange(32)
            )
            data[at % len(data)] = r.choice([0, 255, r.randrange(256)])
        (folder / "data.mdb").write_bytes(data)
        try:
            ours(folder)
        except DataError:
            damaged += 1
    assert damaged > rounds / 4
    shutil.rmtree(folder)
