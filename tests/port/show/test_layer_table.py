"""docs/layers.md and docs/forks.md say what the registry says."""

from pathlib import Path

from port.layers import REGISTRY
from port.show.layer_table import fork_table, layer_table, replaced
from prototxt_gen.schema.dialect import LAYER_TYPES

DOCUMENT = Path(__file__).parents[3] / "docs" / "layers.md"


def test_the_table_is_up_to_date(golden):
    text = DOCUMENT.read_text(encoding="utf-8")
    assert replaced(text, layer_table(golden)) == text, "run: python -m port.show.layer_table"


def test_the_table_of_forks_is_up_to_date(golden):
    text = DOCUMENT.with_name("forks.md").read_text(encoding="utf-8")
    assert replaced(text, fork_table(golden)) == text, "run: python -m port.show.layer_table"


def test_a_stale_table_is_noticed(golden):
    text = DOCUMENT.read_text(encoding="utf-8")
    stale = text.replace("| Pooling |", "| Poolng |")
    assert stale != text and replaced(stale, layer_table(golden)) != stale


def test_every_registered_type_of_both_caffes_is_handled():
    assert set().union(*LAYER_TYPES.values()) <= set(REGISTRY)
