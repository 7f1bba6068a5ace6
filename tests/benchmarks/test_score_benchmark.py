"""The benchmark of port score: its ratios, its verdict, and that it times the same work."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import score as bench
from benchmarks.score import Timed
from prototxt_gen.base.errors import CaffeError, UsageError


def passes(**seconds: list[float]) -> dict[str, list[Timed]]:
    return {name: [Timed(s, 2 * s) for s in seconds[name]] for name in bench.WAYS}


def test_ratios_are_of_passes_that_followed_each_other():
    rows = bench.figures(passes(score=[2.0, 40.0], alone=[2.0, 40.0], one_batch=[4.0, 80.0], plain=[20.0, 400.0]), 10)
    found = {row.what: row for row in rows}
    assert found["port score"].samples == [5.0, 0.25]
    assert found["  core time of port score"].samples == [400.0, 8000.0]
    alone = found[f"port score's time / {bench.WAYS['alone']}"]
    assert alone.samples == [1.0, 1.0] and alone.met is True
    assert found[f"port score's time / {bench.WAYS['plain']}"].note == "port score is 10.00 x as fast"


def test_more_than_five_per_cent_over_the_net_alone_is_a_miss():
    for mine, met in ((1.04, True), (1.06, False)):
        rows = bench.figures(passes(score=[mine], alone=[1.0], one_batch=[1.0], plain=[1.0]), 10)
        assert [row.met for row in rows if row.limit is not None] == [met]


class Made:
    """Ways that take no time, with scores of one's own."""

    images = range(3)

    def __init__(self, mine: np.ndarray, other: np.ndarray):
        self.score, self.plain = lambda: mine, lambda: other
        self.alone = self.one_batch = lambda: None


def test_ways_that_disagree_are_not_compared():
    scores = np.arange(6.0).reshape(3, 2)
    assert len(bench.measure(Made(scores, scores + 1e-4), 2)) == 10
    for wrong in (scores[::-1], scores + 0.01, scores * np.nan):
        with pytest.raises(CaffeError, match="port score and the plain loop differ"):
            bench.measure(Made(scores, wrong), 1)


def test_the_real_ways_give_the_same_scores(tmp_path):
    """One pass of everything on a narrow net and two images."""
    made = bench.write_net(tmp_path, bench.NETWORK, "coco", dialect="bvlc", width_divisor=32, weights="seed:7")
    ways = bench.Ways(tmp_path, bench.make_images(tmp_path, 2), made.path, 2)
    assert np.abs(ways.score() - ways.plain()).max() < 1e-5  # float32, in batches of two and of one
    ways.alone()
    ways.one_batch()


def test_bad_usage():
    with pytest.raises(UsageError, match="--width-divisor 0; expected 1 or more"):
        bench.main(["--width-divisor", "0"])
