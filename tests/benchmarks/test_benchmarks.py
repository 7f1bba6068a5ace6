"""The benchmarks' verdicts: a missed target is seen, noise is measured again, a failing step is an error."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import run as bench
from prototxt_gen.base import command
from prototxt_gen.base.errors import CaffeError, UsageError


def rows(*values: float, limit: float | None = 2.0) -> list[bench.Row]:
    return [bench.Row("load", "srn", "s", list(values), limit)]


@pytest.fixture
def stubbed(monkeypatch, tmp_path):
    """main() without nets and measurements; returns a function that sets what they would give."""
    monkeypatch.setattr(bench, "make_nets", lambda folder: {})
    monkeypatch.setattr(bench, "use_cores", lambda: 2)

    def give(result):
        def measured(nets, repeats):
            if isinstance(result, Exception):
                raise result
            return iter(result)

        monkeypatch.setattr(bench, "BENCHMARKS", {"load": measured})
        return bench.main(["--json", str(tmp_path / "figures.json")])

    return give


def test_the_verdict_is_that_of_the_median():
    assert rows(1.0, 1.9, 30.0)[0].met is True
    assert rows(1.0, 2.0, 2.1)[0].met is False  # "under" the target: equal is a miss
    assert rows(1.0, limit=None)[0].met is None


def test_a_missed_target_fails_the_command(stubbed, capsys, tmp_path):
    assert stubbed(rows(1.0)) == command.OK
    assert stubbed(rows(1.0) + rows(3.0)) == command.CHECK_FAILED
    printed = capsys.readouterr().out
    assert "MISSED" in printed and "1 of 2 targets met" in printed and "load average" in printed
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert [(f["median"], f["met"]) for f in figures] == [(1.0, True), (3.0, False)]


def test_a_failing_step_fails_the_command(stubbed, capsys):
    with pytest.raises(CaffeError, match="the step broke"):
        stubbed(CaffeError("the step broke"))
    assert "0 of 0 targets met" in capsys.readouterr().out


def test_more_samples_where_a_target_is_missed_or_the_figures_scatter():
    def once(values):
        values = iter(values)
        return lambda: {"s": next(values)}

    assert bench.sampled(once([1.0, 1.2, 1.4]), 3, s=2) == {"s": [1.0, 1.2, 1.4]}
    assert len(bench.sampled(once([2.0, 2.1, 2.2, 1.0, 1.0, 1.0]), 3, s=2)["s"]) == 6
    assert len(bench.sampled(once([1.0, 1.1, 1.6, 1.0, 1.0, 1.0]), 3, s=2)["s"]) == 6


def test_a_failing_child_is_named_with_its_last_words():
    with pytest.raises(CaffeError, match=r"exit status 3: .*last words"):
        bench.child("-c", "import sys; print('last words', file=sys.stderr); sys.exit(3)")


def test_runtimes_that_disagree_are_not_timed():
    expected = np.array([[1.0, -4.0, 2.0]])
    bench._same(expected * 1.0001, expected, "same")
    for wrong in (expected * 1.01, expected * np.nan, expected.T):
        with pytest.raises(CaffeError):
            bench._same(wrong, expected, "other")


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="there is no benchmark speed"):
        bench.main(["speed"])


def test_other_processes_are_seen():
    before = bench.busy()
    if before is None:
        pytest.skip("this system does not say")
    bench.child("-c", "x = sum(range(10**6))")
    after = bench.busy()
    assert after is not None and after[1] > before[1] and after[0] >= before[0]


# ---- training


def fake_times(monkeypatch, times):
    from benchmarks import train_rows

    monkeypatch.setattr(train_rows, "child", lambda *arguments: json.dumps(times))
    return train_rows


def test_training_is_judged_by_time_and_compared_in_turn(monkeypatch):
    # A busy second round: the medians say 2.0, the pairs 1.25.
    times = {"port": [250.0, 500.0, 300.0], "plain": [200.0, 400.0, 100.0]}
    times |= {"port, options": [230.0] * 3, "plain, options": [230.0] * 3, "products": [270.0] * 3}
    rows_module = fake_times(monkeypatch, times)
    found = {row.what: row for row in rows_module.training({"srn": None}, 1)}
    assert [row.met for row in found.values()] == [False, None, False, None, None]
    assert found["train, batch 8, as Caffe does"].note == "1.25 x by hand"
    assert found["train, --channels-last --amp --fused"].note == "1.00 x by hand"


def test_data_must_be_five_times_as_fast_as_training(monkeypatch):
    rows_module = fake_times(monkeypatch, {"load": [2.0, 4.0, 2.0], "train": [30.0, 60.0, 30.0]})
    *_, share = rows_module.feeding({}, 1)
    assert share.met is True and share.samples == pytest.approx([1 / 15] * 3)
    rows_module = fake_times(monkeypatch, {"load": [6.0] * 3, "train": [30.0] * 3})
    *_, share = rows_module.feeding({}, 1)
    assert share.met is False


def test_nets_that_do_other_work_are_not_timed():
    from benchmarks.train import compare

    same = {"port": [5.0, 4.0], "plain": [5.001, 4.001], "port, options": [5.05, 4.3], "plain, options": [5.0, 4.0]}
    compare(same)
    for wrong in ([5.1, 4.0], [5.0, 4.5], [float("nan"), 4.0], [5.0, float("nan")]):
        with pytest.raises(CaffeError, match="port: the losses"):
            compare(same | {"port": wrong})


def test_an_iteration_is_three_forward_passes_but_for_the_images_gradient():
    from benchmarks.train import products_of
    from port.graph.build import build_graph
    from port.graph.state import NetState
    from prototxt_gen.schema.text import parse_prototxt

    text = """
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 7 } } }
    layer { name: "conv1" type: "Convolution" bottom: "data" top: "a"
      convolution_param { num_output: 5 kernel_size: 3 bias_term: false } }
    layer { name: "fc" type: "InnerProduct" bottom: "a" top: "b"
      inner_product_param { num_output: 4 bias_term: false } }"""
    first, second = 2 * 5 * 6 * 5 * 3 * 9, 2 * 4 * 5 * 6 * 5
    assert products_of(build_graph(parse_prototxt(text), NetState("TRAIN"))) == 2 * first + 3 * second
