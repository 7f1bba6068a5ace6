"""Order of a data layer's items: wrap-around, shuffling, the ranks' shares, state, workers."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_layers import database, image_data, labels, of_ranks, take, write_data

from port.data import open_data
from port.data.database import Database
from prototxt_gen.base.errors import DataError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_data(tmp_path)


# Order


@pytest.mark.parametrize("layer", [image_data("batch_size: 3"), database("batch_size: 3")], ids=["list", "database"])
def test_batches_wrap_around(images: Path, layer):
    source = open_data(layer, root=images)
    assert len(source) == 7 and source.shapes() == {"data": (3, 3, 9, 13), "label": (3,)}
    assert labels(source, 5) == [[10, 11, 12], [13, 14, 15], [16, 10, 11], [12, 13, 14], [15, 16, 10]]
    # The pixels belong to the labels.
    batch = take(source, 1)[0]
    expected = [cv2.imread(str(images / f"img{int(i) - 10}.png")).transpose(2, 0, 1) for i in batch["label"]]
    np.testing.assert_array_equal(batch["data"], np.array(expected, np.float32))


def test_a_list_is_shuffled_anew_each_epoch(images: Path):
    source = open_data(image_data("batch_size: 7 shuffle: true"), "TRAIN", root=images, seed=2)
    epochs = labels(source, 40)
    assert all(sorted(epoch) == list(range(10, 17)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 40
    # Every label stands in every place about equally often (5.7 times expected; 40 permutations, fixed seed).
    counts = Counter((place, label) for epoch in epochs for place, label in enumerate(epoch))
    assert len(counts) == 49 and max(counts.values()) < 17
    assert labels(open_data(image_data("batch_size: 7 shuffle: true"), "TRAIN", root=images, seed=3), 1) != epochs[:1]


def test_rand_skip_starts_somewhere_else(images: Path):
    for layer in (image_data("batch_size: 1 rand_skip: 5"), database("batch_size: 1 rand_skip: 5", "srn")):
        dialect = "srn" if layer.type == "Data" else "bvlc"
        starts = {labels(open_data(layer, "TRAIN", dialect, root=images, seed=s), 2)[0][0] for s in range(40)}
        assert starts == set(range(10, 15))
    # BVLC's Data ignores it.
    layer = database("batch_size: 1 rand_skip: 5")
    assert {labels(open_data(layer, "TRAIN", root=images, seed=s), 1)[0][0] for s in range(20)} == {10}
    with pytest.raises(DataError, match="'rand_skip': 8, and the list has 7 entries"):
        open_data(image_data("batch_size: 1 rand_skip: 8"), root=images)


def test_the_forks_data_shuffle_begins_in_order(images: Path):
    layer = database("batch_size: 7 shuffle: true", "srn")
    epochs = labels(open_data(layer, "TRAIN", "srn", root=images, seed=1), 30)
    assert epochs[0] == list(range(10, 17)) and all(sorted(epoch) == epochs[0] for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 30


def test_layers_draw_on_their_own_unless_they_share_a_stream(images: Path):
    layer = image_data("batch_size: 7 shuffle: true")
    other = image_data("batch_size: 7 shuffle: true")
    other.name = "e"
    one, two = (labels(open_data(message, root=images), 3) for message in (layer, other))
    assert one != two
    one, two = (labels(open_data(message, root=images, stream="pairs"), 3) for message in (layer, other))
    assert one == two


# Ranks


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_the_forks_ranks_read_blocks_in_turn(images: Path, phase: str):
    for layer in (image_data("batch_size: 2 shuffle: true", "srn"), database("batch_size: 2", "srn")):
        ranks = of_ranks(layer, phase, "srn", images, 3, 4)
        single = labels(open_data(layer, phase, "srn", root=images), 12)
        assert [ranks[t % 3][t // 3] for t in range(12)] == single


def test_bvlcs_ranks_take_turns_item_by_item(images: Path):
    ranks = of_ranks(database("batch_size: 2"), "TRAIN", "bvlc", images, 3, 2)
    assert ranks == [[[10, 13], [16, 12]], [[11, 14], [10, 13]], [[12, 15], [11, 14]]]
    assert of_ranks(database("batch_size: 2"), "TEST", "bvlc", images, 2, 1) == [[[10, 11]], [[10, 11]]]


def test_bvlcs_ranks_each_read_the_whole_list(images: Path):
    one, two = of_ranks(image_data("batch_size: 7 shuffle: true"), "TRAIN", "bvlc", images, 2, 2)
    assert one != two and all(sorted(epoch) == list(range(10, 17)) for epoch in one + two)
    assert of_ranks(image_data("batch_size: 3"), "TRAIN", "bvlc", images, 2, 1) == [[[10, 11, 12]], [[10, 11, 12]]]


def test_the_forks_data_shuffle_stays_within_a_ranks_share(images: Path):
    layer = database("batch_size: 2 shuffle: true", "srn")
    shares = [{10, 11, 14, 15}, {12, 13, 16}]  # blocks of 2 of 7 records
    for batches, share in zip(of_ranks(layer, "TRAIN", "srn", images, 2, 30), shares, strict=True):
        seen = list(chain.from_iterable(batches))
        size = len(share)
        assert seen[:size] == sorted(share)
        epochs = [seen[i : i + size] for i in range(0, len(seen) - size, size)]
        assert all(set(epoch) == share for epoch in epochs) and len(set(map(tuple, epochs))) > 3
    with pytest.raises(DataError, match="7 records leave none to rank 4 of 5"):
        open_data(layer, "TRAIN", "srn", root=images, rank=4, world=5)


def test_two_ranks_see_what_one_process_with_the_joined_batch_sees(images: Path):
    transform = "crop_size: 6 mirror: true multi_scale: true"
    half, whole = (image_data(f"batch_size: {b} shuffle: true", "srn", transform) for b in (2, 4))
    ranks = [take(open_data(half, "TRAIN", "srn", root=images, rank=r, world=2), 3) for r in range(2)]
    for t, batch in enumerate(take(open_data(whole, "TRAIN", "srn", root=images), 3)):
        for top in ("data", "label"):
            np.testing.assert_array_equal(np.concatenate([ranks[0][t][top], ranks[1][t][top]]), batch[top])


# State and workers


TRAINING = "crop_size: 6 mirror: true"


def equal(one: list[dict], two: list[dict]) -> bool:
    return len(one) == len(two) and all(
        a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a) for a, b in zip(one, two, strict=True)
    )


def test_a_state_goes_on_with_the_same_items(images: Path):
    layer = image_data("batch_size: 3 shuffle: true", transform=TRAINING)
    source = open_data(layer, "TRAIN", root=images, seed=np.random.default_rng(4))
    take(source, 5)
    state = source.state()
    assert state["position"] == 5 and all(type(v) is int for v in state.values())
    rest = take(source, 4)
    again = open_data(layer, "TRAIN", root=images, seed=99)
    assert not equal(rest, take(again, 4))
    again.restore(state)
    assert equal(rest, take(again, 4)) and again.state() == source.state()


def test_restoring_moves_batches_that_are_under_way(images: Path):
    source = open_data(image_data("batch_size: 2"), root=images)
    start = source.state()
    batches = source.batches()
    first = [next(batches)["label"].tolist() for _ in range(3)]
    source.restore(start)
    assert [next(batches)["label"].tolist() for _ in range(3)] == first
    source.position = 2
    assert next(batches)["label"].tolist() == first[2]


def test_a_state_of_other_data_is_refused(images: Path):
    source = open_data(image_data("batch_size: 2"), root=images)
    with pytest.raises(DataError) as error:
        source.restore({"position": 3, "seed": 1, "items": 8, "batch_size": 3})
    text = str(error.value)
    for part in ("items 7; expected 8", "batch_size 2; expected 3", "no 'world'"):
        assert part in text
    assert source.position == 0


def test_workers_change_nothing(images: Path):
    for layer, dialect in (
        (image_data("batch_size: 3 shuffle: true", "srn", TRAINING), "srn"),
        (database("batch_size: 3", transform=TRAINING), "bvlc"),
    ):
        alone, helped = (open_data(layer, "TRAIN", dialect, root=images, workers=w) for w in (0, 2))
        assert equal(take(alone, 6), take(helped, 6))
        assert alone.state() == helped.state()
        assert equal(take(alone, 2), take(helped, 2))


def test_a_workers_error_is_the_items(images: Path):
    (images / "img4.png").write_bytes(b"no image")
    source = open_data(image_data("batch_size: 3"), root=images, workers=1)
    with pytest.raises(DataError) as error:
        take(source, 2)
    problem = error.value.problems[0]
    assert (problem.layer, problem.line, Path(problem.file).name) == ("d", 5, "list.txt")
    assert source.position == 1


def test_an_open_database_can_be_sent_to_another_process(images: Path):
    database = Database(images / "db")
    value = database[2]
    assert pickle.loads(pickle.dumps(database))[2] == value
    database.close()
    assert database[2] == value  # opens again
