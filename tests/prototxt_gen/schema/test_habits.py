"""What the two Caffes do differently, as questions."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict

import pytest

from port.graph.build import load_graph
from port.layers import Context
from prototxt_gen.base.errors import UsageError
from prototxt_gen.schema import DIALECTS
from prototxt_gen.schema.habits import habits


def test_every_dialect_has_habits_of_its_own():
    of = {dialect: asdict(habits(dialect)) for dialect in DIALECTS}
    same = [name for name in of["bvlc"] if of["bvlc"][name] == of["srn"][name]]
    assert not same, "what both do is no habit"


def test_they_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        habits("bvlc").shares_gradients = False  # type: ignore[misc]


@pytest.mark.parametrize("name", ["caffe2", "", "bvlc+ssd", "BVLC"])
def test_another_name_is_refused(name):
    with pytest.raises(UsageError, match=r"there is no dialect '.*'; choose one of: bvlc, srn"):
        habits(name)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_places_and_nets_have_those_of_their_dialect(tmp_path, dialect):
    path = tmp_path / "net.prototxt"
    path.write_text('input: "x" input_dim: [1, 2, 3, 4] layer { name: "r" type: "ReLU" bottom: "x" top: "y" }')
    graph = load_graph(path, dialect=dialect)
    assert graph.habits is graph.node("r").layer.at.habits is Context(dialect=dialect).habits is habits(dialect)
