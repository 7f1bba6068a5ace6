"""TextBoxes++'s PriorBox, in which every box stands twice in a cell, against the rule in plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pack_runs import Run

OPSETS = (13, 17, 22)


@pytest.mark.parametrize("offset", [0.5, 0.25])
def test_dense_boxes_stand_at_the_centre_and_at_the_lower_end(offset):
    fields = {"min_size": 8, "max_size": 18, "aspect_ratio": 4.0, "flip": False, "denser_prior_boxes": True}
    fields |= {"step": 8.0, "offset": offset}
    wanted = []
    for row, column in itertools.product(range(2), range(3)):
        for wide, high in ((8, 8), (12, 12), (16, 4)):
            for y in ((row + offset) * 8, (row + 1) * 8):
                x = (column + offset) * 8
                wanted += [(x - wide / 2) / 24, (y - high / 2) / 16, (x + wide / 2) / 24, (y + high / 2) / 16]
    spread = [float(np.float32(0.1))] * len(wanted)
    run = Run("PriorBox", [np.zeros((1, 2, 2, 3)), np.zeros((1, 3, 16, 24))], fields={"prior_box_param": fields})
    run.holds([[[wanted, spread]]], OPSETS)
    assert len(wanted) == 2 * 3 * 6 * 4
