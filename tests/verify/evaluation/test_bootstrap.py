"""Bootstrap intervals against evaluating every resample with the program itself."""

from __future__ import annotations

import numpy as np
import pytest

from prototxt_gen.base.errors import DataError, UsageError
from verify.evaluation import bootstrap as module
from verify.evaluation.bootstrap import bootstrap
from verify.metrics import evaluate


def example(protocol: str = "srn", images: int = 83) -> tuple[np.ndarray, np.ndarray]:
    """Logits with ties and labels, (images, 5)."""
    random = np.random.default_rng(2)
    labels = (random.random((images, 5)) < [0.5, 0.3, 0.2, 0.6, 0.4]).astype(int)
    logits = np.round(random.normal(labels - 0.6, 1.2), 1)
    if protocol == "wider":
        labels = np.where(labels == 1, 1, np.where(random.random(labels.shape) < 0.3, 0, -1))
    return logits, labels


def one_by_one(logits, labels, protocol, threshold, resamples, seed):
    """Every resample as rows in their original order, evaluated by `evaluate`; intervals by sorting."""
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        rows = np.sort(random.integers(0, len(logits), len(logits)))
        drawn.append(evaluate(logits[rows], labels[rows], protocol, top3_threshold=threshold))
    names = [name for name, value in drawn[0].items() if isinstance(value, float)]
    return {name: tuple(np.percentile([d[name] for d in drawn], (2.5, 97.5))) for name in names}


@pytest.mark.parametrize("protocol", ["srn", "wider"])
@pytest.mark.parametrize("threshold", [True, False])
def test_equals_evaluating_every_resample(protocol, threshold):
    logits, labels = example(protocol)
    wanted = one_by_one(logits, labels, protocol, threshold, 70, 9)
    found = bootstrap(logits, labels, protocol, top3_threshold=threshold, resamples=70, seed=9)
    assert set(found.figures) == set(wanted) and len(wanted) == 13
    for name, interval in wanted.items():
        # Counts are exact; what is left is the order of float64 sums.
        assert found.figures[name] == pytest.approx(interval, abs=1e-12), name
    assert found.incomplete == 0


@pytest.mark.parametrize("chunk", [1, 7, 200])
def test_the_size_of_a_chunk_changes_nothing(chunk, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    found = bootstrap(*example(), resamples=23, seed=4)
    monkeypatch.undo()
    assert found == bootstrap(*example(), resamples=23, seed=4)


def test_intervals_hold_the_figure_and_shrink_with_the_number_of_images():
    wide, narrow = (bootstrap(*example(images=n), resamples=200) for n in (60, 2400))
    figures = evaluate(*example(images=2400))
    for name, (low, high) in narrow.figures.items():
        assert low < figures[name] < high
        # The square root of 40 is 6.3.
        assert (high - low) * 3 < wide.figures[name][1] - wide.figures[name][0]


def test_seeds():
    first, again, other = (bootstrap(*example(), resamples=20, seed=seed) for seed in (1, 1, 2))
    assert first == again and first.figures != other.figures
    assert str(first) == "95 % percentile intervals of 20 resamples of 83 images, seed 1"


def test_a_class_with_one_positive_is_lost_in_a_third_of_the_resamples():
    logits, labels = example()
    labels[:, 2] = 0
    labels[11, 2] = 1
    found = bootstrap(logits, labels, resamples=300)
    assert 70 < found.incomplete < 150 and "is left out of the mAP" in str(found)  # 300 / e = 110
    assert all(np.isfinite(found.figures["mAP"]))


def test_a_class_without_positives_makes_the_map_nan_and_nothing_else():
    logits, labels = example()
    labels[:, 2] = 0
    found = bootstrap(logits, labels, resamples=20)
    assert np.isnan(found.figures["mAP"]).all() and found.incomplete == 0
    assert all(np.isfinite(v).all() for name, v in found.figures.items() if name != "mAP")


@pytest.mark.parametrize(("resamples", "seed"), [(1, 0), (0, 0), (20, -1)])
def test_impossible_numbers_are_refused(resamples, seed):
    with pytest.raises(UsageError, match="expected 2 or more"):
        bootstrap(*example(), resamples=resamples, seed=seed)


def test_bad_logits_are_refused():
    logits, labels = example()
    logits[3, 1] = np.nan
    with pytest.raises(DataError, match="logit nan in row 4, column 2"):
        bootstrap(logits, labels)
