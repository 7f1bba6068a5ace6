"""The house: what stands at the roots, that tests mirror the packages, and sizes that people can read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from house import FILES, PACKAGES, ROOT

DOORS = {
    "port": {"__init__", "__main__", "module", "net"},
    "verify": {
        *("__init__", "__main__", "metrics"),
        *("reproduce_table1", "reproduce_table2", "reproduce_table3"),
    },
}
LONGEST = 320  # lines of a file


@pytest.mark.parametrize("package", DOORS)
def test_a_root_holds_its_doors_alone(package):
    found = {path.stem for path in (ROOT / package).glob("*.py")}
    assert found == DOORS[package] and len(found) <= 6


def test_the_tests_mirror_the_packages():
    """A folder of tests for packages that are, and none for those that are gone."""
    tests = ROOT / "tests"
    own = {"helpers", "golden", "house", "benchmarks"}
    for folder in (path for path in tests.rglob("*") if path.is_dir() and any(path.glob("test_*.py"))):
        parts = folder.relative_to(tests).parts
        assert parts[0] in own or (ROOT / Path(*parts)).is_dir(), folder
    assert not list(tests.glob("test_*.py")), "tests stand in folders"
    assert {path.name for path in tests.iterdir() if path.is_dir() and path.name in PACKAGES} == PACKAGES


def test_every_folder_says_what_it_is_for():
    for path in FILES:
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_files_can_be_read_at_one_sitting():
    long = {str(path.relative_to(ROOT)) for path in FILES if path.read_text(encoding="utf-8").count("\n") > LONGEST}
    assert not long, sorted(long)
