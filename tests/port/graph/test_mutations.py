"""Recorded nets changed at random: they run, or are refused in the project's own words; in time, and within memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from mutations import findings, mutated


def test_a_mutation_is_the_same_every_time():
    assert mutated(11) == mutated(11)
    assert len({mutated(i)[1] for i in range(50)}) > 45


def test_mutated_nets_end_in_an_answer_or_in_our_words():
    found, ends = findings(0, 400)
    assert not found, "\n".join(found)
    assert sum("torch" in end for end in ends) > 80  # or the mutations are too wild to tell anything


@pytest.mark.slow
def test_very_many_mutated_nets():
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(lambda first: findings(first, 1000), range(1000, 21000, 1000)))
    found = [line for part, _ in parts for line in part]
    assert not found, "\n".join(found)
