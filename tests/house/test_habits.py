"""What Caffes do differently is asked of `schema/habits.py`; nobody compares a dialect's name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields

import pytest
from house import FILES, ROOT

from prototxt_gen.schema.habits import Habits
from prototxt_gen.schema.messages import DIALECTS

HABITS = "prototxt_gen/schema/habits.py"
HELD = [
    path
    for path in FILES
    if path.is_relative_to(ROOT / "port")
    or path.is_relative_to(ROOT / "verify")
    or path.is_relative_to(ROOT / "prototxt_gen" / "schema")
    or path == ROOT / "prototxt_gen" / "builder.py"
]
# Files where a name of a dialect stands in a table or a comparison, and why.
ALLOWED = {
    HABITS: "the habits of each",
    "prototxt_gen/schema/messages.py": "the list of dialects",
    "prototxt_gen/schema/dialect.py": "the types of each; the default where detection ends in a tie",
    "port/solver/rules.py": "the types of solvers of each",
    "verify/metrics.py": "a protocol of the evaluation has the name of the paper too",
}


def _names_one(node: ast.AST | None) -> bool:
    """Whether an expression is a dialect's name, or a collection of such."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return bool(node.elts) and all(map(_names_one, node.elts))
    return isinstance(node, ast.Constant) and node.value in DIALECTS


def _stands_for_one(node: ast.AST | None) -> bool:
    """Whether an expression is one of the dialects by its place in the list, or as the default."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Name) and node.value.id == "DIALECTS"
    return getattr(node, "id", getattr(node, "attr", "")) == "DEFAULT"


def decisions(source: str) -> Iterator[int]:
    """The lines of a source text where a dialect's name decides: compared, matched, looked up, in a table or list."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            found = any(map(_names_one, sides)) or any(map(_stands_for_one, sides))
        elif isinstance(node, ast.Call):
            found = getattr(node.func, "attr", "") == "startswith" and any(map(_names_one, node.args))
        elif isinstance(node, ast.MatchValue):
            found = _names_one(node.value)
        elif isinstance(node, ast.Subscript):
            found = _names_one(node.slice)
        elif isinstance(node, ast.Dict):
            found = any(map(_names_one, node.keys))
        else:
            found = isinstance(node, ast.Tuple | ast.List | ast.Set) and _names_one(node)
        if found:
            yield node.lineno  # type: ignore[attr-defined]


def test_nobody_compares_a_dialects_name():
    found = {str(path.relative_to(ROOT)): list(decisions(path.read_text(encoding="utf-8"))) for path in HELD}
    strange = {path: lines for path, lines in found.items() if lines and path not in ALLOWED}
    assert not strange, f"{strange}: give {HABITS} a field for what differs, and ask it"
    assert {path for path, lines in found.items() if lines} == ALLOWED.keys(), "an exception that nobody needs"


@pytest.mark.parametrize(
    "source",
    [
        'if self.at.dialect == "srn": pass',
        'x = 1 if "bvlc" != dialect else 2',
        'known = [p for p in POLICIES if dialect in ("srn",)]',
        'never = ("bvlc", "srn")',
        'rule = {"bvlc": 1, "srn": 2}[dialect]',
        'most = TABLE["srn"]',
        'match dialect:\n    case "srn": pass',
        "if dialect == DEFAULT: pass",
        "if dialect != messages.DEFAULT: pass",
        "if dialect == DIALECTS[0]: pass",
        'if declared.startswith("srn"): pass',
    ],
)
def test_a_comparison_is_seen(source):
    assert list(decisions(source))


@pytest.mark.parametrize(
    "source",
    [
        'message = message_class("Datum", "bvlc")',
        'def read(path, dialect="bvlc"): pass',
        'DEFAULT = "bvlc"',
        'said = f"the dialect {dialect} has none, as in srn"',
        "for dialect in DIALECTS: habits(dialect)",
        "if phase == other: pass",
        'yield "bvlc", "has double_data"',
    ],
)
def test_a_name_that_is_data_is_not(source):
    assert not list(decisions(source))


def test_every_habit_is_asked_for_and_its_rule_is_on_the_page():
    sources = [path.read_text(encoding="utf-8") for path in FILES]
    said = (ROOT / HABITS).read_text(encoding="utf-8")
    page = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^#{2,3} (\d+(?:\.\d+)?)\.? ", page, re.MULTILINE))
    for name in (field.name for field in fields(Habits)):
        assert any(f".{name}" in source for source in sources), f"nobody asks for {name}"
        cited = re.search(rf"^    {name}: [^#\n]*# ([\d., ]*)", said, re.MULTILINE)
        assert cited, f"{name} says nothing"
        assert set(re.findall(r"\d+(?:\.\d+)?", cited[1])) <= sections, name
