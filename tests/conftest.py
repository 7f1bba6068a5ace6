"""Options and helpers that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch is imported anywhere: the nets of the tests are tiny, and on a loaded machine threads that
# wait for one another make them a hundred times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # which pytest-xdist sets: tables keep to a width only where a test gives one

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too")
    parser.addoption("--models", action="store_true", help="run the tests of released models too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for marker, needs in (("slow", "--slow"), ("models", "--models")):
        if not config.getoption(needs):
            skip = pytest.mark.skip(reason=f"{marker}: run with {needs}")
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(skip)


@pytest.fixture
def golden() -> Path:
    """The folder with recorded files."""
    return GOLDEN
