"""README and docs/: links lead somewhere, commands parse, Python compiles, and options are those of the programs."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

import port.__main__
import prototxt_gen.__main__
import reference_weights.__main__
import verify.__main__
from prototxt_gen.base.command import subcommands
from verify.tables import command as tables
from verify.tables.published import load_table

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
# Options that the pages name and that are other programs'.
FOREIGN = {"--help", "--nproc-per-node", "--thre", "--slow"}
PACKAGES = (port, prototxt_gen, reference_weights, verify)
PROGRAMS = {f"-m {module.__name__}": module.__main__.arguments() for module in PACKAGES}
PROGRAMS |= {f"verify/reproduce_table{n}.py": tables.arguments(load_table(n)) for n in (1, 2, 3)}
VERBS = {call: verb for program in PROGRAMS.values() for call, verb in subcommands(program).items()}
ALL = PROGRAMS | VERBS


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions for name in action.option_strings if name.startswith("--")} - {"--help"}


def commands(text: str) -> list[str]:
    """The command lines of this project in code blocks, continued lines joined; those with "..." are no examples."""
    joined = re.sub(r"\\\n\s*", "", text)
    found = re.findall(r"^(?: {4})?((?:python|torchrun) .*)$", joined, re.MULTILINE)
    calls = (re.sub(r"[\[\]]", "", line) for line in found if " ..." not in line)
    return [" ".join(shlex.quote(word) for word in shlex.split(call, comments=True)) for call in calls]


def parse(call: str) -> argparse.Namespace | None:
    """What a command line of this project asks for; None for a script that is none of the programs."""
    for name, program in PROGRAMS.items():
        if f" {name} " in f"{call} ":
            return program.parse_args(shlex.split(call.partition(name)[2]))
    return None


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def dead_links(page: Path, text: str) -> list[str]:
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    return [t for t in targets if t and "://" not in t and not (page.parent / t).exists()]


def unknown_names(code: str) -> list[str]:
    """Imports that fail, and attributes of the project's packages that they do not have."""
    missing = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            missing += [f"{node.module}.{a.name}" for a in node.names if not hasattr(module, a.name)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            package = {p.__name__: p for p in PACKAGES}.get(node.value.id)
            missing += [f"{node.value.id}.{node.attr}"] if package and not hasattr(package, node.attr) else []
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page(page):
    text = page.read_text(encoding="utf-8")
    assert not dead_links(page, text)
    for call in commands(text):
        try:
            parse(call)
        except SystemExit:
            pytest.fail(f"does not parse: {call}")
    for block in blocks(text):
        assert not unknown_names(block)
    known = set().union(FOREIGN, *map(options, ALL.values()))
    assert not set(OPTION.findall(text)) - known


def test_every_option_is_on_a_page():
    named = set(OPTION.findall("\n".join(page.read_text(encoding="utf-8") for page in PAGES)))
    missing = {call: sorted(options(parser) - named) for call, parser in ALL.items() if options(parser) - named}
    assert not missing


def test_every_command_is_on_a_page():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert not [call for call in ALL if call not in text]
    assert len(VERBS) >= 20 and sum(len(commands(page.read_text(encoding="utf-8"))) for page in PAGES) > 30


def test_every_command_that_does_something_has_examples():
    assert not [call for call, verb in ALL.items() if "examples:\n  " not in verb.format_help()]


def test_the_checks_see_what_is_wrong(tmp_path):
    (call,) = commands("text\n    python -m port score --prototxt a \\\n        --outptu b   # comment\n")
    assert "--outptu b" in call and "comment" not in call
    with pytest.raises(SystemExit):
        parse(call)
    assert parse("python other.py") is None
    assert dead_links(tmp_path / "x.md", "[a](gone.md#part) [b](https://example.org)") == ["gone.md"]
    wrong = unknown_names("import port\nport.lod_net(1)\nfrom verify.metrics import evaluat\n")
    assert set(wrong) == {"verify.metrics.evaluat", "port.lod_net"}
    assert OPTION.findall("`--a-b` and x--c, --d") == ["--a-b", "--d"]
