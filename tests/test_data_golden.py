"""Data layers against what real Caffe recorded: TEST-phase batches, and the crops of training."""

from __future__ import annotations

from collections import Counter
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from data_layers import RecordedData, recorded_cases, take
from scipy.stats import chisquare

from port.data import Window
from port.data.order import ITEM, Draws

DRAWS = 20_000
# Seeds are fixed, so a p-value is either always above this or never; 11 cases reach it by chance in one of 100 runs.
LEAST_P = 1e-3
# Bicubic resizing differs between versions of OpenCV by up to 1 grey level.
BICUBIC = {"srn_more/orig_test": 1.0, "srn_more/orig_test_small": 1.0}


@cache
def recorded(path: Path) -> RecordedData:
    return RecordedData(path)


CASES = recorded_cases()
FIXED = [p for p in CASES if "data" in recorded(p).arrays and recorded(p).prototxt.stem != "flow_test"]
RANDOM = [p for p in CASES if "count" in recorded(p).arrays]
RULES = ("raw_train", "corner_crops_fixed_size", "corner_crops_srn", "random_crops_multi_scale")  # one of each kind
CORNERS = [p for p in RANDOM if p.stem.startswith("corner_crops") or p.stem == "train_random_crop_mirror"]


def names(paths: list[Path]) -> list[str]:
    return [recorded(path).name for path in paths]


def test_the_recordings_are_all_there():
    assert (len(CASES), len(FIXED), len(RANDOM), len(CORNERS)) == (35, 23, 11, 5)


@pytest.mark.parametrize("path", FIXED, ids=names(FIXED))
def test_test_phase_batches_are_caffes(path: Path):
    case = recorded(path)
    expected = case.arrays["data"]
    source = case.open()
    batches = take(source, len(expected))
    assert source.shapes()["data"] == expected.shape[1:]
    found = np.stack([batch["data"] for batch in batches])
    assert found.dtype == np.float32 and found.shape == expected.shape
    # Exact, also where a scale is set (there 1e-4 of a grey level would do: a fused multiply-add may differ).
    assert np.abs(found - expected).max() <= BICUBIC.get(case.name, 0)
    if "label" in case.arrays:
        np.testing.assert_array_equal([batch["label"] for batch in batches], case.arrays["label"])


def test_a_crop_beside_the_right_one_is_noticed():
    case = recorded(next(p for p in FIXED if p.stem == "lmdb_uint8_crop_mean"))
    plan = case.open()._plan
    pixels, _, as_image = plan.reader.pixels(0, np.random.default_rng(0))
    right = plan.reader.transformer.apply(pixels, Window(1, 2, 9, 9), False, as_image)
    np.testing.assert_array_equal(right, case.arrays["data"][0, 0])
    for beside in (Window(2, 2, 9, 9), Window(1, 3, 9, 9)):
        wrong = plan.reader.transformer.apply(pixels, beside, False, as_image)
        assert np.abs(wrong - case.arrays["data"][0, 0]).max() > 0.1


def test_flow_images_are_mirrored_with_their_x_components_turned_round():
    case = recorded(next(p for p in CASES if p.stem == "flow_test"))
    plain, mirrored = (tensor for tensor, _ in case.open().candidates(0))
    passes = case.arrays["data"][:, 0]
    seen = [(np.array_equal(image, plain), np.array_equal(image, mirrored)) for image in passes]
    assert set(seen) == {(True, False), (False, True)}


@cache
def candidates(path: Path) -> dict[bytes, float]:
    """The bytes (uint8) of all candidates, or their SHA-256 where only that was kept -> probability."""
    found: Counter[bytes] = Counter()
    for tensor, probability in recorded(path).open().candidates(0):
        found[key_of(path, tensor)] += probability
    return found


def key_of(path: Path, tensor: np.ndarray) -> bytes:
    content = np.ascontiguousarray(tensor.astype(np.uint8)).tobytes()
    return sha256(content).digest() if "sha256" in recorded(path).arrays else content


def recorded_counts(path: Path) -> dict[bytes, int]:
    arrays = recorded(path).arrays
    kept = arrays["sha256" if "sha256" in arrays else "unique"]
    return {image.tobytes(): int(count) for image, count in zip(kept, arrays["count"], strict=True)}


@pytest.mark.parametrize("path", RANDOM, ids=names(RANDOM))
def test_every_recorded_crop_is_a_candidate(path: Path):
    ours, theirs = candidates(path), recorded_counts(path)
    assert sum(ours.values()) == pytest.approx(1)
    assert theirs and set(theirs) <= set(ours)
    if path in CORNERS:
        assert set(theirs) == set(ours)


@pytest.mark.parametrize("path", RANDOM, ids=names(RANDOM))
def test_caffe_drew_the_candidates_as_often_as_the_rules_say(path: Path):
    theirs = recorded_counts(path)
    probabilities = candidates(path)
    assert p_value({key: theirs.get(key, 0) for key in probabilities}, probabilities) > LEAST_P


@pytest.mark.parametrize("name", RULES)
def test_windows_are_drawn_as_often_as_the_rules_say(name: str):
    path = next(p for p in RANDOM if p.stem == name)
    transformer = recorded(path).open()._plan.reader.transformer
    height, width = item_size(path)
    draws = Draws(5, "data")
    probabilities: Counter = Counter()
    for window, probability in transformer.windows(height, width):
        probabilities[window] += probability
    counts = Counter(transformer.draw(height, width, draws(ITEM, i)) for i in range(DRAWS))
    assert p_value(counts, probabilities) > LEAST_P


@pytest.mark.slow
@pytest.mark.parametrize("path", RANDOM, ids=names(RANDOM))
def test_images_are_drawn_as_often_as_the_rules_say(path: Path):
    plan = recorded(path).open(seed=3)._plan
    pixels, _, as_image = plan.reader.pixels(0, np.random.default_rng(0))
    drawn = (plan.reader.transformer(pixels, plan.draws(ITEM, i), as_image) for i in range(DRAWS))
    counts = Counter(key_of(path, tensor) for tensor in drawn)
    assert p_value(counts, candidates(path)) > LEAST_P


def test_wrong_frequencies_are_noticed():
    path = next(p for p in RANDOM if p.stem == "corner_crops_srn")
    theirs, right = recorded_counts(path), candidates(path)
    # Sizes drawn uniformly among the different ones, not among the list with its duplicates.
    assert len(set(right.values())) > 1
    assert p_value({key: theirs.get(key, 0) for key in right}, dict.fromkeys(right, 1 / len(right))) < 1e-9
    # One candidate never drawn.
    missing = dict(theirs)
    missing[max(right, key=right.__getitem__)] = 0
    assert p_value({key: missing.get(key, 0) for key in right}, right) < 1e-4


def item_size(path: Path) -> tuple[int, int]:
    pixels, _, _ = recorded(path).open()._plan.reader.pixels(0, np.random.default_rng(0))
    return pixels.shape[0], pixels.shape[1]


def p_value(counts: dict, probabilities: dict) -> float:
    """Chi-squared; a count of something that cannot be is an error."""
    assert set(counts) <= set(probabilities)
    if len(probabilities) == 1:
        return 1.0
    observed = np.array([counts.get(key, 0) for key in probabilities])
    expected = np.array(list(probabilities.values()))
    return float(chisquare(observed, expected / expected.sum() * observed.sum()).pvalue)
