"""Data layers against what real Caffe recorded: batches, random crops, and how often each came; damage is seen."""

from __future__ import annotations

import shutil
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from data_layers import GOLDEN_DATA

from port.data import Window
from port.data.order import ITEM
from prototxt_gen.base import command
from prototxt_gen.base.errors import DataError
from verify.__main__ import main
from verify.parity.data import (
    DRAWS,
    LEAST_P,
    candidates,
    find_data_cases,
    key_of,
    open_case,
    p_value,
    read_data_case,
    recorded_counts,
    report,
    run_data_case,
)
from verify.parity.golden import Recording, run_case

CASES = find_data_cases([GOLDEN_DATA])


@cache
def recorded(path: Path) -> Recording:
    return read_data_case(path)


RANDOM = [path for path in CASES if "count" in recorded(path).arrays]
FIXED = [path for path in CASES if path not in RANDOM]
# Few enough candidates that Caffe drew every one of them.
CORNERS = [p for p in RANDOM if p.stem.startswith("corner_crops") or p.stem == "train_random_crop_mirror"]


def case(name: str) -> Path:
    return next(path for path in CASES if f"{path.parent.name}/{path.stem}" == name)


def names(paths: list[Path]) -> list[str]:
    return [f"{path.parent.name}/{path.stem}" for path in paths]


def test_the_recordings_are_all_there():
    assert (len(CASES), len(FIXED), len(RANDOM), len(CORNERS)) == (35, 24, 11, 5)


@pytest.mark.parametrize("path", CASES, ids=names(CASES))
def test_what_real_caffe_gave(path: Path):
    result = run_data_case(path)
    assert result, report([result])
    # All but bicubic resizing is exact, also where a scale is set.
    assert result.worst == 0 or path.stem.startswith("orig_test")
    assert (result.crops > 1 and set(result.p_values) == {"Caffe's", "our"}) == (path in RANDOM)


@pytest.mark.parametrize("path", CORNERS, ids=names(CORNERS))
def test_caffe_drew_every_candidate(path: Path):
    source = open_case(recorded(path))
    ours = candidates(recorded(path), source)
    assert sum(ours.values()) == pytest.approx(1) and set(recorded_counts(recorded(path))) == set(ours)


def test_flow_images_are_mirrored_with_their_x_components_turned_round():
    flow = recorded(case("srn_more/flow_test"))
    plain, mirrored = (tensor for tensor, _ in open_case(flow).candidates(0))
    passes = flow.arrays["data"][:, 0]
    seen = [(np.array_equal(image, plain), np.array_equal(image, mirrored)) for image in passes]
    assert set(seen) == {(True, False), (False, True)}


@pytest.mark.slow
@pytest.mark.parametrize("path", RANDOM, ids=names(RANDOM))
def test_images_are_drawn_as_often_as_the_rules_say(path: Path):
    """Whole images, where the test above draws their windows."""
    source = open_case(recorded(path), seed=3)
    plan = source.plan
    pixels, _, as_image = plan.reader.pixels(0, np.random.default_rng(0))
    drawn = (plan.reader.transformer(pixels, plan.draws(ITEM, i), as_image) for i in range(DRAWS))
    counts = Counter(key_of(recorded(path), tensor) for tensor in drawn)
    assert p_value(counts, candidates(recorded(path), source)) > LEAST_P


# ---- the checks can fail


@pytest.fixture
def damaged(tmp_path):
    """A copy of a case whose recording a function changes; its net may be changed too."""

    def make(name: str, change=None, net=None) -> Path:
        folder = tmp_path / case(name).parent.name
        shutil.copytree(case(name).parent, folder)
        path, arrays = folder / f"{case(name).stem}.prototxt", dict(recorded(case(name)).arrays)
        for old in folder.glob(f"{path.stem}.npz*"):
            old.unlink()
        if change:
            change(arrays)
        np.savez(path.with_suffix(".npz"), **arrays)
        if net:
            assert net[0] in path.read_text()
            path.write_text(path.read_text().replace(*net))
        return path

    return make


def one_pixel(arrays):
    arrays["data"] = np.roll(arrays["data"], 1, axis=-1)


def swapped_channels(arrays):
    arrays["data"] = arrays["data"][:, :, ::-1]


def transposed(arrays):
    arrays["data"] = arrays["data"].swapaxes(-1, -2)


def no_number(arrays):
    arrays["data"][0, 1, 2, 3, 4] = np.nan


def next_label(arrays):
    arrays["label"] = np.roll(arrays["label"], 1, axis=1)


def swapped_images(arrays):
    arrays["data"] = arrays["data"][:, ::-1]


def other_width(arrays):
    arrays["data"] = arrays["data"][..., :-1]


def a_little(arrays):
    arrays["data"][0, 0, 0, 0, 0] += 0.01


CHANGES = [one_pixel, swapped_channels, transposed, no_number, next_label, swapped_images, other_width, a_little]


@pytest.mark.parametrize("change", CHANGES, ids=[change.__name__ for change in CHANGES])
@pytest.mark.parametrize("name", ["bvlc/lmdb_uint8_plain", "srn/image_data_resize_mean"])
def test_a_wrong_batch_is_noticed(damaged, name, change):
    result = run_data_case(damaged(name, change))
    assert not result and result.problems and "FAILED" in report([result])


def one_more(arrays):
    arrays["unique"] = np.concatenate((arrays["unique"], arrays["unique"][:1, :, ::-1]))
    arrays["count"] = np.append(arrays["count"], 1)


def never_drawn(arrays):
    most = arrays["count"].argmax()
    arrays["unique"], arrays["count"] = np.delete(arrays["unique"], most, 0), np.delete(arrays["count"], most)


def reversed_counts(arrays):
    order = arrays["count"].argsort()
    arrays["count"][order] = arrays["count"][order[::-1]].copy()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (one_more, "1 of 211 recorded crops are none of our"),
        (never_drawn, "Caffe's frequencies are not those of the rules"),
        (reversed_counts, "Caffe's frequencies are not those of the rules"),
    ],
)
def test_wrong_crops_and_frequencies_are_noticed(damaged, change, problem):
    result = run_data_case(damaged("srn/corner_crops_srn", change))
    assert not result and len(result.problems) == 1 and result.problems[0].startswith(problem)


def test_another_rule_is_noticed(damaged):
    """Corners without the inner ones; sizes drawn as if each came once in their list."""
    fewer = damaged("srn/corner_crops_more", net=("more_fix_crop: true", "more_fix_crop: false"))
    assert "8 of 13 recorded crops are none of our 5" in run_data_case(fewer).problems[0]
    right = candidates(recorded(case("srn/corner_crops_srn")), open_case(recorded(case("srn/corner_crops_srn"))))
    theirs = recorded_counts(recorded(case("srn/corner_crops_srn")))
    assert len(set(right.values())) > 1 and p_value(theirs, dict.fromkeys(right, 1 / len(right))) < 1e-9


def test_draws_of_our_own_with_another_frequency_are_noticed(monkeypatch):
    from port.data.transform import Transformer

    draw = Transformer.draw

    def from_few_seeds(self, height, width, rng, as_image=True):
        return draw(self, height, width, np.random.default_rng(rng.integers(40)), as_image)

    monkeypatch.setattr(Transformer, "draw", from_few_seeds)
    result = run_data_case(case("bvlc/train_random_crop_mirror"))
    assert [problem.partition(" are")[0] for problem in result.problems] == ["our frequencies"]


def test_a_crop_beside_the_right_one_is_noticed():
    right = recorded(case("bvlc/lmdb_uint8_crop_mean"))
    plan = open_case(right).plan
    pixels, _, as_image = plan.reader.pixels(0, np.random.default_rng(0))
    image = plan.reader.transformer.apply(pixels, Window(1, 2, 9, 9), False, as_image)
    np.testing.assert_array_equal(image, right.arrays["data"][0, 0])
    for beside in (Window(2, 2, 9, 9), Window(1, 3, 9, 9)):
        wrong = plan.reader.transformer.apply(pixels, beside, False, as_image)
        assert np.abs(wrong - right.arrays["data"][0, 0]).max() > 0.1


# ---- the command


def test_the_command_prints_counts_and_ends_with_what_it_found(damaged, capsys):
    assert main(["data", str(case("bvlc/image_data_gray").parent)]) == command.OK
    printed = capsys.readouterr().out
    assert "9 recorded cases, 9 passed, 0 failed" in printed and "random crops: 1 cases, 50 different" in printed
    assert "largest difference 0 " in printed and "frequencies: least p" in printed
    path = damaged("bvlc/image_data_gray", one_pixel)
    assert main(["data", str(path.parent)]) == command.CHECK_FAILED
    assert "FAILED bvlc/image_data_gray: batch 0, image 0: differs by" in capsys.readouterr().out


def test_recordings_that_cannot_be_replayed_are_named(damaged, tmp_path, capsys):
    path = damaged("bvlc/image_data_gray", net=('source: "', 'source: "gone_'))
    assert "gone_" in run_data_case(path).problems[0]
    path.with_suffix(".npz").write_bytes(b"no recording")
    assert "not a readable recording" in run_data_case(path).problems[0]
    np.savez(path.with_suffix(".npz"), **{"blob/data": np.ones(2)})
    assert "use python -m verify golden" in run_data_case(path).problems[0]
    with pytest.raises(DataError, match="no recorded case"):
        find_data_cases([path.parent / "images"])
    assert command.run(main, ["data", str(tmp_path / "nowhere")]) == command.BAD_INPUT
    assert "is not a folder" in capsys.readouterr().err


def test_layer_cases_and_data_cases_are_told_apart():
    assert "use python -m verify data" in run_case(case("bvlc/image_data_gray")).error
